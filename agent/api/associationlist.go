package api

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

func (c *call) listAssociations(in *ssm.ListAssociationsInput) (*ssm.ListAssociationsOutput, error) {
	before, after, err := associationListTimes(in.AssociationFilterList)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.ListAssociationsOutput{Associations: []types.Association{}}
	next := ""
	var failed error
	err = raftstore.ScanAssociations(c, start, func(a raftstore.Association) bool {
		var described *types.AssociationDescription
		if described, failed = c.describeAssociationNow(a); failed != nil {
			return false
		}
		if !associationFits(in.AssociationFilterList, described, before, after) {
			return true
		}
		if len(out.Associations) == pageSize(in.MaxResults) {
			next = a.ID
			return false
		}
		out.Associations = append(out.Associations, types.Association{
			AssociationId: described.AssociationId, AssociationName: described.AssociationName, AssociationVersion: described.AssociationVersion,
			Name: described.Name, DocumentVersion: described.DocumentVersion, InstanceId: described.InstanceId, Targets: described.Targets,
			ScheduleExpression: described.ScheduleExpression, ScheduleOffset: described.ScheduleOffset, Duration: described.Duration,
			LastExecutionDate: described.LastExecutionDate, Overview: described.Overview,
		})
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// associationListTimes reads LastExecutedBefore and LastExecutedAfter.
func associationListTimes(filters []types.AssociationFilter) (before, after time.Time, err error) {
	for _, f := range filters {
		value := aws.ToString(f.Value)
		var at *time.Time
		switch f.Key {
		case types.AssociationFilterKeyLastExecutedBefore:
			at = &before
		case types.AssociationFilterKeyLastExecutedAfter:
			at = &after
		case types.AssociationFilterKeyStatus:
			if !slices.Contains(types.AssociationStatusName("").Values(), types.AssociationStatusName(value)) {
				return before, after, refuse(codeValidation, "The value %q of the filter AssociationStatusName isn't valid: it is Pending, Success or Failed.", value)
			}
			continue
		default:
			continue
		}
		if *at, err = time.Parse(time.RFC3339, value); err != nil {
			return before, after, refuse(codeValidation, "The value %q of the filter %s isn't valid: give a time such as 2026-11-24T02:30:00Z.", value, f.Key)
		}
	}
	return before, after, nil
}

// associationFits reports whether all filters fit.
func associationFits(filters []types.AssociationFilter, a *types.AssociationDescription, before, after time.Time) bool {
	for _, f := range filters {
		value := aws.ToString(f.Value)
		fits := false
		switch f.Key {
		case types.AssociationFilterKeyInstanceId:
			fits = aws.ToString(a.InstanceId) == value || slices.ContainsFunc(a.Targets, func(t types.Target) bool {
				return strings.EqualFold(aws.ToString(t.Key), targetInstanceIDs) && slices.Contains(t.Values, value)
			})
		case types.AssociationFilterKeyName:
			fits = aws.ToString(a.Name) == value || documentNameOf(aws.ToString(a.Name)) == documentNameOf(value)
		case types.AssociationFilterKeyAssociationId:
			fits = *a.AssociationId == value
		case types.AssociationFilterKeyAssociationName:
			fits = aws.ToString(a.AssociationName) == value
		case types.AssociationFilterKeyStatus:
			fits = aws.ToString(a.Overview.Status) == value
		case types.AssociationFilterKeyLastExecutedBefore:
			fits = a.LastExecutionDate != nil && a.LastExecutionDate.Before(before)
		case types.AssociationFilterKeyLastExecutedAfter:
			fits = a.LastExecutionDate != nil && a.LastExecutionDate.After(after)
		case types.AssociationFilterKeyResourceGroupName:
			// A mesh has no resource groups, so no association is for one.
		}
		if !fits {
			return false
		}
	}
	return true
}

// executionFilters checks the filters of DescribeAssociationExecutions and returns
// what they let through.
func executionFilters(filters []types.AssociationExecutionFilter) (func(*types.AssociationExecution) bool, error) {
	times := make([]time.Time, len(filters))
	for i, f := range filters {
		if f.Key != types.AssociationExecutionFilterKeyCreatedTime {
			if f.Type != types.AssociationFilterOperatorTypeEqual {
				return nil, refuse(codeValidation, "The filter %s goes with the type EQUAL, not %s: only CreatedTime is compared.", f.Key, f.Type)
			}
			continue
		}
		at, err := time.Parse(time.RFC3339, aws.ToString(f.Value))
		if seconds, epochErr := strconv.ParseInt(aws.ToString(f.Value), 10, 64); err != nil && epochErr == nil {
			at, err = time.Unix(seconds, 0), nil
		}
		if err != nil {
			return nil, refuse(codeValidation, "The value %q of the filter CreatedTime isn't valid: give a time such as 2026-11-24T02:30:00Z.", aws.ToString(f.Value))
		}
		times[i] = at
	}
	return func(e *types.AssociationExecution) bool {
		for i, f := range filters {
			value, fits := aws.ToString(f.Value), false
			switch f.Key {
			case types.AssociationExecutionFilterKeyExecutionId:
				fits = *e.ExecutionId == value
			case types.AssociationExecutionFilterKeyStatus:
				fits = strings.EqualFold(*e.Status, value)
			case types.AssociationExecutionFilterKeyCreatedTime:
				switch at := e.CreatedTime.Truncate(time.Second); f.Type {
				case types.AssociationFilterOperatorTypeLessThan:
					fits = at.Before(times[i])
				case types.AssociationFilterOperatorTypeGreaterThan:
					fits = at.After(times[i])
				default:
					fits = at.Equal(times[i].Truncate(time.Second))
				}
			}
			if !fits {
				return false
			}
		}
		return true
	}, nil
}

func executionTargetFits(filters []types.AssociationExecutionTargetsFilter, t *types.AssociationExecutionTarget) bool {
	for _, f := range filters {
		value, fits := aws.ToString(f.Value), false
		switch f.Key {
		case types.AssociationExecutionTargetsFilterKeyStatus:
			fits = strings.EqualFold(*t.Status, value)
		case types.AssociationExecutionTargetsFilterKeyResourceId:
			fits = *t.ResourceId == value
		case types.AssociationExecutionTargetsFilterKeyResourceType:
			fits = *t.ResourceType == value
		}
		if !fits {
			return false
		}
	}
	return true
}

func latestOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
