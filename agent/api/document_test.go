package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor/document"
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
		if n := raftstore.CountDocuments(r); n != 2 {
			t.Errorf("%d documents after refusals, want 2", n)
		}
		return nil
	})
}

func setDefault(c *ssm.Client, name, version string) error {
	_, err := c.UpdateDocumentDefaultVersion(context.Background(), &ssm.UpdateDocumentDefaultVersionInput{Name: &name, DocumentVersion: &version})
	return err
}

func TestDocumentQuotas(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"))
	var head raftstore.Document
	b.read(func(r raftstore.Reader) (err error) {
		head, err = raftstore.GetDocument(r, "Greet")
		return err
	})
	// Versions as old programs wrote them, up to the quota.
	for number := 2; number <= MaxDocumentVersions; {
		var txn raftstore.Txn
		for range 250 {
			if number <= MaxDocumentVersions {
				txn.PutNewDocumentVersion(raftstore.DocumentVersion{DocumentID: head.ID, Number: number, Format: "JSON", SchemaVersion: "2.2"}, []byte("{}"))
				number++
			}
		}
		b.apply(txn)
	}
	head.LastVersion, head.LatestVersion = MaxDocumentVersions, MaxDocumentVersions
	var txn raftstore.Txn
	txn.PutDocument(head)
	b.apply(txn)
	other := greeting("other")
	_, err := c.UpdateDocument(t.Context(), &ssm.UpdateDocumentInput{Name: aws.String("Greet"), Content: &other})
	wantCode(t, err, "DocumentVersionLimitExceeded", "1000")
	// All of them go in one transaction.
	if _, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String("Greet")}); err != nil {
		t.Errorf("delete %d versions: %v", MaxDocumentVersions, err)
	}
	for at := 0; at < MaxDocuments; {
		var txn raftstore.Txn
		for range 100 {
			id := fmt.Sprint("id", at)
			txn.PutDocument(raftstore.Document{Name: fmt.Sprintf("Doc-%03d", at), ID: id, Type: "Command", LastVersion: 1, LatestVersion: 1, DefaultVersion: 1})
			txn.PutNewDocumentVersion(raftstore.DocumentVersion{DocumentID: id, Number: 1, Format: "JSON", SchemaVersion: "2.2"}, []byte(greeting("x")))
			at++
		}
		b.apply(txn)
	}
	_, err = c.CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: aws.String("One-More"), Content: &other, DocumentType: "Command"})
	wantCode(t, err, "DocumentLimitExceeded", "500")
	// Pages show each of them once, in order, the built-in ones among them.
	var names []string
	pages := ssm.NewListDocumentsPaginator(c, &ssm.ListDocumentsInput{MaxResults: aws.Int32(7)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.DocumentIdentifiers {
			if len(names) > 0 && names[len(names)-1] >= *d.Name {
				t.Errorf("%s comes after %s", *d.Name, names[len(names)-1])
			}
			names = append(names, *d.Name)
		}
	}
	if want := MaxDocuments + len(document.BuiltIns()); len(names) != want {
		t.Errorf("listed %d, want %d", len(names), want)
	}
}

func TestListDocuments(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"), func(in *ssm.CreateDocumentInput) {
		in.TargetType, in.DisplayName = aws.String("/AWS::EC2::Instance"), aws.String("A Greeting")
		in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}
	})
	create(t, c, "BB-Other", greetingYAML("other"), func(in *ssm.CreateDocumentInput) { in.DocumentFormat = "YAML" })
	share(t, c, "BB-Other", []string{"All"}, nil)
	list := func(in ssm.ListDocumentsInput) string {
		t.Helper()
		out, err := c.ListDocuments(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range out.DocumentIdentifiers {
			if *d.Owner != "Amazon" {
				names = append(names, *d.Name)
			}
		}
		return strings.Join(names, " ")
	}
	by := func(pairs ...string) ssm.ListDocumentsInput {
		var in ssm.ListDocumentsInput
		for i := 0; i < len(pairs); i += 2 {
			in.Filters = append(in.Filters, types.DocumentKeyValuesFilter{Key: &pairs[i], Values: strings.Split(pairs[i+1], ",")})
		}
		return in
	}
	for _, test := range []struct {
		in   ssm.ListDocumentsInput
		want string
	}{
		{by(), "BB-Other Greet"},
		{by("Owner", "Self"), "BB-Other Greet"},
		{by("Owner", "Private"), "Greet"},
		{by("Owner", "Public"), "BB-Other"},
		{by("Owner", "Amazon"), ""},
		{by("Owner", "ThirdParty"), ""},
		{by("Owner", "All"), "BB-Other Greet"},
		{by("Name", "Gr"), "Greet"},
		{by("Name", "Gr,BB-"), "BB-Other Greet"},
		{by("Name", "gr"), ""},
		{by("DocumentType", "Command,Automation"), "BB-Other Greet"},
		{by("DocumentType", "Automation"), ""},
		{by("PlatformTypes", "Linux"), "BB-Other Greet"},
		{by("PlatformTypes", "Windows"), ""},
		{by("TargetType", "/AWS::EC2::Instance"), "Greet"},
		{by("SearchKeyword", "a greeting"), "Greet"},
		{by("SearchKeyword", "WITH OTHER"), "BB-Other"},
		{by("tag:team", "a,b"), "Greet"},
		{by("tag:team", "b"), ""},
		{by("tag:Team", "a"), ""},
		{by("tag:team", "a", "Name", "BB"), ""},
		{ssm.ListDocumentsInput{DocumentFilterList: []types.DocumentFilter{{Key: "Name", Value: aws.String("Greet")}, {Key: "Owner", Value: aws.String("Self")}}}, "Greet"},
	} {
		if got := list(test.in); got != test.want {
			t.Errorf("%+v %+v: %q, want %q", test.in.Filters, test.in.DocumentFilterList, got, test.want)
		}
	}
}

func share(t *testing.T, c *ssm.Client, name string, add, remove []string) {
	t.Helper()
	_, err := c.ModifyDocumentPermission(t.Context(), &ssm.ModifyDocumentPermissionInput{Name: &name, PermissionType: "Share", AccountIdsToAdd: add, AccountIdsToRemove: remove})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDocumentPermission(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"))
	list := func(in ssm.DescribeDocumentPermissionInput) (string, *string) {
		t.Helper()
		in.Name, in.PermissionType = aws.String("Greet"), "Share"
		out, err := c.DescribeDocumentPermission(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		var infos []string
		for _, i := range out.AccountSharingInfoList {
			infos = append(infos, *i.AccountId+" "+*i.SharedDocumentVersion)
		}
		return strings.Join(out.AccountIds, " ") + "; " + strings.Join(infos, " "), out.NextToken
	}
	share(t, c, "Greet", []string{"222222222222", "All", "111111111111"}, nil)
	if got, _ := list(ssm.DescribeDocumentPermissionInput{}); got != "111111111111 222222222222 all; 111111111111 $DEFAULT 222222222222 $DEFAULT all $DEFAULT" {
		t.Errorf("shared with %s", got)
	}
	first, token := list(ssm.DescribeDocumentPermissionInput{MaxResults: aws.Int32(2)})
	rest, end := list(ssm.DescribeDocumentPermissionInput{MaxResults: aws.Int32(2), NextToken: token})
	if first != "111111111111 222222222222; 111111111111 $DEFAULT 222222222222 $DEFAULT" || rest != "all; all $DEFAULT" || end != nil {
		t.Errorf("pages %q %q", first, rest)
	}
	_, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String("Greet")})
	wantCode(t, err, "InvalidDocumentOperation", "shared with 111111111111, 222222222222, all")
	// Removal counts more than addition.
	share(t, c, "Greet", []string{"333333333333"}, []string{"333333333333", "ALL", "111111111111", "222222222222"})
	if got, _ := list(ssm.DescribeDocumentPermissionInput{}); got != "; " {
		t.Errorf("shared with %s", got)
	}
	modify := func(in ssm.ModifyDocumentPermissionInput) error {
		_, err := c.ModifyDocumentPermission(t.Context(), &in)
		return err
	}
	wantCode(t, modify(ssm.ModifyDocumentPermissionInput{Name: aws.String("Greet"), PermissionType: "Share"}), "ValidationException", "AccountIdsToAdd")
	wantCode(t, modify(ssm.ModifyDocumentPermissionInput{Name: aws.String("None"), PermissionType: "Share", AccountIdsToAdd: []string{"all"}}), "InvalidDocument", "None")
	wantCode(t, modify(ssm.ModifyDocumentPermissionInput{Name: aws.String(shellDocument), PermissionType: "Share", AccountIdsToAdd: []string{"all"}}), "InvalidDocumentOperation", "Amazon")
	for batch := range maxShares/20 + 1 {
		var accounts []string
		for i := range 20 {
			accounts = append(accounts, fmt.Sprintf("%012d", batch*20+i))
		}
		err := modify(ssm.ModifyDocumentPermissionInput{Name: aws.String("Greet"), PermissionType: "Share", AccountIdsToAdd: accounts})
		if batch < maxShares/20 && err != nil {
			t.Fatal(err)
		} else if batch == maxShares/20 {
			wantCode(t, err, "DocumentPermissionLimit", "1000")
		}
	}
}

func TestDocumentTags(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"), func(in *ssm.CreateDocumentInput) {
		in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}
	})
	if _, err := c.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceType: "Document", ResourceId: aws.String("Greet"), Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RemoveTagsFromResource(t.Context(), &ssm.RemoveTagsFromResourceInput{ResourceType: "Document", ResourceId: aws.String("Greet"), TagKeys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Greet": "b=2", shellDocument: ""} {
		out, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: "Document", ResourceId: &name})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, tag := range out.TagList {
			got += *tag.Key + "=" + *tag.Value
		}
		if got != want {
			t.Errorf("tags of %s: %q", name, got)
		}
	}
	_, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: "Document", ResourceId: aws.String("None")})
	wantCode(t, err, "InvalidResourceId", "")
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
