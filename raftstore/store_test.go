package raftstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOneNodeWritesReadsAndComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	node := c.nodes[0]
	ctx := testContext(t)

	first, err := node.store.Apply(ctx, put("a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	var second Txn
	second.Require("a", first)
	second.Require("b", 0)
	second.Put("b", nil)
	second.Delete("first")
	second.Delete("never there")
	index, err := node.store.Apply(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.store.Apply(ctx, second); !errors.Is(err, ErrConflict) {
		t.Fatalf("repeated transaction: %v, want ErrConflict", err)
	}
	check := func() {
		t.Helper()
		if value, at, ok := get(t, node.store, "a"); !ok || value != "1" || at != first {
			t.Errorf("a = %q at %d, %v; want 1 at %d", value, at, ok, first)
		}
		if value, at, ok := get(t, node.store, "b"); !ok || value != "" || at != index {
			t.Errorf("b = %q at %d, %v; want an empty value at %d", value, at, ok, index)
		}
		if _, at, ok := get(t, node.store, "first"); ok || at != 0 {
			t.Errorf("first is there at %d", at)
		}
	}
	check()
	if err := node.store.ConfirmedView(ctx, func(r Reader) error {
		if r.Index() < index {
			t.Errorf("view of %d, want at least %d", r.Index(), index)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	c.stop(node)
	c.start(node)
	check() // before any election: the state is on disk
	c.leader()
	check()
	c.write("c", "3")
}

func TestScanIsOrderedAndBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	var txn Txn
	for _, key := range []string{"p/c", "p/a", "o", "p/b", "q", "p"} {
		txn.Put(key, []byte(key))
	}
	if _, err := c.nodes[0].store.Apply(testContext(t), txn); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ prefix, start, want string }{
		{"p/", "", "p/a p/b p/c"},
		{"p/", "p/b", "p/b p/c"},
		{"p/", "p/bb", "p/c"},
		{"p/", "a", "p/a p/b p/c"},
		{"p/", "q", ""},
		{"", "", "first o p p/a p/b p/c q"},
		{"p", "", "p p/a p/b p/c"},
		{"x", "", ""},
	} {
		var got []string
		if err := c.nodes[0].store.View(func(r Reader) error {
			r.Scan(test.prefix, test.start, func(key string, value []byte, _ uint64) bool {
				if key != "first" && string(value) != key {
					t.Errorf("value of %q is %q", key, value)
				}
				got = append(got, key)
				return true
			})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("Scan(%q, %q) = %s, want %s", test.prefix, test.start, s, test.want)
		}
	}
}

func TestApplyRefusesWhatItCannotStore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	ctx := testContext(t)
	if _, err := c.nodes[0].store.Apply(ctx, put("big", strings.Repeat("x", MaxTxnSize))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large value: %v, want ErrTooLarge", err)
	}
	if _, err := c.nodes[0].store.Apply(ctx, put("", "x")); err == nil {
		t.Error("an empty key was taken")
	}
	if _, err := c.nodes[0].store.Apply(ctx, put(strings.Repeat("k", maxKeySize+1), "x")); err == nil {
		t.Error("a long key was taken")
	}
	if _, err := c.nodes[0].store.Apply(ctx, put(strings.Repeat("k", maxKeySize), strings.Repeat("x", MaxTxnSize-maxKeySize-20))); err != nil {
		t.Errorf("the largest transaction: %v", err)
	}
}

func TestFollowersRefuseWritesAndConfirmedReads(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	ctx := testContext(t)
	leader := c.leader()
	c.write("a", "1")
	for _, node := range c.nodes {
		if node == leader {
			continue
		}
		if _, err := node.store.Apply(ctx, put("b", "1")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("write on a follower: %v, want ErrNotLeader", err)
		}
		if err := node.store.ConfirmedView(ctx, func(Reader) error { return nil }); !errors.Is(err, ErrNotLeader) {
			t.Errorf("confirmed read on a follower: %v, want ErrNotLeader", err)
		}
		if id, address := node.store.Leader(); id != leader.id || address != leader.address {
			t.Errorf("the leader is %s at %s, want %s at %s", id, address, leader.id, leader.address)
		}
	}
	c.ensureSame()
}

func TestACutOffLeaderAnswersSoonAndHonestly(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	ctx := testContext(t)
	c.write("a", "0")
	old := c.leader()
	c.network.isolate(old.id, c.others(old)...)
	// What is handed to Raft now may or may not survive.
	began := time.Now()
	_, err := old.store.Apply(ctx, put("a", "lost?"))
	if !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNotLeader) {
		t.Fatalf("write on a cut-off leader: %v, want ErrUnknownOutcome", err)
	}
	t.Logf("answered %v after %v", err, time.Since(began))
	if err := old.store.ConfirmedView(ctx, func(Reader) error { return nil }); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("confirmed read on a cut-off leader: %v, want ErrNotLeader", err)
	}
	c.waitFor("another leader", func() bool {
		for _, node := range c.nodes {
			if node != old && node.store.IsLeader() {
				_, err := node.store.Apply(ctx, put("a", "1"))
				return err == nil
			}
		}
		return false
	})
	c.network.heal()
	c.waitFor("the old leader to see the new one's write", func() bool {
		value, _, _ := get(t, old.store, "a")
		return value == "1"
	})
	c.ensureSame()
}

func TestApplyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	ended, cancel := context.WithCancel(testContext(t))
	cancel()
	_, err := c.nodes[0].store.Apply(ended, put("a", "1"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("write with an ended context: %v, want only context.Canceled", err)
	}
	if _, _, ok := get(t, c.nodes[0].store, "a"); ok {
		t.Error("it was written all the same")
	}
}

func TestApplyIsUnknownWhenItsContextEndsAfterRaftHasIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *Config) {
		// The leader takes long to notice that it is alone.
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = time.Second, time.Second, time.Second
	})
	leader := c.leader()
	c.network.isolate(leader.id, c.others(leader)...)
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	_, err := leader.store.Apply(ctx, put("a", "1"))
	if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("write on a cut-off leader with 100 ms: %v, want ErrUnknownOutcome and the deadline", err)
	}
}

func TestEverythingIsRefusedAfterClose(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	store := c.nodes[0].store
	c.stop(c.nodes[0])
	ctx := testContext(t)
	if _, err := store.Apply(ctx, put("a", "1")); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	if err := store.View(func(Reader) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("View: %v", err)
	}
	if err := store.ConfirmedView(ctx, func(Reader) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("ConfirmedView: %v", err)
	}
	if err := store.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Errorf("Snapshot: %v", err)
	}
	if err := store.Remove(ctx, "x", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Remove: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	store.Lead(ctx, func(context.Context, uint64) { t.Error("a closed store leads") })
}

func TestBootstrapOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	for _, node := range c.nodes {
		if err := node.store.Bootstrap(put("x", "1")); err == nil {
			t.Errorf("%s was bootstrapped again", node.id)
		}
	}
}
