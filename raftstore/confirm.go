package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

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

// confirmLeadership is one round: a majority of the voters has answered a
// heartbeat of this term that was sent after the round began. None of them was in
// a later term then, so no later leader had been elected when the round began,
// however long this process has stood still or a message was under way.
//
// Raft's VerifyLeader makes it send the heartbeats. Its answer alone is no proof:
// it counts stand-bys, and answers to what was sent before the question.
func (s *Store) confirmLeadership() error {
	reign, _, closed := s.leadership.current()
	if closed {
		return ErrClosed
	}
	if reign == nil {
		return ErrNotLeader
	}
	question := s.answers.ask()
	err := s.raft.VerifyLeader().Error()
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	default:
		return fmt.Errorf("confirm the leadership: %w", err)
	}
	for {
		answered, more := s.answers.since(reign.term, question)
		servers := s.raft.GetConfiguration().Configuration().Servers
		if isMajority(servers, raft.ServerID(s.cfg.NodeID), answered) {
			return nil
		}
		select {
		case <-more:
		case <-reign.ended: // which it soon is when no majority answers
			return ErrNotLeader
		}
	}
}

// isMajority reports whether self and those who answered are a majority of the
// voters. A leader that is being removed is none of them.
func isMajority(servers []raft.Server, self raft.ServerID, answered map[raft.ServerID]bool) bool {
	voters, votes := 0, 0
	for _, server := range servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if server.ID == self || answered[server.ID] {
			votes++
		}
	}
	return votes > voters/2
}

// answers knows of each server the last question that was asked before a message
// was sent that this server has answered.
type answers struct {
	mu    sync.Mutex
	asked uint64 // questions so far
	// term is that of the messages; last holds, by server, the question.
	term uint64
	last map[raft.ServerID]uint64
	// more is closed, and replaced, at each answer that is news.
	more chan struct{}
}

// ask begins a question and returns its number.
func (a *answers) ask() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return a.asked
}

// sending returns the question that an answer to a message sent from now on is
// good for.
func (a *answers) sending() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// answered notes that a server has answered, in the same term, a message of this
// term that was sent after question.
func (a *answers) answered(id raft.ServerID, term, question uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if term < a.term {
		return
	}
	if term > a.term || a.last == nil {
		a.term, a.last = term, map[raft.ServerID]uint64{}
	}
	if question <= a.last[id] {
		return // most heartbeats: nobody has asked
	}
	a.last[id] = question
	if a.more != nil {
		close(a.more)
		a.more = nil
	}
}

// since returns who has answered a message of this term that was sent after
// question, and a channel that is closed when there may be more.
func (a *answers) since(term, question uint64) (map[raft.ServerID]bool, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answered := map[raft.ServerID]bool{}
	if a.term == term {
		for id, last := range a.last {
			if last >= question {
				answered[id] = true
			}
		}
	}
	if a.more == nil {
		a.more = make(chan struct{})
	}
	return answered, a.more
}

// heartbeats is Raft's transport; it notes who answers what. It looks at single
// messages, which all heartbeats are, and not at pipelines of entries.
type heartbeats struct {
	*raft.NetworkTransport
	answers *answers
}

// AppendEntries implements raft.Transport.
func (h *heartbeats) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	question := h.answers.sending()
	err := h.NetworkTransport.AppendEntries(id, target, args, resp)
	if err == nil && resp.Success && resp.Term == args.Term {
		h.answers.answered(id, args.Term, question)
	}
	return err
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
