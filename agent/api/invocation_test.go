package api

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

func TestGetCommandInvocation(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	id := *send(t, c, ssm.SendCommandInput{InstanceIds: []string{memberID, leaderID}, Comment: aws.String("why")}).CommandId
	get := func(in ssm.GetCommandInvocationInput) (*ssm.GetCommandInvocationOutput, error) {
		return c.GetCommandInvocation(t.Context(), &in)
	}
	got, err := get(ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(memberID)})
	if err != nil || got.Status != types.CommandInvocationStatusPending || got.ResponseCode != -1 || *got.PluginName != "aws:runShellScript" || *got.ExecutionStartDateTime != "" || *got.StandardOutputContent != "" {
		t.Fatalf("before dispatch: %+v, %v", got, err)
	}
	running := raftstore.Invocation{NodeID: memberID, Status: "InProgress", StatusDetails: "InProgress", DispatchedAt: time.Now(), Plugins: []raftstore.PluginResult{
		{Name: "aws:runShellScript", Status: "InProgress", StatusDetails: "InProgress", ResponseCode: -1, StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)},
	}}
	b.finish(id, "InProgress", "InProgress", running)
	got, err = get(ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(memberID)})
	if err != nil || got.Status != types.CommandInvocationStatusInProgress || got.ResponseCode != -1 || *got.ExecutionStartDateTime != "2026-01-02T03:04:05.006Z" || *got.ExecutionEndDateTime != "" {
		t.Errorf("running: %+v, %v", got, err)
	}
	b.finish(id, "Failed", "Failed", ended(memberID, "Failed", "Failed", strings.Repeat("ö", 30000), strings.Repeat("é", 9000), 3))
	got, err = get(ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(memberID), PluginName: aws.String("aws:runShellScript")})
	if err != nil || got.Status != types.CommandInvocationStatusFailed || got.ResponseCode != 3 || *got.ExecutionElapsedTime != "PT1.5S" || *got.ExecutionEndDateTime != "2026-11-23T12:00:01.500Z" ||
		len([]rune(*got.StandardOutputContent)) != 24000 || len([]rune(*got.StandardErrorContent)) != 8000 || *got.Comment != "why" {
		t.Errorf("ended: %s %d %s, %v", got.Status, got.ResponseCode, *got.ExecutionElapsedTime, err)
	}
	for _, test := range []struct {
		in   ssm.GetCommandInvocationInput
		code string
	}{
		{ssm.GetCommandInvocationInput{CommandId: aws.String("00000000-0000-0000-0000-000000000000"), InstanceId: aws.String(memberID)}, "InvalidCommandId"},
		{ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(leaderID)}, "InvocationDoesNotExist"},
		{ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(nodeID(99))}, "InvocationDoesNotExist"},
		{ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String(memberID), PluginName: aws.String("step")}, "InvalidPluginName"},
		{ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: aws.String("pc")}, "ValidationException"},
	} {
		_, err := get(test.in)
		wantCode(t, err, test.code, "")
	}
}

func TestListCommandInvocations(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	var nodes []raftstore.Node
	for n := 3; n <= 7; n++ {
		nodes = append(nodes, testNode(n, nil))
	}
	b.addNodes(nodes...)
	first := *send(t, c, ssm.SendCommandInput{Targets: []types.Target{{Key: aws.String("tag-key"), Values: []string{"x"}}}}).CommandId
	second := *send(t, c, ssm.SendCommandInput{InstanceIds: []string{nodeID(3), nodeID(4)}}).CommandId
	third := *send(t, c, ssm.SendCommandInput{InstanceIds: []string{nodeID(3)}}).CommandId
	var all []raftstore.Invocation
	for n := 3; n <= 7; n++ {
		all = append(all, ended(nodeID(n), "Success", "Success", "out\n", "err\n", 0))
	}
	all[4] = ended(nodeID(7), "Failed", "Undeliverable", "", "", -1)
	all[4].Plugins, all[4].Reason = nil, "the node was removed"
	b.finish(first, "Failed", "Incomplete", all...)
	b.finish(second, "Success", "Success", all[0], all[1])

	list := func(in ssm.ListCommandInvocationsInput) (found []types.CommandInvocation) {
		t.Helper()
		pages := ssm.NewListCommandInvocationsPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatalf("%+v: %v", in, err)
			}
			if in.MaxResults != nil && len(page.CommandInvocations) > int(*in.MaxResults) {
				t.Errorf("a page of %d", len(page.CommandInvocations))
			}
			found = append(found, page.CommandInvocations...)
		}
		return found
	}
	status := func(value string) []types.CommandFilter {
		return []types.CommandFilter{{Key: types.CommandFilterKeyStatus, Value: &value}}
	}
	for _, size := range []*int32{nil, aws.Int32(1), aws.Int32(2), aws.Int32(3)} {
		for _, test := range []struct {
			in   ssm.ListCommandInvocationsInput
			want int
		}{
			{ssm.ListCommandInvocationsInput{}, 7}, {ssm.ListCommandInvocationsInput{CommandId: &first}, 5}, {ssm.ListCommandInvocationsInput{CommandId: &third}, 0},
			{ssm.ListCommandInvocationsInput{InstanceId: aws.String(nodeID(3))}, 2}, {ssm.ListCommandInvocationsInput{InstanceId: aws.String(memberID)}, 0},
			{ssm.ListCommandInvocationsInput{CommandId: &second, InstanceId: aws.String(nodeID(4))}, 1},
			{ssm.ListCommandInvocationsInput{CommandId: &second, InstanceId: aws.String(nodeID(5))}, 0},
			{ssm.ListCommandInvocationsInput{Filters: status("Undeliverable")}, 1}, {ssm.ListCommandInvocationsInput{Filters: status("Success"), CommandId: &first}, 4},
		} {
			test.in.MaxResults = size
			if got := list(test.in); len(got) != test.want {
				t.Errorf("%+v: %d invocations, want %d", test.in, len(got), test.want)
			}
		}
	}
	found := list(ssm.ListCommandInvocationsInput{CommandId: &first, Details: true})
	if p := found[0].CommandPlugins; len(p) != 1 || *p[0].Output != "out\n\n----------ERROR-------\nerr\n" || p[0].ResponseCode != 0 || p[0].ResponseFinishDateTime == nil {
		t.Errorf("plugins %+v", p)
	}
	if *found[4].TraceOutput != "the node was removed" || len(found[4].CommandPlugins) != 0 {
		t.Errorf("invocation %+v", found[4])
	}
	if p := list(ssm.ListCommandInvocationsInput{CommandId: &first})[0].CommandPlugins; len(p) != 0 {
		t.Errorf("plugins without Details: %+v", p)
	}
	for code, in := range map[string]ssm.ListCommandInvocationsInput{
		"InvalidCommandId": {CommandId: aws.String("00000000-0000-0000-0000-000000000000")}, "InvalidInstanceId": {InstanceId: aws.String(nodeID(99))},
		"InvalidNextToken": {NextToken: aws.String("x")}, "ValidationException": {Filters: status("Incomplete")},
	} {
		_, err := c.ListCommandInvocations(t.Context(), &in)
		wantCode(t, err, code, "")
	}
}

func TestPluginOutput(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, test := range []struct {
		out, err string
		want     string
		size     int
	}{
		{"", "", "", 0}, {"a", "", "a", 1}, {"", "e", "\n----------ERROR-------\ne", 0}, {long, "", "---Output truncated---", 2500},
		{long, "e", "---Output truncated---\n----------ERROR-------\ne", 2500}, {"o", long, "o\n----------ERROR-------\nx", 2500}, {long, long, "---Error truncated----", 2500},
	} {
		got := pluginOutput(test.out, test.err)
		if !strings.Contains(got, test.want) || len([]rune(got)) > maxPluginOutput || test.size > 0 && len(got) != test.size {
			t.Errorf("%.5q and %.5q: %d characters %.60q", test.out, test.err, len(got), got)
		}
	}
}

func TestISODuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "PT0S", -time.Second: "PT0S", 10 * time.Millisecond: "PT0.01S", 1500 * time.Millisecond: "PT1.5S", time.Minute: "PT1M",
		time.Hour + 2*time.Minute + 3*time.Second: "PT1H2M3S", 36 * time.Hour: "PT36H",
	} {
		if got := isoDuration(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

// TestSeveralSteps: with more than one step, each must be named and stands for
// itself.
func TestSeveralSteps(t *testing.T) {
	command := raftstore.Command{ID: "id", Document: []byte(`{"schemaVersion":"2.2","mainSteps":[
		{"name":"one","action":"aws:runShellScript","inputs":{"runCommand":["true"]}},
		{"name":"two","action":"aws:runShellScript","inputs":{"runCommand":["true"]}}]}`)}
	_, err := chooseStep(command, "")
	wantCode(t, err, "InvalidPluginName", "one, two")
	if _, err := chooseStep(command, "two"); err != nil {
		t.Error(err)
	}
	now := time.Now()
	i := raftstore.Invocation{Status: "InProgress", StatusDetails: "InProgress", Plugins: []raftstore.PluginResult{
		{Name: "one", Status: "Failed", StatusDetails: "Failed", ResponseCode: 4, StartedAt: now, FinishedAt: now},
		{Name: "two", Status: "InProgress", StatusDetails: "InProgress", ResponseCode: -1, StartedAt: now},
	}}
	in := &ssm.SendCommandInput{}
	if got := describeStep(command, in, i, "one"); got.Status != "Failed" || got.ResponseCode != 4 {
		t.Errorf("the first step %+v", got)
	}
	if got := describeStep(command, in, i, "two"); got.Status != "InProgress" || got.ResponseCode != -1 {
		t.Errorf("the second step %+v", got)
	}
	i.Status, i.StatusDetails, i.FinishedAt, i.Reason = "TimedOut", "DeliveryTimedOut", now, "it was silent"
	if got := describeStep(command, in, i, "two"); got.Status != "TimedOut" || *got.StandardErrorContent != "it was silent" {
		t.Errorf("the second step when all is over %+v", got)
	}
	if got := describeStep(command, in, i, "three"); got.Status != "TimedOut" || *got.StandardErrorContent != "it was silent" {
		t.Errorf("a step that did not begin %+v", got)
	}
}
