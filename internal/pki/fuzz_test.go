package pki

import (
	"net/url"
	"testing"
	"time"
)

func FuzzParseJoinToken(f *testing.F) {
	token := JoinToken{ActivationID: "a", Code: "c", Addresses: []string{"10.0.0.1:7947"},
		CAFingerprint: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
	f.Add(token.String())
	f.Add(tokenPrefix)
	f.Add("fmjoin1_AAAAAHt9")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseJoinToken(text)
		if err != nil {
			return
		}
		again, err := ParseJoinToken(token.String())
		if err != nil || again.String() != token.String() {
			t.Fatalf("%+v does not come back: %+v, %v", token, again, err)
		}
	})
}

func FuzzParseCertificateRequest(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	request, err := NewCertificateRequest(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pub, err := ParseCertificateRequest(data)
		if err != nil {
			return
		}
		if _, err := PublicKeyFingerprint(pub); err != nil {
			t.Fatalf("an accepted key has no fingerprint: %v", err)
		}
	})
}

func FuzzParseChain(f *testing.F) {
	ca, err := NewCA("fuzz", testMesh, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.CertificatePEM())
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, err := ParseChain(data)
		if err != nil {
			return
		}
		_, _, _ = VerifyChain(ca.Certificate(), chain, time.Now())
	})
}

func FuzzIdentityURI(f *testing.F) {
	f.Add("spiffe://" + testMesh + "/node/" + testNode)
	f.Add("spiffe://" + testMesh + "/voter/" + testNode + "?x")
	f.Add("spiffe://" + testMesh + "/voter%2f" + testNode)
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := url.Parse(text)
		if err != nil {
			return
		}
		id, err := parseIdentityURI(uri)
		if err != nil {
			return
		}
		if got := identityURI(id.MeshID, id.NodeID, id.Voter).String(); got != uri.String() {
			t.Fatalf("%q is read as %q", text, got)
		}
	})
}
