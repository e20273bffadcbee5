package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"fleetmesh/internal/pki"
)

// A voter may call everything; a member's certificate no route of the leader.
func TestLeaderRoutesAreForVoters(t *testing.T) {
	m := newMesh(t)
	voter, member, other := m.newNode(true), m.newNode(false), m.newNode(false)
	m.agree(m.roster(1, voter))
	ctx := testContext(t)
	for route, send := range leaderCalls {
		if err := send(ctx, voter.client, other.target(), Fence{Term: 3}); err != nil {
			t.Errorf("%s by the voter: %v", route, err)
		}
		wantRefusal(t, send(ctx, member.client, other.target(), Fence{Term: 3}), RefusedForbidden)
		if seen := other.handlers.seen(route); seen != 1 {
			t.Errorf("%s: the handler ran %d times, want once for the voter", route, seen)
		}
		// Also towards itself, over the same way.
		if err := send(ctx, voter.client, voter.target(), Fence{Term: 3}); err != nil {
			t.Errorf("%s of the voter to itself: %v", route, err)
		}
	}
	for _, from := range other.handlers.callers {
		if from.NodeID != voter.nodeID || !from.Voter || from.Expired || from.PublicKey != voter.Identity().PublicKey {
			t.Errorf("caller %+v", from)
		}
	}
}

// Neither the roster alone nor the certificate alone makes a voter.
func TestVoterNeedsRosterAndCertificate(t *testing.T) {
	m := newMesh(t)
	onlyRoster, onlyCertificate, target := m.newNode(false), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, onlyRoster))
	for _, n := range []*node{onlyRoster, onlyCertificate} {
		_, err := n.client.Jobs(testContext(t), target.target(), &JobsRequest{Fence: Fence{Term: 1}})
		wantRefusal(t, err, RefusedForbidden)
	}
	// A key that claims the id of a voter.
	thief := m.newSilentNode(true)
	thief.nodeID = onlyCertificate.nodeID
	thief.certify(m.ca, true)
	m.agree(m.roster(2, onlyCertificate))
	_, err := thief.client.Jobs(testContext(t), target.target(), &JobsRequest{Fence: Fence{Term: 1}})
	wantRefusal(t, err, RefusedForbidden)
	if target.handlers.seen("") != 0 {
		t.Error("a handler ran")
	}
}

func TestRaftIsForTheRoster(t *testing.T) {
	m := newMesh(t)
	voter, standBy, member := m.newNode(true), m.newNode(true), m.newNode(false)
	roster := m.roster(1, voter, standBy)
	roster.Members[1].StandBy = true
	m.agree(roster)
	ctx := testContext(t)

	conn, err := standBy.client.DialRaft(ctx, voter.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := voter.server.Raft().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if _, err := io.WriteString(conn, "vote"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(accepted, got); err != nil || string(got) != "vote" {
		t.Fatalf("read %q, %v", got, err)
	}

	// A member is let in by nobody, and dialled by nobody.
	if raw, err := dialRaw(t, voter, protocolRaft, member.credentials); err == nil {
		if _, err := raw.Read(got); err == nil || !strings.Contains(err.Error(), "bad certificate") {
			t.Errorf("a member's Raft stream: %v", err)
		}
	}
	if _, err := voter.client.DialRaft(ctx, member.address()); err == nil {
		t.Error("a member was dialled for Raft")
	}
	// The right key at another member's address would be counted twice.
	moved := m.roster(2, voter, standBy)
	moved.Members[1].Address = "127.0.0.1:2"
	voter.take(moved)
	if _, err := voter.client.DialRaft(ctx, standBy.address()); err == nil {
		t.Error("a member of the roster was dialled at an address that is not its own")
	}
}

// TestHandshakeRefuses shows certificates that are none of this mesh.
func TestHandshakeRefuses(t *testing.T) {
	m, foreign, forged := newMesh(t), newMeshNamed(t, "aaaaaaaa-7a49-4b7b-9a0e-0d2f8a9f0b11"), newMesh(t)
	voter := m.newNode(true)
	m.agree(m.roster(1, voter))

	otherMesh := foreign.newSilentNode(true)
	// Our own CA, another mesh's name: as if a CA were used twice.
	otherID := m.newSilentNode(true)
	otherID.mesh = foreign
	otherID.certify(m.ca, true)
	// The voter's very id, key and names, but by a CA that the thief made.
	copied := &node{t: t, mesh: m, nodeID: voter.nodeID, credentials: &credentials{ca: forged.ca.Certificate(), key: voter.key}}
	copied.certify(forged.ca, true)

	for name, with := range map[string]*credentials{
		"no certificate": nil, "another mesh": otherMesh.credentials, "another mesh id": otherID.credentials, "a forged CA": copied.credentials,
	} {
		for _, protocol := range []string{protocolPeer, protocolRaft} {
			conn, err := dialRaw(t, voter, protocol, with)
			if err == nil {
				// TLS 1.3: the verdict comes with the first read.
				_, err = conn.Read(make([]byte, 1))
			}
			remote := ""
			if err != nil {
				remote = err.Error()
			}
			if !strings.Contains(remote, "bad certificate") && !strings.Contains(remote, "certificate required") {
				t.Errorf("%s with %s: %v", protocol, name, err)
			}
		}
	}
	// Our client neither believes a foreign server, nor is left in doubt when it
	// is refused itself.
	_, err := otherMesh.client.Jobs(testContext(t), voter.target(), &JobsRequest{})
	if !errors.Is(err, ErrNotSent) {
		t.Errorf("calling a foreign mesh: %v, want ErrNotSent", err)
	}
	if voter.handlers.seen("") != 0 {
		t.Error("a handler ran")
	}
}

// A client that is refused by its certificate knows that nothing was done.
func TestRefusedClientKnowsThatNothingWasSent(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	removed := without(m.roster(2, voter), member)
	voter.take(removed)
	for range 20 {
		_, err := call[ForwardRequest, ForwardResponse](testContext(t), member.client, toLeader, voter.target(), routeForward, &ForwardRequest{Body: make([]byte, 1<<20)}, false)
		if !errors.Is(err, ErrNotSent) {
			t.Fatalf("error %v, want ErrNotSent", err)
		}
	}
	if voter.handlers.seen("") != 0 {
		t.Error("a handler ran for a removed node")
	}
}

// A removed node can still be told that it was removed, and only that; whoever was
// not removed is told no such thing.
func TestFarewell(t *testing.T) {
	m := newMesh(t)
	leader, gone, stays := m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, leader, gone))
	roster := without(m.roster(2, leader), gone)
	leader.take(roster)
	to := gone.target()
	if err := leader.client.Roster(testContext(t), to, &RosterRequest{Roster: roster}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a removed node is called: %v", err)
	}
	if err := leader.client.Farewell(testContext(t), stays.target(), &RosterRequest{Roster: roster}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a farewell to one that stays: %v", err)
	}
	if err := leader.client.Farewell(testContext(t), to, &RosterRequest{Roster: roster}); err != nil {
		t.Fatal(err)
	}
	if !gone.gate.Roster().IsRemoved(gone.credentials.Identity().PublicKey) {
		t.Error("the removed node does not know")
	}
}

// TestRemovalCutsOpenConnections: at once, whatever they are doing, and for good.
func TestRemovalCutsOpenConnections(t *testing.T) {
	m := newMesh(t)
	voter, stays, goes := m.newNode(true), m.newNode(true), m.newNode(true)
	m.agree(m.roster(1, voter, stays, goes))
	ctx := testContext(t)

	entered, left := make(chan struct{}), make(chan struct{})
	voter.handlers.forward = func(ctx context.Context, _ Caller, _ *ForwardRequest) (*ForwardResponse, error) {
		close(entered)
		<-ctx.Done()
		close(left)
		return nil, ctx.Err()
	}
	stream, err := goes.client.DialRaft(ctx, voter.address())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := voter.server.Raft().Accept()
	if err != nil {
		t.Fatal(err)
	}
	idle := enter(t, voter, protocolPeer, goes.credentials)
	if got := post(t, idle, routeReport, "{}"); got.StatusCode != http.StatusOK {
		t.Fatalf("before the removal: %s", got.Status)
	}
	outcome := make(chan error, 1)
	leader := voter.target()
	goes.client.leader.Store(&leader)
	go func() {
		_, err := goes.client.Forward(ctx, &ForwardRequest{}, false)
		outcome <- err
	}()
	<-entered
	kept, err := stays.client.DialRaft(ctx, voter.address())
	if err != nil {
		t.Fatal(err)
	}
	keptAccepted, err := voter.server.Raft().Accept()
	if err != nil {
		t.Fatal(err)
	}

	voter.take(without(m.roster(2, voter, stays), goes))

	if err := <-outcome; err == nil {
		t.Error("the call in flight was answered")
	}
	select {
	case <-left:
	case <-ctx.Done():
		t.Fatal("the call in flight goes on at the server")
	}
	for name, conn := range map[string]net.Conn{"stream here": accepted, "stream there": stream, "idle connection": idle} {
		wantCut(t, name, conn)
	}
	// Later attempts too.
	if again, err := dialRaw(t, voter, protocolPeer, goes.credentials); err == nil {
		if _, err := again.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad certificate") {
			t.Errorf("the removed node comes back: %v", err)
		}
	}
	// And nobody else was hurt.
	if _, err := io.WriteString(kept, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(keptAccepted, make([]byte, 1)); err != nil {
		t.Errorf("another voter's stream: %v", err)
	}
}

// A demoted voter loses its streams and the leader's routes, and stays a member.
func TestDemotion(t *testing.T) {
	m := newMesh(t)
	voter, demoted, member := m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter, demoted))
	ctx := testContext(t)
	jobs := &JobsRequest{Fence: Fence{Term: 1}}
	if _, err := demoted.client.Jobs(ctx, member.target(), jobs); err != nil {
		t.Fatal(err)
	}
	raw := enter(t, member, protocolPeer, demoted.credentials)
	if got := post(t, raw, routeJobs, `{"Term":1}`); got.StatusCode != http.StatusOK {
		t.Fatalf("as a voter: %s", got.Status)
	}
	stream, err := demoted.client.DialRaft(ctx, voter.address())
	if err != nil {
		t.Fatal(err)
	}
	m.agree(m.roster(2, voter))
	wantCut(t, "connection", raw)
	wantCut(t, "stream", stream)
	// Its certificate still says voter.
	_, err = demoted.client.Jobs(ctx, member.target(), jobs)
	wantRefusal(t, err, RefusedForbidden)
	if _, err := demoted.client.Report(ctx, &ReportRequest{}); err != nil {
		t.Errorf("its report as a member: %v", err)
	}
	// And nobody takes it for the leader any more.
	if got := demoted.handlers.seen(routeReport); got != 0 {
		t.Errorf("it was asked %d times as a leader", got)
	}
}

// TestExpiry: after its end a certificate may renew and nothing else; between
// members of the roster Raft and the leader's calls go on.
func TestExpiry(t *testing.T) {
	m := newMesh(t)
	voter, standBy, member := m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter, standBy))
	m.clock.advance(30 * 24 * time.Hour)
	ctx := testContext(t)
	fence := Fence{Term: 1}

	// Everybody is expired: the whole site was dark.
	for route, send := range leaderCalls {
		if err := send(ctx, voter.client, standBy.target(), fence); err != nil {
			t.Errorf("%s between members of the roster: %v", route, err)
		}
		if err := send(ctx, voter.client, member.target(), fence); err == nil {
			t.Errorf("%s: an expired voter commanded a member", route)
		}
	}
	// The member's own check, should a client not care.
	raw := enter(t, member, protocolPeer, voter.credentials)
	if got := post(t, raw, routeJobs, `{"Term":1}`); got.StatusCode != http.StatusForbidden {
		t.Errorf("an expired voter's jobs: %s", got.Status)
	}
	if member.handlers.seen("") != 0 {
		t.Error("a handler of the member ran")
	}
	stream, err := voter.client.DialRaft(ctx, standBy.address())
	if err != nil {
		t.Fatalf("Raft among expired voters: %v", err)
	}
	_ = stream.Close()

	raw = enter(t, voter, protocolPeer, member.credentials)
	for _, route := range []string{routeForward, routeReport, routeReadRoster, routeJobs, routeRoster} {
		if got := post(t, raw, route, `{"Term":1}`); got.StatusCode != http.StatusForbidden {
			t.Errorf("%s with an expired certificate: %s", route, got.Status)
		}
	}
	if _, err := member.client.Renew(ctx, &RenewRequest{}); err != nil {
		t.Fatalf("renew with an expired certificate at an expired voter: %v", err)
	}
	from := lastCaller(voter.handlers, standBy.handlers)
	if from.NodeID != member.nodeID || !from.Expired || from.Voter {
		t.Errorf("the renewal came from %+v", from)
	}

	// Renewed, all is as before.
	for _, n := range m.nodes {
		n.certify(m.ca, n != member)
	}
	if _, err := member.client.Report(ctx, &ReportRequest{}); err != nil {
		t.Errorf("report after the renewal: %v", err)
	}
	if _, err := voter.client.Jobs(ctx, member.target(), &JobsRequest{Fence: fence}); err != nil {
		t.Errorf("jobs after the renewal: %v", err)
	}
}

// A certificate that ends while its connection is open is worth no more on it,
// and a renewed one counts although the old connection is still pooled.
func TestExpiryOnAnOpenConnection(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	ctx := testContext(t)
	if _, err := member.client.Report(ctx, &ReportRequest{}); err != nil {
		t.Fatal(err)
	}
	m.clock.advance(pki.CertificateLifetime + time.Minute)
	voter.certify(m.ca, true)
	_, err := member.client.Report(ctx, &ReportRequest{})
	wantRefusal(t, err, RefusedForbidden)
	if _, err := member.client.Renew(ctx, &RenewRequest{}); err != nil {
		t.Fatal(err)
	}
	member.certify(m.ca, false)
	if _, err := member.client.Report(ctx, &ReportRequest{}); err != nil {
		t.Errorf("with the new certificate: %v", err)
	}
}

// An hour's error of a clock, in either direction, does no harm.
func TestWrongClock(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			m := newMesh(t)
			voter, member := m.newNode(true), m.newNode(false)
			m.agree(m.roster(1, voter))
			// Both certificates are fresh; both judge with the shifted clock.
			m.clock.advance(by)
			if _, err := voter.client.Jobs(testContext(t), member.target(), &JobsRequest{}); err != nil {
				t.Error(err)
			}
			if _, err := member.client.Report(testContext(t), &ReportRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStaleTerm(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	ctx := testContext(t)
	if _, err := voter.client.Jobs(ctx, member.target(), &JobsRequest{Fence: Fence{Term: 7}}); err != nil {
		t.Fatal(err)
	}
	for route, send := range leaderCalls {
		wantRefusal(t, send(ctx, voter.client, member.target(), Fence{Term: 6}), RefusedStaleTerm)
		if want := map[string]int{routeJobs: 1}[route]; member.handlers.seen(route) != want {
			t.Errorf("%s: the handler ran %d times, want %d", route, member.handlers.seen(route), want)
		}
	}
	// A deposed leader's roster is not taken either.
	roster := m.roster(9, voter, member)
	err := voter.client.Roster(ctx, member.target(), &RosterRequest{Fence: Fence{Term: 6}, Roster: roster})
	wantRefusal(t, err, RefusedStaleTerm)
	if got := member.gate.Roster().Version; got != 1 {
		t.Errorf("roster version %d", got)
	}
	if err := voter.client.Roster(ctx, member.target(), &RosterRequest{Fence: Fence{Term: 8}, Roster: roster}); err != nil {
		t.Error(err)
	}
	if got := member.gate.Roster().Version; got != 9 || member.gate.Term() != 8 {
		t.Errorf("roster version %d, term %d", got, member.gate.Term())
	}
}

// A client means a node, not an address.
func TestClientRefusesAnotherNodeAtTheAddress(t *testing.T) {
	m := newMesh(t)
	voter, one, two := m.newNode(true), m.newNode(false), m.newNode(false)
	m.agree(m.roster(1, voter))
	_, err := voter.client.Jobs(testContext(t), Target{NodeID: one.nodeID, Address: two.address()}, &JobsRequest{})
	if !errors.Is(err, ErrNotSent) || two.handlers.seen("") != 0 {
		t.Errorf("error %v, want ErrNotSent", err)
	}
}

// wantCut fails unless the other side ends the connection by itself.
func wantCut(t *testing.T, name string, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return // closed at this side
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the %s is still open: %v", name, err)
	}
}

// lastCaller is the last that called any of these.
func lastCaller(handlers ...*recorder) Caller {
	var last Caller
	for _, h := range handlers {
		h.mu.Lock()
		if len(h.callers) > 0 && h.calls[routeRenew] > 0 {
			last = h.callers[len(h.callers)-1]
		}
		h.mu.Unlock()
	}
	return last
}

// post sends one call over an open connection and reads its answer.
func post(t *testing.T, conn *tls.Conn, route, body string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "POST /v1/%s HTTP/1.1\r\nHost: mesh\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", route, len(body), body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response
}

// A roster that changes between a connection's handshake and its place in the set
// still counts.
func TestRosterChangesDuringHandshake(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	set := newLinks(voter.gate)
	voter.gate.Subscribe(set.recheck)
	p := presented{id: member.Identity()}
	judge := func(v *rosterView) bool { return mayConnect(v, p) == nil }
	for _, settle := range []func(*link) bool{
		func(l *link) bool { return set.settle(l, judge) },
		func(l *link) bool { return set.settleCaller(l, p.id.PublicKey, 1, judge) },
	} {
		server, client := net.Pipe()
		defer client.Close()
		l, ok := set.add(server)
		if !ok {
			t.Fatal("the set is closed")
		}
		voter.take(without(m.roster(voter.gate.Roster().Version+1, voter), member))
		if settle(l) {
			t.Error("a removed node's connection goes on")
		}
		_ = l.Close()
	}
}

// Rights are looked at again when the body is there, however long it took.
func TestRightsAreCheckedAfterTheBody(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	conn := enter(t, voter, protocolPeer, member.credentials)
	body := `{"Reports":[]` + strings.Repeat(" ", bigBody) + "}"
	if _, err := fmt.Fprintf(conn, "POST /v1/report HTTP/1.1\r\nHost: mesh\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body)); err != nil {
		t.Fatal(err)
	}
	routes := voter.server.routes
	eventually(t, "the body is being read", func() bool {
		routes.mu.Lock()
		defer routes.mu.Unlock()
		return len(routes.big) == 1
	})
	m.clock.advance(2 * pki.CertificateLifetime)
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusForbidden || voter.handlers.seen("") != 0 {
		t.Errorf("%s, the handler ran %d times", response.Status, voter.handlers.seen(""))
	}
	_ = response.Body.Close()
	eventually(t, "the slot is given back", func() bool {
		routes.mu.Lock()
		defer routes.mu.Unlock()
		return len(routes.big) == 0
	})
}
