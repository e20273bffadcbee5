package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// Statuses of associations, their executions and their nodes.
const (
	statusPending    = "Pending"
	statusInProgress = "InProgress"
	statusSuccess    = "Success"
	statusFailed     = "Failed"
	statusAssociated = "Associated"

	codeNoAssociationExecution = "AssociationExecutionDoesNotExist"

	outputRunCommand = "RunCommand"
)

// associationOverview says how an association stands on its nodes.
func (c *call) associationOverview(a raftstore.Association, state raftstore.AssociationState) (*types.AssociationOverview, error) {
	reason := ""
	if state.ExecutionID != "" {
		last, err := raftstore.GetAssociationExecution(c, state.ExecutionID)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return nil, err
		}
		if last.NoCommand && last.Status == statusFailed {
			reason = last.Reason
		}
	}
	busy := state.Version != a.Version && state.ExecutionID != ""
	for _, id := range raftstore.ActiveAssociationExecutions(c, a.ID) {
		command, err := raftstore.GetCommandState(c, id)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return nil, err
		}
		busy = busy || err == nil && command.FinishedAt.IsZero()
	}
	status, detailed := overview(state, busy, reason)
	out := &types.AssociationOverview{Status: &status, DetailedStatus: &detailed}
	if len(state.Counts) > 0 {
		out.AssociationStatusAggregatedCount = make(map[string]int32, len(state.Counts))
		for name, count := range state.Counts {
			out.AssociationStatusAggregatedCount[name] = int32(count)
		}
	}
	return out, nil
}

// overview sums up the nodes of an association. busy: a run has not ended. reason is
// why the last run could not begin.
func overview(state raftstore.AssociationState, busy bool, reason string) (status, detailed string) {
	total := 0
	for _, count := range state.Counts {
		total += count
	}
	waiting := state.Counts[statusPending] + state.Counts[statusInProgress]
	switch {
	case reason != "":
		return statusFailed, reason
	case busy && state.Counts[statusInProgress] > 0:
		return statusPending, statusInProgress
	case busy || waiting > 0:
		return statusPending, statusPending
	case state.RunAt.IsZero():
		return statusPending, statusAssociated
	case state.Counts[statusSuccess] == total:
		return statusSuccess, statusSuccess
	}
	return statusFailed, statusFailed
}

func (c *call) describeAssociationExecutions(in *ssm.DescribeAssociationExecutionsInput) (*ssm.DescribeAssociationExecutionsOutput, error) {
	a, err := c.getAssociation(*in.AssociationId)
	if err != nil {
		return nil, err
	}
	fits, err := executionFilters(in.Filters)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeAssociationExecutionsOutput{AssociationExecutions: []types.AssociationExecution{}}
	next := ""
	var failed error
	err = raftstore.ScanAssociationExecutions(c, a.ID, start, func(position string, e raftstore.AssociationExecution) bool {
		var shown *types.AssociationExecution
		if shown, failed = c.describeExecution(e); failed != nil {
			return false
		}
		if !fits(shown) {
			return true
		}
		if len(out.AssociationExecutions) == pageSize(in.MaxResults) {
			next = position
			return false
		}
		out.AssociationExecutions = append(out.AssociationExecutions, *shown)
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (c *call) describeExecution(e raftstore.AssociationExecution) (*types.AssociationExecution, error) {
	counts := e.Counts
	if e.FinishedAt.IsZero() {
		command, err := raftstore.GetCommandState(c, e.ID)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			e.Status, e.DetailedStatus = command.Status, command.StatusDetails
		}
		counts = map[string]int{}
		if err := raftstore.ScanInvocations(c, e.ID, "", func(i raftstore.Invocation) bool {
			_, detailed := i.AssociationStatus()
			counts[detailed]++
			return true
		}); err != nil {
			return nil, err
		}
	}
	if e.NoCommand {
		e.DetailedStatus = e.Reason
	}
	return &types.AssociationExecution{
		AssociationId: &e.AssociationID, AssociationVersion: aws.String(strconv.Itoa(e.Version)), ExecutionId: &e.ID,
		Status: &e.Status, DetailedStatus: &e.DetailedStatus, CreatedTime: &e.CreatedAt, LastExecutionDate: &e.CreatedAt,
		ResourceCountByStatus: aws.String(countsText(counts)),
	}, nil
}

// countsText is the form of ResourceCountByStatus: {Failed=1, Success=2}.
func countsText(counts map[string]int) string {
	parts := make([]string, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			parts = append(parts, name+"="+strconv.Itoa(counts[name]))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (c *call) describeAssociationExecutionTargets(in *ssm.DescribeAssociationExecutionTargetsInput) (*ssm.DescribeAssociationExecutionTargetsOutput, error) {
	a, err := c.getAssociation(*in.AssociationId)
	if err != nil {
		return nil, err
	}
	e, err := raftstore.GetAssociationExecution(c, *in.ExecutionId)
	if errors.Is(err, raftstore.ErrNotFound) || err == nil && e.AssociationID != a.ID {
		return nil, refuse(codeNoAssociationExecution, "The specified execution ID doesn't exist: the association %s has no execution %s, or no longer. DescribeAssociationExecutions shows those that there are.", a.ID, *in.ExecutionId)
	}
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeAssociationExecutionTargetsOutput{AssociationExecutionTargets: []types.AssociationExecutionTarget{}}
	next := ""
	err = raftstore.ScanInvocations(c, e.ID, start, func(i raftstore.Invocation) bool {
		status, detailed := i.AssociationStatus()
		shown := types.AssociationExecutionTarget{
			AssociationId: &a.ID, AssociationVersion: aws.String(strconv.Itoa(e.Version)), ExecutionId: &e.ID,
			ResourceId: aws.String(i.NodeID), ResourceType: aws.String(resourceManagedInstance), Status: &status, DetailedStatus: &detailed,
			LastExecutionDate: optionalTime(latestOf(i.StartedAt, i.DispatchedAt)),
			OutputSource:      &types.OutputSource{OutputSourceId: &e.ID, OutputSourceType: aws.String(outputRunCommand)},
		}
		if !executionTargetFits(in.Filters, &shown) {
			return true
		}
		if len(out.AssociationExecutionTargets) == pageSize(in.MaxResults) {
			next = i.NodeID
			return false
		}
		out.AssociationExecutionTargets = append(out.AssociationExecutionTargets, shown)
		return true
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (c *call) describeInstanceAssociationsStatus(in *ssm.DescribeInstanceAssociationsStatusInput) (*ssm.DescribeInstanceAssociationsStatusOutput, error) {
	if err := c.checkKnownNode(*in.InstanceId); err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeInstanceAssociationsStatusOutput{InstanceAssociationStatusInfos: []types.InstanceAssociationStatusInfo{}}
	next := ""
	err = c.nodeAssociations(*in.InstanceId, start, func(a raftstore.Association, s raftstore.AssociationTarget) (bool, error) {
		if len(out.InstanceAssociationStatusInfos) == pageSize(in.MaxResults) {
			next = a.ID
			return false, nil
		}
		input, err := associationInput(a.Input)
		if err != nil {
			return false, err
		}
		out.InstanceAssociationStatusInfos = append(out.InstanceAssociationStatusInfos, types.InstanceAssociationStatusInfo{
			AssociationId: &a.ID, AssociationName: input.AssociationName, AssociationVersion: aws.String(strconv.Itoa(s.Version)),
			DocumentVersion: optional(s.DocumentVersion), InstanceId: in.InstanceId, Name: input.Name, Status: optional(s.Status),
			DetailedStatus: optional(s.DetailedStatus), ErrorCode: optional(s.ErrorCode), ExecutionDate: optionalTime(s.ExecutedAt),
			ExecutionSummary: optional(s.Summary),
		})
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (c *call) describeEffectiveInstanceAssociations(in *ssm.DescribeEffectiveInstanceAssociationsInput) (*ssm.DescribeEffectiveInstanceAssociationsOutput, error) {
	if err := c.checkKnownNode(*in.InstanceId); err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	size := maxEffective
	if in.MaxResults != nil {
		size = int(*in.MaxResults)
	}
	out := &ssm.DescribeEffectiveInstanceAssociationsOutput{Associations: []types.InstanceAssociation{}}
	next := ""
	err = c.nodeAssociations(*in.InstanceId, start, func(a raftstore.Association, s raftstore.AssociationTarget) (bool, error) {
		if len(out.Associations) == size {
			next = a.ID
			return false, nil
		}
		input, err := associationInput(a.Input)
		if err != nil {
			return false, err
		}
		shown := types.InstanceAssociation{AssociationId: &a.ID, AssociationVersion: aws.String(strconv.Itoa(a.Version)), InstanceId: in.InstanceId}
		document, err := c.findDocument(aws.ToString(input.Name), aws.ToString(input.DocumentVersion), "")
		switch {
		case err == nil:
			shown.Content = aws.String(string(document.content))
		case refusal(err) == nil:
			return false, err
		}
		out.Associations = append(out.Associations, shown)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// maxEffective is the model's bound of DescribeEffectiveInstanceAssociations: each
// entry has a whole document.
const maxEffective = 5

// nodeAssociations calls fn with each association that is for a node, from start on,
// in order of ids: those that have a record for it, and those that will have one.
func (c *call) nodeAssociations(nodeID, start string, fn func(raftstore.Association, raftstore.AssociationTarget) (bool, error)) error {
	node, err := raftstore.GetNode(c, nodeID)
	if err != nil {
		return fmt.Errorf("read node %s: %w", nodeID, err)
	}
	var failed error
	err = raftstore.ScanAssociations(c, start, func(a raftstore.Association) bool {
		s, err := raftstore.GetAssociationTarget(c, a.ID, nodeID)
		if errors.Is(err, raftstore.ErrNotFound) {
			input, err := associationInput(a.Input)
			if err != nil {
				failed = err
				return false
			}
			if !associationIsFor(input, node) {
				return true
			}
			s = raftstore.AssociationTarget{AssociationID: a.ID, NodeID: nodeID, Version: a.Version, Status: statusAssociated, DetailedStatus: statusAssociated}
		} else if err != nil {
			failed = err
			return false
		}
		more, err := fn(a, s)
		failed = err
		return more && err == nil
	})
	return errors.Join(err, failed)
}

// associationIsFor reports whether a node is a target: keys are joined by and, the
// values of one by or.
func associationIsFor(in *ssm.CreateAssociationInput, node raftstore.Node) bool {
	if in.InstanceId != nil {
		return *in.InstanceId == node.ID
	}
	for _, t := range in.Targets {
		key := aws.ToString(t.Key)
		fits := false
		switch {
		case strings.EqualFold(key, targetInstanceIDs):
			fits = slices.Contains(t.Values, node.ID) || slices.Contains(t.Values, allNodes)
		case key == targetTagKey:
			fits = slices.ContainsFunc(t.Values, func(k string) bool { _, has := node.Tags[k]; return has })
		case strings.HasPrefix(key, targetTagPrefix):
			value, has := node.Tags[strings.TrimPrefix(key, targetTagPrefix)]
			fits = has && slices.Contains(t.Values, value)
		}
		if !fits {
			return false
		}
	}
	return len(in.Targets) > 0
}
