package raftstore

import "time"

// Roster says whose word counts: the voters and stand-bys with their keys, and
// the keys that are shut out. The leader pushes it to every node, which keeps it
// on disk; a higher Version replaces a lower one.
type Roster struct {
	Meta
	Version uint64
	MeshID  string
	Members []RosterMember
	Removed []RemovedKey
}

// RosterMember is a voter or stand-by: a node that holds the store.
type RosterMember struct {
	NodeID string
	// Address is host:port of the TLS port.
	Address string
	// PublicKey is the lower-case hex SHA-256 of the key's SubjectPublicKeyInfo.
	PublicKey string
	// StandBy is true while the node follows without a vote.
	StandBy bool
}

// RemovedKey is a key that was enrolled and is no more.
type RemovedKey struct {
	NodeID    string
	PublicKey string
	RemovedAt time.Time
	// Address is where the node last was, so that it can be told when it is back.
	Address string `json:",omitempty"`
}

const (
	rosterKey     = "roster"
	rosterVersion = 1
)

// RosterKey is the key to watch for changes of the roster.
const RosterKey = rosterKey

// RosterPrefix is the prefix to watch for changes of the roster.
const RosterPrefix = rosterKey

// GetRoster returns the roster, ErrNotFound before it is written.
func GetRoster(r Reader) (Roster, error) {
	var roster Roster
	index, found, err := getRecord(r, rosterKey, rosterVersion, &roster)
	if err == nil && !found {
		err = ErrNotFound
	}
	roster.ModifyIndex = index
	return roster, err
}

// PutRoster writes the roster as it is (the caller raises Version), requiring
// that it is unchanged since it was read.
func (t *Txn) PutRoster(roster Roster) {
	t.Require(rosterKey, roster.ModifyIndex)
	t.Put(rosterKey, encodeRecord(rosterVersion, roster))
}

// Member returns the roster's entry for a node.
func (r Roster) Member(nodeID string) (RosterMember, bool) {
	for _, m := range r.Members {
		if m.NodeID == nodeID {
			return m, true
		}
	}
	return RosterMember{}, false
}

// IsRemoved reports whether the key with this fingerprint is shut out.
func (r Roster) IsRemoved(publicKey string) bool {
	for _, k := range r.Removed {
		if k.PublicKey == publicKey {
			return true
		}
	}
	return false
}
