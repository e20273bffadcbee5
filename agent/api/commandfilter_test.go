package api

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// The tokens that the public documentation lists for the filter Status are taken,
// each where it is listed.
func TestStatusFilterTokens(t *testing.T) {
	commands := []string{"Pending", "InProgress", "Success", "Cancelled", "Failed", "TimedOut", "AccessDenied", "DeliveryTimedOut",
		"ExecutionTimedOut", "Incomplete", "NoInstancesInTag", "LimitExceeded"}
	invocations := []string{"Pending", "InProgress", "Delayed", "Success", "Cancelled", "Failed", "TimedOut", "AccessDenied",
		"DeliveryTimedOut", "ExecutionTimedOut", "Undeliverable", "InvalidPlatform", "Terminated"}
	for _, c := range []struct {
		tokens, taken []string
		stages        bool
	}{{commands, commandStatuses, true}, {invocations, invocationStatuses, false}} {
		for _, token := range c.tokens {
			f, err := parseCommandFilters([]types.CommandFilter{{Key: types.CommandFilterKeyStatus, Value: aws.String(token)}}, c.taken, c.stages)
			if err != nil || f.status != token {
				t.Errorf("%s: %+v, %v", token, f, err)
			}
		}
	}
}

func TestCommandFilterMatches(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		filters  map[types.CommandFilterKey]string
		details  string
		finished bool
		want     bool
	}{
		"nothing asked":                    {nil, "Failed", true, true},
		"a status":                         {map[types.CommandFilterKey]string{"Status": "Failed"}, "Incomplete", true, true},
		"its details":                      {map[types.CommandFilterKey]string{"Status": "Incomplete"}, "Incomplete", true, true},
		"other details of the status":      {map[types.CommandFilterKey]string{"Status": "Incomplete"}, "Failed", true, false},
		"how a limit is called in filters": {map[types.CommandFilterKey]string{"Status": "LimitExceeded"}, "RateExceeded", true, true},
		"invoked at that very moment":      {map[types.CommandFilterKey]string{"InvokedAfter": "2026-11-23T12:00:00Z"}, "Failed", true, true},
		"invoked a second later":           {map[types.CommandFilterKey]string{"InvokedAfter": "2026-11-23T12:00:01Z"}, "Failed", true, false},
		"before that very moment":          {map[types.CommandFilterKey]string{"InvokedBefore": "2026-11-23T12:00:00Z"}, "Failed", true, false},
		"a second before":                  {map[types.CommandFilterKey]string{"InvokedBefore": "2026-11-23T12:00:01Z"}, "Failed", true, true},
		"in another time zone":             {map[types.CommandFilterKey]string{"InvokedAfter": "2026-11-23T13:00:00+01:00"}, "Failed", true, true},
		"complete":                         {map[types.CommandFilterKey]string{"ExecutionStage": "Complete"}, "Failed", true, true},
		"not complete":                     {map[types.CommandFilterKey]string{"ExecutionStage": "Complete"}, "Failed", false, false},
		"executing":                        {map[types.CommandFilterKey]string{"ExecutionStage": "Executing"}, "Failed", false, true},
		"a document":                       {map[types.CommandFilterKey]string{"DocumentName": "AWS-RunShellScript"}, "Failed", true, true},
		"another document":                 {map[types.CommandFilterKey]string{"DocumentName": "AWS-Run"}, "Failed", true, false},
		"all of several": {map[types.CommandFilterKey]string{"Status": "Failed", "ExecutionStage": "Complete", "DocumentName": "AWS-RunShellScript",
			"InvokedAfter": "2026-11-23T00:00:00Z", "InvokedBefore": "2026-11-24T00:00:00Z"}, "Failed", true, true},
		"one of several fails": {map[types.CommandFilterKey]string{"Status": "Failed", "InvokedBefore": "2026-11-22T00:00:00Z"}, "Failed", true, false},
	} {
		var filters []types.CommandFilter
		for key, value := range c.filters {
			filters = append(filters, types.CommandFilter{Key: key, Value: &value})
		}
		f, err := parseCommandFilters(filters, commandStatuses, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := f.matchesCommand(at, "AWS-RunShellScript", "Failed", c.details, c.finished); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
