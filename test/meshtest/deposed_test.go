package meshtest_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/peer"
	"fleetmesh/test/meshtest"
)

// TestDeposedLeaderIsRefused: a leader that was deposed, does not know it, and is
// a voter still, goes on giving orders. Nodes that have heard of its successor
// refuse all of them by its term, also after a restart.
func TestDeposedLeaderIsRefused(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	m.AwaitVoters(3)
	deposed := m.Leader()
	s := steal(t, deposed)
	was := peer.Fence{Term: s.gate.Term(), Epoch: 1}
	deposed.Stop()
	var others []*meshtest.Node
	var ids []string
	for _, n := range m.Nodes {
		if n != deposed {
			others, ids = append(others, n), append(ids, n.ID)
		}
	}
	successor := m.Leader()
	id := send(t, successor, ssm.SendCommandInput{InstanceIds: ids}, "true")
	if done := awaitDone(t, m, successor, id); done.Status != types.CommandStatusSuccess {
		t.Fatalf("the successor's command is %s", done.Status)
	}
	refused := func() {
		t.Helper()
		for _, n := range others {
			for what, err := range s.ordersBehind(n, was) {
				var refusal *peer.Refusal
				if !errors.As(err, &refusal) || refusal.Kind != peer.RefusedStaleTerm {
					t.Errorf("%s at %s: %v, want it refused by its term", what, n.Name, err)
				}
			}
		}
	}
	refused()
	for _, n := range others {
		n.Stop()
	}
	for _, n := range others {
		n.Start()
	}
	refused()
	deposed.Start()
	m.AwaitOnline(4)
}
