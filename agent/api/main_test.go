package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

const (
	leaderID    = "mi-00000000000000001"
	memberID    = "mi-00000000000000002"
	adminKeyID  = "FMKATESTADMIN0000000"
	adminSecret = "the administrator's secret"
)

// idleStream is Raft's network for a voter that is alone.
type idleStream struct {
	closed chan struct{}
	once   sync.Once
}

func (s *idleStream) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}
func (s *idleStream) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *idleStream) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7947} }
func (s *idleStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.New("alone")
}

// bed is a mesh with a real store of one voter, a face that leads and one of a
// plain member that forwards to it.
type bed struct {
	t      *testing.T
	store  *raftstore.Store
	key    pki.MeshKey
	ca     *pki.CA
	meshID string
	clock  *testClock
	log    *logBuffer

	leader, member *Face
	// leaderURL and memberURL are their API ports over TLS.
	leaderURL, memberURL string
	client               *http.Client

	mu sync.Mutex
	// alive are the nodes that gossip sees; lost are those it has lost.
	alive map[string]bool
	// wrap, where set, stands between the faces and the store.
	wrap func(Store) Store
	// output answers Peers.Output.
	output func(peer.Target, *peer.OutputRequest) (*peer.OutputResponse, error)
	// forward, where set, replaces the way from the member to the leader.
	forward func(*peer.ForwardRequest, bool) (*peer.ForwardResponse, error)
}

// testClock is now, moved by what a test says.
type testClock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *testClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, key: pki.NewMeshKey(), meshID: uuid.NewString(), clock: &testClock{}, log: &logBuffer{}, alive: map[string]bool{leaderID: true}}
	var err error
	b.store, err = raftstore.Open(raftstore.Config{
		Dir: t.TempDir(), NodeID: leaderID, Address: "127.0.0.1:7947", Stream: &idleStream{closed: make(chan struct{})},
		Log: slog.New(slog.DiscardHandler), HeartbeatTimeout: 50 * time.Millisecond, ElectionTimeout: 50 * time.Millisecond, LeaderLeaseTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	if err := b.store.Bootstrap(b.firstRecords()); err != nil {
		t.Fatal(err)
	}
	b.await("the store to lead", func() bool {
		return b.store.ConfirmedView(t.Context(), func(raftstore.Reader) error { return nil }) == nil
	})
	config := Config{
		NodeID: leaderID, Version: "1.0.0",
		Store: func() Store {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.wrap != nil {
				return b.wrap(b.store)
			}
			return b.store
		},
		Forward: func(context.Context, *peer.ForwardRequest, bool) (*peer.ForwardResponse, error) {
			return nil, errors.Join(peer.ErrNoLeader, peer.ErrNotSent)
		},
		Peers: b, Members: b.members, MeshKey: func() (pki.MeshKey, bool) { return b.key, true },
		Roster: func() raftstore.Roster { return b.roster() },
		Log:    slog.New(slog.NewTextHandler(b.log, nil)), Now: b.clock.now,
	}
	b.leader = New(config)
	config.NodeID = memberID
	config.Store = func() Store { return nil }
	config.MeshKey = func() (pki.MeshKey, bool) { return pki.MeshKey{}, false }
	config.Forward = func(ctx context.Context, in *peer.ForwardRequest, retry bool) (*peer.ForwardResponse, error) {
		b.mu.Lock()
		forward := b.forward
		b.mu.Unlock()
		if forward != nil {
			return forward(in, retry)
		}
		return b.carry(ctx, in)
	}
	b.member = New(config)
	for _, f := range []*Face{b.leader, b.member} {
		f.search, f.localSearch, f.confirm = 500*time.Millisecond, 200*time.Millisecond, 400*time.Millisecond
	}
	b.client = &http.Client{Timeout: patience}
	b.leaderURL, b.memberURL = b.listen(b.leader), b.listen(b.member)
	return b
}

// carry brings a request to the leader as peers do: as JSON.
func (b *bed) carry(ctx context.Context, in *peer.ForwardRequest) (*peer.ForwardResponse, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	arrived := new(peer.ForwardRequest)
	if err := json.Unmarshal(data, arrived); err != nil {
		return nil, err
	}
	return b.leader.ServeForwarded(ctx, peer.Caller{NodeID: memberID, RemoteAddress: "127.0.0.2:40000"}, arrived)
}

func (b *bed) listen(f *Face) string {
	server := httptest.NewUnstartedServer(f)
	server.EnableHTTP2 = true
	server.StartTLS()
	b.t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if b.client.Transport == nil {
		b.client.Transport = server.Client().Transport
	} else {
		b.client.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(server.Certificate())
	}
	return server.URL
}

func (b *bed) firstRecords() raftstore.Txn {
	t := b.t
	t.Helper()
	var err error
	if b.ca, err = pki.NewCA("test", b.meshID, time.Now()); err != nil {
		t.Fatal(err)
	}
	caKey, err := b.ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	var txn raftstore.Txn
	txn.PutMesh(raftstore.Mesh{
		ID: b.meshID, Name: "test", AccountID: "123456789012", Epoch: 1,
		CACertificate: b.ca.CertificatePEM(), SealedCAKey: b.key.Seal(caKey, sealCAKey),
	})
	gossipKey := []byte(strings.Repeat("k", 32))
	txn.PutKeyring(raftstore.Keyring{Version: 1, Keys: []raftstore.GossipKey{{ID: "0123456789abcdef", Sealed: b.key.Seal(gossipKey, sealGossipKey+"0123456789abcdef")}}})
	leader := testNode(1, nil)
	txn.PutRoster(raftstore.Roster{Version: 1, MeshID: b.meshID, Members: []raftstore.RosterMember{{NodeID: leaderID, Address: leader.Address, PublicKey: leader.PublicKey}}})
	txn.PutNode(leader)
	txn.PutNode(testNode(2, map[string]string{"role": "web"}))
	txn.PutAccessKey(raftstore.AccessKey{ID: adminKeyID, SealedSecret: b.key.Seal([]byte(adminSecret), sealAccessKey+adminKeyID), UserName: "admin", Administrator: true})
	return txn
}

// testNode is an enrolled node; its id ends with n.
func testNode(n int, tags map[string]string) raftstore.Node {
	id := nodeID(n)
	ip := net.IPv4(127, 0, byte(n>>8), byte(n)).String()
	return raftstore.Node{
		ID: id, Name: "node" + id[len(id)-3:], ComputerName: "host" + id[len(id)-3:], PublicKey: "key of " + id,
		IPAddress: ip, Address: ip + ":7947", GossipAddress: ip + ":7946", RegisteredAt: time.Unix(1700000000+int64(n), 0).UTC(),
		PlatformType: "Linux", PlatformName: "Debian GNU/Linux", PlatformVersion: "12", AgentVersion: "1.0.0", Tags: tags,
	}
}

func nodeID(n int) string {
	const digits = "0123456789abcdef"
	id := []byte("mi-00000000000000000")
	for at := len(id) - 1; n > 0; at-- {
		id[at] = digits[n%16]
		n /= 16
	}
	return string(id)
}

func (b *bed) addNodes(nodes ...raftstore.Node) {
	b.t.Helper()
	var txn raftstore.Txn
	for _, n := range nodes {
		txn.PutNode(n)
	}
	b.apply(txn)
}

func (b *bed) apply(txn raftstore.Txn) {
	b.t.Helper()
	if _, err := b.store.Apply(b.t.Context(), txn); err != nil {
		b.t.Fatal(err)
	}
}

// read shows fn the store.
func (b *bed) read(fn func(raftstore.Reader) error) {
	b.t.Helper()
	if err := b.store.View(fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) roster() (roster raftstore.Roster) {
	_ = b.store.View(func(r raftstore.Reader) (err error) {
		roster, err = raftstore.GetRoster(r)
		return err
	})
	return roster
}

func (b *bed) members() []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Member
	_ = b.store.View(func(r raftstore.Reader) error {
		return raftstore.ScanNodes(r, "", func(n raftstore.Node) bool {
			out = append(out, Member{
				NodeID: n.ID, Address: n.Address, GossipAddress: n.GossipAddress, Version: "1.0.0", Voter: n.ID == leaderID,
				Alive: b.alive[n.ID], LastSeen: time.Unix(1700000000, 0), Tags: n.Tags,
			})
			return true
		})
	})
	return out
}

func (b *bed) setAlive(ids ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.alive[id] = true
	}
}

// Output implements Peers.
func (b *bed) Output(_ context.Context, to peer.Target, in *peer.OutputRequest) (*peer.OutputResponse, error) {
	b.mu.Lock()
	output := b.output
	b.mu.Unlock()
	if output == nil {
		return nil, errors.New("nobody answers")
	}
	return output(to, in)
}

// await polls a condition.
func (b *bed) await(what string, done func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// ssm is the stock client, without retries, against a face.
func (b *bed) ssm(url string, options ...func(*ssm.Options)) *ssm.Client {
	o := ssm.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(url), HTTPClient: b.client, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(adminKeyID, adminSecret, ""),
	}
	return ssm.New(o, options...)
}

// mesh is the client of the Mesh.* operations against a face.
func (b *bed) mesh(url string) *meshapi.Client {
	return meshapi.NewClient(meshapi.Config{
		Endpoint: url, HTTPClient: b.client, Region: "us-east-1", Retryer: noRetry{},
		Credentials: credentials.NewStaticCredentialsProvider(adminKeyID, adminSecret, ""),
	})
}

// socket is a client over a face's local socket: SSM's and the mesh's.
func (b *bed) socket(f *Face) (*ssm.Client, *meshapi.Client) {
	server := httptest.NewServer(http.HandlerFunc(f.ServeLocal))
	b.t.Cleanup(server.Close)
	stock := ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
	})
	return stock, meshapi.NewClient(meshapi.Config{Endpoint: server.URL, HTTPClient: server.Client(), Region: "us-east-1", Retryer: noRetry{}})
}

type noRetry struct{ aws.NopRetryer }

func (noRetry) GetAttemptToken(context.Context) (func(error) error, error) {
	return func(error) error { return nil }, nil
}

// wantCode holds err to be the mesh's refusal with a name, saying something.
func wantCode(t testing.TB, err error, code, says string) {
	t.Helper()
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	if refused.ErrorCode() != code || !strings.Contains(refused.ErrorMessage(), says) {
		t.Errorf("got %s %q, want %s saying %q", refused.ErrorCode(), refused.ErrorMessage(), code, says)
	}
}

func shell(command ...string) map[string][]string { return map[string][]string{"commands": command} }

const shellDocument = "AWS-RunShellScript"

func newTextLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

var discard = slog.New(slog.DiscardHandler)

func mustURL(path string) *url.URL { return &url.URL{Path: path} }

// recorder is a ResponseWriter that keeps what it is given.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// tlsCertificate is the certificate that a server shows, as PEM.
func tlsCertificate(t *testing.T, c *http.Client, address string) []byte {
	t.Helper()
	response, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: response.TLS.PeerCertificates[0].Raw})
}
