package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/internal/failpoint"
	"fleetmesh/raftstore"
)

// confirmPatience is how long a majority may take to confirm the leader before
// the request is answered as if there were none.
const confirmPatience = 4 * time.Second

// maxAttempts is how often a write decides anew because another was faster.
const maxAttempts = 32

// errAskAgain: this node lost its leadership while it wrote. The write may have
// happened or may yet, and the request is one that may be repeated: who leads now
// finds out.
var errAskAgain = errors.New("leadership was lost during a write")

// lead answers a request on the leader. The error is raftstore.ErrNotLeader when
// this node turns out not to lead and did nothing, or errAskAgain; everything
// else is in the answer.
func (f *Face) lead(ctx context.Context, store Store, op *operation, from peer.Caller, in *peer.ForwardRequest, requestID string) (*peer.ForwardResponse, error) {
	out, err := f.decide(ctx, store, op, from, in, requestID)
	if out != nil {
		// Clients correct their clocks by it, so it is that of whoever judges
		// signatures, also when another node hands the answer on.
		out.Header["Date"] = []string{f.cfg.Now().UTC().Format(http.TimeFormat)}
	}
	return out, err
}

func (f *Face) decide(ctx context.Context, store Store, op *operation, from peer.Caller, in *peer.ForwardRequest, requestID string) (*peer.ForwardResponse, error) {
	output, who, err := f.perform(ctx, store, op, from, in, requestID)
	if errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, errAskAgain) {
		return nil, err
	}
	if err != nil {
		return f.deny(requestID, op.name, who.name, in, err), nil
	}
	if op.write {
		failpoint.Hit(failpoint.CommandUnanswered)
	} else {
		f.note(requestID, op.name, who.name, in, outcomeOK)
	}
	return answer(http.StatusOK, requestID, output), nil
}

// deny is the answer to a request that is refused, or failed, noted in the trail.
func (f *Face) deny(requestID, operation, who string, in *peer.ForwardRequest, err error) *peer.ForwardResponse {
	out := f.refusal(requestID, operation, err)
	f.note(requestID, operation, who, in, out.Header[errorTypeHeader][0])
	return out
}

func (f *Face) note(requestID, operation, who string, in *peer.ForwardRequest, outcome string) {
	f.trail.note(trailEntry{Time: f.cfg.Now().UTC(), RequestID: requestID, Operation: operation, Caller: who, SourceIP: in.SourceIP, Outcome: outcome})
}

func (f *Face) perform(ctx context.Context, store Store, op *operation, from peer.Caller, in *peer.ForwardRequest, requestID string) (output []byte, who caller, err error) {
	if turn := f.turn(op); turn != nil {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return nil, who, errCrowded
		}
	}
	uncertain := false
	for attempt := 1; ; attempt++ {
		c := &call{face: f, store: store, op: op, in: in, from: from, id: requestID, uncertain: uncertain}
		var input any
		err := c.view(ctx, func() (err error) {
			input, output, err = c.decide()
			return err
		})
		who = c.who
		switch {
		case err != nil && uncertain && (!isRefusal(err) || errors.Is(err, errUnavailable)):
			return nil, who, c.lost(err)
		case err != nil:
			return nil, who, err
		case op.wait != nil:
			output, err = c.goOn(ctx, input)
			return output, who, err
		case len(c.txn.Ops) == 0:
			return output, who, nil
		}
		failpoint.Hit(failpoint.CommandUncommitted)
		_, err = store.Apply(ctx, c.txn)
		switch {
		case err == nil:
			failpoint.Hit(failpoint.CommandCommitted)
			return output, who, nil
		case errors.Is(err, raftstore.ErrConflict):
			if attempt == maxAttempts {
				return nil, who, errCrowded
			}
		case errors.Is(err, raftstore.ErrUnknownOutcome):
			// The same call once more: what it would write demands that no answer to it
			// is there, so it cannot be done twice; if it was done, the answer is found.
			f.cfg.Log.Warn("the outcome of a write is unknown, looking again", "request", requestID, "operation", op.name)
			uncertain = true
			if ctx.Err() != nil || attempt == maxAttempts {
				return nil, who, errOutcome
			}
		case errors.Is(err, raftstore.ErrTooLarge):
			return nil, who, refuse(codeTooLarge, "The request is larger than the mesh can keep.")
		case uncertain:
			return nil, who, c.lost(err)
		case ctx.Err() != nil: // the client went away, or the time is over
			return nil, who, errCrowded
		default:
			return nil, who, noLeader(err)
		}
	}
}

// turn has one place for those that decide one at a time; nil for all others.
func (f *Face) turn(op *operation) chan struct{} {
	switch {
	case op.open:
		return f.enrolling
	case op.counts:
		return f.counting
	}
	return nil
}

// lost is what to say when it cannot be found out here whether an earlier attempt
// was committed: another leader can, if the request is one that may be repeated.
func (c *call) lost(err error) error {
	id, _ := invocationID(c.in.Header)
	if errors.Is(noLeader(err), raftstore.ErrNotLeader) && c.op.repeatable(id) {
		return errAskAgain
	}
	return errOutcome
}

// noLeader makes the store's end one case: this node does not lead any more.
func noLeader(err error) error {
	if errors.Is(err, raftstore.ErrClosed) {
		return raftstore.ErrNotLeader
	}
	return err
}

// view reads a confirmed moment for the call.
func (c *call) view(ctx context.Context, decide func() error) error {
	key, ok := c.face.cfg.MeshKey()
	if !ok {
		return raftstore.ErrNotLeader // demoted meanwhile
	}
	ctx, cancel := context.WithTimeout(ctx, c.face.confirm)
	defer cancel()
	if clock := c.face.cfg.Clock; clock != nil {
		// A leader that has just started first asks the others what time it is.
		select {
		case <-clock.Known():
		case <-ctx.Done():
			return errUnavailable
		}
	}
	err := c.store.ConfirmedView(ctx, func(r raftstore.Reader) error {
		c.Reader, c.key, c.now = r, key, c.face.cfg.Now().UTC()
		c.txn, c.resource = raftstore.Txn{}, ""
		return decide()
	})
	c.Reader = nil
	if err != nil && ctx.Err() != nil && !isRefusal(err) {
		return errUnavailable // no majority confirmed within the time
	}
	return noLeader(err)
}

// goOn runs the rest of an operation that holds its answer.
func (c *call) goOn(ctx context.Context, input any) ([]byte, error) {
	out, err := c.op.wait(ctx, c, input)
	if err != nil {
		return nil, err
	}
	output, err := awsjson.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return output, nil
}
