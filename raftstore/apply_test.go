package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// Random transactions from several callers at once: put in the order of their
// indexes, those that were applied are what the simplest store would have done,
// each with its preconditions held.
func TestConcurrentTransactionsAreInOneOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	store := c.nodes[0].store
	ctx := testContext(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		prefix := fmt.Sprintf("run-%d/", run)
		key := rapid.Custom(func(t *rapid.T) string { return prefix + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key") })
		model := map[string]stored{}
		for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
			type proposal struct {
				txn   Txn
				index uint64
				err   error
			}
			proposals := make([]*proposal, rapid.IntRange(1, 6).Draw(rt, "callers"))
			for i := range proposals {
				var txn Txn
				for range rapid.IntRange(0, 2).Draw(rt, "preconditions") {
					k := key.Draw(rt, "required")
					at := model[k].index // what a caller has read
					if rapid.IntRange(0, 9).Draw(rt, "wrong") == 0 {
						at++
					}
					txn.Require(k, at)
				}
				for range rapid.IntRange(1, 3).Draw(rt, "operations") {
					if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
						txn.Delete(key.Draw(rt, "deleted"))
					} else {
						txn.Put(key.Draw(rt, "put"), []byte(fmt.Sprint(i)))
					}
				}
				proposals[i] = &proposal{txn: txn}
			}
			var wg sync.WaitGroup
			for _, p := range proposals {
				wg.Go(func() { p.index, p.err = store.Apply(ctx, p.txn) })
			}
			wg.Wait()
			slices.SortFunc(proposals, func(a, b *proposal) int { return int(a.index) - int(b.index) })
			for _, p := range proposals {
				switch {
				case errors.Is(p.err, ErrConflict):
				case p.err != nil:
					rt.Fatal(p.err)
				case !applyToModel(model, p.index, p.txn):
					rt.Fatalf("entry %d was applied though its preconditions did not hold: %+v", p.index, p.txn)
				}
			}
			got := map[string]stored{}
			if err := store.View(func(r Reader) error {
				r.Scan(prefix, "", func(key string, value []byte, index uint64) bool {
					got[key] = stored{string(value), index}
					return true
				})
				return nil
			}); err != nil {
				rt.Fatal(err)
			}
			if diff := difference(model, got); diff != "" {
				rt.Fatal(diff)
			}
		}
	})
}

// Many callers raise one counter on a mesh whose leader changes under them. Each
// acknowledged step is in the sum, and no step is in it twice.
func TestACounterCountsThroughLeaderChanges(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	ctx := testContext(t)
	const callers, steps = 4, 50
	var (
		mu              sync.Mutex
		sure, uncertain int
		wg              sync.WaitGroup
	)
	step := func() error {
		for _, node := range c.nodes {
			if !node.store.IsLeader() {
				continue
			}
			var txn Txn
			if err := node.store.ConfirmedView(ctx, func(r Reader) error {
				value, index, _ := r.Get("counter")
				n, _ := strconv.Atoi(string(value)) // nothing there is 0
				txn.Require("counter", index)
				txn.Put("counter", []byte(strconv.Itoa(n+1)))
				return nil
			}); err != nil {
				return err
			}
			_, err := node.store.Apply(ctx, txn)
			return err
		}
		return ErrNotLeader
	}
	for range callers {
		wg.Go(func() {
			for done := 0; done < steps && ctx.Err() == nil; {
				err := step()
				mu.Lock()
				switch {
				case err == nil:
					sure++
					done++
				case errors.Is(err, ErrUnknownOutcome):
					uncertain++
				case !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotLeader):
					t.Error(err)
					done = steps
				}
				mu.Unlock()
			}
		})
	}
	for range 2 {
		leader := c.leader()
		c.network.isolate(leader.id, c.others(leader)...)
		c.waitFor("the old leader to notice", func() bool { return !leader.store.IsLeader() })
		c.network.heal()
	}
	wg.Wait()
	c.ensureSame()
	value, _, _ := get(t, c.nodes[0].store, "counter")
	n, err := strconv.Atoi(value)
	if err != nil || n < sure || n > sure+uncertain {
		t.Errorf("the counter is %q after %d sure and %d uncertain steps", value, sure, uncertain)
	}
	t.Logf("the counter is %s after %d sure and %d uncertain steps", value, sure, uncertain)
}
