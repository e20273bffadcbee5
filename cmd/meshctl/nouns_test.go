package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

const (
	web1 = "mi-0123456789abcdef1"
	web2 = "mi-0123456789abcdef2"
	db1  = "mi-0123456789abcdef3"
)

func node(id, name string, ping types.PingStatus) types.InstanceInformation {
	return types.InstanceInformation{
		InstanceId: &id, Name: &name, ComputerName: &name, PingStatus: ping, IPAddress: aws.String("10.0.0.1"),
		PlatformType: types.PlatformTypeLinux, PlatformName: aws.String("Debian GNU/Linux"), PlatformVersion: aws.String("13"),
		AgentVersion: aws.String("1.0.0"), LastPingDateTime: aws.Time(testNow.Add(-time.Second)), RegistrationDate: aws.Time(testNow.Add(-time.Hour)),
	}
}

// threeNodes is a mesh in good order but for db-1, which is away.
func threeNodes(t *testing.T) *fakeMesh {
	m := newFakeMesh(t)
	all := []types.InstanceInformation{node(web2, "web-2", types.PingStatusOnline), node(db1, "db-1", types.PingStatusConnectionLost), node(web1, "web-1", types.PingStatusOnline)}
	m.on("DescribeInstanceInformation", func(body []byte) (any, error) {
		var in ssm.DescribeInstanceInformationInput
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		if len(in.Filters) == 0 { // two pages
			if in.NextToken == nil {
				return &ssm.DescribeInstanceInformationOutput{InstanceInformationList: all[:2], NextToken: aws.String("next")}, nil
			}
			return &ssm.DescribeInstanceInformationOutput{InstanceInformationList: all[2:]}, nil
		}
		out := &ssm.DescribeInstanceInformationOutput{}
		for _, n := range all {
			for _, id := range in.Filters[0].Values {
				if id == *n.InstanceId {
					out.InstanceInformationList = append(out.InstanceInformationList, n)
				}
			}
		}
		return out, nil
	})
	m.always("Mesh.Status", &meshapi.StatusOutput{
		MeshId: "5b0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a11", Name: "prod", Leader: web1, Term: 7, Voters: []string{web1}, StandBys: []string{web2},
		Nodes: meshapi.NodeCounts{Online: 2, ConnectionLost: 1}, Advice: []string{"let a third node join: then one may fail"}, Source: "store", AnsweredBy: web1,
	})
	m.always("Mesh.Members", &meshapi.MembersOutput{AnsweredBy: web1, Members: []meshapi.Member{
		{NodeId: web1, Address: "10.0.0.1:7947", Version: "1.0.0", Voter: true, Alive: true, Tags: map[string]string{"role": "web", "zone": "a"}},
		{NodeId: web2, Address: "10.0.0.2:7947", Version: "1.0.0", Alive: true, Tags: map[string]string{"role": "web"}},
	}})
	m.always("ListTagsForResource", &ssm.ListTagsForResourceOutput{TagList: []types.Tag{{Key: aws.String("role"), Value: aws.String("db")}}})
	return m
}

func TestNouns(t *testing.T) {
	m := threeNodes(t)
	m.always("AddTagsToResource", &ssm.AddTagsToResourceOutput{})
	m.always("RemoveTagsFromResource", &ssm.RemoveTagsFromResourceOutput{})
	m.always("DeregisterManagedInstance", &ssm.DeregisterManagedInstanceOutput{})
	m.always("Mesh.CreateActivation", &meshapi.CreateActivationOutput{ActivationId: "7e0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a22", ActivationCode: "code-code-code-code-code", JoinToken: "fmt1.abc.def"})
	m.always("DescribeActivations", &ssm.DescribeActivationsOutput{ActivationList: []types.Activation{
		{ActivationId: aws.String("7e0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a22"), RegistrationLimit: aws.Int32(5), RegistrationsCount: aws.Int32(2), ExpirationDate: aws.Time(testNow.Add(time.Hour)), DefaultInstanceName: aws.String("web"), Tags: []types.Tag{{Key: aws.String("role"), Value: aws.String("web")}}},
		{ActivationId: aws.String("8e0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a33"), RegistrationLimit: aws.Int32(1), RegistrationsCount: aws.Int32(1), ExpirationDate: aws.Time(testNow.Add(-time.Hour)), Expired: true, Description: aws.String("old \x1b[31mred")},
	}})
	m.always("DeleteActivation", &ssm.DeleteActivationOutput{})
	m.always("ListDocuments", &ssm.ListDocumentsOutput{DocumentIdentifiers: []types.DocumentIdentifier{{Name: aws.String("AWS-RunShellScript"), DocumentType: types.DocumentTypeCommand, SchemaVersion: aws.String("1.2"), DocumentVersion: aws.String("1"), PlatformTypes: []types.PlatformType{types.PlatformTypeLinux, types.PlatformTypeMacos}, Owner: aws.String("Amazon")}}})
	m.always("GetDocument", &ssm.GetDocumentOutput{Name: aws.String("AWS-RunShellScript"), Content: aws.String("{\n\t\"schemaVersion\": \"1.2\"\n}\n")})
	m.always("DescribeDocument", &ssm.DescribeDocumentOutput{Document: &types.DocumentDescription{Name: aws.String("AWS-RunShellScript"), Description: aws.String("Run a shell script"), Parameters: []types.DocumentParameter{{Name: aws.String("commands"), Type: types.DocumentParameterTypeStringList, Description: aws.String("the lines")}}}})
	m.always("Mesh.Keyring", &meshapi.KeyringOutput{Version: 3, Keys: []meshapi.KeyringKey{{KeyId: "a1b2", Primary: true}, {KeyId: "c3d4"}}})
	m.always("ListCommands", &ssm.ListCommandsOutput{Commands: []types.Command{{CommandId: aws.String("c1"), DocumentName: aws.String("AWS-RunShellScript"), RequestedDateTime: aws.Time(testNow), Status: types.CommandStatusFailed, StatusDetails: aws.String("Incomplete"), TargetCount: 3, CompletedCount: 3, ErrorCount: 1}}})
	m.always("CancelCommand", &ssm.CancelCommandOutput{})

	for name, line := range map[string]string{
		"mesh-status":            "mesh status",
		"mesh-status-json":       "mesh status -o json",
		"mesh-members":           "mesh members --tag role=web",
		"node-list":              "node list",
		"node-list-json":         "node list -o json",
		"node-list-yaml":         "node list -o yaml",
		"node-show":              "node show web-1",
		"node-show-json":         "node show web-1 -o json",
		"node-tag":               "node tag web-1 role=web zone=b",
		"node-tag-json":          "node tag web-1 role=web -o json",
		"node-untag":             "node untag " + web1 + " role zone",
		"node-remove":            "node remove db-1",
		"activation-create":      "activation create --limit 5 --expires 7d --tag role=web --joiner-tags zone,rack --default-name web --member-only",
		"activation-create-json": "activation create -o json",
		"activation-list":        "activation list",
		"activation-delete":      "activation delete 7e0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a22",
		"document-list":          "document list",
		"document-show":          "document show AWS-RunShellScript",
		"document-show-json":     "document show AWS-RunShellScript -o json",
		"document-content":       "document show AWS-RunShellScript --content",
		"keyring-list":           "keyring list",
		"keyring-use":            "keyring use c3d4",
		"command-list":           "command list",
		"command-list-json":      "command list -o json",
		"command-cancel":         "command cancel c1 --nodes web-1,web-2",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, m.run(strings.Fields(line)...)) })
	}

	for operation, want := range map[string]string{
		"AddTagsToResource":         `"ResourceId":"` + web1 + `"`,
		"RemoveTagsFromResource":    `"TagKeys":["role","zone"]`,
		"DeregisterManagedInstance": `"InstanceId":"` + db1 + `"`,
		"CancelCommand":             `"InstanceIds":["` + web1 + `","` + web2 + `"]`,
	} {
		calls := m.called(operation)
		if len(calls) == 0 || !strings.Contains(calls[0].Body, want) {
			t.Errorf("%s was asked %+v, want one with %s", operation, calls, want)
		}
	}
	if calls := m.called("Mesh.CreateActivation"); len(calls) != 2 {
		t.Errorf("CreateActivation was called %d times", len(calls))
	}
}

func TestActivationInput(t *testing.T) {
	base := activationOptions{limit: 1, expires: "24h", freeTags: true}
	in, err := activationInput(base, testNow)
	if err != nil || in.JoinerTags != nil || in.Tags != nil || !in.ExpirationDate.Equal(testNow.Add(24*time.Hour)) {
		t.Errorf("defaults: %+v, %v", in, err)
	}
	none := base
	none.freeTags = false
	if in, err = activationInput(none, testNow); err != nil || in.JoinerTags == nil || len(*in.JoinerTags) != 0 {
		t.Errorf("--joiner-tags '': %+v, %v", in, err)
	}
	for _, wrong := range []activationOptions{
		{limit: 0, expires: "1h"}, {limit: 1001, expires: "1h"}, {limit: 1, expires: "soon"}, {limit: 1, expires: "-1h"},
		{limit: 1, expires: "NaNd"}, {limit: 1, expires: "0d"}, {limit: 1, expires: "1h", tags: []string{"x"}}, {limit: 1, expires: "1h", tags: []string{"a=1", "a=2"}},
	} {
		if in, err := activationInput(wrong, testNow); err == nil {
			t.Errorf("%+v is taken: %+v", wrong, in)
		}
	}
}

func TestNodeNames(t *testing.T) {
	m := newFakeMesh(t)
	m.always("DescribeInstanceInformation", &ssm.DescribeInstanceInformationOutput{InstanceInformationList: []types.InstanceInformation{
		node(web1, "web", types.PingStatusOnline), node(web2, "web", types.PingStatusOnline),
	}})
	m.always("DeregisterManagedInstance", &ssm.DeregisterManagedInstanceOutput{})
	if r := m.run("node", "remove", "web"); r.code != 1 || !strings.Contains(r.err, "2 nodes are named") || !strings.Contains(r.err, web2) {
		t.Errorf("an ambiguous name: %+v", r)
	}
	if r := m.run("node", "remove", "nobody"); r.code != 1 || !strings.Contains(r.err, "InvalidInstanceId: no node has the id or name") {
		t.Errorf("an unknown name: %+v", r)
	}
	if len(m.called("DeregisterManagedInstance")) != 0 {
		t.Error("a node was removed")
	}
	if r := m.run("node", "remove", web1); r.code != 0 {
		t.Errorf("an id: %+v", r)
	}
}

// A node's own name is worth more than what another's machine is called.
func TestNodeNameBeforeComputerName(t *testing.T) {
	other := node(web2, "db", types.PingStatusOnline)
	other.ComputerName = aws.String("web")
	nodes := []types.InstanceInformation{node(web1, "web", types.PingStatusOnline), other}
	if ids := nodesNamed(nodes, "web"); len(ids) != 1 || ids[0] != web1 {
		t.Errorf("web is %q", ids)
	}
	if ids := nodesNamed(nodes[1:], "web"); len(ids) != 1 || ids[0] != web2 {
		t.Errorf("a computer's name finds %q", ids)
	}
}

func TestRemoveAsksOnATerminal(t *testing.T) {
	m := threeNodes(t)
	m.always("DeregisterManagedInstance", &ssm.DeregisterManagedInstanceOutput{})
	on := func(typed string) func(*surroundings) {
		return func(s *surroundings) { s.inTerminal, s.in = true, strings.NewReader(typed) }
	}
	for _, no := range []string{"\n", "n\n", "", "yesterday\n"} {
		if r := m.runIn(on(no), "node", "remove", "web-1"); r.code != 1 || !strings.Contains(r.err, web1) {
			t.Errorf("typed %q: %+v", no, r)
		}
	}
	if n := len(m.called("DeregisterManagedInstance")); n != 0 {
		t.Fatalf("%d nodes were removed without a yes", n)
	}
	if r := m.runIn(on("y\n"), "node", "remove", "web-1"); r.code != 0 {
		t.Errorf("typed y: %+v", r)
	}
	if r := m.runIn(on(""), "node", "remove", "web-1", "--yes"); r.code != 0 || strings.Contains(r.err, "[y/N]") {
		t.Errorf("--yes: %+v", r)
	}
}

func TestWithoutLeader(t *testing.T) {
	m := newFakeMesh(t)
	m.refuse("DescribeInstanceInformation", "ServiceUnavailable", "the mesh has no leader")
	m.always("Mesh.Status", &meshapi.StatusOutput{
		MeshId: "m", Voters: []string{web1, web2, db1}, StandBys: []string{}, Nodes: meshapi.NodeCounts{Online: 1, ConnectionLost: 2},
		Advice: []string{"bring back one of " + web2 + ", " + db1}, Source: "gossip", AnsweredBy: web1,
	})
	m.always("Mesh.Members", &meshapi.MembersOutput{AnsweredBy: web1, Members: []meshapi.Member{{NodeId: web1, Alive: true, Voter: true}, {NodeId: web2, Voter: true}}})
	golden(t, "no-leader-status", m.run("mesh", "status"))
	golden(t, "no-leader-status-json", m.run("mesh", "status", "-o", "json"))
	golden(t, "no-leader-node-list", m.run("node", "list"))
	golden(t, "no-leader-node-list-json", m.run("node", "list", "-o", "json"))
}

func TestShowANodeAsRootOfAMember(t *testing.T) {
	m := threeNodes(t)
	m.refuse("ListTagsForResource", "AccessDeniedException", "not on this socket")
	if r := m.run("node", "show", "web-1"); r.code != 0 || !strings.Contains(r.out, "role=web zone=a") {
		t.Errorf("a living node: %+v", r)
	}
	if r := m.run("node", "show", "web-1", "-o", "json"); r.code != 0 || !strings.Contains(r.out, `"Key": "zone"`) {
		t.Errorf("as JSON: %+v", r)
	}
	if r := m.run("node", "show", "db-1"); r.code != exitRefused || !strings.Contains(r.err, "not on this socket") {
		t.Errorf("a node that gossip does not see: %+v", r)
	}
}
