//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"fleetmesh/raftstore"
)

// storeNetwork is Raft's network of a few stores in this process.
type storeNetwork struct {
	patience  time.Duration // of an election
	mu        sync.Mutex
	addresses map[string]string // real ones, by those that Raft knows
}

func newStoreNetwork(patience time.Duration) *storeNetwork {
	return &storeNetwork{patience: patience, addresses: map[string]string{}}
}

type storeStream struct {
	net.Listener
	network *storeNetwork
}

func (s *storeStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	s.network.mu.Lock()
	real := s.network.addresses[string(address)]
	s.network.mu.Unlock()
	if real == "" {
		return nil, errors.New("that server is not there")
	}
	return net.DialTimeout("tcp", real, timeout)
}

// open opens the store of server name in dir. Its log is short.
func (n *storeNetwork) open(dir, name string, fatal func(error)) (*raftstore.Store, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := name + ":1"
	n.mu.Lock()
	n.addresses[address] = listener.Addr().String()
	n.mu.Unlock()
	return raftstore.Open(raftstore.Config{
		Dir: filepath.Join(dir, name), NodeID: name, Address: address,
		Stream: &storeStream{listener, n}, Log: quietLog(), Fatal: fatal,
		HeartbeatTimeout: n.patience, ElectionTimeout: n.patience, LeaderLeaseTimeout: n.patience, CommitTimeout: 10 * time.Millisecond,
		SnapshotThreshold: 1 << 20, TrailingLogs: 4,
	})
}

const (
	storeWriters = 3
	storeKeys    = 5
)

// storeChild is a store of one voter and then of two, with snapshots, an installed
// snapshot and a restart. Each writer writes values that count up, to a few keys
// in turn.
func storeChild(dir string, note func(string, ...any)) error {
	failed := make(chan error, 1)
	fatal := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	ctx := context.Background()
	next := 0
	write := func(stores []*raftstore.Store, count int) error {
		errs := make([]error, storeWriters)
		var wg sync.WaitGroup
		for w := range storeWriters {
			wg.Go(func() {
				for i := next; i < next+count && errs[w] == nil; i++ {
					note("try %d %d\n", w, i)
					// Long enough for several pages, now and then.
					value := fmt.Sprintf("%d %s", i, strings.Repeat("x", (i*i*w*37)%9000))
					var index uint64
					if index, errs[w] = applyTo(ctx, stores, raftstore.Txn{Ops: []raftstore.Op{{Key: fmt.Sprintf("w/%d/%d", w, i%storeKeys), Value: []byte(value)}}}); errs[w] == nil {
						note("ack %d %d %d\n", w, i, index)
					}
				}
			})
		}
		wg.Wait()
		next += count
		return errors.Join(errs...)
	}
	network := newStoreNetwork(400 * time.Millisecond)
	// As a run leaves it that was killed at its very beginning.
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o700); err != nil {
		return err
	}
	a, err := network.open(dir, "a", fatal)
	if err != nil {
		return err
	}
	if err := a.Bootstrap(raftstore.Txn{Ops: []raftstore.Op{{Key: "first", Value: []byte("1")}}}); err != nil {
		return err
	}
	note("born\n")
	for range 2 {
		if err := errors.Join(write([]*raftstore.Store{a}, 20), a.Snapshot()); err != nil {
			return err
		}
	}
	b, err := network.open(dir, "b", fatal)
	if err != nil {
		return err
	}
	_, at, err := a.Servers()
	if err == nil {
		note("try to add\n")
		err = a.AddNonvoter(ctx, "b", "b:1", at)
	}
	if err != nil {
		return err
	}
	for b.AppliedIndex() < a.AppliedIndex() {
		time.Sleep(time.Millisecond) // until it has the snapshot
	}
	if _, at, err = a.Servers(); err == nil {
		err = a.AddVoter(ctx, "b", "b:1", at)
	}
	if err != nil {
		return err
	}
	note("two\n")
	for range 2 {
		if err := errors.Join(write([]*raftstore.Store{a, b}, 10), a.Snapshot(), b.Snapshot()); err != nil {
			return err
		}
	}
	if err := write([]*raftstore.Store{a, b}, 10); err != nil {
		return err
	}
	if err := errors.Join(b.Close(), a.Close()); err != nil {
		return err
	}
	note("! closed\n")
	if a, err = network.open(dir, "a", fatal); err != nil {
		return err
	}
	if b, err = network.open(dir, "b", fatal); err != nil {
		return err
	}
	stores := []*raftstore.Store{a, b}
	if err := awaitStore(ctx, stores, func(raftstore.Reader) error { return nil }); err != nil {
		return err
	}
	note("term %d\n", min(a.Term(), b.Term()))
	if err := write(stores, 10); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// applyTo writes through whichever of the stores leads. A write that has an unknown
// outcome is made again: it says the same.
func applyTo(ctx context.Context, stores []*raftstore.Store, txn raftstore.Txn) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		for _, s := range stores {
			index, err = s.Apply(ctx, txn)
			if !errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrUnknownOutcome) {
				return index, err
			}
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(err, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// awaitStore reads a confirmed moment from whichever of the stores leads.
func awaitStore(ctx context.Context, stores []*raftstore.Store, read func(raftstore.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		for _, s := range stores {
			if !s.IsLeader() {
				continue
			}
			if err := s.ConfirmedView(ctx, read); !errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrUnknownOutcome) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no store leads: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// storePromises is what the notes say.
type storePromises struct {
	born, adding, two bool
	term              uint64
	tried, acked      [storeWriters]int // the last of each writer, -1 for none
	index             uint64            // the last acknowledged
	indexOfTwo        uint64            // the last acknowledged by a majority of two
}

func promisesOf(notes []string) (storePromises, error) {
	p := storePromises{tried: [storeWriters]int{-1, -1, -1}, acked: [storeWriters]int{-1, -1, -1}}
	for _, note := range notes {
		var w, i int
		var index uint64
		switch n, _ := fmt.Sscanf(note, "ack %d %d %d", &w, &i, &index); {
		case n == 3:
			p.acked[w], p.index = i, max(p.index, index)
			if p.two {
				p.indexOfTwo = p.index
			}
		case strings.HasPrefix(note, "try to add"):
			p.adding = true
		case strings.HasPrefix(note, "try"):
			if _, err := fmt.Sscanf(note, "try %d %d", &w, &i); err != nil {
				return p, err
			}
			p.tried[w] = i
		case strings.HasPrefix(note, "term"):
			if _, err := fmt.Sscanf(note, "term %d", &p.term); err != nil {
				return p, err
			}
		case strings.HasPrefix(note, "!"):
		case note == "born":
			p.born = true
		case note == "two":
			p.two = true
		default:
			return p, fmt.Errorf("a strange note %q", note)
		}
	}
	return p, nil
}

// check reads all records and compares.
func (p storePromises) check(r raftstore.Reader) error {
	var errs []error
	if _, _, ok := r.Get("first"); !ok {
		errs = append(errs, errors.New("the first record is lost"))
	}
	for w := range storeWriters {
		newest := [storeKeys]int{}
		for k := range storeKeys {
			newest[k] = -1
		}
		for i := 0; i <= p.acked[w]; i++ {
			newest[i%storeKeys] = i
		}
		for k := range storeKeys {
			key := fmt.Sprintf("w/%d/%d", w, k)
			value, _, ok := r.Get(key)
			got := -1
			if ok {
				text, padding, _ := strings.Cut(string(value), " ")
				i, err := strconv.Atoi(text)
				if err != nil || len(padding) != (i*i*w*37)%9000 || strings.Trim(padding, "x") != "" {
					errs = append(errs, fmt.Errorf("%s holds what nobody wrote: %.40q", key, value))
				}
				got = i
			}
			if got < newest[k] {
				errs = append(errs, fmt.Errorf("%s is at %d, acknowledged was %d", key, got, newest[k]))
			}
			if got > p.tried[w] || got >= 0 && got%storeKeys != k {
				errs = append(errs, fmt.Errorf("%s is at %d, tried was %d", key, got, p.tried[w]))
			}
		}
	}
	return errors.Join(errs...)
}

// TestPowerLossOfTheStore: whenever the power of both voters goes, each store
// opens, and together they have what was acknowledged and nothing else.
func TestPowerLossOfTheStore(t *testing.T) {
	traceChild(t, "store").try(t, *cuts, func(ctx context.Context, c cut, dir string) error {
		promises, err := promisesOf(c.notes)
		if err != nil {
			return err
		}
		fatal := make(chan error, 2)
		network := newStoreNetwork(60 * time.Millisecond)
		var stores []*raftstore.Store
		defer func() {
			for _, s := range stores {
				s.Close()
			}
		}()
		for _, name := range []string{"a", "b"} {
			// A server that nobody asked to join need not be there.
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil && !(name == "a" && promises.born || name == "b" && promises.two) {
				continue
			}
			s, err := network.open(dir, name, func(err error) { fatal <- err })
			if err != nil {
				return fmt.Errorf("open %s: %w", name, err)
			}
			stores = append(stores, s)
			if s.Term() < promises.term {
				return fmt.Errorf("%s is in term %d and was in %d", name, s.Term(), promises.term)
			}
			index := promises.indexOfTwo
			if name == "a" {
				index = promises.index
			}
			if s.LastIndex() < index {
				return fmt.Errorf("the log of %s ends at %d, acknowledged was %d", name, s.LastIndex(), index)
			}
		}
		if !promises.born {
			return nil
		}
		if err := awaitStore(ctx, stores, promises.check); err != nil {
			return err
		}
		select {
		case err := <-fatal:
			return err
		default:
			return nil
		}
	})
}
