package meshtest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent"
	"fleetmesh/agent/meshapi"
	"fleetmesh/test/meshtest"
)

// quickly replaces voters as soon as settings allow.
func quickly(config *agent.Config) { config.VoterDeadAfter = agent.Duration(5 * time.Second) }

// wipe deletes a node's store, and nothing else.
func wipe(t *testing.T, n *meshtest.Node) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(n.Config.DataDir, "store")); err != nil {
		t.Fatal(err)
	}
}

// TestLostStore: a voter whose store was deleted does not go on with an empty one,
// as if it had never promised anything: it leaves the quorum and is prepared anew,
// by itself, also when there is nobody to vote in its place.
func TestLostStore(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 3, meshtest.Configure(quickly))
	m.AwaitVoters(3)
	id := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: []string{m.Nodes[0].ID}}, "echo kept")
	awaitDone(t, m, m.Nodes[0], id)
	// tolerates: three voters, all of which hold the store.
	comesBack := func(lost *meshtest.Node) {
		t.Helper()
		var left bool
		m.Await(lost.Name+" to leave the quorum and to come back", func() error {
			status, err := m.Leader().Status()
			if err != nil {
				return err
			}
			left = left || !slices.Contains(status.Voters, lost.ID)
			switch {
			case !left:
				return fmt.Errorf("it still votes; advice %q", status.Advice)
			case len(status.Voters) != 3 || status.FailureTolerance != 1:
				return fmt.Errorf("voters %v, stand-bys %v", status.Voters, status.StandBys)
			}
			return nil
		})
		if _, err := os.Stat(filepath.Join(lost.Config.DataDir, "store", "raft.db")); err != nil {
			t.Error(err)
		}
		if c, err := command(t, lost, id); err != nil || c.Status != types.CommandStatusSuccess {
			t.Errorf("through %s: %v, %v", lost.Name, c.Status, err)
		}
	}
	leader := m.Leader()
	lost := m.Nodes[slices.IndexFunc(m.Nodes, func(n *meshtest.Node) bool { return n != leader })]
	lost.Stop()
	wipe(t, lost)
	lost.Start()
	awaitAdvice(t, m, "no store any more: "+lost.Name+" ("+lost.ID+")")
	comesBack(lost)

	// Under a running node, the leader too.
	leader = m.Leader()
	wipe(t, leader)
	comesBack(leader)
}

// TestLostStoreDoesNotVote: two of three voters, one of which has lost what it
// promised, are no majority.
func TestLostStoreDoesNotVote(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	m.AwaitVoters(3)
	leader := m.Leader()
	var others []*meshtest.Node
	for _, n := range m.Nodes[:3] {
		if n != leader {
			others = append(others, n)
		}
	}
	behind, lost := others[0], others[1]
	behind.Stop()
	if _, err := leader.Mesh().CreateActivation(t.Context(), &meshapi.CreateActivationInput{Description: "acknowledged"}); err != nil {
		t.Fatal(err)
	}
	lost.Stop()
	leader.Stop()
	wipe(t, lost)
	lost.Start()
	behind.Start()
	m.Await("each to see the other", func() error {
		for _, n := range []*meshtest.Node{lost, behind} {
			status, err := n.Socket().Status(t.Context(), &meshapi.StatusInput{})
			if err != nil {
				return err
			}
			if status.Nodes.Online < 3 {
				return fmt.Errorf("%s sees %d", n.Name, status.Nodes.Online)
			}
		}
		return nil
	})
	within(t, time.Minute, "an answer without a leader", func() {
		for range 6 { // elections: the time-outs of the client are longer than theirs
			_, err := behind.Client().DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{})
			if err == nil {
				t.Fatal("a voter without its promises has helped to elect one that lacks an acknowledged write")
			}
			wantCode(t, err, "ServiceUnavailable")
		}
	})
	leader.Start()
	m.Await("the activation", func() error {
		out, err := behind.Client().DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{})
		if err != nil {
			return err
		}
		for _, a := range out.ActivationList {
			if a.Description != nil && *a.Description == "acknowledged" {
				return nil
			}
		}
		return errors.New("it is lost")
	})
}
