package leader

import (
	"cmp"
	"slices"
	"time"

	"fleetmesh/raftstore"
)

// quorum is all that the plan of the quorum depends on.
type quorum struct {
	now  time.Time
	self string
	// servers are Raft's; nodes are the enrolled ones, by id.
	servers []raftstore.Server
	nodes   map[string]quorumNode
	// rostered are the nodes that the roster lists.
	rostered map[string]raftstore.RosterMember

	voters, standBys                   int
	stableAfter, deadAfter, transitFor time.Duration
	// evenSince is since when the number of voters is even; zero when it is odd.
	evenSince time.Time
}

// quorumNode is an enrolled node in the eyes of the plan.
type quorumNode struct {
	id, address, publicKey, zone string
	memberOnly                   bool
	// alive since, or else silent since.
	alive bool
	since time.Time
	// caughtUp: its store follows closely. Asked only of servers without a vote.
	caughtUp bool
	// empty: it is alive, and has said for long that it has no store any more. What
	// it has promised as a voter is gone with it, so it must not go on as one.
	empty bool
	// blocked: a step with it has failed and is not to be tried yet.
	blocked bool
}

type stepKind string

const (
	// stepNone: nothing to do, or nothing yet.
	stepNone stepKind = ""
	// stepPrepare makes a member a stand-by: secrets, roster, non-voter in Raft.
	stepPrepare stepKind = "prepare"
	// stepPromote gives a stand-by its vote.
	stepPromote stepKind = "promote"
	// stepDemote takes a voter's vote; it stays as stand-by for the moment.
	stepDemote stepKind = "demote"
	// stepRemove takes a node out of Raft and the roster.
	stepRemove stepKind = "remove"
	// stepReaddress gives a server the address of its record.
	stepReaddress stepKind = "readdress"
	// stepRoster makes the roster's entries agree with Raft's servers.
	stepRoster stepKind = "roster"
	// stepHandOver gives the leadership away, since this node must leave.
	stepHandOver stepKind = "hand-over"
)

// step is one change of the quorum, and why.
type step struct {
	kind   stepKind
	nodeID string
	why    string
}

// plan returns the next single step towards the quorum at rest: 1, 3 or 5 voters,
// spread over zones, and stand-bys. It never makes the quorum smaller because
// nodes are silent: a silent voter leaves only when a caught-up one has come in
// its place, or when that ends an even number. Steps to an odd number of voters
// come before any that leads away from one. What an earlier leader began is seen
// in servers and roster, and finished or undone by the same rules.
func plan(q quorum) step {
	if s := q.leavers(); s.kind != stepNone {
		return s
	}
	if s := q.disagreements(); s.kind != stepNone {
		return s
	}
	voters := q.voting()
	if len(voters) == 0 {
		return step{}
	}
	ready := q.ready(voters)
	var s step
	if len(voters)%2 == 0 {
		s = q.makeOdd(voters, ready)
	} else {
		s = q.fromOdd(voters, ready)
	}
	if s.kind != stepNone {
		return s
	}
	return q.follow(voters)
}

// leavers: servers that are deregistered, or may not vote, leave at once. Their
// connections are cut already, so a voter that stays would only count as dead.
func (q *quorum) leavers() step {
	for _, s := range q.servers {
		n, enrolled := q.nodes[s.ID]
		if enrolled && !n.memberOnly {
			continue
		}
		why := "it was removed from the mesh"
		if enrolled {
			why = "it is member only"
		}
		if s.ID != q.self {
			return step{stepRemove, s.ID, why}
		}
		for _, v := range q.voting() {
			if v.id != q.self && v.alive && !v.blocked {
				return step{stepHandOver, v.id, why}
			}
		}
	}
	return step{}
}

func (q *quorum) disagreements() step {
	for _, s := range q.servers {
		n := q.nodes[s.ID]
		if n.address != "" && n.address != s.Address {
			return step{stepReaddress, s.ID, "its address is now " + n.address}
		}
	}
	for _, s := range q.servers {
		n, enrolled := q.nodes[s.ID]
		m, listed := q.rostered[s.ID]
		if enrolled && (!listed || m.StandBy == s.Voter || m.Address != n.address || m.PublicKey != n.publicKey) {
			return step{stepRoster, s.ID, "the roster lags behind Raft"}
		}
	}
	for _, n := range q.following() {
		if n.empty {
			return step{stepRemove, n.id, "it has lost its store, and must be prepared anew"}
		}
	}
	return step{}
}

func (q *quorum) voting() []quorumNode    { return q.serving(true) }
func (q *quorum) following() []quorumNode { return q.serving(false) }

func (q *quorum) serving(voter bool) []quorumNode {
	var list []quorumNode
	for _, s := range q.servers {
		if s.Voter == voter {
			n := q.nodes[s.ID]
			n.id = s.ID
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b quorumNode) int { return cmp.Compare(a.id, b.id) })
	return list
}

// dead: silent for so long that another takes its place. This node is not.
func (q *quorum) dead(n quorumNode) bool {
	return n.id != q.self && (n.empty || !n.alive && q.now.Sub(n.since) >= q.deadAfter)
}

// stable: alive for long enough to build on.
func (q *quorum) stable(n quorumNode) bool {
	return n.alive && q.now.Sub(n.since) >= q.stableAfter
}

// ready are the stand-bys that may vote now, the best first.
func (q *quorum) ready(voters []quorumNode) []quorumNode {
	list := slices.DeleteFunc(q.following(), func(n quorumNode) bool {
		return !q.stable(n) || !n.caughtUp || n.blocked
	})
	sortByZone(list, zones(voters, q.dead))
	return list
}

// zones counts the voters in each zone, without those that skip says.
func zones(voters []quorumNode, skip func(quorumNode) bool) map[string]int {
	count := map[string]int{}
	for _, v := range voters {
		if !skip(v) {
			count[v.zone]++
		}
	}
	return count
}

// sortByZone puts those in the least covered zones first.
func sortByZone(list []quorumNode, count map[string]int) {
	slices.SortStableFunc(list, func(a, b quorumNode) int {
		if n := cmp.Compare(count[a.zone], count[b.zone]); n != 0 {
			return n
		}
		return cmp.Compare(a.id, b.id)
	})
}

func (q *quorum) silent(n quorumNode) bool { return n.id != q.self && (n.empty || !n.alive) }

// emptyOne is a voter that has lost its store, when the others can do without it:
// it would only count as dead, and what it had promised it might break.
func (q *quorum) emptyOne(voters []quorumNode) (empty quorumNode, ok bool) {
	living := 0
	for _, v := range voters {
		switch {
		case !q.silent(v):
			living++
		case v.empty && !ok:
			empty, ok = v, true
		}
	}
	return empty, ok && living >= (len(voters)-1)/2+1
}

func (q *quorum) allAlive(voters []quorumNode) bool {
	return !slices.ContainsFunc(voters, q.silent)
}

// makeOdd finishes what is half done, or undoes it.
func (q *quorum) makeOdd(voters, ready []quorumNode) step {
	n := len(voters)
	if n > 2 {
		for _, v := range voters {
			if q.dead(v) {
				return step{stepRemove, v.id, "it is silent and another votes in its place"}
			}
		}
	}
	if v, ok := q.emptyOne(voters); ok {
		return step{stepRemove, v.id, "it has lost its store, and must be prepared anew"}
	}
	if n+1 <= q.voters && len(ready) > 0 {
		return step{stepPromote, ready[0].id, "it makes the number of voters odd"}
	}
	if !q.allAlive(voters) {
		return step{}
	}
	if n > q.voters || !q.evenSince.IsZero() && q.now.Sub(q.evenSince) >= q.transitFor {
		return q.demoteOne(voters, "the number of voters must be odd")
	}
	return step{}
}

// demoteOne takes the vote of one in the most crowded zone.
func (q *quorum) demoteOne(voters []quorumNode, why string) step {
	count := zones(voters, func(quorumNode) bool { return false })
	var worst quorumNode
	for _, v := range voters {
		if v.id == q.self || v.blocked {
			continue
		}
		if worst.id == "" || count[v.zone] >= count[worst.zone] {
			worst = v
		}
	}
	if worst.id == "" {
		return step{}
	}
	return step{stepDemote, worst.id, why}
}

// fromOdd grows, shrinks by setting, replaces or spreads.
func (q *quorum) fromOdd(voters, ready []quorumNode) step {
	n := len(voters)
	alive := q.allAlive(voters)
	if n > q.voters && alive {
		return q.demoteOne(voters, "the mesh is set to fewer voters")
	}
	if v, ok := q.emptyOne(voters); ok && len(q.successors(voters)) == 0 {
		return step{stepRemove, v.id, "it has lost its store, nobody can vote in its place, and it must be prepared anew"}
	}
	if len(ready) == 0 {
		return step{}
	}
	if slices.ContainsFunc(voters, q.dead) {
		return step{stepPromote, ready[0].id, "it votes in place of a silent voter"}
	}
	if !alive {
		return step{}
	}
	if n+2 <= q.voters && len(ready) >= 2 {
		return step{stepPromote, ready[0].id, "two candidates have caught up"}
	}
	if n >= 3 && spreads(voters, ready[0]) {
		return step{stepPromote, ready[0].id, "it spreads the voters over more zones"}
	}
	return step{}
}

// spreads reports whether the voters would be spread better if n voted in place
// of one of them.
func spreads(voters []quorumNode, n quorumNode) bool {
	count := zones(voters, func(quorumNode) bool { return false })
	most := 0
	for _, c := range count {
		most = max(most, c)
	}
	return most-count[n.zone] >= 2
}

// follow keeps as many stand-bys as are wanted: the setting's number, or what the
// next step of the voters needs, whichever is more.
func (q *quorum) follow(voters []quorumNode) step {
	following := q.following()
	near := slices.DeleteFunc(slices.Clone(following), q.dead)
	candidates := q.candidates(voters)
	n := len(voters)
	want := max(q.standBys, 0)
	disturbed := n%2 == 0 || !q.allAlive(voters)
	switch {
	case n%2 == 1 && n+2 <= q.voters && len(near)+len(candidates) >= 2:
		want = max(want, 2)
	case n%2 == 0 && n+1 <= q.voters, slices.ContainsFunc(voters, q.dead):
		want = max(want, 1)
	}
	better := func(c quorumNode) bool { return spreads(voters, c) }
	if n >= 3 && !disturbed && slices.ContainsFunc(candidates, better) && !slices.ContainsFunc(near, better) {
		want = max(want, len(near)+1)
	}
	if len(near) < want && len(candidates) > 0 {
		return step{stepPrepare, candidates[0].id, "the mesh wants another stand-by"}
	}
	if disturbed {
		return step{}
	}
	return q.surplus(voters, following, near, want)
}

// successors are the nodes that may come to vote in another's place.
func (q *quorum) successors(voters []quorumNode) []quorumNode {
	near := slices.DeleteFunc(q.following(), func(n quorumNode) bool { return q.dead(n) || n.blocked })
	return append(near, q.candidates(voters)...)
}

// candidates are the nodes that may become stand-bys now: the ones that an earlier
// leader began with first, then by zone.
func (q *quorum) candidates(voters []quorumNode) []quorumNode {
	serving := map[string]bool{}
	for _, s := range q.servers {
		serving[s.ID] = true
	}
	var list []quorumNode
	for _, n := range q.nodes {
		if !serving[n.id] && !n.memberOnly && !n.blocked && q.stable(n) {
			list = append(list, n)
		}
	}
	sortByZone(list, zones(append(slices.Clone(voters), q.following()...), q.dead))
	slices.SortStableFunc(list, func(a, b quorumNode) int {
		_, begunA := q.rostered[a.id]
		_, begunB := q.rostered[b.id]
		switch {
		case begunA && !begunB:
			return -1
		case begunB && !begunA:
			return 1
		}
		return 0
	})
	return list
}

// surplus removes one stand-by that is not wanted: silent ones first, then those
// whose preparation was never finished, then those in the most crowded zones.
func (q *quorum) surplus(voters, following, near []quorumNode, want int) step {
	if len(near) < want {
		return step{}
	}
	for _, n := range following {
		if q.dead(n) {
			return step{stepRemove, n.id, "it is silent and another stands by in its place"}
		}
	}
	for _, id := range slices.Sorted(keys(q.rostered)) {
		if !slices.ContainsFunc(q.servers, func(s raftstore.Server) bool { return s.ID == id }) {
			return step{stepRemove, id, "it was to stand by and is not needed"}
		}
	}
	if len(near) > want {
		sortByZone(near, zones(voters, q.dead))
		return step{stepRemove, near[len(near)-1].id, "the mesh has more stand-bys than it wants"}
	}
	return step{}
}
