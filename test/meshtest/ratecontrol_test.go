package meshtest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/test/meshtest"
)

var rateNodes = flag.Int("rate.nodes", 40, "nodes of TestRateControl; 200 is the size that the promise names")

// TestRateControl: on many nodes, with a tenth of them at once and three errors
// allowed, nodes fail by chance while leaders stop. The times that the nodes wrote
// themselves keep the bounds, nothing runs twice, and the counters are those of the
// invocations.
func TestRateControl(t *testing.T) {
	const allowed = 3
	nodes := *rateNodes
	concurrency := nodes / 10
	seed := *changeSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1<<32)
	}
	t.Logf("-seed %d, %d nodes", seed, nodes)
	chance := rand.New(rand.NewPCG(seed, 1))
	var members []int
	for i := 5; i < nodes; i++ {
		members = append(members, i)
	}
	began := time.Now()
	m := meshtest.New(t, nodes, meshtest.MemberOnly(members...))
	m.AwaitVoters(5)
	t.Logf("%d nodes are online after %s", nodes, time.Since(began).Round(time.Millisecond))
	client := retryingClient(t, m)
	file := filepath.Join(t.TempDir(), "ledger")
	// How many nodes fail: none, as many as are allowed, more than that, most.
	failing := []int{0, allowed, 2 * allowed, nodes / 2}
	ids := make([]string, len(failing))
	bad := make([]map[string]bool, len(failing))
	for i, count := range failing {
		bad[i] = map[string]bool{}
		var patterns []string
		for _, n := range chance.Perm(nodes)[:count] {
			bad[i][m.Nodes[n].ID] = true
			patterns = append(patterns, m.Nodes[n].ID)
		}
		script := []string{
			fmt.Sprintf("echo start c%d $AWS_SSM_INSTANCE_ID $(date +%%s%%N) >> %s", i, file),
			fmt.Sprintf("sleep 0.%d", 1+chance.IntN(3)),
			fmt.Sprintf("echo end c%d $AWS_SSM_INSTANCE_ID $(date +%%s%%N) >> %s", i, file),
		}
		if count > 0 {
			script = append(script, "case $AWS_SSM_INSTANCE_ID in "+strings.Join(patterns, "|")+") exit 1;; esac")
		}
		out, err := client.SendCommand(t.Context(), &ssm.SendCommandInput{
			DocumentName: aws.String("AWS-RunShellScript"), Targets: []types.Target{{Key: aws.String("InstanceIds"), Values: []string{"*"}}},
			MaxConcurrency: aws.String("10%"), MaxErrors: aws.String(fmt.Sprint(allowed)), Parameters: map[string][]string{"commands": script},
		})
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = *out.Command.CommandId
	}
	changes := 0
	for ; !ended(t, client, len(ids)); changes++ {
		leader := m.Leader()
		leader.Stop()
		time.Sleep(time.Duration(chance.IntN(1500)) * time.Millisecond) // how long it is away is the fault
		leader.Start()
		time.Sleep(time.Duration(1000+chance.IntN(3000)) * time.Millisecond)
		if t.Failed() {
			return
		}
	}
	runs := readLedger(t, file)
	for i, id := range ids {
		name := fmt.Sprintf("c%d", i)
		done := awaitDone(t, m, m.Nodes[0], id)
		if count := proveCommand(t, client, name, done, runs[name], concurrency); count != nodes {
			t.Errorf("%s has %d invocations", name, count)
		}
		failed := 0
		for id := range runs[name] {
			if bad[i][id] {
				failed++
			}
		}
		ran, errors := len(runs[name]), int(done.ErrorCount)
		t.Logf("%s: %s/%s, ran on %d, %d errors", name, done.Status, *done.StatusDetails, ran, errors)
		switch {
		case failed != errors:
			t.Errorf("%s failed on %d nodes and counts %d errors", name, failed, errors)
		case failing[i] <= allowed && ran != nodes:
			t.Errorf("%s ran on %d of %d nodes, with %d errors", name, ran, nodes, errors)
		case failing[i] <= allowed:
		case errors <= allowed || errors > allowed+concurrency:
			t.Errorf("%s was stopped by %d errors, %d are allowed and %d run at once", name, errors, allowed, concurrency)
		case done.Status != types.CommandStatusFailed:
			t.Errorf("%s is %s", name, done.Status)
		}
		if failing[i] == nodes/2 && ran == nodes {
			t.Errorf("%s ran everywhere, though every second node fails", name)
		}
	}
	if changes == 0 {
		t.Error("no leader was stopped meanwhile")
	}
	t.Logf("%d leaders stopped", changes)
	for _, line := range m.Errors() {
		t.Errorf("logged: %s", line)
	}
}
