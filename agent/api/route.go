package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

const (
	// leaderSearch is how long a request waits for a leader before it is answered
	// with ServiceUnavailable. It outlasts an election on a good network; clients
	// are promised an answer within 5 s.
	leaderSearch = 4500 * time.Millisecond
	// localSearch is how long the leader is asked for what gossip can answer on the
	// local socket.
	localSearch = 2 * time.Second
	// searchPause is the rest between two looks for a leader.
	searchPause = 50 * time.Millisecond
	// leaderPatience is how long a leader may work on a request.
	leaderPatience = 30 * time.Second
)

// route answers a request here when this node leads, else through the leader.
func (f *Face) route(ctx context.Context, op *operation, in *peer.ForwardRequest, requestID string) *peer.ForwardResponse {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience+op.patience)
	defer cancel()
	gossip := op.local != nil
	if in.Local && gossip {
		// What gossip can tell as well is not worth a long search.
		ctx, cancel = context.WithTimeout(ctx, f.localSearch)
		defer cancel()
	}
	out, err := f.findLeader(ctx, op, in, requestID)
	switch {
	case err == nil && out.Status == http.StatusOK && gossip && op.ownView:
	case err == nil && out.Status == http.StatusServiceUnavailable && gossip && in.Local:
	case err == nil:
		return out
	case gossip && in.Local && errors.Is(err, errUnavailable):
	default:
		return f.refusal(requestID, op.name, err)
	}
	body, err := f.answerLocally(op, in)
	if err != nil {
		return f.refusal(requestID, op.name, err)
	}
	return answer(http.StatusOK, requestID, body)
}

func (f *Face) answerLocally(op *operation, in *peer.ForwardRequest) ([]byte, error) {
	input, err := op.decode(in.Body)
	if err != nil {
		return nil, err
	}
	out, err := op.local(f, input)
	if err != nil {
		return nil, err
	}
	return awsjson.Marshal(out)
}

// findLeader gets the leader's answer, or gives up when there is none for
// leaderSearch. The first try may take as long as the leader works on it (Forward
// has a time of its own for the search); when it fails, so that leadership was
// just lost, the others together get what is left.
func (f *Face) findLeader(ctx context.Context, op *operation, in *peer.ForwardRequest, requestID string) (*peer.ForwardResponse, error) {
	id, err := invocationID(in.Header)
	if err != nil && !op.open {
		return nil, err
	}
	// failed is what to say when no leader is found in time.
	failed := error(errUnavailable)
	until := time.Now().Add(f.search)
	for first := true; ; first = false {
		if !first {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, until)
			defer cancel()
		}
		out, err := f.ask(ctx, op, in, requestID, op.repeatable(id))
		switch {
		case errors.Is(err, errAskAgain):
			failed = errOutcome
		case !errors.Is(err, raftstore.ErrNotLeader):
			return out, err
		}
		// Forward has searched everywhere; only this node itself may have become the
		// leader meanwhile.
		if errors.Is(err, errSearched) && !f.knowsLeader() || time.Until(until) < searchPause {
			return nil, failed
		}
		timer := time.NewTimer(searchPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, failed
		}
	}
}

// errSearched is raftstore.ErrNotLeader after a search among all candidates.
var errSearched = fmt.Errorf("%w, nor does any other that it can reach", raftstore.ErrNotLeader)

// knowsLeader reports whether this node's store has a leader.
func (f *Face) knowsLeader() bool {
	store := f.cfg.Store()
	if store == nil {
		return false
	}
	id, _ := store.Leader()
	return id != ""
}

// ask tries once, here or at the leader. raftstore.ErrNotLeader means that
// nothing happened, errAskAgain that something may have.
func (f *Face) ask(ctx context.Context, op *operation, in *peer.ForwardRequest, requestID string, repeatable bool) (*peer.ForwardResponse, error) {
	if store := f.cfg.Store(); store != nil && store.IsLeader() {
		return f.lead(ctx, store, op, f.self(), in, requestID)
	}
	out, err := f.cfg.Forward(ctx, in, repeatable)
	var refused *peer.Refusal
	switch {
	case err == nil:
		if out.Header[outcomeHeader] != nil {
			delete(out.Header, outcomeHeader)
			if repeatable {
				return nil, errAskAgain
			}
		}
		return out, nil
	case errors.As(err, &refused):
		switch refused.Kind {
		case peer.RefusedNotLeader, peer.RefusedUnavailable, peer.RefusedStaleTerm:
			return nil, raftstore.ErrNotLeader
		case peer.RefusedForbidden:
			return nil, refuse(codeAccessDenied, "The mesh does not take requests from this node: %s", refused.Message)
		case peer.RefusedInput:
			return nil, refuse(codeValidation, "%s", refused.Message)
		}
		return nil, err
	case errors.Is(err, peer.ErrNoLeader) && errors.Is(err, peer.ErrNotSent):
		return nil, errSearched
	case errors.Is(err, peer.ErrNotSent):
		return nil, raftstore.ErrNotLeader
	case !op.write:
		return nil, errUnavailable
	case repeatable:
		return nil, errAskAgain
	default:
		return nil, errOutcome
	}
}
