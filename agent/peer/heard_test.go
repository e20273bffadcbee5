package peer

import (
	"context"
	"testing"
)

// links counts the connections that a node has from another.
func (n *node) linksFrom(caller *node) int {
	n.server.links.mu.Lock()
	defer n.server.links.mu.Unlock()
	return n.server.links.callers[caller.Identity().PublicKey]
}

// Who calls as the leader is who is called, over a connection that is there
// already, until it turns out that another leads.
func TestHeardLeaderIsGreetedAndAskedFirst(t *testing.T) {
	m := newMesh(t)
	a, b, c, member := m.newNode(true), m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, a, b, c))
	others := func(not *node) (asked int) {
		for _, n := range []*node{a, b, c} {
			if n != not {
				asked += n.handlers.seen(routeReport) + n.handlers.seen(routeForward)
			}
		}
		return asked
	}
	for term, leader := range []*node{c, a, b, a} {
		before := others(leader)
		if err := leaderCalls[routeRoster](testContext(t), leader.client, member.target(), Fence{Term: uint64(term + 1)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the leader is greeted", func() bool { return leader.linksFrom(member) > 0 })
		if _, err := member.client.Report(testContext(t), &ReportRequest{}); err != nil {
			t.Fatal(err)
		}
		if asked := others(leader) - before; asked != 0 {
			t.Errorf("others than the leader were asked %d times", asked)
		}
	}
	// a was heard last, and b leads now without having called anybody.
	a.handlers.forward = notLeading(b)
	for range 3 {
		if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, false); err != nil {
			t.Fatal(err)
		}
	}
	if asked := a.handlers.seen(routeForward); asked != 1 {
		t.Errorf("a node that does not lead was asked %d times, want once", asked)
	}
	// A leader that the roster does not name is called by nobody.
	member.gate.hearLeader("mi-00000000000000bad")
	if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, false); err != nil {
		t.Error(err)
	}
}

// A node that is refused by its fence is no leader.
func TestDeposedLeaderIsNotHeard(t *testing.T) {
	m := newMesh(t)
	a, b, member := m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, a, b))
	if err := leaderCalls[routeRoster](testContext(t), b.client, member.target(), Fence{Term: 7}); err != nil {
		t.Fatal(err)
	}
	for route, call := range leaderCalls {
		if err := call(context.Background(), a.client, member.target(), Fence{Term: 6}); !isRefusal(err) {
			t.Errorf("%s: %v, want a refusal", route, err)
		}
	}
	if heard := member.gate.leader.Load(); heard == nil || *heard != b.nodeID {
		t.Errorf("heard %v, want %s", heard, b.nodeID)
	}
}
