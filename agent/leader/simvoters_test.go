package leader

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

var (
	planSeeds = flag.Int("plan.seeds", 1000, "random schedules of TestPlanSchedules")
	planFirst = flag.Uint64("plan.first", 1, "the `seed` of the first of them; 0 draws one")
	planSeed  = flag.Uint64("plan.seed", 0, "run the schedule of this `seed` alone and print all that happens in it")
)

// TestPlanSchedules lets random meshes live through deaths, returns, lost stores,
// removals, joins, moves to other zones and addresses, other settings and changes
// of leader, executes each planned step, or half of it, and proves after every one
// that the plan never harms, and in the end that it has come to rest.
func TestPlanSchedules(t *testing.T) {
	first, seeds := *planFirst, *planSeeds
	if first == 0 {
		first = 1 + rand.Uint64N(1<<40)
	}
	if *planSeed != 0 {
		first, seeds = *planSeed, 1
	}
	for n := range uint64(seeds) {
		s := livePlan(first + n)
		if s.fault == "" && *planSeed == 0 {
			continue
		}
		t.Log(strings.Join(s.trace, "\n"))
		if s.fault != "" {
			t.Fatalf("seed %d, the %d. of this run: %s\nagain: go test ./agent/leader -run TestPlanSchedules -v -plan.seed=%d", s.seed, n+1, s.fault, s.seed)
		}
	}
}

// planSimulation is one schedule of the voters' model.
type planSimulation struct {
	quorum
	seed uint64
	rng  *rand.Rand
	born int
	// most is the largest number of voters that was ever set.
	most  int
	fault string
	trace []string
	// steps counts those executed since the faults ended.
	steps int
}

func (s *planSimulation) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%7.2fs  ", s.now.Sub(noon).Seconds())+fmt.Sprintf(format, args...)+s.describe())
}

func (s *planSimulation) fail(format string, args ...any) {
	if s.fault == "" {
		s.fault = fmt.Sprintf(format, args...) + ":" + s.describe()
	}
}

func (s *planSimulation) describe() string {
	var b strings.Builder
	for _, id := range slices.Sorted(keys(s.nodes)) {
		n := s.nodes[id]
		fmt.Fprintf(&b, " %s/%s:", id, n.zone)
		if at := s.server(id); at >= 0 {
			b.WriteString(map[bool]string{true: "v", false: "s"}[s.servers[at].Voter])
		}
		for _, f := range []struct {
			flag string
			is   bool
		}{{"*", id == s.self}, {"d", !n.alive}, {"e", n.empty}, {"l", !n.caughtUp}, {"m", n.memberOnly}, {"b", n.blocked}} {
			if f.is {
				b.WriteString(f.flag)
			}
		}
	}
	return b.String()
}

func (s *planSimulation) server(id string) int {
	return slices.IndexFunc(s.servers, func(v raftstore.Server) bool { return v.ID == id })
}

// works: a majority of the voters answers and holds the store.
func (s *planSimulation) works() bool {
	good := 0
	voters := s.voting()
	for _, v := range voters {
		if v.alive && !v.empty {
			good++
		}
	}
	return good > len(voters)/2
}

func (s *planSimulation) set(id string, change func(*quorumNode)) {
	if n, ok := s.nodes[id]; ok {
		change(&n)
		s.nodes[id] = n
	}
}

func (s *planSimulation) setAlive(id string, alive bool) {
	s.set(id, func(n *quorumNode) {
		if n.alive != alive {
			n.alive, n.since = alive, s.now
		}
	})
}

func (s *planSimulation) member(n quorumNode, standBy bool) raftstore.RosterMember {
	return raftstore.RosterMember{NodeID: n.id, Address: n.address, PublicKey: n.publicKey, StandBy: standBy}
}

// succeed makes another living voter the leader, who knows nothing of the past.
func (s *planSimulation) succeed() {
	for _, v := range s.voting() {
		if v.alive && !v.empty && (v.id != s.self || s.rng.IntN(3) == 0) {
			s.self, s.evenSince = v.id, time.Time{}
			for id := range s.nodes {
				s.set(id, func(n *quorumNode) { n.since, n.blocked = s.now, false })
			}
			return
		}
	}
}

// execute does a step, and now and then only its first half.
func (s *planSimulation) execute(p step) {
	half := s.rng.IntN(10) == 0
	n, at := s.nodes[p.nodeID], s.server(p.nodeID)
	switch p.kind {
	case stepPrepare:
		s.rostered[p.nodeID] = s.member(n, true)
		if half {
			break
		}
		s.set(p.nodeID, func(n *quorumNode) { n.empty, n.caughtUp = false, true })
		s.servers = append(s.servers, raftstore.Server{ID: p.nodeID, Address: n.address})
	case stepPromote, stepDemote:
		s.servers[at].Voter = p.kind == stepPromote
		if !half {
			s.rostered[p.nodeID] = s.member(n, p.kind == stepDemote)
		}
	case stepRemove:
		delete(s.rostered, p.nodeID)
		if at >= 0 && !half {
			s.servers = slices.Delete(s.servers, at, at+1)
		}
	case stepReaddress:
		s.servers[at].Address = n.address
	case stepRoster:
		for _, v := range s.servers {
			s.rostered[v.ID] = s.member(s.nodes[v.ID], !v.Voter)
		}
	case stepHandOver:
		s.self, s.evenSince = p.nodeID, time.Time{}
	}
	if half {
		s.succeed()
	}
}

// judge proves that a step did no harm.
func (s *planSimulation) judge(p step, node quorumNode, enrolled bool, before []quorumNode) {
	after := s.voting()
	lost := len(after) < len(before)
	good := enrolled && !node.memberOnly && node.alive && !node.empty
	silent := slices.ContainsFunc(before, func(v quorumNode) bool { return !v.alive && v.id != s.self })
	switch {
	case !s.works() && p.kind != stepHandOver:
		s.fail("%s %s (%s) loses the quorum", p.kind, p.nodeID, p.why)
	case len(after) > s.most+1:
		s.fail("%d voters", len(after))
	case node.memberOnly && (p.kind == stepPrepare || p.kind == stepPromote):
		s.fail("%s %s, which is member only", p.kind, p.nodeID)
	case p.kind == stepPromote && (!node.alive || !node.caughtUp || node.empty):
		s.fail("promote %s, which has not caught up or is silent", p.nodeID)
	case (p.kind == stepPromote || p.kind == stepDemote || p.kind == stepPrepare) && node.blocked:
		s.fail("%s %s, with which a step has just failed", p.kind, p.nodeID)
	case lost && p.nodeID == s.self:
		s.fail("%s takes its leader's vote", p.kind)
	case lost && enrolled && !node.memberOnly && !node.alive && !node.empty && len(after)%2 == 0:
		s.fail("%s %s (%s) makes the quorum even because of silence", p.kind, p.nodeID, p.why)
	case lost && good && silent:
		s.fail("%s %s (%s) takes a good voter while another is silent", p.kind, p.nodeID, p.why)
	case lost && good && len(after)%2 == 0 && len(before) <= s.voters:
		s.fail("%s %s (%s) takes a good voter and leaves an even number", p.kind, p.nodeID, p.why)
	}
}

// run lets time pass while the leader plans.
func (s *planSimulation) run(d time.Duration) {
	tick := time.Duration(0)
	for end := s.now.Add(d); s.now.Before(end) && s.fault == ""; s.now = s.now.Add(tick) {
		tick = time.Second
		if !s.works() {
			continue // nobody leads; nobody plans
		}
		if n := s.nodes[s.self]; !n.alive || n.empty {
			s.succeed()
		}
		switch n := len(s.voting()); {
		case n%2 == 1:
			s.evenSince = time.Time{}
		case s.evenSince.IsZero():
			s.evenSince = s.now
		}
		before := s.voting()
		p := plan(s.quorum)
		if p.kind == stepNone {
			continue
		}
		tick = 250 * time.Millisecond
		s.steps++
		node, enrolled := s.nodes[p.nodeID]
		if s.rng.IntN(12) == 0 && p.kind != stepHandOver { // it fails, and is left alone for a while
			s.note("%s %s fails", p.kind, p.nodeID)
			s.set(p.nodeID, func(n *quorumNode) { n.blocked = true })
			continue
		}
		s.execute(p)
		s.note("%s %s (%s)", p.kind, p.nodeID, p.why)
		s.judge(p, node, enrolled, before)
	}
}

func (s *planSimulation) zone() string { return []string{"", "x", "y", "z"}[s.rng.IntN(4)] }

func (s *planSimulation) join() {
	id := string(rune('a' + s.born))
	s.born++
	s.nodes[id] = quorumNode{
		id: id, address: id + ":1", publicKey: "key-" + id, zone: s.zone(), alive: true, since: s.now, caughtUp: true,
		memberOnly: s.born > 1 && s.rng.IntN(6) == 0,
	}
}

// disturb makes one random thing happen.
func (s *planSimulation) disturb() {
	ids := slices.Sorted(keys(s.nodes))
	id := ids[s.rng.IntN(len(ids))]
	n := s.nodes[id]
	switch s.rng.IntN(16) {
	case 0, 1, 2, 3:
		s.setAlive(id, false)
		if !s.works() && s.rng.IntN(4) > 0 {
			s.setAlive(id, true)
		}
	case 4, 5, 6, 7:
		s.setAlive(id, true)
	case 8:
		// The API refuses a removal that ends the quorum.
		delete(s.nodes, id)
		delete(s.rostered, id)
		if !s.works() || len(s.voting()) == 1 && s.voting()[0].id == id {
			s.nodes[id] = n
		}
	case 9, 10:
		s.join()
	case 11: // its disk is empty; with a majority of such the mesh would be lost
		s.set(id, func(n *quorumNode) { n.empty, n.caughtUp = s.server(id) >= 0, false })
		if !s.works() {
			s.nodes[id] = n
		}
	case 12:
		s.set(id, func(n *quorumNode) { n.zone = s.zone() })
	case 13:
		s.set(id, func(n *quorumNode) { n.address += "0" })
	case 14:
		s.set(id, func(n *quorumNode) { n.caughtUp = n.empty || !n.caughtUp })
	default:
		if s.works() {
			s.succeed()
		}
		s.voters = []int{1, 3, 5}[s.rng.IntN(3)]
		s.most = max(s.most, s.voters)
	}
	s.note("%s:", id)
	for id := range s.nodes { // what failed may be tried again
		s.set(id, func(n *quorumNode) { n.blocked = n.blocked && s.now.Sub(noon)%2 == 0 })
	}
}

func livePlan(seed uint64) *planSimulation {
	s := &planSimulation{seed: seed, rng: rand.New(rand.NewPCG(seed, 11)), quorum: parseQuorum("", 5, 1)}
	s.voters, s.standBys = []int{1, 3, 5}[s.rng.IntN(3)], 1+s.rng.IntN(2)
	s.most = s.voters
	for range 1 + s.rng.IntN(8) {
		s.join()
	}
	s.servers = []raftstore.Server{{ID: "a", Address: "a:1", Voter: true}}
	s.rostered["a"] = s.member(s.nodes["a"], false)
	for range s.rng.IntN(30) {
		if s.fault != "" {
			return s
		}
		s.disturb()
		s.run(time.Duration(s.rng.IntN(60)) * time.Second)
	}
	s.note("calm:")
	s.steps = 0
	for range 10 { // steps still fail now and then
		for id := range s.nodes {
			s.setAlive(id, true)
			s.set(id, func(n *quorumNode) { n.blocked, n.caughtUp = false, !n.empty })
		}
		s.run(time.Minute)
	}
	if s.fault == "" {
		s.rest()
	}
	return s
}

// rest proves that all is as it should be once nothing happens any more.
func (s *planSimulation) rest() {
	eligible := 0
	for _, n := range s.nodes {
		if !n.memberOnly {
			eligible++
		}
	}
	want := min(s.voters, eligible)
	if want%2 == 0 {
		want--
	}
	voters := s.voting()
	switch {
	case len(voters) != want:
		s.fail("at rest with %d voters of %d eligible nodes, setting %d", len(voters), eligible, s.voters)
	case len(s.following()) != min(s.standBys, eligible-want):
		s.fail("at rest with %d stand-bys, setting %d", len(s.following()), s.standBys)
	case len(s.rostered) != len(s.servers):
		s.fail("the roster has %d members, Raft %d servers", len(s.rostered), len(s.servers))
	case plan(s.quorum).kind != stepNone:
		s.fail("it never rests: %+v, after %d steps", plan(s.quorum), s.steps)
	}
	for _, v := range s.servers {
		if n := s.nodes[v.ID]; n.memberOnly || n.empty || n.address != v.Address || s.rostered[v.ID] != s.member(n, !v.Voter) {
			s.fail("%s at rest is %+v, in the roster %+v", v.ID, v, s.rostered[v.ID])
		}
	}
	if want < 3 {
		return
	}
	in := map[string]int{}
	for _, v := range voters {
		in[v.zone]++
	}
	for _, n := range s.nodes {
		for zone, count := range in {
			if at := s.server(n.id); !n.memberOnly && (at < 0 || !s.servers[at].Voter) && count-in[n.zone] >= 2 {
				s.fail("%d voters in zone %q, %d in %q, where %s could vote", count, zone, in[n.zone], n.zone, n.id)
			}
		}
	}
}
