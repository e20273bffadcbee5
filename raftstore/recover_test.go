package raftstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killed copies a server's directory as it is, without its consent: what SIGKILL
// leaves. The copy is another directory of the same server.
func (c *cluster) killed(node *testNode) *testNode {
	c.t.Helper()
	copied := &testNode{id: node.id, dir: filepath.Join(c.t.TempDir(), "store"), address: node.address}
	if err := os.CopyFS(copied.dir, os.DirFS(node.dir)); err != nil {
		c.t.Fatal(err)
	}
	return copied
}

// lonely is a server that votes alone, quickly, and has a short log.
func lonely(cfg *Config) {
	smallLog(cfg)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout = 50*time.Millisecond, 50*time.Millisecond
}

func (n *testNode) patch(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(n.storeFile(name))
	if err == nil {
		err = os.WriteFile(n.storeFile(name), change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A state that was not closed may be anything and look whole: it is not believed.
func TestAStateThatWasNotClosedIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, lonely)
	node := c.nodes[0]
	for i := range 60 {
		c.write(fmt.Sprintf("key-%02d", i), "true to what was written")
		if i == 40 {
			if err := node.store.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := dump(t, node.store)
	lie := func(data []byte) []byte { return bytes.ReplaceAll(data, []byte("true to"), []byte("made up")) }
	copied := c.killed(node)
	copied.patch(t, "state.db", lie)
	c.stop(node)

	store, err := Open(c.config(copied))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "its log to be applied", func() bool { _, _, ok := get(t, store, "key-59"); return ok })
	if diff := difference(want, dump(t, store)); diff != "" {
		t.Error(diff)
	}
	// Closed in good order, it is believed.
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	copied.patch(t, "state.db", lie)
	if store, err = Open(c.config(copied)); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if value, _, _ := get(t, store, "key-59"); !strings.HasPrefix(value, "made up") {
		t.Errorf("the state that was closed was made again: %q", value)
	}
}

// With the newest snapshot damaged, the one before serves as long as the log
// reaches back to it; when it does not, nothing is changed.
func TestADamagedSnapshotOfAStateThatIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		trailing uint64
		want     string
	}{
		{"the log reaches back", 1000, ""},
		{"the log does not", 2, "does not reach back"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, func(cfg *Config) { lonely(cfg); cfg.TrailingLogs = test.trailing })
			node := c.nodes[0]
			for round := range 2 {
				for i := range 20 {
					c.write(fmt.Sprintf("key-%d-%d", round, i), "1")
				}
				if err := node.store.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			c.write("last", "1")
			want := dump(t, node.store)
			list, err := node.store.snapshots.List()
			if err != nil || len(list) != 2 {
				t.Fatalf("%d snapshots, %v", len(list), err)
			}
			copied := c.killed(node)
			newest := filepath.Join("snapshots", list[0].ID)
			copied.patch(t, filepath.Join(newest, "state.bin"), func(data []byte) []byte { return data[:len(data)/2] })
			c.stop(node)
			before, err := os.ReadFile(copied.storeFile("state.db"))
			if err != nil {
				t.Fatal(err)
			}
			store, err := Open(c.config(copied))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "remove this node") {
					t.Errorf("opened with %v, want %q", err, test.want)
				}
				if after, err := os.ReadFile(copied.storeFile("state.db")); err != nil || !bytes.Equal(before, after) {
					t.Errorf("the state was touched: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			waitFor(t, "its log to be applied", func() bool { _, _, ok := get(t, store, "last"); return ok })
			if diff := difference(want, dump(t, store)); diff != "" {
				t.Error(diff)
			}
			if _, err := os.Stat(copied.storeFile(newest)); err == nil {
				t.Error("the damaged snapshot was kept")
			}
		})
	}
}

// A log that has lost what it held is refused where that can be known: this server
// has acknowledged entries and given votes that it has forgotten.
func TestALogThatWentBackIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, lonely)
	node := c.nodes[0]
	c.write("before", "1")
	older := c.killed(node)
	for i := range 20 {
		c.write(fmt.Sprintf("after-%d", i), "1")
	}
	if err := node.store.Snapshot(); err != nil {
		t.Fatal(err)
	}
	c.write("last", "1")
	killed := c.killed(node)
	c.stop(node)
	old, err := os.ReadFile(older.storeFile("raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	back := func([]byte) []byte { return old }
	for _, test := range []struct {
		name   string
		from   *testNode
		change func(*testing.T, *testNode)
		want   string
	}{
		{"an older log after a kill", killed, func(t *testing.T, n *testNode) { n.patch(t, "raft.db", back) }, "not of one time"},
		{"an older log after an orderly stop", node, func(t *testing.T, n *testNode) { n.patch(t, "raft.db", back) }, "not of one time"},
		{"no log", killed, func(t *testing.T, n *testNode) { os.Remove(n.storeFile("raft.db")) }, "raft.db is gone"},
		{"neither log nor state", killed, func(t *testing.T, n *testNode) {
			os.Remove(n.storeFile("raft.db"))
			os.Remove(n.storeFile("state.db"))
		}, "raft.db is gone"},
		{"the last commit of the log is gone", killed, func(t *testing.T, n *testNode) {
			n.patch(t, "raft.db", func(data []byte) []byte {
				newest := 0
				if second := os.Getpagesize(); native.Uint64(data[second+boltPageHeader+48:]) > native.Uint64(data[boltPageHeader+48:]) {
					newest = second
				}
				clear(data[newest : newest+512])
				return data
			})
		}, "not of one time"},
		{"an empty file for a log", killed, func(t *testing.T, n *testNode) { n.patch(t, "raft.db", func([]byte) []byte { return nil }) }, "raft.db is damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			copied := c.killed(test.from)
			test.change(t, copied)
			store, err := Open(c.config(copied))
			if err == nil {
				store.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "remove this node") {
				t.Errorf("refused with %q, want %q", err, test.want)
			}
		})
	}
}
