package document

import (
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// documentsVariable names a directory of real documents with an INDEX.tsv; its
// default lies beside the repository. They are not part of it.
const documentsVariable = "FLEETMESH_DOCUMENTS"

// realDocuments returns the index and the directory of the real documents.
func realDocuments(t *testing.T) (rows []map[string]string, dir string) {
	dir = os.Getenv(documentsVariable)
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "documents")
	}
	f, err := os.Open(filepath.Join(dir, "INDEX.tsv"))
	if errors.Is(err, os.ErrNotExist) {
		t.Logf("there are no real documents in %s: the documents in testdata stand alone (%s names another directory)", dir, documentsVariable)
		return nil, dir
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader := csv.NewReader(f)
	reader.Comma = '\t'
	all, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range all[1:] {
		row := make(map[string]string)
		for i, name := range all[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows, dir
}

// reasons are why real documents are refused, by a word of what the index says.
var reasons = []struct{ index, message string }{
	{"does not parse", "not well-formed"},
	{`Parameter "PackageVersion" is not declared`, `Parameter "PackageVersion" is not declared.`},
	{"schemaVersion 1.2 and no sessionType", "1.2 is not a valid schema version for Session document type"},
	{"parameters is a list", `"parameters" should be a map.`},
	{"schema 1.2 without runtimeConfig", `Unknown property "noRunTimeConfig"`},
	{"a plain string, not a map", "The document is not an object."},
	{"{{ AutomationAssumeRole }}, which is not declared", `Parameter "AutomationAssumeRole" is not declared.`},
	{"Unknown plugin name: aws:doesNotExist", "Unknown plugin name: aws:doesNotExist"},
	{"inputs is a list instead of a map", `"inputs" should be a map`},
}

func TestRealDocuments(t *testing.T) {
	rows, dir := realDocuments(t)
	for _, row := range rows {
		t.Run(row["file"], func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(dir, row["file"]))
			if err != nil {
				t.Fatal(err)
			}
			format := JSON
			if strings.HasSuffix(row["file"], ".yaml") {
				format = YAML
			}
			docType := row["document type"]
			if docType == "unknown" {
				docType = typeCommand
			}
			_, err = Validate(content, format, docType)
			switch valid := row["valid"]; {
			case strings.HasPrefix(valid, "yes"):
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
			case strings.HasPrefix(valid, "no"):
				expectReason(t, valid, err)
			default:
				t.Logf("%v, and the index says %s", err, valid)
			}
			if err == nil {
				roundTrip(t, content, format)
			}
		})
	}
}

func TestOwnDocuments(t *testing.T) {
	for _, c := range []struct {
		file    string
		format  Format
		docType string
	}{
		{"command-2.2.yaml", YAML, typeCommand}, {"command-1.2.json", JSON, typeCommand}, {"automation.yaml", YAML, typeAutomation},
		{"session.json", JSON, typeSession}, {"calendar.ics", TEXT, typeCalendar},
	} {
		content, err := os.ReadFile(filepath.Join("testdata", c.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Validate(content, c.format, c.docType); err != nil {
			t.Errorf("%s: %v", c.file, err)
		} else if c.format != TEXT {
			roundTrip(t, content, c.format)
		}
	}
}

func expectReason(t *testing.T, index string, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted, but the index says %s", index)
	}
	for _, reason := range reasons {
		if strings.Contains(index, reason.index) {
			if !strings.Contains(err.Error(), reason.message) {
				t.Fatalf("refused with %q, but the index says %s", err, index)
			}
			return
		}
	}
	t.Logf("refused with %q; the index says %s", err, index)
}

// roundTrip converts a content to the other format and back, and compares what
// it means.
func roundTrip(t *testing.T, content []byte, format Format) {
	t.Helper()
	other := YAML
	if format == YAML {
		other = JSON
	}
	before, err := parse(content, format)
	if err != nil {
		t.Fatal(err)
	}
	converted, err := Convert(content, format, other)
	if err != nil {
		t.Fatalf("to %s: %v", other, err)
	}
	if len(converted) > maxSize {
		return // indentation has made it larger than a document may be
	}
	back, err := Convert(converted, other, format)
	if err != nil {
		t.Fatalf("from %s: %v in\n%s", other, err, converted)
	}
	if len(back) > maxSize {
		return
	}
	for name, c := range map[string]struct {
		content []byte
		format  Format
	}{"converted": {converted, other}, "converted back": {back, format}} {
		after, err := parse(c.content, c.format)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(before.value(), after.value()) || !reflect.DeepEqual(keys(before), keys(after)) {
			t.Errorf("%s, it means something else:\n%s", name, c.content)
		}
	}
}

// keys are all keys in their order.
func keys(n *node) []string {
	var all []string
	for _, item := range n.items {
		all = append(all, keys(item)...)
	}
	for _, f := range n.fields {
		all = append(append(all, f.name), keys(f.value)...)
	}
	return all
}
