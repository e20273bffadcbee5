package leader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// snapshotForm is a UUID, as the parameter SnapshotId must be.
var snapshotForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// patches reports whether a job may patch: its document, or one that it runs, names
// the action.
func patches(job *peer.Job) bool {
	action := []byte(executor.ActionRunPatchBaseline)
	if bytes.Contains(job.Document, action) {
		return true
	}
	for _, nested := range job.Nested {
		if bytes.Contains(nested.Content, action) {
			return true
		}
	}
	return false
}

// orderPatches puts the baseline into each job of a node that may patch. What that
// freezes is committed before it returns, so that a later job of the same run, by
// whatever leader, gets the same. Any goroutine may call it. An error means that
// nothing was sent; the jobs are to be sent later.
func orderPatches(ctx context.Context, store Records, jobs []peer.Job, now time.Time) error {
	for i := range jobs {
		job := &jobs[i]
		if !patches(job) {
			continue
		}
		for {
			err := orderPatch(ctx, store, job, now)
			if errors.Is(err, raftstore.ErrConflict) {
				continue // another node's job has frozen it just now
			}
			if err != nil {
				return fmt.Errorf("%w: freeze the patch baseline of command %s: %w", peer.ErrNotSent, job.CommandID, err)
			}
			break
		}
	}
	return nil
}

func orderPatch(ctx context.Context, store Records, job *peer.Job, now time.Time) error {
	run := patchRun{SnapshotID: job.CommandID, ExpiresAt: now.Add(job.ExpiresWithin)}
	if given := job.Parameters["SnapshotId"]; len(given) == 1 && snapshotForm.MatchString(given[0]) {
		run.SnapshotID = given[0]
	}
	if given := job.Parameters["BaselineOverride"]; len(given) == 1 {
		run.Overridden = given[0] != ""
	}
	if run.ForAssociation = job.DocumentName == associationPatchDocument; run.ForAssociation && len(job.Parameters["BaselineTags"]) == 1 {
		run.BaselineTags = job.Parameters["BaselineTags"][0]
	}
	var frozen raftstore.Txn
	err := store.View(func(r raftstore.Reader) error {
		node, err := raftstore.GetNode(r, job.NodeID)
		if err != nil {
			return err
		}
		f := newFreezing(r, run, now)
		order, problem, err := f.freezeBaseline(node)
		if err != nil {
			return err
		}
		if job.Patch, job.PatchProblem = nil, problem; problem != "" {
			return nil
		}
		f.put(&frozen)
		job.Patch, err = json.Marshal(order)
		return err
	})
	if err != nil || len(frozen.Ops) == 0 {
		return err
	}
	_, err = store.Apply(ctx, frozen)
	return err
}

// keepFindings commits what steps of a node's jobs have found out for the mesh. It
// does so before their end is committed, and so acknowledged: a report that comes
// again changes nothing.
func keepFindings(ctx context.Context, store Records, nodeID string, reports []peer.JobReport, now time.Time) error {
	for i := range reports {
		for step, data := range reports[i].Findings {
			report, err := patcher.DecodeReport(data)
			if err != nil {
				return &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("what step %s of command %s has found cannot be read: %v", step, reports[i].CommandID, err)}
			}
			for {
				err := keepFinding(ctx, store, nodeID, reports[i].CommandID, report, now)
				if errors.Is(err, raftstore.ErrConflict) {
					continue // another report of the node was faster
				}
				if err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

func keepFinding(ctx context.Context, store Records, nodeID, commandID string, report *patcher.Report, now time.Time) error {
	var txns []raftstore.Txn
	err := store.View(func(r raftstore.Reader) error {
		if _, err := raftstore.GetInvocation(r, commandID, nodeID); err != nil {
			return err // the mesh never asked this node
		}
		node, err := raftstore.GetNode(r, nodeID)
		if err != nil {
			return err
		}
		state, list, offers := patchRecords(*report, node, commandID, now)
		var t raftstore.Txn
		fresh, err := raftstore.PutPatchReport(r, &t, state, list)
		if err != nil || !fresh {
			return err
		}
		if txns, err = raftstore.PutPatchOffers(r, offers, now); err != nil {
			return err
		}
		txns = append(txns, t) // last: it is what makes the report known
		return nil
	})
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range txns {
		if _, err := store.Apply(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
