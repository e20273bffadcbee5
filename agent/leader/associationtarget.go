package leader

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"fleetmesh/raftstore"
)

// targets looks at the nodes that have changed: which associations have become for
// them, or are so no more.
func (a *associations) targets(ctx context.Context) (time.Time, error) {
	if !a.nodesChanged {
		return time.Time{}, nil
	}
	for {
		var changes nodeChanges
		err := a.store.View(func(r raftstore.Reader) (err error) {
			changes, err = a.changedNodes(r)
			return err
		})
		wait, more := changes.wait, changes.more || len(changes.strangers) > 0
		if err == nil {
			err = a.dropEach(ctx, changes.strangers)
		}
		if err == nil {
			err = a.apply(ctx, changes.txn)
		}
		switch {
		case err != nil:
			return time.Time{}, err
		case wait:
			return a.now().Add(associationRetry), nil
		case !more:
			a.nodesChanged = false
			return time.Time{}, nil
		}
	}
}

// nodeChanges is what changes of nodes come to.
type nodeChanges struct {
	txn raftstore.Txn
	// strangers are records of nodes that their associations are not for any more. While
	// there are some the changes are looked at again.
	strangers []raftstore.AssociationTarget
	// wait: a run that is being resolved decides about a node; look again.
	wait bool
	// more: there are other changed nodes.
	more bool
}

// changedNodes is the next lot of what changes of nodes mean.
func (a *associations) changedNodes(r raftstore.Reader) (c nodeChanges, err error) {
	mark, err := raftstore.GetAssociationNodes(r)
	if err != nil {
		return c, err
	}
	ids := slices.Sorted(maps.Keys(a.plans))
	var failed error
	changed := false
	err = raftstore.ScanNodesSince(r, mark.Index, func(n raftstore.Node) bool {
		changed = true
		for _, id := range ids {
			if failed = a.changedNode(r, &c, a.plans[id], n); failed != nil {
				return false
			}
		}
		c.more = sizeOf(c.txn) > txnLimit/2 || len(c.strangers) > associationNodes
		return !c.more
	})
	if err = errors.Join(err, failed); err != nil {
		return c, err
	}
	if changed && !c.more && !c.wait && len(c.strangers) == 0 {
		mark.Index = r.Index()
		c.txn.PutAssociationNodes(mark)
	}
	return c, nil
}

// changedNode adds what a changed node means to one association.
func (a *associations) changedNode(r raftstore.Reader, c *nodeChanges, p *associationPlan, n raftstore.Node) error {
	isFor := p.isFor(n)
	stands, err := raftstore.GetAssociationTarget(r, p.record.ID, n.ID)
	known := err == nil
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	if !isFor {
		if known {
			c.strangers = append(c.strangers, stands)
		}
		return nil
	}
	state, err := raftstore.GetAssociationState(r, p.record.ID)
	if err != nil {
		return err
	}
	why := owesRun(p, state, n, stands, known)
	if why == "" {
		return nil
	}
	return a.owe(r, c, p, n.ID, why, known)
}

// owe notes that a node owes a run, unless one waits for it or goes on there: a run
// that starts the machine anew is not made again for that.
func (a *associations) owe(r raftstore.Reader, c *nodeChanges, p *associationPlan, nodeID, why string, known bool) error {
	unresolved, runs, err := activeRuns(r, p.record.ID, nodeID)
	if err != nil || unresolved {
		c.wait = c.wait || unresolved
		return err
	}
	for _, i := range runs {
		if !i.Terminal() || !known {
			return nil // it will run, or has
		}
	}
	return putOwed(r, &c.txn, p, nodeID, why, a.now())
}

// activeRuns are a node's invocations in the runs of an association that have not
// ended. unresolved: one of these may yet be for the node.
func activeRuns(r raftstore.Reader, associationID, nodeID string) (unresolved bool, runs []raftstore.Invocation, err error) {
	for _, id := range raftstore.ActiveAssociationExecutions(r, associationID) {
		i, err := raftstore.GetInvocation(r, id, nodeID)
		if err == nil {
			runs = append(runs, i)
			continue
		}
		if !errors.Is(err, raftstore.ErrNotFound) {
			return false, nil, err
		}
		command, err := raftstore.GetCommandState(r, id)
		if errors.Is(err, raftstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, nil, err
		}
		if command.Resolved || !command.FinishedAt.IsZero() {
			continue
		}
		e, err := raftstore.GetAssociationExecution(r, id)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return false, nil, err
		}
		unresolved = unresolved || len(e.NodeIDs) == 0 || slices.Contains(e.NodeIDs, nodeID)
	}
	return unresolved, runs, nil
}

// dropTarget forgets how an association stands on a node, its compliance too.
func (a *associations) dropTarget(r raftstore.Reader, t *raftstore.Txn, s raftstore.AssociationTarget) error {
	state, err := raftstore.GetAssociationState(r, s.AssociationID)
	if err == nil {
		state.Counts = maps.Clone(state.Counts)
		recountTargets(&state, s.DetailedStatus, "")
		t.PutAssociationState(state)
	} else if !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	t.DeleteAssociationTarget(s)
	owed, err := raftstore.GetAssociationOwed(r, s.NodeID, s.AssociationID)
	if err == nil {
		t.DeleteAssociationOwed(owed)
	} else if !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	return changeAssociationCompliance(r, t, s.NodeID, s.AssociationID, nil, s, a.now())
}

// dropTargets forgets the records that scan finds and gone says to forget.
func (a *associations) dropTargets(ctx context.Context, scan func(raftstore.Reader, func(raftstore.AssociationTarget) bool) error, gone func(raftstore.Reader, raftstore.AssociationTarget) (bool, error)) error {
	var drop []raftstore.AssociationTarget
	if err := a.store.View(func(r raftstore.Reader) error {
		var failed error
		err := scan(r, func(s raftstore.AssociationTarget) bool {
			var is bool
			if is, failed = gone(r, s); is {
				drop = append(drop, s)
			}
			return failed == nil
		})
		return errors.Join(err, failed)
	}); err != nil {
		return err
	}
	return a.dropEach(ctx, drop)
}

// dropEach forgets records, one transaction for each: two of them may change one
// record of an association or a node.
func (a *associations) dropEach(ctx context.Context, drop []raftstore.AssociationTarget) error {
	for _, s := range drop {
		var txn raftstore.Txn
		if err := a.store.View(func(r raftstore.Reader) error { return a.dropTarget(r, &txn, s) }); err != nil {
			return err
		}
		if err := a.apply(ctx, txn); err != nil {
			return err
		}
	}
	return nil
}

// forget forgets all records that scan finds.
func (a *associations) forget(ctx context.Context, scan func(raftstore.Reader, func(raftstore.AssociationTarget) bool) error) error {
	return a.dropTargets(ctx, scan, func(raftstore.Reader, raftstore.AssociationTarget) (bool, error) { return true, nil })
}

// dropStrangers forgets the nodes that a new version of an association is not for, and
// all nodes of one that is deleted: it counts in no node's compliance from then on.
func (a *associations) dropStrangers(ctx context.Context, d raftstore.AssociationDue) (done bool, err error) {
	deleted := false
	if err := a.store.View(func(r raftstore.Reader) error {
		_, err := raftstore.GetAssociation(r, d.AssociationID)
		if deleted = errors.Is(err, raftstore.ErrNotFound); deleted {
			return nil
		}
		return err
	}); err != nil {
		return false, err
	}
	if p := a.plans[d.AssociationID]; p != nil || deleted {
		err := a.dropTargets(ctx, func(r raftstore.Reader, fn func(raftstore.AssociationTarget) bool) error {
			return raftstore.ScanAssociationTargets(r, d.AssociationID, "", fn)
		}, func(r raftstore.Reader, s raftstore.AssociationTarget) (bool, error) {
			if deleted {
				return true, nil
			}
			n, err := raftstore.GetNode(r, s.NodeID)
			if errors.Is(err, raftstore.ErrNotFound) {
				return true, nil
			}
			return err == nil && !p.isFor(n), err
		})
		if err != nil {
			return false, err
		}
	}
	var txn raftstore.Txn
	txn.DeleteAssociationDue(d)
	return true, a.apply(ctx, txn)
}

// scanNodeTargets calls fn for how each association stands on a node.
func scanNodeTargets(r raftstore.Reader, nodeID string, fn func(raftstore.AssociationTarget) bool) error {
	var failed error
	raftstore.ScanNodeAssociations(r, nodeID, "", func(id string) bool {
		s, err := raftstore.GetAssociationTarget(r, id, nodeID)
		if errors.Is(err, raftstore.ErrNotFound) {
			return true
		}
		if failed = err; err != nil {
			return false
		}
		return fn(s)
	})
	return failed
}

// owed runs what nodes owe that answer now.
func (a *associations) owed(ctx context.Context) (time.Time, error) {
	var next time.Time
	ready := map[string][]raftstore.AssociationOwed{}
	var drop []raftstore.AssociationOwed
	now := a.now()
	err := a.store.View(func(r raftstore.Reader) error {
		for _, nodeID := range raftstore.OwingNodes(r) {
			if !a.alive(nodeID) {
				continue
			}
			n, err := raftstore.GetNode(r, nodeID)
			removed := errors.Is(err, raftstore.ErrNotFound)
			if err != nil && !removed {
				return err
			}
			var failed error
			err = raftstore.ScanAssociationsOwed(r, nodeID, func(o raftstore.AssociationOwed) bool {
				verdict, until := owedDrop, time.Time{}
				if !removed {
					var s owedSituation
					if s, failed = a.situation(r, o, n); failed != nil {
						return false
					}
					verdict, until = decideOwed(o, s, now)
				}
				switch verdict {
				case owedRun:
					ready[o.AssociationID] = append(ready[o.AssociationID], o)
				case owedDrop:
					drop = append(drop, o)
				case owedWait:
					if !until.IsZero() && (next.IsZero() || until.Before(next)) {
						next = until
					}
				}
				return true
			})
			if err = errors.Join(err, failed); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return next, err
	}
	for lot := range slices.Chunk(drop, 500) {
		var txn raftstore.Txn
		for _, o := range lot {
			txn.DeleteAssociationOwed(o)
		}
		if err := a.apply(ctx, txn); err != nil {
			return next, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ready)) {
		for lot := range slices.Chunk(ready[id], associationNodes) {
			var txn raftstore.Txn
			if err := a.store.View(func(r raftstore.Reader) (err error) {
				txn, err = a.claimOwed(r, a.plans[id], lot)
				return err
			}); err != nil {
				return next, err
			}
			if err := a.apply(ctx, txn); err != nil {
				return next, err
			}
		}
	}
	return next, nil
}

// situation is what there is to know about an owed run.
func (a *associations) situation(r raftstore.Reader, o raftstore.AssociationOwed, n raftstore.Node) (s owedSituation, err error) {
	s.node, s.plan = n, a.plans[o.AssociationID]
	if s.plan == nil {
		if a.unreadable[o.AssociationID] != 0 {
			s.unresolved = true // leave it alone
		}
		return s, nil
	}
	if s.state, err = raftstore.GetAssociationState(r, o.AssociationID); err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return s, err
	}
	if s.stands, err = raftstore.GetAssociationTarget(r, o.AssociationID, n.ID); err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return s, err
	}
	if s.state.ExecutionID != "" {
		command, err := raftstore.GetCommandState(r, s.state.ExecutionID)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return s, err
		}
		last, err := raftstore.GetAssociationExecution(r, s.state.ExecutionID)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return s, err
		}
		s.stopped, s.refused = command.Stopped, last.NoCommand
	}
	s.unresolved, s.runs, err = activeRuns(r, o.AssociationID, n.ID)
	return s, err
}
