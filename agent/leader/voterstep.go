package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// execute performs one step. Every part of it can be repeated, also by another
// leader that finds it half done; index guards the change of Raft's servers.
func (v *voterLoop) execute(ctx context.Context, s step, index uint64) error {
	node, enrolled := v.enrolled[s.nodeID]
	store := v.cfg.Store
	switch s.kind {
	case stepPrepare:
		return v.prepare(ctx, node, index)
	case stepPromote:
		if err := v.settled(ctx, index, store.AddVoter(ctx, node.ID, node.Address, index)); err != nil {
			return err
		}
		return v.agree(ctx, s)
	case stepDemote:
		if err := v.settled(ctx, index, store.Demote(ctx, node.ID, index)); err != nil {
			return err
		}
		return v.agree(ctx, s)
	case stepReaddress:
		add := store.AddNonvoter
		if v.votes(node.ID) {
			add = store.AddVoter
		}
		if err := v.settled(ctx, index, add(ctx, node.ID, node.Address, index)); err != nil {
			return err
		}
		return v.agree(ctx, s)
	case stepRoster:
		return v.agree(ctx, s)
	case stepHandOver:
		return store.TransferLeadership(ctx)
	case stepRemove:
		// The roster first: a node that is listed and no server is one whose
		// preparation was not finished, never one whose removal was not.
		err := v.updateRoster(ctx, s, func(r *raftstore.Roster) {
			r.Members = slices.DeleteFunc(r.Members, func(m raftstore.RosterMember) bool { return m.NodeID == s.nodeID })
		})
		if err != nil {
			return err
		}
		if v.serves(s.nodeID) {
			if err := v.settled(ctx, index, store.Remove(ctx, s.nodeID, index)); err != nil {
				return err
			}
		}
		if enrolled {
			v.push.demote(s.nodeID) // now, or when it is back
		}
	}
	return nil
}

// settled waits, after a change of the servers was committed, until this node's own
// store shows it: the next plan must not be made of the servers before it.
func (v *voterLoop) settled(ctx context.Context, before uint64, err error) error {
	for err == nil {
		var index uint64
		if _, index, err = v.cfg.Store.Servers(); err != nil || index > before {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("see the change of the servers: %w", ctx.Err())
		case <-time.After(settledPause):
		}
	}
	return err
}

const settledPause = 2 * time.Millisecond

func (v *voterLoop) serves(id string) bool {
	servers, _, err := v.cfg.Store.Servers()
	return err == nil && slices.ContainsFunc(servers, func(s raftstore.Server) bool { return s.ID == id })
}

func (v *voterLoop) votes(id string) bool {
	servers, _, err := v.cfg.Store.Servers()
	return err == nil && slices.ContainsFunc(servers, func(s raftstore.Server) bool { return s.ID == id && s.Voter })
}

// prepare makes a node a stand-by. It is in the roster first, so that from then on
// its key may hold the store; the servers are changed last, so that Raft counts on
// nobody who cannot follow.
func (v *voterLoop) prepare(ctx context.Context, node raftstore.Node, index uint64) error {
	if !v.push.claim(node.ID) {
		return fmt.Errorf("node %s is still being relieved of an old store", node.ID)
	}
	defer v.push.release(node.ID)
	err := v.updateRoster(ctx, step{stepPrepare, node.ID, ""}, func(r *raftstore.Roster) {
		r.Members = slices.DeleteFunc(r.Members, func(m raftstore.RosterMember) bool { return m.NodeID == node.ID })
		r.Members = append(r.Members, raftstore.RosterMember{NodeID: node.ID, Address: node.Address, PublicKey: node.PublicKey, StandBy: true})
	})
	if err != nil {
		return err
	}
	roster, err := v.roster()
	if err != nil {
		return err
	}
	to := peer.Target{NodeID: node.ID, Address: node.Address}
	if err := v.cfg.Peers.Roster(ctx, to, &peer.RosterRequest{Fence: v.fence(), Roster: roster}); err != nil {
		return fmt.Errorf("give the roster to %s: %w", node.ID, err)
	}
	certificate, err := v.cfg.IssueVoterCertificate(node, true)
	if err != nil {
		return fmt.Errorf("issue a voter's certificate to %s: %w", node.ID, err)
	}
	key := v.cfg.MeshKey()
	if err := v.cfg.Peers.Promote(ctx, to, &peer.PromoteRequest{Fence: v.fence(), MeshKey: key[:], Certificate: certificate}); err != nil {
		return fmt.Errorf("hand the store's secrets to %s: %w", node.ID, err)
	}
	if err := v.awaitStore(ctx, to); err != nil {
		return err
	}
	return v.settled(ctx, index, v.cfg.Store.AddNonvoter(ctx, node.ID, node.Address, index))
}

// awaitStore waits until the node is ready to be told Raft's log.
func (v *voterLoop) awaitStore(ctx context.Context, to peer.Target) error {
	ctx, cancel := context.WithTimeout(ctx, holdsTimeout)
	defer cancel()
	for {
		out, err := v.cfg.Peers.RaftState(ctx, to, &peer.RaftStateRequest{Fence: v.fence()})
		if err == nil && out.HoldsStore {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("node %s does not open its store", to.NodeID), err)
		case <-time.After(holdsPause):
		}
	}
}

func (v *voterLoop) roster() (roster raftstore.Roster, err error) {
	err = v.cfg.Store.View(func(r raftstore.Reader) error {
		roster, err = raftstore.GetRoster(r)
		return err
	})
	return roster, err
}

// agree makes the roster say of each server what Raft does.
func (v *voterLoop) agree(ctx context.Context, s step) error {
	servers, _, err := v.cfg.Store.Servers()
	if err != nil {
		return err
	}
	return v.updateRoster(ctx, s, func(r *raftstore.Roster) {
		for _, server := range servers {
			node, enrolled := v.enrolled[server.ID]
			if !enrolled {
				continue
			}
			m := raftstore.RosterMember{NodeID: node.ID, Address: node.Address, PublicKey: node.PublicKey, StandBy: !server.Voter}
			if at := slices.IndexFunc(r.Members, func(m raftstore.RosterMember) bool { return m.NodeID == node.ID }); at >= 0 {
				r.Members[at] = m
			} else {
				r.Members = append(r.Members, m)
			}
		}
	})
}

// rosterAttempts bounds how often a change of the roster is tried when others
// change it too.
const rosterAttempts = 10

// updateRoster commits a change of the roster with its cause, and puts it in force
// on this node. The pusher tells the others.
func (v *voterLoop) updateRoster(ctx context.Context, s step, change func(*raftstore.Roster)) error {
	for range rosterAttempts {
		roster, err := v.roster()
		if err != nil {
			return err
		}
		members := slices.Clone(roster.Members)
		roster.Members = slices.Clone(roster.Members)
		change(&roster)
		// A node that was removed since the plan was made never comes back by it.
		roster.Members = slices.DeleteFunc(roster.Members, func(m raftstore.RosterMember) bool { return roster.IsRemoved(m.PublicKey) })
		if slices.Equal(members, roster.Members) {
			return nil
		}
		roster.Version++
		var txn raftstore.Txn
		txn.PutRoster(roster)
		txn.PutAudit(raftstore.AuditEntry{
			ID: uuid.NewString(), Time: v.cfg.Now().UTC(), Operation: "voters: " + string(s.kind), Caller: "mesh", Resource: s.nodeID,
		})
		_, err = v.cfg.Store.Apply(ctx, txn)
		switch {
		case errors.Is(err, raftstore.ErrConflict), errors.Is(err, raftstore.ErrUnknownOutcome) && ctx.Err() == nil:
			continue
		case err != nil:
			return fmt.Errorf("change the roster: %w", err)
		}
		if _, err := v.cfg.Gate.Update(roster); err != nil {
			return fmt.Errorf("take the new roster: %w", err)
		}
		return nil
	}
	return fmt.Errorf("change the roster: %w", raftstore.ErrConflict)
}
