package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// enqueueSlice is how long Raft may take to accept an entry before the caller's
// context is looked at again; Raft knows no contexts.
const enqueueSlice = 25 * time.Millisecond

// answerGrace is how long Apply still listens when the context has ended: an
// entry that Raft did not accept is answered at once, so that silence means that
// it did.
const answerGrace = 5 * time.Millisecond

// Apply proposes t and waits until it is applied here, which it then is on a
// majority's disks. It returns the index of its entry, the modify index of what
// it wrote. Errors:
//
//   - ErrConflict: a precondition did not hold, nothing was written.
//   - ErrNotLeader, ErrTooLarge, ErrClosed, or the context's error: nothing was
//     and nothing will be written.
//   - ErrUnknownOutcome: the leadership or the context ended, or a disk failed,
//     after Raft had the entry. Read before doing it again.
//
// Many callers at once share syncs: one transaction is one entry, Raft appends the
// entries that wait together, and fsm applies them together. Packing what waits
// into one entry measured 1.2 to 1.7 times the writes with 64 writers, and is not
// done: the modify index would no longer tell transactions apart, and a writer
// could take another's change in the same entry for its own.
func (s *Store) Apply(ctx context.Context, t Txn) (index uint64, err error) {
	data, err := encodeTxn(t)
	if err != nil {
		return 0, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("write to the store: %w", err)
		}
		future, answered, err := s.propose(data)
		if err != nil {
			return 0, err
		}
		select {
		case err = <-answered:
		case <-ctx.Done():
			select {
			case err = <-answered:
			case <-time.After(answerGrace):
				return 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
			}
		}
		if errors.Is(err, raft.ErrEnqueueTimeout) {
			continue // Raft is busy; it has not taken the entry
		}
		if err != nil {
			return 0, explainApply(err)
		}
		// A verdict of another type cannot be: fsm makes them all.
		if v, ok := future.Response().(verdict); !ok {
			return 0, ErrUnknownOutcome
		} else if errors.Is(v.err, ErrConflict) {
			return 0, ErrConflict
		} else if v.err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, v.err)
		}
		return future.Index(), nil
	}
}

// propose hands an entry to Raft. The answer comes over the channel, once.
func (s *Store) propose(data []byte) (raft.ApplyFuture, <-chan error, error) {
	if !s.calls.enter() {
		return nil, nil, ErrClosed
	}
	future := s.raft.Apply(data, enqueueSlice)
	answered := make(chan error, 1)
	go func() {
		defer s.calls.leave()
		answered <- future.Error()
	}()
	return future, answered, nil
}

// explainApply turns Raft's answers into ours. Those of the first kind are given
// to an entry that is in no log.
func explainApply(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipLost):
		return ErrUnknownOutcome
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// calls counts who waits for an answer of Raft. Raft leaves questions unanswered
// when it is shut down, so Close first refuses new ones and waits for the answers
// to the old: they come, with a commit or with the end of the leadership.
type calls struct {
	mu      sync.Mutex
	closing bool
	waiting sync.WaitGroup
}

// enter reports whether a question may be asked; leave follows its answer.
func (c *calls) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.waiting.Add(1)
	return true
}

func (c *calls) leave() { c.waiting.Done() }

// run runs ask in a goroutine, unless the store is closing.
func (c *calls) run(ask func()) bool {
	if !c.enter() {
		return false
	}
	go func() {
		defer c.leave()
		ask()
	}()
	return true
}

// close refuses new questions; the first call returns true.
func (c *calls) close() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.closing
	c.closing = true
	return first
}

// await runs ask, a question to Raft, and waits for its answer or for ctx.
func (s *Store) await(ctx context.Context, ask func() error) error {
	answered := make(chan error, 1)
	if !s.calls.run(func() { answered <- ask() }) {
		return ErrClosed
	}
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
