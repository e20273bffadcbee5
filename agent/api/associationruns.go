package api

import (
	"errors"
	"strings"

	"fleetmesh/agent/meshapi"
	"fleetmesh/raftstore"
)

const (
	// maxAssociationPage is how many associations a page of DescribeAssociationRuns has.
	maxAssociationPage = 500
	maxWaitingShown    = 100
	maxRunsShown       = 50
)

// describeAssociationRuns tells what Systems Manager has no member for.
func (c *call) describeAssociationRuns(in *meshapi.DescribeAssociationRunsInput) (*meshapi.DescribeAssociationRunsOutput, error) {
	out := &meshapi.DescribeAssociationRunsOutput{Now: c.now, Associations: []meshapi.AssociationRuns{}}
	if in.AssociationId != "" {
		a, err := c.getAssociation(in.AssociationId)
		if err != nil {
			return nil, err
		}
		runs, err := c.associationRuns(a.ID)
		if err == nil {
			err = c.associationDetail(&runs)
		}
		out.Associations = append(out.Associations, runs)
		return out, err
	}
	bound := meshapi.DescribeAssociationRunsInput{}
	start, err := c.pageStart(&bound, optional(in.NextToken))
	if err != nil {
		return nil, err
	}
	next := ""
	var failed error
	raftstore.ScanAssociationIndexes(c, func(id string, _ uint64) bool {
		if id < start {
			return true
		}
		if len(out.Associations) == maxAssociationPage {
			next = id
			return false
		}
		var runs meshapi.AssociationRuns
		runs, failed = c.associationRuns(id)
		out.Associations = append(out.Associations, runs)
		return failed == nil
	})
	if failed != nil {
		return nil, failed
	}
	token, err := c.nextPage(&bound, next)
	if token != nil {
		out.NextToken = *token
	}
	return out, err
}

func (c *call) associationRuns(id string) (meshapi.AssociationRuns, error) {
	state, err := raftstore.GetAssociationState(c, id)
	return meshapi.AssociationRuns{AssociationId: id, NextTime: optionalTime(state.NextDue)}, err
}

func (c *call) associationDetail(runs *meshapi.AssociationRuns) error {
	for _, nodeID := range raftstore.OwingNodes(c) {
		owed, err := raftstore.GetAssociationOwed(c, nodeID, runs.AssociationId)
		if errors.Is(err, raftstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		runs.Waiting = append(runs.Waiting, meshapi.AssociationWaiting{NodeId: nodeID, Since: owed.Since, Reason: owed.Why})
		if len(runs.Waiting) == maxWaitingShown {
			break
		}
	}
	return raftstore.ScanAssociationExecutions(c, runs.AssociationId, "", func(_ string, e raftstore.AssociationExecution) bool {
		run := meshapi.AssociationRun{ExecutionId: e.ID, Cause: causeName(e.Cause), ScheduledTime: optionalTime(e.ScheduledFor), Reason: e.Reason}
		if e.Superseded && run.Reason == "" {
			run.Reason = "a newer run ended it"
		}
		runs.Runs = append(runs.Runs, run)
		return len(runs.Runs) < maxRunsShown
	})
}

// causeName is a cause in a word.
func causeName(cause string) string {
	switch {
	case cause == raftstore.AssociationChanged+"1":
		return "created"
	case strings.HasPrefix(cause, raftstore.AssociationChanged):
		return "updated"
	case strings.HasPrefix(cause, raftstore.AssociationDocument):
		return "document"
	case strings.HasPrefix(cause, raftstore.AssociationOnce):
		return "requested"
	case strings.HasPrefix(cause, raftstore.AssociationCatchUp):
		return "nodes"
	}
	return "scheduled"
}
