package raftstore

import (
	"time"
)

// Node is an enrolled machine.
type Node struct {
	Meta
	// ID is mi- and 17 hex digits.
	ID string
	// Name is the node's name in the mesh (meshd --node-name, else the
	// activation's default name, else the host name).
	Name         string
	ComputerName string
	// CertificateNames are the host names in the node's certificates, in their
	// canonical form: those of its names that no other node had when it enrolled.
	// They never change, so that no node can take the name of another later.
	CertificateNames []string `json:",omitempty"`
	// PublicKey is the lower-case hex SHA-256 of PublicKeyDER, the key's
	// SubjectPublicKeyInfo: an enrolment is idempotent by it.
	PublicKey    string
	PublicKeyDER []byte
	// IPAddress is the bind address; Address is host:port of the TLS port and
	// GossipAddress host:port of gossip.
	IPAddress     string
	Address       string
	GossipAddress string

	ActivationID string
	IamRole      string
	RegisteredAt time.Time
	// MemberOnly nodes may never become voters.
	MemberOnly bool

	PlatformType    string // Linux
	PlatformName    string // Debian GNU/Linux
	PlatformVersion string // 12
	AgentVersion    string

	// CertificateEnds is the NotAfter of the newest certificate issued.
	CertificateEnds time.Time
	Tags            map[string]string
	// LastPing is when the node was last known alive, written when it is lost;
	// while it is alive gossip knows better.
	LastPing time.Time
}

const (
	nodePrefix       = "node/"
	nodeByKeyPrefix  = "node-by-key/"
	nodeVersion      = 1
	nodeByKeyVersion = 1
)

type nodeByKey struct{ ID string }

// GetNode returns the node with this id, or ErrNotFound.
func GetNode(r Reader, id string) (Node, error) {
	var n Node
	index, found, err := getRecord(r, nodePrefix+id, nodeVersion, &n)
	if err == nil && !found {
		err = ErrNotFound
	}
	n.ModifyIndex = index
	return n, err
}

// GetNodeByKey returns the node with this public key fingerprint, or ErrNotFound.
func GetNodeByKey(r Reader, publicKey string) (Node, error) {
	var ref nodeByKey
	_, found, err := getRecord(r, nodeByKeyPrefix+publicKey, nodeByKeyVersion, &ref)
	if err != nil {
		return Node{}, err
	}
	if !found {
		return Node{}, ErrNotFound
	}
	return GetNode(r, ref.ID)
}

// ScanNodes calls fn for each node with an id >= start, in order of ids, until
// fn returns false.
func ScanNodes(r Reader, start string, fn func(Node) bool) error {
	var failed error
	from := ""
	if start != "" {
		from = nodePrefix + start
	}
	r.Scan(nodePrefix, from, func(key string, value []byte, index uint64) bool {
		var n Node
		if failed = decodeRecord(key, value, nodeVersion, &n); failed != nil {
			return false
		}
		n.ModifyIndex = index
		return fn(n)
	})
	return failed
}

// NodePrefix is the prefix to watch for changes of enrolled nodes.
const NodePrefix = nodePrefix

// PutNode writes n and its index, requiring that it is unchanged since it was
// read (absent, for a new node).
func (t *Txn) PutNode(n Node) {
	t.Require(nodePrefix+n.ID, n.ModifyIndex)
	t.Put(nodePrefix+n.ID, encodeRecord(nodeVersion, n))
	if n.ModifyIndex == 0 {
		t.Require(nodeByKeyPrefix+n.PublicKey, 0)
		t.Put(nodeByKeyPrefix+n.PublicKey, encodeRecord(nodeByKeyVersion, nodeByKey{ID: n.ID}))
	}
}

// DeleteNode deletes n and its index, requiring that it is unchanged.
func (t *Txn) DeleteNode(n Node) {
	t.Require(nodePrefix+n.ID, n.ModifyIndex)
	t.Delete(nodePrefix + n.ID)
	t.Delete(nodeByKeyPrefix + n.PublicKey)
}
