package leader

import (
	"context"
	"errors"
	"iter"
	"maps"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// voterLoop looks at the quorum and takes one planned step at a time.
type voterLoop struct {
	cfg  Config
	term uint64
	push *pusher
	// inspected is what servers say about their stores.
	inspected *inspection

	// enrolled is the store's, read again when it changes.
	enrolled map[string]raftstore.Node
	// seen is since when a node is alive, or silent, in this term.
	seen map[string]presence
	// failed are nodes with which a step has failed.
	failed    map[string]failure
	evenSince time.Time
}

type presence struct {
	alive bool
	since time.Time
}

type failure struct {
	tries int
	until time.Time
}

// Times of the loop. The tick notices what becomes true by time alone.
const (
	voterTick    = 250 * time.Millisecond
	stepTimeout  = 30 * time.Second
	holdsTimeout = 10 * time.Second
	holdsPause   = 50 * time.Millisecond
	blockFirst   = time.Second
	blockMost    = time.Minute
)

func newVoterLoop(cfg Config, term uint64, push *pusher, inspected *inspection) *voterLoop {
	return &voterLoop{
		cfg: cfg, term: term, push: push, inspected: inspected,
		seen: map[string]presence{}, failed: map[string]failure{},
	}
}

// run works until ctx ends or something goes wrong.
func (v *voterLoop) run(ctx context.Context) error {
	changes := v.cfg.Store.Watch(raftstore.NodePrefix, raftstore.RosterKey)
	defer changes.Stop()
	tick := time.NewTicker(voterTick)
	defer tick.Stop()
	for {
		select {
		case <-changes.C: // while a step was taken
			v.enrolled = nil
		default:
		}
		s, index, err := v.plan(ctx)
		if err == nil && s.kind != stepNone {
			err = v.take(ctx, s, index)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case over(err):
			return err
		case errors.Is(err, raftstore.ErrConflict):
			// The servers changed since the plan.
		case err != nil:
			v.cfg.Log.Warn("a step of the quorum failed and is planned anew", "step", string(s.kind), "node", s.nodeID, "error", err)
		case s.kind != stepNone:
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes.C:
			v.enrolled = nil
		case <-tick.C:
		}
	}
}

// plan makes the next plan from the present state.
func (v *voterLoop) plan(ctx context.Context) (step, uint64, error) {
	q, index, err := v.look()
	if err != nil {
		return step{}, 0, err
	}
	// Whether stand-bys have caught up is asked only when it matters.
	for id, n := range q.nodes {
		n.caughtUp = true
		q.nodes[id] = n
	}
	s := plan(q)
	if s.kind != stepPromote {
		return s, index, nil
	}
	applied := v.cfg.Store.AppliedIndex()
	for _, server := range q.servers {
		if n, ok := q.nodes[server.ID]; ok && !server.Voter {
			n.caughtUp = n.alive && v.caughtUp(ctx, n, applied)
			q.nodes[server.ID] = n
		}
	}
	return plan(q), index, nil
}

func (v *voterLoop) caughtUp(ctx context.Context, n quorumNode, applied uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Settings.CallTimeout)
	defer cancel()
	out, err := v.cfg.Peers.RaftState(ctx, peer.Target{NodeID: n.id, Address: n.address}, &peer.RaftStateRequest{Fence: v.fence()})
	if err != nil {
		return false
	}
	v.inspected.note(n.id, out, v.cfg.Now())
	return out.HoldsStore && out.AppliedIndex+v.cfg.Settings.CaughtUpWithin >= applied
}

func (v *voterLoop) fence() peer.Fence { return v.cfg.fence(v.term, v.push.currentEpoch()) }

// look gathers what the plan depends on.
func (v *voterLoop) look() (quorum, uint64, error) {
	servers, index, err := v.cfg.Store.Servers()
	if err != nil {
		return quorum{}, 0, err
	}
	var roster raftstore.Roster
	err = v.cfg.Store.View(func(r raftstore.Reader) error {
		if v.enrolled == nil {
			enrolled := map[string]raftstore.Node{}
			if err := raftstore.ScanNodes(r, "", func(n raftstore.Node) bool { enrolled[n.ID] = n; return true }); err != nil {
				return err
			}
			v.enrolled = enrolled
		}
		roster, err = raftstore.GetRoster(r)
		return err
	})
	if err != nil {
		return quorum{}, 0, err
	}
	s := v.cfg.Settings
	now := v.cfg.Now()
	q := quorum{
		now: now, self: v.cfg.NodeID, servers: servers, nodes: map[string]quorumNode{}, rostered: map[string]raftstore.RosterMember{},
		voters: s.Voters, standBys: s.StandBys, stableAfter: s.StableAfter, deadAfter: s.DeadAfter, transitFor: s.TransitFor,
	}
	for _, m := range roster.Members {
		q.rostered[m.NodeID] = m
	}
	serves := map[string]bool{}
	for _, server := range servers {
		serves[server.ID] = true
	}
	for id, n := range v.enrolled {
		// A server without a store is as good as silent: it neither votes nor follows.
		without, storeless := v.inspected.storeless(id)
		alive := v.cfg.Members.Alive(id) && !(storeless && serves[id])
		was, known := v.seen[id]
		if !known || was.alive != alive {
			was = presence{alive: alive, since: now}
			if storeless && serves[id] {
				was.since = without.since
			}
			v.seen[id] = was
			if alive {
				delete(v.failed, id)
			}
		}
		_, rostered := q.rostered[id]
		q.nodes[id] = quorumNode{
			id: id, address: n.Address, publicKey: n.PublicKey, zone: n.Tags["zone"], memberOnly: n.MemberOnly,
			alive: alive, since: was.since, empty: storeless && without.trouble == "" && now.Sub(without.since) >= s.DeadAfter,
			blocked: now.Before(v.failed[id].until) || !rostered && !v.push.isClean(id),
		}
	}
	for id := range v.seen {
		if _, ok := v.enrolled[id]; !ok {
			delete(v.seen, id)
			delete(v.failed, id)
		}
	}
	voters := 0
	for _, server := range servers {
		if server.Voter {
			voters++
		}
	}
	switch {
	case voters%2 == 1:
		v.evenSince = time.Time{}
	case v.evenSince.IsZero():
		v.evenSince = now
	}
	q.evenSince = v.evenSince
	return q, index, nil
}

// take takes a step. A node with which it failed is left alone for a while.
func (v *voterLoop) take(ctx context.Context, s step, index uint64) error {
	v.cfg.Log.Info("changing the quorum", "step", string(s.kind), "node", s.nodeID, "why", s.why)
	bounded, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	err := v.execute(bounded, s, index)
	switch {
	case err == nil:
		delete(v.failed, s.nodeID)
		v.inspected.forget(s.nodeID)
	case ctx.Err() == nil && !over(err) && !errors.Is(err, raftstore.ErrConflict):
		f := v.failed[s.nodeID]
		f.until = v.cfg.Now().Add(min(blockMost, blockFirst<<min(f.tries, 10)))
		f.tries++
		v.failed[s.nodeID] = f
	}
	return err
}
