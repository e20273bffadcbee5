package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

const greetYAML = `schemaVersion: "2.2"
description: Greets.
parameters:
  who:
    type: String
    default: world
    allowedValues: [world, mars]
  lines:
    type: StringList
    minItems: 1
    maxItems: 3
    description: what to say
mainSteps:
- action: aws:runShellScript
  name: greet
  inputs:
    runCommand: ["echo {{ who }}", "{{ lines }}"]
`

// written puts a file of this name into a new directory.
func written(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func described() *types.DocumentDescription {
	return &types.DocumentDescription{
		Name: aws.String("Greet"), DisplayName: aws.String("A \x1b[31mgreeting"), Description: aws.String("Greets.\nPolitely."), DocumentType: "Command",
		SchemaVersion: aws.String("2.2"), DocumentFormat: "YAML", DocumentVersion: aws.String("2"), VersionName: aws.String("two"),
		DefaultVersion: aws.String("1"), LatestVersion: aws.String("2"), Status: "Active", Owner: aws.String("123456789012"),
		PlatformTypes: []types.PlatformType{"Linux"}, Hash: aws.String("abc"), CreatedDate: aws.Time(testNow), Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}},
		Parameters: []types.DocumentParameter{
			{Name: aws.String("who"), Type: "String", DefaultValue: aws.String("world")},
			{Name: aws.String("lines"), Type: "StringList", Description: aws.String("what to say,\nline by line")},
		},
	}
}

func TestDocumentNoun(t *testing.T) {
	m := newFakeMesh(t)
	m.always("CreateDocument", &ssm.CreateDocumentOutput{DocumentDescription: described()})
	m.always("UpdateDocument", &ssm.UpdateDocumentOutput{DocumentDescription: described()})
	m.always("DescribeDocument", &ssm.DescribeDocumentOutput{Document: described()})
	m.always("GetDocument", &ssm.GetDocumentOutput{Name: aws.String("Greet"), Content: aws.String(greetYAML), DocumentFormat: "YAML"})
	m.always("UpdateDocumentDefaultVersion", &ssm.UpdateDocumentDefaultVersionOutput{Description: &types.DocumentDefaultVersionDescription{Name: aws.String("Greet"), DefaultVersion: aws.String("2"), DefaultVersionName: aws.String("two")}})
	m.always("DeleteDocument", &ssm.DeleteDocumentOutput{})
	m.on("ListDocumentVersions", func(body []byte) (any, error) {
		var in ssm.ListDocumentVersionsInput
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		if in.NextToken == nil {
			return &ssm.ListDocumentVersionsOutput{NextToken: aws.String("next"), DocumentVersions: []types.DocumentVersionInfo{{DocumentVersion: aws.String("2"), VersionName: aws.String("two"), DocumentFormat: "YAML", Status: "Active", CreatedDate: aws.Time(testNow)}}}, nil
		}
		return &ssm.ListDocumentVersionsOutput{DocumentVersions: []types.DocumentVersionInfo{{DocumentVersion: aws.String("1"), IsDefaultVersion: true, DocumentFormat: "JSON", Status: "Active", CreatedDate: aws.Time(testNow)}}}, nil
	})
	path := written(t, "greet.yaml", greetYAML)
	for name, line := range map[string]string{
		"document-create":           "document create Greet " + path + " --version-name one --display-name x --target-type / --tag team=a",
		"document-create-json":      "document create Greet " + path + " -o json",
		"document-update":           "document update Greet " + path + " --based-on 1",
		"document-set-default":      "document set-default Greet 2",
		"document-versions":         "document versions Greet",
		"document-versions-json":    "document versions Greet -o json",
		"document-show-own":         "document show Greet --version $LATEST",
		"document-delete":           "document delete Greet",
		"document-delete-a-version": "document delete Greet --version two --force",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, m.run(strings.Fields(line)...)) })
	}
	if r := m.run("document", "set-default", "Greet", "two"); r.code != 0 {
		t.Errorf("by a version's name: %+v", r)
	}
	for operation, wants := range map[string][]string{
		"CreateDocument": {`"DocumentType":"Command"`, `"DocumentFormat":"YAML"`, `"Content":"schemaVersion`},
		"UpdateDocument": {`"DocumentVersion":"1"`, `"DocumentFormat":"YAML"`},
		"GetDocument":    {`"DocumentVersion":"2"`, `"DocumentFormat":"YAML"`},
	} {
		for _, want := range wants {
			if calls := m.called(operation); len(calls) == 0 || !strings.Contains(calls[0].Body, want) {
				t.Errorf("%s was asked %+v, want one with %s", operation, calls, want)
			}
		}
	}
	deleted := m.called("DeleteDocument")[0].Body + m.called("DeleteDocument")[1].Body
	if !strings.Contains(deleted, `"VersionName":"two"`) || !strings.Contains(deleted, `"Force":true`) || strings.Contains(deleted, "DocumentVersion") {
		t.Errorf("deleted %s", deleted)
	}
	if moved := m.called("UpdateDocumentDefaultVersion"); len(moved) != 2 || moved[0].Body != moved[1].Body {
		t.Errorf("by number and by name: %+v", moved)
	}
	m.always("ListDocuments", &ssm.ListDocumentsOutput{})
	if r := m.run("document", "list", "--owner", "Self", "--type", "Command", "--tag", "team=a"); r.code != 0 {
		t.Errorf("list: %+v", r)
	}
	if body := m.called("ListDocuments")[0].Body; !strings.Contains(body, `"Filters":[{"Key":"Owner","Values":["Self"]},{"Key":"DocumentType","Values":["Command"]},{"Key":"tag:team","Values":["a"]}]`) {
		t.Errorf("list asked %s", body)
	}
	// On a terminal it asks.
	r := m.runIn(func(s *surroundings) { s.inTerminal, s.in = true, strings.NewReader("n\n") }, "document", "delete", "Greet")
	if r.code != exitRefused || !strings.Contains(r.err, "nothing was changed") || len(m.called("DeleteDocument")) != 2 {
		t.Errorf("declined: %+v", r)
	}
}

func TestDocumentValidate(t *testing.T) {
	m := newFakeMesh(t)
	for name, test := range map[string]struct {
		file, content, flags string
		code                 int
		out                  string
	}{
		"yaml":       {"a.yaml", greetYAML, "", 0, ": a valid Command document\n"},
		"json, bad":  {"a.json", "{\n  \"schemaVersion\": \"2.2\",\n  oops\n}", "", 1, "a.json:3:"},
		"unknown":    {"a.yml", strings.Replace(greetYAML, "runShellScript", "runNothing", 1), "", 1, "Unknown plugin name: aws:runNothing"},
		"wrong type": {"a.json", `{"schemaVersion":"0.3","mainSteps":[]}`, "--type Command", 1, "schema version"},
		"as json":    {"a", greetYAML, "-o json", 0, `"DocumentFormat": "YAML"`},
		"bad json":   {"a.json", "{", "-o json", 1, `"Valid": false`},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, test.file, test.content)
			r := m.run(strings.Fields("document validate " + path + " " + test.flags)...)
			if r.code != test.code || !strings.Contains(r.out, test.out) || (test.code == 0) != (r.err == "") {
				t.Errorf("%+v", r)
			}
			if test.code == 1 && test.flags == "" && !strings.HasPrefix(r.out, path+":") {
				t.Errorf("does not begin with the place: %q", r.out)
			}
		})
	}
	r := m.runIn(func(s *surroundings) { s.in = strings.NewReader(greetYAML) }, "document", "validate", "-")
	if r.code != 0 || r.out != "-: a valid Command document\n" {
		t.Errorf("stdin: %+v", r)
	}
	for content, want := range map[string]string{"": "is empty", "\xff\xfe": "UTF-8", strings.Repeat("x", maxDocumentFile+1): "64 KiB"} {
		if r := m.run("document", "validate", written(t, "x.yaml", content)); r.code != exitRefused || !strings.Contains(r.err, want) {
			t.Errorf("%d bytes: %+v", len(content), r)
		}
	}
	if r := m.run("document", "validate", "/no/such/file"); r.code != exitRefused || !strings.Contains(r.err, "no such file") {
		t.Errorf("%+v", r)
	}
	if r := m.run("document", "validate", written(t, "x.yaml", "a: b"), "--format", "xml"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
	if len(m.called("")) != 0 {
		t.Error("the mesh was asked")
	}
}

func TestDocumentGuesses(t *testing.T) {
	for _, test := range []struct {
		path, content string
		format        string
		docType       string
	}{
		{"x.json", `{"schemaVersion":"2.2"}`, "JSON", "Command"},
		{"x", " \n{\"schemaVersion\":\"0.3\"}", "JSON", "Automation"},
		{"x", "schemaVersion: '0.3'\n", "YAML", "Automation"},
		{"x.yml", "schemaVersion: '1.0'\nsessionType: Standard_Stream\n", "YAML", "Session"},
		{"x.YAML", "schemaVersion: '1.2'", "YAML", "Command"},
		{"x", "BEGIN:VCALENDAR\n", "TEXT", "ChangeCalendar"},
		{"x.ics", "anything", "TEXT", "ChangeCalendar"},
		{"x.json", "{", "JSON", "Command"},
	} {
		format, err := documentFormat(test.path, []byte(test.content), "")
		if err != nil || string(format) != test.format {
			t.Errorf("%s %q: format %s, %v", test.path, test.content, format, err)
		}
		if docType := documentType([]byte(test.content), format); docType != test.docType {
			t.Errorf("%s %q: type %s", test.path, test.content, docType)
		}
	}
}

func TestWrongParameters(t *testing.T) {
	m := threeNodes(t)
	m.refuse("SendCommand", "InvalidParameters", "the mesh's own words")
	m.always("DescribeDocument", &ssm.DescribeDocumentOutput{Document: described()})
	for line, want := range map[string][]string{
		"--parameter line=x":                    {`no parameter "line"; did you mean "lines"?`, "its parameters are: [who], lines"},
		"--parameter lnies=x --parameter wo=y":  {`did you mean "lines"?`, `did you mean "who"?`},
		"--parameter lines=x --parameter wow=y": {`no parameter "wow"; did you mean "who"?`},
		"--parameter lines=x --parameter zzz=y": {"no parameter \"zzz\"\n"},
		"--parameter who=x":                     {`the parameter "lines" is required and not given: --parameter lines=…`},
		"--parameter lines=x --parameter who=y": {"the mesh's own words"},
	} {
		r := m.run(strings.Fields("run Greet --nodes web-1 " + line)...)
		for _, text := range want {
			if r.code != exitRefused || !strings.HasPrefix(r.err, "meshctl: InvalidParameters: ") || !strings.Contains(r.err, text) {
				t.Errorf("%s: %+v, want %q", line, r, text)
			}
		}
	}
	r := m.run("run", "Greet", "--nodes", "web-1", "--", "echo", "x")
	if r.code != exitRefused || !strings.Contains(r.err, `the document Greet takes no command line: it has no parameter "commands" for what stands after --`) ||
		!strings.Contains(r.err, "leave Greet out to run the command line itself, or leave out what stands after --\n  its parameters are: [who], lines; give them by --parameter NAME=VALUE") {
		t.Errorf("%+v", r)
	}
	m.refuse("DescribeDocument", "AccessDeniedException", "no")
	if r := m.run("run", "Greet", "--nodes", "web-1"); r.code != exitRefused || !strings.Contains(r.err, "InvalidParameters: the mesh's own words") {
		t.Errorf("%+v", r)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"commands", "workingDirectory", "executionTimeout"}
	for name, want := range map[string]string{
		"command": "commands", "Commands": "commands", "comands": "commands", "working": "workingDirectory", "exeuctionTimeout": "executionTimeout",
		"x": "", "colour": "", "": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for pair, want := range map[[2]string]int{{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"kitten", "sitting"}: 3, {"abc", "abc"}: 0, {"ab", "ba"}: 2} {
		if got := editDistance(pair[0], pair[1]); got != want {
			t.Errorf("%v: %d, want %d", pair, got, want)
		}
	}
}

func TestParameterFiles(t *testing.T) {
	m := threeNodes(t)
	commandOn(m, success()...)
	path := written(t, "script.sh", "#!/bin/sh\necho \"grüße\"\n\n")
	r := m.run("run", "Greet", "--nodes", "web-1", "--detach", "--document-version", "3", "--parameter", "lines=a=b", "--parameter", "lines=@c", "--parameter-file", "lines="+path)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	var sent ssm.SendCommandInput
	if err := json.Unmarshal([]byte(m.called("SendCommand")[0].Body), &sent); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(sent.Parameters["lines"], "|"); got != "a=b|@c|#!/bin/sh\necho \"grüße\"\n" || aws.ToString(sent.DocumentVersion) != "3" {
		t.Errorf("sent %+v %q", sent, got)
	}
	for argument, want := range map[string]int{"lines": exitUsage, "lines=": exitUsage, "lines=/no/such/file": exitRefused, "lines=" + written(t, "binary", "\xff"): exitRefused} {
		if r := m.run("run", "Greet", "--nodes", "web-1", "--parameter-file", argument); r.code != want {
			t.Errorf("%s: %+v", argument, r)
		}
	}
}
