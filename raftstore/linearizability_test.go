package raftstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/raft"
)

// What clients see under faults must be explained by one order in which all of it
// happened, at one moment each between question and answer.

var (
	linSeeds = flag.Int("lin.seeds", 2, "random schedules of TestLinearizable")
	linSeed  = flag.Uint64("lin.seed", 0, "replay this schedule only")
)

// registers is one group of keys that transactions touch together. Every value is
// written by one write only; 0 is a key that is not there.
type registers [3]int

// operation is what a client asked.
type operation struct {
	group int
	read  bool
	// expect is what the preconditions demand, puts what is written; untouched
	// leaves a key alone, and a put of 0 deletes it.
	expect, puts registers
}

const untouched = -1

// outcome is what the client was told.
type outcome struct {
	// conflict and unknown are of writes: it did not happen, or nobody knows.
	conflict, unknown bool
	saw               registers // of reads
}

// registerModel is what a store should do. A write of unknown outcome has no end,
// so that it may happen at any later moment, and at the end of all.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		groups := map[int][]porcupine.Operation{}
		for _, op := range history {
			group := op.Input.(operation).group
			groups[group] = append(groups[group], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range groups {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return registers{} },
	Step: func(state, input, output any) (bool, any) {
		now, op, out := state.(registers), input.(operation), output.(outcome)
		if op.read {
			return out.saw == now, now
		}
		held, next := true, now
		for i := range now {
			held = held && (op.expect[i] == untouched || op.expect[i] == now[i])
			if op.puts[i] != untouched {
				next[i] = op.puts[i]
			}
		}
		switch {
		case out.conflict:
			return !held, now
		case out.unknown && !held:
			return true, now
		}
		return held, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// judge is how every history ends.
func judge(t *testing.T, history []porcupine.Operation) porcupine.CheckResult {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(registerModel, history, patience)
	if result == porcupine.Illegal {
		path := t.TempDir() + "/history.html"
		if err := porcupine.VisualizePath(registerModel, info, path); err != nil {
			t.Error(err)
		}
		for _, part := range info.PartialLinearizationsOperations() {
			for _, longest := range part {
				t.Logf("an order of %d operations, and no further; the last: %+v", len(longest), longest[max(0, len(longest)-3):])
			}
		}
	}
	return result
}

// witness writes down what all clients did.
type witness struct {
	t     *testing.T
	began time.Time

	mu       sync.Mutex
	ops      []porcupine.Operation
	values   int
	unknown  int
	modified map[int]uint64 // value → its modify index, which is the same for all
}

func (h *witness) now() int64 { return int64(time.Since(h.began)) }

func (h *witness) value() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.values++
	return h.values
}

func (h *witness) add(client int, call int64, op operation, out outcome) {
	end := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.unknown {
		end = 1 << 62
		h.unknown++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: op, Call: call, Output: out, Return: end})
}

func (h *witness) index(value int, index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, ok := h.modified[value]; ok && before != index {
		h.t.Errorf("value %d has the modify indexes %d and %d", value, before, index)
	}
	h.modified[value] = index
}

func registerKey(group, i int) string { return fmt.Sprintf("register-%d-%d", group, i) }

// read returns what it saw, with modify indexes, and false when it was refused.
func (h *witness) read(ctx context.Context, client, group int, s *Store) (saw registers, at [3]uint64, ok bool) {
	call := h.now()
	err := s.ConfirmedView(ctx, func(r Reader) error {
		for i := range saw {
			value, index, found := r.Get(registerKey(group, i))
			if found {
				if _, err := fmt.Sscan(string(value), &saw[i]); err != nil {
					return err
				}
				h.index(saw[i], index)
			}
			at[i] = index
		}
		return nil
	})
	switch {
	case err == nil:
		h.add(client, call, operation{group: group, read: true}, outcome{saw: saw})
		return saw, at, true
	case errors.Is(err, ErrNotLeader), errors.Is(err, ErrClosed), errors.Is(err, context.DeadlineExceeded):
	default:
		h.t.Errorf("read: %v", err)
	}
	return saw, at, false
}

// write is a transaction on one to three keys of a group, with preconditions on
// what was read before when expect says so.
func (h *witness) write(ctx context.Context, client int, s *Store, op operation, at [3]uint64) (ok bool) {
	var t Txn
	for i := range op.puts {
		if op.expect[i] != untouched {
			t.Require(registerKey(op.group, i), at[i])
		}
		switch op.puts[i] {
		case untouched:
		case 0:
			t.Delete(registerKey(op.group, i))
		default:
			t.Put(registerKey(op.group, i), fmt.Append(nil, op.puts[i]))
		}
	}
	call := h.now()
	index, err := s.Apply(ctx, t)
	switch {
	case err == nil:
		h.add(client, call, op, outcome{})
		for _, value := range op.puts {
			if value > 0 {
				h.index(value, index)
			}
		}
		return true
	case errors.Is(err, ErrConflict):
		h.add(client, call, op, outcome{conflict: true})
		return true
	case errors.Is(err, ErrUnknownOutcome):
		h.add(client, call, op, outcome{unknown: true})
	case errors.Is(err, ErrNotLeader), errors.Is(err, ErrClosed), errors.Is(err, context.DeadlineExceeded):
		// It did not and will not happen, so it is not in the history.
	default:
		h.t.Errorf("write: %v", err)
	}
	return false
}

// client goes on until stop is closed, each time through a store that it believes
// to lead or through any.
func (h *witness) client(ctx context.Context, id int, rng *rand.Rand, groups int, stores func() []*Store, stop <-chan struct{}) {
	var favourite *Store
	for {
		select {
		case <-stop:
			return
		case <-time.After(upTo(rng, 15*time.Millisecond)): // histories must stay short enough to judge
		}
		all := stores()
		s := all[rng.IntN(len(all))]
		if favourite != nil && rng.IntN(5) > 0 {
			s = favourite
		}
		favourite = nil
		group := rng.IntN(groups)
		ok := func() bool {
			ctx, cancel := context.WithTimeout(ctx, time.Duration(50+rng.IntN(1000))*time.Millisecond)
			defer cancel()
			op := operation{group: group, expect: registers{untouched, untouched, untouched}, puts: registers{untouched, untouched, untouched}}
			var at [3]uint64
			kind := rng.IntN(10)
			if kind < 8 {
				saw, indexes, ok := h.read(ctx, id, group, s)
				if !ok || kind < 4 {
					return ok
				}
				for i := range saw {
					if rng.IntN(2) == 0 {
						op.expect[i], at[i] = saw[i], indexes[i]
					}
				}
			}
			for i := range op.puts {
				switch rng.IntN(7) {
				case 0:
					op.puts[i] = 0
				case 1, 2, 3:
					op.puts[i] = h.value()
				}
			}
			return h.write(ctx, id, s, op, at)
		}()
		if ok {
			favourite = s
		}
	}
}

func TestLinearizable(t *testing.T) {
	t.Parallel()
	if *linSeed != 0 {
		linearizable(t, *linSeed)
		return
	}
	for range *linSeeds {
		seed := 1 + rand.Uint64N(1<<32)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			linearizable(t, seed)
		})
	}
}

// linearizable is one schedule: clients that read and write through three voters
// and a stand-by while one fault follows another.
func linearizable(t *testing.T, seed uint64) {
	t.Logf("replay the schedule with -lin.seed %d", seed)
	const clients, groups, faulty = 10, 4, 8
	c := newCluster(t, 3, func(cfg *Config) { cfg.TrailingLogs = 64 })
	c.join(c.add(), false)
	var mu sync.Mutex // the faults change nodes' stores
	stores := func() (open []*Store) {
		mu.Lock()
		defer mu.Unlock()
		for _, node := range c.nodes {
			if node.store != nil {
				open = append(open, node.store)
			}
		}
		return open
	}
	h := &witness{t: t, began: time.Now(), modified: map[int]uint64{}}
	ctx := testContext(t)
	stop := make(chan struct{})
	var working sync.WaitGroup
	for id := range clients {
		working.Go(func() { h.client(ctx, id, rand.New(rand.NewPCG(seed, uint64(id))), groups, stores, stop) })
	}
	f := faults{cluster: c, rng: rand.New(rand.NewPCG(seed, 1<<32)), mu: &mu, count: map[string]int{}}
	for range faulty {
		f.next(ctx)
		f.some(400 * time.Millisecond)
	}
	close(stop)
	working.Wait()
	f.running.Wait()
	for group := range groups {
		leader := c.leader()
		if _, _, ok := h.read(ctx, clients, group, leader.store); !ok {
			t.Logf("the last read of group %d was refused", group)
		}
	}
	c.ensureSame()
	if result := judge(t, h.ops); result != porcupine.Ok {
		t.Errorf("seed %d: %s: nothing orders what %d operations saw", seed, result, len(h.ops))
	}
	t.Logf("%d operations, %d of unknown outcome; faults: %v", len(h.ops), h.unknown, f.count)
}

// faults are what befalls the cluster, one after another. Each ends by itself.
type faults struct {
	cluster *cluster
	rng     *rand.Rand
	mu      *sync.Mutex
	running sync.WaitGroup
	count   map[string]int
}

func (f *faults) some(longest time.Duration) {
	time.Sleep(upTo(f.rng, longest)) // the length of a fault, not the wait for something
}

func (f *faults) next(ctx context.Context) {
	c := f.cluster
	voters := c.nodes[:3]
	victim := voters[f.rng.IntN(len(voters))]
	leads := false
	for _, node := range voters {
		if f.rng.IntN(4) > 0 && node.store.IsLeader() {
			victim, leads = node, true
		}
	}
	var name string
	switch f.rng.IntN(6) {
	case 0:
		name = "cut off"
		c.network.isolate(victim.id, c.others(victim)...)
		f.some(1200 * time.Millisecond)
	case 1:
		name = "one cable cut"
		others := c.others(victim)
		c.network.isolate(victim.id, others[f.rng.IntN(len(others))])
		f.some(1000 * time.Millisecond)
	case 2:
		name = "messages held back"
		out, in := f.rng.IntN(2) == 0, f.rng.IntN(2) == 0
		for _, other := range c.others(victim) {
			if in || !out {
				c.network.hold(other, victim.id)
			}
			if out {
				c.network.hold(victim.id, other)
			}
		}
		f.some(900 * time.Millisecond)
	case 3:
		name = "closed and opened"
		f.mu.Lock()
		store := victim.store
		victim.store = nil
		f.mu.Unlock()
		if err := store.Close(); err != nil {
			c.t.Errorf("close: %v", err)
		}
		f.some(800 * time.Millisecond)
		opened, err := Open(c.config(victim))
		if err != nil {
			c.t.Fatal(err)
		}
		f.mu.Lock()
		victim.store = opened
		f.mu.Unlock()
	case 4:
		// The old leader learns late that it is one.
		name = "handed over"
		store := victim.store
		f.running.Go(func() { _ = store.TransferLeadership(ctx) }) // it may well fail
		time.Sleep(upTo(f.rng, 5*time.Millisecond))
		for _, other := range c.others(victim) {
			c.network.hold(other, victim.id)
		}
		f.some(500 * time.Millisecond)
	case 5:
		name = "snapshot"
		// A transfer that an earlier fault began may still be under way.
		err := victim.store.Snapshot()
		if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			c.t.Errorf("snapshot: %v", err)
		}
	}
	c.network.heal()
	if leads {
		name += " (leader)"
	}
	f.count[name]++
}

// The judge knows what must not be.
func TestTheJudgeSeesWhatMustNotBe(t *testing.T) {
	t.Parallel()
	none := registers{untouched, untouched, untouched}
	put := func(expect registers, value int) operation {
		return operation{expect: expect, puts: registers{value, untouched, untouched}}
	}
	read := func(value int) outcome { return outcome{saw: registers{value}} }
	if1 := registers{1, untouched, untouched}
	op := func(call, end int64, in operation, out outcome) porcupine.Operation {
		return porcupine.Operation{ClientId: int(call), Input: in, Call: call, Output: out, Return: end}
	}
	for _, test := range []struct {
		name    string
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		{"a write and a read", []porcupine.Operation{op(1, 2, put(none, 1), outcome{}), op(3, 4, operation{read: true}, read(1))}, porcupine.Ok},
		{"a read of the past", []porcupine.Operation{op(1, 2, put(none, 1), outcome{}), op(3, 4, operation{read: true}, read(0))}, porcupine.Illegal},
		{"a read of what is being written", []porcupine.Operation{op(1, 9, put(none, 1), outcome{}), op(3, 4, operation{read: true}, read(1))}, porcupine.Ok},
		{"back again", []porcupine.Operation{op(1, 9, put(none, 1), outcome{}), op(2, 3, operation{read: true}, read(1)), op(4, 5, operation{read: true}, read(0))}, porcupine.Illegal},
		{"two for one precondition", []porcupine.Operation{op(1, 2, put(none, 1), outcome{}), op(3, 5, put(if1, 2), outcome{}), op(4, 6, put(if1, 3), outcome{})}, porcupine.Illegal},
		{"one of two conflicts", []porcupine.Operation{op(1, 2, put(none, 1), outcome{}), op(3, 5, put(if1, 2), outcome{}), op(4, 6, put(if1, 3), outcome{conflict: true})}, porcupine.Ok},
		{"a conflict with nothing", []porcupine.Operation{op(1, 2, put(none, 1), outcome{}), op(3, 5, put(if1, 2), outcome{conflict: true})}, porcupine.Illegal},
		{"unknown, and much later there", []porcupine.Operation{op(1, 1<<62, put(none, 1), outcome{unknown: true}), op(3, 4, operation{read: true}, read(0)), op(5, 6, operation{read: true}, read(1))}, porcupine.Ok},
		{"unknown, and never there", []porcupine.Operation{op(1, 1<<62, put(none, 1), outcome{unknown: true}), op(3, 4, operation{read: true}, read(0))}, porcupine.Ok},
		{"unknown, and gone again", []porcupine.Operation{op(1, 1<<62, put(none, 1), outcome{unknown: true}), op(3, 4, operation{read: true}, read(1)), op(5, 6, operation{read: true}, read(0))}, porcupine.Illegal},
		{"half of a transaction", []porcupine.Operation{op(1, 2, operation{expect: none, puts: registers{1, 1, untouched}}, outcome{}), op(3, 4, operation{read: true}, outcome{saw: registers{1, 0, 0}})}, porcupine.Illegal},
	} {
		if got := porcupine.CheckOperationsTimeout(registerModel, test.history, patience); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func upTo(rng *rand.Rand, longest time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(longest)))
}
