package leader

import (
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

// parseQuorum reads a quorum from words: "a" is this node. Per node:
//
//	name[/zone][:flags]   flags: v voter, s stand-by, m member only, r in the roster,
//	                      d dead for long, q silent for a moment, y young,
//	                      l lags, e empty, b blocked, x not enrolled, @ at a new address
func parseQuorum(text string, voters, standBys int) quorum {
	s := Settings{}.withDefaults()
	q := quorum{
		now: noon, self: "a", nodes: map[string]quorumNode{}, rostered: map[string]raftstore.RosterMember{},
		voters: voters, standBys: standBys, stableAfter: s.StableAfter, deadAfter: s.DeadAfter, transitFor: s.TransitFor,
	}
	for _, word := range strings.Fields(text) {
		name, flags, _ := strings.Cut(word, ":")
		id, zone, _ := strings.Cut(name, "/")
		has := func(f string) bool { return strings.Contains(flags, f) }
		n := quorumNode{
			id: id, address: id + ":1", publicKey: "key-" + id, zone: zone, memberOnly: has("m"),
			alive: !has("d") && !has("q"), since: noon.Add(-time.Hour), caughtUp: !has("l") && !has("e"), empty: has("e"), blocked: has("b"),
		}
		if has("q") || has("y") {
			n.since = noon
		}
		if has("v") || has("s") {
			q.servers = append(q.servers, raftstore.Server{ID: id, Address: n.address, Voter: has("v")})
			q.rostered[id] = raftstore.RosterMember{NodeID: id, Address: n.address, PublicKey: n.publicKey, StandBy: !has("v")}
		}
		if has("r") {
			q.rostered[id] = raftstore.RosterMember{NodeID: id, Address: n.address, PublicKey: n.publicKey, StandBy: true}
		}
		if has("@") {
			n.address = id + ":2"
		}
		if !has("x") {
			q.nodes[id] = n
		}
	}
	return q
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name             string
		quorum           string
		voters, standBys int
		even             time.Duration // since when the number is even
		want             string
	}{
		{"one node", "a:v", 5, 1, 0, ""},
		{"two nodes: the second stands by", "a:v b", 5, 1, 0, "prepare b"},
		{"two nodes at rest", "a:v b:s", 5, 1, 0, ""},
		{"a young node waits", "a:v b:y", 5, 1, 0, ""},
		{"a third node: two candidates are needed", "a:v b:s c", 5, 1, 0, "prepare c"},
		{"two candidates have caught up", "a:v b:s c:s", 5, 1, 0, "promote b"},
		{"one of them lags", "a:v b:s c:sl", 5, 1, 0, ""},
		{"the second follows at once", "a:v b:v c:s", 5, 1, 0, "promote c"},
		{"three at rest", "a:v b:v c:v", 5, 1, 0, ""},
		{"a fourth stands by", "a:v b:v c:v d", 5, 1, 0, "prepare d"},
		{"four at rest", "a:v b:v c:v d:s", 5, 1, 0, ""},
		{"a fifth: growth again", "a:v b:v c:v d:s e", 5, 1, 0, "prepare e"},
		{"to five", "a:v b:v c:v d:s e:s", 5, 1, 0, "promote d"},
		{"five at rest want a stand-by", "a:v b:v c:v d:v e:v f g", 5, 1, 0, "prepare f"},
		{"five and a stand-by", "a:v b:v c:v d:v e:v f:s g", 5, 1, 0, ""},
		{"more stand-bys are a setting", "a:v b:v c:v d:v e:v f:s g", 5, 2, 0, "prepare g"},
		{"no stand-bys are a setting", "a:v b:v c:v d", 3, -1, 0, ""},
		{"three are a setting", "a:v b:v c:v d:s e", 3, 1, 0, ""},
		{"fewer by setting", "a:v b:v c:v d:v e:v", 3, 1, 0, "demote e"},
		{"fewer by setting, on the way", "a:v b:v c:v d:v e:s", 3, 1, 0, "demote d"},
		{"fewer by setting, not while one is silent", "a:v b:v c:v d:v e:vq", 3, 1, 0, ""},

		{"member only is never prepared", "a:v b:m c:m", 5, 1, 0, ""},
		{"a member-only server leaves", "a:v b:v c:vm d:s", 5, 1, 0, "remove c"},
		{"a removed voter leaves", "a:v b:v c:vx", 5, 1, 0, "remove c"},
		{"a removed stand-by leaves", "a:v b:sx", 5, 1, 0, "remove b"},
		{"a removed leader hands over", "a:vx b:v c:v", 5, 1, 0, "hand-over b"},
		{"a removed leader alone stays", "a:vx", 5, 1, 0, ""},
		{"half a quorum after a removal is undone", "a:v b:v", 5, 1, time.Minute, "demote b"},

		{"silence for a moment", "a:v b:v c:vq d:s", 5, 1, 0, ""},
		{"a dead voter and no candidate", "a:v b:v c:vd", 5, 1, 0, ""},
		{"a dead voter and a member", "a:v b:v c:vd d", 5, 0, 0, "prepare d"},
		{"a dead voter and a stand-by", "a:v b:v c:vd d:s", 5, 1, 0, "promote d"},
		{"a stand-by that lags does not replace", "a:v b:v c:vd d:sl", 5, 1, 0, ""},
		{"replaced: the dead one leaves", "a:v b:v c:vd d:v", 5, 1, 0, "remove c"},
		{"two dead of five, one candidate", "a:v b:v c:v d:vd e:vd f:s", 5, 1, 0, "promote f"},
		{"on the way", "a:v b:v c:v d:vd e:vd f:v", 5, 1, 0, "remove d"},
		{"five with one dead are not made four", "a:v b:v c:v d:v e:vd", 5, 1, time.Hour, ""},
		{"three with one dead are not made two", "a:v b:v c:vd", 3, 1, time.Hour, ""},
		{"three with one dead do not grow", "a:v b:v c:vq d:s e:s", 5, 1, 0, ""},
		{"a dead stand-by is replaced", "a:v b:v c:v d:sd e", 3, 1, 0, "prepare e"},
		{"then leaves", "a:v b:v c:v d:sd e:s", 3, 1, 0, "remove d"},
		{"a dead stand-by alone stays", "a:v b:v c:v d:sd", 3, 1, 0, ""},
		{"this node is not dead", "a:vd b:v c:v d:s", 3, 1, 0, ""},

		{"half-finished growth goes on", "a:v b:v c:s", 5, 1, time.Minute, "promote c"},
		{"it waits for its candidate", "a:v b:v c:sl", 5, 1, time.Second, ""},
		{"it is undone", "a:v b:v c:sl", 5, 1, time.Minute, "demote b"},
		{"four voters wait", "a:v b:v c:v d:v", 5, 1, time.Second, ""},
		{"four voters are made three", "a:v b:v c:v d:v", 5, 1, time.Minute, "demote d"},
		{"not while one is silent", "a:v b:v c:v d:vq", 5, 1, time.Minute, ""},
		{"a dead one of four goes", "a:v b:v c:vd d:v", 5, 1, time.Minute, "remove c"},
		{"a preparation goes on where it was", "a:v b c:r", 5, 1, 0, "prepare c"},
		{"or is undone", "a:v b:v c:v d:s e:r", 3, 1, 0, "remove e"},
		{"a failed preparation is left alone", "a:v b:b c", 5, 1, 0, "prepare c"},
		{"more stand-bys than wanted", "a:v b:v c:v d:s e:s", 3, 1, 0, "remove e"},

		{"more stand-bys than wanted, but one may be needed", "a:v b:v c:vq d:s e:s", 3, 1, 0, ""},
		{"this node keeps its vote", "a:v B:v", 5, 1, time.Minute, "demote B"},
		{"the other of two is silent", "a:v b:vd", 5, 1, time.Minute, ""},

		{"a stand-by without a store", "a:v b:v c:v d:se", 3, 1, 0, "remove d"},

		{"a voter without a store, and a stand-by", "a:v b:v c:ve d:s", 3, 1, 0, "promote d"},
		{"replaced, it leaves", "a:v b:v c:ve d:v", 3, 1, 0, "remove c"},
		{"a voter without a store, and a candidate", "a:v b:v c:ve d", 3, 1, 0, "prepare d"},
		{"a voter without a store, and nobody else", "a:v b:v c:ve", 3, 1, 0, "remove c"},
		{"not while another is silent", "a:v b:vq c:ve", 3, 1, 0, ""},
		{"nor while another has none either", "a:v b:ve c:ve", 3, 1, 0, ""},
		{"two of five without a store", "a:v b:v c:v d:ve e:ve", 5, 1, 0, "remove d"},
		{"one of five without a store, one silent", "a:v b:v c:v d:vd e:ve", 5, 1, 0, "remove e"},
		{"then it comes back", "a:v b:v c", 3, 1, 0, "prepare c"},
		{"as a voter", "a:v b:v c:s", 3, 1, 0, "promote c"},
		{"two voters, and one without a store", "a:v b:ve", 5, 1, 0, "remove b"},
		{"four voters, and one without a store", "a:v b:v c:v d:ve", 5, 1, 0, "remove d"},

		{"a new address", "a:v b:v@ c:v", 5, 1, 0, "readdress b"},
		{"a dead one's new address", "a:v b:v c:vd@ d:s", 5, 1, 0, "readdress c"},

		{"candidates of new zones first", "a/x:v b/x:s c/y:s", 3, 1, 0, "promote c"},
		{"stand-bys of new zones first", "a/x:v b/x c/y", 3, 1, 0, "prepare c"},
		{"two zones too crowded: prepare a better one", "a/x:v b/x:v c/x:v d/x:s e/y", 3, 1, 0, "prepare e"},
		{"promote it", "a/x:v b/x:v c/x:v d/x:s e/y:s", 3, 1, 0, "promote e"},
		{"then one of the crowded zone goes", "a/x:v b/x:v c/x:v d/x:s e/y:v", 3, 1, 0, "demote c"},
		{"two and one is as good as it gets", "a/x:v b/x:v e/y:v d/x:s", 3, 1, 0, ""},
		{"a third zone is better", "a/x:v b/x:v e/y:v d/z:s", 3, 1, 0, "promote d"},
		{"spread is no reason while one is silent", "a/x:v b/x:v c/x:vq e/y:s", 3, 1, 0, ""},
		{"no zones, no moves", "a:v b:v c:v d:s", 3, 1, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := parseQuorum(c.quorum, c.voters, c.standBys)
			if len(q.voting())%2 == 0 {
				q.evenSince = noon.Add(-c.even)
			}
			s := plan(q)
			if got := strings.TrimSpace(string(s.kind) + " " + s.nodeID); got != c.want {
				t.Errorf("%s: planned %q (%s), want %q", c.quorum, got, s.why, c.want)
			}
			if s.kind != stepNone && s.why == "" {
				t.Error("a step without a reason")
			}
		})
	}
}

func TestPlanMendsTheRoster(t *testing.T) {
	for name, change := range map[string]func(*raftstore.RosterMember){
		"a voter listed as stand-by": func(m *raftstore.RosterMember) { m.StandBy = true },
		"an old address":             func(m *raftstore.RosterMember) { m.Address = "old" },
		"another key":                func(m *raftstore.RosterMember) { m.PublicKey = "old" },
	} {
		q := parseQuorum("a:v b:v c:v", 3, 1)
		m := q.rostered["b"]
		change(&m)
		q.rostered["b"] = m
		if s := plan(q); s.kind != stepRoster || s.nodeID != "b" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	q := parseQuorum("a:v b:v c:v", 3, 1)
	delete(q.rostered, "c")
	if s := plan(q); s.kind != stepRoster || s.nodeID != "c" {
		t.Errorf("a server that is not listed: %+v", s)
	}
}
