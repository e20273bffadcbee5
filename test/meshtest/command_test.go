package meshtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/test/meshtest"
)

func roles(node int) map[string]string {
	return map[string]string{"role": []string{"web", "db"}[node%2], "zone": string(rune('a' + node%3))}
}

// TestSevenNodesAnswerAlike: promise 1, with the stock client: leader, follower
// and plain member give the same answers.
func TestSevenNodesAnswerAlike(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 7, meshtest.Tags(roles))
	status := m.AwaitVoters(5)
	holds := map[string]bool{}
	for _, id := range append(status.Voters, status.StandBys...) {
		holds[id] = true
	}
	leader := m.Leader()
	var follower, member *meshtest.Node
	for _, n := range m.Nodes {
		switch {
		case n == leader:
		case holds[n.ID] && follower == nil:
			follower = n
		case !holds[n.ID]:
			member = n
		}
	}
	if follower == nil || member == nil {
		t.Fatalf("voters %v, stand-bys %v: no follower or no plain member among 7", status.Voters, status.StandBys)
	}
	asked := []*meshtest.Node{leader, follower, member}

	for _, through := range asked {
		id := send(t, through, ssm.SendCommandInput{Targets: byTag("role", "web"), Comment: aws.String("through " + through.Name)},
			`echo "out $AWS_SSM_INSTANCE_ID"`, `echo err >&2`, `exit 0`)
		done := awaitDone(t, m, through, id)
		if done.Status != types.CommandStatusSuccess || done.TargetCount != 4 || done.CompletedCount != 4 || done.ErrorCount != 0 {
			t.Errorf("through %s: %s, %d targets, %d completed, %d errors", through.Name, done.Status, done.TargetCount, done.CompletedCount, done.ErrorCount)
		}
		var first any
		for i, n := range asked {
			out, err := n.Client().ListCommandInvocations(t.Context(), &ssm.ListCommandInvocationsInput{CommandId: &id, Details: true})
			if err != nil {
				t.Fatalf("ListCommandInvocations through %s: %v", n.Name, err)
			}
			if i == 0 {
				first = out.CommandInvocations
				if len(out.CommandInvocations) != 4 {
					t.Errorf("%d invocations, want 4", len(out.CommandInvocations))
				}
			} else if !reflect.DeepEqual(first, any(out.CommandInvocations)) {
				t.Errorf("%s and %s answer differently:\n%+v\n%+v", asked[0].Name, n.Name, first, out.CommandInvocations)
			}
		}
		one, err := invocation(t, through, id, m.Nodes[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if want := "out " + m.Nodes[0].ID + "\n"; *one.StandardOutputContent != want || *one.StandardErrorContent != "err\n" || one.ResponseCode != 0 {
			t.Errorf("output %q, error %q, code %d", *one.StandardOutputContent, *one.StandardErrorContent, one.ResponseCode)
		}
	}

	// The nodes themselves, paged, look the same from everywhere.
	var first []types.InstanceInformation
	for i, n := range asked {
		var all []types.InstanceInformation
		pages := ssm.NewDescribeInstanceInformationPaginator(n.Client(), &ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(5)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatalf("DescribeInstanceInformation through %s: %v", n.Name, err)
			}
			all = append(all, page.InstanceInformationList...)
		}
		for j := range all {
			all[j].LastPingDateTime = nil // moves on between two calls
			if all[j].PingStatus != types.PingStatusOnline {
				t.Errorf("%s is %s", *all[j].InstanceId, all[j].PingStatus)
			}
		}
		if len(all) != 7 {
			t.Errorf("%d nodes through %s, want 7", len(all), n.Name)
		}
		if i == 0 {
			first = all
		} else if !reflect.DeepEqual(first, all) {
			t.Errorf("nodes differ:\n%+v\n%+v", first, all)
		}
	}
	// Every node shows who is in role=web without the leader: from gossip.
	for _, n := range m.Nodes {
		m.Await(n.Name+" knows the tags of all", func() error {
			out, err := n.Mesh().Members(t.Context(), &meshapi.MembersInput{TagKey: "role", TagValue: "web"})
			if err == nil && len(out.Members) != 4 {
				err = fmt.Errorf("%d members in role=web", len(out.Members))
			}
			return err
		})
	}
}

// TestConcurrencyIsKept judges by what the nodes wrote, not by our counters.
func TestConcurrencyIsKept(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.Tags(roles))
	file := filepath.Join(t.TempDir(), "log")
	id := send(t, m.Nodes[3], ssm.SendCommandInput{Targets: []types.Target{{Key: aws.String("tag-key"), Values: []string{"role"}}}, MaxConcurrency: aws.String("2")},
		"echo start >> "+file, "sleep 0.3", "echo end >> "+file)
	done := awaitDone(t, m, m.Nodes[0], id)
	if done.Status != types.CommandStatusSuccess {
		t.Fatalf("%s (%s)", done.Status, *done.StatusDetails)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	running, most, starts := 0, 0, 0
	for _, line := range strings.Fields(string(data)) {
		if line == "start" {
			running++
			starts++
		} else {
			running--
		}
		most = max(most, running)
	}
	if starts != 4 || most > 2 {
		t.Errorf("%d starts, at most %d at once; want 4 and 2", starts, most)
	}
}

// TestErrorThresholdStops: nothing new starts once MaxErrors is passed.
func TestErrorThresholdStops(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.Tags(roles))
	file := filepath.Join(t.TempDir(), "log")
	id := send(t, m.Nodes[0], ssm.SendCommandInput{Targets: []types.Target{{Key: aws.String("tag-key"), Values: []string{"role"}}}, MaxConcurrency: aws.String("1"), MaxErrors: aws.String("1")},
		"echo x >> "+file, "exit 3")
	done := awaitDone(t, m, m.Nodes[1], id)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if started := strings.Count(string(data), "x"); started != 2 || done.Status != types.CommandStatusFailed || done.ErrorCount != 2 || done.CompletedCount != 4 {
		t.Errorf("%d started, command %s with %d errors, %d completed; want 2, Failed, 2, 4", started, done.Status, done.ErrorCount, done.CompletedCount)
	}
	var terminated int
	out, err := m.Nodes[0].Client().ListCommandInvocations(t.Context(), &ssm.ListCommandInvocationsInput{CommandId: &id})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range out.CommandInvocations {
		if *i.StatusDetails == "Terminated" {
			terminated++
		}
	}
	if terminated != 2 {
		t.Errorf("%d Terminated, want 2", terminated)
	}
}

// TestCancelKillsTheGroup: the script's children end too.
func TestCancelKillsTheGroup(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 2, meshtest.Tags(roles))
	file := filepath.Join(t.TempDir(), "pids")
	target := m.Nodes[1]
	id := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: []string{target.ID}}, "sleep 1000 & echo $! $$ > "+file+".new; mv "+file+".new "+file, "wait")
	var pids string
	m.Await("the script to start its child", func() error {
		data, err := os.ReadFile(file)
		pids = string(data)
		return err
	})
	if _, err := m.Nodes[1].Client().CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: &id}); err != nil {
		t.Fatal(err)
	}
	if done := awaitDone(t, m, m.Nodes[0], id); done.Status != types.CommandStatusCancelled {
		t.Errorf("command is %s (%s), want Cancelled", done.Status, *done.StatusDetails)
	}
	if got := awaitInvocation(t, m, m.Nodes[0], id, target.ID, types.CommandInvocationStatusCancelled); *got.StatusDetails != "Cancelled" {
		t.Errorf("details %s", *got.StatusDetails)
	}
	for _, pid := range strings.Fields(pids) {
		m.Await("process "+pid+" to be gone", func() error {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			if err == nil && !strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("it lives: %s", stat)
			}
			return nil
		})
	}
}

// TestExecutionTimeout ends the script and says so.
func TestExecutionTimeout(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 1)
	id := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: []string{m.Nodes[0].ID}, Parameters: map[string][]string{"executionTimeout": {"5"}}}, "echo before", "sleep 1000")
	got := awaitInvocation(t, m, m.Nodes[0], id, m.Nodes[0].ID, types.CommandInvocationStatusTimedOut)
	if *got.StatusDetails != "ExecutionTimedOut" || *got.StandardOutputContent != "before\n" {
		t.Errorf("details %q, output %q", *got.StatusDetails, *got.StandardOutputContent)
	}
	if done := awaitDone(t, m, m.Nodes[0], id); done.ErrorCount != 1 {
		t.Errorf("%d errors, want 1", done.ErrorCount)
	}
}

// TestAwayNodeGetsItLater: away is Pending, not failed; back is done, once.
func TestAwayNodeGetsItLater(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	away := m.Nodes[3]
	away.Stop()
	m.AwaitOnline(3)
	file := filepath.Join(t.TempDir(), "runs")
	id := send(t, m.Nodes[1], ssm.SendCommandInput{InstanceIds: []string{away.ID, m.Nodes[0].ID}}, "echo $AWS_SSM_INSTANCE_ID >> "+file)
	awaitInvocation(t, m, m.Nodes[1], id, m.Nodes[0].ID, types.CommandInvocationStatusSuccess)
	if got, err := invocation(t, m.Nodes[2], id, away.ID); err != nil || got.Status != types.CommandInvocationStatusPending {
		t.Fatalf("on the node that is away: %v, %v; want Pending", got, err)
	}
	away.Start()
	awaitInvocation(t, m, away, id, away.ID, types.CommandInvocationStatusSuccess)
	if done := awaitDone(t, m, m.Nodes[0], id); done.Status != types.CommandStatusSuccess {
		t.Errorf("command is %s", done.Status)
	}
	if data, _ := os.ReadFile(file); strings.Count(string(data), away.ID) != 1 {
		t.Errorf("ran %d times on the node that was away", strings.Count(string(data), away.ID))
	}
}

// TestScriptSurvivesRestart: meshd restarts in the middle; the outcome is true.
func TestScriptSurvivesRestart(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 2, meshtest.MemberOnly(1))
	dir := t.TempDir()
	node := m.Nodes[1]
	id := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: []string{node.ID}},
		"echo run >> "+dir+"/runs", "touch "+dir+"/started", "while [ ! -e "+dir+"/go ]; do sleep 0.05; done", "echo after", "exit 7")
	m.Await("the script to start", func() error { _, err := os.Stat(dir + "/started"); return err })
	node.Stop()
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	node.Start()
	got := awaitInvocation(t, m, m.Nodes[0], id, node.ID, types.CommandInvocationStatusFailed)
	if got.ResponseCode != 7 || *got.StandardOutputContent != "after\n" {
		t.Errorf("code %d, output %q; want 7 and after", got.ResponseCode, *got.StandardOutputContent)
	}
	if data, _ := os.ReadFile(dir + "/runs"); string(data) != "run\n" {
		t.Errorf("ran %q", data)
	}
}

// TestWholeOutputThroughAnyNode: more than the API keeps, followed live.
func TestWholeOutputThroughAnyNode(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 3, meshtest.MemberOnly(1, 2))
	dir := t.TempDir()
	target, through := m.Nodes[1], m.Nodes[2]
	id := send(t, through, ssm.SendCommandInput{InstanceIds: []string{target.ID}},
		"echo first", "while [ ! -e "+dir+"/go ]; do sleep 0.05; done", "seq 1 20000", "echo last")
	read := func(offset int64) *meshapi.ReadOutputOutput {
		var out *meshapi.ReadOutputOutput
		m.Await("output", func() error {
			var err error
			out, err = through.Mesh().ReadOutput(t.Context(), &meshapi.ReadOutputInput{CommandId: id, InstanceId: target.ID, Offset: offset, Wait: true})
			return err
		})
		return out
	}
	var whole strings.Builder
	var offset int64
	deadline := time.Now().Add(meshtest.Patience)
	for {
		out := read(offset)
		whole.Write(out.Data)
		offset = out.NextOffset
		if strings.HasPrefix(whole.String(), "first\n") && offset == 6 {
			if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out.Ended {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no end of the output after %s; %d bytes", meshtest.Patience, whole.Len())
		}
	}
	var want strings.Builder
	want.WriteString("first\n")
	for i := 1; i <= 20000; i++ {
		fmt.Fprintln(&want, i)
	}
	want.WriteString("last\n")
	if whole.String() != want.String() {
		t.Errorf("%d bytes of output, want %d", whole.Len(), want.Len())
	}
	got := awaitInvocation(t, m, through, id, target.ID, types.CommandInvocationStatusSuccess)
	if n := len([]rune(*got.StandardOutputContent)); n != 24000 {
		t.Errorf("the API keeps %d characters, want 24000", n)
	}
}
