package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// machine is an fsm with a state file of its own and no Raft.
type machine struct {
	*fsm
	store *Store
	fatal []error
}

func newMachine(t testing.TB, dir string) *machine {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m := &machine{store: &Store{cfg: Config{Dir: dir, NodeID: "mi-00000000000000001", Log: testLog(t)}}}
	m.fsm = &fsm{
		cfg: m.store.cfg, state: &m.store.state, watches: &m.store.watches,
		stop:   func(err error) { m.fatal = append(m.fatal, err) },
		retire: func(db *bbolt.DB) { m.store.retiring.Go(func() { m.store.closeRetired(db) }) },
	}
	m.open(t)
	return m
}

func (m *machine) open(t testing.TB) {
	t.Helper()
	db, err := openState(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.state.Store(db)
}

func (m *machine) close(t testing.TB) {
	t.Helper()
	if err := m.state.Load().Close(); err != nil {
		t.Fatal(err)
	}
	m.store.retiring.Wait()
}

func entry(t testing.TB, index uint64, txn Txn) *raft.Log {
	t.Helper()
	data, err := encodeTxn(txn)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: data}
}

// history is random transactions on few keys, as entries of a log.
func history(t *rapid.T) []*raft.Log {
	keys := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	var entries []*raft.Log
	index := uint64(0)
	for range rapid.IntRange(1, 40).Draw(t, "entries") {
		index += rapid.Uint64Range(1, 3).Draw(t, "step") // Raft's own entries lie between
		var txn Txn
		for range rapid.IntRange(0, 2).Draw(t, "preconditions") {
			txn.Require(keys.Draw(t, "key"), rapid.Uint64Range(0, index).Draw(t, "at"))
		}
		for range rapid.IntRange(0, 3).Draw(t, "operations") {
			if rapid.Bool().Draw(t, "delete") {
				txn.Delete(keys.Draw(t, "key"))
			} else {
				txn.Put(keys.Draw(t, "key"), []byte(fmt.Sprint(index)))
			}
		}
		data, err := encodeTxn(txn)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, &raft.Log{Index: index, Type: raft.LogCommand, Data: data})
	}
	return entries
}

// applyToModel is the state machine in its simplest form.
func applyToModel(model map[string]stored, index uint64, txn Txn) (held bool) {
	for _, p := range txn.Preconditions {
		if model[p.Key].index != p.ModifyIndex {
			return false
		}
	}
	for _, op := range txn.Ops {
		if op.Delete {
			delete(model, op.Key)
		} else {
			model[op.Key] = stored{string(op.Value), index}
		}
	}
	return true
}

// However the log is cut into batches, however often it is begun again from an
// earlier entry, and wherever the process restarts: the state is the model's.
func TestAnyReplayGivesTheSameState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := newMachine(t, filepath.Join(dir, fmt.Sprint(run)))
		defer m.close(t)
		entries := history(rt)
		model := map[string]stored{}
		applied := 0 // entries that the model has
		for from := 0; from < len(entries); {
			to := rapid.IntRange(from+1, len(entries)).Draw(rt, "to")
			verdicts := m.ApplyBatch(entries[from:to])
			for i, e := range entries[from:to] {
				got := verdicts[i].(verdict).err
				if from+i < applied {
					if !errors.Is(got, errAlreadyApplied) {
						rt.Fatalf("entry %d again: %v", e.Index, got)
					}
					continue
				}
				txn, err := decodeTxn(e.Data)
				if err != nil {
					rt.Fatal(err)
				}
				want := error(nil)
				if !applyToModel(model, e.Index, txn) {
					want = ErrConflict
				}
				if !errors.Is(got, want) {
					rt.Fatalf("entry %d: verdict %v, want %v", e.Index, got, want)
				}
			}
			applied = max(applied, to)
			from = to
			if rapid.IntRange(0, 4).Draw(rt, "restart") == 0 {
				m.close(t)
				m.open(t)
				// Raft begins again behind its newest snapshot.
				from = rapid.IntRange(0, to).Draw(rt, "again from")
				if to == len(entries) {
					from = to
				}
			}
			if diff := difference(model, dump(t, m.store)); diff != "" {
				rt.Fatalf("after entry %d: %s", entries[to-1].Index, diff)
			}
			if got, want := stateIndex(t, m.store), entries[applied-1].Index; got != want {
				rt.Fatalf("the state is at %d, want %d", got, want)
			}
		}
	})
}

func TestUnknownAndDamagedEntriesStopTheNode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		entry *raft.Log
		want  string
	}{
		"another version": {&raft.Log{Index: 3, Data: []byte{9, 1, 0, 0}}, "entry 3 of the log cannot be applied: entry version 9: written by a newer version of meshd, upgrade this node"},
		"another kind":    {&raft.Log{Index: 3, Data: []byte{1, 7, 0, 0}}, "entry 3 of the log cannot be applied: entry kind 7: written by a newer version of meshd, upgrade this node"},
		"damaged":         {&raft.Log{Index: 3, Data: []byte{1, 1, 5}}, "entry 3 of the log cannot be applied: damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, t.TempDir())
			defer m.close(t)
			before, after := entry(t, 1, put("a", "1")), entry(t, 4, put("b", "1"))
			m.ApplyBatch([]*raft.Log{before})
			verdicts := m.ApplyBatch([]*raft.Log{entry(t, 2, put("c", "1")), test.entry, after})
			for i, v := range verdicts {
				if err := v.(verdict).err; err == nil || err.Error() != test.want {
					t.Errorf("verdict %d: %v, want %s", i, err, test.want)
				}
			}
			if v := m.Apply(after); v.(verdict).err == nil {
				t.Error("a stopped node went on")
			}
			if s, err := m.Snapshot(); err == nil {
				t.Error("a stopped node made a snapshot")
				s.Release()
			}
			if len(m.fatal) != 1 || m.fatal[0].Error() != test.want {
				t.Errorf("fatal %v, want once %s", m.fatal, test.want)
			}
			if got := dump(t, m.store); len(got) != 1 || got["a"].value != "1" {
				t.Errorf("the state is %v, want only a", got)
			}
		})
	}
}

// A write that fails on the disk leaves nothing behind and stops the node.
func TestFailedCommitStopsTheNode(t *testing.T) {
	t.Parallel()
	m := newMachine(t, t.TempDir())
	defer m.close(t)
	m.Apply(entry(t, 1, put("a", "1")))
	m.state.Load().MaxSize = 16 << 10 // bbolt's own limit of the file
	var failed error
	for i := uint64(2); failed == nil; i++ {
		failed = m.Apply(entry(t, i, put(fmt.Sprint(i), strings.Repeat("x", 1000)))).(verdict).err
		if i > 100_000 {
			t.Fatal("the limit is never met")
		}
	}
	if len(m.fatal) != 1 || !strings.Contains(m.fatal[0].Error(), "is the disk full?") {
		t.Errorf("fatal %v", m.fatal)
	}
}

func TestLogStoreHoldsRaftWhenTheTermCannotBeWritten(t *testing.T) {
	t.Parallel()
	stopped := make(chan error, 1)
	l, err := openLog(Config{Dir: t.TempDir(), NodeID: "n"}, func(err error) { stopped <- err })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetUint64([]byte(raftTermKey), 4); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil { // every write fails now
		t.Fatal(err)
	}
	returned := make(chan error, 1)
	go func() { returned <- l.SetUint64([]byte(raftTermKey), 5) }()
	if err := <-stopped; !strings.Contains(err.Error(), "write the term of Raft") {
		t.Errorf("stopped by %v", err)
	}
	select {
	case err := <-returned:
		t.Fatalf("Raft was told %v, which makes it panic", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := l.Set([]byte("LastVoteCand"), []byte("x")); err == nil {
		t.Error("a vote was written after the failure")
	}
	if err := l.StoreLog(&raft.Log{Index: 1}); err == nil {
		t.Error("an entry was written after the failure")
	}
	l.release()
	if err := <-returned; err != nil {
		t.Errorf("Raft was told %v, which makes it panic", err)
	}
}

func TestTheLogIsCutInChunks(t *testing.T) {
	t.Parallel()
	l, err := openLog(Config{Dir: t.TempDir(), NodeID: "n"}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	var entries []*raft.Log
	const last = 3*compactionChunk + 10
	for i := uint64(5); i <= last; i++ {
		entries = append(entries, &raft.Log{Index: i, Term: 1, Data: []byte("x")})
	}
	if err := l.StoreLogs(entries); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ low, high, first, last uint64 }{
		{1, 4, 5, last}, // nothing there
		{5, 5, 6, last}, // one
		{1, 2*compactionChunk + 7, 2*compactionChunk + 8, last}, // several chunks
		{last - 3, last, 2*compactionChunk + 8, last - 4},       // the end
		{2*compactionChunk + 8, last - 4, 0, 0},                 // all
	} {
		if err := l.DeleteRange(step.low, step.high); err != nil {
			t.Fatal(err)
		}
		first, err := l.FirstIndex()
		if err != nil {
			t.Fatal(err)
		}
		lastIndex, err := l.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		if first != step.first || lastIndex != step.last {
			t.Fatalf("after deleting %d to %d the log is %d to %d, want %d to %d", step.low, step.high, first, lastIndex, step.first, step.last)
		}
	}
}

func TestOpenRefusesWithASentence(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	node := c.nodes[0]
	for i := range 200 {
		c.write(fmt.Sprintf("key-%04d", i), strings.Repeat("v", 500))
	}
	var first Txn
	first.PutMesh(Mesh{ID: "mesh-1"})
	if _, err := node.store.Apply(testContext(t), first); err != nil {
		t.Fatal(err)
	}

	cfg := c.config(&testNode{id: node.id, dir: node.dir, address: "127.0.0.1:0"})
	_, err := Open(cfg)
	if err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("an open directory: %v", err)
	}
	c.stop(node)

	pristine := t.TempDir()
	if err := os.CopyFS(filepath.Join(pristine, "store"), os.DirFS(node.dir)); err != nil {
		t.Fatal(err)
	}
	damage := func(name string, change func([]byte) []byte) func(string, *Config) {
		return func(dir string, _ *Config) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	garbage := func([]byte) []byte { return []byte(strings.Repeat("garbage ", 4096)) }
	truncated := func(data []byte) []byte { return data[:16<<10] }
	hollow := func(data []byte) []byte { // every page but the first two
		for i := 8192; i < len(data); i++ {
			data[i] = 0xff
		}
		return data
	}
	for name, test := range map[string]struct {
		change func(dir string, cfg *Config)
		want   string
	}{
		"another node":              {func(_ string, cfg *Config) { cfg.NodeID = "mi-other" }, "it belongs to node " + node.id},
		"another node's state":      {func(dir string, cfg *Config) { cfg.NodeID = "mi-other"; os.Remove(filepath.Join(dir, "raft.db")) }, "it belongs to node " + node.id},
		"another mesh":              {func(_ string, cfg *Config) { cfg.MeshID = "mesh-2" }, "it belongs to mesh mesh-1"},
		"lost log":                  {func(dir string, _ *Config) { os.Remove(filepath.Join(dir, "raft.db")) }, "they are not of one time"},
		"garbage for a log":         {damage("raft.db", garbage), "raft.db is damaged"},
		"truncated log":             {damage("raft.db", truncated), "raft.db is damaged"},
		"overwritten log":           {damage("raft.db", hollow), "raft.db is damaged"},
		"a newer format of state":   {setMeta(t, "state.db", "meta", "format", encodeIndex(9)), "it has format 9"},
		"a newer format of log":     {setMeta(t, "raft.db", "conf", "FleetmeshFormat", encodeIndex(9)), "it has format 9"},
		"an entry that is no entry": {setMeta(t, "raft.db", "logs", string(encodeIndex(7)), []byte("x")), "entry 7 of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(pristine, "store"))); err != nil {
				t.Fatal(err)
			}
			cfg := c.config(&testNode{id: node.id, dir: dir, address: "127.0.0.1:0"})
			test.change(dir, &cfg)
			store, err := Open(cfg)
			if err == nil {
				store.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("refused with %q, want %q", err, test.want)
			}
			if _, err := cfg.Stream.Accept(); err == nil {
				t.Error("the stream was left open")
			}
		})
	}
	for name, change := range map[string]func(dir string, cfg *Config){
		"garbage for a state": damage("state.db", garbage),
		"truncated state":     damage("state.db", truncated),
		"overwritten state":   damage("state.db", hollow),
	} {
		t.Run(name, func(t *testing.T) {
			damaged := &testNode{id: node.id, dir: filepath.Join(t.TempDir(), "store"), address: node.address}
			if err := os.CopyFS(damaged.dir, os.DirFS(filepath.Join(pristine, "store"))); err != nil {
				t.Fatal(err)
			}
			cfg := c.config(damaged)
			change(damaged.dir, &cfg)
			store, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			waitFor(t, "the state to be made again", func() bool {
				_, _, first := get(t, store, "key-0000")
				_, _, last := get(t, store, "key-0199")
				return first && last
			})
			if _, err := os.Stat(damaged.storeFile("state.db.damaged")); err != nil {
				t.Errorf("the damaged file was not kept: %v", err)
			}
		})
	}
	t.Run("no more than that", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "store")
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(pristine, "store"))); err != nil {
			t.Fatal(err)
		}
		cfg := c.config(&testNode{id: node.id, dir: dir, address: node.address})
		cfg.MeshID = "mesh-1"
		store, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func setMeta(t *testing.T, file, bucket, key string, value []byte) func(string, *Config) {
	return func(dir string, _ *Config) {
		db, err := bbolt.Open(filepath.Join(dir, file), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), value) }); err != nil {
			t.Fatal(err)
		}
	}
}
