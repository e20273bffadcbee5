package leader

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"fleetmesh/raftstore"
)

// claim is the transaction that takes up what is due: claim, execution and command,
// the schedule's next time, and the end of earlier runs, all or nothing. done is false
// when it must wait.
func (a *associations) claim(r raftstore.Reader, d raftstore.AssociationDue) (t raftstore.Txn, done bool, err error) {
	t.DeleteAssociationDue(d)
	if id, ends := strings.CutPrefix(d.Cause, raftstore.AssociationEnd); ends {
		return t, true, cancelRun(r, &t, id, false, a.now())
	}
	p := a.plans[d.AssociationID]
	record, err := raftstore.GetAssociation(r, d.AssociationID)
	if errors.Is(err, raftstore.ErrNotFound) {
		return t, true, nil // it was deleted
	}
	if err != nil || p == nil || p.record.ModifyIndex != record.ModifyIndex {
		return raftstore.Txn{}, a.unreadable[d.AssociationID] != 0, err
	}
	state, err := raftstore.GetAssociationState(r, record.ID)
	if err != nil {
		return t, false, fmt.Errorf("read the state of association %s: %w", record.ID, err)
	}
	now := a.now()
	decision := decideDue(p, d, state, now)
	name := raftstore.AssociationClaimName(d.Cause, decision.scheduledFor)
	if _, err := raftstore.GetAssociationClaim(r, record.ID, name); err == nil {
		decision.run, decision.missed = false, "" // it was claimed before, by whatever clock
	} else if !errors.Is(err, raftstore.ErrNotFound) {
		return t, false, err
	}
	t.RequireAssociation(record)
	if decision.reschedule {
		state.NextDue = decision.next
		if !state.NextDue.IsZero() {
			t.PutAssociationDue(raftstore.AssociationDue{AssociationID: record.ID, At: state.NextDue, Cause: raftstore.AssociationScheduled})
		}
	}
	if decision.missed != "" {
		if err := recordMissed(r, &t, p, decision, now); err != nil {
			return t, false, err
		}
	}
	if decision.run || decision.halt {
		if err := supersede(r, &t, record.ID, decision.spare, now); err != nil {
			return t, false, err
		}
	}
	if decision.run {
		e := raftstore.AssociationExecution{
			ID: associationExecutionID(record.ID, record.Version, name), AssociationID: record.ID, Version: record.Version,
			Cause: d.Cause, ScheduledFor: decision.scheduledFor, CreatedAt: now,
		}
		if err := a.start(r, &t, p, &e); err != nil {
			return t, false, err
		}
		state.ExecutionID, state.RunAt = e.ID, now
		if e.DocumentVersion != "" {
			state.DocumentVersion = e.DocumentVersion
		}
	}
	if strings.HasPrefix(d.Cause, raftstore.AssociationChanged) || decision.run {
		state.Version = record.Version
	}
	t.PutAssociationState(state)
	return t, true, nil
}

// start adds an execution and its command, or why there is none.
func (a *associations) start(r raftstore.Reader, t *raftstore.Txn, p *associationPlan, e *raftstore.AssociationExecution) error {
	command, commandState, refused, err := a.compose(r, associationOrder(p, e.Cause, e.ScheduledFor, e.CreatedAt, e.NodeIDs), e.ID, "association/"+e.AssociationID, e.CreatedAt)
	if err != nil {
		return fmt.Errorf("make the command of association %s: %w", e.AssociationID, err)
	}
	if refused != "" {
		e.NoCommand, e.Reason, e.Status, e.DetailedStatus, e.FinishedAt = true, refused, detailFailed, detailFailed, e.CreatedAt
		t.PutNewAssociationExecution(*e)
		return nil
	}
	e.DocumentVersion, e.Status, e.DetailedStatus = command.DocumentVersion, detailPending, detailPending
	t.PutNewAssociationExecution(*e)
	t.PutNewCommand(command, commandState)
	if hours := aws.ToInt32(p.input.Duration); hours > 0 {
		t.PutAssociationDue(raftstore.AssociationDue{
			AssociationID: e.AssociationID, At: e.CreatedAt.Add(time.Duration(hours) * time.Hour), Cause: raftstore.AssociationEnd + e.ID,
		})
	}
	return nil
}

// recordMissed adds an execution that never was, for the first of the missed times.
func recordMissed(r raftstore.Reader, t *raftstore.Txn, p *associationPlan, decision dueDecision, now time.Time) error {
	name := raftstore.AssociationClaimName(raftstore.AssociationScheduled, decision.missedFor)
	_, err := raftstore.GetAssociationClaim(r, p.record.ID, name)
	if !errors.Is(err, raftstore.ErrNotFound) {
		return err // it had its run, or this is known
	}
	t.PutNewAssociationExecution(raftstore.AssociationExecution{
		ID: associationExecutionID(p.record.ID, p.record.Version, name), AssociationID: p.record.ID, Version: p.record.Version,
		Cause: raftstore.AssociationScheduled, ScheduledFor: decision.missedFor, CreatedAt: now.Add(-time.Millisecond),
		NoCommand: true, Status: statusSkipped, DetailedStatus: statusSkipped, Reason: statusSkipped + ": " + decision.missed, FinishedAt: now,
	})
	return nil
}

// supersede ends the runs of an association that have not ended: with spare those that
// wait only.
func supersede(r raftstore.Reader, t *raftstore.Txn, associationID string, spare bool, now time.Time) error {
	for _, id := range raftstore.ActiveAssociationExecutions(r, associationID) {
		e, err := raftstore.GetAssociationExecution(r, id)
		if errors.Is(err, raftstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := cancelRun(r, t, id, spare, now); err != nil {
			return err
		}
		if !e.Superseded {
			e.Superseded = true
			t.PutAssociationExecution(e)
		}
	}
	return nil
}

// cancelRun asks to end a command, where it waits or everywhere.
func cancelRun(r raftstore.Reader, t *raftstore.Txn, id string, waiting bool, now time.Time) error {
	_, index, active := r.Get(raftstore.ActiveCommandPrefix + id)
	if !active {
		return nil
	}
	request, err := raftstore.GetCommandCancel(r, id)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	if request.All || waiting && request.Waiting {
		return nil
	}
	request.CommandID, request.RequestedAt, request.Caller = id, now, "association"
	request.Waiting = request.Waiting || waiting
	request.All = request.All || !waiting
	t.Require(raftstore.ActiveCommandPrefix+id, index)
	t.PutCommandCancel(request)
	return nil
}

// newDocument is a run that is due because the document that an association is bound
// to has another version now.
func newDocument(r raftstore.Reader, p *associationPlan, now time.Time) (d raftstore.AssociationDue, found bool, err error) {
	version := aws.ToString(p.input.DocumentVersion)
	if p.keepsTimes() || version != "" && version != "$DEFAULT" && version != "$LATEST" {
		return d, false, nil
	}
	state, err := raftstore.GetAssociationState(r, p.record.ID)
	if err != nil || state.Version != p.record.Version {
		return d, false, err // a run is due
	}
	document, err := raftstore.GetDocument(r, p.record.DocumentName)
	if errors.Is(err, raftstore.ErrNotFound) {
		return d, false, nil // built in, or deleted
	}
	if err != nil {
		return d, false, err
	}
	number := document.DefaultVersion
	if version == "$LATEST" {
		number = document.LatestVersion
	}
	if strconv.Itoa(number) == state.DocumentVersion {
		return d, false, nil
	}
	cause := fmt.Sprintf("%s%d-%d", raftstore.AssociationDocument, number, document.ModifyIndex)
	_, err = raftstore.GetAssociationClaim(r, p.record.ID, cause)
	if !errors.Is(err, raftstore.ErrNotFound) {
		return d, false, err // it was refused
	}
	return raftstore.AssociationDue{AssociationID: p.record.ID, At: now, Cause: cause}, true, nil
}

// claimOwed is the transaction that runs an association on nodes that owe it: it takes
// the debts, so nobody else runs them.
func (a *associations) claimOwed(r raftstore.Reader, p *associationPlan, owed []raftstore.AssociationOwed) (t raftstore.Txn, err error) {
	state, err := raftstore.GetAssociationState(r, p.record.ID)
	if err != nil {
		return t, fmt.Errorf("read the state of association %s: %w", p.record.ID, err)
	}
	now := a.now()
	e := raftstore.AssociationExecution{AssociationID: p.record.ID, Version: p.record.Version, CreatedAt: now}
	sum := sha256.New()
	for _, o := range owed {
		t.DeleteAssociationOwed(o)
		stands, err := raftstore.GetAssociationTarget(r, p.record.ID, o.NodeID)
		if err == nil {
			stands.ReturnedAt = now
			t.PutAssociationTarget(stands)
		} else if !errors.Is(err, raftstore.ErrNotFound) {
			return t, err
		}
		e.NodeIDs = append(e.NodeIDs, o.NodeID)
		fmt.Fprintf(sum, "%s %d\n", o.NodeID, o.ModifyIndex)
	}
	slices.Sort(e.NodeIDs)
	e.Cause = raftstore.AssociationCatchUp + hex.EncodeToString(sum.Sum(nil)[:16])
	e.ID = associationExecutionID(p.record.ID, p.record.Version, e.Cause)
	t.RequireAssociation(p.record)
	if err := a.start(r, &t, p, &e); err != nil {
		return t, err
	}
	state.RunAt = now
	t.PutAssociationState(state)
	return t, nil
}
