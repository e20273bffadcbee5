package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

func updateTo(t *testing.T, c *ssm.Client, name, content string, change ...func(*ssm.UpdateDocumentInput)) *types.DocumentDescription {
	t.Helper()
	in := &ssm.UpdateDocumentInput{Name: &name, Content: &content}
	for _, f := range change {
		f(in)
	}
	out, err := c.UpdateDocument(t.Context(), in)
	if err != nil {
		t.Fatalf("update %s: %v", name, err)
	}
	return out.DocumentDescription
}

func TestDocumentRefusals(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	create(t, c, "Greet", greeting("hello"), func(in *ssm.CreateDocumentInput) { in.VersionName = aws.String("first") })
	updateTo(t, c, "Greet", greeting("again"))
	create(t, c, "Old", `{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{"properties":[{"id":"0.aws:runShellScript","runCommand":["true"]}]}}}`, func(in *ssm.CreateDocumentInput) { in.DocumentType = "" })
	good := greeting("x")
	ctx := t.Context()
	creation := func(in ssm.CreateDocumentInput) func() error {
		return func() error {
			if in.Name == nil {
				in.Name = aws.String("New")
			}
			if in.Content == nil {
				in.Content = &good
			}
			if in.DocumentType == "" {
				in.DocumentType = types.DocumentTypeCommand
			}
			_, err := c.CreateDocument(ctx, &in)
			return err
		}
	}
	update := func(in ssm.UpdateDocumentInput) func() error {
		return func() error {
			if in.Name == nil {
				in.Name = aws.String("Greet")
			}
			if in.Content == nil {
				in.Content = &good
			}
			_, err := c.UpdateDocument(ctx, &in)
			return err
		}
	}
	large := strings.Replace(good, "Greets", strings.Repeat("x", 64<<10), 1)
	var tags []types.Tag
	for i := range 51 {
		tags = append(tags, types.Tag{Key: aws.String(fmt.Sprint("k", i)), Value: aws.String("")})
	}
	for name, test := range map[string]struct {
		ask        func() error
		code, says string
	}{
		"exists":               {creation(ssm.CreateDocumentInput{Name: aws.String("Greet")}), "DocumentAlreadyExists", "UpdateDocument"},
		"reserved":             {creation(ssm.CreateDocumentInput{Name: aws.String("AWS-Mine")}), "ValidationException", "reserved"},
		"reserved, lower case": {creation(ssm.CreateDocumentInput{Name: aws.String("amazonmine")}), "ValidationException", "reserved"},
		"name":                 {creation(ssm.CreateDocumentInput{Name: aws.String("a b")}), "ValidationException", "pattern"},
		"no JSON":              {creation(ssm.CreateDocumentInput{Content: aws.String("{")}), "InvalidDocumentContent", ""},
		"too large":            {creation(ssm.CreateDocumentInput{Content: &large}), "MaxDocumentSizeExceeded", "65536"},
		"no type": {func() error {
			_, err := c.CreateDocument(ctx, &ssm.CreateDocumentInput{Name: aws.String("New"), Content: &good})
			return err
		}, "InvalidDocumentSchemaVersion", "Document type is required for schema version 2.2"},
		"unknown type":      {creation(ssm.CreateDocumentInput{DocumentType: "Song"}), "ValidationException", "enum"},
		"attachments":       {creation(ssm.CreateDocumentInput{Attachments: []types.AttachmentsSource{{Key: "SourceUrl", Values: []string{"s3://b/k"}}}}), "ValidationException", "Attachments"},
		"tag twice":         {creation(ssm.CreateDocumentInput{Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("a"), Value: aws.String("2")}}}), "ValidationException", "twice"},
		"reserved tag":      {creation(ssm.CreateDocumentInput{Tags: []types.Tag{{Key: aws.String("aws:a"), Value: aws.String("1")}}}), "ValidationException", "reserved"},
		"too many tags":     {creation(ssm.CreateDocumentInput{Tags: tags}), "TooManyTagsError", ""},
		"update of nothing": {update(ssm.UpdateDocumentInput{Name: aws.String("None")}), "InvalidDocument", "None"},
		"built in":          {update(ssm.UpdateDocumentInput{Name: aws.String(shellDocument)}), "InvalidDocumentOperation", "belongs to Amazon"},
		"not the latest":    {update(ssm.UpdateDocumentInput{DocumentVersion: aws.String("1")}), "InvalidDocumentVersion", "not latest. The latest is 2"},
		"by the default":    {update(ssm.UpdateDocumentInput{DocumentVersion: aws.String("$DEFAULT")}), "InvalidDocumentVersion", "not latest"},
		"same content":      {update(ssm.UpdateDocumentInput{Content: aws.String(greeting("again"))}), "DuplicateDocumentContent", "2"},
		"version name":      {update(ssm.UpdateDocumentInput{VersionName: aws.String("first")}), "DuplicateDocumentVersionName", "first"},
		"bad update":        {update(ssm.UpdateDocumentInput{Content: aws.String("[]")}), "InvalidDocumentContent", ""},
		"of schema 1.2":     {update(ssm.UpdateDocumentInput{Name: aws.String("Old")}), "InvalidDocumentSchemaVersion", "1.2"},
		"to schema 1.2":     {update(ssm.UpdateDocumentInput{Content: aws.String(`{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{"properties":[{"id":"0.aws:runShellScript","runCommand":["false"]}]}}}`)}), "InvalidDocumentSchemaVersion", "1.2"},
		"default":           {func() error { return setDefault(c, "Greet", "3") }, "InvalidDocumentVersion", "no version 3"},
		"default of a word": {func() error { return setDefault(c, "Greet", "$LATEST") }, "ValidationException", "pattern"},
		"default, built in": {func() error { return setDefault(c, shellDocument, "1") }, "InvalidDocumentOperation", "Amazon"},
		"delete built in": {func() error {
			_, err := c.DeleteDocument(ctx, &ssm.DeleteDocumentInput{Name: aws.String(shellDocument)})
			return err
		}, "InvalidDocumentOperation", "Amazon"},
		"names differ": {func() error {
			_, err := c.GetDocument(ctx, &ssm.GetDocumentInput{Name: aws.String("Greet"), DocumentVersion: aws.String("2"), VersionName: aws.String("first")})
			return err
		}, "InvalidDocumentVersion", `name "first" is 1, not 2`},
		"no name": {func() error {
			_, err := c.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: aws.String("Greet"), VersionName: aws.String("none")})
			return err
		}, "InvalidDocumentVersion", `"none"`},
		"huge number": {func() error {
			_, err := c.GetDocument(ctx, &ssm.GetDocumentInput{Name: aws.String("Greet"), DocumentVersion: aws.String("99999999999999999999")})
			return err
		}, "InvalidDocumentVersion", "no version 9999"},
		"foreign account": {func() error {
			_, err := c.GetDocument(ctx, &ssm.GetDocumentInput{Name: aws.String("arn:aws:ssm:us-east-1:999999999999:document/Greet")})
			return err
		}, "InvalidDocument", "999999999999"},
		"text": {func() error {
			_, err := c.GetDocument(ctx, &ssm.GetDocumentInput{Name: aws.String("Greet"), DocumentFormat: "TEXT"})
			return err
		}, "InvalidDocument", "JSON or YAML"},
		"versions of nothing": {func() error {
			_, err := c.ListDocumentVersions(ctx, &ssm.ListDocumentVersionsInput{Name: aws.String("None")})
			return err
		}, "InvalidDocument", "None"},
		"bad token": {func() error {
			_, err := c.ListDocumentVersions(ctx, &ssm.ListDocumentVersionsInput{Name: aws.String("Greet"), NextToken: aws.String("x")})
			return err
		}, "InvalidNextToken", ""},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, test.ask(), test.code, test.says) })
	}
	b.read(func(r raftstore.Reader) error {
		if n, err := raftstore.CountDocuments(r); err != nil || n.Documents != 2 {
			t.Errorf("%d documents after refusals, want 2 (%v)", n.Documents, err)
		}
		return nil
	})
}

func setDefault(c *ssm.Client, name, version string) error {
	_, err := c.UpdateDocumentDefaultVersion(context.Background(), &ssm.UpdateDocumentDefaultVersionInput{Name: &name, DocumentVersion: &version})
	return err
}

// A command keeps the version and content that it was sent with.
func TestSendCommandOfAStoredDocument(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	created := create(t, c, "Greet", greetingYAML("hello"), func(in *ssm.CreateDocumentInput) { in.DocumentFormat = "YAML" })
	updateTo(t, c, "Greet", greeting("again"))
	parameters := map[string][]string{}
	sent := send(t, c, ssm.SendCommandInput{DocumentName: aws.String("arn:aws:ssm:us-east-1:123456789012:document/Greet"), InstanceIds: []string{memberID}, Parameters: parameters, DocumentHash: created.Hash})
	latest := send(t, c, ssm.SendCommandInput{DocumentName: aws.String("Greet"), DocumentVersion: aws.String("$LATEST"), InstanceIds: []string{memberID}, Parameters: map[string][]string{"more": {"x"}}})
	if *sent.DocumentName != "Greet" || *sent.DocumentVersion != "1" || *latest.DocumentVersion != "2" {
		t.Errorf("commands %+v %+v", sent, latest)
	}
	if _, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String("Greet")}); err != nil {
		t.Fatal(err)
	}
	b.read(func(r raftstore.Reader) error {
		for id, word := range map[string]string{*sent.CommandId: "echo hello", *latest.CommandId: "echo again"} {
			command, err := raftstore.GetCommand(r, id)
			if err != nil || !json.Valid(command.Document) || !strings.Contains(string(command.Document), word) {
				t.Errorf("the command keeps %s, %v", command.Document, err)
			}
		}
		return nil
	})
	for _, d := range []struct{ name, docType, content string }{
		{"Runbook", "Automation", `{"schemaVersion":"0.3","mainSteps":[{"name":"wait","action":"aws:sleep","inputs":{"Duration":"PT1S"}}]}`},
	} {
		in := &ssm.CreateDocumentInput{Name: &d.name, Content: &d.content, DocumentType: types.DocumentType(d.docType)}
		if _, err := c.CreateDocument(t.Context(), in); err != nil {
			t.Errorf("create %s: %v", d.docType, err)
			continue
		}
		_, err := c.SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: &d.name, InstanceIds: []string{memberID}})
		wantCode(t, err, "InvalidDocument", "SendCommand runs documents of type Command")
	}
	create(t, c, "Large", strings.Replace(greeting("x"), "Greets", strings.Repeat("<&>", 21000), 1))
	_, err := c.SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("Large"), InstanceIds: []string{memberID}, Parameters: map[string][]string{"more": {strings.Repeat("y", 4<<10)}}})
	wantCode(t, err, "MaxDocumentSizeExceeded", "65536")
	send(t, c, ssm.SendCommandInput{DocumentName: aws.String("Large"), InstanceIds: []string{memberID}, Parameters: map[string][]string{"more": {"y"}}})
	for name, in := range map[string]ssm.SendCommandInput{
		"InvalidDocumentVersion": {DocumentName: aws.String("Large"), DocumentVersion: aws.String("2")},
		"InvalidDocument":        {DocumentName: aws.String("Large"), DocumentHash: created.Hash},
		"InvalidParameters":      {DocumentName: aws.String("Large"), Parameters: map[string][]string{"mroe": {"y"}}},
	} {
		in.InstanceIds = []string{memberID}
		_, err := c.SendCommand(t.Context(), &in)
		wantCode(t, err, name, "")
	}
}

// Two updates at once that are based on one version: one of them is told.
func TestConcurrentUpdates(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"))
	const writers = 8
	errs := make([]error, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			content := greeting(fmt.Sprint("word", i))
			_, errs[i] = c.UpdateDocument(t.Context(), &ssm.UpdateDocumentInput{Name: aws.String("Greet"), Content: &content, DocumentVersion: aws.String("1")})
		})
	}
	all.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		wantCode(t, err, "InvalidDocumentVersion", "The latest is 2")
	}
	if done != 1 {
		t.Errorf("%d of %d updates of version 1 were accepted", done, writers)
	}
	// By $LATEST all are accepted, each with a number of its own.
	numbers := make([]string, writers)
	for i := range writers {
		all.Go(func() {
			content := greeting(fmt.Sprint("later", i))
			out, err := c.UpdateDocument(t.Context(), &ssm.UpdateDocumentInput{Name: aws.String("Greet"), Content: &content, DocumentVersion: aws.String("$LATEST")})
			if err != nil {
				t.Error(err)
				return
			}
			numbers[i] = *out.DocumentDescription.DocumentVersion
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for _, n := range numbers {
		if seen[n] {
			t.Errorf("version %s was given twice", n)
		}
		seen[n] = true
	}
}

// The audit log tells of a content by its hash.
func TestDocumentAudit(t *testing.T) {
	b := newBed(t)
	content := greeting("secret-word")
	create(t, b.ssm(b.leaderURL), "Greet", content)
	sum := sha256.Sum256([]byte(content))
	b.read(func(r raftstore.Reader) error {
		found := false
		err := raftstore.ScanAudit(r, time.Time{}, func(e raftstore.AuditEntry) bool {
			if e.Operation == "CreateDocument" {
				found = true
				if e.Resource != "Greet" || strings.Contains(string(e.Parameters), "secret-word") || !strings.Contains(string(e.Parameters), "sha256:"+hex.EncodeToString(sum[:])) || !strings.Contains(string(e.Parameters), `"Name":"Greet"`) {
					t.Errorf("audit %+v %s", e, e.Parameters)
				}
			}
			return true
		})
		if !found {
			t.Error("no audit entry")
		}
		return err
	})
}

// Force is asked for where others may depend on the document.
func TestForce(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Schema", `{"$schema":"http://json-schema.org/draft-04/schema#","type":"object"}`, func(in *ssm.CreateDocumentInput) { in.DocumentType = "ApplicationConfigurationSchema" })
	_, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String("Schema")})
	wantCode(t, err, "InvalidDocumentOperation", "Force")
	if _, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String("Schema"), Force: true}); err != nil {
		t.Error(err)
	}
}
