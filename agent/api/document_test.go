package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// greeting is a document whose script says word, in JSON and YAML.
func greeting(word string) string {
	return fmt.Sprintf(`{
  "schemaVersion": "2.2",
  "description": "Greets with %[1]s.",
  "parameters": {
    "who": {"type": "String", "description": "whom", "default": "world"},
    "more": {"type": "StringList"}
  },
  "mainSteps": [
    {"action": "aws:runShellScript", "name": "greet", "inputs": {"runCommand": ["echo %[1]s {{ who }} > /dev/null && true", "{{ more }}"]}}
  ]
}`, word)
}

func greetingYAML(word string) string {
	return fmt.Sprintf(`schemaVersion: "2.2"
description: Greets with %[1]s.   # a comment
parameters:
  who: {type: String, default: world}
mainSteps:
- action: aws:runShellScript
  name: greet
  inputs:
    runCommand:
    - echo %[1]s {{ who }}
`, word)
}

func create(t *testing.T, c *ssm.Client, name, content string, change ...func(*ssm.CreateDocumentInput)) *types.DocumentDescription {
	t.Helper()
	in := &ssm.CreateDocumentInput{Name: &name, Content: &content, DocumentType: types.DocumentTypeCommand}
	for _, f := range change {
		f(in)
	}
	out, err := c.CreateDocument(t.Context(), in)
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return out.DocumentDescription
}

func TestDocumentLife(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	content := greeting("hello")
	created := create(t, c, "Greet", content, func(in *ssm.CreateDocumentInput) {
		in.VersionName, in.DisplayName, in.TargetType = aws.String("first"), aws.String("A greeting"), aws.String("/AWS::EC2::Instance")
		in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}
		in.Requires = []types.DocumentRequires{{Name: aws.String("Schema"), Version: aws.String("1")}}
	})
	sum := sha256.Sum256([]byte(content))
	if created.Status != types.DocumentStatusCreating || *created.Hash != hex.EncodeToString(sum[:]) || created.HashType != "Sha256" || *created.Owner != "123456789012" ||
		*created.DocumentVersion != "1" || *created.LatestVersion != "1" || *created.DefaultVersion != "1" || *created.SchemaVersion != "2.2" ||
		*created.VersionName != "first" || *created.DisplayName != "A greeting" || *created.TargetType != "/AWS::EC2::Instance" ||
		created.DocumentFormat != "JSON" || created.DocumentType != "Command" || len(created.Tags) != 1 || len(created.Requires) != 1 ||
		*created.Description != "Greets with hello." || len(created.PlatformTypes) != 2 {
		t.Errorf("created %+v", created)
	}
	if p := created.Parameters; len(p) != 2 || *p[0].Name != "who" || *p[0].DefaultValue != "world" || p[1].Type != "StringList" || p[1].DefaultValue != nil {
		t.Errorf("parameters %+v", p)
	}
	// It can be used at once, by its name and its ARN.
	for _, name := range []string{"Greet", "arn:aws:ssm:eu-west-1:123456789012:document/Greet"} {
		described, err := c.DescribeDocument(t.Context(), &ssm.DescribeDocumentInput{Name: &name})
		if err != nil || described.Document.Status != types.DocumentStatusActive {
			t.Fatalf("%+v, %v", described, err)
		}
		described.Document.Status = created.Status
		if !reflect.DeepEqual(described.Document, created) {
			t.Errorf("described %+v, created %+v", described.Document, created)
		}
	}

	second := updateTo(t, c, "Greet", greetingYAML("salut"), func(in *ssm.UpdateDocumentInput) {
		in.DocumentFormat, in.DocumentVersion, in.VersionName = "YAML", aws.String("$LATEST"), aws.String("second")
	})
	if second.Status != types.DocumentStatusUpdating || *second.DocumentVersion != "2" || *second.LatestVersion != "2" || *second.DefaultVersion != "1" ||
		second.DocumentFormat != "YAML" || *second.DisplayName != "A greeting" || *second.TargetType != "/AWS::EC2::Instance" || len(second.Requires) != 1 {
		t.Errorf("updated %+v", second)
	}

	get := func(in ssm.GetDocumentInput) *ssm.GetDocumentOutput {
		t.Helper()
		in.Name = aws.String("Greet")
		out, err := c.GetDocument(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, test := range []struct {
		in      ssm.GetDocumentInput
		version string
		format  types.DocumentFormat
		content string
	}{
		{ssm.GetDocumentInput{}, "1", "JSON", content},
		{ssm.GetDocumentInput{DocumentVersion: aws.String("$DEFAULT"), DocumentFormat: "JSON"}, "1", "JSON", content},
		{ssm.GetDocumentInput{DocumentVersion: aws.String("1"), VersionName: aws.String("first")}, "1", "JSON", content},
		{ssm.GetDocumentInput{DocumentVersion: aws.String("$LATEST"), DocumentFormat: "YAML"}, "2", "YAML", greetingYAML("salut")},
		{ssm.GetDocumentInput{VersionName: aws.String("second"), DocumentFormat: "YAML"}, "2", "YAML", greetingYAML("salut")},
	} {
		got := get(test.in)
		if *got.DocumentVersion != test.version || got.DocumentFormat != test.format || *got.Content != test.content || got.Status != types.DocumentStatusActive {
			t.Errorf("%+v: got %+v", test.in, got)
		}
	}
	if got := get(ssm.GetDocumentInput{DocumentVersion: aws.String("2")}); got.DocumentFormat != "JSON" || !json.Valid([]byte(*got.Content)) || !strings.Contains(*got.Content, "echo salut {{ who }}") {
		t.Errorf("version 2 in JSON: %+v", got)
	}
	if got := get(ssm.GetDocumentInput{DocumentFormat: "YAML"}); got.DocumentFormat != "YAML" || !strings.HasPrefix(*got.Content, "schemaVersion:") {
		t.Errorf("version 1 in YAML: %+v", got)
	}

	versions := func(in ssm.ListDocumentVersionsInput) (list string, token *string) {
		t.Helper()
		in.Name = aws.String("Greet")
		out, err := c.ListDocumentVersions(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.DocumentVersions {
			list += fmt.Sprintf("%s %s %v %s %s;", *v.DocumentVersion, aws.ToString(v.VersionName), v.IsDefaultVersion, v.DocumentFormat, v.Status)
		}
		return list, out.NextToken
	}
	if list, token := versions(ssm.ListDocumentVersionsInput{}); list != "2 second false YAML Active;1 first true JSON Active;" || token != nil {
		t.Errorf("versions %s, %v", list, token)
	}
	first, token := versions(ssm.ListDocumentVersionsInput{MaxResults: aws.Int32(1)})
	if rest, end := versions(ssm.ListDocumentVersionsInput{MaxResults: aws.Int32(5), NextToken: token}); first != "2 second false YAML Active;" || rest != "1 first true JSON Active;" || end != nil {
		t.Errorf("pages %s %s, %v", first, rest, end)
	}

	moved, err := c.UpdateDocumentDefaultVersion(t.Context(), &ssm.UpdateDocumentDefaultVersionInput{Name: aws.String("Greet"), DocumentVersion: aws.String("2")})
	if err != nil || *moved.Description.DefaultVersion != "2" || *moved.Description.DefaultVersionName != "second" || *moved.Description.Name != "Greet" {
		t.Fatalf("%+v, %v", moved, err)
	}
	if got := get(ssm.GetDocumentInput{}); *got.DocumentVersion != "2" || *got.VersionName != "second" {
		t.Errorf("the default is now %+v", got)
	}

	// The latest goes, and its number is never given again.
	updateTo(t, c, "Greet", greeting("third"))
	remove := func(in ssm.DeleteDocumentInput) error {
		in.Name = aws.String("Greet")
		_, err := c.DeleteDocument(t.Context(), &in)
		return err
	}
	wantCode(t, remove(ssm.DeleteDocumentInput{DocumentVersion: aws.String("2")}), "InvalidDocumentOperation", "default")
	wantCode(t, remove(ssm.DeleteDocumentInput{DocumentVersion: aws.String("7")}), "InvalidDocumentVersion", "no version 7")
	if err := remove(ssm.DeleteDocumentInput{DocumentVersion: aws.String("$LATEST")}); err != nil {
		t.Error(err)
	}
	if err := remove(ssm.DeleteDocumentInput{VersionName: aws.String("first")}); err != nil {
		t.Error(err)
	}
	if again := updateTo(t, c, "Greet", greeting("third")); *again.DocumentVersion != "4" || *again.LatestVersion != "4" {
		t.Errorf("after a deleted version 3 comes %+v", again)
	}
	if list, _ := versions(ssm.ListDocumentVersionsInput{}); list != "4  false JSON Active;2 second true YAML Active;" {
		t.Errorf("versions %s", list)
	}
	if err := remove(ssm.DeleteDocumentInput{}); err != nil {
		t.Error(err)
	}
	_, err = c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String("Greet")})
	wantCode(t, err, "InvalidDocument", "Greet")
	wantCode(t, remove(ssm.DeleteDocumentInput{}), "InvalidDocument", "Greet")
	b.read(func(r raftstore.Reader) error {
		for _, prefix := range []string{"document/", "document-version/", "document-content/"} {
			r.Scan(prefix, "", func(key string, _ []byte, _ uint64) bool { t.Errorf("%s is left", key); return true })
		}
		return nil
	})
	if anew := create(t, c, "Greet", content); *anew.DocumentVersion != "1" {
		t.Errorf("made anew: %+v", anew)
	}
}

// Text stays text.
func TestTextDocuments(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	calendar := "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//AWS//Change Calendar 1.0//EN\r\nX-CALENDAR-TYPE:DEFAULT_OPEN\r\nEND:VCALENDAR\r\n"
	text := func(in *ssm.CreateDocumentInput) { in.DocumentType, in.DocumentFormat = "ChangeCalendar", "TEXT" }
	create(t, c, "Freeze", calendar, text)
	for _, format := range []types.DocumentFormat{"", "TEXT"} {
		got, err := c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String("Freeze"), DocumentFormat: format})
		if err != nil || *got.Content != calendar || got.DocumentFormat != "TEXT" || got.DocumentType != "ChangeCalendar" {
			t.Errorf("%q: %+v, %v", format, got, err)
		}
	}
	_, err := c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String("Freeze"), DocumentFormat: "JSON"})
	wantCode(t, err, "InvalidDocument", "ask for the format TEXT")
	_, err = c.SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("Freeze"), InstanceIds: []string{memberID}})
	wantCode(t, err, "InvalidDocument", "ChangeCalendar")
}

func FuzzParseDocumentName(f *testing.F) {
	for _, seed := range []string{"Greet", "arn:aws:ssm:us-east-1::document/AWS-RunShellScript", "arn:aws:ssm:us-east-1:123456789012:document/x", "arn:", "arn:::::", "arn:aws:s3:::document/x", "arn:aws:ssm:::document/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		name, account, ok := parseDocumentName(given)
		switch {
		case !strings.HasPrefix(given, "arn:") && (name != given || account != "" || !ok):
			t.Errorf("%q: %q %q %v", given, name, account, ok)
		case ok && (name == "" && given != "" || !strings.HasSuffix(given, name) || !strings.Contains(given, account)):
			t.Errorf("%q: %q %q", given, name, account)
		}
	})
}
