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
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

var (
	simSeeds = flag.Int("sim.seeds", 1000, "random schedules of TestSimulation")
	simFirst = flag.Uint64("sim.first", 1, "the `seed` of the first of them; 0 draws one")
	simSeed  = flag.Uint64("sim.seed", 0, "run the schedule of this `seed` alone and print all that happens in it")
)

// TestSimulation is the model: engines, one after another and sometimes two at a
// time, against a simulated store, network and nodes, by random schedules. See
// docs/reliability.md for its faults and its invariants. A seed decides everything:
// the same one gives the same schedule.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		s := simulate(*simSeed, true)
		t.Log(strings.Join(s.trace, "\n"))
		for _, err := range s.faults {
			t.Errorf("seed %d: %v", *simSeed, err)
		}
		return
	}
	first, seeds := *simFirst, *simSeeds
	if first == 0 {
		first = 1 + rand.Uint64N(1<<40)
	}
	if testing.Short() {
		seeds = min(seeds, 50)
	}
	t.Logf("seeds %d to %d", first, first+uint64(seeds)-1)
	var next atomic.Int64
	var failed atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(seeds) && failed.Load() == 0; n = next.Add(1) - 1 {
				if s := simulate(first+uint64(n), false); len(s.faults) > 0 {
					failed.CompareAndSwap(0, s.seed)
				}
			}
		})
	}
	workers.Wait()
	if seed := failed.Load(); seed != 0 {
		s := simulate(seed, true) // again, and tell
		t.Logf("how seed %d ended:\n%s", seed, strings.Join(s.trace[max(0, len(s.trace)-60):], "\n"))
		for _, err := range s.faults {
			t.Errorf("seed %d, the %d. of this run: %v", seed, seed-first+1, err)
		}
		t.Errorf("all of it: go test ./agent/leader -run 'TestSimulation$' -v -sim.seed=%d", seed)
	}
}

// TestSimulationReplays: what a seed does once it does again, or a failing one
// would be worth nothing.
func TestSimulationReplays(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		first, second := simulate(seed, true), simulate(seed, true)
		if len(first.trace) < 20 {
			t.Errorf("seed %d: nothing happens", seed)
		}
		for n := range min(len(first.trace), len(second.trace)) {
			if first.trace[n] != second.trace[n] {
				t.Fatalf("seed %d, line %d:\n%s\n%s", seed, n, first.trace[n], second.trace[n])
			}
		}
		if len(first.trace) != len(second.trace) {
			t.Errorf("seed %d: %d lines and %d", seed, len(first.trace), len(second.trace))
		}
	}
}

// simulation is one schedule.
type simulation struct {
	seed uint64
	rng  *rand.Rand

	began  time.Time
	now    time.Time
	events eventHeap
	serial int

	memory   *memory
	machines []*machine
	byID     map[string]*machine
	leader   *simLeader
	leaders  []*simLeader
	commands []raftstore.Command
	// cancelled are the commands that somebody asked to cancel, in part or whole.
	cancelled map[string]bool
	// calm: no new faults.
	calm bool
	// failures is how often a script fails; tardy how often a call arrives after it
	// was given up.
	failures, tardy float64
	// ramp: the leaders ramp up. restored: a snapshot was restored.
	ramp, restored bool

	faults  []error
	tracing bool
	trace   []string
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

// note writes the trace.
func (s *simulation) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%9.3fs  ", s.now.Sub(s.began).Seconds())+fmt.Sprintf(format, args...))
	}
}

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }
func (s *simulation) lossy(p float64) bool  { return !s.calm && s.chance(p) }
func (s *simulation) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(d)))
}
func (s *simulation) delay() time.Duration { return time.Millisecond + s.upTo(20*time.Millisecond) }
func (s *simulation) any() *machine        { return s.machines[s.rng.IntN(len(s.machines))] }
func (s *simulation) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Errorf(format, args...))
	s.note("FAULT: %v", s.faults[len(s.faults)-1])
}

// simLeader is a node in its term; it may have been deposed without knowing.
type simLeader struct {
	sim     *simulation
	engine  *engine
	replica *replica
	dead    bool
	// skew is how far its word of the mesh's time is off.
	skew time.Duration
	// blind are the nodes that its own gossip does not hold alive yet.
	blind   map[string]bool
	waiting []func() bool
	wakeAt  time.Time
}

func (l *simLeader) Alive(id string) bool {
	m := l.sim.byID[id]
	return m != nil && m.seen && !l.blind[id]
}
func (l *simLeader) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// depose ends the term for all but its leader, who goes on with what it knows.
func (s *simulation) depose() {
	s.memory.term++
	for _, l := range s.leaders {
		if l.replica.frozen == nil {
			l.replica.frozen = s.memory.clone()
		}
	}
	s.note("term %d begins, without a leader", s.memory.term)
}

// lead begins a new term.
func (s *simulation) lead() {
	if s.chance(0.5) {
		s.memory.settleLate()
	} else {
		s.memory.late = nil // never reached a majority
	}
	s.depose()
	l := &simLeader{sim: s, blind: map[string]bool{}}
	if !s.calm {
		l.skew = s.upTo(400*time.Millisecond) - 200*time.Millisecond
		for _, m := range s.machines {
			l.blind[m.id] = s.chance(0.2)
		}
		s.after(s.upTo(3*time.Second), func() {
			clear(l.blind)
			if !l.dead {
				l.engine.membersChanged()
				l.step()
			}
		})
	}
	l.replica = &replica{
		memory: s.memory, term: s.memory.term,
		fault: func() writeFault {
			switch {
			case s.lossy(0.03):
				return writeFault(1 + s.rng.IntN(int(writeFaults)-1))
			case s.lossy(0.02):
				return writeLostRegained
			}
			return writeFine
		},
		depose: func() {
			s.depose()
			s.after(s.upTo(2*time.Second), s.lead)
		},
	}
	l.replica.regain = func() {
		s.lead()
		s.depose()
		l.replica.term, l.replica.frozen = s.memory.term, nil
		s.leader = l
		s.note("the leader of an earlier term leads again, and has not noticed")
		s.after(s.delay(), func() {
			if s.leader == l {
				l.die("its term ended long ago")
				s.lead()
			}
		})
	}
	cfg := Config{
		NodeID: "leader", Store: recordsOnly{Records: l.replica}, Members: l, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return s.now.Add(l.skew) }, Settings: Settings{RampUp: s.ramp}.withDefaults(),
		Platforms: platformsOf,
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
	s.note("a leader for term %d, its clock off by %s", l.replica.term, l.skew)
	l.refresh()
}

// platformsOf reads the documents of simload_test.go.
func platformsOf(document json.RawMessage) []string {
	if strings.Contains(string(document), "Linux") {
		return []string{"Linux"}
	}
	return nil
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

func (r recordsOnly) ConfirmedView(_ context.Context, fn func(raftstore.Reader) error) error {
	if held, ok := r.Records.(*replica); ok && held.term != held.memory.term {
		return raftstore.ErrNotLeader
	}
	return r.Records.View(fn)
}

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
			l.die("it was accused, and is deposed")
			return
		}
		l.engine.acquitted()
	}
	if err := l.engine.round(context.Background()); err != nil {
		if !errors.Is(err, raftstore.ErrNotLeader) {
			s.fault("round: %w", err)
		}
		l.die(err.Error())
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
	if next := l.engine.nextWake().Add(-l.skew); !l.engine.nextWake().IsZero() && (!l.wakeAt.After(s.now) || next.Before(l.wakeAt)) {
		l.wakeAt = later(next, s.now.Add(time.Millisecond))
		s.after(l.wakeAt.Sub(s.now), l.step)
	}
}

// die ends a leader's work; what it has sent is under way all the same.
func (l *simLeader) die(why string) {
	if l.dead {
		return
	}
	l.sim.note("the leader of term %d ends: %s", l.replica.term, why)
	l.dead = true
	for _, done := range l.waiting {
		done()
	}
	l.waiting = nil
}

// mostTurns is many times the events of the busiest schedule.
const mostTurns = 200_000

func simulate(seed uint64, tracing bool) *simulation {
	s := &simulation{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), began: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		memory: newMemory(), byID: map[string]*machine{}, cancelled: map[string]bool{}, tracing: tracing, ramp: seed%5 == 1,
	}
	s.now = s.began
	s.failures = []float64{0, 0.05, 0.3}[s.rng.IntN(3)]
	s.tardy = []float64{0.02, 0.3}[s.rng.IntN(2)]
	var birth raftstore.Txn
	birth.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	s.memory.must(birth)
	for range 2 + s.rng.IntN(12) {
		s.join()
	}
	s.memory.check = func(before *past) {
		s.noteCommit(before)
		if err := audit(before, s.memory, s.ramp); err != nil {
			s.fault("%w", err)
		}
		s.checkRecalled(before)
	}
	s.memory.changed = func(keys []string) {
		for _, key := range keys {
			if strings.HasPrefix(key, raftstore.ActiveCommandPrefix) || strings.HasPrefix(key, raftstore.CommandCancelPrefix) || key == "mesh" {
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
	s.schedule()
	end := s.now.Add(storm + 2*patience)
	for turns := 0; len(s.events) > 0 && len(s.faults) == 0; turns++ {
		if turns == mostTurns {
			s.fault("it never rests: %d events", turns)
		}
		next := heap.Pop(&s.events).(event)
		if next.at.After(end) {
			break
		}
		s.now = next.at
		next.run()
	}
	if len(s.faults) == 0 {
		s.prove()
	}
	return s
}

func (s *simulation) noteCommit(before *past) {
	if !s.tracing {
		return
	}
	for _, key := range slices.Sorted(keys(before.was)) {
		if rest, ok := strings.CutPrefix(key, "invocation/"); ok {
			id, node, _ := strings.Cut(rest, "/")
			old, _ := raftstore.GetInvocation(before, id, node)
			is, _ := raftstore.GetInvocation(s.memory, id, node)
			s.note("commit %d: %s on %s: %s -> %s (report %d) %s", s.memory.index, id, node, old.StatusDetails, is.StatusDetails, is.Sequence, is.Reason)
		}
		if id, ok := strings.CutPrefix(key, "command-state/"); ok {
			is, _ := raftstore.GetCommandState(s.memory, id)
			s.note("commit %d: %s is %s/%s: %d targets, %d ended, %d errors, %d in flight of %d", s.memory.index, id, is.Status, is.StatusDetails,
				is.TargetCount, is.CompletedCount, is.ErrorCount, is.InFlight, is.MaxConcurrency)
		}
	}
}
