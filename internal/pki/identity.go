package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Identity is what a certificate says of its holder. Whether the mesh still
// agrees is for the roster to say.
type Identity struct {
	MeshID string
	NodeID string
	// Voter is true for a certificate issued to a voter or stand-by.
	Voter bool
	// PublicKey is the key's fingerprint.
	PublicKey string
	NotAfter  time.Time
}

// IdentityOf reads the identity out of a certificate. It checks form only: use
// VerifyChain for a certificate that came from elsewhere.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("the certificate has %d URIs where one names the node", len(cert.URIs))
	}
	id, err := parseIdentityURI(cert.URIs[0])
	if err != nil {
		return Identity{}, err
	}
	if id.PublicKey, err = PublicKeyFingerprint(cert.PublicKey); err != nil {
		return Identity{}, err
	}
	id.NotAfter = cert.NotAfter
	return id, nil
}

// VerifyChain checks that chain[0] was issued by this CA for a node and returns
// who it names. A certificate outside its time is no error: expired says so, and
// the caller decides what such a certificate may still do. The rest of the chain
// is not looked at, for the CA signs nodes directly.
//
// The mesh id is returned, not compared.
func VerifyChain(ca *x509.Certificate, chain []*x509.Certificate, now time.Time) (id Identity, expired bool, err error) {
	if len(chain) == 0 {
		return Identity{}, false, errors.New("no certificate was presented")
	}
	leaf := chain[0]
	if leaf.IsCA {
		return Identity{}, false, errors.New("the certificate is that of a CA, not of a node")
	}
	if err := checkPublicKey(leaf.PublicKey); err != nil {
		return Identity{}, false, err
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			return Identity{}, false, errors.New("the certificate is not for nodes")
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	// Verified at a moment inside its own time, so that only time is forgiven.
	at := now
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: at,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return Identity{}, false, fmt.Errorf("the certificate is not one of this mesh: %w", err)
	}
	if id, err = IdentityOf(leaf); err != nil {
		return Identity{}, false, err
	}
	return id, now.Before(leaf.NotBefore) || now.After(leaf.NotAfter), nil
}

func checkPublicKey(pub crypto.PublicKey) error {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return errors.New("the key is not a P-256 key")
	}
	return nil
}

func identityURI(meshID, nodeID string, voter bool) *url.URL {
	role := "node"
	if voter {
		role = "voter"
	}
	return &url.URL{Scheme: "spiffe", Host: meshID, Path: "/" + role + "/" + nodeID}
}

func parseIdentityURI(uri *url.URL) (Identity, error) {
	role, nodeID, ok := strings.Cut(strings.TrimPrefix(uri.Path, "/"), "/")
	id := Identity{MeshID: uri.Host, NodeID: nodeID, Voter: role == "voter"}
	if !ok || (role != "node" && role != "voter") || !validMeshID(id.MeshID) || !validNodeID(id.NodeID) ||
		// Only what identityURI writes: no user, query, fragment or odd escapes.
		uri.String() != identityURI(id.MeshID, id.NodeID, id.Voter).String() {
		return Identity{}, fmt.Errorf("the certificate's URI %q does not name a node", uri)
	}
	return id, nil
}

// validMeshID accepts what is safe as the host of a URI: letters, digits and
// hyphens, as in a UUID.
func validMeshID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// validNodeID accepts mi- and 17 lower-case hex digits.
func validNodeID(id string) bool {
	digits, ok := strings.CutPrefix(id, "mi-")
	if !ok || len(digits) != 17 {
		return false
	}
	for _, c := range []byte(digits) {
		if (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
