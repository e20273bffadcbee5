package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// confirmer asks the other servers whether this one still leads, once for all
// readers that wait. A reader takes part only in a round that begins after it
// came: an earlier one may have been decided before what the reader must see.
type confirmer struct {
	// ask is one round; it returns nil when this server leads.
	ask func() error
	// start runs a round in a goroutine that the store waits for, or returns
	// false when the store is closing.
	start func(func()) bool

	mu      sync.Mutex
	running bool
	// next is the round that begins when the running one has ended, or at once.
	next *round
}

type round struct {
	done chan struct{}
	err  error // to be read after done
}

// join returns the next round, which is started when none is running.
func (c *confirmer) join() *round {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = &round{done: make(chan struct{})}
	}
	joined := c.next
	if !c.running {
		c.running = true
		if !c.start(c.rounds) {
			c.running = false
			c.next = nil
			joined.err = ErrClosed
			close(joined.done)
		}
	}
	return joined
}

// rounds runs rounds until nobody waits.
func (c *confirmer) rounds() {
	for {
		c.mu.Lock()
		r := c.next
		c.next = nil
		if r == nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		r.err = c.ask()
		close(r.done)
	}
}

// confirmLeadership is one round. It asks by VerifyLeader, which costs a message
// to each server, where that is proof, and else commits a barrier.
//
// VerifyLeader counts any answer to a heartbeat: one from a stand-by too, and one
// that was given before the question. What makes it proof is time: a follower
// that has answered is bound to this leader for HeartbeatTimeout, and a leader
// gives up after LeaderLeaseTimeout without a majority's answers. So it is none
// when this process has stood still, nor once leadership was offered to another
// server, which may then be elected at any moment.
func (s *Store) confirmLeadership() error {
	stalls, began := s.leadership.tick(), time.Now()
	proven := false
	var err error
	if stalls == s.trustedStalls.Load() && !s.leadership.offered() {
		err = s.raft.VerifyLeader().Error()
		proven = err == nil && s.leadership.tick() == stalls &&
			time.Since(began) <= s.leadership.stallLimit && !s.leadership.offered()
	}
	if err == nil && !proven {
		if err = s.raft.Barrier(0).Error(); err == nil {
			s.trustedStalls.Store(stalls)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	}
	return fmt.Errorf("confirm the leadership: %w", err)
}

// ConfirmedView is [Store.View] on the leader, of a moment that shows every write
// acknowledged before the call, by whichever leader. It waits for the barrier of
// a new term and shares the question to the other servers with all concurrent
// callers. It returns ErrNotLeader on a node that does not lead or cannot prove
// it, and the context's error when that ends first.
func (s *Store) ConfirmedView(ctx context.Context, fn func(Reader) error) error {
	for {
		reign, changed, closed := s.leadership.current()
		if closed {
			return ErrClosed
		}
		if s.raft.State() != raft.Leader {
			return ErrNotLeader
		}
		if reign != nil {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("confirm the leadership: %w", ctx.Err())
		}
	}
	round := s.confirmer.join()
	select {
	case <-round.done:
		if round.err != nil {
			return round.err
		}
	case <-ctx.Done():
		return fmt.Errorf("confirm the leadership: %w", ctx.Err())
	}
	return s.View(fn)
}
