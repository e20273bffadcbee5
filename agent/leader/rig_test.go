package leader_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"fleetmesh/agent/leader"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// rig is a mesh of real stores and real leaders; only the peers' wire and gossip
// are stand-ins, with their rules: terms are fenced, and who is down is not
// reached.
type rig struct {
	t        *testing.T
	settings leader.Settings
	mu       sync.Mutex
	nodes    map[string]*rigNode
	watchers map[chan struct{}]struct{}
	// gone is when gossip ceased to see nodes; it is set before they are enrolled.
	gone map[string]time.Time
	// reporting are the nodes' outboxes; they end with the test.
	reporting sync.WaitGroup
}

type rigNode struct {
	rig     *rig
	id      string
	address string
	dir     string

	mu      sync.Mutex
	up      bool
	term    uint64
	roster  raftstore.Roster
	ring    uint64
	keys    [][]byte
	demoted int
	jobs    map[string]int
	held    map[string]bool

	store  *raftstore.Store
	leader *leader.Leader
	stop   context.CancelFunc
	loops  sync.WaitGroup
}

func newRig(t *testing.T, nodes int, settings leader.Settings) *rig {
	r := &rig{t: t, settings: settings, nodes: map[string]*rigNode{}, watchers: map[chan struct{}]struct{}{}}
	t.Cleanup(func() {
		r.reporting.Wait()
		for _, n := range r.all() {
			n.kill()
		}
	})
	var first raftstore.Txn
	for range nodes {
		n := r.add()
		first.PutNode(n.record())
	}
	a := r.node(0)
	first.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	first.PutRoster(raftstore.Roster{Version: 1, MeshID: "mesh", Members: []raftstore.RosterMember{{NodeID: a.id, Address: a.address, PublicKey: "key-" + a.id}}})
	first.PutKeyring(raftstore.Keyring{Version: 1, Keys: []raftstore.GossipKey{sealed([]byte("first"))}})
	a.open(&first)
	return r
}

func (r *rig) add() *rigNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	// An address of its own: the port is closed and opened again, and on 127.0.0.1
	// an outgoing connection may have got it meanwhile.
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 64+rand.IntN(128), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		r.t.Fatal(err)
	}
	n := &rigNode{
		rig: r, id: fmt.Sprintf("mi-%017x", len(r.nodes)), address: l.Addr().String(), up: true,
		jobs: map[string]int{}, held: map[string]bool{},
	}
	n.dir = filepath.Join(r.t.TempDir(), n.id)
	l.Close()
	r.nodes[n.id] = n
	return n
}

func (r *rig) node(n int) *rigNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[fmt.Sprintf("mi-%017x", n)]
}

func (r *rig) all() []*rigNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*rigNode
	for _, n := range r.nodes {
		all = append(all, n)
	}
	return all
}

func (n *rigNode) record() raftstore.Node {
	return raftstore.Node{ID: n.id, Name: n.id, PublicKey: "key-" + n.id, Address: n.address, PlatformType: "Linux", Tags: map[string]string{"role": "web"}}
}

func sealed(key []byte) raftstore.GossipKey {
	sum := sha256.Sum256(key)
	return raftstore.GossipKey{ID: hex.EncodeToString(sum[:8]), Sealed: key}
}

// tcpStream is Raft's network; it reads and writes plain TCP.
type tcpStream struct{ net.Listener }

func (tcpStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// open opens the node's store, and makes the mesh when first is given.
func (n *rigNode) open(first *raftstore.Txn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store != nil {
		return
	}
	var l net.Listener
	eventually(n.rig.t, "the port of "+n.id, func() bool {
		var err error
		l, err = net.Listen("tcp", n.address)
		return err == nil
	})
	store, err := raftstore.Open(raftstore.Config{
		Dir: n.dir, NodeID: n.id, Address: n.address, Stream: tcpStream{l}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		n.rig.t.Errorf("open the store of %s: %v", n.id, err)
		return
	}
	if first != nil {
		if err := store.Bootstrap(*first); err != nil {
			n.rig.t.Errorf("make the mesh: %v", err)
		}
	}
	out := slog.New(slog.DiscardHandler)
	if os.Getenv("LEADER_TEST_LOG") != "" {
		out = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("on", n.id[len(n.id)-2:])
	}
	n.store = store
	n.leader = leader.New(leader.Config{
		NodeID: n.id, Store: store, Peers: (*rigPeers)(n), Members: n.rig, Gate: n, Log: out,
		LastSeen:      func(nodeID string) time.Time { n.rig.mu.Lock(); defer n.rig.mu.Unlock(); return n.rig.gone[nodeID] },
		MeshKey:       func() pki.MeshKey { return pki.MeshKey{1} },
		OpenGossipKey: func(k raftstore.GossipKey) ([]byte, error) { return k.Sealed, nil },
		NewGossipKey:  func() (raftstore.GossipKey, error) { return sealed([]byte(time.Now().String())), nil },
		IssueVoterCertificate: func(node raftstore.Node, voter bool) ([]byte, error) {
			return fmt.Appendf(nil, "%s voter=%t", node.ID, voter), nil
		},
		Settings: n.rig.settings,
	})
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.loops.Go(func() { store.Lead(ctx, n.leader.Run) })
}

// close closes the node's store, if it has one.
func (n *rigNode) close() {
	n.mu.Lock()
	store, stop := n.store, n.stop
	n.store = nil
	n.mu.Unlock()
	if store == nil {
		return
	}
	stop()
	if err := store.Close(); err != nil {
		n.rig.t.Errorf("close the store of %s: %v", n.id, err)
	}
	n.loops.Wait()
}

// kill ends the node without a word; start brings it back.
func (n *rigNode) kill() {
	n.mu.Lock()
	n.up = false
	n.mu.Unlock()
	n.close()
	n.rig.tell()
}

func (n *rigNode) start() {
	if _, err := os.Stat(n.dir); err == nil {
		n.open(nil)
	}
	n.mu.Lock()
	n.up = true
	n.mu.Unlock()
	n.rig.tell()
}

func (r *rig) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Alive and Subscribe are gossip.
func (r *rig) Alive(id string) bool {
	r.mu.Lock()
	n := r.nodes[id]
	r.mu.Unlock()
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

func (r *rig) Subscribe() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[c] = struct{}{}
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, c)
	}
}

// leading returns the node that leads, with its store, nil while none does.
func (r *rig) leading() (*rigNode, *raftstore.Store) {
	for _, n := range r.all() {
		n.mu.Lock()
		store := n.store
		n.mu.Unlock()
		if store != nil && store.IsLeader() {
			return n, store
		}
	}
	return nil, nil
}

// apply commits on whichever node leads; make is given a view.
func (r *rig) apply(make func(raftstore.Reader) (raftstore.Txn, error)) {
	r.t.Helper()
	eventually(r.t, "a write", func() bool {
		_, store := r.leading()
		if store == nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var txn raftstore.Txn
		if err := store.View(func(v raftstore.Reader) (err error) { txn, err = make(v); return err }); err != nil {
			return false
		}
		_, err := store.Apply(ctx, txn)
		return err == nil
	})
}

// view reads on the leader; it is false when none leads.
func (r *rig) view(fn func(raftstore.Reader) error) bool {
	_, store := r.leading()
	return store != nil && store.View(fn) == nil
}

// servers are the voters and stand-bys, as the leader has them.
func (r *rig) servers() (voters, standBys []string) {
	_, store := r.leading()
	if store == nil {
		return nil, nil
	}
	servers, _, err := store.Servers()
	if err != nil {
		return nil, nil
	}
	for _, s := range servers {
		if s.Voter {
			voters = append(voters, s.ID)
		} else {
			standBys = append(standBys, s.ID)
		}
	}
	return voters, standBys
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Update is the node's gate.
func (n *rigNode) Update(roster raftstore.Roster) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if roster.Version <= n.roster.Version {
		return false, nil
	}
	n.roster = roster
	return true, nil
}

// rigPeers is a node's client.
type rigPeers rigNode

// call finds the called node, if it is up and obeys.
func (p *rigPeers) call(to peer.Target, f peer.Fence) (*rigNode, error) {
	r := p.rig
	r.mu.Lock()
	n := r.nodes[to.NodeID]
	r.mu.Unlock()
	if n == nil {
		return nil, fmt.Errorf("%w: no such node", peer.ErrNotSent)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case !n.up || n.address != to.Address:
		return nil, fmt.Errorf("%w: connection refused", peer.ErrNotSent)
	case f.Term < n.term:
		return nil, &peer.Refusal{Kind: peer.RefusedStaleTerm, Message: "a newer leader was seen"}
	}
	n.term = f.Term
	return n, nil
}

func (p *rigPeers) Jobs(ctx context.Context, to peer.Target, in *peer.JobsRequest) (*peer.JobsResponse, error) {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return nil, err
	}
	out := &peer.JobsResponse{}
	for _, job := range in.Jobs {
		n.mu.Lock()
		known := n.jobs[job.CommandID] > 0
		held := n.held[job.CommandID]
		if !known {
			n.jobs[job.CommandID]++
		}
		n.mu.Unlock()
		out.Answers = append(out.Answers, peer.JobAnswer{CommandID: job.CommandID, Known: known})
		if !known && !held {
			n.rig.reporting.Go(func() { n.finish(job.CommandID) })
		}
	}
	return out, ctx.Err()
}

// finish reports the end of a job until somebody has committed it.
func (n *rigNode) finish(command string) {
	report := peer.JobReport{CommandID: command, Sequence: 1, Status: "Success", StatusDetails: "Success", StartedAt: time.Now(), FinishedAt: time.Now()}
	for n.rig.t.Context().Err() == nil {
		if to, _ := n.rig.leading(); to != nil && n.rig.Alive(n.id) {
			ctx, cancel := context.WithTimeout(n.rig.t.Context(), 5*time.Second)
			to.mu.Lock()
			l := to.leader
			to.mu.Unlock()
			_, err := l.Report(ctx, n.id, []peer.JobReport{report})
			cancel()
			if err == nil {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *rigPeers) Cancel(_ context.Context, to peer.Target, in *peer.CancelRequest) (*peer.CancelResponse, error) {
	_, err := p.call(to, in.Fence)
	return &peer.CancelResponse{}, err
}

func (p *rigPeers) JobStates(_ context.Context, to peer.Target, in *peer.JobStatesRequest) (*peer.JobStatesResponse, error) {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &peer.JobStatesResponse{}
	for _, id := range in.CommandIDs {
		if n.jobs[id] == 0 {
			out.Unknown = append(out.Unknown, id)
		}
	}
	return out, nil
}

func (p *rigPeers) Roster(_ context.Context, to peer.Target, in *peer.RosterRequest) error {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return err
	}
	_, err = n.Update(in.Roster)
	return err
}

func (p *rigPeers) Farewell(ctx context.Context, to peer.Target, in *peer.RosterRequest) error {
	return p.Roster(ctx, to, in)
}

func (p *rigPeers) Keyring(_ context.Context, to peer.Target, in *peer.KeyringRequest) error {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.Version > n.ring {
		n.ring, n.keys = in.Version, in.Keys
	}
	return nil
}

func (p *rigPeers) Promote(_ context.Context, to peer.Target, in *peer.PromoteRequest) error {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return err
	}
	if len(in.MeshKey) != 32 || string(in.Certificate) != n.id+" voter=true" {
		return &peer.Refusal{Kind: peer.RefusedInput, Message: "not a voter's certificate"}
	}
	if _, ok := n.roster.Member(n.id); !ok {
		return errors.New("asked to hold the store before the roster says so")
	}
	n.open(nil)
	return nil
}

func (p *rigPeers) Demote(_ context.Context, to peer.Target, in *peer.DemoteRequest) error {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return err
	}
	if string(in.Certificate) != n.id+" voter=false" {
		return &peer.Refusal{Kind: peer.RefusedInput, Message: "not a member's certificate"}
	}
	n.close()
	n.mu.Lock()
	n.demoted++
	n.mu.Unlock()
	return os.RemoveAll(n.dir)
}

func (p *rigPeers) RaftState(_ context.Context, to peer.Target, in *peer.RaftStateRequest) (*peer.RaftStateResponse, error) {
	n, err := p.call(to, in.Fence)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store == nil {
		return &peer.RaftStateResponse{}, nil
	}
	return &peer.RaftStateResponse{HoldsStore: true, AppliedIndex: n.store.AppliedIndex(), LastIndex: n.store.LastIndex(), Term: n.store.Term()}, nil
}

// sendCommand stores a command for all nodes with role=web.
func (r *rig) sendCommand(id string) {
	now := time.Now().UTC()
	c := raftstore.Command{
		ID: id, Input: json.RawMessage(`{"Targets":[{"Key":"tag:role","Values":["web"]}]}`), Document: json.RawMessage(`{}`),
		RequestedAt: now, DeliverUntil: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour), Epoch: 1,
	}
	r.apply(func(raftstore.Reader) (raftstore.Txn, error) {
		var t raftstore.Txn
		t.PutNewCommand(c, raftstore.CommandState{ID: id, Status: "Pending", StatusDetails: "Pending"})
		return t, nil
	})
}

func (r *rig) commandState(id string) (state raftstore.CommandState) {
	r.view(func(v raftstore.Reader) (err error) {
		state, err = raftstore.GetCommandState(v, id)
		return err
	})
	return state
}
