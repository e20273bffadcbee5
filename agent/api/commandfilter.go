package api

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// commandFilter is what the filters of ListCommands and ListCommandInvocations
// ask for; zero values ask for nothing.
type commandFilter struct {
	after, before time.Time
	status        string
	stage         string
	document      string
}

// Status values that filters take: statuses and status details alike.
var (
	commandStatuses = []string{"Pending", "InProgress", "Delayed", "Success", "Cancelled", "Cancelling", "Failed", "TimedOut", "AccessDenied",
		"DeliveryTimedOut", "ExecutionTimedOut", "Incomplete", "NoInstancesInTag", "LimitExceeded"}
	invocationStatuses = []string{"Pending", "InProgress", "Delayed", "Success", "Cancelled", "Cancelling", "Failed", "TimedOut", "AccessDenied",
		"DeliveryTimedOut", "ExecutionTimedOut", "Undeliverable", "InvalidPlatform", "Terminated"}
)

const (
	stageExecuting = "Executing"
	stageComplete  = "Complete"
)

// parseCommandFilters reads the filters; statuses are the values that Status may
// have, and stages says whether ExecutionStage may be used.
func parseCommandFilters(filters []types.CommandFilter, statuses []string, stages bool) (commandFilter, error) {
	var f commandFilter
	var seen []types.CommandFilterKey
	for _, filter := range filters {
		value := aws.ToString(filter.Value)
		if slices.Contains(seen, filter.Key) {
			return f, refuse(codeInvalidFilterKey, "The filter %s is given twice.", filter.Key)
		}
		seen = append(seen, filter.Key)
		var err error
		switch filter.Key {
		case types.CommandFilterKeyInvokedAfter:
			f.after, err = parseFilterTime(value)
		case types.CommandFilterKeyInvokedBefore:
			f.before, err = parseFilterTime(value)
		case types.CommandFilterKeyStatus:
			if f.status = value; !slices.Contains(statuses, value) {
				err = refuse(codeValidation, "The filter value %q is no status: use one of %s.", value, strings.Join(statuses, ", "))
			}
		case types.CommandFilterKeyDocumentName:
			f.document = documentNameOf(value)
		case types.CommandFilterKeyExecutionStage:
			f.stage = value
			switch {
			case !stages:
				err = refuse(codeInvalidFilterKey, "The filter %s is for ListCommands only.", filter.Key)
			case value != stageExecuting && value != stageComplete:
				err = refuse(codeValidation, "The filter value %q is no execution stage: use %s or %s.", value, stageExecuting, stageComplete)
			}
		default:
			err = refuse(codeInvalidFilterKey, "The specified filter key %q isn't valid.", filter.Key)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func parseFilterTime(value string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return t, refuse(codeValidation, "The filter value %q is no time such as 2026-11-23T12:00:00Z.", value)
	}
	return t, nil
}

// matchesCommand reports whether a command passes.
func (f *commandFilter) matchesCommand(requestedAt time.Time, document, status, details string, finished bool) bool {
	return f.matches(requestedAt, document, status, details) &&
		(f.stage == "" || (f.stage == stageComplete) == finished)
}

// matches reports whether a command's or invocation's common part passes.
func (f *commandFilter) matches(requestedAt time.Time, document, status, details string) bool {
	return (f.after.IsZero() || !requestedAt.Before(f.after)) &&
		(f.before.IsZero() || requestedAt.Before(f.before)) &&
		(f.document == "" || f.document == document) &&
		statusMatches(f.status, status, details)
}

// statusMatches takes a filter's token for a status or its details.
func statusMatches(token, status, details string) bool {
	if token == "LimitExceeded" {
		token = "RateExceeded" // how the same is called in StatusDetails
	}
	return token == "" || token == status || token == details
}
