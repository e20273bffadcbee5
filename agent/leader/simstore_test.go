package leader

import (
	"context"
	"maps"
	"slices"
	"strings"

	"fleetmesh/raftstore"
)

// memory is the store of the model: the real semantics of transactions,
// preconditions and modify indexes, in a map. It checks every commit.
type memory struct {
	values map[string]stored
	// keys are those of values, in order.
	keys  []string
	index uint64
	term  uint64
	// late are entries of unknown outcome that are in the log and not yet applied.
	late []raftstore.Txn
	// check is called after each commit with the store as it was before.
	check func(before *past)
	// changed is called with the keys of each commit.
	changed func(keys []string)
}

type stored struct {
	value []byte
	index uint64
}

// past is the store before its newest commit, for single records.
type past struct {
	*memory
	// was has what the commit wrote over; the zero value where nothing was.
	was map[string]stored
}

func (p *past) Get(key string) ([]byte, uint64, bool) {
	s, changed := p.was[key]
	if !changed {
		return p.memory.Get(key)
	}
	return s.value, s.index, s.index > 0
}

func newMemory() *memory { return &memory{values: map[string]stored{}} }

// clone is the store as it is now, for one who is told of no later commit.
func (m *memory) clone() *memory {
	return &memory{values: maps.Clone(m.values), keys: slices.Clone(m.keys), index: m.index, term: m.term}
}

func (m *memory) Get(key string) ([]byte, uint64, bool) {
	s, ok := m.values[key]
	return s.value, s.index, ok
}

func (m *memory) Scan(prefix, start string, fn func(string, []byte, uint64) bool) {
	at, _ := slices.BinarySearch(m.keys, max(prefix, start))
	for ; at < len(m.keys) && strings.HasPrefix(m.keys[at], prefix); at++ {
		s := m.values[m.keys[at]]
		if !fn(m.keys[at], s.value, s.index) {
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
	before := &past{memory: m, was: map[string]stored{}}
	var keys []string
	for _, op := range t.Ops {
		keys = append(keys, op.Key)
		if _, twice := before.was[op.Key]; !twice {
			before.was[op.Key] = m.values[op.Key]
		}
		at, found := slices.BinarySearch(m.keys, op.Key)
		switch {
		case op.Delete:
			delete(m.values, op.Key)
			if found {
				m.keys = slices.Delete(m.keys, at, at+1)
			}
			continue
		case !found:
			m.keys = slices.Insert(m.keys, at, op.Key)
		}
		m.values[op.Key] = stored{slices.Clone(op.Value), m.index}
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

// must commits what the model itself writes.
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
	// depose takes the leadership away.
	depose func()
	// regain lets another lead for a moment, and then this one again.
	regain func()
	// frozen is what a deposed leader still sees.
	frozen *memory
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
	// The leadership is lost while the write is under way, and the write is
	// committed, or never in the log, or for the next leader to find.
	writeDoneDeposed
	writeLostDeposed
	writeLateDeposed
	// writeLostRegained: not in the log, another led meanwhile, and this node leads
	// again before its engine has noticed.
	writeLostRegained
	writeFaults
)

func (r *replica) View(fn func(raftstore.Reader) error) error {
	if r.frozen != nil {
		return fn(r.frozen)
	}
	return fn(r.memory)
}

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
	switch fault {
	case writeLostRegained:
		r.regain()
		return 0, raftstore.ErrUnknownOutcome
	case writeDoneDeposed, writeLostDeposed, writeLateDeposed:
		defer r.depose()
	}
	switch fault {
	case writeLateUnknown, writeLateDeposed:
		r.memory.late = append(r.memory.late, t)
		return 0, raftstore.ErrUnknownOutcome
	case writeLostUnknown, writeLostDeposed:
		return 0, raftstore.ErrUnknownOutcome
	}
	r.memory.settleLate()
	index, err := r.memory.commit(t)
	if fault != writeFine {
		return 0, raftstore.ErrUnknownOutcome
	}
	return index, err
}
