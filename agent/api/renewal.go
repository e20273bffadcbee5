package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// Renew gives an enrolled node a new certificate for its key and takes its facts
// in. It is for the leader; on another node it returns a *peer.Refusal that names
// the leader. The peer server has checked the caller's key.
func (f *Face) Renew(ctx context.Context, from peer.Caller, in *peer.RenewRequest) (*peer.RenewResponse, error) {
	store := f.cfg.Store()
	if store == nil || !store.IsLeader() {
		return nil, f.notLeader(store)
	}
	if !from.Voter && !f.paces.take(from.NodeID, f.cfg.Now()) {
		return nil, &peer.Refusal{Kind: peer.RefusedUnavailable, Message: "this node renews its certificate too often"}
	}
	for attempt := 1; ; attempt++ {
		c := &call{
			face: f, store: store, from: from, id: uuid.NewString(), who: caller{name: from.NodeID},
			in: &peer.ForwardRequest{SourceIP: sourceIP(from.RemoteAddress)},
		}
		var out *peer.RenewResponse
		err := c.view(ctx, func() (err error) {
			out, err = c.renew(in)
			return err
		})
		if err == nil {
			_, err = store.Apply(ctx, c.txn)
			err = noLeader(err)
		}
		var refused *peer.Refusal
		switch {
		case err == nil:
			return out, nil
		case errors.As(err, &refused):
			return nil, refused
		case errors.Is(err, raftstore.ErrConflict) && attempt < maxAttempts:
		case errors.Is(err, raftstore.ErrConflict), errors.Is(err, raftstore.ErrUnknownOutcome), errors.Is(err, errUnavailable):
			return nil, &peer.Refusal{Kind: peer.RefusedUnavailable, Message: "the mesh cannot write at the moment"}
		case errors.Is(err, raftstore.ErrNotLeader):
			return nil, f.notLeader(store)
		case isRefusal(err):
			return nil, &peer.Refusal{Kind: peer.RefusedInput, Message: err.Error()}
		default:
			return nil, fmt.Errorf("renew the certificate of %s: %w", from.NodeID, err)
		}
	}
}

func (c *call) renew(in *peer.RenewRequest) (*peer.RenewResponse, error) {
	node, err := raftstore.GetNode(c, c.from.NodeID)
	if errors.Is(err, raftstore.ErrNotFound) || err == nil && node.PublicKey != c.from.PublicKey {
		return nil, &peer.Refusal{Kind: peer.RefusedForbidden, Message: "this key is not enrolled in the mesh"}
	}
	if err != nil {
		return nil, err
	}
	roster, err := raftstore.GetRoster(c)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	if err := checkFacts(in.Facts); err != nil {
		return nil, err
	}
	if hostOf(in.Facts.Address) != hostOf(node.Address) {
		if err := c.checkAddressFree(in.Facts.Address, node.ID); err != nil {
			return nil, err
		}
	}
	applyFacts(&node, in.Facts)
	public, err := x509.ParsePKIXPublicKey(node.PublicKeyDER)
	if err != nil {
		return nil, fmt.Errorf("read the key of %s: %w", node.ID, err)
	}
	out := &peer.RenewResponse{Roster: roster}
	if out.Certificate, err = c.issue(&node, roster, public); err != nil {
		return nil, err
	}
	if out.GossipKeys, out.KeyringVersion, err = c.gossipKeys(); err != nil {
		return nil, err
	}
	c.txn.PutNode(node)
	c.resource = node.ID
	c.audit("renew", nil)
	return out, nil
}
