package leader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"fleetmesh/raftstore"
)

// memory is the store of the simulation: the real semantics of transactions,
// preconditions and modify indexes, in a map. It checks every commit.
type memory struct {
	values map[string]stored
	index  uint64
	term   uint64
	// late are entries of unknown outcome that are in the log and not yet applied.
	late []raftstore.Txn
	// check is called after each commit with the values before it.
	check func(before *memory)
	// changed is called with the keys of each commit.
	changed func(keys []string)
}

type stored struct {
	value []byte
	index uint64
}

func newMemory() *memory { return &memory{values: map[string]stored{}} }

func (m *memory) Get(key string) ([]byte, uint64, bool) {
	s, ok := m.values[key]
	return s.value, s.index, ok
}

func (m *memory) Scan(prefix, start string, fn func(string, []byte, uint64) bool) {
	var keys []string
	for key := range m.values {
		if strings.HasPrefix(key, prefix) && key >= start {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	for _, key := range keys {
		if !fn(key, m.values[key].value, m.values[key].index) {
			return
		}
	}
}

func (m *memory) Index() uint64 { return m.index }

// commit applies one entry of the log.
func (m *memory) commit(t raftstore.Txn) (uint64, error) {
	m.index++
	for _, p := range t.Preconditions {
		if m.values[p.Key].index != p.ModifyIndex {
			return 0, raftstore.ErrConflict
		}
	}
	var before *memory
	if m.check != nil {
		before = &memory{values: maps.Clone(m.values), index: m.index - 1}
	}
	var keys []string
	for _, op := range t.Ops {
		keys = append(keys, op.Key)
		if op.Delete {
			delete(m.values, op.Key)
		} else {
			m.values[op.Key] = stored{slices.Clone(op.Value), m.index}
		}
	}
	if m.check != nil {
		m.check(before)
	}
	if m.changed != nil {
		m.changed(keys)
	}
	return m.index, nil
}

// settleLate applies what is still in the log, in its order.
func (m *memory) settleLate() {
	late := m.late
	m.late = nil
	for _, t := range late {
		_, _ = m.commit(t) // a conflict is an outcome too
	}
}

// must commits what the simulation itself writes.
func (m *memory) must(t raftstore.Txn) {
	m.settleLate()
	if _, err := m.commit(t); err != nil {
		panic(err)
	}
}

// replica is the store in the hands of one leader.
type replica struct {
	memory *memory
	term   uint64
	// fault returns what goes wrong with a write.
	fault func() writeFault
}

type writeFault int

const (
	writeFine writeFault = iota
	// writeDoneUnknown: committed, and the answer is lost.
	writeDoneUnknown
	// writeLostUnknown: never in the log, and nobody can say so.
	writeLostUnknown
	// writeLateUnknown: in the log, applied only with the next entry.
	writeLateUnknown
)

func (r *replica) View(fn func(raftstore.Reader) error) error { return fn(r.memory) }

func (r *replica) Apply(ctx context.Context, t raftstore.Txn) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if r.memory.term != r.term {
		return 0, raftstore.ErrNotLeader
	}
	if size := sizeOf(t); size > raftstore.MaxTxnSize {
		return 0, raftstore.ErrTooLarge
	}
	fault := writeFine
	if r.fault != nil {
		fault = r.fault()
	}
	if fault == writeLateUnknown {
		r.memory.late = append(r.memory.late, t)
		return 0, raftstore.ErrUnknownOutcome
	}
	if fault == writeLostUnknown {
		return 0, raftstore.ErrUnknownOutcome
	}
	r.memory.settleLate()
	index, err := r.memory.commit(t)
	if fault == writeDoneUnknown {
		return 0, raftstore.ErrUnknownOutcome
	}
	return index, err
}

// audit checks what must be true of every commit and returns what is not.
func audit(before, after *memory) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	after.Scan("command-state/", "", func(key string, _ []byte, index uint64) bool {
		id := strings.TrimPrefix(key, "command-state/")
		if index != after.index {
			return true
		}
		state, err := raftstore.GetCommandState(after, id)
		if err != nil {
			fault("command %s: %w", id, err)
			return true
		}
		was, wasErr := raftstore.GetCommandState(before, id)
		count := raftstore.CommandState{}
		invocations, starts := 0, 0
		if err := raftstore.ScanInvocations(after, id, "", func(i raftstore.Invocation) bool {
			invocations++
			recount(&count, tally{}, tallyOf(&i))
			old, err := raftstore.GetInvocation(before, id, i.NodeID)
			if err == nil && old.Terminal() && (old.Status != i.Status || old.StatusDetails != i.StatusDetails || !old.FinishedAt.Equal(i.FinishedAt)) {
				fault("command %s: the end on %s changed from %s to %s", id, i.NodeID, old.StatusDetails, i.StatusDetails)
			}
			if err == nil && i.Sequence < old.Sequence {
				fault("command %s on %s: the sequence went back from %d to %d", id, i.NodeID, old.Sequence, i.Sequence)
			}
			if !i.DispatchedAt.IsZero() && (err != nil || old.DispatchedAt.IsZero()) {
				starts++
			}
			return true
		}); err != nil {
			fault("command %s: %w", id, err)
		}
		if count.CompletedCount != state.CompletedCount || count.ErrorCount != state.ErrorCount ||
			count.DeliveryTimedOutCount != state.DeliveryTimedOutCount || count.InFlight != state.InFlight {
			fault("command %s: the counters %+v are not those of its invocations %+v", id, state, count)
		}
		if state.Resolved && invocations != state.TargetCount {
			fault("command %s: %d targets and %d invocations", id, state.TargetCount, invocations)
		}
		if state.InFlight > state.MaxConcurrency {
			fault("command %s: %d in flight, MaxConcurrency is %d", id, state.InFlight, state.MaxConcurrency)
		}
		if wasErr == nil && starts > 0 && was.ErrorCount > state.MaxErrors {
			fault("command %s: %d starts after %d errors, MaxErrors is %d", id, starts, was.ErrorCount, state.MaxErrors)
		}
		if starts > 0 && state.ErrorCount > state.MaxErrors {
			fault("command %s: %d starts together with error %d, MaxErrors is %d", id, starts, state.ErrorCount, state.MaxErrors)
		}
		if !state.FinishedAt.IsZero() && state.CompletedCount != state.TargetCount {
			fault("command %s: ended with %d of %d", id, state.CompletedCount, state.TargetCount)
		}
		if wasErr == nil && !was.FinishedAt.IsZero() && was.Status != state.Status {
			fault("command %s: its end changed from %s to %s", id, was.Status, state.Status)
		}
		return true
	})
	return errors.Join(faults...)
}
