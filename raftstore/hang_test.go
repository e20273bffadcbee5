package raftstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var (
	hangRounds = flag.Int("hang.rounds", 6, "closings of each server in TestNothingHangs")
	hangSeed   = flag.Uint64("hang.seed", 0, "replay this schedule")
)

// within fails the test, with all goroutines, when do has not returned after
// patience.
func within(t *testing.T, what string, do func()) {
	done := make(chan struct{})
	timer := time.AfterFunc(patience, func() {
		select {
		case <-done:
		default:
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			panic(what + " hangs") // the test could not end: everybody waits for it
		}
	})
	defer timer.Stop()
	defer close(done)
	do()
}

// Servers open and close at any moment, the leadership is handed over, snapshots
// are made, cables are cut, and everybody asks everything of everybody. Each call
// comes back, and each server closes.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	seed := *hangSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1<<32)
	}
	t.Logf("replay the schedule with -hang.seed %d", seed)
	c := newCluster(t, 3, func(cfg *Config) {
		cfg.TrailingLogs = 16
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 100*time.Millisecond, 100*time.Millisecond, 80*time.Millisecond
	})
	// Each server has one of these; a store that was closed may still be asked.
	stores := make([]atomic.Pointer[Store], len(c.nodes))
	for i, node := range c.nodes {
		stores[i].Store(node.store)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var asking, ruling sync.WaitGroup
	var asked atomic.Int64
	for id := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(id)))
		asking.Go(func() {
			for ctx.Err() == nil {
				s := stores[rng.IntN(len(stores))].Load()
				ctx, cancel := context.WithTimeout(ctx, upTo(rng, 300*time.Millisecond))
				ask(t, ctx, s, rng)
				cancel()
				asked.Add(1)
				time.Sleep(upTo(rng, 2*time.Millisecond)) // a refusal comes at once
			}
		})
	}
	rule := func(s *Store) {
		ruling.Go(func() {
			s.Lead(ctx, func(ctx context.Context, _ uint64) {
				watch := s.Watch("key")
				defer watch.Stop()
				for {
					select {
					case <-watch.C:
						_, _ = s.Apply(ctx, put("seen", "1")) // any answer is one
					case <-ctx.Done():
						return
					}
				}
			})
		})
	}
	var closing sync.WaitGroup
	for i, node := range c.nodes {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		rule(node.store)
		closing.Go(func() {
			for range *hangRounds {
				time.Sleep(upTo(rng, 400*time.Millisecond)) // any moment
				s := stores[i].Load()
				within(t, "closing "+node.id, func() {
					if err := s.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
				time.Sleep(upTo(rng, 100*time.Millisecond))
				opened, err := Open(c.config(node))
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				stores[i].Store(opened)
				rule(opened)
			}
		})
	}
	closed := make(chan struct{})
	go func() { closing.Wait(); close(closed) }()
	rng := rand.New(rand.NewPCG(seed, 200))
	for open := true; open; {
		node := c.nodes[rng.IntN(len(c.nodes))]
		c.network.isolate(node.id, c.others(node)...)
		time.Sleep(upTo(rng, 150*time.Millisecond))
		c.network.heal()
		select {
		case <-closed:
			open = false
		case <-time.After(upTo(rng, 400*time.Millisecond)):
		}
	}
	for i, node := range c.nodes {
		node.store = stores[i].Load()
	}
	cancel()
	within(t, "a call", asking.Wait)
	within(t, "a run of Lead", ruling.Wait)
	c.ensureSame()
	t.Logf("%d calls came back", asked.Load())
}

// ask makes one call of any kind and accepts any answer that its documentation
// names.
func ask(t *testing.T, ctx context.Context, s *Store, rng *rand.Rand) {
	var what string
	var err error
	switch rng.IntN(8) {
	case 0, 1, 2:
		what = "Apply"
		_, err = s.Apply(ctx, put(fmt.Sprintf("key-%d", rng.IntN(20)), "value"))
	case 3, 4:
		what = "ConfirmedView"
		err = s.ConfirmedView(ctx, func(r Reader) error { r.Get("first"); return nil })
	case 5:
		what = "View"
		err = s.View(func(r Reader) error { r.Scan("", "", func(string, []byte, uint64) bool { return true }); return nil })
	case 6:
		if rng.IntN(4) > 0 {
			return
		}
		what = "TransferLeadership"
		if s.TransferLeadership(ctx) != nil {
			return // Raft has no values for why not
		}
	case 7:
		if rng.IntN(4) > 0 {
			return
		}
		what = "Snapshot"
		if err = s.Snapshot(); errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return
		}
	}
	for _, known := range []error{nil, ErrNotLeader, ErrClosed, ErrUnknownOutcome, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, known) {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}
