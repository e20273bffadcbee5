package meshtest_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent"
	"fleetmesh/test/meshtest"
)

// clocks are the machines' clocks of a mesh, by node name; each may be set while
// its node runs.
type clocks map[string]*atomic.Int64

func newClocks(names ...string) clocks {
	c := clocks{}
	for _, name := range names {
		c[name] = &atomic.Int64{}
	}
	return c
}

func (c clocks) option() meshtest.Option {
	return meshtest.Configure(func(config *agent.Config) {
		wrong := c[config.NodeName]
		config.Now = func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
	})
}

func (c clocks) set(node *meshtest.Node, wrongBy time.Duration) { c[node.Name].Store(int64(wrongBy)) }

// awaitAdvice waits until the leader's advice holds all of the texts.
func awaitAdvice(t *testing.T, m *meshtest.Mesh, texts ...string) {
	t.Helper()
	m.Await("advice of "+strings.Join(texts, ", "), func() error {
		status, err := m.Leader().Status()
		if err != nil {
			return err
		}
		all := strings.Join(status.Advice, "\n")
		for _, text := range texts {
			if !strings.Contains(all, text) {
				return fmt.Errorf("%q is missing in %q", text, status.Advice)
			}
		}
		return nil
	})
}

// running counts the nodes that are up.
func running(m *meshtest.Mesh) (n int) {
	for _, node := range m.Nodes {
		if node.Agent != nil {
			n++
		}
	}
	return n
}

// lead makes one of three voters the leader: the only one that the present leader
// can hand over to.
func lead(t *testing.T, m *meshtest.Mesh, node *meshtest.Node) {
	t.Helper()
	voters := m.AwaitVoters(3).Voters
	for range 20 {
		if m.Leader() == node {
			return
		}
		var others []*meshtest.Node
		for _, id := range voters {
			if n := m.Node(id); n != node {
				others = append(others, n)
			}
		}
		if others[0] == m.Leader() {
			slices.Reverse(others)
		}
		for _, n := range others {
			n.Stop()
		}
		for _, n := range others {
			n.Start()
		}
		m.AwaitOnline(running(m))
	}
	t.Fatalf("%s does not come to lead", node.Name)
}

// runsOn proves that a command runs on the nodes, asked of each of them, and that
// what the mesh says about it is said in the right time.
func runsOn(t *testing.T, m *meshtest.Mesh, what string, nodes ...*meshtest.Node) {
	t.Helper()
	var ids []string
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	for _, through := range nodes {
		before := time.Now()
		out, err := through.Client().SendCommand(t.Context(), &ssm.SendCommandInput{
			DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: ids, TimeoutSeconds: aws.Int32(600),
			Parameters: map[string][]string{"commands": {"true"}},
		})
		if err != nil {
			t.Errorf("%s, through %s: %v", what, through.Name, err)
			continue
		}
		if at := *out.Command.RequestedDateTime; at.Before(before.Add(-time.Minute)) || at.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s, through %s: requested at %s, and it is %s", what, through.Name, at, before)
		}
		if done := awaitDone(t, m, through, *out.Command.CommandId); done.Status != types.CommandStatusSuccess {
			t.Errorf("%s, through %s: %s (%s)", what, through.Name, done.Status, *done.StatusDetails)
		}
	}
}

// TestClocksThatAreSetWrong: an hour either way on a leader, a voter and a member
// changes nothing that the mesh promises, whoever leads; and the advice names the
// nodes.
func TestClocksThatAreSetWrong(t *testing.T) {
	t.Parallel()
	c := newClocks("node1", "node2", "node3", "node4", "node5")
	m := meshtest.New(t, 5, meshtest.MemberOnly(3, 4), c.option())
	voters, member, away := slices.Clone(m.Nodes[:3]), m.Nodes[3], m.Nodes[4]
	here := append(slices.Clone(voters), member)
	m.AwaitVoters(3)
	away.Stop()
	waiting := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: []string{away.ID}, TimeoutSeconds: aws.Int32(900)}, "echo waited")
	stillWaits := func(what string) {
		t.Helper()
		inv, err := invocation(t, m.Nodes[0], waiting, away.ID)
		if err != nil {
			t.Fatal(err)
		}
		switch inv.Status {
		case types.CommandInvocationStatusPending, types.CommandInvocationStatusInProgress:
		default:
			t.Errorf("%s: what waits for a node that is away is %s (%s)", what, inv.Status, aws.ToString(inv.StatusDetails))
		}
	}

	leader := m.Leader()
	c.set(leader, time.Hour)
	c.set(member, -time.Hour)
	runsOn(t, m, "the leader's clock was set an hour ahead, a member's behind", here...)
	awaitAdvice(t, m, leader.Name+" ("+leader.ID+") is 1h0m0s ahead", member.Name+" ("+member.ID+") is 1h0m0s behind")
	stillWaits("the leader's clock was set ahead")
	c.set(leader, 0)
	for _, wrong := range []time.Duration{time.Hour, -time.Hour, 10 * 365 * 24 * time.Hour} {
		what := fmt.Sprintf("led by a node whose clock is wrong by %s", wrong)
		next := voters[0]
		if next == m.Leader() {
			next = voters[1]
		}
		c.set(next, wrong)
		lead(t, m, next)
		runsOn(t, m, what, here...)
		stillWaits(what)
		c.set(next, 0)
	}
	away.Start()
	got := awaitInvocation(t, m, m.Nodes[0], waiting, away.ID, types.CommandInvocationStatusSuccess)
	if *got.StandardOutputContent != "waited\n" {
		t.Errorf("it printed %q", *got.StandardOutputContent)
	}
}

// TestStartWithWrongClocks: a node that starts with a clock an hour off first asks
// the others, also when all start at once and it comes to lead.
func TestStartWithWrongClocks(t *testing.T) {
	t.Parallel()
	c := newClocks("node1", "node2", "node3")
	m := meshtest.New(t, 3, c.option())
	m.AwaitVoters(3)
	for i, wrong := range []time.Duration{time.Hour, -time.Hour} {
		for _, n := range m.Nodes {
			n.Stop()
			c.set(n, 0)
		}
		c.set(m.Nodes[i], wrong)
		for _, n := range m.Nodes {
			n.Start()
		}
		lead(t, m, m.Nodes[i])
		runsOn(t, m, fmt.Sprintf("%s started %s wrong", m.Nodes[i].Name, wrong), m.Nodes...)
	}
}

// TestMeshOfAWrongClock: a mesh that was made by a machine with a wrong clock takes
// the right time once most voters have it.
func TestMeshOfAWrongClock(t *testing.T) {
	t.Parallel()
	c := newClocks("node1", "node2", "node3")
	c["node1"].Store(int64(-10 * time.Minute)) // still within what signatures may differ by
	m := meshtest.New(t, 3, c.option())
	m.AwaitVoters(3)
	m.Await("the right time", func() error {
		out, err := m.Nodes[1].Client().SendCommand(t.Context(), &ssm.SendCommandInput{
			DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{m.Nodes[2].ID}, Parameters: map[string][]string{"commands": {"true"}},
		})
		if err == nil && time.Since(*out.Command.RequestedDateTime) > time.Minute {
			err = fmt.Errorf("it is %s there", out.Command.RequestedDateTime)
		}
		return err
	})
	awaitAdvice(t, m, "node1 ("+m.Nodes[0].ID+") is 10m0s behind")
}
