package raftstore

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// reign is one time of leading, from the term's barrier on.
type reign struct {
	term uint64
	// ended is closed when the leadership is lost, or the store closes.
	ended chan struct{}
}

// leadership turns Raft's signals into a level: the present reign, or none. Its
// goroutine is the only reader of Raft's leader channel, which keeps only the
// latest signal; a second "true" means that the leadership was lost and won again
// in between.
type leadership struct {
	raft *raft.Raft
	log  *slog.Logger
	// follows and leads are how Raft keeps time while this server does not lead,
	// and while it does.
	follows, leads raft.ReloadableConfig

	mu    sync.Mutex
	reign *reign
	// changed is closed, and replaced, whenever something may have changed: a
	// reign's begin or end, a signal from Raft, the end of run.
	changed chan struct{}
	closed  bool
}

func newLeadership(r *raft.Raft, log *slog.Logger) *leadership {
	follows := r.ReloadableConfig()
	return &leadership{raft: r, log: log, changed: make(chan struct{}), follows: follows, leads: leaderPace(follows)}
}

// leaderPace is how a leader keeps time. Raft sends each follower a heartbeat
// every tenth to fifth of the sender's own heartbeat time-out. With twice the
// followers' time-out that is a fifth to two fifths of theirs, often enough and
// half of the messages, which are most of what an idle leader does. When a
// follower gives its leader up is its own matter, and stays as configured.
func leaderPace(c raft.ReloadableConfig) raft.ReloadableConfig {
	c.HeartbeatTimeout *= 2
	c.ElectionTimeout = max(c.ElectionTimeout, c.HeartbeatTimeout) // Raft wants it so
	return c
}

// keepTime sets Raft's pace.
func (l *leadership) keepTime(pace raft.ReloadableConfig) {
	if err := l.raft.ReloadConfig(pace); err != nil {
		l.log.Warn("set the pace of heartbeats", "error", err) // it goes on at the old one
	}
}

// barrierRetry is the pause before a barrier is tried again that failed although
// this server still leads, as while leadership is being handed over.
const barrierRetry = 50 * time.Millisecond

// run follows Raft's signals until ctx ends. The store owns its goroutine.
func (l *leadership) run(ctx context.Context) {
	defer l.end(true)
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-l.raft.LeaderCh():
			l.end(false)
			retry = nil
			if !leads {
				l.keepTime(l.follows)
				continue
			}
			l.keepTime(l.leads)
		case <-retry:
			retry = nil
			if l.raft.State() != raft.Leader {
				continue // the signal is on its way
			}
		}
		if !l.begin(ctx) {
			retry = time.After(barrierRetry)
		}
	}
}

// begin waits for the barrier, behind which this server has applied all that was
// ever acknowledged, and then starts the reign.
func (l *leadership) begin(ctx context.Context) bool {
	// The barrier is answered when it is committed or the leadership is lost. A
	// term that is the same before and after is the one it was committed in.
	before := l.raft.CurrentTerm()
	if err := l.raft.Barrier(0).Error(); err != nil {
		l.log.Debug("barrier of a new leader", "term", before, "error", err)
		return false
	}
	if ctx.Err() != nil || l.raft.State() != raft.Leader || l.raft.CurrentTerm() != before {
		return false
	}
	l.mu.Lock()
	l.reign = &reign{term: before, ended: make(chan struct{})}
	l.broadcast()
	l.mu.Unlock()
	l.log.Info("this node leads the mesh", "term", before)
	return true
}

// end ends the reign, if there is one, and wakes whoever waits.
func (l *leadership) end(closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = l.closed || closed
	if l.reign != nil {
		close(l.reign.ended)
		l.log.Info("this node leads the mesh no more", "term", l.reign.term)
		l.reign = nil
	}
	l.broadcast()
}

// broadcast is called with mu held.
func (l *leadership) broadcast() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// current returns the reign or nil, a channel that is closed at the next change,
// and whether the store is closed.
func (l *leadership) current() (*reign, <-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reign, l.changed, l.closed
}

// wait returns the reign as soon as there is one, nil when ctx ended or the store
// closed first.
func (l *leadership) wait(ctx context.Context) *reign {
	for {
		reign, changed, closed := l.current()
		if closed || ctx.Err() != nil {
			return nil
		}
		if reign != nil {
			return reign
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Lead calls run whenever this node leads, from behind the term's barrier on: the
// store then shows all that was ever acknowledged. The context of run ends when
// the leadership does, or ctx, or the store closes; run must then return. The
// next call comes only after that, so two never overlap. A run that returns
// before is not repeated in the same term. Lead itself returns when ctx has ended
// or the store is closed. It is called once.
func (s *Store) Lead(ctx context.Context, run func(ctx context.Context, term uint64)) {
	for {
		reign := s.leadership.wait(ctx)
		if reign == nil {
			return
		}
		s.rule(ctx, reign, run)
	}
}

func (s *Store) rule(ctx context.Context, reign *reign, run func(ctx context.Context, term uint64)) {
	ctx, cancel := context.WithCancel(ctx)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		run(ctx, reign.term)
	}()
	select {
	case <-reign.ended:
	case <-ctx.Done():
	}
	cancel()
	<-returned
}
