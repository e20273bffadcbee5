package agent

import (
	"context"
	"errors"
	"fmt"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

// handlers is what other nodes may ask of this one; it implements peer.Handlers.
// The peer server has checked who asks and whether they may.
type handlers Agent

// notLeader names the leader, where this node knows it.
func (h *handlers) notLeader() *peer.Refusal {
	refusal := &peer.Refusal{Kind: peer.RefusedNotLeader, Message: "this node does not lead the mesh"}
	if store := (*Agent)(h).store(); store != nil {
		refusal.LeaderID, refusal.Leader = store.Leader()
	}
	return refusal
}

// leading returns the holding of a node that leads.
func (h *handlers) leading() (*holding, error) {
	a := (*Agent)(h)
	a.holdingMu.RLock()
	defer a.holdingMu.RUnlock()
	if a.holding == nil || !a.holding.store.IsLeader() {
		return nil, errNotLeading
	}
	return a.holding, nil
}

var errNotLeading = errors.New("not leading")

func (h *handlers) Forward(ctx context.Context, from peer.Caller, in *peer.ForwardRequest) (*peer.ForwardResponse, error) {
	if _, err := h.leading(); err != nil {
		return nil, h.notLeader()
	}
	return h.face.ServeForwarded(ctx, from, in)
}

func (h *handlers) Report(ctx context.Context, from peer.Caller, in *peer.ReportRequest) (*peer.ReportResponse, error) {
	holding, err := h.leading()
	if err != nil {
		return nil, h.notLeader()
	}
	unknown, err := holding.leader.Report(ctx, from.NodeID, in.Reports)
	if err != nil {
		return nil, err
	}
	return &peer.ReportResponse{Unknown: unknown}, nil
}

func (h *handlers) Renew(ctx context.Context, from peer.Caller, in *peer.RenewRequest) (*peer.RenewResponse, error) {
	if _, err := h.leading(); err != nil {
		return nil, h.notLeader()
	}
	return h.face.Renew(ctx, from, in)
}

func (h *handlers) Jobs(ctx context.Context, _ peer.Caller, in *peer.JobsRequest) (*peer.JobsResponse, error) {
	now := h.clock.Own()
	for i := range in.Jobs {
		in.Jobs[i].Arrive(now, in.Late)
	}
	answers, err := h.worker.Accept(ctx, in.Jobs)
	if err != nil {
		return nil, err
	}
	return &peer.JobsResponse{Answers: answers}, nil
}

func (h *handlers) Cancel(ctx context.Context, _ peer.Caller, in *peer.CancelRequest) (*peer.CancelResponse, error) {
	if err := h.worker.Cancel(ctx, in.CommandIDs); err != nil {
		return nil, err
	}
	return &peer.CancelResponse{}, nil
}

func (h *handlers) JobStates(ctx context.Context, _ peer.Caller, in *peer.JobStatesRequest) (*peer.JobStatesResponse, error) {
	unknown, err := h.worker.States(ctx, in.CommandIDs)
	if err != nil {
		return nil, err
	}
	return &peer.JobStatesResponse{Unknown: unknown}, nil
}

func (h *handlers) Output(ctx context.Context, _ peer.Caller, in *peer.OutputRequest) (*peer.OutputResponse, error) {
	return h.worker.Output(ctx, in)
}

func (h *handlers) Roster(context.Context, peer.Caller, *peer.RosterRequest) error {
	return nil // the gate has it, and rosterChanged has run
}

// Keyring takes newer gossip keys into use: on disk first, so that a restart in
// between finds them.
func (h *handlers) Keyring(_ context.Context, _ peer.Caller, in *peer.KeyringRequest) error {
	return (*Agent)(h).takeGossipKeys(in.Version, in.Keys)
}

func (h *handlers) Promote(_ context.Context, from peer.Caller, in *peer.PromoteRequest) error {
	a := (*Agent)(h)
	if free, err := executor.FreeBytes(string(a.dir)); err == nil && free < roomForStore {
		return &peer.Refusal{Kind: peer.RefusedUnavailable, Message: "the disk of node " + a.identity.NodeID() + " is too full for the store"}
	}
	if err := a.identity.TakeMeshKey(in.MeshKey); err != nil {
		return err
	}
	if err := a.identity.Replace(in.Certificate); err != nil {
		return err
	}
	if err := a.newStore(); err != nil {
		return fmt.Errorf("hold the store as %s asks: %w", from.NodeID, err)
	}
	return nil
}

func (h *handlers) Demote(_ context.Context, _ peer.Caller, in *peer.DemoteRequest) error {
	a := (*Agent)(h)
	// A leader takes a node off the roster first. While the roster names this one,
	// Raft may count on its copy, and whoever asks for its deletion is mistaken.
	if _, rostered := a.gate.Roster().Member(a.identity.NodeID()); rostered {
		return &peer.Refusal{Kind: peer.RefusedInput, Message: "the newest roster that node " + a.identity.NodeID() + " knows says that it holds the store"}
	}
	if err := a.dropStore(); err != nil {
		return err
	}
	return a.identity.Replace(in.Certificate)
}

func (h *handlers) RaftState(context.Context, peer.Caller, *peer.RaftStateRequest) (*peer.RaftStateResponse, error) {
	a := (*Agent)(h)
	_, holdsKey := a.identity.MeshKey()
	a.holdingMu.RLock()
	trouble := string(a.storeState)
	a.holdingMu.RUnlock()
	store := a.store()
	if store == nil {
		return &peer.RaftStateResponse{HoldsKey: holdsKey, Trouble: trouble}, nil
	}
	return &peer.RaftStateResponse{
		HoldsStore: true, HoldsKey: holdsKey, AppliedIndex: store.AppliedIndex(), LastIndex: store.LastIndex(), Term: store.Term(),
	}, nil
}

// takeGossipKeys keeps and uses a newer keyring; an older one is passed over.
func (a *Agent) takeGossipKeys(version uint64, keys [][]byte) error {
	a.gossipKeysMu.Lock()
	defer a.gossipKeysMu.Unlock()
	var current gossipKeysFile
	if err := readJSON(a.dir.gossipKeys(), &current); err != nil {
		return fmt.Errorf("load the gossip keys: %w", err)
	}
	if version <= current.Version {
		return nil
	}
	if err := writeJSON(a.dir.gossipKeys(), gossipKeysFile{Version: version, Keys: keys}); err != nil {
		return err
	}
	if g := a.gossip.Load(); g != nil {
		return g.SetKeys(keys)
	}
	return nil
}
