package leader

import (
	"context"
	"errors"
	"time"

	"fleetmesh/raftstore"
)

// whyStarted is why a node owes a run that gossip had not given up.
const whyStarted = "the node's meshd was started anew"

// starts looks for nodes whose daemon was started anew so quickly that gossip never
// gave them up: they have returned as well.
func (a *associations) starts(ctx context.Context) (time.Time, error) {
	if a.started == nil || !a.newStarts() {
		return time.Time{}, nil
	}
	for {
		var c nodeChanges
		err := a.store.View(func(r raftstore.Reader) (err error) {
			c, err = a.startsAt(r)
			return err
		})
		if err == nil {
			err = a.apply(ctx, c.txn)
		}
		switch {
		case err != nil:
			a.startsSeen = nil // read them anew
			return time.Time{}, err
		case c.wait:
			a.startsSeen = nil
			return a.now().Add(associationRetry), nil
		case !c.more:
			return time.Time{}, nil
		}
	}
}

// newStarts reports whether there may be a start that was not looked at.
func (a *associations) newStarts() bool {
	if a.startsSeen == nil || a.nodesChanged {
		return true
	}
	for id, start := range a.startsSeen {
		if now := a.started(id); now != 0 && now != start && a.alive(id) {
			return true
		}
	}
	return false
}

// startsAt is what new starts of nodes mean, the next lot of them.
func (a *associations) startsAt(r raftstore.Reader) (c nodeChanges, err error) {
	known := map[string]raftstore.AssociationStart{}
	a.startsSeen = map[string]uint64{}
	if err := raftstore.ScanAssociationStarts(r, func(s raftstore.AssociationStart) bool {
		known[s.NodeID], a.startsSeen[s.NodeID] = s, s.Start
		return true
	}); err != nil {
		return c, err
	}
	var failed error
	err = raftstore.ScanNodesSince(r, 0, func(n raftstore.Node) bool {
		start, was := a.started(n.ID), known[n.ID]
		if start == 0 || start == was.Start || !a.alive(n.ID) {
			return true
		}
		waits := false
		if was.Start != 0 {
			for _, p := range a.plans {
				one := nodeChanges{}
				if failed = a.startedAnew(r, &one, p, n); failed != nil {
					return false
				}
				c.txn.Merge(one.txn)
				waits = waits || one.wait
			}
		}
		if c.wait = c.wait || waits; !waits {
			was.NodeID, was.Start = n.ID, start
			c.txn.PutAssociationStart(was)
			a.startsSeen[n.ID] = start
		}
		c.more = sizeOf(c.txn) > txnLimit/2
		return !c.more
	})
	return c, errors.Join(err, failed)
}

// startedAnew adds what a start means to one association.
func (a *associations) startedAnew(r raftstore.Reader, c *nodeChanges, p *associationPlan, n raftstore.Node) error {
	if p.keepsTimes() || !p.isFor(n) {
		return nil
	}
	state, err := raftstore.GetAssociationState(r, p.record.ID)
	if err != nil || state.Version != p.record.Version {
		return err // a run on all targets is due
	}
	_, err = raftstore.GetAssociationTarget(r, p.record.ID, n.ID)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil // its first run is to come
	}
	if err != nil {
		return err
	}
	return a.owe(r, c, p, n.ID, whyStarted, true)
}

// strayStarts is the transaction that deletes the starts of nodes that are not
// enrolled any more.
func strayStarts(r raftstore.Reader) (t raftstore.Txn, err error) {
	var failed error
	err = raftstore.ScanAssociationStarts(r, func(s raftstore.AssociationStart) bool {
		_, err := raftstore.GetNode(r, s.NodeID)
		if errors.Is(err, raftstore.ErrNotFound) {
			t.DeleteAssociationStart(s)
		} else {
			failed = err
		}
		return failed == nil && len(t.Ops) < 500
	})
	return t, errors.Join(err, failed)
}
