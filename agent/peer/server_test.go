package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

// serveAPI serves the API side of a node as agent does.
func serveAPI(t *testing.T, n *node) {
	t.Helper()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				http.NotFound(w, r)
				return
			}
			fmt.Fprintf(w, "%s %d", r.Proto, len(r.TLS.PeerCertificates))
		}),
		ReadHeaderTimeout: patience,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(n.server.API())
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

// apiClient is a stock client that trusts the mesh's CA.
func apiClient(t *testing.T, n *node, change func(*http.Transport)) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(n.CA())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	if change != nil {
		change(transport)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestAPIClients(t *testing.T) {
	m := newMesh(t)
	n := m.newNode(true)
	serveAPI(t, n)
	for _, test := range []struct {
		name, want string
		change     func(*http.Transport)
	}{
		{"h2", "HTTP/2.0 0", nil},
		{"http/1.1", "HTTP/1.1 0", func(t *http.Transport) { t.ForceAttemptHTTP2 = false }},
		{"no ALPN, TLS 1.2", "HTTP/1.1 0", func(t *http.Transport) {
			t.ForceAttemptHTTP2 = false
			t.TLSClientConfig.MaxVersion = tls.VersionTLS12
		}},
		{"with a certificate nobody asked for", "HTTP/2.0 0", func(t *http.Transport) {
			certificate, err := n.Certificate()
			if err == nil {
				t.TLSClientConfig.Certificates = []tls.Certificate{*certificate}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, err := apiClient(t, n, test.change).Post("https://"+n.address()+"/", "application/x-amz-json-1.1", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || string(body) != test.want {
				t.Errorf("answer %q, %v; want %q", body, err, test.want)
			}
		})
	}
}

// What comes by the API's protocols never reaches a peer handler.
func TestAPIDoesNotReachPeerRoutes(t *testing.T) {
	m := newMesh(t)
	voter := m.newNode(true)
	m.agree(m.roster(1, voter))
	serveAPI(t, voter)
	client := apiClient(t, voter, func(transport *http.Transport) {
		certificate, err := voter.Certificate() // even with a voter's certificate
		if err == nil {
			transport.TLSClientConfig.Certificates = []tls.Certificate{*certificate}
		}
	})
	for route := range voter.server.routes.table {
		response, err := client.Post("https://"+voter.address()+routePrefix+route, contentType, strings.NewReader(`{"Term":1}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%s over the API: %s", route, response.Status)
		}
	}
	if voter.handlers.seen("") != 0 {
		t.Error("a peer handler ran")
	}
	// An unknown protocol is none.
	if _, err := dialRaw(t, voter, "mesh-peer/9", voter.credentials); err == nil || !strings.Contains(err.Error(), "no application protocol") {
		t.Errorf("an unknown protocol: %v", err)
	}
}

func TestMalformedCalls(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	request := func(line, contentType, body string) string {
		return fmt.Sprintf("%s HTTP/1.1\r\nHost: mesh\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", line, contentType, len(body), body)
	}
	for _, test := range []struct{ name, send, want string }{
		{"no such route", request("POST /v1/nothing", contentType, "{}"), "400"},
		{"another prefix", request("POST /v2/report", contentType, "{}"), "400"},
		{"no prefix", request("POST /report", contentType, "{}"), "400"},
		{"GET", request("GET /v1/report", contentType, ""), "400"},
		{"a query", request("POST /v1/report?x=1", contentType, "{}"), "400"},
		{"another type", request("POST /v1/report", "text/plain", "{}"), "400"},
		{"no JSON", request("POST /v1/report", contentType, "hello"), "400"},
		{"nothing", request("POST /v1/report", contentType, ""), "400"},
		{"cut JSON", request("POST /v1/report", contentType, `{"Reports":[`), "400"},
		{"two values", request("POST /v1/report", contentType, `{}{}`), "400"},
		{"another shape", request("POST /v1/report", contentType, `{"Reports":7}`), "400"},
		{"too large by its length", fmt.Sprintf("POST /v1/report HTTP/1.1\r\nHost: mesh\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", contentType, maxRequest+1), "400"},
		{"too large by its chunks", "POST /v1/report HTTP/1.1\r\nHost: mesh\r\nContent-Type: " + contentType + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", maxRequest+1, strings.Repeat("[", maxRequest+1)), "400"},
		{"large headers", "POST /v1/report HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n", "431"},
		{"no HTTP", "\x00\x01\x02\r\n\r\n", "400"},
		{"good", request("POST /v1/report", contentType, `{"Reports":[],"NewMember":1}`), "200"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := enter(t, voter, protocolPeer, member.credentials)
			go func() { _, _ = io.WriteString(conn, test.send) }()
			answer := make([]byte, 12)
			if _, err := io.ReadFull(conn, answer); err != nil {
				t.Fatal(err)
			}
			if got := string(answer[9:12]); got != test.want {
				t.Errorf("status %s, want %s", got, test.want)
			}
		})
	}
	if seen := voter.handlers.seen(""); seen != 1 {
		t.Errorf("handlers ran %d times, want once for the good call", seen)
	}
	_, err := member.client.Forward(testContext(t), &ForwardRequest{Body: make([]byte, maxRequest)}, true)
	wantRefusal(t, err, RefusedInput)
}

// Strangers are closed, counted, and logged at most once a minute per source.
func TestStrangersAreRefused(t *testing.T) {
	m := newMesh(t)
	n := m.newSilentNode(true)
	var log lockedBuffer
	n.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	n.listen("127.0.0.1:0")
	const rounds = 10
	for range rounds {
		for _, say := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\xff\xff garbage", "\x00\x01\x02\x03\x04\x05\x06", "SSH-2.0-x\r\n"} {
			conn, err := net.Dial("tcp", n.address())
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, say); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(conn) // a reset is as good as an end
			if strings.HasPrefix(say, "GET") && !bytes.Contains(got, []byte("HTTPS only")) {
				t.Errorf("plain HTTP is told %q", got)
			}
			_ = conn.Close()
		}
	}
	eventually(t, "all are counted", func() bool { return n.server.refused.count() == 4*rounds })
	if lines := strings.Count(log.String(), "connection refused"); lines != 1 {
		t.Errorf("%d lines in the log:\n%s", lines, log.String())
	}
	// Who only looks whether the port is open is no news.
	conn, err := net.Dial("tcp", n.address())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	// And the port works.
	if _, err := dialRaw(t, n, "", nil); err != nil {
		t.Error(err)
	}
}

// Connections that say nothing keep nobody out.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	for range 300 {
		conn, err := net.Dial("tcp", voter.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if _, err := member.client.Report(testContext(t), &ReportRequest{}); err != nil {
		t.Error(err)
	}
}

// A handler that panics is logged with its stack, its caller is left in doubt, and
// the node goes on.
func TestHandlerPanics(t *testing.T) {
	m := newMesh(t)
	voter := m.newSilentNode(true)
	member := m.newNode(false)
	var log lockedBuffer
	voter.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	voter.handlers.forward = func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
		panic("the handler's fault")
	}
	voter.listen("127.0.0.1:0")
	m.agree(m.roster(1, voter))
	_, err := member.client.Forward(testContext(t), &ForwardRequest{}, false)
	if err == nil || isErrNotSent(err) || isRefusal(err) {
		t.Errorf("error %v, want an unknown outcome", err)
	}
	if !strings.Contains(log.String(), "the handler's fault") || !strings.Contains(log.String(), "server_test.go") {
		t.Errorf("the log does not tell:\n%s", log.String())
	}
	if _, err := member.client.Report(testContext(t), &ReportRequest{}); err != nil {
		t.Error(err)
	}
}

// Other errors of handlers stay here; refusals travel whole.
func TestErrorsTravel(t *testing.T) {
	m := newMesh(t)
	voter := m.newSilentNode(true)
	member := m.newNode(false)
	var log lockedBuffer
	voter.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	voter.listen("127.0.0.1:0")
	m.agree(m.roster(1, voter))
	for _, kind := range []RefusalKind{RefusedForbidden, RefusedStaleTerm, RefusedInput, RefusedInternal} {
		want := Refusal{Kind: kind, Message: "because of " + string(kind), Leader: "l:1", LeaderID: "mi-1"}
		voter.handlers.forward = func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
			return nil, fmt.Errorf("in a wrapping: %w", &want)
		}
		_, err := member.client.Forward(testContext(t), &ForwardRequest{}, true)
		wantRefusal(t, err, kind)
		if got := refusalIn(err); got == nil || *got != want {
			t.Errorf("refusal %+v, want %+v", got, want)
		}
	}
	voter.handlers.forward = func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
		return nil, fmt.Errorf("open /secret/path")
	}
	_, err := member.client.Forward(testContext(t), &ForwardRequest{}, true)
	wantRefusal(t, err, RefusedInternal)
	if strings.Contains(err.Error(), "secret") || !strings.Contains(log.String(), "/secret/path") {
		t.Errorf("error %v; log:\n%s", err, log.String())
	}
}

// Close waits for calls in flight, and for all goroutines, whatever state their
// connections are in.
func TestServerClose(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	serveAPI(t, voter)
	entered, goOn := make(chan struct{}), make(chan struct{})
	voter.handlers.forward = func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
		close(entered)
		<-goOn
		return &ForwardResponse{Status: 204}, nil
	}
	enter(t, voter, protocolPeer, member.credentials)
	enter(t, voter, protocolRaft, voter.credentials)
	if _, err := dialRaw(t, voter, "", nil); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", voter.address())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	outcome := make(chan error, 1)
	go func() {
		_, err := member.client.Forward(testContext(t), &ForwardRequest{}, false)
		outcome <- err
	}()
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- voter.server.Close() }()
	<-voter.server.closing
	close(goOn)
	if err := <-outcome; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := voter.server.Raft().Accept(); err == nil {
		t.Error("the Raft listener goes on")
	}
	if err := voter.server.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestRosterChangesUnderLoad has 200 clients call while nodes come, go, rise and
// fall: nobody who is out may be served, and who stays in is served in the end.
func TestRosterChangesUnderLoad(t *testing.T) {
	m := newMesh(t)
	voter, other := m.newNode(true), m.newNode(true)
	const clients = 200
	var members []*node
	for range clients {
		members = append(members, m.newSilentNode(false))
	}
	m.agree(m.roster(1, voter, other))
	ctx := testContext(t)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i, member := range members {
		running.Go(func() {
			for {
				_, err := call[ReportRequest, ReportResponse](ctx, member.client, toLeader, voter.target(), routeReport, &ReportRequest{}, true)
				// On a busy machine a handshake may take too long; a refusal or a cut
				// may not be.
				if i%4 != 0 && err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a member that stays: %v", err)
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	running.Go(func() { // and streams that open and break
		for {
			if conn, err := other.client.DialRaft(ctx, voter.address()); err == nil {
				_ = conn.Close()
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	running.Go(func() {
		for {
			conn, err := voter.server.Raft().Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	version := uint64(1)
	var removed []raftstore.RemovedKey
	for i := 0; i < clients; i += 4 {
		version++
		removed = append(removed, raftstore.RemovedKey{NodeID: members[i].nodeID, PublicKey: members[i].Identity().PublicKey})
		roster := m.roster(version, voter)
		if i%8 == 0 {
			roster = m.roster(version, voter, other)
		}
		roster.Removed = append([]raftstore.RemovedKey(nil), removed...)
		voter.take(roster)
		other.take(roster)
	}
	served := voter.handlers.seen(routeReport)
	eventually(t, "the others are served after the last change", func() bool {
		return voter.handlers.seen(routeReport) > served+clients
	})
	close(stop)
	_ = voter.server.Raft().Close()
	running.Wait()
	for i := 0; i < clients; i += 4 {
		_, err := call[ReportRequest, ReportResponse](ctx, members[i].client, toLeader, voter.target(), routeReport, &ReportRequest{}, true)
		if !isErrNotSent(err) {
			t.Errorf("removed node %d: %v, want ErrNotSent", i, err)
		}
	}
	voter.server.links.mu.Lock()
	defer voter.server.links.mu.Unlock()
	for _, key := range removed {
		if count := voter.server.links.callers[key.PublicKey]; count != 0 {
			t.Errorf("%d connections of removed node %s are open", count, key.NodeID)
		}
	}
}

// One key cannot take all connections.
func TestConnectionsPerCallerAreBounded(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	set := newLinks(voter.gate)
	yes := func(*rosterView) bool { return true }
	var last *link
	for i := range 5 {
		server, client := net.Pipe()
		defer client.Close()
		l, ok := set.add(server)
		if !ok {
			t.Fatal("the set is closed")
		}
		if got, want := set.settleCaller(l, member.Identity().PublicKey, 3, yes), i < 3; got != want {
			t.Errorf("connection %d: let in %t, want %t", i, got, want)
		}
		if i == 2 {
			last = l
		}
	}
	_ = last.Close()
	_ = last.Close()
	if got := set.callers[member.Identity().PublicKey]; got != 2 {
		t.Errorf("%d connections are counted, want 2", got)
	}
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// No session is resumed: a resumed one would not show its certificate again.
func TestSessionsAreNotResumed(t *testing.T) {
	m := newMesh(t)
	voter := m.newNode(true)
	m.agree(m.roster(1, voter))
	certificate, err := voter.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{protocolPeer, protocolRaft, "h2"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if protocol != "h2" && version == tls.VersionTLS12 {
				continue
			}
			config := &tls.Config{
				InsecureSkipVerify: true, NextProtos: []string{protocol}, MaxVersion: version, ServerName: "localhost",
				Certificates: []tls.Certificate{*certificate}, ClientSessionCache: tls.NewLRUClientSessionCache(4),
			}
			for range 3 {
				conn, err := tls.Dial("tcp", voter.address(), config)
				if err != nil {
					t.Fatal(err)
				}
				if protocol != "h2" { // a ticket would come before it
					if err := awaitGreeting(testContext(t), conn); err != nil {
						t.Fatal(err)
					}
				}
				if conn.ConnectionState().DidResume {
					t.Errorf("%s, TLS %x: a session was resumed", protocol, version)
				}
				_ = conn.Close()
			}
		}
	}
	// Mesh protocols are TLS 1.3 only.
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocolPeer}, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}}
	if conn, err := tls.Dial("tcp", voter.address(), config); err == nil {
		_ = conn.Close()
		t.Error("the peer protocol is spoken with TLS 1.2")
	}
}

// TestClientsOfTheAPIAreBounded: one source's connections are counted, and those
// of peers are not among them.
func TestClientsOfTheAPIAreBounded(t *testing.T) {
	m := newMesh(t)
	n, caller := m.newNode(true), m.newNode(true)
	m.agree(m.roster(1, n, caller))
	count := func(change int) {
		n.server.links.mu.Lock()
		defer n.server.links.mu.Unlock()
		n.server.links.callers["client 127.0.0.1"] += change
	}
	taken := make(chan net.Conn)
	go func() {
		for {
			got, err := n.server.API().Accept()
			if err != nil {
				return
			}
			select {
			case taken <- got:
			case <-t.Context().Done():
				return
			}
		}
	}()
	dial := func() error {
		conn, err := tls.Dial("tcp", n.address(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		// Cut, or handed to the API: which of the two is all that is asked.
		cut := make(chan error, 1)
		go func() { _, err := conn.Read(make([]byte, 1)); cut <- err }()
		select {
		case got := <-taken:
			return got.Close()
		case err := <-cut:
			return err
		}
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	count(maxLinksPerClient)
	if err := dial(); err == nil {
		t.Error("a connection beyond the bound was let in")
	}
	if _, err := caller.client.RaftState(t.Context(), n.target(), &RaftStateRequest{}); err != nil {
		t.Errorf("a peer among many clients: %v", err)
	}
	count(-1)
	if err := dial(); err != nil {
		t.Errorf("a connection within the bound: %v", err)
	}
}

// An ordinary end is not an error in the log.
func TestCloseIsQuiet(t *testing.T) {
	m := newMesh(t)
	n := m.newSilentNode(true)
	var out bytes.Buffer
	n.config.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for range 40 {
		server, err := Listen("127.0.0.1:0", n.config, n.handlers)
		if err != nil {
			t.Fatal(err)
		}
		n.server = server
		_ = enter(t, n, protocolPeer, n.credentials).Close() // it serves
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("the log says %s", out.String())
	}
}
