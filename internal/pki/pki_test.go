package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

const (
	testMesh = "3f0c1a52-7a49-4b7b-9a0e-0d2f8a9f0b11"
	testNode = "mi-0123456789abcdef0"
)

func newTestCA(t *testing.T, now time.Time) *CA {
	t.Helper()
	ca, err := NewCA("test", testMesh, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue returns the parsed chain of a fresh node.
func issue(t *testing.T, ca *CA, change func(*IssueRequest)) ([]*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r := IssueRequest{MeshID: testMesh, NodeID: testNode, PublicKey: key.Public(), Now: time.Now(), Lifetime: CertificateLifetime}
	if change != nil {
		change(&r)
	}
	chainPEM, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ParseChain(chainPEM)
	if err != nil {
		t.Fatal(err)
	}
	return chain, key
}

func TestIssuedCertificateNamesItsNode(t *testing.T) {
	now := time.Now()
	ca := newTestCA(t, now)
	for _, voter := range []bool{false, true} {
		chain, key := issue(t, ca, func(r *IssueRequest) {
			r.Voter = voter
			r.Addresses = []net.IP{net.ParseIP("10.0.0.7"), net.ParseIP("fd00::7"), net.ParseIP("0.0.0.0"), net.ParseIP("127.0.0.1")}
			r.Names = []string{"Web-1.example", "*.example", "not a host", "10.0.0.9", "ünïcode", "localhost"}
		})
		id, expired, err := VerifyChain(ca.Certificate(), chain, now)
		if err != nil || expired {
			t.Fatalf("VerifyChain: expired=%t, %v", expired, err)
		}
		fingerprint, err := PublicKeyFingerprint(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		want := Identity{MeshID: testMesh, NodeID: testNode, Voter: voter, PublicKey: fingerprint, NotAfter: chain[0].NotAfter}
		if id != want {
			t.Errorf("identity %+v, want %+v", id, want)
		}
		if got, want := fmt.Sprint(chain[0].DNSNames), "[localhost web-1.example]"; got != want {
			t.Errorf("names %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(chain[0].IPAddresses), "[127.0.0.1 10.0.0.7 fd00::7]"; got != want {
			t.Errorf("addresses %s, want %s", got, want)
		}
		// What a stock client checks.
		roots := x509.NewCertPool()
		roots.AddCert(ca.Certificate())
		for _, name := range []string{"127.0.0.1", "localhost", "10.0.0.7"} {
			if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
				t.Errorf("a client that calls it %s refuses: %v", name, err)
			}
		}
	}
}

func TestVerifyChain(t *testing.T) {
	now := time.Now()
	ca := newTestCA(t, now)
	forged := newTestCA(t, now) // the same names, another key
	good, _ := issue(t, ca, nil)
	foreign, _ := issue(t, forged, nil)

	// A member's key that signs itself a voter's certificate.
	memberChain, memberKey := issue(t, ca, nil)
	selfMade, err := (&CA{cert: memberChain[0], key: memberKey}).Issue(IssueRequest{
		MeshID: testMesh, NodeID: testNode, Voter: true, PublicKey: memberKey.Public(), Now: now, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	selfMadeChain, err := ParseChain(selfMade)
	if err != nil {
		t.Fatal(err)
	}
	selfMadeChain = append(selfMadeChain[:1], memberChain...)

	for _, test := range []struct {
		name    string
		chain   []*x509.Certificate
		now     time.Time
		expired bool
		wrong   string
	}{
		{"good", good, now, false, ""},
		{"without the CA in the chain", good[:1], now, false, ""},
		{"a clock an hour behind", good, now.Add(-time.Hour), false, ""},
		{"a clock an hour ahead", good, now.Add(time.Hour), false, ""},
		{"after its end", good, now.Add(CertificateLifetime + time.Second), true, ""},
		{"a month after its end", good, now.Add(30 * 24 * time.Hour), true, ""},
		{"before its beginning", good, now.Add(-BackDate - time.Hour), true, ""},
		{"nothing", nil, now, false, "no certificate"},
		{"a forged CA", foreign, now, false, "not one of this mesh"},
		{"the right CA after a forged leaf", []*x509.Certificate{foreign[0], ca.Certificate()}, now, false, "not one of this mesh"},
		{"signed by a member", selfMadeChain, now, false, "not one of this mesh"},
		{"the CA itself", []*x509.Certificate{ca.Certificate()}, now, false, "that of a CA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, expired, err := VerifyChain(ca.Certificate(), test.chain, test.now)
			if test.wrong == "" {
				if err != nil || expired != test.expired {
					t.Fatalf("expired=%t, %v; want expired=%t", expired, err, test.expired)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Fatalf("error %v, want one that says %q", err, test.wrong)
			}
		})
	}
}

// A node whose clock is behind the founder's by an hour may be the leader and issue.
func TestIssueWithAClockBehindTheFounders(t *testing.T) {
	now := time.Now()
	ca := newTestCA(t, now)
	chain, _ := issue(t, ca, func(r *IssueRequest) { r.Now = now.Add(-time.Hour) })
	if _, expired, err := VerifyChain(ca.Certificate(), chain, now); err != nil || expired {
		t.Fatalf("expired=%t, %v", expired, err)
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := newTestCA(t, time.Now())
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]IssueRequest{
		"a node id that is none":       {MeshID: testMesh, NodeID: "mi-1/../../voter/x", PublicKey: key.Public(), Lifetime: time.Hour},
		"a mesh id that is none":       {MeshID: "a/b", NodeID: testNode, PublicKey: key.Public(), Lifetime: time.Hour},
		"another curve":                {MeshID: testMesh, NodeID: testNode, PublicKey: p384.Public(), Lifetime: time.Hour},
		"no key":                       {MeshID: testMesh, NodeID: testNode, Lifetime: time.Hour},
		"no lifetime":                  {MeshID: testMesh, NodeID: testNode, PublicKey: key.Public()},
		"a mesh id in capital letters": {MeshID: strings.ToUpper(testMesh), NodeID: testNode, PublicKey: key.Public(), Lifetime: time.Hour},
	} {
		if _, err := ca.Issue(r); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

func TestCASurvivesItsFiles(t *testing.T) {
	ca := newTestCA(t, time.Now())
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadCA(ca.CertificatePEM(), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	chain, _ := issue(t, loaded, nil)
	if _, _, err := VerifyChain(ca.Certificate(), chain, time.Now()); err != nil {
		t.Fatal(err)
	}
	other := newTestCA(t, time.Now())
	if _, err := LoadCA(other.CertificatePEM(), keyPEM); err == nil {
		t.Error("a key was taken for another CA's certificate")
	}
	leaf := certificatePEM(chain[0])
	if _, err := LoadCA(leaf, keyPEM); err == nil {
		t.Error("a node's certificate was taken for a CA's")
	}
}

func TestMeshKey(t *testing.T) {
	key := NewMeshKey()
	secret := []byte("the access key")
	sealed := key.Seal(secret, "access-key/A")
	if bytes.Contains(sealed, secret) {
		t.Fatal("the secret can be read")
	}
	if again := key.Seal(secret, "access-key/A"); bytes.Equal(again, sealed) {
		t.Error("two seals of one secret are equal")
	}
	opened, err := key.Open(sealed, "access-key/A")
	if err != nil || !bytes.Equal(opened, secret) {
		t.Fatalf("opened %q, %v", opened, err)
	}
	if _, err := key.Open(sealed, "access-key/B"); err == nil {
		t.Error("opened for another purpose")
	}
	if _, err := NewMeshKey().Open(sealed, "access-key/A"); err == nil {
		t.Error("opened with another key")
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := key.Open(changed, "access-key/A"); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, err := key.Open(sealed[:i], "access-key/A"); err == nil {
			t.Errorf("opened when cut to %d bytes", i)
		}
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if shown := fmt.Sprintf(format, key); !strings.Contains(shown, "not shown") {
			t.Errorf("%s shows %s", format, shown)
		}
	}
}

func TestEnrolmentProof(t *testing.T) {
	e := Enrolment{ActivationID: "a", NodeName: "n", Tags: map[string]string{"role": "web", "zone": "a"}, AgentVersion: "1"}
	canonical := EnrolmentCanonical(e)
	proof := EnrolmentProof("code", canonical)
	if !CheckEnrolmentProof("code", canonical, proof) {
		t.Fatal("a right proof is refused")
	}
	if CheckEnrolmentProof("edoc", canonical, proof) || CheckEnrolmentProof("code", canonical, "") ||
		CheckEnrolmentProof("code", canonical, proof[:len(proof)-2]) || CheckEnrolmentProof("code", canonical, "zz"+proof[2:]) {
		t.Error("a wrong proof is taken")
	}
	// Content may not move between neighbouring fields.
	seen := map[string]string{}
	for name, e := range map[string]Enrolment{
		"as it is":  e,
		"shifted":   {ActivationID: "an", Tags: e.Tags, AgentVersion: "1"},
		"tag moved": {ActivationID: "a", NodeName: "n", Tags: map[string]string{"role": "webzone", "": "a"}, AgentVersion: "1"},
		"no tags":   {ActivationID: "a", NodeName: "n", AgentVersion: "1"},
		"last fact": {ActivationID: "a", NodeName: "n", Tags: e.Tags, PlatformVersion: "1"},
	} {
		canonical := string(EnrolmentCanonical(e))
		if other, ok := seen[canonical]; ok {
			t.Errorf("%q and %q are the same bytes", name, other)
		}
		seen[canonical] = name
	}
}

// The proof is a wire format: this value may never change.
func TestEnrolmentProofIsStable(t *testing.T) {
	e := Enrolment{ActivationID: "id", CertificateRequest: "csr", NodeName: "name", Tags: map[string]string{"b": "2", "a": "1"},
		IPAddress: "ip", Address: "addr", GossipAddress: "gossip", ComputerName: "host",
		PlatformType: "Linux", PlatformName: "Debian", PlatformVersion: "12", AgentVersion: "0"}
	const want = "a1458d1700e5a5dfc54db3fe3fd296ce0cb9002d466cd8a8fb5095868f357505"
	if got := EnrolmentProof("code", EnrolmentCanonical(e)); got != want {
		t.Errorf("proof %s, want %s", got, want)
	}
}

func TestJoinToken(t *testing.T) {
	token := JoinToken{ActivationID: "a8b3", Code: "c0de", Addresses: []string{"10.0.0.1:7947", "[fd00::1]:7947", "host:7947"},
		CAFingerprint: CertificateFingerprint(newTestCA(t, time.Now()).Certificate())}
	text := token.String()
	read, err := ParseJoinToken(" " + text + "\n")
	if err != nil || read.String() != text {
		t.Fatalf("read %+v, %v", read, err)
	}
	for i := range len(text) {
		if _, err := ParseJoinToken(text[:i]); err == nil {
			t.Fatalf("a token cut to %d characters is read", i)
		}
	}
	for name, change := range map[string]func(*JoinToken){
		"no activation":   func(t *JoinToken) { t.ActivationID = "" },
		"no code":         func(t *JoinToken) { t.Code = "" },
		"no address":      func(t *JoinToken) { t.Addresses = nil },
		"no port":         func(t *JoinToken) { t.Addresses = []string{"10.0.0.1"} },
		"port 0":          func(t *JoinToken) { t.Addresses = []string{"10.0.0.1:0"} },
		"no fingerprint":  func(t *JoinToken) { t.CAFingerprint = "" },
		"bad fingerprint": func(t *JoinToken) { t.CAFingerprint = "sha256:" + strings.Repeat("G", 64) },
		"many addresses":  func(t *JoinToken) { t.Addresses = make([]string, 100) },
	} {
		bad := token
		change(&bad)
		if _, err := ParseJoinToken(bad.String()); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// A joiner believes the CA of its token and no other.
func TestTLSConfigForJoin(t *testing.T) {
	now := time.Now()
	ca, other := newTestCA(t, now), newTestCA(t, now)
	serve := func(chain []*x509.Certificate, key *ecdsa.PrivateKey) string {
		t.Helper()
		cert := tls.Certificate{PrivateKey: key}
		for _, c := range chain {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}
		}()
		return l.Addr().String()
	}
	good, goodKey := issue(t, ca, nil)
	foreign, foreignKey := issue(t, other, nil)
	expired, expiredKey := issue(t, ca, func(r *IssueRequest) { r.Now = now.Add(-30 * 24 * time.Hour) })
	for _, test := range []struct {
		name  string
		chain []*x509.Certificate
		key   *ecdsa.PrivateKey
		ok    bool
	}{
		{"its mesh", good, goodKey, true},
		{"another mesh", foreign, foreignKey, false},
		{"another mesh that shows our CA", append(foreign[:1:1], ca.Certificate()), foreignKey, false},
		{"our mesh without its CA", good[:1], goodKey, false},
		{"our mesh, expired", expired, expiredKey, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", serve(test.chain, test.key), TLSConfigForJoin(CertificateFingerprint(ca.Certificate()), time.Now))
			if (err == nil) != test.ok {
				t.Fatalf("dial: %v, want success %t", err, test.ok)
			}
			if err == nil {
				_ = conn.Close()
			}
		})
	}
}

func TestCertificateRequest(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := NewCertificateRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ParseCertificateRequest(request)
	if err != nil || !key.PublicKey.Equal(pub) {
		t.Fatalf("key %v, %v", pub, err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherCurve, err := NewCertificateRequest(p384)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"another curve":   otherCurve,
		"a private key":   keyPEM,
		"two requests":    append(bytes.Clone(request), request...),
		"text before":     append([]byte("hello\n"), request...),
		"text after":      append(bytes.Clone(request), "hello"...),
		"cut":             request[:len(request)/2],
		"too long":        append(bytes.Clone(request), bytes.Repeat([]byte(" "), maxPEM)...),
		"a broken before": append([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"), request...),
	} {
		if _, err := ParseCertificateRequest(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
