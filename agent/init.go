package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"
	"go.yaml.in/yaml/v3"

	"fleetmesh/internal/durable"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// InitOptions is what `meshd init` is told.
type InitOptions struct {
	Config   Config
	MeshName string // default "mesh"
	Tags     map[string]string
	// AdminConfig is where the administrator's access goes; default admin.yaml in
	// the directory.
	AdminConfig string
}

// InitResult is what `meshd init` made.
type InitResult struct {
	MeshID      string
	NodeID      string
	AdminConfig string
}

// AdminConfig is the file that gives a person access to the mesh; meshctl reads
// it. It is self-contained and works when copied to another machine.
type AdminConfig struct {
	MeshName        string   `yaml:"mesh_name"`
	MeshID          string   `yaml:"mesh_id"`
	Endpoints       []string `yaml:"endpoints"`
	CA              string   `yaml:"ca"`
	AccessKeyID     string   `yaml:"access_key_id"`
	SecretAccessKey string   `yaml:"secret_access_key"`
}

// Init makes a mesh: its CA, keys, first node and administrator. It is refused
// on a directory that holds a node (ErrDirectoryComplete); what an unfinished
// init left is made anew, since nobody can have been told of it.
func Init(ctx context.Context, o InitOptions) (InitResult, error) {
	if err := o.Config.complete(); err != nil {
		return InitResult{}, err
	}
	if o.MeshName == "" {
		o.MeshName = "mesh"
	}
	if err := checkTags(o.Tags); err != nil {
		return InitResult{}, err
	}
	dir := directory(o.Config.DataDir)
	unlock, err := dir.claim()
	if err != nil {
		return InitResult{}, err
	}
	defer unlock()
	if unfinished, err := dir.unfinishedJoin(); err != nil {
		return InitResult{}, err
	} else if unfinished {
		return InitResult{}, fmt.Errorf("%s holds an unfinished `meshd join`; finish it, or delete the directory", string(dir))
	}
	if err := dir.clearUnfinishedInit(); err != nil {
		return InitResult{}, fmt.Errorf("clear an unfinished init: %w", err)
	}

	now := o.Config.now()
	birth, err := newMesh(o, now)
	if err != nil {
		return InitResult{}, err
	}
	if err := birth.write(ctx, dir, o.Config); err != nil {
		return InitResult{}, err
	}
	adminPath := firstOf(o.AdminConfig, dir.admin())
	admin, err := yaml.Marshal(birth.admin)
	if err != nil {
		return InitResult{}, fmt.Errorf("encode the administrator's access: %w", err)
	}
	if err := durable.WriteFile(adminPath, admin); err != nil {
		return InitResult{}, err
	}
	// Last, and with it the directory is complete.
	if err := writeJSON(dir.identityFile(), birth.facts); err != nil {
		return InitResult{}, err
	}
	return InitResult{MeshID: birth.facts.MeshID, NodeID: birth.facts.NodeID, AdminConfig: adminPath}, nil
}

// birth is everything a new mesh is made of, before any of it is on disk.
type birth struct {
	facts       identityFacts
	keyPEM      []byte
	caPEM       []byte
	certificate []byte
	meshKey     pki.MeshKey
	gossipKey   []byte
	roster      raftstore.Roster
	records     raftstore.Txn
	admin       AdminConfig
}

func newMesh(o InitOptions, now time.Time) (*birth, error) {
	b := &birth{facts: identityFacts{Version: identityVersion, MeshID: uuid.NewString(), MeshName: o.MeshName, NodeID: newNodeID()}}
	b.meshKey = pki.NewMeshKey()
	ca, err := pki.NewCA(o.MeshName, b.facts.MeshID, now)
	if err != nil {
		return nil, fmt.Errorf("make the mesh's CA: %w", err)
	}
	caKey, err := ca.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("make the mesh's CA: %w", err)
	}
	b.caPEM = ca.CertificatePEM()

	key, err := pki.NewKey()
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	if b.keyPEM, err = pki.MarshalKey(key); err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	fingerprint, err := pki.PublicKeyFingerprint(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	var names []string
	if name, ok := pki.HostName(o.Config.NodeName); ok {
		names = append(names, name)
	}
	b.certificate, err = ca.Issue(pki.IssueRequest{
		MeshID: b.facts.MeshID, NodeID: b.facts.NodeID, Voter: true, PublicKey: key.Public(),
		Addresses: []net.IP{net.ParseIP(o.Config.Bind)}, Names: names,
		Now: now, Lifetime: pki.CertificateLifetime,
	})
	if err != nil {
		return nil, fmt.Errorf("issue the first certificate: %w", err)
	}
	account, err := newAccountID()
	if err != nil {
		return nil, err
	}
	b.gossipKey = randomBytes(32)
	facts := nodeFacts(o.Config)
	b.roster = raftstore.Roster{
		Version: 1, MeshID: b.facts.MeshID,
		Members: []raftstore.RosterMember{{NodeID: b.facts.NodeID, Address: facts.Address, PublicKey: fingerprint}},
	}
	b.records.PutMesh(raftstore.Mesh{
		ID: b.facts.MeshID, Name: o.MeshName, AccountID: account, CreatedAt: now.UTC(), Epoch: 1,
		CACertificate: b.caPEM, SealedCAKey: b.meshKey.Seal(caKey, sealCAKey),
	})
	b.records.PutRoster(b.roster)
	keyID := gossipKeyID(b.gossipKey)
	b.records.PutKeyring(raftstore.Keyring{Version: 1, Keys: []raftstore.GossipKey{{ID: keyID, Sealed: b.meshKey.Seal(b.gossipKey, sealGossipKey+keyID)}}})
	b.records.PutNode(raftstore.Node{
		ID: b.facts.NodeID, Name: o.Config.NodeName, ComputerName: facts.ComputerName, CertificateNames: names,
		PublicKey: fingerprint, PublicKeyDER: der,
		IPAddress: facts.IPAddress, Address: facts.Address, GossipAddress: facts.GossipAddress,
		RegisteredAt: now.UTC(), PlatformType: facts.PlatformType, PlatformName: facts.PlatformName, PlatformVersion: facts.PlatformVersion,
		AgentVersion: facts.AgentVersion, CertificateEnds: now.Add(pki.CertificateLifetime).UTC(), Tags: o.Tags,
	})
	secret := base64.RawURLEncoding.EncodeToString(randomBytes(30))
	b.admin = AdminConfig{
		MeshName: o.MeshName, MeshID: b.facts.MeshID,
		Endpoints:   []string{"https://" + facts.Address},
		CA:          string(b.caPEM),
		AccessKeyID: newAccessKeyID(), SecretAccessKey: secret,
	}
	b.records.PutAccessKey(raftstore.AccessKey{
		ID: b.admin.AccessKeyID, SealedSecret: b.meshKey.Seal([]byte(secret), sealAccessKey+b.admin.AccessKeyID),
		UserName: "admin", Administrator: true, CreatedAt: now.UTC(),
	})
	b.records.PutAudit(raftstore.AuditEntry{ID: uuid.NewString(), Time: now.UTC(), Operation: "init", Caller: "root@" + b.facts.NodeID, Resource: b.facts.MeshID})
	return b, nil
}

// Purposes bind a sealed secret to the record that it belongs to.
const (
	sealCAKey     = "ca-key"
	sealGossipKey = "gossip-key/"
	sealAccessKey = "access-key/"
)

// write puts everything but identity.json on disk; the mesh key comes first, see
// unfinishedJoin.
func (b *birth) write(ctx context.Context, dir directory, config Config) error {
	for _, file := range []struct {
		path string
		data []byte
	}{
		{dir.meshKey(), encodeMeshKey(b.meshKey)}, {dir.nodeKey(), b.keyPEM}, {dir.certificate(), b.certificate}, {dir.caFile(), b.caPEM},
	} {
		if err := durable.WriteFile(file.path, file.data); err != nil {
			return err
		}
	}
	if err := writeJSON(dir.gossipKeys(), gossipKeysFile{Version: 1, Keys: [][]byte{b.gossipKey}}); err != nil {
		return err
	}
	settings, err := config.encode()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(ConfigPath(string(dir)), settings); err != nil {
		return err
	}
	store, err := raftstore.Open(raftstore.Config{
		Dir: dir.store(), NodeID: b.facts.NodeID, Address: config.Address(),
		Stream: newIdleStream(config.Address()), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	if err := store.Bootstrap(b.records); err != nil {
		store.Close()
		return fmt.Errorf("write the first records: %w", err)
	}
	return store.Close()
}

// idleStream is Raft's network while a mesh is made: the only voter is alone.
type idleStream struct {
	address net.Addr
	closed  chan struct{}
}

func newIdleStream(address string) *idleStream {
	return &idleStream{address: streamAddress(address), closed: make(chan struct{})}
}

func (s *idleStream) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

func (s *idleStream) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func (s *idleStream) Addr() net.Addr { return s.address }

func (s *idleStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.New("a mesh of one node dials nobody")
}

// streamAddress is the host:port that Raft knows a node by.
type streamAddress string

func (a streamAddress) Network() string { return "tcp" }
func (a streamAddress) String() string  { return string(a) }

func newNodeID() string { return "mi-" + hex.EncodeToString(randomBytes(9))[:17] }

func newAccessKeyID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	id := []byte("FMKA")
	for _, b := range randomBytes(16) {
		id = append(id, alphabet[int(b)%len(alphabet)])
	}
	return string(id)
}

func newAccountID() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000_000))
	if err != nil {
		return "", fmt.Errorf("make the account id: %w", err)
	}
	return fmt.Sprintf("%012d", n.Int64()+100_000_000_000), nil
}

// gossipKeyID is how people speak of a gossip key.
func gossipKeyID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand, since Go 1.24)
	return b
}
