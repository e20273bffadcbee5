package meshtest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent"
	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
	"fleetmesh/test/meshtest"
)

// thief has what lies in a node's identity directory, and no scruples: its own
// gate says whatever it likes.
type thief struct {
	t           *testing.T
	ca          *x509.Certificate
	certificate tls.Certificate
	identity    pki.Identity
	key         *ecdsa.PrivateKey
	gate        *peer.Gate
	client      *peer.Client
	facts       peer.NodeFacts
}

func (s *thief) Certificate() (*tls.Certificate, error) { return &s.certificate, nil }
func (s *thief) CA() *x509.Certificate                  { return s.ca }
func (s *thief) Identity() pki.Identity                 { return s.identity }

// steal copies the identity of a node, with the roster that the node has.
func steal(t *testing.T, n *meshtest.Node) *thief {
	t.Helper()
	file := func(parts ...string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(append([]string{n.Config.DataDir}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	s := &thief{t: t}
	var err error
	if s.ca, err = pki.ParseCACertificate(file("identity", "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if s.key, err = pki.ParseKey(file("identity", "node.key")); err != nil {
		t.Fatal(err)
	}
	s.use(file("identity", "node.crt"))
	gatePath := filepath.Join(t.TempDir(), "gate.json")
	if err := os.WriteFile(gatePath, file("gate.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.gate, err = peer.OpenGate(gatePath, s.identity.MeshID); err != nil {
		t.Fatal(err)
	}
	s.facts = peer.NodeFacts{
		IPAddress: n.Config.Bind, Address: n.Config.Address(), GossipAddress: n.Config.GossipAddress(),
		ComputerName: n.Name, PlatformType: "Linux", PlatformName: "Linux", PlatformVersion: "1", AgentVersion: "0.1.0",
	}
	s.client = peer.NewClient(peer.Config{Credentials: s, Gate: s.gate, Log: discard})
	t.Cleanup(s.client.Close)
	return s
}

func (s *thief) use(chainPEM []byte) {
	s.t.Helper()
	keyPEM, err := pki.MarshalKey(s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.certificate, err = tls.X509KeyPair(chainPEM, keyPEM); err != nil {
		s.t.Fatal(err)
	}
	if s.identity, err = pki.IdentityOf(s.certificate.Leaf); err != nil {
		s.t.Fatal(err)
	}
}

// believeIn makes the thief's own gate take these nodes for voters, so that its
// client talks to them whatever they are.
func (s *thief) believeIn(nodes ...*meshtest.Node) {
	s.t.Helper()
	roster := s.gate.Roster()
	roster.Version += 1000
	roster.Members = nil
	for _, n := range nodes {
		chain, err := pki.ParseChain(readFile(s.t, n, "identity", "node.crt"))
		if err != nil {
			s.t.Fatal(err)
		}
		id, err := pki.IdentityOf(chain[0])
		if err != nil {
			s.t.Fatal(err)
		}
		roster.Members = append(roster.Members, raftstore.RosterMember{NodeID: n.ID, Address: n.Config.Address(), PublicKey: id.PublicKey})
	}
	if _, err := s.gate.Update(roster); err != nil {
		s.t.Fatal(err)
	}
}

func readFile(t *testing.T, n *meshtest.Node, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{n.Config.DataDir}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fence is that of a leader after all others.
func (s *thief) fence() peer.Fence { return peer.Fence{Term: s.gate.Term() + 1000, Epoch: 1} }

// ask sends an API request through node as the thief's own machine would, from its
// "local socket"; it returns the error's name, "" for success.
func (s *thief) ask(node *meshtest.Node, operation string, in any) (code string, body []byte) {
	s.t.Helper()
	content, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	s.believeIn(node)
	out, err := s.client.Forward(s.t.Context(), &peer.ForwardRequest{
		Method: http.MethodPost, Path: "/", Host: "meshd", Body: content, Local: true, SourceIP: "127.0.0.1",
		Header: map[string][]string{"X-Amz-Target": {operation}, "Content-Type": {"application/x-amz-json-1.1"}},
	}, false)
	if err != nil {
		s.t.Fatalf("forward %s: %v", operation, err)
	}
	if out.Status == http.StatusOK {
		return "", out.Body
	}
	return out.Header["X-Amzn-Errortype"][0], out.Body
}

// raw opens a connection of a protocol of the mesh and reads the greeting.
func (s *thief) raw(n *meshtest.Node, protocol string) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", n.Config.Address(), &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, InsecureSkipVerify: true, Certificates: []tls.Certificate{s.certificate},
	})
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(meshtest.Patience)); err != nil {
		return nil, err
	}
	greeting := make([]byte, 6)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func forbidden(t *testing.T, what string, err error) {
	t.Helper()
	var refused *peer.Refusal
	if !errors.As(err, &refused) || refused.Kind != peer.RefusedForbidden {
		t.Errorf("%s: %v, want it forbidden", what, err)
	}
}

// orders is everything that only a leader may ask of a node.
func (s *thief) orders(n *meshtest.Node) map[string]error { return s.ordersBehind(n, s.fence()) }

// ordersBehind are the same, from the leader of some term.
func (s *thief) ordersBehind(n *meshtest.Node, fence peer.Fence) map[string]error {
	ctx, to := s.t.Context(), peer.Target{NodeID: n.ID, Address: n.Config.Address()}
	marker := filepath.Join(s.t.TempDir(), "ran")
	err := make(map[string]error)
	_, err["jobs"] = s.client.Jobs(ctx, to, &peer.JobsRequest{Fence: fence, Jobs: []peer.Job{{
		CommandID: "00000000-0000-4000-8000-00000000beef", NodeID: n.ID, DocumentName: "AWS-RunShellScript", DocumentVersion: "1",
		Document:    json.RawMessage(`{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"x","inputs":{"runCommand":["touch ` + marker + `"]}}]}`),
		StartWithin: time.Hour, ExpiresWithin: 2 * time.Hour, Epoch: 1,
	}}})
	_, err["cancel"] = s.client.Cancel(ctx, to, &peer.CancelRequest{Fence: fence, CommandIDs: []string{"x"}})
	_, err["job states"] = s.client.JobStates(ctx, to, &peer.JobStatesRequest{Fence: fence, CommandIDs: []string{"x"}})
	_, err["output"] = s.client.Output(ctx, to, &peer.OutputRequest{Fence: fence, CommandID: "x"})
	_, err["raft state"] = s.client.RaftState(ctx, to, &peer.RaftStateRequest{Fence: fence})
	roster := s.gate.Roster()
	roster.Version += 1_000_000
	roster.Members = []raftstore.RosterMember{{NodeID: s.identity.NodeID, Address: s.facts.Address, PublicKey: s.identity.PublicKey}}
	err["roster"] = s.client.Roster(ctx, to, &peer.RosterRequest{Fence: fence, Roster: roster})
	err["keyring"] = s.client.Keyring(ctx, to, &peer.KeyringRequest{Fence: fence, Version: 1_000_000, Keys: [][]byte{bytes.Repeat([]byte{7}, 32)}})
	err["promote"] = s.client.Promote(ctx, to, &peer.PromoteRequest{Fence: fence, MeshKey: make([]byte, 32)})
	err["demote"] = s.client.Demote(ctx, to, &peer.DemoteRequest{Fence: fence})
	if _, statErr := os.Stat(marker); statErr == nil {
		err["a script that ran"] = nil
	}
	return err
}

// TestStolenMemberKey: whoever holds a member's key acts as that one node and
// nothing more.
func TestStolenMemberKey(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 5, meshtest.MemberOnly(3, 4))
	m.AwaitVoters(3)
	stolen := m.Nodes[3]
	s := steal(t, stolen)

	t.Run("as a leader", func(t *testing.T) {
		before := make(map[string][]byte)
		for _, n := range m.Nodes {
			before[n.ID] = readFile(t, n, "gossip", "keys.json")
			for what, err := range s.orders(n) {
				forbidden(t, what+" at "+n.Name, err)
			}
		}
		for _, n := range m.Nodes {
			if !bytes.Equal(before[n.ID], readFile(t, n, "gossip", "keys.json")) {
				t.Errorf("%s took gossip keys", n.Name)
			}
			if gate := readFile(t, n, "gate.json"); bytes.Contains(gate, []byte(s.identity.PublicKey)) {
				t.Errorf("%s took a roster: %s", n.Name, gate)
			}
		}
	})

	t.Run("as a Raft peer", func(t *testing.T) {
		for _, n := range m.Nodes {
			if conn, err := s.raw(n, "mesh-raft/1"); err == nil {
				conn.Close()
				t.Errorf("%s let it into Raft", n.Name)
			}
			s.believeIn(n)
			if conn, err := s.client.DialRaft(t.Context(), n.Config.Address()); err == nil {
				conn.Close()
				t.Errorf("%s let it into Raft", n.Name)
			}
		}
	})

	t.Run("as an API client", func(t *testing.T) {
		for _, n := range m.Nodes {
			for _, protocols := range [][]string{nil, {"http/1.1"}, {"h2", "http/1.1"}} {
				transport := &http.Transport{
					ForceAttemptHTTP2: len(protocols) > 1, DisableKeepAlives: true,
					TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, NextProtos: protocols, Certificates: []tls.Certificate{s.certificate}},
				}
				for _, route := range []string{"jobs", "roster", "read-roster", "forward", "renew", "report"} {
					response, err := (&http.Client{Transport: transport}).Post("https://"+n.Config.Address()+"/v1/"+route, "application/json", strings.NewReader("{}"))
					if err != nil {
						t.Fatal(err)
					}
					response.Body.Close()
					if response.StatusCode != http.StatusNotFound {
						t.Errorf("%s answers /v1/%s at the API (%v) with HTTP %d", n.Name, route, protocols, response.StatusCode)
					}
				}
			}
		}
	})

	leader := m.Leader()
	victim := m.Nodes[4]
	// A command that runs on two others, and its output.
	release := filepath.Join(t.TempDir(), "go on")
	id := send(t, leader, ssm.SendCommandInput{InstanceIds: []string{victim.ID, leader.ID}}, "echo secret; while [ ! -e '"+release+"' ]; do sleep 0.1; done")
	own := send(t, leader, ssm.SendCommandInput{InstanceIds: []string{stolen.ID, victim.ID}}, "echo common")
	awaitInvocation(t, m, leader, id, victim.ID, types.CommandInvocationStatusInProgress)
	awaitDone(t, m, leader, own)

	t.Run("as a reporter for another", func(t *testing.T) {
		s.believeIn(leader)
		out, err := s.client.Report(t.Context(), &peer.ReportRequest{Reports: []peer.JobReport{{
			CommandID: id, Sequence: 1000, Status: "Success", StatusDetails: "Success", StartedAt: time.Now(), FinishedAt: time.Now(),
			Plugins: []raftstore.PluginResult{{Name: "x", Status: "Success", Stdout: "forged"}},
		}}})
		if err != nil || !slices.Equal(out.Unknown, []string{id}) {
			t.Errorf("the report: %+v, %v", out, err)
		}
		for _, n := range []*meshtest.Node{victim, leader} {
			if got, err := invocation(t, leader, id, n.ID); err != nil || got.Status != types.CommandInvocationStatusInProgress {
				t.Errorf("%s: %+v, %v", n.Name, got, err)
			}
		}
	})

	t.Run("as root of a node without a vote", func(t *testing.T) {
		script := map[string][]string{"commands": {"true"}}
		shell := aws.String("AWS-RunShellScript")
		type object = map[string]any
		for _, test := range []struct {
			operation string
			in        any
		}{
			{"AmazonSSM.SendCommand", object{"DocumentName": shell, "InstanceIds": []string{victim.ID}, "Parameters": script}},
			{"AmazonSSM.SendCommand", object{"DocumentName": shell, "InstanceIds": []string{stolen.ID, victim.ID}, "Parameters": script}},
			{"AmazonSSM.SendCommand", object{"DocumentName": shell, "Targets": []object{{"Key": "tag:role", "Values": []string{"x"}}}, "Parameters": script}},
			{"AmazonSSM.SendCommand", object{"DocumentName": shell, "Targets": []object{{"Key": "InstanceIds", "Values": []string{stolen.ID}}}, "Parameters": script}},
			{"AmazonSSM.SendCommand", object{"DocumentName": shell, "InstanceIds": []string{stolen.ID}, "Targets": []object{{"Key": "InstanceIds", "Values": []string{victim.ID}}}, "Parameters": script}},
			{"AmazonSSM.CancelCommand", object{"CommandId": id}},
			{"AmazonSSM.CancelCommand", object{"CommandId": own}},
			{"AmazonSSM.CancelCommand", object{"CommandId": id, "InstanceIds": []string{victim.ID}}},
			{"AmazonSSM.CancelCommand", object{"CommandId": own, "InstanceIds": []string{stolen.ID, victim.ID}}},
			{"AmazonSSM.ListCommands", object{}},
			{"AmazonSSM.ListCommands", object{"CommandId": id}},
			{"AmazonSSM.ListCommands", object{"CommandId": own}},
			{"AmazonSSM.ListCommands", object{"InstanceId": victim.ID}},
			{"AmazonSSM.ListCommands", object{"CommandId": own, "InstanceId": victim.ID}},
			{"AmazonSSM.ListCommandInvocations", object{"Details": true}},
			{"AmazonSSM.ListCommandInvocations", object{"CommandId": id, "Details": true}},
			{"AmazonSSM.ListCommandInvocations", object{"CommandId": own, "Details": true}},
			{"AmazonSSM.ListCommandInvocations", object{"InstanceId": victim.ID, "Details": true}},
			{"AmazonSSM.GetCommandInvocation", object{"CommandId": own, "InstanceId": victim.ID}},
			{"Mesh.ReadOutput", object{"CommandId": id, "InstanceId": victim.ID}},
			{"Mesh.ReadOutput", object{"CommandId": own, "InstanceId": victim.ID}},
			{"Mesh.ReadOutput", object{"CommandId": own}},
			{"Mesh.WatchCommand", object{"CommandId": id}},
			{"Mesh.WatchCommand", object{"CommandId": own}},
			{"Mesh.Keyring", object{"Action": "list"}},
			{"Mesh.Keyring", object{"Action": "add"}},
			{"Mesh.CreateActivation", object{}},
			{"AmazonSSM.CreateActivation", object{"IamRole": "x"}},
			{"AmazonSSM.DescribeActivations", object{}},
			{"AmazonSSM.DeregisterManagedInstance", object{"InstanceId": victim.ID}},
			{"AmazonSSM.DeregisterManagedInstance", object{"InstanceId": stolen.ID}},
			{"AmazonSSM.AddTagsToResource", object{"ResourceType": "ManagedInstance", "ResourceId": stolen.ID, "Tags": []object{{"Key": "role", "Value": "db"}}}},
			{"AmazonSSM.ListTagsForResource", object{"ResourceType": "ManagedInstance", "ResourceId": victim.ID}},
			{"AmazonSSM.GetDocument", object{"Name": "AWS-RunShellScript"}},
		} {
			if code, body := s.ask(leader, test.operation, test.in); code != "AccessDeniedException" {
				t.Errorf("%s %v: %q %s", test.operation, test.in, code, body)
			}
		}
		// What is its own it may.
		for _, test := range []struct {
			operation string
			in        any
		}{
			{"Mesh.Status", object{}}, {"Mesh.Members", object{}}, {"AmazonSSM.DescribeInstanceInformation", object{}},
			{"AmazonSSM.SendCommand", object{"DocumentName": shell, "InstanceIds": []string{stolen.ID}, "Parameters": script}},
			{"AmazonSSM.ListCommandInvocations", object{"CommandId": own, "InstanceId": stolen.ID, "Details": true}},
			{"Mesh.ReadOutput", object{"CommandId": own, "InstanceId": stolen.ID}},
		} {
			code, body := s.ask(leader, test.operation, test.in)
			if code != "" {
				t.Errorf("%s %v: %q %s", test.operation, test.in, code, body)
			}
			if bytes.Contains(body, []byte("secret")) {
				t.Errorf("%s tells another's output: %s", test.operation, body)
			}
		}
	})

	t.Run("as a forwarder of unsigned requests", func(t *testing.T) {
		s.believeIn(leader)
		out, err := s.client.Forward(t.Context(), &peer.ForwardRequest{
			Method: http.MethodPost, Path: "/", Host: "meshd", Body: []byte(`{"CommandId":"` + id + `"}`),
			Header: map[string][]string{"X-Amz-Target": {"AmazonSSM.CancelCommand"}, "X-Mesh-Local": {"true"}, "X-Forwarded-For": {"127.0.0.1"}},
		}, false)
		if err != nil || out.Status != http.StatusBadRequest || out.Header["X-Amzn-Errortype"][0] != "MissingAuthenticationTokenException" {
			t.Errorf("%+v, %v", out, err)
		}
	})

	t.Run("as another by renewal", func(t *testing.T) {
		for _, n := range []*meshtest.Node{leader, victim} {
			for _, ip := range []string{n.Config.Bind, "::ffff:" + n.Config.Bind} {
				lie := s.facts
				lie.IPAddress, lie.Address, lie.GossipAddress = ip, net.JoinHostPort(ip, "7947"), net.JoinHostPort(ip, "7946")
				s.believeIn(leader)
				_, err := s.client.Renew(t.Context(), &peer.RenewRequest{Facts: lie})
				var refused *peer.Refusal
				if !errors.As(err, &refused) || refused.Kind != peer.RefusedInput {
					t.Errorf("renewed with the address %s of %s: %v", ip, n.Name, err)
				}
			}
			lie := s.facts
			lie.ComputerName = strings.ToUpper(n.Name) + "."
			s.believeIn(leader)
			out, err := s.client.Renew(t.Context(), &peer.RenewRequest{Facts: lie})
			if err != nil {
				t.Fatal(err)
			}
			s.use(out.Certificate)
			leaf := s.certificate.Leaf
			if s.identity.Voter || s.identity.NodeID != stolen.ID || leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("the renewed certificate says %+v", s.identity)
			}
			for _, name := range []string{n.Name, n.Config.Bind} {
				if leaf.VerifyHostname(name) == nil {
					t.Errorf("the renewed certificate is one for %s", name)
				}
			}
		}
	})

	t.Run("as a voter by its own signature", func(t *testing.T) {
		forged := *s
		ca := &x509.Certificate{}
		*ca = *s.certificate.Leaf
		forged.sign(t, ca)
		for _, n := range m.Nodes {
			for _, protocol := range []string{"mesh-peer/1", "mesh-raft/1"} {
				if conn, err := forged.raw(n, protocol); err == nil {
					conn.Close()
					t.Errorf("%s believes a certificate that a member has signed (%s)", n.Name, protocol)
				}
			}
		}
	})

	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if done := awaitDone(t, m, leader, id); done.Status != types.CommandStatusSuccess {
		t.Errorf("the victims' command ended %s", done.Status)
	}
	if status := m.AwaitVoters(3); slices.Contains(status.Voters, stolen.ID) || slices.Contains(status.StandBys, stolen.ID) {
		t.Errorf("the stolen key votes: %+v", status)
	}
}

// sign replaces the thief's certificate by one that it signs itself, as the given
// issuer: a voter's.
func (s *thief) sign(t *testing.T, issuer *x509.Certificate) {
	t.Helper()
	template := *issuer
	uri := *issuer.URIs[0]
	uri.Path = strings.Replace(uri.Path, "/node/", "/voter/", 1)
	template.URIs = append(template.URIs[:0:0], &uri)
	template.Subject.CommonName = "forged"
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	s.certificate = tls.Certificate{Certificate: [][]byte{der, issuer.Raw, s.ca.Raw}, PrivateKey: s.key}
}

// TestRemovedKeyOnAnOpenConnection: what was open is cut, what is new is refused,
// everywhere, and the gossip keys that the removed node has are worth nothing.
func TestRemovedKeyOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	m.AwaitVoters(3)
	stolen := m.Nodes[3]
	s := steal(t, stolen)
	var known struct{ Keys [][]byte }
	if err := json.Unmarshal(readFile(t, stolen, "gossip", "keys.json"), &known); err != nil || len(known.Keys) == 0 {
		t.Fatalf("gossip keys of the stolen node: %v", err)
	}
	open := make(map[*meshtest.Node]*tls.Conn)
	call := func(conn *tls.Conn) error {
		if err := conn.SetDeadline(time.Now().Add(meshtest.Patience)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "POST /v1/read-roster HTTP/1.1\r\nHost: mesh\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			return err
		}
		var answer [1]byte
		_, err := io.ReadFull(conn, answer[:])
		return err
	}
	for _, n := range m.Nodes[:3] {
		conn, err := s.raw(n, "mesh-peer/1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := call(conn); err != nil {
			t.Fatalf("before the removal, at %s: %v", n.Name, err)
		}
		open[n] = conn
	}
	if _, err := m.Nodes[1].Client().DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &stolen.ID}); err != nil {
		t.Fatal(err)
	}
	for n, conn := range open {
		// Nothing is sent: the other side ends it.
		if err := conn.SetReadDeadline(time.Now().Add(meshtest.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s leaves the connection of a removed key open", n.Name)
		}
		for _, protocol := range []string{"mesh-peer/1", "mesh-raft/1"} {
			if again, err := s.raw(n, protocol); err == nil {
				again.Close()
				t.Errorf("%s lets a removed key in by %s", n.Name, protocol)
			}
		}
		s.believeIn(n)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if _, err := s.client.Renew(ctx, &peer.RenewRequest{Facts: s.facts}); err == nil {
			t.Errorf("%s renews a removed key's certificate", n.Name)
		}
		cancel()
	}
	m.Await("the gossip keys of the removed node to be gone", func() error {
		for _, n := range m.Nodes[:3] {
			var ring struct{ Keys [][]byte }
			if err := json.Unmarshal(readFile(t, n, "gossip", "keys.json"), &ring); err != nil {
				return err
			}
			for _, key := range ring.Keys {
				if slices.ContainsFunc(known.Keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
					return fmt.Errorf("%s still uses one of %d", n.Name, len(ring.Keys))
				}
			}
		}
		return nil
	})
	m.AwaitOnline(3)
}

// TestFormerVoterLeadsNoMore: a voter that was replaced while it was away still
// has a voter's certificate, in its time, and the mesh key. Neither its orders nor
// its votes count.
func TestFormerVoterLeadsNoMore(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 5, meshtest.MemberOnly(4), meshtest.Configure(func(c *agent.Config) { c.Voters, c.VoterDeadAfter = 3, agent.Duration(5*time.Second) }))
	var former *meshtest.Node
	m.Await("three voters and a stand-by", func() error {
		status, err := m.Nodes[0].Status()
		if err == nil && (len(status.Voters) != 3 || len(status.StandBys) != 1) {
			err = fmt.Errorf("%d voters, %d stand-bys", len(status.Voters), len(status.StandBys))
		}
		if err != nil {
			return err
		}
		for _, id := range status.Voters {
			if id != status.Leader && id != m.Nodes[0].ID {
				former = m.Node(id)
			}
		}
		return nil
	})
	former.Stop()
	s := steal(t, former)
	if !s.identity.Voter {
		t.Fatal("the voter's certificate says nothing of a voter")
	}
	var others []*meshtest.Node
	for _, n := range m.Nodes {
		if n != former {
			others = append(others, n)
		}
	}
	m.Await("its replacement, known to all", func() error {
		status, err := m.Nodes[0].Status()
		if err != nil {
			return err
		}
		if slices.Contains(status.Voters, former.ID) || slices.Contains(status.StandBys, former.ID) {
			return errors.New("it still holds the store")
		}
		for _, n := range others {
			if gate := readFile(t, n, "gate.json"); bytes.Contains(gate, []byte(s.identity.PublicKey)) {
				return fmt.Errorf("%s has it in its roster", n.Name)
			}
		}
		return nil
	})
	for _, n := range others {
		for what, err := range s.orders(n) {
			forbidden(t, what+" at "+n.Name, err)
		}
		if conn, err := s.raw(n, "mesh-raft/1"); err == nil {
			conn.Close()
			t.Errorf("%s lets it into Raft", n.Name)
		}
	}
	if code, body := s.ask(m.Leader(), "Mesh.CreateActivation", meshapi.CreateActivationInput{}); code != "AccessDeniedException" {
		t.Errorf("its root is still an administrator: %q %s", code, body)
	}
	// And when it is back it gives up what it has.
	former.Start()
	m.AwaitOnline(5)
	m.Await("the mesh key to be gone from it, or to be its own again", func() error {
		status, err := m.Nodes[0].Status()
		if err != nil {
			return err
		}
		_, statErr := os.Stat(filepath.Join(former.Config.DataDir, "identity", "mesh.key"))
		holds := slices.Contains(status.Voters, former.ID) || slices.Contains(status.StandBys, former.ID)
		if statErr == nil && !holds {
			return errors.New("it keeps the mesh key")
		}
		return nil
	})
}

// TestNothingIsReadableByOthers: whatever a node writes, scripts and outputs
// included, is out of the reach of other users.
func TestNothingIsReadableByOthers(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 2, meshtest.MemberOnly(1))
	id := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: []string{m.Nodes[0].ID, m.Nodes[1].ID}}, "echo secret; echo secret >&2")
	awaitDone(t, m, m.Nodes[0], id)
	for _, n := range m.Nodes {
		entries, err := os.ReadDir(n.Config.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if errors.Is(err, os.ErrNotExist) {
				continue // it was replaced
			}
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s of %s has mode %s", entry.Name(), n.Name, info.Mode())
			}
		}
		for _, secret := range [][]string{{"identity", "node.key"}, {"gossip", "keys.json"}, {"meshd.yaml"}, {"gate.json"}} {
			info, err := os.Stat(filepath.Join(append([]string{n.Config.DataDir}, secret...)...))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v of %s: %v, %v", secret, n.Name, info, err)
			}
		}
		info, err := os.Stat(n.Config.SocketPath())
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the socket of %s: %v, %v", n.Name, info, err)
		}
	}
}
