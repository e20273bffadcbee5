package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

const testMeshID = "3f0c1a52-7a49-4b7b-9a0e-0d2f8a9f0b11"

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// mesh is a CA and the nodes that a test makes with it. All run in this process,
// on real sockets with real TLS.
type mesh struct {
	t     *testing.T
	id    string
	ca    *pki.CA
	clock *testClock
	count int
	nodes []*node
}

// testClock is real time plus what a test adds.
type testClock struct{ ahead atomic.Int64 }

func (c *testClock) now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *testClock) advance(by time.Duration) { c.ahead.Add(int64(by)) }

func newMesh(t *testing.T) *mesh { return newMeshNamed(t, testMeshID) }

func newMeshNamed(t *testing.T, id string) *mesh {
	t.Helper()
	ca, err := pki.NewCA("test", id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t: t, id: id, ca: ca, clock: &testClock{}}
}

// credentials are a node's; a test may replace the certificate.
type credentials struct {
	ca  *x509.Certificate
	key *ecdsa.PrivateKey

	mu          sync.Mutex
	certificate *tls.Certificate
	identity    pki.Identity
}

func (c *credentials) Certificate() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certificate, nil
}
func (c *credentials) CA() *x509.Certificate { return c.ca }
func (c *credentials) Identity() pki.Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// node is one node of a test.
type node struct {
	*credentials
	t        *testing.T
	mesh     *mesh
	nodeID   string
	gate     *Gate
	config   Config
	server   *Server
	client   *Client
	handlers *recorder
}

// newNode makes a node with a certificate and an empty roster that listens.
func (m *mesh) newNode(voter bool) *node {
	m.t.Helper()
	n := m.newSilentNode(voter)
	n.listen("127.0.0.1:0")
	return n
}

// newSilentNode makes a node that only calls.
func (m *mesh) newSilentNode(voter bool) *node {
	m.t.Helper()
	m.count++
	key, err := pki.NewKey()
	if err != nil {
		m.t.Fatal(err)
	}
	n := &node{t: m.t, mesh: m, nodeID: fmt.Sprintf("mi-%017x", m.count), credentials: &credentials{ca: m.ca.Certificate(), key: key}}
	n.certify(m.ca, voter)
	if n.gate, err = OpenGate(filepath.Join(m.t.TempDir(), "gate.json"), m.id); err != nil {
		m.t.Fatal(err)
	}
	n.config = Config{Credentials: n, Gate: n.gate, Log: testLog(m.t), Now: m.clock.now}
	n.client = NewClient(n.config)
	m.t.Cleanup(n.client.Close)
	n.handlers = &recorder{node: n}
	m.nodes = append(m.nodes, n)
	return n
}

func (n *node) listen(address string) {
	n.t.Helper()
	server, err := Listen(address, n.config, n.handlers)
	if err != nil {
		n.t.Fatal(err)
	}
	n.server = server
	n.t.Cleanup(func() { _ = server.Close() })
}

// certify gives the node a new certificate of the moment, issued by ca.
func (n *node) certify(ca *pki.CA, voter bool) {
	n.t.Helper()
	chainPEM, err := ca.Issue(pki.IssueRequest{
		MeshID: n.mesh.id, NodeID: n.nodeID, Voter: voter, PublicKey: n.key.Public(),
		Now: n.mesh.clock.now(), Lifetime: pki.CertificateLifetime,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	keyPEM, err := pki.MarshalKey(n.key)
	if err != nil {
		n.t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		n.t.Fatal(err)
	}
	identity, err := pki.IdentityOf(certificate.Leaf)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.certificate, n.identity = &certificate, identity
}

func (n *node) target() Target { return Target{NodeID: n.nodeID, Address: n.address()} }

func (n *node) address() string {
	if n.server == nil {
		return "127.0.0.1:1"
	}
	return n.server.Addr().String()
}

func (n *node) member() raftstore.RosterMember {
	return raftstore.RosterMember{NodeID: n.nodeID, Address: n.address(), PublicKey: n.Identity().PublicKey}
}

func (n *node) take(roster raftstore.Roster) {
	n.t.Helper()
	if _, err := n.gate.Update(roster); err != nil {
		n.t.Fatal(err)
	}
}

// roster makes a roster of these members.
func (m *mesh) roster(version uint64, members ...*node) raftstore.Roster {
	roster := raftstore.Roster{Version: version, MeshID: m.id}
	for _, n := range members {
		roster.Members = append(roster.Members, n.member())
	}
	return roster
}

// without adds removed nodes to a roster.
func without(roster raftstore.Roster, removed ...*node) raftstore.Roster {
	for _, n := range removed {
		roster.Removed = append(roster.Removed, raftstore.RemovedKey{NodeID: n.nodeID, PublicKey: n.Identity().PublicKey})
	}
	return roster
}

// agree gives all nodes the roster.
func (m *mesh) agree(roster raftstore.Roster) {
	m.t.Helper()
	for _, n := range m.nodes {
		n.take(roster)
	}
}

// recorder implements Handlers: it counts calls by route and answers. Functions
// that a test sets take over.
type recorder struct {
	node *node

	mu      sync.Mutex
	calls   map[string]int
	callers []Caller

	forward func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error)
	renew   func(context.Context, Caller, *RenewRequest) (*RenewResponse, error)
	output  func(context.Context, Caller, *OutputRequest) (*OutputResponse, error)
}

func (r *recorder) saw(route string, from Caller) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = make(map[string]int)
	}
	r.calls[route]++
	r.callers = append(r.callers, from)
}

// seen is how often a route was called; "" counts all.
func (r *recorder) seen(route string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if route == "" {
		return len(r.callers)
	}
	return r.calls[route]
}

func (r *recorder) Forward(ctx context.Context, from Caller, in *ForwardRequest) (*ForwardResponse, error) {
	r.saw(routeForward, from)
	if r.forward != nil {
		return r.forward(ctx, from, in)
	}
	return &ForwardResponse{Status: 200, Body: in.Body}, nil
}
func (r *recorder) Report(_ context.Context, from Caller, _ *ReportRequest) (*ReportResponse, error) {
	r.saw(routeReport, from)
	return &ReportResponse{}, nil
}
func (r *recorder) Renew(ctx context.Context, from Caller, in *RenewRequest) (*RenewResponse, error) {
	r.saw(routeRenew, from)
	if r.renew != nil {
		return r.renew(ctx, from, in)
	}
	return &RenewResponse{Certificate: []byte("new"), Roster: r.node.gate.Roster()}, nil
}
func (r *recorder) Jobs(_ context.Context, from Caller, in *JobsRequest) (*JobsResponse, error) {
	r.saw(routeJobs, from)
	answers := make([]JobAnswer, len(in.Jobs))
	for i, job := range in.Jobs {
		answers[i].CommandID = job.CommandID
	}
	return &JobsResponse{Answers: answers}, nil
}
func (r *recorder) Cancel(_ context.Context, from Caller, _ *CancelRequest) (*CancelResponse, error) {
	r.saw(routeCancel, from)
	return &CancelResponse{}, nil
}
func (r *recorder) JobStates(_ context.Context, from Caller, _ *JobStatesRequest) (*JobStatesResponse, error) {
	r.saw(routeJobStates, from)
	return &JobStatesResponse{}, nil
}
func (r *recorder) Output(ctx context.Context, from Caller, in *OutputRequest) (*OutputResponse, error) {
	r.saw(routeOutput, from)
	if r.output != nil {
		return r.output(ctx, from, in)
	}
	return &OutputResponse{Ended: true}, nil
}
func (r *recorder) Roster(_ context.Context, from Caller, in *RosterRequest) error {
	r.saw(routeRoster, from)
	if r.node.gate.Roster().Version < in.Roster.Version {
		return errors.New("the handler runs before the gate has the roster")
	}
	return nil
}
func (r *recorder) Keyring(_ context.Context, from Caller, _ *KeyringRequest) error {
	r.saw(routeKeyring, from)
	return nil
}
func (r *recorder) Promote(_ context.Context, from Caller, _ *PromoteRequest) error {
	r.saw(routePromote, from)
	return nil
}
func (r *recorder) Demote(_ context.Context, from Caller, _ *DemoteRequest) error {
	r.saw(routeDemote, from)
	return nil
}
func (r *recorder) RaftState(_ context.Context, from Caller, _ *RaftStateRequest) (*RaftStateResponse, error) {
	r.saw(routeRaftState, from)
	return &RaftStateResponse{HoldsStore: true}, nil
}

// leaderCalls is every call that only a voter may make.
var leaderCalls = map[string]func(context.Context, *Client, Target, Fence) error{
	routeJobs: func(ctx context.Context, c *Client, to Target, f Fence) error {
		_, err := c.Jobs(ctx, to, &JobsRequest{Fence: f})
		return err
	},
	routeCancel: func(ctx context.Context, c *Client, to Target, f Fence) error {
		_, err := c.Cancel(ctx, to, &CancelRequest{Fence: f})
		return err
	},
	routeJobStates: func(ctx context.Context, c *Client, to Target, f Fence) error {
		_, err := c.JobStates(ctx, to, &JobStatesRequest{Fence: f})
		return err
	},
	routeOutput: func(ctx context.Context, c *Client, to Target, f Fence) error {
		_, err := c.Output(ctx, to, &OutputRequest{Fence: f})
		return err
	},
	routeRoster: func(ctx context.Context, c *Client, to Target, f Fence) error {
		return c.Roster(ctx, to, &RosterRequest{Fence: f, Roster: c.cfg.Gate.Roster()})
	},
	routeKeyring: func(ctx context.Context, c *Client, to Target, f Fence) error {
		return c.Keyring(ctx, to, &KeyringRequest{Fence: f})
	},
	routePromote: func(ctx context.Context, c *Client, to Target, f Fence) error {
		return c.Promote(ctx, to, &PromoteRequest{Fence: f})
	},
	routeDemote: func(ctx context.Context, c *Client, to Target, f Fence) error {
		return c.Demote(ctx, to, &DemoteRequest{Fence: f})
	},
	routeRaftState: func(ctx context.Context, c *Client, to Target, f Fence) error {
		_, err := c.RaftState(ctx, to, &RaftStateRequest{Fence: f})
		return err
	},
}

// wantRefusal fails unless err is an answered refusal of this kind.
func wantRefusal(t *testing.T, err error, kind RefusalKind) {
	t.Helper()
	refusal := (*Refusal)(nil)
	if !errors.As(err, &refusal) || refusal.Kind != kind {
		t.Errorf("error %v, want a refusal %q", err, kind)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
		<-tick.C
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dialRaw opens a TLS connection that offers a protocol with a node's certificate
// and checks nothing: what an attacker would do.
func dialRaw(t *testing.T, to *node, protocol string, with *credentials) (*tls.Conn, error) {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	if with != nil {
		certificate, err := with.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: config}
	conn, err := dialer.DialContext(testContext(t), "tcp", to.address())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*tls.Conn), nil
}

// enter is dialRaw for somebody who is let in.
func enter(t *testing.T, to *node, protocol string, with *credentials) *tls.Conn {
	t.Helper()
	conn, err := dialRaw(t, to, protocol, with)
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitGreeting(testContext(t), conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// testLog writes to the test's own log and stops when the test is over.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(&logWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type logWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", line)
	}
	return len(line), nil
}

func isErrNotSent(err error) bool { return errors.Is(err, ErrNotSent) }

func refusalIn(err error) *Refusal {
	refusal := (*Refusal)(nil)
	errors.As(err, &refusal)
	return refusal
}

func isRefusal(err error) bool { return refusalIn(err) != nil }
