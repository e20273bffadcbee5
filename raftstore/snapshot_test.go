package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// memorySink is a snapshot sink of bytes.
type memorySink struct {
	bytes.Buffer
	closed, cancelled bool
}

func (s *memorySink) ID() string    { return "memory" }
func (s *memorySink) Close() error  { s.closed = true; return nil }
func (s *memorySink) Cancel() error { s.cancelled = true; return nil }

func takeSnapshot(t testing.TB, m *machine) []byte {
	t.Helper()
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Release()
	var sink memorySink
	if err := snapshot.Persist(&sink); err != nil {
		t.Fatal(err)
	}
	if !sink.closed || sink.cancelled {
		t.Fatalf("closed %v, cancelled %v", sink.closed, sink.cancelled)
	}
	return sink.Bytes()
}

func source(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }

func TestRestoreReplacesTheState(t *testing.T) {
	t.Parallel()
	from, to := newMachine(t, t.TempDir()), newMachine(t, t.TempDir())
	defer from.close(t)
	defer to.close(t)
	for i := uint64(1); i <= 20; i++ {
		from.Apply(entry(t, i, put(fmt.Sprint("key-", i), strings.Repeat("v", 1000))))
	}
	to.cfg.NodeID = "mi-00000000000000001"
	to.Apply(entry(t, 1, put("old", "1")))
	watch := to.store.Watch("nothing/of/it")
	// A reader of the old state keeps it while the new one is put in place.
	reading, read := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := to.store.View(func(r Reader) error {
			close(reading)
			<-read
			if _, _, ok := r.Get("old"); !ok {
				t.Error("the reader lost the old state")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-reading
	data := takeSnapshot(t, from)
	if err := to.Restore(source(data)); err != nil {
		t.Fatal(err)
	}
	if diff := difference(dump(t, from.store), dump(t, to.store)); diff != "" {
		t.Error(diff)
	}
	close(read)
	wg.Wait()
	<-watch.C // every watch is told
	// It is on disk, it is this node's, and entries follow it.
	to.close(t)
	to.open(t)
	if v := to.Apply(entry(t, 20, put("again", "1"))); !errors.Is(v.(verdict).err, errAlreadyApplied) {
		t.Errorf("an entry of the snapshot: %v", v)
	}
	if v := to.Apply(entry(t, 21, put("next", "1"))); v.(verdict).err != nil {
		t.Errorf("the entry behind the snapshot: %v", v)
	}
}

// Whatever is wrong with a snapshot, the old state stays, on disk too.
func TestFailedRestoreLeavesTheOldState(t *testing.T) {
	t.Parallel()
	from, to := newMachine(t, t.TempDir()), newMachine(t, t.TempDir())
	defer from.close(t)
	var mesh Txn
	mesh.PutMesh(Mesh{ID: "mesh-1"})
	from.Apply(entry(t, 1, mesh))
	for i := uint64(2); i <= 50; i++ {
		from.Apply(entry(t, i, put(fmt.Sprint("key-", i), strings.Repeat("v", 500))))
	}
	to.Apply(entry(t, 1, put("old", "1")))
	old := dump(t, to.store)
	good := takeSnapshot(t, from)

	check := func(what string, source io.ReadCloser) {
		t.Helper()
		if err := to.Restore(source); err == nil {
			t.Fatalf("%s was restored", what)
		}
		if diff := difference(old, dump(t, to.store)); diff != "" {
			t.Fatalf("%s: %s", what, diff)
		}
		if _, err := os.Stat(to.cfg.restorePath()); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s left a file behind: %v", what, err)
		}
	}
	for range 20 {
		n := rand.IntN(len(good))
		check(fmt.Sprintf("the first %d of %d bytes", n, len(good)), source(good[:n]))
		damaged := bytes.Clone(good)
		damaged[n] ^= 1 << rand.IntN(8)
		check(fmt.Sprintf("a snapshot with byte %d changed", n), source(damaged))
	}
	check("nothing", source(nil))
	check("a stream that breaks", io.NopCloser(io.MultiReader(bytes.NewReader(good[:len(good)/2]), brokenReader{})))
	newer := bytes.Clone(good)
	newer[7] = 2
	check("a snapshot of a newer version", source(newer))
	to.cfg.MeshID = "mesh-2"
	check("another mesh's snapshot", source(good))
	to.cfg.MeshID = "mesh-1"
	to.close(t)
	to.open(t)
	defer func() { to.close(t) }()
	if diff := difference(old, dump(t, to.store)); diff != "" {
		t.Fatalf("after opening again: %s", diff)
	}
	if err := to.Restore(source(good)); err != nil {
		t.Fatal(err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// smallLog makes followers need snapshots soon.
func smallLog(cfg *Config) { cfg.TrailingLogs = 5 }

// load writes until stop is closed, and returns what was acknowledged last per key.
func load(c *cluster, leader *testNode, writers int) (stop func() map[string]int) {
	ctx, cancel := context.WithCancel(testContext(c.t))
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all = map[string]int{}
	)
	for w := range writers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("load-%d-%d", w, i%50)
				_, err := leader.store.Apply(ctx, put(key, strconv.Itoa(i)))
				if ctx.Err() != nil {
					return // who knows
				}
				if err != nil {
					c.t.Errorf("write under load: %v", err)
					return
				}
				mu.Lock()
				all[key] = i
				mu.Unlock()
			}
		})
	}
	return func() map[string]int {
		cancel()
		wg.Wait()
		return all
	}
}

func TestAFreshFollowerIsSentASnapshotUnderWrites(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, smallLog)
	leader := c.leader()
	stop := load(c, leader, 4)
	c.waitFor("a log to speak of", func() bool { return leader.store.AppliedIndex() > 200 })
	if err := leader.store.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if first, err := leader.store.logs.FirstIndex(); err != nil || first < 100 {
		t.Fatalf("the log begins at %d (%v); it was not cut", first, err)
	}
	fresh := c.add()
	c.join(fresh, true)
	installed, err := filepath.Glob(filepath.Join(fresh.dir, "snapshots", "*", "state.bin"))
	if err != nil || len(installed) == 0 {
		t.Errorf("no snapshot was installed: %v", err)
	}
	if err := leader.store.Snapshot(); err != nil { // while the other follows
		t.Error(err)
	}
	acknowledged := stop()
	c.ensureSame()
	for key, value := range acknowledged {
		// The very last write may have happened without being acknowledged.
		got, _, _ := get(t, fresh.store, key)
		if n, err := strconv.Atoi(got); err != nil || n < value {
			t.Errorf("%s is %q, acknowledged was %d", key, got, value)
		}
	}
	for _, node := range c.nodes {
		c.stop(node)
	}
	for _, node := range c.nodes {
		c.start(node)
	}
	c.ensureSame()
}

// A snapshot arrived and the process died before it was restored: it is restored
// when the store opens. One that is damaged is left out when the log goes on
// without it.
func TestASnapshotThatArrivedBeforeACrash(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, smallLog)
	leader := c.leader()
	follower := c.nodes[0]
	if follower == leader {
		follower = c.nodes[1]
	}
	c.join(c.add(), true) // so that the leader has a majority without it
	c.write("before", "1")
	c.ensureSame()
	c.stop(follower)
	for i := range 50 {
		c.write(fmt.Sprint("while away ", i), "1")
	}
	leader = c.leader()
	if err := leader.store.Snapshot(); err != nil {
		t.Fatal(err)
	}
	list, err := leader.store.snapshots.List()
	if err != nil || len(list) == 0 {
		t.Fatalf("snapshots %v, %v", list, err)
	}
	id := list[0].ID
	arrived := filepath.Join(follower.dir, "snapshots", id)
	if err := os.CopyFS(arrived, os.DirFS(filepath.Join(leader.dir, "snapshots", id))); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(arrived, "state.bin")
	whole, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}

	// Damaged: the state is what it was, and the leader sends it again later.
	if err := os.WriteFile(state, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	c.network.isolate(follower.id, c.others(follower)...)
	c.start(follower)
	if _, _, ok := get(t, follower.store, "before"); !ok {
		t.Error("the old state is gone")
	}
	if _, err := os.Stat(arrived); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the damaged snapshot is still there: %v", err)
	}
	c.stop(follower)

	// Whole.
	if err := os.CopyFS(arrived, os.DirFS(filepath.Join(leader.dir, "snapshots", id))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(follower.storeFile("state.db.restore"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(follower.storeFile("snapshots/1-2-3.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.start(follower)
	if _, _, ok := get(t, follower.store, "while away 49"); !ok {
		t.Error("the snapshot was not restored")
	}
	for _, leftover := range []string{"state.db.restore", "snapshots/1-2-3.tmp"} {
		if _, err := os.Stat(follower.storeFile(leftover)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", leftover, err)
		}
	}
	c.network.heal()
	c.ensureSame()
}

func (n *testNode) storeFile(name string) string { return filepath.Join(n.dir, name) }

// state.db can be made again from snapshots and log, and is the same.
func TestALostStateIsReplayed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *Config) {
		smallLog(cfg)
		cfg.HeartbeatTimeout, cfg.ElectionTimeout = 50*time.Millisecond, 50*time.Millisecond // it votes alone, and often
	})
	node := c.nodes[0]
	older := filepath.Join(t.TempDir(), "state.db")
	for round := range 3 {
		for i := range 20 {
			c.write(fmt.Sprintf("key-%d", i), fmt.Sprint(round))
		}
		// Each write depends on the last: applied twice it would differ.
		_, index, _ := get(t, node.store, "chain")
		var txn Txn
		txn.Require("chain", index)
		txn.Put("chain", []byte(fmt.Sprint(round)))
		if _, err := node.store.Apply(testContext(t), txn); err != nil {
			t.Fatal(err)
		}
		want := dump(t, node.store)
		c.stop(node)
		replayed := func(what string) {
			t.Helper()
			c.start(node)
			c.leader()
			if diff := difference(want, dump(t, node.store)); diff != "" {
				t.Fatalf("round %d, %s: %s", round, what, diff)
			}
			c.stop(node)
		}
		replayed("nothing lost")
		if _, err := os.Stat(older); err == nil {
			copyFile(t, older, node.storeFile("state.db"))
			replayed("an older state")
		}
		copyFile(t, node.storeFile("state.db"), older)
		if err := os.Remove(node.storeFile("state.db")); err != nil {
			t.Fatal(err)
		}
		replayed("no state")
		c.start(node)
		c.leader()
		if round > 0 {
			if err := node.store.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.stop(node)
	if err := os.RemoveAll(node.storeFile("snapshots")); err != nil {
		t.Fatal(err)
	}
	if store, err := Open(c.config(node)); err == nil {
		store.Close()
		t.Error("it was opened without its snapshots")
	} else if !strings.Contains(err.Error(), "snapshots are missing") {
		t.Error(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

var _ raft.SnapshotSink = (*memorySink)(nil)
