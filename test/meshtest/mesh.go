// Package meshtest makes meshes for tests: N agents in one process, each on an
// address of its own in 127.0.0.0/8, with real TLS, gossip, Raft, journals and
// scripts. It has the verbs of the domain (Start, Stop, Client, Await, …) and is
// used by external tests only.
package meshtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/hashicorp/raft"
	"go.yaml.in/yaml/v3"

	"fleetmesh/agent"
	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/worker"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
	"fleetmesh/test/leftover"
)

// Main is what a TestMain of a package that uses meshes calls: scripts run below
// a shim, and the shim is this same program started anew.
func Main(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == worker.ShimCommand {
		os.Exit(worker.ShimMain(os.Args[2:]))
	}
	// The tests wait for time-outs and elections far more than they compute. What the
	// command line says counts before this.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// Patience is how long Await waits on a busy machine before it gives up.
const Patience = 60 * time.Second

// Mesh is a mesh under test. Its methods are called from the test's goroutine.
type Mesh struct {
	t         testing.TB
	Admin     agent.AdminConfig
	Nodes     []*Node
	dir       string
	configure func(*agent.Config)
	// subnet is the first three numbers of the nodes' addresses.
	subnet string
	roots  *x509.CertPool
}

// Node is one member of a mesh under test.
type Node struct {
	mesh   *Mesh
	Name   string
	ID     string
	Config agent.Config
	Agent  *agent.Agent // nil while stopped
	log    *testLog
}

// Option changes a mesh before it is made.
type Option func(*options)

type options struct {
	memberOnly map[int]bool
	tags       func(node int) map[string]string
	configure  func(*agent.Config)
}

// MemberOnly says which nodes (from 0) may never vote.
func MemberOnly(nodes ...int) Option {
	return func(o *options) {
		for _, n := range nodes {
			o.memberOnly[n] = true
		}
	}
}

// Tags gives each node (from 0) its tags.
func Tags(tags func(node int) map[string]string) Option {
	return func(o *options) { o.tags = tags }
}

// Configure changes the settings of each node.
func Configure(configure func(*agent.Config)) Option {
	return func(o *options) { o.configure = configure }
}

// New makes a mesh of n nodes, starts it and waits until all are online. The
// test's end stops it.
func New(t testing.TB, n int, opts ...Option) *Mesh {
	t.Helper()
	o := options{memberOnly: map[int]bool{}, tags: func(int) map[string]string { return nil }, configure: func(*agent.Config) {}}
	for _, opt := range opts {
		opt(&o)
	}
	m := &Mesh{t: t, dir: t.TempDir(), configure: o.configure, subnet: fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250))}
	t.Cleanup(m.stopAll)
	first := m.add(0)
	result, err := agent.Init(t.Context(), agent.InitOptions{Config: first.Config, MeshName: "test", Tags: o.tags(0)})
	if err != nil {
		t.Fatalf("init: %v", err)
	}
	first.ID = result.NodeID
	data, err := os.ReadFile(result.AdminConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &m.Admin); err != nil {
		t.Fatal(err)
	}
	m.roots = x509.NewCertPool()
	if !m.roots.AppendCertsFromPEM([]byte(m.Admin.CA)) {
		t.Fatal("the admin configuration holds no CA")
	}
	first.Start()
	m.Await("the first node leads", func() error { _, err := first.Status(); return err })
	for len(m.Nodes) < n {
		m.grow(min(n, len(m.Nodes)+growthGroup), o)
	}
	return m
}

// growthGroup is how many nodes join between two looks whether all are online. All
// at once, gossip of many nodes on few CPUs takes its own delays for failures, tells
// all about these, and finds no rest.
const growthGroup = 25

// grow joins and starts nodes, up to n, and waits until they are online. Those that
// may vote share an activation, and those that may not.
func (m *Mesh) grow(n int, o options) {
	m.t.Helper()
	tokens := map[bool]pki.JoinToken{}
	for i := len(m.Nodes); i < n; i++ {
		memberOnly := o.memberOnly[i]
		token, made := tokens[memberOnly]
		if !made {
			token = m.Token(meshapi.CreateActivationInput{MemberOnly: memberOnly, RegistrationLimit: n - i})
			tokens[memberOnly] = token
		}
		node := m.add(i)
		node.Join(token, o.tags(i))
		node.Start()
	}
	m.AwaitOnline(n)
}

func (m *Mesh) add(i int) *Node {
	config := agent.DefaultConfig()
	config.RebootCommand = "" // no test starts this machine anew
	config.DataDir = filepath.Join(m.dir, fmt.Sprintf("node%d", i+1))
	config.Bind = fmt.Sprintf("%s.%d", m.subnet, i+1)
	config.NodeName = fmt.Sprintf("node%d", i+1)
	config.SpareShim = false // many workers share this process
	// The paths of temporary directories can be longer than a socket's may be.
	socketDir, err := os.MkdirTemp("", "fm")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { os.RemoveAll(socketDir) })
	config.Socket = filepath.Join(socketDir, "s")
	m.configure(&config)
	node := &Node{mesh: m, Name: config.NodeName, Config: config, log: &testLog{}}
	m.Nodes = append(m.Nodes, node)
	return node
}

// Add makes one more node; it is neither joined nor started.
func (m *Mesh) Add() *Node { return m.add(len(m.Nodes)) }

func (m *Mesh) stopAll() {
	var group sync.WaitGroup
	for _, n := range m.Nodes {
		if n.Agent != nil {
			group.Go(n.Stop)
		}
	}
	group.Wait()
	leftover.None(m.t, m.dir)
	if m.t.Failed() {
		for _, n := range m.Nodes {
			m.t.Logf("-- log of %s (%s)\n%s", n.Name, n.ID, n.log.tail())
		}
	}
}

// Token makes an activation and returns its join token.
func (m *Mesh) Token(in meshapi.CreateActivationInput) pki.JoinToken {
	m.t.Helper()
	var token pki.JoinToken
	m.Await("an activation", func() error {
		out, err := m.anyRunning().Mesh().CreateActivation(m.t.Context(), &in)
		if err != nil {
			return err
		}
		token, err = pki.ParseJoinToken(out.JoinToken)
		return err
	})
	return token
}

func (m *Mesh) anyRunning() *Node {
	m.t.Helper()
	for _, n := range m.Nodes {
		if n.Agent != nil {
			return n
		}
	}
	m.t.Fatal("no node is running")
	return nil
}

// Await tries until check returns nil; the test fails with its last error after
// Patience.
func (m *Mesh) Await(what string, check func() error) {
	m.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("waited %s for %s: %v", Patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// AwaitOnline waits until n nodes are online.
func (m *Mesh) AwaitOnline(n int) {
	m.t.Helper()
	m.Await(fmt.Sprintf("%d nodes online", n), func() error {
		status, err := m.anyRunning().Status()
		if err != nil {
			return err
		}
		if status.Nodes.Online != n {
			return fmt.Errorf("%d online, %d lost", status.Nodes.Online, status.Nodes.ConnectionLost)
		}
		return nil
	})
}

// AwaitVoters waits until the quorum has n voters, and returns the status.
func (m *Mesh) AwaitVoters(n int) *meshapi.StatusOutput {
	m.t.Helper()
	var status *meshapi.StatusOutput
	m.Await(fmt.Sprintf("%d voters", n), func() error {
		var err error
		status, err = m.anyRunning().Status()
		if err == nil && len(status.Voters) != n {
			err = fmt.Errorf("%d voters, %d stand-bys", len(status.Voters), len(status.StandBys))
		}
		return err
	})
	return status
}

// Node returns the node with this id.
func (m *Mesh) Node(id string) *Node {
	m.t.Helper()
	for _, n := range m.Nodes {
		if n.ID == id {
			return n
		}
	}
	m.t.Fatalf("no node %s", id)
	return nil
}

// Leader waits for a leader and returns its node.
func (m *Mesh) Leader() *Node {
	m.t.Helper()
	var id string
	m.Await("a leader", func() error {
		status, err := m.anyRunning().Status()
		if err == nil && status.Leader == "" {
			err = fmt.Errorf("no leader")
		}
		if err == nil {
			id = status.Leader
		}
		return err
	})
	return m.Node(id)
}

// Join enrols the node.
func (n *Node) Join(token pki.JoinToken, tags map[string]string) {
	n.mesh.t.Helper()
	result, err := agent.Join(n.mesh.t.Context(), agent.JoinOptions{Config: n.Config, Token: token, Tags: tags})
	if err != nil {
		n.mesh.t.Fatalf("join %s: %v", n.Name, err)
	}
	n.ID = result.NodeID
}

// Start runs the node.
func (n *Node) Start() {
	n.mesh.t.Helper()
	running, err := agent.Open(n.Config, slog.New(slog.NewTextHandler(n.log, nil)))
	if err != nil {
		n.mesh.t.Fatalf("start %s: %v", n.Name, err)
	}
	n.Agent = running
}

// Stop ends the node as SIGTERM does.
func (n *Node) Stop() {
	if err := n.Agent.Close(); err != nil {
		n.mesh.t.Errorf("stop %s: %v", n.Name, err)
	}
	n.Agent = nil
}

// transport reaches this node's API with nothing but the mesh's CA.
func (n *Node) transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: n.mesh.roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
}

// Client is the stock SSM client against this node; it does not retry.
func (n *Node) Client() *ssm.Client {
	return ssm.New(ssm.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String("https://" + n.Config.Address()),
		Credentials:  credentials.NewStaticCredentialsProvider(n.mesh.Admin.AccessKeyID, n.mesh.Admin.SecretAccessKey, ""),
		HTTPClient:   &http.Client{Transport: n.transport(), Timeout: 60 * time.Second},
		Retryer:      aws.NopRetryer{},
	})
}

// Status is Mesh.Status as this node answers it.
func (n *Node) Status() (*meshapi.StatusOutput, error) {
	ctx, cancel := context.WithTimeout(n.mesh.t.Context(), 10*time.Second)
	defer cancel()
	return n.Mesh().Status(ctx, &meshapi.StatusInput{})
}

// SocketClient speaks HTTP over the node's local socket.
func (n *Node) SocketClient() *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", n.Config.SocketPath())
		}},
	}
}

// testLog keeps the end of a node's log, shown when the test fails.
type testLog struct {
	mu     sync.Mutex
	lines  []string
	errors []string // all lines of level ERROR
}

var _ io.Writer = (*testLog)(nil)

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	if strings.Contains(string(p), "level=ERROR") {
		l.errors = append(l.errors, string(p))
	}
	if len(l.lines) > 400 {
		l.lines = l.lines[len(l.lines)-200:]
	}
	return len(p), nil
}

func (l *testLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

// Errors are the lines of level ERROR that the nodes have logged.
func (m *Mesh) Errors() []string {
	var all []string
	for _, n := range m.Nodes {
		n.log.mu.Lock()
		for _, line := range n.log.errors {
			all = append(all, n.Name+": "+line)
		}
		n.log.mu.Unlock()
	}
	return all
}

// Mesh is the client of the Mesh.* operations against this node; it does not
// retry.
func (n *Node) Mesh() *meshapi.Client {
	return meshapi.NewClient(meshapi.Config{
		Endpoint:    "https://" + n.Config.Address(),
		HTTPClient:  &http.Client{Transport: n.transport(), Timeout: 60 * time.Second},
		Credentials: credentials.NewStaticCredentialsProvider(n.mesh.Admin.AccessKeyID, n.mesh.Admin.SecretAccessKey, ""),
		Region:      "us-east-1",
		Retryer:     retryNothing{aws.NopRetryer{}},
	})
}

// Socket is the client of the Mesh.* operations over the node's local socket.
func (n *Node) Socket() *meshapi.Client {
	return meshapi.NewClient(meshapi.Config{
		Endpoint: "http://meshd", HTTPClient: n.SocketClient(), Region: "us-east-1", Retryer: retryNothing{aws.NopRetryer{}},
	})
}

// retryNothing makes the SDK's NopRetryer a RetryerV2.
type retryNothing struct{ aws.NopRetryer }

func (retryNothing) GetAttemptToken(context.Context) (func(error) error, error) {
	return func(error) error { return nil }, nil
}

// CA opens the mesh's certificate authority, as a thief of a voter's disk could.
// The first node is stopped and started again for it.
func (m *Mesh) CA() *pki.CA {
	m.t.Helper()
	first := m.Nodes[0]
	first.Stop()
	defer first.Start()
	text, err := os.ReadFile(filepath.Join(first.Config.DataDir, "identity", "mesh.key"))
	if err != nil {
		m.t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		m.t.Fatal(err)
	}
	var key pki.MeshKey
	copy(key[:], raw)
	stream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	store, err := raftstore.Open(raftstore.Config{
		Dir: filepath.Join(first.Config.DataDir, "store"), NodeID: first.ID, Address: first.Config.Address(),
		Stream: aloneStream{stream}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	defer store.Close()
	var record raftstore.Mesh
	if err := store.View(func(r raftstore.Reader) (err error) { record, err = raftstore.GetMesh(r); return err }); err != nil {
		m.t.Fatal(err)
	}
	keyPEM, err := key.Open(record.SealedCAKey, "ca-key")
	if err != nil {
		m.t.Fatal(err)
	}
	ca, err := pki.LoadCA(record.CACertificate, keyPEM)
	if err != nil {
		m.t.Fatal(err)
	}
	return ca
}

// aloneStream lets a store be opened for reading, with nobody to talk to.
type aloneStream struct{ net.Listener }

func (aloneStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.New("nobody is to be reached")
}
