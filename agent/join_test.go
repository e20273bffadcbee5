package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// TestForgedEnrolmentIsRefused: the node that carries a leader's answer can
// change nothing in it, not even with a CA of its own.
func TestForgedEnrolmentIsRefused(t *testing.T) {
	const meshID, nodeID, code, request = "6b8f3c1e-0000-4000-8000-000000000001", "mi-0123456789abcdef0", "the code", "the proof of the request"
	now := time.Now()
	newCA := func() *pki.CA {
		ca, err := pki.NewCA("m", meshID, now)
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	ca, other := newCA(), newCA()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	token := pki.JoinToken{ActivationID: "a", Code: code, Addresses: []string{"127.0.0.1:7947"}, CAFingerprint: pki.CertificateFingerprint(ca.Certificate())}
	issue := func(by *pki.CA, r pki.IssueRequest) string {
		r.Addresses, r.Lifetime = []net.IP{net.ParseIP("127.0.0.1")}, pki.CertificateLifetime
		chain, err := by.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(chain)
	}
	good := func() *meshapi.EnrolOutput {
		roster, err := json.Marshal(raftstore.Roster{Version: 3, MeshID: meshID})
		if err != nil {
			t.Fatal(err)
		}
		return &meshapi.EnrolOutput{
			MeshId: meshID, MeshName: "m", NodeId: nodeID, CACertificate: string(ca.CertificatePEM()),
			Certificate: issue(ca, pki.IssueRequest{MeshID: meshID, NodeID: nodeID, PublicKey: key.Public(), Now: now}),
			GossipKeys:  []string{"a2V5"}, KeyringVersion: 1, Roster: roster, GossipPeers: []string{"127.0.0.1:7946"},
		}
	}
	sign := func(out *meshapi.EnrolOutput) { out.Proof = pki.EnrolmentAnswerProof(code, request, out.Canonical()) }

	answer := good()
	sign(answer)
	if err := checkEnrolment(token, request, key, answer, now); err != nil {
		t.Fatalf("a true answer: %v", err)
	}
	// What a carrier could change without knowing the code.
	for what, change := range map[string]func(*meshapi.EnrolOutput){
		"mesh":            func(o *meshapi.EnrolOutput) { o.MeshId += "x" },
		"name":            func(o *meshapi.EnrolOutput) { o.MeshName = "n" },
		"node":            func(o *meshapi.EnrolOutput) { o.NodeId = "mi-00000000000000000" },
		"certificate":     func(o *meshapi.EnrolOutput) { o.Certificate += "\n" },
		"ca":              func(o *meshapi.EnrolOutput) { o.CACertificate = string(other.CertificatePEM()) },
		"gossip keys":     func(o *meshapi.EnrolOutput) { o.GossipKeys = append(o.GossipKeys, "b3RoZXI=") },
		"keyring version": func(o *meshapi.EnrolOutput) { o.KeyringVersion = 1 << 60 },
		"roster":          func(o *meshapi.EnrolOutput) { o.Roster = []byte(`{"Version":18446744073709551615}`) },
		"gossip peers":    func(o *meshapi.EnrolOutput) { o.GossipPeers = []string{"127.0.0.9:7946"} },
		"moved between lists": func(o *meshapi.EnrolOutput) {
			o.RefusedTags, o.GossipPeers = o.GossipPeers, nil
		},
		"proof": func(o *meshapi.EnrolOutput) { o.Proof = pki.EnrolmentProof(code, o.Canonical()) },
	} {
		answer := good()
		sign(answer)
		change(answer)
		if err := checkEnrolment(token, request, key, answer, now); !errors.Is(err, ErrForgedAnswer) {
			t.Errorf("%s changed: %v", what, err)
		}
	}
	if err := checkEnrolment(token, "another request", key, answer, now); !errors.Is(err, ErrForgedAnswer) {
		t.Errorf("the answer to another request: %v", err)
	}
	// What even one who knows the code cannot: the fingerprint names the CA.
	for what, change := range map[string]func(*meshapi.EnrolOutput){
		"another CA": func(o *meshapi.EnrolOutput) {
			o.CACertificate = string(other.CertificatePEM())
			o.Certificate = issue(other, pki.IssueRequest{MeshID: meshID, NodeID: nodeID, PublicKey: key.Public(), Now: now})
		},
		"another CA's certificate": func(o *meshapi.EnrolOutput) {
			o.Certificate = issue(other, pki.IssueRequest{MeshID: meshID, NodeID: nodeID, PublicKey: key.Public(), Now: now})
		},
		"another key": func(o *meshapi.EnrolOutput) {
			o.Certificate = issue(ca, pki.IssueRequest{MeshID: meshID, NodeID: nodeID, PublicKey: stranger.Public(), Now: now})
		},
		"no certificate": func(o *meshapi.EnrolOutput) { o.Certificate = "" },
	} {
		answer := good()
		change(answer)
		sign(answer)
		if err := checkEnrolment(token, request, key, answer, now); !errors.Is(err, ErrForgedAnswer) {
			t.Errorf("%s: %v", what, err)
		}
	}
	late := good()
	late.Certificate = issue(ca, pki.IssueRequest{MeshID: meshID, NodeID: nodeID, PublicKey: key.Public(), Now: now.Add(-30 * 24 * time.Hour)})
	sign(late)
	if err := checkEnrolment(token, request, key, late, now); err == nil || errors.Is(err, ErrForgedAnswer) {
		t.Errorf("an outdated certificate: %v", err)
	}
}

// TestAnotherMeshIsNotAskedAgain: join says at once that it is another mesh's.
func TestAnotherMeshIsNotAskedAgain(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	token := pki.JoinToken{
		ActivationID: "a", Code: "c", Addresses: []string{server.Listener.Addr().String()},
		CAFingerprint: "sha256:" + strings.Repeat("0", 64),
	}
	ctx, cancel := context.WithTimeout(t.Context(), joinTimeout/2)
	defer cancel()
	if _, err := enrol(ctx, Config{}, token, meshapi.EnrolInput{}, nil); !errors.Is(err, pki.ErrOtherMesh) || ctx.Err() != nil {
		t.Errorf("got %v (context: %v), want an answer at once that it is another mesh", err, ctx.Err())
	}
}
