package peer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// rosterView is a roster with its lookups made ready. It is immutable.
type rosterView struct {
	roster  raftstore.Roster
	members map[string]raftstore.RosterMember // by node id
	removed map[string]struct{}               // by key
}

func viewOf(roster raftstore.Roster) *rosterView {
	v := &rosterView{
		roster:  roster,
		members: make(map[string]raftstore.RosterMember, len(roster.Members)),
		removed: make(map[string]struct{}, len(roster.Removed)),
	}
	for _, m := range roster.Members {
		v.members[m.NodeID] = m
	}
	for _, k := range roster.Removed {
		v.removed[k.PublicKey] = struct{}{}
	}
	return v
}

// holds reports whether the roster names this very key for this node, as a voter
// or stand-by.
func (v *rosterView) holds(id pki.Identity) bool {
	m, ok := v.members[id.NodeID]
	return ok && m.PublicKey == id.PublicKey && !v.isRemoved(id)
}

func (v *rosterView) isRemoved(id pki.Identity) bool {
	_, ok := v.removed[id.PublicKey]
	return ok
}

// isVoter reports whether the holder may speak as a voter: the roster names the
// key and the certificate says so too. Either alone is not enough: the first can
// be old on this node, the second lasts until the certificate ends.
func (v *rosterView) isVoter(id pki.Identity) bool { return id.Voter && v.holds(id) }

// presented is a certificate that has passed verification, and so a fact that
// stays; what it is worth depends on roster and time.
type presented struct {
	id        pki.Identity
	notBefore time.Time
}

func (p presented) expired(now time.Time) bool {
	return now.Before(p.notBefore) || now.After(p.id.NotAfter)
}

// present verifies a chain: issued by our CA to a node of our mesh. Time is not
// looked at.
func present(ca *x509.Certificate, meshID string, chain []*x509.Certificate, now time.Time) (presented, error) {
	id, _, err := pki.VerifyChain(ca, chain, now)
	if err != nil {
		return presented{}, err
	}
	if id.MeshID != meshID {
		return presented{}, fmt.Errorf("the certificate is of mesh %s", id.MeshID)
	}
	return presented{id: id, notBefore: chain[0].NotBefore}, nil
}

// errRemoved refuses a key that was shut out.
var errRemoved = errors.New("this node was removed from the mesh")

// removedError is errRemoved with the node's id.
type removedError struct{ nodeID string }

func (e removedError) Error() string { return "node " + e.nodeID + " was removed from the mesh" }
func (e removedError) Unwrap() error { return errRemoved }

// mayConnect is the check of the peer protocol's handshake. Nearly all that it
// leaves open is closed per route.
func mayConnect(v *rosterView, p presented) error {
	if v.isRemoved(p.id) {
		return removedError{p.id.NodeID}
	}
	return nil
}

// mayStream is the check of the Raft protocol, in both directions. It goes by the
// roster's keys alone: an expired certificate does not stop Raft, or a mesh that
// was dark for longer than a certificate lasts could never renew any.
func mayStream(v *rosterView, p presented) error {
	if v.isRemoved(p.id) {
		return removedError{p.id.NodeID}
	}
	if !v.holds(p.id) {
		return fmt.Errorf("node %s is no voter or stand-by in version %d of the roster", p.id.NodeID, v.roster.Version)
	}
	return nil
}

// right is who may use a route.
type right int

const (
	// rightNode: any enrolled node with a certificate in its time.
	rightNode right = iota
	// rightRenew: rightNode, and nodes whose certificate is outside its time.
	rightRenew
	// rightLeader: voters and stand-bys of the roster. Between two members of the
	// roster also outside the certificate's time.
	rightLeader
)

// mayCall decides whether the holder of a certificate may use a route on the node
// self. A nil result is a yes.
func mayCall(r right, v *rosterView, self pki.Identity, p presented, now time.Time) *Refusal {
	forbid := func(format string, args ...any) *Refusal {
		return &Refusal{Kind: RefusedForbidden, Message: fmt.Sprintf(format, args...)}
	}
	if v.isRemoved(p.id) {
		return forbid("node %s was removed from the mesh", p.id.NodeID)
	}
	expired := p.expired(now)
	switch r {
	case rightRenew:
		return nil
	case rightLeader:
		if !v.isVoter(p.id) {
			return forbid("node %s is no voter in version %d of the roster", p.id.NodeID, v.roster.Version)
		}
		if expired && !v.holds(self) {
			return forbid("the certificate of node %s is outside its time", p.id.NodeID)
		}
		return nil
	default:
		if expired {
			return forbid("the certificate of node %s is outside its time: it may only renew it", p.id.NodeID)
		}
		return nil
	}
}

// looksLikeNewVoter reports whether this node's roster may be the older one: a
// voter's certificate, in its time, of a key that the roster does not know. It
// grants nothing; it is a reason to ask the voters that are known.
func looksLikeNewVoter(v *rosterView, p presented, now time.Time) bool {
	return p.id.Voter && !v.holds(p.id) && !v.isRemoved(p.id) && !p.expired(now)
}

// purpose is what an outgoing connection is for.
type purpose string

const (
	// toNode: the leader calls a node.
	toNode purpose = "node"
	// toLeader: this node calls the leader; what it sends is for voters only.
	toLeader purpose = "leader"
	// toRenew: as toLeader, but a server with an expired certificate is believed
	// too when the roster names its key.
	toRenew purpose = "renew"
	// toHinted: renewal at a leader that the roster does not know yet, because a
	// member of the roster named it.
	toHinted purpose = "hinted"
	// toRoster: asks a member of the roster for its roster.
	toRoster purpose = "roster"
	// toRemoved: the leader tells a node that it was removed, and nothing else. The
	// node's own key, though shut out, says that it is the one to be told.
	toRemoved purpose = "removed"
)

// mayServe decides whether a server that shows this certificate is the one meant:
// the client's side of trust. nodeID is the node that the caller means.
func mayServe(to purpose, nodeID string, v *rosterView, self pki.Identity, p presented, now time.Time) error {
	if p.id.NodeID != nodeID {
		return fmt.Errorf("node %s answers there, not %s", p.id.NodeID, nodeID)
	}
	if to == toRemoved {
		if !v.isRemoved(p.id) {
			return fmt.Errorf("node %s was not removed from the mesh", nodeID)
		}
		return nil
	}
	if v.isRemoved(p.id) {
		return fmt.Errorf("node %s was removed from the mesh", nodeID)
	}
	expired := p.expired(now)
	switch to {
	case toRenew, toRoster:
		if !v.holds(p.id) {
			return fmt.Errorf("node %s is no voter or stand-by in version %d of the roster", nodeID, v.roster.Version)
		}
		return nil
	case toHinted:
		if !p.id.Voter || expired {
			return fmt.Errorf("node %s shows no valid certificate of a voter", nodeID)
		}
		return nil
	case toLeader:
		if !v.isVoter(p.id) {
			return fmt.Errorf("node %s is no voter in version %d of the roster", nodeID, v.roster.Version)
		}
	}
	if expired && !(v.holds(p.id) && v.holds(self)) {
		return fmt.Errorf("the certificate of node %s is outside its time", nodeID)
	}
	return nil
}
