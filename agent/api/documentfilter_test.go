package api

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor/document"
	"fleetmesh/raftstore"
)

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
	// Of many that come at once only as many are made as there is room for.
	for at := range 3 {
		if _, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String(fmt.Sprintf("Doc-%03d", at))}); err != nil {
			t.Fatal(err)
		}
	}
	var made, refused atomic.Int32
	var all sync.WaitGroup
	for at := range 40 {
		all.Go(func() {
			_, err := b.ssm(b.leaderURL).CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: aws.String(fmt.Sprintf("Doc-9%02d", at)), Content: &other, DocumentType: "Command"})
			if err == nil {
				made.Add(1)
				return
			}
			wantCode(t, err, "DocumentLimitExceeded", "500")
			refused.Add(1)
		})
	}
	all.Wait()
	if made.Load() != 3 || refused.Load() != 37 {
		t.Errorf("made %d, refused %d", made.Load(), refused.Load())
	}
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
	for _, test := range []struct {
		in   ssm.ListDocumentsInput
		code string
	}{
		{by("DocumentType", "Command,Comand"), "InvalidFilterValue"},
		{by("PlatformTypes", "Solaris"), "InvalidFilterValue"},
		{by("Owner", "me"), "InvalidFilterValue"},
		{by("Owner", "Self,Amazon"), "InvalidFilterValue"},
		{by("Nmae", "x"), "InvalidFilterKey"},
		{by("tag:", "x"), "InvalidFilterKey"},
		{ssm.ListDocumentsInput{DocumentFilterList: []types.DocumentFilter{{Key: "DocumentType", Value: aws.String("Script")}}}, "InvalidFilterValue"},
	} {
		_, err := c.ListDocuments(t.Context(), &test.in)
		wantCode(t, err, test.code, "")
	}
}
