package meshtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/test/meshtest"
)

// overSocket is the stock client on a node's local socket, where no signature tells
// the time.
func overSocket(n *meshtest.Node) *ssm.Client {
	return ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://localhost"), HTTPClient: n.SocketClient(),
		Credentials: credentials.NewStaticCredentialsProvider("unused", "unused", ""), Retryer: aws.NopRetryer{},
	})
}

// TestAWindowOverTwoDays: the cutoff cancels what runs, and the next day's opening does
// what is left, and that alone. The machines' clocks are set; the mesh follows.
func TestAWindowOverTwoDays(t *testing.T) {
	t.Parallel()
	c := newClocks("node1", "node2", "node3")
	m := meshtest.New(t, 3, meshtest.MemberOnly(1, 2), meshtest.Tags(func(int) map[string]string { return map[string]string{"role": "web"} }), c.option())
	client := overSocket(m.Nodes[0])
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	made, err := client.CreateMaintenanceWindow(t.Context(), &ssm.CreateMaintenanceWindowInput{
		Name: aws.String("nightly"), Schedule: aws.String("cron(0 2 * * ? *)"), Duration: aws.Int32(2), Cutoff: 1,
		Tags: []types.Tag{{Key: aws.String("mesh:resume"), Value: aws.String("true")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	target, err := client.RegisterTargetWithMaintenanceWindow(t.Context(), &ssm.RegisterTargetWithMaintenanceWindowInput{
		WindowId: made.WindowId, ResourceType: types.MaintenanceWindowResourceTypeInstance, Targets: []types.Target{{Key: aws.String("tag:role"), Values: []string{"web"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// The first node is done at once, those after it wait.
	script := fmt.Sprintf(`echo $AWS_SSM_INSTANCE_ID >> %s; mkdir %s 2>/dev/null && exit 0; while [ ! -e %s ]; do sleep 0.05; done`, path("runs"), path("first"), path("release"))
	if _, err := client.RegisterTaskWithMaintenanceWindow(t.Context(), &ssm.RegisterTaskWithMaintenanceWindowInput{
		WindowId: made.WindowId, TaskArn: aws.String("AWS-RunShellScript"), TaskType: types.MaintenanceWindowTaskTypeRunCommand,
		Targets:        []types.Target{{Key: aws.String("WindowTargetIds"), Values: []string{*target.WindowTargetId}}},
		MaxConcurrency: aws.String("1"), MaxErrors: aws.String("0"), CutoffBehavior: types.MaintenanceWindowTaskCutoffBehaviorCancelTask,
		TaskInvocationParameters: &types.MaintenanceWindowTaskInvocationParameters{RunCommand: &types.MaintenanceWindowRunCommandParameters{
			Parameters: map[string][]string{"commands": {script}}, TimeoutSeconds: aws.Int32(2592000),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	// runs waits until so many nodes have begun, and returns them.
	runs := func(n int) (nodes []string) {
		t.Helper()
		m.Await(fmt.Sprintf("%d runs", n), func() error {
			data, _ := os.ReadFile(path("runs"))
			if nodes = strings.Fields(string(data)); len(nodes) < n {
				return fmt.Errorf("%q", nodes)
			}
			return nil
		})
		return nodes
	}
	executions := func(want ...types.MaintenanceWindowExecutionStatus) (all []types.MaintenanceWindowExecution) {
		t.Helper()
		m.Await(fmt.Sprintf("executions %v", want), func() error {
			out, err := client.DescribeMaintenanceWindowExecutions(t.Context(), &ssm.DescribeMaintenanceWindowExecutionsInput{WindowId: made.WindowId})
			if err != nil {
				return err
			}
			var got []types.MaintenanceWindowExecutionStatus
			for _, x := range out.WindowExecutions {
				got = append(got, x.Status)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("%v", got)
			}
			all = out.WindowExecutions
			return nil
		})
		return all
	}
	now := time.Now().UTC()
	opening := time.Date(now.Year(), now.Month(), now.Day(), 2, 0, 0, 0, time.UTC)
	for !opening.After(now.Add(time.Minute)) { // not one that comes while this test runs
		opening = opening.AddDate(0, 0, 1)
	}
	become := func(at time.Time) {
		for _, n := range m.Nodes {
			c.set(n, time.Until(at))
		}
	}
	become(opening.Add(10 * time.Second))
	begun := runs(2)
	executions(types.MaintenanceWindowExecutionStatusInProgress)
	become(opening.Add(time.Hour + 10*time.Second))
	executions(types.MaintenanceWindowExecutionStatusTimedOut)
	if err := os.WriteFile(path("release"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	become(opening.Add(24*time.Hour + 10*time.Second))
	all := executions(types.MaintenanceWindowExecutionStatusSuccess, types.MaintenanceWindowExecutionStatusTimedOut)
	if all[0].StatusDetails != nil {
		t.Errorf("the second day: %s", *all[0].StatusDetails)
	}
	times := map[string]int{}
	for _, id := range runs(4) {
		times[id]++
	}
	for _, n := range m.Nodes {
		want := 1
		if n.ID == begun[1] {
			want = 2 // cancelled, and done again
		}
		if times[n.ID] != want {
			t.Errorf("%d runs on %s, want %d; on the first day %v, of all %v", times[n.ID], n.ID, want, begun, times)
		}
	}
}
