package agent

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"fleetmesh/internal/durable"
	"fleetmesh/internal/pki"
)

// identityVersion is the format of identity.json.
const identityVersion = 1

// identityFacts is identity.json: who this node is. It never changes.
type identityFacts struct {
	Version  int
	MeshID   string
	MeshName string
	NodeID   string
}

// Identity is who this node is and what it holds to prove it. It implements
// peer.Credentials; the certificate and the mesh key may change at any time.
type Identity struct {
	dir   directory
	facts identityFacts
	key   *ecdsa.PrivateKey
	ca    *x509.Certificate
	caPEM []byte

	mu          sync.RWMutex
	certificate *tls.Certificate
	proven      pki.Identity
	meshKey     *pki.MeshKey
}

func loadIdentity(dir directory) (*Identity, error) {
	complete, err := dir.complete()
	if err != nil {
		return nil, err
	}
	if !complete {
		return nil, fmt.Errorf("%w: %s; make a mesh with `meshd init` or enrol with `meshd join`", ErrNoNode, string(dir))
	}
	id := &Identity{dir: dir}
	if err := readJSON(dir.identityFile(), &id.facts); err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if id.facts.Version != identityVersion {
		return nil, fmt.Errorf("load identity: %s has format %d and this program reads %d", dir.identityFile(), id.facts.Version, identityVersion)
	}
	keyPEM, err := os.ReadFile(dir.nodeKey())
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if id.key, err = pki.ParseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", dir.nodeKey(), err)
	}
	if id.caPEM, err = os.ReadFile(dir.caFile()); err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if id.ca, err = parseCertificate(id.caPEM); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", dir.caFile(), err)
	}
	chain, err := os.ReadFile(dir.certificate())
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if err := id.use(chain); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w; put the file back, or remove this node from the mesh (meshctl node remove), move its directory away and let it join again", dir.certificate(), err)
	}
	switch text, err := os.ReadFile(dir.meshKey()); {
	case errors.Is(err, fs.ErrNotExist): // a plain member
	case err != nil:
		return nil, fmt.Errorf("load identity: %w", err)
	default:
		key, err := decodeMeshKey(text)
		if err != nil {
			return nil, fmt.Errorf("load identity: %s: %w", dir.meshKey(), err)
		}
		id.meshKey = &key
	}
	return id, nil
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate in it")
	}
	return x509.ParseCertificate(block.Bytes)
}

func decodeMeshKey(text []byte) (pki.MeshKey, error) {
	var key pki.MeshKey
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(raw) != len(key) {
		return key, fmt.Errorf("it must be %d bytes in base64", len(key))
	}
	copy(key[:], raw)
	return key, nil
}

func encodeMeshKey(key pki.MeshKey) []byte {
	return []byte(base64.StdEncoding.EncodeToString(key[:]))
}

// use takes a certificate chain for this node's key into use, in memory.
func (id *Identity) use(chainPEM []byte) error {
	keyPEM, err := pki.MarshalKey(id.key)
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("the certificate does not fit the node's key: %w", err)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return err
	}
	certificate.Leaf = leaf
	proven, err := pki.IdentityOf(leaf)
	if err != nil {
		return err
	}
	if proven.MeshID != id.facts.MeshID || proven.NodeID != id.facts.NodeID {
		return fmt.Errorf("the certificate is for node %s of mesh %s, this is node %s of mesh %s", proven.NodeID, proven.MeshID, id.facts.NodeID, id.facts.MeshID)
	}
	if err := leaf.CheckSignatureFrom(id.ca); err != nil {
		return fmt.Errorf("the certificate is not signed by this mesh's CA: %w", err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.certificate, id.proven = &certificate, proven
	return nil
}

// Replace takes a new certificate into use and keeps it.
func (id *Identity) Replace(chainPEM []byte) error {
	if err := id.use(chainPEM); err != nil {
		return fmt.Errorf("take the new certificate: %w", err)
	}
	return durable.WriteFile(id.dir.certificate(), chainPEM)
}

// TakeMeshKey keeps the mesh key: this node is to hold the store.
func (id *Identity) TakeMeshKey(raw []byte) error {
	var key pki.MeshKey
	if len(raw) != len(key) {
		return fmt.Errorf("take the mesh key: it must have %d bytes, not %d", len(key), len(raw))
	}
	copy(key[:], raw)
	if err := durable.WriteFile(id.dir.meshKey(), encodeMeshKey(key)); err != nil {
		return fmt.Errorf("take the mesh key: %w", err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.meshKey = &key
	return nil
}

// DropMeshKey forgets the mesh key: this node holds the store no more.
func (id *Identity) DropMeshKey() error {
	id.mu.Lock()
	id.meshKey = nil
	id.mu.Unlock()
	if err := os.Remove(id.dir.meshKey()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop the mesh key: %w", err)
	}
	return durable.SyncDir(filepath.Dir(id.dir.meshKey()))
}

// MeshKey returns the mesh key; ok is false on a plain member.
func (id *Identity) MeshKey() (key pki.MeshKey, ok bool) {
	id.mu.RLock()
	defer id.mu.RUnlock()
	if id.meshKey == nil {
		return key, false
	}
	return *id.meshKey, true
}

// Certificate implements peer.Credentials.
func (id *Identity) Certificate() (*tls.Certificate, error) {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.certificate, nil
}

// CA implements peer.Credentials.
func (id *Identity) CA() *x509.Certificate { return id.ca }

// Identity implements peer.Credentials: what the certificate in use says.
func (id *Identity) Identity() pki.Identity {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.proven
}

// NodeID is this node's id.
func (id *Identity) NodeID() string { return id.facts.NodeID }

// MeshID is the mesh's id.
func (id *Identity) MeshID() string { return id.facts.MeshID }

// gossipKeysFile is gossip/keys.json: the ring as this node knows it.
type gossipKeysFile struct {
	Version uint64
	Keys    [][]byte // base64 in JSON; the first encrypts
}
