package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// patience is how long tests wait for what must happen: long enough for a machine
// that does ten other things.
const patience = 60 * time.Second

// network is TCP on the loopback, with cables that can be cut, and that can hold
// back what goes one way.
type network struct {
	mu    sync.Mutex
	nodes map[string]string // address → node
	cut   map[[2]string]bool
	conns map[net.Conn][2]string
	// held has, by sender and receiver, what is closed when it flows again.
	held map[[2]string]chan struct{}
}

func newNetwork() *network {
	return &network{
		nodes: map[string]string{}, cut: map[[2]string]bool{}, conns: map[net.Conn][2]string{}, held: map[[2]string]chan struct{}{},
	}
}

// hold keeps back everything that one node sends to another until heal; nothing
// is lost.
func (n *network) hold(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[[2]string{from, to}] == nil {
		n.held[[2]string{from, to}] = make(chan struct{})
	}
}

func (n *network) flows(from, to string) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held[[2]string{from, to}]
}

// wire is the dialling end of a connection, where both ways can be held.
type wire struct {
	net.Conn
	network  *network
	from, to string
	once     sync.Once
	closed   chan struct{}
}

func (w *wire) await(from, to string) error {
	for {
		flows := w.network.flows(from, to)
		if flows == nil {
			return nil
		}
		select {
		case <-flows:
		case <-w.closed:
			return net.ErrClosed
		}
	}
}

func (w *wire) Write(b []byte) (int, error) {
	if err := w.await(w.from, w.to); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if held := w.await(w.to, w.from); held != nil {
		return 0, held
	}
	return n, err
}

func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.network.mu.Lock()
		delete(w.network.conns, w)
		w.network.mu.Unlock()
	})
	return w.Conn.Close()
}

func cable(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// isolate cuts the cables between node and all others.
func (n *network) isolate(node string, others ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range others {
		n.cut[cable(node, other)] = true
	}
	for conn, between := range n.conns {
		if n.cut[between] {
			conn.(*wire).Conn.Close()
			delete(n.conns, conn)
		}
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	for between, flows := range n.held {
		close(flows)
		delete(n.held, between)
	}
}

// stream is one node's plug.
type stream struct {
	net.Listener
	network *network
	node    string
}

func (n *network) listen(t testing.TB, node, address string) *stream {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[listener.Addr().String()] = node
	return &stream{Listener: listener, network: n, node: node}
}

func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	s.network.mu.Lock()
	to := s.network.nodes[string(address)]
	between := cable(s.node, to)
	cut := s.network.cut[between]
	s.network.mu.Unlock()
	if cut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := net.DialTimeout("tcp", string(address), timeout)
	if err != nil {
		return nil, err
	}
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	if s.network.cut[between] {
		conn.Close()
		return nil, errors.New("the cable is cut")
	}
	w := &wire{Conn: conn, network: s.network, from: s.node, to: to, closed: make(chan struct{})}
	s.network.conns[w] = between
	return w, nil
}

// cluster is a mesh of stores in this process.
type cluster struct {
	t       testing.TB
	network *network
	tune    func(*Config)
	nodes   []*testNode
}

type testNode struct {
	id, dir, address string
	store            *Store // nil while it is down
	fatal            chan error
}

// newCluster makes n nodes, all voters, that hold the key "first".
func newCluster(t testing.TB, n int, tune func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, network: newNetwork(), tune: tune}
	t.Cleanup(func() {
		for _, node := range c.nodes {
			if node.store != nil {
				if err := node.store.Close(); err != nil {
					t.Errorf("close %s: %v", node.id, err)
				}
			}
		}
	})
	for range n {
		c.add()
	}
	var first Txn
	first.Put("first", []byte("record"))
	if err := c.nodes[0].store.Bootstrap(first); err != nil {
		t.Fatal(err)
	}
	for _, node := range c.nodes[1:] {
		c.join(node, true)
	}
	return c
}

// add makes a node that nobody knows yet.
func (c *cluster) add() *testNode {
	c.t.Helper()
	id := fmt.Sprintf("mi-%017x", len(c.nodes)+1)
	node := &testNode{id: id, dir: filepath.Join(c.t.TempDir(), id), address: "127.0.0.1:0"}
	c.nodes = append(c.nodes, node)
	c.start(node)
	return node
}

func (c *cluster) config(node *testNode) Config {
	c.t.Helper()
	plug := c.network.listen(c.t, node.id, node.address)
	node.address = plug.Addr().String()
	node.fatal = make(chan error, 1)
	fatal := node.fatal
	cfg := Config{
		Dir: node.dir, NodeID: node.id, Address: node.address, Stream: plug, Log: testLog(c.t),
		Fatal:         func(err error) { fatal <- err },
		CommitTimeout: 50 * time.Millisecond, // followers are waited for often
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

func (c *cluster) start(node *testNode) {
	c.t.Helper()
	store, err := Open(c.config(node))
	if err != nil {
		c.t.Fatal(err)
	}
	node.store = store
}

func (c *cluster) stop(node *testNode) {
	c.t.Helper()
	if err := node.store.Close(); err != nil {
		c.t.Fatal(err)
	}
	node.store = nil
}

// join adds node to the servers, by way of a non-voter that catches up.
func (c *cluster) join(node *testNode, voter bool) {
	c.t.Helper()
	c.change(func(ctx context.Context, s *Store, prev uint64) error {
		return s.AddNonvoter(ctx, node.id, node.address, prev)
	})
	if !voter {
		return
	}
	c.waitFor("the new node to catch up", func() bool {
		_, index, err := node.store.Servers()
		return err == nil && index > 0
	})
	c.change(func(ctx context.Context, s *Store, prev uint64) error {
		return s.AddVoter(ctx, node.id, node.address, prev)
	})
}

// change makes a change of servers, again when it met another.
func (c *cluster) change(change func(context.Context, *Store, uint64) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		leader := c.leader()
		_, prev, err := leader.store.Servers()
		if err == nil {
			err = change(ctx, leader.store, prev)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome) {
			c.t.Fatal(err)
		}
	}
}

// leader waits for a node that can prove that it leads.
func (c *cluster) leader() *testNode {
	c.t.Helper()
	var leader *testNode
	c.waitFor("a leader", func() bool {
		for _, node := range c.nodes {
			if node.store == nil || !node.store.IsLeader() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := node.store.ConfirmedView(ctx, func(Reader) error { return nil })
			cancel()
			if err == nil {
				leader = node
				return true
			}
		}
		return false
	})
	return leader
}

func (c *cluster) others(not *testNode) []string {
	var ids []string
	for _, node := range c.nodes {
		if node != not {
			ids = append(ids, node.id)
		}
	}
	return ids
}

// write puts key until it is acknowledged.
func (c *cluster) write(key, value string) uint64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var t Txn
	t.Put(key, []byte(value))
	for {
		index, err := c.leader().store.Apply(ctx, t)
		if err == nil {
			return index
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome) {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) waitFor(what string, done func() bool) { c.t.Helper(); waitFor(c.t, what, done) }

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // the pause between two looks
	}
}

// ensureSame waits until all running nodes hold the same records.
func (c *cluster) ensureSame() {
	c.t.Helper()
	last := c.write("ensure-same", time.Now().String())
	var reference map[string]stored
	for _, node := range c.nodes {
		if node.store == nil {
			continue
		}
		c.waitFor("all writes to reach "+node.id, func() bool { return stateIndex(c.t, node.store) >= last })
		got := dump(c.t, node.store)
		if reference == nil {
			reference = got
		}
		if diff := difference(reference, got); diff != "" {
			c.t.Fatalf("%s differs: %s", node.id, diff)
		}
	}
}

// stored is a record with its modify index.
type stored struct {
	value string
	index uint64
}

func dump(t testing.TB, s *Store) map[string]stored {
	t.Helper()
	all := map[string]stored{}
	if err := s.View(func(r Reader) error {
		r.Scan("", "", func(key string, value []byte, index uint64) bool {
			all[key] = stored{string(value), index}
			return true
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func difference(a, b map[string]stored) string {
	var keys []string
	for key := range a {
		keys = append(keys, key)
	}
	for key := range b {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if a[key] != b[key] {
			return fmt.Sprintf("%q is %+v and %+v", key, a[key], b[key])
		}
	}
	return ""
}

func stateIndex(t testing.TB, s *Store) (index uint64) {
	t.Helper()
	if err := s.View(func(r Reader) error { index = r.Index(); return nil }); err != nil {
		t.Fatal(err)
	}
	return index
}

func get(t testing.TB, s *Store, key string) (value string, index uint64, ok bool) {
	t.Helper()
	if err := s.View(func(r Reader) error {
		var bytes []byte
		bytes, index, ok = r.Get(key)
		value = string(bytes)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return value, index, ok
}

func put(key, value string) Txn {
	var t Txn
	t.Put(key, []byte(value))
	return t
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testLog writes to the test's output when RAFTSTORE_LOG is set.
func testLog(testing.TB) *slog.Logger {
	if os.Getenv("RAFTSTORE_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
