package leader

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"fleetmesh/internal/failpoint"
	"fleetmesh/raftstore"
)

// entry is one transaction in the making: invocations of some commands, and for
// each of these commands the state that counts exactly what the store then has.
type entry struct {
	txn   raftstore.Txn
	size  int
	parts []*part
}

type part struct {
	command *activeCommand
	state   raftstore.CommandState
	targets []*activeTarget
}

// stateSize is room enough for a command's state, in bytes.
const stateSize = 1 << 10

func sizeOf(t raftstore.Txn) int {
	size := 0
	for _, p := range t.Preconditions {
		size += len(p.Key) + 10
	}
	for _, op := range t.Ops {
		size += len(op.Key) + len(op.Value) + 10
	}
	return size
}

// commit writes what was decided, in as few entries as their size allows. What
// starts or ends comes before what merely waits, so that the first batch of a
// large command is in its first entry. conflict asks for a new decision.
func (e *engine) commit(ctx context.Context, late map[string]raftstore.Invocation, now time.Time) (conflict bool, err error) {
	touched := make([]*activeCommand, 0, len(e.touched))
	for _, c := range e.touched {
		touched = append(touched, c)
	}
	slices.SortFunc(touched, byAge)
	var open entry
	// add opens a new entry first when this one has no room.
	flush := func() error {
		if len(open.txn.Ops) == 0 && len(open.parts) == 0 {
			return nil
		}
		full := open
		open = entry{}
		conflict, err = e.apply(ctx, full, now)
		if err == nil && conflict {
			err = raftstore.ErrConflict
		}
		return err
	}
	done := func(err error) (bool, error) {
		if errors.Is(err, raftstore.ErrConflict) {
			return true, nil
		}
		return false, err
	}
	for _, c := range touched {
		changed := changedTargets(c)
		if len(changed) == 0 && c.next == c.state {
			delete(e.touched, c.command.ID)
			continue
		}
		p := open.part(c)
		for _, t := range changed {
			record := invocationTxn(t.invocation)
			size := sizeOf(record)
			if open.size+size > e.limit && len(open.txn.Ops) > 0 {
				if err := flush(); err != nil {
					return done(err)
				}
				p = open.part(c)
			}
			open.txn.Merge(record)
			open.size += size
			p.targets = append(p.targets, t)
			recount(&p.state, t.counted, tallyOf(&t.invocation))
		}
		modifyIndex := c.state.ModifyIndex
		p.state = c.next // all is in: the counters are equal
		p.state.ModifyIndex = modifyIndex
		if open.size > e.limit {
			if err := flush(); err != nil {
				return done(err)
			}
		}
	}
	for _, i := range late {
		record := invocationTxn(i)
		size := sizeOf(record)
		if open.size+size > e.limit {
			if err := flush(); err != nil {
				return done(err)
			}
		}
		open.txn.Merge(record)
		open.size += size
	}
	return done(flush())
}

// changedTargets returns the targets to write: those that start or end, then
// those that wait.
func changedTargets(c *activeCommand) []*activeTarget {
	var changed []*activeTarget
	for _, t := range c.targets {
		if t.changed {
			changed = append(changed, t)
		}
	}
	waits := func(t *activeTarget) int {
		if t.invocation.Terminal() || t.invocation.InFlight() {
			return 0
		}
		return 1
	}
	slices.SortFunc(changed, func(a, b *activeTarget) int {
		if n := waits(a) - waits(b); n != 0 {
			return n
		}
		return strings.Compare(a.invocation.NodeID, b.invocation.NodeID)
	})
	return changed
}

func invocationTxn(i raftstore.Invocation) raftstore.Txn {
	var t raftstore.Txn
	t.PutInvocation(i)
	if sizeOf(t) > maxRecord {
		t = raftstore.Txn{}
		t.PutInvocation(fit(i))
	}
	return t
}

// part begins a command's share of the entry: its state so far, with what was
// decided about the command as a whole. Until the last share it is not resolved
// and not ended.
func (n *entry) part(c *activeCommand) *part {
	p := &part{command: c, state: c.state}
	p.state.TargetCount, p.state.MaxConcurrency, p.state.MaxErrors = c.next.TargetCount, c.next.MaxConcurrency, c.next.MaxErrors
	p.state.Cancelling, p.state.Stopped = c.next.Cancelling, c.next.Stopped
	n.parts = append(n.parts, p)
	n.size += stateSize
	return p
}

// apply commits one entry. After a success the memory is as the store is, and
// what was started may be sent.
func (e *engine) apply(ctx context.Context, n entry, now time.Time) (conflict bool, err error) {
	for _, p := range n.parts {
		if p.state.FinishedAt.IsZero() {
			p.state.Status, p.state.StatusDetails = runningStatus(p.state)
		}
		n.txn.PutCommandState(p.state)
	}
	n.pass(failpoint.BatchUncommitted, failpoint.ReportUncommitted)
	index, err := e.put(ctx, n.txn)
	switch {
	case errors.Is(err, raftstore.ErrTooLarge) && e.limit > txnLimit/8:
		e.limit /= 2
		fallthrough
	case errors.Is(err, raftstore.ErrConflict):
		return true, e.store.View(func(r raftstore.Reader) error {
			for _, p := range n.parts {
				if err := e.load(r, p.command.command.ID); err != nil {
					return err
				}
			}
			return nil
		})
	case err != nil:
		return false, err
	}
	n.pass(failpoint.BatchCommitted, failpoint.ReportCommitted)
	for _, p := range n.parts {
		c := p.command
		c.state = p.state
		c.state.ModifyIndex, c.next.ModifyIndex = index, index
		for _, t := range p.targets {
			t.invocation.ModifyIndex = index
			t.counted = tallyOf(&t.invocation)
			t.changed = false
			t.invocation = slim(t.invocation)
			e.track(t, toSend)
		}
		if c.state == c.next {
			delete(e.touched, c.command.ID)
		}
		if !c.state.FinishedAt.IsZero() {
			e.drop(c)
		}
	}
	return false, nil
}

// pass comes by the failpoints of an entry that starts something, or takes reports.
func (n *entry) pass(starts, reports failpoint.Point) {
	if !failpoint.Enabled {
		return
	}
	for _, p := range n.parts {
		for _, t := range p.targets {
			switch i := &t.invocation; {
			case i.Sequence > 0:
				failpoint.Hit(reports)
			case i.InFlight() && t.counted.inFlight == 0:
				failpoint.Hit(starts)
			}
		}
	}
}

// unknownPause is the wait before a write of unknown outcome is tried again. Its
// preconditions make the repetition safe: if the first was done the second is
// refused.
const unknownPause = 20 * time.Millisecond

func (e *engine) put(ctx context.Context, txn raftstore.Txn) (uint64, error) {
	for {
		index, err := e.store.Apply(ctx, txn)
		if !errors.Is(err, raftstore.ErrUnknownOutcome) || ctx.Err() != nil {
			return index, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(e.unknownPause):
		}
	}
}
