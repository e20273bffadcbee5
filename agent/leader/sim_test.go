package leader

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

var (
	simSeeds = flag.Int("sim.seeds", 200, "random schedules of TestSimulation")
	simSeed  = flag.Uint64("sim.seed", 0, "replay this schedule only")
)

// TestSimulation runs engines, one after another and sometimes two at a time,
// against simulated nodes, network and store, by random schedules: lost and
// doubled calls, calls that arrive late, nodes that go and come back, leaders that
// are deposed and do not know it, writes of unknown outcome, reports in any order,
// cancels and removed nodes. Each schedule ends in the same proof.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	seeds := *simSeeds
	if testing.Short() {
		seeds = min(seeds, 50)
	}
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		simulate(t, seed)
		if t.Failed() {
			t.Fatalf("replay with: go test ./agent/leader -run TestSimulation -sim.seed=%d", seed)
		}
	}
}

type simulation struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand

	now    time.Time
	events eventHeap
	serial int

	memory   *memory
	machines []*machine
	byID     map[string]*machine
	leader   *simLeader
	leaders  []*simLeader
	commands []raftstore.Command
	// calm: no new faults.
	calm     bool
	failures float64
	// tardy is how often a call arrives after it was given up.
	tardy  float64
	faults []error
}

type event struct {
	at     time.Time
	serial int
	run    func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].serial < h[j].serial
	}
	return h[i].at.Before(h[j].at)
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

func (s *simulation) after(d time.Duration, run func()) {
	s.serial++
	heap.Push(&s.events, event{s.now.Add(max(d, 0)), s.serial, run})
}

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }
func (s *simulation) lossy(p float64) bool  { return !s.calm && s.chance(p) }
func (s *simulation) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(d)))
}
func (s *simulation) delay() time.Duration { return time.Millisecond + s.upTo(20*time.Millisecond) }
func (s *simulation) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Errorf(format, args...))
}
func (s *simulation) Alive(id string) bool                 { m := s.byID[id]; return m != nil && m.seen }
func (s *simulation) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// simLeader is a node in its term; it may have been deposed without knowing.
type simLeader struct {
	sim     *simulation
	engine  *engine
	replica *replica
	dead    bool
	waiting []func() bool
	wakeAt  time.Time
}

// lead begins a new term.
func (s *simulation) lead() {
	if s.chance(0.5) {
		s.memory.settleLate()
	} else {
		s.memory.late = nil // never reached a majority
	}
	s.memory.term++
	l := &simLeader{sim: s}
	l.replica = &replica{memory: s.memory, term: s.memory.term, fault: func() writeFault {
		if s.lossy(0.03) {
			return writeFault(1 + s.rng.IntN(3))
		}
		return writeFine
	}}
	cfg := Config{
		NodeID: "leader", Store: recordsOnly{Records: l.replica}, Members: s, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return s.now }, Settings: Settings{}.withDefaults(),
	}
	if s.seed%3 == 0 {
		cfg.Settings.CallsInFlight = 3
	}
	l.engine = newEngine(cfg, l.replica.term, s.rng.Float64)
	l.engine.unknownPause = 0
	if s.seed%4 == 0 {
		l.engine.limit = 4 << 10 // many entries for one command
	}
	s.leader, s.leaders = l, append(s.leaders, l)
	l.refresh()
}

// recordsOnly is a Config.Store for an engine, which uses no more.
type recordsOnly struct {
	Records
	Store
}

func (r recordsOnly) Apply(ctx context.Context, t raftstore.Txn) (uint64, error) {
	return r.Records.Apply(ctx, t)
}
func (r recordsOnly) View(fn func(raftstore.Reader) error) error { return r.Records.View(fn) }

func (l *simLeader) refresh() {
	if l.dead {
		return
	}
	if err := l.engine.refresh(); err != nil {
		l.sim.fault("refresh: %w", err)
	}
	l.step()
}

// step is one turn of the dispatcher's loop.
func (l *simLeader) step() {
	s := l.sim
	if l.dead {
		return
	}
	if l.engine.accused {
		if l.replica.term != s.memory.term {
			l.die()
			return
		}
		l.engine.acquitted()
	}
	if err := l.engine.round(context.Background()); err != nil {
		if !errors.Is(err, raftstore.ErrNotLeader) {
			s.fault("round: %w", err)
		}
		l.die()
		return
	}
	calls, err := l.engine.calls()
	if err != nil {
		s.fault("calls: %w", err)
	}
	for _, c := range calls {
		s.transmit(l, c)
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(done func() bool) bool { return done() })
	if next := l.engine.nextWake(); !next.IsZero() && (l.wakeAt.Before(s.now) || l.wakeAt.Equal(s.now) || next.Before(l.wakeAt)) {
		l.wakeAt = later(next, s.now.Add(time.Millisecond))
		s.after(l.wakeAt.Sub(s.now), l.step)
	}
}

func (l *simLeader) die() {
	l.dead = true
	for _, done := range l.waiting {
		done()
	}
	l.waiting = nil
}

// transmit carries a call to its node and the answer back, or does not.
func (s *simulation) transmit(l *simLeader, c *call) {
	m := s.byID[c.nodeID]
	back := func(d time.Duration, a answer) {
		s.after(d, func() {
			if !l.dead {
				l.engine.takeAnswer(a)
				l.step()
			}
		})
	}
	lost := answer{call: c, err: errors.New("connection reset")}
	s.after(s.delay(), func() {
		switch {
		case !m.up && s.chance(0.7):
			back(s.delay(), answer{call: c, err: fmt.Errorf("dial: %w", peer.ErrNotSent)})
		case !m.up:
			back(10*time.Second, lost)
		case s.lossy(0.05): // never arrives
			back(s.delay(), lost)
		case s.lossy(s.tardy): // arrives after it was given up
			s.after(s.upTo(3*time.Second), func() { m.serve(c) })
			back(s.delay(), lost)
		case s.lossy(0.05): // the reply is lost
			m.serve(c)
			back(s.delay(), lost)
		case s.lossy(0.05): // arrives twice
			m.serve(c)
			back(s.delay(), m.serve(c))
		default:
			back(s.delay(), m.serve(c))
		}
	})
}

// acknowledged checks that an acknowledged report is in the store.
func (s *simulation) acknowledged(m *machine, j *simJob, report peer.JobReport) {
	i, err := raftstore.GetInvocation(s.memory, j.job.CommandID, m.id)
	if err != nil || i.Sequence < report.Sequence && !(i.Terminal() && report.FinishedAt.IsZero()) {
		s.fault("command %s on %s: report %d was acknowledged and is not in the store (%+v, %v)", j.job.CommandID, m.id, report.Sequence, i, err)
	}
}

// checkRunning counts what truly runs.
func (s *simulation) checkRunning(id string) {
	running, limit := 0, 0
	if state, err := raftstore.GetCommandState(s.memory, id); err == nil {
		limit = state.MaxConcurrency
	}
	for _, m := range s.machines {
		if j := m.jobs[id]; j != nil {
			if j.starts > 1 {
				s.fault("command %s ran %d times on %s", id, j.starts, m.id)
			}
			if j.running && !m.removed {
				running++
			}
		}
	}
	if running > limit {
		s.fault("command %s: %d run at once, MaxConcurrency is %d", id, running, limit)
	}
}

func (s *simulation) setUp(m *machine, up bool) {
	m.up = up
	s.after(s.upTo(5*time.Second), func() {
		if m.seen != m.up {
			m.seen = m.up
			for _, l := range s.leaders {
				if !l.dead {
					l.engine.membersChanged()
					s.after(0, l.step)
				}
			}
		}
	})
}

// patience is the delivery time of commands that outlive every fault.
const patience = 4 * time.Minute

func (s *simulation) newCommand(n int) {
	patient := n%2 == 0
	text := func(format string, args ...any) *string { v := fmt.Sprintf(format, args...); return &v }
	input := map[string]any{"DocumentName": "AWS-RunShellScript", "Parameters": map[string][]string{"commands": {"true"}}}
	if s.chance(0.5) {
		input["Targets"] = []map[string]any{{"Key": "tag:role", "Values": []string{"web", "db"}[:1+s.rng.IntN(2)]}}
	} else {
		var ids []string
		for _, m := range s.machines {
			if s.chance(0.6) {
				ids = append(ids, m.id)
			}
		}
		if len(ids) == 0 {
			ids = []string{s.machines[0].id}
		}
		input["InstanceIds"] = ids
	}
	if s.chance(0.7) {
		input["MaxConcurrency"] = []*string{text("%d", 1+s.rng.IntN(5)), text("%d%%", 10+s.rng.IntN(90))}[s.rng.IntN(2)]
	}
	if s.chance(0.7) {
		input["MaxErrors"] = []*string{text("%d", s.rng.IntN(4)), text("%d%%", s.rng.IntN(60))}[s.rng.IntN(2)]
	}
	body, err := json.Marshal(input)
	if err != nil {
		s.t.Fatal(err)
	}
	deliver := 5*time.Second + s.upTo(40*time.Second)
	if patient {
		deliver = patience
	}
	c := raftstore.Command{
		ID: fmt.Sprintf("c%03d", n), Input: body, Document: json.RawMessage(`{}`), RequestedAt: s.now,
		DeliverUntil: s.now.Add(deliver), ExpiresAt: s.now.Add(deliver + 20*time.Second), Epoch: 1,
	}
	s.commands = append(s.commands, c)
	var t raftstore.Txn
	t.PutNewCommand(c, raftstore.CommandState{ID: c.ID, Status: "Pending", StatusDetails: "Pending"})
	s.memory.must(t)
	if !patient && s.chance(0.3) {
		s.after(s.upTo(20*time.Second), func() { s.cancelCommand(c.ID) })
	}
}

func (s *simulation) cancelCommand(id string) {
	state, err := raftstore.GetCommandState(s.memory, id)
	if err != nil || !state.FinishedAt.IsZero() {
		return
	}
	cancel, err := raftstore.GetCommandCancel(s.memory, id)
	if err == nil {
		return
	}
	cancel.CommandID, cancel.RequestedAt = id, s.now
	if s.chance(0.6) {
		cancel.All = true
	} else {
		cancel.NodeIDs = []string{s.machines[s.rng.IntN(len(s.machines))].id}
	}
	var t raftstore.Txn
	t.PutCommandCancel(cancel)
	s.memory.must(t)
}

func (s *simulation) removeNode(m *machine) {
	n, err := raftstore.GetNode(s.memory, m.id)
	if err != nil {
		return
	}
	m.removed = true
	var t raftstore.Txn
	t.DeleteNode(n)
	s.memory.must(t)
	for _, l := range s.leaders {
		if !l.dead {
			l.engine.nodesChanged()
			s.after(0, l.step)
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	t.Helper()
	s := &simulation{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		memory: newMemory(), byID: map[string]*machine{},
	}
	s.failures = []float64{0, 0.05, 0.3}[s.rng.IntN(3)]
	s.tardy = []float64{0.02, 0.3}[s.rng.IntN(2)]
	var birth raftstore.Txn
	birth.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	for n := range 2 + s.rng.IntN(12) {
		m := &machine{sim: s, id: fmt.Sprintf("mi-%02d", n), up: true, seen: true, jobs: map[string]*simJob{}}
		s.machines = append(s.machines, m)
		s.byID[m.id] = m
		birth.PutNode(raftstore.Node{ID: m.id, Name: m.id, PublicKey: m.id, Address: m.id + ":7947", Tags: map[string]string{"role": []string{"web", "db"}[s.rng.IntN(2)]}})
	}
	s.memory.must(birth)
	s.memory.check = func(before *memory) {
		if err := audit(before, s.memory); err != nil {
			s.faults = append(s.faults, err)
		}
	}
	s.memory.changed = func(keys []string) {
		for _, key := range keys {
			if strings.HasPrefix(key, raftstore.ActiveCommandPrefix) || strings.HasPrefix(key, raftstore.CommandCancelPrefix) {
				s.after(time.Millisecond, func() {
					for _, l := range s.leaders {
						l.refresh()
					}
				})
				return
			}
		}
	}
	s.lead()

	const storm = 60 * time.Second
	for n := range 1 + s.rng.IntN(6) {
		s.after(s.upTo(30*time.Second), func() { s.newCommand(n) })
	}
	for range s.rng.IntN(5) {
		s.after(s.upTo(storm), s.lead)
	}
	for range s.rng.IntN(10) {
		m := s.machines[s.rng.IntN(len(s.machines))]
		s.after(s.upTo(storm), func() { s.setUp(m, false) })
		s.after(s.upTo(storm), func() { s.setUp(m, true) })
	}
	if s.chance(0.2) {
		s.after(s.upTo(storm), func() { s.removeNode(s.machines[s.rng.IntN(len(s.machines))]) })
	}
	s.after(storm, func() {
		s.calm = true
		s.memory.settleLate()
		for _, m := range s.machines {
			s.setUp(m, true)
		}
	})
	end := s.now.Add(storm + 2*patience)
	for len(s.events) > 0 && len(s.faults) == 0 {
		next := heap.Pop(&s.events).(event)
		if next.at.After(end) {
			break
		}
		s.now = next.at
		next.run()
	}
	s.prove()
	for _, err := range s.faults {
		t.Errorf("seed %d: %v", seed, err)
	}
}

// prove is what every schedule ends with.
func (s *simulation) prove() {
	if len(s.faults) > 0 {
		return
	}
	if active := raftstore.ActiveCommands(s.memory); len(active) > 0 {
		s.fault("commands %v never ended", active)
	}
	if n := len(s.leader.engine.commands) + len(s.leader.engine.links); n > 0 {
		s.fault("the engine remembers %d commands and %d links of ended commands", len(s.leader.engine.commands), len(s.leader.engine.links))
	}
	for _, c := range s.commands {
		err := raftstore.ScanInvocations(s.memory, c.ID, "", func(i raftstore.Invocation) bool {
			m := s.byID[i.NodeID]
			j := m.jobs[c.ID]
			starts := 0
			if j != nil {
				starts = j.starts
			}
			switch {
			case !i.Terminal():
				s.fault("command %s on %s never ended", c.ID, i.NodeID)
			case starts > 1:
				s.fault("command %s ran %d times on %s", c.ID, starts, i.NodeID)
			case i.StatusDetails == detailSuccess && (j == nil || j.details != detailSuccess):
				s.fault("command %s on %s: Success without a run", c.ID, i.NodeID)
			case starts > 0 && (i.StatusDetails == detailTerminated || strings.HasPrefix(i.Reason, "cancelled before") || strings.HasPrefix(i.Reason, "not started")):
				s.fault("command %s on %s: %s (%s), but it ran", c.ID, i.NodeID, i.StatusDetails, i.Reason)
			case starts == 0 && !m.removed && i.StatusDetails == detailDeliveryTimedOut && c.DeliverUntil.Sub(c.RequestedAt) == patience:
				s.fault("command %s never started on %s, which was there: %s", c.ID, i.NodeID, i.Reason)
			case i.StatusDetails == detailSuccess && i.Reason != "":
				s.fault("command %s on %s: a repeated report was taken for another: %s", c.ID, i.NodeID, i.Reason)
			case starts > 0 && !m.removed && j.told.Before(c.ExpiresAt) && !j.told.IsZero() && i.StatusDetails != j.details:
				s.fault("command %s on %s: the node reported %s in time and the store has %s (%s)", c.ID, i.NodeID, j.details, i.StatusDetails, i.Reason)
			}
			return true
		})
		if err != nil {
			s.fault("%w", err)
		}
	}
}
