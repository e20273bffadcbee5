package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// On each node a run that counts: however often the leadership moves, no node has
// two runs at a time, each run sees what was written before its term, and the
// terms of a node grow.
func TestLeadNeverOverlaps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	ctx, cancel := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var (
		written atomic.Int64 // the highest number acknowledged under "n"
		runs    atomic.Int64
	)
	for _, node := range c.nodes {
		var running atomic.Int32
		var lastTerm uint64
		wg.Go(func() {
			node.store.Lead(ctx, func(ctx context.Context, term uint64) {
				atLeast := written.Load()
				if running.Add(1) != 1 {
					t.Errorf("%s has two runs", node.id)
				}
				defer running.Add(-1)
				if term <= lastTerm {
					t.Errorf("%s leads in term %d after %d", node.id, term, lastTerm)
				}
				lastTerm = term
				runs.Add(1)
				var n int64
				if err := node.store.View(func(r Reader) error {
					value, _, _ := r.Get("n")
					_, _ = fmt.Sscan(string(value), &n) // nothing there is 0
					return nil
				}); err != nil {
					t.Error(err)
				}
				if n < atLeast {
					t.Errorf("%s leads from %d, acknowledged was %d", node.id, n, atLeast)
				}
				<-ctx.Done()
			})
		})
	}
	for i := range int64(6) {
		c.write("n", fmt.Sprint(i+1))
		written.Store(i + 1)
		leader := c.leader()
		before := runs.Load()
		if i%2 == 0 {
			if err := leader.store.TransferLeadership(testContext(t)); err != nil {
				t.Logf("transfer: %v", err)
				continue
			}
		} else {
			c.network.isolate(leader.id, c.others(leader)...)
			c.waitFor("the old leader to notice", func() bool { return !leader.store.IsLeader() })
			c.network.heal()
		}
		c.waitFor("the next run", func() bool { return runs.Load() > before })
	}
}

// A run that is slow to end delays the next one, and one that returns early is
// not repeated in its term.
func TestLeadWaitsForTheRunAndRunsOncePerTerm(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	terms := make(chan uint64, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		leader.store.Lead(ctx, func(_ context.Context, term uint64) { terms <- term })
	}()
	first := <-terms
	if first != leader.store.Term() {
		t.Errorf("run in term %d, the store is in %d", first, leader.store.Term())
	}
	c.write("a", "1")
	select {
	case term := <-terms:
		t.Errorf("a second run in term %d", term)
	default:
	}
	cancel()
	<-ended
}

func TestCloseEndsTheRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	store := c.nodes[0].store
	running := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		store.Lead(context.Background(), func(ctx context.Context, _ uint64) {
			close(running)
			<-ctx.Done()
			if _, err := store.Apply(context.Background(), put("late", "1")); !errors.Is(err, ErrClosed) {
				t.Errorf("a write while closing: %v", err)
			}
		})
	}()
	<-running
	c.stop(c.nodes[0])
	<-ended
}

// Confirmed reads share questions, but none takes an answer to a question that
// was asked before it came.
func TestConfirmationsAreShared(t *testing.T) {
	t.Parallel()
	var calls calls
	asked, answer := make(chan struct{}), make(chan error)
	var rounds atomic.Int32
	c := confirmer{start: calls.run, ask: func() error {
		rounds.Add(1)
		asked <- struct{}{}
		return <-answer
	}}
	first := c.join()
	<-asked
	second, third := c.join(), c.join()
	if first == second || second != third {
		t.Fatal("the second reader joined a running round, or the third did not join the second's")
	}
	answer <- nil
	<-first.done
	select {
	case <-second.done:
		t.Error("the second round was answered with the first")
	default:
	}
	<-asked
	answer <- ErrNotLeader
	<-second.done
	calls.close()
	calls.waiting.Wait()
	if first.err != nil || !errors.Is(second.err, ErrNotLeader) || rounds.Load() != 2 {
		t.Errorf("answers %v and %v in %d rounds", first.err, second.err, rounds.Load())
	}
	last := c.join()
	<-last.done
	if !errors.Is(last.err, ErrClosed) {
		t.Errorf("after closing: %v", last.err)
	}
}

// What proves the leadership: answers of a majority of the voters, in the same
// term, to what was sent after the question.
func TestOnlyNewAnswersOfVotersProve(t *testing.T) {
	t.Parallel()
	voters := func(ids ...raft.ServerID) (servers []raft.Server) {
		for _, id := range ids {
			servers = append(servers, raft.Server{ID: id, Suffrage: raft.Voter})
		}
		return append(servers, raft.Server{ID: "stand-by", Suffrage: raft.Nonvoter})
	}
	type answer struct {
		id            raft.ServerID
		term          uint64
		beforeTheTurn bool // the message was sent before the question
	}
	for _, test := range []struct {
		name    string
		servers []raft.Server
		answers []answer
		want    bool
	}{
		{"alone", voters("self"), nil, true},
		{"nobody of three", voters("self", "a", "b"), nil, false},
		{"one of three", voters("self", "a", "b"), []answer{{"b", 7, false}}, true},
		{"one of three, to an older message", voters("self", "a", "b"), []answer{{"b", 7, true}}, false},
		{"older and newer", voters("self", "a", "b"), []answer{{"b", 7, true}, {"b", 7, false}}, true},
		{"newer and then older", voters("self", "a", "b"), []answer{{"b", 7, false}, {"b", 7, true}}, true},
		{"of an earlier term", voters("self", "a", "b"), []answer{{"b", 6, false}}, false},
		{"of a later term", voters("self", "a", "b"), []answer{{"a", 7, false}, {"b", 8, false}}, false},
		{"a stand-by", voters("self", "a", "b"), []answer{{"stand-by", 7, false}}, false},
		{"one of five, twice", voters("self", "a", "b", "c", "d"), []answer{{"b", 7, false}, {"b", 7, false}}, false},
		{"two of five", voters("self", "a", "b", "c", "d"), []answer{{"b", 7, false}, {"d", 7, false}}, true},
		{"one of two others, self removed", voters("a", "b"), []answer{{"b", 7, false}}, false},
		{"both others, self removed", voters("a", "b"), []answer{{"b", 7, false}, {"a", 7, false}}, true},
		{"no voters", voters(), nil, false},
	} {
		var a answers
		before := a.sending()
		question := a.ask()
		for _, answer := range test.answers {
			sent := a.sending()
			if answer.beforeTheTurn {
				sent = before
			}
			a.answered(answer.id, answer.term, sent)
		}
		answered, _ := a.since(7, question)
		if got := isMajority(test.servers, "self", answered); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	var a answers
	question := a.ask()
	_, more := a.since(7, question)
	a.answered("b", 7, a.sending())
	<-more
}

func TestServersChangeOneAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *Config) {
		// So ample that a busy machine costs no leader.
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	})
	ctx := testContext(t)
	leader := c.leader()
	servers, index, err := leader.store.Servers()
	if err != nil || len(servers) != 3 || index == 0 {
		t.Fatalf("servers %v at %d, %v", servers, index, err)
	}
	for _, s := range servers {
		if !s.Voter {
			t.Errorf("%s has no vote", s.ID)
		}
	}
	other := c.nodes[0]
	if other == leader {
		other = c.nodes[1]
	}
	if err := leader.store.Demote(ctx, other.id, index-1); !errors.Is(err, ErrConflict) {
		t.Errorf("a change of older servers: %v, want ErrConflict", err)
	}
	if err := leader.store.Demote(ctx, other.id, 0); err == nil {
		t.Error("a change without an index was made")
	}
	if err := other.store.Demote(ctx, other.id, index); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a change on a follower: %v, want ErrNotLeader", err)
	}
	if err := leader.store.AddVoter(ctx, "another", other.address, index); err == nil || errors.Is(err, ErrConflict) {
		t.Errorf("an address twice: %v", err)
	}
	find := func() (found *Server) {
		t.Helper()
		servers, index, err = leader.store.Servers()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			if s.ID == other.id {
				found = &s
			}
		}
		return found
	}
	if err := leader.store.Demote(ctx, other.id, index); err != nil {
		t.Fatal(err)
	}
	c.waitFor("the demotion", func() bool { s := find(); return s != nil && !s.Voter })
	c.ensureSame() // it follows
	if err := leader.store.Remove(ctx, other.id, index); err != nil {
		t.Fatal(err)
	}
	c.waitFor("the removal", func() bool { return find() == nil })
	c.stop(other)
	c.ensureSame()

	// A leader that is removed stops leading, and stays open until it is closed.
	_, index, err = leader.store.Servers()
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.store.Remove(ctx, leader.id, index); err != nil {
		t.Fatal(err)
	}
	c.waitFor("another leader", func() bool { return c.leader() != leader })
	if _, err := leader.store.Apply(ctx, put("x", "1")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a write on a removed server: %v", err)
	}
}

func TestTransferLeadership(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	ctx := testContext(t)
	leader := c.leader()
	for _, node := range c.nodes {
		if node != leader {
			if err := node.store.TransferLeadership(ctx); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower: %v, want ErrNotLeader", err)
			}
		}
	}
	c.waitFor("another leader", func() bool {
		_ = leader.store.TransferLeadership(ctx) // may time out on a busy machine
		return c.leader() != leader
	})
	c.ensureSame()

	alone := newCluster(t, 1, nil)
	if err := alone.nodes[0].store.TransferLeadership(ctx); err == nil {
		t.Error("a lone server handed its leadership over")
	}
	alone.write("a", "1")
}

// What the followers have answered before a question is on its way for long, and
// arrives after it; another server leads meanwhile. It proves nothing.
func TestAnswersThatWereHeldBackProveNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *Config) {
		// So long that the old leader believes in itself until it hears of the other.
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	})
	ctx := testContext(t)
	for round := range 2 {
		c.write("k", fmt.Sprint("then ", round))
		c.ensureSame()
		old, now := c.leader(), fmt.Sprint("now ", round)
		for _, other := range c.others(old) {
			c.network.hold(other, old.id)
		}
		var running sync.WaitGroup
		running.Go(func() { _ = old.store.TransferLeadership(ctx) }) // whose answer is held back as well
		c.waitFor("another leader to accept a write", func() bool {
			for _, node := range c.nodes {
				if node != old && node.store.IsLeader() {
					_, err := node.store.Apply(ctx, put("k", now))
					return err == nil
				}
			}
			return !old.store.IsLeader() // or too late
		})
		asked := old.store.answers.sending()
		running.Go(func() {
			err := old.store.ConfirmedView(ctx, func(r Reader) error {
				if value, _, _ := r.Get("k"); string(value) != now {
					t.Errorf("read %q from the old leader, acknowledged was %q", value, now)
				}
				return nil
			})
			t.Logf("the old leader says: %v", err)
		})
		c.waitFor("the question", func() bool { return old.store.answers.sending() > asked || !old.store.IsLeader() })
		c.network.heal()
		running.Wait()
	}
}

// A leader sends fewer heartbeats, and is as impatient as the others again as soon
// as it follows.
func TestOnlyLeadersKeepTheSlowerPace(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	timeout := func(node *testNode) time.Duration { return node.store.raft.ReloadableConfig().HeartbeatTimeout }
	leader := c.leader()
	for _, node := range c.nodes {
		want := node.store.cfg.HeartbeatTimeout
		if node == leader {
			want *= 2
		}
		c.waitFor("its pace", func() bool { return timeout(node) == want })
	}
	c.network.isolate(leader.id, c.others(leader)...)
	c.waitFor("the followers' pace", func() bool { return timeout(leader) == leader.store.cfg.HeartbeatTimeout })
	c.network.heal()
}
