package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// CertificateLifetime is how long a node's certificate is valid. Shorter ends a
	// stolen key sooner on nodes that are cut off, and renews more often.
	CertificateLifetime = 7 * 24 * time.Hour

	// BackDate is how far before its issue a node's certificate begins, so that a
	// clock that is behind by less does no harm.
	BackDate = 24 * time.Hour

	// caBackDate is BackDate for the CA: more, so that a certificate issued by a
	// node whose clock is behind the founder's still begins after the CA does.
	caBackDate = 30 * 24 * time.Hour
	// caLifetime is longer than machines live: a CA is replaced by the rotation in
	// docs/security.md, not by running out.
	caLifetime = 50 * 365 * 24 * time.Hour
)

// CA signs the certificates of a mesh. It is immutable and safe for concurrent
// use. Its key is on voters and stand-bys only, sealed in the store.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes the CA of a new mesh.
func NewCA(meshName, meshID string, now time.Time) (*CA, error) {
	if !validMeshID(meshID) {
		return nil, fmt.Errorf("make CA: %q cannot be a mesh id", meshID)
	}
	key, err := NewKey()
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The name is unique to the mesh: a client that trusts several meshes finds
		// the right CA by it.
		Subject:               pkix.Name{CommonName: "fleetmesh CA " + meshID, Organization: []string{meshName}},
		NotBefore:             now.Add(-caBackDate),
		NotAfter:              now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// LoadCA puts a CA together from its parts and checks that they belong together.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	cert, err := ParseCACertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("load CA: the key is not that of the certificate")
	}
	return &CA{cert: cert, key: key}, nil
}

// ParseCACertificate decodes the CA's certificate from PEM.
func ParseCACertificate(certPEM []byte) (*x509.Certificate, error) {
	der, err := onePEM(certPEM, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("decode CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("decode CA certificate: %w", err)
	}
	if !cert.IsCA {
		return nil, errors.New("decode CA certificate: it is not the certificate of a CA")
	}
	return cert, nil
}

// CertificatePEM is the CA's certificate.
func (c *CA) CertificatePEM() []byte { return certificatePEM(c.cert) }

// KeyPEM is the CA's private key, in the clear: seal it before it is kept.
func (c *CA) KeyPEM() ([]byte, error) { return MarshalKey(c.key) }

// Certificate is the CA's certificate.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// IssueRequest says what a node's certificate shall say. The caller answers for
// every field: Issue signs what it is told.
type IssueRequest struct {
	MeshID    string
	NodeID    string
	Voter     bool
	PublicKey crypto.PublicKey
	// Addresses and Names are what API clients may call the node; 127.0.0.1 and
	// localhost are always added. A name that cannot be a host name is left out.
	Addresses []net.IP
	Names     []string
	Now       time.Time
	Lifetime  time.Duration
}

// Issue signs a node's certificate and returns the chain.
func (c *CA) Issue(r IssueRequest) (chainPEM []byte, err error) {
	if err := checkPublicKey(r.PublicKey); err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", r.NodeID, err)
	}
	if !validMeshID(r.MeshID) || !validNodeID(r.NodeID) {
		return nil, fmt.Errorf("issue certificate: mesh %q, node %q: not ids", r.MeshID, r.NodeID)
	}
	if r.Lifetime <= 0 {
		return nil, fmt.Errorf("issue certificate for %s: lifetime %s", r.NodeID, r.Lifetime)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", r.NodeID, err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: r.NodeID},
		NotBefore:             r.Now.Add(-BackDate),
		NotAfter:              r.Now.Add(r.Lifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{identityURI(r.MeshID, r.NodeID, r.Voter)},
		DNSNames:              hostNames(r.Names),
		IPAddresses:           addresses(r.Addresses),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, r.PublicKey, c.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", r.NodeID, err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(leaf, c.CertificatePEM()...), nil
}

// ParseChain decodes a PEM chain, the node's certificate first.
func ParseChain(chainPEM []byte) ([]*x509.Certificate, error) {
	blocks, err := allPEM(chainPEM, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("decode certificate chain: %w", err)
	}
	chain := make([]*x509.Certificate, len(blocks))
	for i, der := range blocks {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("decode certificate chain: %w", err)
		}
	}
	return chain, nil
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// newSerial draws 127 random bits: positive, at most 16 bytes, never twice.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

// addresses returns 127.0.0.1 and the given ones, each once.
func addresses(given []net.IP) []net.IP {
	out := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, ip := range given {
		// An unspecified address (0.0.0.0) names every machine and so none.
		if ip.To16() == nil || ip.IsUnspecified() || slices.ContainsFunc(out, ip.Equal) {
			continue
		}
		out = append(out, ip)
	}
	return out
}

// hostNames returns localhost and those of the given names that are host names,
// each once.
func hostNames(given []string) []string {
	out := []string{localhost}
	for _, name := range given {
		if name, ok := HostName(name); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// localhost is what every node may be called by its own machine.
const localhost = "localhost"

// HostName is a name in the one form that certificates have it in: lower case,
// without a dot at the end. ok is false for what cannot be a host name, such as an
// address. Whoever compares the names of nodes compares these.
func HostName(name string) (canonical string, ok bool) {
	canonical = strings.ToLower(strings.TrimSuffix(name, "."))
	return canonical, isHostName(canonical) && net.ParseIP(canonical) == nil
}

func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
