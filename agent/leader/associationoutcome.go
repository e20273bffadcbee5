package leader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// outcomes takes what has become of runs into the records of their nodes.
func (a *associations) outcomes(ctx context.Context) (time.Time, error) {
	var active []string
	if err := a.store.View(func(r raftstore.Reader) error {
		active = raftstore.ActiveAssociationExecutions(r, "")
		return nil
	}); err != nil {
		return time.Time{}, err
	}
	still := make(map[string]uint64, len(active))
	for _, id := range active {
		for {
			var txn raftstore.Txn
			var index uint64
			more := false
			err := a.store.View(func(r raftstore.Reader) (err error) {
				txn, index, more, err = a.outcome(r, id)
				return err
			})
			if err == nil {
				err = a.apply(ctx, txn)
			}
			if err != nil {
				return time.Time{}, err
			}
			if !more {
				still[id] = index
				break
			}
		}
	}
	a.seen = still
	return time.Time{}, nil
}

// outcome is the transaction that takes the next lot of a run's outcomes. index is the
// modify index of the command's state that it has seen; more says that there is more.
func (a *associations) outcome(r raftstore.Reader, id string) (t raftstore.Txn, index uint64, more bool, err error) {
	command, err := raftstore.GetCommandState(r, id)
	gone := errors.Is(err, raftstore.ErrNotFound)
	if err != nil && !gone {
		return t, 0, false, err
	}
	if !gone && a.seen[id] == command.ModifyIndex {
		return t, command.ModifyIndex, false, nil
	}
	e, err := raftstore.GetAssociationExecution(r, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return t, command.ModifyIndex, false, nil
	}
	if err != nil {
		return t, 0, false, err
	}
	p := a.plans[e.AssociationID]
	state, err := raftstore.GetAssociationState(r, e.AssociationID)
	deleted := errors.Is(err, raftstore.ErrNotFound)
	if err != nil && !deleted {
		return t, 0, false, err
	}
	was := state
	state.Counts = maps.Clone(state.Counts)
	if p != nil && !deleted {
		if more, err = a.outcomesOf(r, &t, p, e, &state); err != nil {
			return t, 0, false, err
		}
	}
	if !more {
		e.Seen = r.Index()
		switch {
		case gone:
			e.Status, e.DetailedStatus, e.FinishedAt = detailFailed, detailTerminated, a.now()
		case !command.FinishedAt.IsZero():
			e.Status, e.DetailedStatus = executionEnd(e, command)
			e.FinishedAt = command.FinishedAt
			if e.Counts, err = countInvocations(r, id); err != nil {
				return t, 0, false, err
			}
			if e.Status == invocationSuccess && e.CreatedAt.After(state.SucceededAt) {
				state.SucceededAt = e.CreatedAt
			}
		}
		if len(t.Ops) > 0 || !e.FinishedAt.IsZero() {
			t.PutAssociationExecution(e)
		}
	}
	if !deleted && (!maps.Equal(was.Counts, state.Counts) || !was.SucceededAt.Equal(state.SucceededAt)) {
		t.PutAssociationState(state)
	}
	return t, command.ModifyIndex, more, nil
}

// outcomesOf adds what has become of nodes, as much as one transaction holds.
func (a *associations) outcomesOf(r raftstore.Reader, t *raftstore.Txn, p *associationPlan, e raftstore.AssociationExecution, state *raftstore.AssociationState) (more bool, err error) {
	var failed error
	size := 0
	err = raftstore.ScanInvocationsSince(r, e.ID, e.Seen, func(i raftstore.Invocation) bool {
		var was raftstore.AssociationTarget
		if was, failed = raftstore.GetAssociationTarget(r, e.AssociationID, i.NodeID); errors.Is(failed, raftstore.ErrNotFound) {
			failed = nil
			if _, err := raftstore.GetNode(r, i.NodeID); err != nil {
				if !errors.Is(err, raftstore.ErrNotFound) {
					failed = err
				}
				return failed == nil // it was removed
			}
		}
		if failed != nil {
			return false
		}
		is, changed := standsAfter(was, e, i)
		if !changed {
			return true
		}
		before := len(t.Ops)
		t.PutAssociationTarget(is)
		recountTargets(state, was.DetailedStatus, is.DetailedStatus)
		if i.Terminal() && p.input.SyncCompliance != types.AssociationSyncComplianceManual {
			if failed = putAssociationCompliance(r, t, p, is, a.now()); failed != nil {
				return false
			}
		}
		if why := owesAfter(p, e, i); why != "" {
			if failed = putOwed(r, t, p, i.NodeID, why, a.now()); failed != nil {
				return false
			}
		}
		for _, op := range t.Ops[before:] {
			size += len(op.Key) + len(op.Value)
		}
		more = size > txnLimit/2 // one node's compliance may fill the other half
		return !more
	})
	return more, errors.Join(err, failed)
}

// recountTargets moves a node from one status to another; "" is none.
func recountTargets(state *raftstore.AssociationState, was, is string) {
	if was == is {
		return
	}
	if state.Counts == nil {
		state.Counts = map[string]int{}
	}
	if was != "" {
		if state.Counts[was]--; state.Counts[was] <= 0 {
			delete(state.Counts, was)
		}
	}
	if is != "" {
		state.Counts[is]++
	}
}

func countInvocations(r raftstore.Reader, id string) (map[string]int, error) {
	counts := map[string]int{}
	err := raftstore.ScanInvocations(r, id, "", func(i raftstore.Invocation) bool {
		_, detailed := i.AssociationStatus()
		counts[detailed]++
		return true
	})
	return counts, err
}

// putOwed notes that a node owes a run, unless that is known.
func putOwed(r raftstore.Reader, t *raftstore.Txn, p *associationPlan, nodeID, why string, now time.Time) error {
	_, err := raftstore.GetAssociationOwed(r, nodeID, p.record.ID)
	if !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	t.PutAssociationOwed(raftstore.AssociationOwed{NodeID: nodeID, AssociationID: p.record.ID, Version: p.record.Version, Since: now, Why: why})
	return nil
}

const (
	complianceAssociation   = "Association"
	complianceUnspecified   = "UNSPECIFIED"
	complianceExecutionType = "Association"
)

// putAssociationCompliance puts the item of an association into a node's compliance:
// compliant when its last run on the node had success.
func putAssociationCompliance(r raftstore.Reader, t *raftstore.Txn, p *associationPlan, s raftstore.AssociationTarget, now time.Time) error {
	status := types.ComplianceStatusNonCompliant
	if s.Status == invocationSuccess {
		status = types.ComplianceStatusCompliant
	}
	severity := string(p.input.ComplianceSeverity)
	if severity == "" {
		severity = complianceUnspecified
	}
	item := raftstore.ComplianceItem{
		ID: p.record.ID, Title: aws.ToString(p.input.AssociationName), Severity: severity, Status: string(status),
		Details: map[string]string{"DocumentName": p.record.DocumentName, "DocumentVersion": s.DocumentVersion, "AssociationVersion": fmt.Sprint(s.Version), "DetailedStatus": s.DetailedStatus},
	}
	return changeAssociationCompliance(r, t, s.NodeID, p.record.ID, &item, s, now)
}

// changeAssociationCompliance replaces the item of an association, or takes it out.
func changeAssociationCompliance(r raftstore.Reader, t *raftstore.Txn, nodeID, associationID string, item *raftstore.ComplianceItem, s raftstore.AssociationTarget, now time.Time) error {
	c, err := raftstore.GetCompliance(r, complianceAssociation, nodeID)
	if errors.Is(err, raftstore.ErrNotFound) {
		if item == nil {
			return nil
		}
		c = raftstore.Compliance{NodeID: nodeID, Type: complianceAssociation}
	} else if err != nil {
		return err
	}
	var kept []raftstore.ComplianceItem
	if c.ModifyIndex != 0 {
		if kept, err = c.Items(); err != nil {
			return err
		}
	}
	items := make([]raftstore.ComplianceItem, 0, len(kept)+1)
	for _, k := range kept {
		if k.ID != associationID {
			items = append(items, k)
		}
	}
	if item == nil && len(items) == len(kept) {
		return nil
	}
	if item != nil {
		items = append(items, *item)
		c.ExecutionTime, c.ExecutionID, c.ExecutionType = s.ExecutedAt, s.ExecutionID, complianceExecutionType
	}
	c.UpdatedAt, c.ContentHash = now, ""
	c.Compliant, c.NonCompliant = raftstore.SeverityCounts{}, raftstore.SeverityCounts{}
	for _, i := range items {
		counts := &c.NonCompliant
		if i.Status == string(types.ComplianceStatusCompliant) {
			counts = &c.Compliant
		}
		countSeverity(counts, i.Severity)
	}
	if err := c.SetItems(items); errors.Is(err, raftstore.ErrComplianceTooLarge) {
		return nil // others' items fill the record; the status of the association tells
	} else if err != nil {
		return err
	}
	t.PutCompliance(c)
	return nil
}

func countSeverity(c *raftstore.SeverityCounts, severity string) {
	switch types.ComplianceSeverity(severity) {
	case types.ComplianceSeverityCritical:
		c.Critical++
	case types.ComplianceSeverityHigh:
		c.High++
	case types.ComplianceSeverityMedium:
		c.Medium++
	case types.ComplianceSeverityLow:
		c.Low++
	case types.ComplianceSeverityInformational:
		c.Informational++
	default:
		c.Unspecified++
	}
}
