package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

func TestDescribeInstanceInformation(t *testing.T) {
	b := newBed(t)
	for n := 3; n <= 12; n++ {
		node := testNode(n, map[string]string{"number": fmt.Sprint(n % 2)})
		if n == 3 {
			node.ActivationID, node.IamRole, node.PlatformType = "an-activation", "a-role", "Windows"
		}
		b.addNodes(node)
	}
	b.setAlive(memberID, nodeID(4))
	c := b.ssm(b.memberURL)
	list := func(in ssm.DescribeInstanceInformationInput) (all []types.InstanceInformation) {
		t.Helper()
		pages := ssm.NewDescribeInstanceInformationPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatalf("%+v: %v", in, err)
			}
			all = append(all, page.InstanceInformationList...)
		}
		return all
	}
	new := func(key string, values ...string) ssm.DescribeInstanceInformationInput {
		return ssm.DescribeInstanceInformationInput{Filters: []types.InstanceInformationStringFilter{{Key: &key, Values: values}}}
	}
	old := func(key types.InstanceInformationFilterKey, values ...string) ssm.DescribeInstanceInformationInput {
		return ssm.DescribeInstanceInformationInput{InstanceInformationFilterList: []types.InstanceInformationFilter{{Key: key, ValueSet: values}}}
	}
	for _, test := range []struct {
		in   ssm.DescribeInstanceInformationInput
		want int
	}{
		{ssm.DescribeInstanceInformationInput{}, 12}, {ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(5)}, 12},
		{new("InstanceIds", memberID, nodeID(3)), 2}, {old("InstanceIds", memberID), 1},
		{new("PingStatus", "Online"), 3}, {old("PingStatus", "ConnectionLost"), 9}, {new("PingStatus", "Inactive"), 0},
		{new("ActivationIds", "an-activation"), 1}, {old("ActivationIds", "other"), 0},
		{new("IamRole", "a-role"), 1}, {old("IamRole", "a-role"), 1},
		{new("PlatformType", "Windows"), 1}, {old("PlatformTypes", "Linux"), 11},
		{new("AgentVersion", "1.0.0"), 12}, {old("AgentVersion", "2"), 0},
		{new("ResourceType", "ManagedInstance"), 12}, {old("ResourceType", "EC2Instance"), 0},
		{new("AssociationStatus", "Success"), 0}, {new("SourceIds", memberID), 1}, {new("SourceTypes", "AWS::SSM::ManagedInstance"), 12},
		{new("tag:role", "web", "db"), 1}, {new("tag:number", "0"), 5}, {new("tag-key", "number", "role"), 11}, {new("tag:none", "x"), 0},
	} {
		if got := list(test.in); len(got) != test.want {
			t.Errorf("%+v %+v: %d nodes, want %d", test.in.Filters, test.in.InstanceInformationFilterList, len(got), test.want)
		}
	}
	one := list(new("InstanceIds", memberID))[0]
	if *one.Name != "node002" || *one.ComputerName != "host002" || *one.IPAddress != "127.0.0.2" || one.PingStatus != types.PingStatusOnline ||
		*one.AgentVersion != "1.0.0" || !*one.IsLatestVersion || one.PlatformType != types.PlatformTypeLinux || one.ResourceType != types.ResourceTypeManagedInstance ||
		one.RegistrationDate == nil || one.LastPingDateTime == nil {
		t.Errorf("node %+v", one)
	}
	for _, test := range []struct {
		in   ssm.DescribeInstanceInformationInput
		code string
	}{
		{new("InstanceIds", memberID, nodeID(77)), "InvalidInstanceId"}, {old("InstanceIds", nodeID(77)), "InvalidInstanceId"},
		{new("PingStatus", "Asleep"), "InvalidInstanceInformationFilterValue"}, {new("Colour", "red"), "InvalidFilterKey"}, {new("tag:", "red"), "InvalidFilterKey"},
		{ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(4)}, "ValidationException"},
		{ssm.DescribeInstanceInformationInput{NextToken: aws.String("!")}, "InvalidNextToken"},
		{ssm.DescribeInstanceInformationInput{Filters: new("PingStatus", "Online").Filters, InstanceInformationFilterList: old("PingStatus", "Online").InstanceInformationFilterList}, "ValidationException"},
	} {
		_, err := c.DescribeInstanceInformation(t.Context(), &test.in)
		wantCode(t, err, test.code, "")
	}
	// A page's token is good at another leader, and for no other question.
	first, err := c.DescribeInstanceInformation(t.Context(), &ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(5)})
	if err != nil {
		t.Fatal(err)
	}
	next := b.ssm(b.listen(New(b.leader.cfg)))
	second, err := next.DescribeInstanceInformation(t.Context(), &ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(6), NextToken: first.NextToken})
	if err != nil || *second.InstanceInformationList[0].InstanceId != nodeID(6) {
		t.Errorf("second page %+v, %v", second, err)
	}
	in := new("PingStatus", "Online")
	in.NextToken = first.NextToken
	_, err = next.DescribeInstanceInformation(t.Context(), &in)
	wantCode(t, err, "InvalidNextToken", "")
}

func TestDeregisterManagedInstance(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	deregister := func(id string) error {
		_, err := c.DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &id})
		return err
	}
	wantCode(t, deregister(nodeID(99)), "InvalidInstanceId", "")
	wantCode(t, deregister(leaderID), "ValidationException", "only voter")
	wantCode(t, deregister("i-12345678"), "ValidationException", "")
	if err := deregister(memberID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, deregister(memberID), "InvalidInstanceId", "")
	roster := b.roster()
	if roster.Version != 2 || len(roster.Members) != 1 || len(roster.Removed) != 1 || roster.Removed[0].NodeID != memberID || !roster.IsRemoved("key of "+memberID) {
		t.Errorf("roster %+v", roster)
	}
	b.read(func(r raftstore.Reader) error {
		if _, err := raftstore.GetNode(r, memberID); err == nil {
			t.Error("the node is still enrolled")
		}
		return nil
	})
	// A voter goes while the others are a majority.
	roster.Version++
	for n := 3; n <= 4; n++ {
		b.addNodes(testNode(n, nil))
		roster.Members = append(roster.Members, raftstore.RosterMember{NodeID: nodeID(n), PublicKey: "key of " + nodeID(n)})
	}
	b.read(func(r raftstore.Reader) error {
		current, err := raftstore.GetRoster(r)
		roster.ModifyIndex = current.ModifyIndex
		return err
	})
	var txn raftstore.Txn
	txn.PutRoster(roster)
	b.apply(txn)
	wantCode(t, deregister(nodeID(3)), "ValidationException", "no majority")
	b.setAlive(nodeID(4))
	if err := deregister(nodeID(3)); err != nil {
		t.Error(err)
	}
	if after := b.roster(); len(after.Members) != 2 || after.Version != roster.Version+1 {
		t.Errorf("roster %+v", after)
	}
}

func TestCheckRemoval(t *testing.T) {
	for _, test := range []struct {
		voters, living string
		remove         string
		may            bool
	}{
		{"a", "a", "a", false}, {"a", "a", "x", true}, {"abc", "abc", "a", true}, {"abc", "ab", "c", true}, {"abc", "ab", "a", false},
		{"abcde", "abcd", "a", true}, {"abcde", "abc", "a", false}, {"abcde", "abc", "e", true}, {"ab", "ab", "b", true}, {"abc", "ab", "x", true},
	} {
		alive := func(id string) bool { return strings.Contains(test.living, id) }
		if problem := checkRemoval(strings.Split(test.voters, ""), test.remove, alive); (problem == "") != test.may {
			t.Errorf("voters %s, living %s, remove %s: %q", test.voters, test.living, test.remove, problem)
		}
	}
}

func TestTags(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	tags := func(pairs ...string) (out []types.Tag) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
		return out
	}
	add := func(kind types.ResourceTypeForTagging, id string, t2 []types.Tag) error {
		_, err := c.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceType: kind, ResourceId: &id, Tags: t2})
		return err
	}
	list := func() string {
		t.Helper()
		out, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: "ManagedInstance", ResourceId: aws.String(memberID)})
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, tag := range out.TagList {
			text = append(text, *tag.Key+"="+*tag.Value)
		}
		return strings.Join(text, " ")
	}
	if err := add("ManagedInstance", memberID, tags("zone", "a", "role", "db", "empty", "")); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != "empty= role=db zone=a" {
		t.Errorf("tags %q", got)
	}
	for range 2 { // the second time there is nothing to remove
		_, err := c.RemoveTagsFromResource(t.Context(), &ssm.RemoveTagsFromResourceInput{ResourceType: "ManagedInstance", ResourceId: aws.String(memberID), TagKeys: []string{"zone", "nothing", "empty"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := list(); got != "role=db" {
		t.Errorf("tags %q", got)
	}
	var many, large []string
	for i := range 50 {
		many = append(many, fmt.Sprint("key", i), "v")
	}
	for i := range 16 {
		large = append(large, fmt.Sprint("key", i), strings.Repeat("v", 256))
	}
	wantCode(t, add("ManagedInstance", memberID, tags(many...)), "TooManyTagsError", "")
	wantCode(t, add("ManagedInstance", memberID, tags(large...)), "TooManyTagsError", "")
	wantCode(t, add("ManagedInstance", memberID, tags("AWS:x", "y")), "ValidationException", "reserved")
	wantCode(t, add("ManagedInstance", memberID, tags("x", "y", "x", "z")), "ValidationException", "twice")
	wantCode(t, add("ManagedInstance", memberID, tags("x{}", "y")), "ValidationException", "pattern")
	wantCode(t, add("ManagedInstance", nodeID(99), tags("x", "y")), "InvalidResourceId", "")
	wantCode(t, add("Document", shellDocument, tags("x", "y")), "InvalidResourceId", "")
	wantCode(t, add("Parameter", "x", tags("x", "y")), "InvalidResourceType", "")
	wantCode(t, add("Planet", memberID, tags("x", "y")), "ValidationException", "enum")
	if got := list(); got != "role=db" {
		t.Errorf("refused tags were kept: %q", got)
	}
}

func TestDocuments(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	got, err := c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String(shellDocument)})
	if err != nil || got.DocumentFormat != types.DocumentFormatJson || !strings.Contains(*got.Content, `"aws:runShellScript"`) || got.Status != types.DocumentStatusActive || *got.DocumentVersion != "1" {
		t.Fatalf("%+v, %v", got, err)
	}
	yaml, err := c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String("arn:aws:ssm:us-east-1::document/" + shellDocument), DocumentFormat: types.DocumentFormatYaml, DocumentVersion: aws.String("$LATEST")})
	if err != nil || !strings.HasPrefix(*yaml.Content, "schemaVersion: \"1.2\"\n") || !strings.Contains(*yaml.Content, "\n  aws:runShellScript:\n") {
		t.Fatalf("%+v, %v", yaml, err)
	}
	described, err := c.DescribeDocument(t.Context(), &ssm.DescribeDocumentInput{Name: aws.String(shellDocument)})
	if err != nil {
		t.Fatal(err)
	}
	d := described.Document
	if *d.Owner != "Amazon" || *d.SchemaVersion != "1.2" || len(*d.Hash) != 64 || d.DocumentType != types.DocumentTypeCommand || *d.DefaultVersion != "1" ||
		!slices.Contains(d.PlatformTypes, types.PlatformTypeLinux) || len(d.Parameters) != 3 || d.Parameters[0].Type != types.DocumentParameterTypeStringList {
		t.Errorf("description %+v", d)
	}
	listed := func(in ssm.ListDocumentsInput) int {
		t.Helper()
		out, err := c.ListDocuments(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return len(out.DocumentIdentifiers)
	}
	new := func(key string, values ...string) ssm.ListDocumentsInput {
		return ssm.ListDocumentsInput{Filters: []types.DocumentKeyValuesFilter{{Key: &key, Values: values}}}
	}
	all := listed(ssm.ListDocumentsInput{})
	if all == 0 {
		t.Error("no documents")
	}
	for _, test := range []struct {
		in   ssm.ListDocumentsInput
		want int
	}{
		{new("Name", "AWS-Run"), all - 2}, {new("Name", "Fleetmesh-"), 2}, {new("Name", "X"), 0}, {new("Owner", "Amazon"), all}, {new("Owner", "Self"), 0}, {new("PlatformTypes", "Linux"), all},
		{new("PlatformTypes", "Windows"), 2}, {new("DocumentType", "Command"), all}, {new("DocumentType", "Automation"), 0}, {new("SearchKeyword", "SHELL"), 3}, {new("tag:x", "y"), 0},
		{ssm.ListDocumentsInput{DocumentFilterList: []types.DocumentFilter{{Key: "Owner", Value: aws.String("Amazon")}}}, all},
	} {
		if got := listed(test.in); got != test.want {
			t.Errorf("%+v: %d, want %d", test.in, got, test.want)
		}
	}
	refused := func(code string, err error) {
		t.Helper()
		wantCode(t, err, code, "")
	}
	_, err = c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String("AWS-Nothing")})
	refused("InvalidDocument", err)
	_, err = c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String(shellDocument), DocumentVersion: aws.String("7")})
	refused("InvalidDocumentVersion", err)
	_, err = c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String(shellDocument), VersionName: aws.String("first")})
	refused("InvalidDocumentVersion", err)
	_, err = c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: aws.String(shellDocument), DocumentFormat: types.DocumentFormatText})
	refused("InvalidDocument", err)
	_, err = c.DescribeDocument(t.Context(), &ssm.DescribeDocumentInput{Name: aws.String("AWS-Nothing")})
	refused("InvalidDocument", err)
	for code, in := range map[string]ssm.ListDocumentsInput{
		"InvalidFilterKey": new("Colour", "red"), "InvalidFilterValue": new("Owner", "Nobody"), "InvalidNextToken": {NextToken: aws.String("x")},
	} {
		_, err = c.ListDocuments(t.Context(), &in)
		refused(code, err)
	}
}
