package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// namesOf are the host names and addresses of a PEM chain's first certificate.
func namesOf(t *testing.T, chainPEM []byte) []string {
	t.Helper()
	chain, err := pki.ParseChain(chainPEM)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Clone(chain[0].DNSNames)
	for _, ip := range chain[0].IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func facts(ip, computer string) peer.NodeFacts {
	address := func(port string) string {
		if strings.Contains(ip, ":") {
			return "[" + ip + "]:" + port
		}
		return ip + ":" + port
	}
	return peer.NodeFacts{IPAddress: ip, Address: address("7947"), GossipAddress: address("7946"), ComputerName: computer, PlatformType: "Linux"}
}

// TestAddressHasOneSpelling: another spelling of somebody's address would look
// free, and the certificate would be for that very address.
func TestAddressHasOneSpelling(t *testing.T) {
	b := newBed(t)
	b.setAlive(memberID)
	token := b.token(meshapi.CreateActivationInput{RegistrationLimit: 10})
	enrolled, got := b.enrol(b.leaderURL, newJoiner(t, 1).with(token))
	if enrolled == nil {
		t.Fatal(got.Message)
	}
	thief := b.node(enrolled.NodeId)
	from := peer.Caller{NodeID: thief.ID, PublicKey: thief.PublicKey}
	for _, ip := range []string{
		"127.0.0.1", "::ffff:127.0.0.1", "::FFFF:127.0.0.1", "0:0:0:0:0:ffff:7f00:0001", "::ffff:7f00:1",
		"127.0.0.2", "::ffff:127.0.0.2", "fe80::1%eth0", "FE80::2", "fe80:0::2", "127.000.000.001", "127.1",
	} {
		_, err := b.leader.Renew(t.Context(), from, &peer.RenewRequest{Facts: facts(ip, "machine1")})
		if refused := (*peer.Refusal)(nil); !errors.As(err, &refused) || refused.Kind != peer.RefusedInput {
			t.Errorf("renew as %s: %v", ip, err)
		}
		j := newJoiner(t, 2)
		j.in.Facts = meshapi.EnrolFacts(facts(ip, "machine2"))
		if out, got := b.enrol(b.leaderURL, j.with(token)); out != nil || got.Type != "ValidationException" {
			t.Errorf("enrol as %s: %s %s", ip, got.Type, got.Message)
		}
	}
	if after := b.node(thief.ID); after.Address != thief.Address {
		t.Errorf("the address became %s", after.Address)
	}
	if _, err := b.leader.Renew(t.Context(), from, &peer.RenewRequest{Facts: facts("fe80::2", "machine1")}); err != nil {
		t.Errorf("an address of its own, in IPv6: %v", err)
	}
}

// TestNoNodeTakesTheNameOfAnother, neither when it enrols nor by what it says of
// itself later, whichever of the two came first.
func TestNoNodeTakesTheNameOfAnother(t *testing.T) {
	b := newBed(t)
	token := b.token(meshapi.CreateActivationInput{RegistrationLimit: 10})
	enrol := func(n int, name string) raftstore.Node {
		t.Helper()
		j := newJoiner(t, n)
		j.in.NodeName = name
		out, got := b.enrol(b.leaderURL, j.with(token))
		if out == nil {
			t.Fatal(got.Message)
		}
		if names := namesOf(t, []byte(out.Certificate)); n > 2 && slices.ContainsFunc(names, func(s string) bool { return strings.Contains(s, "victim") || s == "machine2" }) {
			t.Errorf("joiner %q got a certificate for %v", name, names)
		}
		return b.node(out.NodeId)
	}
	thief := enrol(1, "thief")
	victim := enrol(2, "Victim.example.com")
	for n, name := range []string{"victim.example.com", "VICTIM.example.com", "victim.example.com.", "machine2", "MACHINE2."} {
		enrol(3+n, name)
	}
	from := peer.Caller{NodeID: thief.ID, PublicKey: thief.PublicKey}
	for _, name := range []string{"victim.example.com", "Victim.example.com.", "machine2", "vip.example.com"} {
		out, err := b.leader.Renew(t.Context(), from, &peer.RenewRequest{Facts: facts(thief.IPAddress, name)})
		if err != nil {
			t.Fatal(err)
		}
		if names := namesOf(t, out.Certificate); !slices.Equal(names, []string{"localhost", "thief", "machine1", "127.0.0.1", thief.IPAddress}) {
			t.Errorf("renewed as %s: certificate for %v", name, names)
		}
	}
	out, err := b.leader.Renew(t.Context(), peer.Caller{NodeID: victim.ID, PublicKey: victim.PublicKey}, &peer.RenewRequest{Facts: facts(victim.IPAddress, "machine2")})
	if err != nil {
		t.Fatal(err)
	}
	if names := namesOf(t, out.Certificate); !slices.Contains(names, "victim.example.com") || !slices.Contains(names, "machine2") {
		t.Errorf("the victim lost its names: %v", names)
	}
}

// TestEnrollingAgainChangesNothing: a certificate request and a code that many
// know must not move a node that is in, nor give it another's address.
func TestEnrollingAgainChangesNothing(t *testing.T) {
	b := newBed(t)
	b.setAlive(memberID)
	token := b.token(meshapi.CreateActivationInput{RegistrationLimit: 10})
	j := newJoiner(t, 1)
	j.in.NodeName, j.in.Tags = "first", map[string]string{"role": "db"}
	first, got := b.enrol(b.leaderURL, j.with(token))
	if first == nil {
		t.Fatal(got.Message)
	}
	before := b.node(first.NodeId)
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "127.9.9.9"} {
		j.in.Facts = meshapi.EnrolFacts(facts(ip, "other"))
		j.in.NodeName, j.in.Tags = "second", map[string]string{"role": "web"}
		again, got := b.enrol(b.leaderURL, j.with(token))
		if again == nil {
			t.Fatal(got.Message)
		}
		if names := namesOf(t, []byte(again.Certificate)); !slices.Equal(names, []string{"localhost", "first", "machine1", "127.0.0.1", "127.1.0.1"}) {
			t.Errorf("a certificate for %v", names)
		}
		after := b.node(first.NodeId)
		if again.NodeId != first.NodeId || after.Address != before.Address || after.Name != "first" || after.ComputerName != before.ComputerName || after.Tags["role"] != "db" {
			t.Errorf("enrolled again as %+v", after)
		}
	}
}

func TestNodeNamesHaveNoControlCharacters(t *testing.T) {
	b := newBed(t)
	token := b.token(meshapi.CreateActivationInput{RegistrationLimit: 10})
	for n, name := range []string{"a\x1b[2Jb", "a\nb", "a\u009bb", "\x7f"} {
		j := newJoiner(t, n+1)
		j.in.NodeName = name
		if out, got := b.enrol(b.leaderURL, j.with(token)); out != nil || got.Type != "ValidationException" {
			t.Errorf("name %q: %s %s", name, got.Type, got.Message)
		}
	}
}

// TestForwardedRequestsAreBounded: what a node forwards has the bounds of what
// clients send, and its source can be nothing but an address.
func TestForwardedRequestsAreBounded(t *testing.T) {
	b := newBed(t)
	from := peer.Caller{NodeID: memberID, RemoteAddress: "127.0.0.2:40000"}
	large := &peer.ForwardRequest{Method: http.MethodPost, Path: "/", Header: map[string][]string{targetHeader: {"Mesh.Enrol"}}, Body: make([]byte, maxBody+1)}
	out, err := b.leader.ServeForwarded(t.Context(), from, large)
	if err != nil || out.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("%+v, %v", out, err)
	}
	for in, want := range map[string]string{
		"10.1.2.3": "10.1.2.3", "fe80::1%eth0": "fe80::1%eth0", "": "127.0.0.2", "root": "127.0.0.2", "10.0.0.1\n": "127.0.0.2",
		"fe80::1%" + strings.Repeat("x", 1<<20): "127.0.0.2",
	} {
		if got := forwardedSource(from, &peer.ForwardRequest{SourceIP: in}); got != want {
			t.Errorf("source %.20q became %q", in, got)
		}
		if got := forwardedSource(from, &peer.ForwardRequest{SourceIP: in, Local: true}); got != "" {
			t.Errorf("source %.20q on a socket became %q", in, got)
		}
	}
}

// TestRemovalsDoNotFillTheRoster: the roster is one entry of the store, so that
// what it keeps for ever would one day let nobody be removed any more.
func TestRemovalsDoNotFillTheRoster(t *testing.T) {
	b := newBed(t)
	const old = 1400
	roster := b.roster()
	for n := range old {
		roster.Removed = append(roster.Removed, raftstore.RemovedKey{
			NodeID: nodeID(1000 + n), PublicKey: fmt.Sprintf("%064x", n), RemovedAt: b.clock.now().Add(-removalKept - time.Minute),
		})
	}
	recent := raftstore.RemovedKey{NodeID: nodeID(9), PublicKey: "recent", RemovedAt: b.clock.now().Add(-removalKept + time.Hour)}
	roster.Removed = append(roster.Removed, recent)
	var txn raftstore.Txn
	txn.PutRoster(roster)
	b.apply(txn)
	b.read(func(r raftstore.Reader) error {
		ring, err := raftstore.GetKeyring(r)
		ring.CoversRemoved = old + 1
		txn = raftstore.Txn{}
		txn.PutKeyring(ring)
		return err
	})
	b.apply(txn)
	id := memberID
	if _, err := b.ssm(b.leaderURL).DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &id}); err != nil {
		t.Fatal(err)
	}
	after := b.roster()
	if len(after.Removed) != 2 || after.Removed[0].PublicKey != "recent" || after.Removed[1].NodeID != memberID {
		t.Errorf("%d removed keys are kept: %+v", len(after.Removed), after.Removed[:min(len(after.Removed), 3)])
	}
	b.read(func(r raftstore.Reader) error {
		ring, err := raftstore.GetKeyring(r)
		if ring.CoversRemoved != 1 {
			t.Errorf("the gossip keys cover %d removals, so that no rotation would follow or one too many", ring.CoversRemoved)
		}
		return err
	})
	if kept, dropped := keptRemovals(raftstore.Roster{
		Members: []raftstore.RosterMember{{NodeID: "a", PublicKey: "k"}},
		Removed: []raftstore.RemovedKey{{NodeID: "a", PublicKey: "k"}, {NodeID: "b", PublicKey: "l"}},
	}, b.clock.now()); dropped != 0 || len(kept) != 2 {
		t.Errorf("a removed key that is a member was forgotten: %+v", kept)
	}
}

// TestLargeBodiesAreBounded: before anything is proven, a request costs no more
// than a small body's memory, however many come.
func TestLargeBodiesAreBounded(t *testing.T) {
	b := newBed(t)
	for range cap(b.leader.large) {
		b.leader.large <- struct{}{}
	}
	large := fmt.Sprintf(`{"MaxResults":50,"NextToken":%q}`, strings.Repeat("x", largeBody))
	if got := b.do(b.request(b.leaderURL, "ListCommands", large, time.Now(), nil)); got.Type != "ThrottlingException" {
		t.Errorf("a large request among many: %s %s", got.Type, got.Message)
	}
	if _, err := b.ssm(b.leaderURL).ListCommands(t.Context(), &ssm.ListCommandsInput{}); err != nil {
		t.Errorf("a small request among many large ones: %v", err)
	}
	<-b.leader.large
	if got := b.do(b.request(b.leaderURL, "ListCommands", large, time.Now(), nil)); got.Type == "ThrottlingException" {
		t.Errorf("a large request with room: %s %s", got.Type, got.Message)
	}
	if len(b.leader.large) != cap(b.leader.large)-1 {
		t.Error("a request keeps its place")
	}
}
