package api

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// joiner is a machine that wants in.
type joiner struct {
	key *ecdsa.PrivateKey
	in  meshapi.EnrolInput
}

func newJoiner(t *testing.T, n int) *joiner {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.NewCertificateRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	ip := net.IPv4(127, 1, byte(n>>8), byte(n)).String()
	return &joiner{key: key, in: meshapi.EnrolInput{
		CertificateRequest: string(request),
		Facts: meshapi.EnrolFacts{
			IPAddress: ip, Address: ip + ":7947", GossipAddress: ip + ":7946", ComputerName: fmt.Sprintf("machine%d", n),
			PlatformType: "Linux", PlatformName: "Debian GNU/Linux", PlatformVersion: "12", AgentVersion: "1.0.0",
		},
	}}
}

func (j *joiner) with(token pki.JoinToken) *joiner {
	j.in.ActivationId = token.ActivationID
	j.in.Proof = pki.EnrolmentProof(token.Code, j.in.Canonical())
	return j
}

// enrol asks without any access key, as a joiner does.
func (b *bed) enrol(url string, j *joiner) (*meshapi.EnrolOutput, reply) {
	b.t.Helper()
	body, err := awsjson.Marshal(&j.in)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set(targetHeader, "Mesh.Enrol")
	got := b.do(r)
	if got.status != http.StatusOK {
		return nil, got
	}
	out := new(meshapi.EnrolOutput)
	if err := awsjson.Unmarshal([]byte(got.body), out); err != nil {
		b.t.Fatal(err)
	}
	return out, got
}

func (b *bed) token(in meshapi.CreateActivationInput) pki.JoinToken {
	b.t.Helper()
	out, err := b.mesh(b.memberURL).CreateActivation(b.t.Context(), &in)
	if err != nil {
		b.t.Fatal(err)
	}
	token, err := pki.ParseJoinToken(out.JoinToken)
	if err != nil {
		b.t.Fatal(err)
	}
	if token.ActivationID != out.ActivationId || token.Code != out.ActivationCode || token.CAFingerprint != pki.CertificateFingerprint(b.ca.Certificate()) || len(token.Addresses) == 0 {
		b.t.Errorf("token %+v for %+v", token, out)
	}
	return token
}

func (b *bed) node(id string) (n raftstore.Node) {
	b.t.Helper()
	b.read(func(r raftstore.Reader) (err error) {
		n, err = raftstore.GetNode(r, id)
		return err
	})
	return n
}

func TestEnrolGivesAllThatANodeNeeds(t *testing.T) {
	b := newBed(t)
	token := b.token(meshapi.CreateActivationInput{
		DefaultInstanceName: "worker", MemberOnly: true, RegistrationLimit: 2,
		Tags: map[string]string{"site": "north", "role": "none"}, JoinerTags: &[]string{"role", "zone"},
	})
	j := newJoiner(t, 1)
	j.in.Tags = map[string]string{"role": "web", "zone": "a", "site": "south", "owner": "me"}
	out, got := b.enrol(b.memberURL, j.with(token))
	if out == nil {
		t.Fatalf("HTTP %d %s %s", got.status, got.Type, got.Message)
	}
	if out.MeshId != b.meshID || out.MeshName != "test" || out.CACertificate != string(b.ca.CertificatePEM()) || out.KeyringVersion != 1 {
		t.Errorf("answer %+v", out)
	}
	if len(out.GossipKeys) != 1 || out.GossipKeys[0] != base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))) {
		t.Errorf("gossip keys %v", out.GossipKeys)
	}
	if len(out.GossipPeers) == 0 || out.GossipPeers[0] != "127.0.0.1:7946" {
		t.Errorf("gossip peers %v", out.GossipPeers)
	}
	if !slices.Equal(out.RefusedTags, []string{"owner", "site"}) {
		t.Errorf("refused tags %v", out.RefusedTags)
	}
	var roster raftstore.Roster
	if err := json.Unmarshal(out.Roster, &roster); err != nil || roster.Version != 1 || len(roster.Members) != 1 {
		t.Errorf("roster %s: %v", out.Roster, err)
	}
	chain, err := pki.ParseChain([]byte(out.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	id, expired, err := pki.VerifyChain(b.ca.Certificate(), chain, time.Now())
	if err != nil || expired || id.NodeID != out.NodeId || id.MeshID != b.meshID || id.Voter {
		t.Errorf("identity %+v, expired %v, %v", id, expired, err)
	}
	for _, name := range []string{"127.1.0.1", "127.0.0.1", "worker", "machine1", "localhost"} {
		if err := chain[0].VerifyHostname(name); err != nil {
			t.Errorf("the certificate is not for %s: %v", name, err)
		}
	}
	n := b.node(out.NodeId)
	if n.Name != "worker" || n.ComputerName != "machine1" || !n.MemberOnly || n.ActivationID != token.ActivationID || n.PublicKey != id.PublicKey ||
		n.IPAddress != "127.1.0.1" || n.PlatformName != "Debian GNU/Linux" || n.RegisteredAt.IsZero() || len(n.PublicKeyDER) == 0 {
		t.Errorf("node %+v", n)
	}
	if len(n.Tags) != 3 || n.Tags["site"] != "north" || n.Tags["role"] != "web" || n.Tags["zone"] != "a" {
		t.Errorf("tags %v", n.Tags)
	}

	// The same machine again: the same node, and it does not count twice.
	again, got := b.enrol(b.leaderURL, j)
	if again == nil || again.NodeId != out.NodeId {
		t.Fatalf("again: %+v, %d %s", again, got.status, got.Message)
	}
	list, err := b.ssm(b.memberURL).DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{})
	if err != nil || len(list.ActivationList) != 1 || *list.ActivationList[0].RegistrationsCount != 1 {
		t.Errorf("activations %+v, %v", list, err)
	}
	// Two of one name: the certificate of the second does not speak for the first.
	second, _ := b.enrol(b.leaderURL, newJoiner(t, 2).with(token))
	chain, err = pki.ParseChain([]byte(second.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if chain[0].VerifyHostname("worker") == nil || chain[0].VerifyHostname("machine2") != nil {
		t.Errorf("the second worker's certificate is for %v", chain[0].DNSNames)
	}
}

func TestEnrolmentIsRefused(t *testing.T) {
	b := newBed(t)
	b.setAlive(memberID)
	good := b.token(meshapi.CreateActivationInput{RegistrationLimit: 10})
	wrong := good
	wrong.Code = "NOTTHECODEATALLXXXXXXXXXXX"
	unknown := good
	unknown.ActivationID = "00000000-0000-0000-0000-000000000000"
	used := b.token(meshapi.CreateActivationInput{})
	if out, got := b.enrol(b.leaderURL, newJoiner(t, 1).with(used)); out == nil {
		t.Fatalf("%s %s", got.Type, got.Message)
	}
	deleted := b.token(meshapi.CreateActivationInput{})
	if _, err := b.ssm(b.memberURL).DeleteActivation(t.Context(), &ssm.DeleteActivationInput{ActivationId: &deleted.ActivationID}); err != nil {
		t.Fatal(err)
	}
	soon := b.clock.now().Add(time.Hour)
	expired := b.token(meshapi.CreateActivationInput{ExpirationDate: &soon})

	var said []string
	refused := func(name, code string, j *joiner) {
		t.Helper()
		out, got := b.enrol(b.memberURL, j)
		if out != nil || got.status != 400 || got.Type != code {
			t.Errorf("%s: HTTP %d %s %s, want %s", name, got.status, got.Type, got.Message, code)
		}
		if code == "InvalidActivation" {
			said = append(said, got.Message)
		}
	}
	refused("a wrong code", "InvalidActivation", newJoiner(t, 2).with(wrong))
	refused("an unknown activation", "InvalidActivation", newJoiner(t, 3).with(unknown))
	refused("a used activation", "InvalidActivation", newJoiner(t, 4).with(used))
	refused("a deleted activation", "InvalidActivation", newJoiner(t, 5).with(deleted))
	tampered := newJoiner(t, 6).with(good)
	tampered.in.NodeName = "other"
	refused("a tampered request", "InvalidActivation", tampered)
	b.clock.move(61 * time.Minute)
	refused("an expired activation", "InvalidActivation", newJoiner(t, 7).with(expired))
	b.clock.move(-61 * time.Minute)
	for _, text := range said {
		if text != said[0] {
			t.Errorf("refusals differ: %q and %q", text, said[0])
		}
	}

	taken := newJoiner(t, 8)
	taken.in.Facts.IPAddress, taken.in.Facts.Address, taken.in.Facts.GossipAddress = "127.0.0.2", "127.0.0.2:9999", "127.0.0.2:9998"
	refused("the address of a living node", "ValidationException", taken.with(good))
	voters := newJoiner(t, 8)
	voters.in.Facts.IPAddress, voters.in.Facts.Address, voters.in.Facts.GossipAddress = "127.0.0.1", "127.0.0.1:9999", "127.0.0.1:9998"
	refused("the address of a voter", "ValidationException", voters.with(good))
	for name, spoil := range map[string]func(*meshapi.EnrolInput){
		"no request":        func(in *meshapi.EnrolInput) { in.CertificateRequest = "none" },
		"no address":        func(in *meshapi.EnrolInput) { in.Facts.Address = "" },
		"other's address":   func(in *meshapi.EnrolInput) { in.Facts.Address = "10.0.0.1:7947" },
		"no port":           func(in *meshapi.EnrolInput) { in.Facts.GossipAddress = in.Facts.IPAddress },
		"every address":     func(in *meshapi.EnrolInput) { in.Facts.IPAddress = "0.0.0.0" },
		"long fact":         func(in *meshapi.EnrolInput) { in.Facts.PlatformName = strings.Repeat("x", 300) },
		"control character": func(in *meshapi.EnrolInput) { in.Facts.ComputerName = "a\nb" },
		"reserved tag":      func(in *meshapi.EnrolInput) { in.Tags = map[string]string{"aws:x": "y"} },
		"odd tag":           func(in *meshapi.EnrolInput) { in.Tags = map[string]string{"a": "b\x00"} },
		"long name":         func(in *meshapi.EnrolInput) { in.NodeName = strings.Repeat("n", 300) },
	} {
		j := newJoiner(t, 9)
		spoil(&j.in)
		refused(name, "ValidationException", j.with(good))
	}
	many := newJoiner(t, 9)
	many.in.Tags = map[string]string{}
	for i := range 51 {
		many.in.Tags[fmt.Sprint("t", i)] = "v"
	}
	refused("51 tags", "TooManyTagsError", many.with(good))

	list, err := b.ssm(b.memberURL).DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{
		Filters: []types.DescribeActivationsFilter{{FilterKey: "ActivationIds", FilterValues: []string{good.ActivationID}}},
	})
	if err != nil || *list.ActivationList[0].RegistrationsCount != 0 {
		t.Errorf("refusals were counted: %+v, %v", list, err)
	}
}

// TestRemovedKeyStaysOut: with a good token, too.
func TestRemovedKeyStaysOut(t *testing.T) {
	b := newBed(t)
	token := b.token(meshapi.CreateActivationInput{RegistrationLimit: 5})
	j := newJoiner(t, 1).with(token)
	out, _ := b.enrol(b.leaderURL, j)
	if _, err := b.ssm(b.memberURL).DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &out.NodeId}); err != nil {
		t.Fatal(err)
	}
	if again, got := b.enrol(b.leaderURL, j); again != nil || got.Type != "AccessDeniedException" {
		t.Errorf("HTTP %d %s", got.status, got.Type)
	}
	// The machine joins again with a new key; its old address is free.
	if next, got := b.enrol(b.leaderURL, newJoiner(t, 1).with(token)); next == nil || next.NodeId == out.NodeId {
		t.Errorf("HTTP %d %s %s", got.status, got.Type, got.Message)
	}
}

// TestActivationLimitIsExact: under concurrent joins through two nodes, some of
// them sent twice.
func TestActivationLimitIsExact(t *testing.T) {
	b := newBed(t)
	const limit, machines = 7, 20
	token := b.token(meshapi.CreateActivationInput{RegistrationLimit: limit})
	var joined atomic.Int32
	ids := sync.Map{}
	var group sync.WaitGroup
	for n := range machines {
		j := newJoiner(t, n).with(token)
		group.Go(func() {
			var first string
			for i := range 2 {
				out, got := b.enrol([]string{b.leaderURL, b.memberURL}[(n+i)%2], j)
				if out == nil {
					if got.Type != "InvalidActivation" {
						t.Errorf("HTTP %d %s %s", got.status, got.Type, got.Message)
					}
					return
				}
				if i == 0 {
					first = out.NodeId
					joined.Add(1)
					if _, taken := ids.LoadOrStore(first, true); taken {
						t.Errorf("two machines are %s", first)
					}
				} else if out.NodeId != first {
					t.Errorf("one machine is %s and %s", first, out.NodeId)
				}
			}
		})
	}
	group.Wait()
	if joined.Load() != limit {
		t.Errorf("%d joined, want %d", joined.Load(), limit)
	}
	b.read(func(r raftstore.Reader) error {
		a, err := raftstore.GetActivation(r, token.ActivationID)
		if a.Registrations != limit {
			t.Errorf("%d counted", a.Registrations)
		}
		return err
	})
}

func TestActivations(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	expires := b.clock.now().Add(48 * time.Hour).Truncate(time.Second)
	made, err := c.CreateActivation(t.Context(), &ssm.CreateActivationInput{
		IamRole: aws.String("role"), Description: aws.String("why"), DefaultInstanceName: aws.String("worker"), RegistrationLimit: aws.Int32(3),
		ExpirationDate: &expires, Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}, {Key: aws.String("a"), Value: aws.String("1")}},
	})
	if err != nil || len(*made.ActivationCode) < 20 || len(*made.ActivationId) != 36 {
		t.Fatalf("%+v, %v", made, err)
	}
	for range 4 {
		if _, err := c.CreateActivation(t.Context(), &ssm.CreateActivationInput{IamRole: aws.String("other")}); err != nil {
			t.Fatal(err)
		}
	}
	filter := func(key types.DescribeActivationsFilterKeys, value string) []types.DescribeActivationsFilter {
		return []types.DescribeActivationsFilter{{FilterKey: key, FilterValues: []string{value}}}
	}
	for _, test := range []struct {
		in   ssm.DescribeActivationsInput
		want int
	}{
		{ssm.DescribeActivationsInput{}, 5}, {ssm.DescribeActivationsInput{MaxResults: aws.Int32(2)}, 5},
		{ssm.DescribeActivationsInput{Filters: filter("ActivationIds", *made.ActivationId)}, 1},
		{ssm.DescribeActivationsInput{Filters: filter("DefaultInstanceName", "worker")}, 1},
		{ssm.DescribeActivationsInput{Filters: filter("IamRole", "other"), MaxResults: aws.Int32(1)}, 4},
	} {
		var all []types.Activation
		pages := ssm.NewDescribeActivationsPaginator(c, &test.in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page.ActivationList...)
		}
		if len(all) != test.want {
			t.Errorf("%+v: %d activations, want %d", test.in, len(all), test.want)
		}
		if test.in.Filters != nil && test.in.Filters[0].FilterKey == "ActivationIds" {
			a := all[0]
			if *a.Description != "why" || *a.IamRole != "role" || *a.RegistrationLimit != 3 || !a.ExpirationDate.Equal(expires) || a.Expired || len(a.Tags) != 2 || *a.Tags[0].Key != "a" {
				t.Errorf("activation %+v", a)
			}
		}
	}
	past, far := time.Now().Add(-time.Minute), time.Now().Add(31*24*time.Hour)
	for name, test := range map[string]struct {
		in   ssm.CreateActivationInput
		code string
	}{
		"past":       {ssm.CreateActivationInput{IamRole: aws.String("r"), ExpirationDate: &past}, "InvalidParameters"},
		"far":        {ssm.CreateActivationInput{IamRole: aws.String("r"), ExpirationDate: &far}, "InvalidParameters"},
		"limit":      {ssm.CreateActivationInput{IamRole: aws.String("r"), RegistrationLimit: aws.Int32(1001)}, "ValidationException"},
		"aws tag":    {ssm.CreateActivationInput{IamRole: aws.String("r"), Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}}, "ValidationException"},
		"tag twice":  {ssm.CreateActivationInput{IamRole: aws.String("r"), Tags: []types.Tag{{Key: aws.String("x"), Value: aws.String("")}, {Key: aws.String("x"), Value: aws.String("")}}}, "ValidationException"},
		"a metadata": {ssm.CreateActivationInput{IamRole: aws.String("r"), RegistrationMetadata: []types.RegistrationMetadataItem{{Key: aws.String("k"), Value: aws.String("v")}}}, "InvalidParameters"},
	} {
		_, err := c.CreateActivation(t.Context(), &test.in)
		t.Run(name, func(t *testing.T) { wantCode(t, err, test.code, "") })
	}
	_, err = b.mesh(b.memberURL).CreateActivation(t.Context(), &meshapi.CreateActivationInput{RegistrationLimit: 1001})
	wantCode(t, err, "InvalidParameters", "1 to 1000")
	_, err = c.DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{NextToken: aws.String("x")})
	wantCode(t, err, "InvalidNextToken", "")
	_, err = c.DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{Filters: []types.DescribeActivationsFilter{{FilterKey: "IamRole"}}})
	wantCode(t, err, "InvalidFilter", "")
	for _, id := range []string{*made.ActivationId, *made.ActivationId} {
		_, err = c.DeleteActivation(t.Context(), &ssm.DeleteActivationInput{ActivationId: &id})
	}
	wantCode(t, err, "InvalidActivationId", "")
}

func TestRenew(t *testing.T) {
	b := newBed(t)
	b.setAlive(memberID)
	j := newJoiner(t, 1).with(b.token(meshapi.CreateActivationInput{}))
	enrolled, got := b.enrol(b.leaderURL, j)
	if enrolled == nil {
		t.Fatal(got.Message)
	}
	n := b.node(enrolled.NodeId)
	from := peer.Caller{NodeID: n.ID, PublicKey: n.PublicKey, RemoteAddress: "127.1.0.1:5000"}
	facts := peer.NodeFacts(j.in.Facts)
	facts.PlatformVersion, facts.IPAddress, facts.Address, facts.GossipAddress = "13", "127.1.0.77", "127.1.0.77:7947", "127.1.0.77:7946"
	b.clock.move(5 * 24 * time.Hour)
	out, err := b.leader.Renew(t.Context(), from, &peer.RenewRequest{Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChain(out.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.IdentityOf(chain[0])
	if err != nil || id.NodeID != n.ID || id.Voter || id.PublicKey != n.PublicKey || time.Until(id.NotAfter) < 11*24*time.Hour {
		t.Errorf("identity %+v, %v", id, err)
	}
	if err := chain[0].VerifyHostname("127.1.0.77"); err != nil {
		t.Error(err)
	}
	if out.Roster.Version != 1 || out.KeyringVersion != 1 || len(out.GossipKeys) != 1 {
		t.Errorf("answer %+v", out)
	}
	if after := b.node(n.ID); after.PlatformVersion != "13" || after.Address != "127.1.0.77:7947" || !after.CertificateEnds.Equal(id.NotAfter) && after.CertificateEnds.Sub(id.NotAfter).Abs() > time.Second {
		t.Errorf("node %+v", after)
	}

	// A voter's certificate says so.
	var leaderKey raftstore.Node
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := newNodeKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	leaderKey = b.node(leaderID)
	leaderKey.PublicKeyDER = public.der
	var txn raftstore.Txn
	txn.PutNode(leaderKey)
	b.apply(txn)
	voterFacts := peer.NodeFacts{IPAddress: "127.0.0.1", Address: "127.0.0.1:7947", GossipAddress: "127.0.0.1:7946"}
	out, err = b.leader.Renew(t.Context(), peer.Caller{NodeID: leaderID, PublicKey: leaderKey.PublicKey}, &peer.RenewRequest{Facts: voterFacts})
	if err != nil {
		t.Fatal(err)
	}
	if chain, err = pki.ParseChain(out.Certificate); err != nil {
		t.Fatal(err)
	}
	if id, err := pki.IdentityOf(chain[0]); err != nil || !id.Voter {
		t.Errorf("a voter's identity %+v, %v", id, err)
	}

	for name, test := range map[string]struct {
		face  *Face
		from  peer.Caller
		facts peer.NodeFacts
		kind  peer.RefusalKind
	}{
		"unknown node":     {b.leader, peer.Caller{NodeID: nodeID(99), PublicKey: n.PublicKey}, facts, peer.RefusedForbidden},
		"other key":        {b.leader, peer.Caller{NodeID: n.ID, PublicKey: "other"}, facts, peer.RefusedForbidden},
		"bad facts":        {b.leader, from, peer.NodeFacts{}, peer.RefusedInput},
		"a voter's facts":  {b.leader, from, voterFacts, peer.RefusedInput},
		"not at a leader":  {b.member, from, facts, peer.RefusedNotLeader},
		"another's number": {b.leader, from, peer.NodeFacts{IPAddress: "127.0.0.2", Address: "127.0.0.2:1", GossipAddress: "127.0.0.2:2"}, peer.RefusedInput},
	} {
		_, err := test.face.Renew(t.Context(), test.from, &peer.RenewRequest{Facts: test.facts})
		var refused *peer.Refusal
		if !errors.As(err, &refused) || refused.Kind != test.kind {
			t.Errorf("%s: %v, want %s", name, err, test.kind)
		}
	}
}
