package leader

import (
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// StatusDetails, as SSM writes them.
const (
	detailPending          = "Pending"
	detailDelayed          = "Delayed"
	detailInProgress       = "InProgress"
	detailCancelling       = "Cancelling"
	detailSuccess          = "Success"
	detailFailed           = "Failed"
	detailCancelled        = "Cancelled"
	detailDeliveryTimedOut = "DeliveryTimedOut"
	detailExecutionTimeout = "ExecutionTimedOut"
	detailUndeliverable    = "Undeliverable"
	detailTerminated       = "Terminated"
	detailInvalidPlatform  = "InvalidPlatform"
	detailAccessDenied     = "AccessDenied"
	detailIncomplete       = "Incomplete"
	detailNoInstances      = "NoInstancesInTag"
)

const (
	invocationPending    = string(types.CommandInvocationStatusPending)
	invocationDelayed    = string(types.CommandInvocationStatusDelayed)
	invocationInProgress = string(types.CommandInvocationStatusInProgress)
	invocationCancelling = string(types.CommandInvocationStatusCancelling)
	invocationSuccess    = string(types.CommandInvocationStatusSuccess)
	invocationFailed     = string(types.CommandInvocationStatusFailed)
	invocationCancelled  = string(types.CommandInvocationStatusCancelled)
	invocationTimedOut   = string(types.CommandInvocationStatusTimedOut)
)

// tally is what one invocation adds to its command's counters.
type tally struct {
	completed, errors, deliveryTimedOut, inFlight, delayed int
}

func tallyOf(i *raftstore.Invocation) tally {
	var t tally
	if i.InFlight() {
		t.inFlight = 1
	}
	if i.StatusDetails == detailDelayed {
		t.delayed = 1
	}
	if !i.Terminal() {
		return t
	}
	t.completed = 1
	switch i.StatusDetails {
	case detailFailed, detailExecutionTimeout:
		t.errors = 1
	case detailDeliveryTimedOut:
		t.deliveryTimedOut = 1
	}
	return t
}

// recount replaces what an invocation has added to the counters so far.
func recount(s *raftstore.CommandState, was, is tally) {
	s.CompletedCount += is.completed - was.completed
	s.ErrorCount += is.errors - was.errors
	s.DeliveryTimedOutCount += is.deliveryTimedOut - was.deliveryTimedOut
	s.InFlight += is.inFlight - was.inFlight
	s.DelayedCount += is.delayed - was.delayed
}

// runningStatus is the status of a command that has not ended.
func runningStatus(s raftstore.CommandState) (status, details string) {
	switch {
	case s.Cancelling:
		return string(types.CommandStatusCancelling), detailCancelling
	case s.InFlight == 0 && s.DelayedCount > 0:
		return string(types.CommandStatusInProgress), detailDelayed
	case s.InFlight > 0 || s.CompletedCount > 0:
		return string(types.CommandStatusInProgress), detailInProgress
	}
	return string(types.CommandStatusPending), detailPending
}

// finalStatus is the status of a command whose invocations have all ended;
// endings counts them by StatusDetails. The first rule that fits wins.
func finalStatus(s raftstore.CommandState, endings map[string]int) (status, details string) {
	unreachable := endings[detailUndeliverable] + endings[detailInvalidPlatform] + endings[detailAccessDenied]
	success := endings[detailSuccess]
	switch {
	case s.TargetCount == 0:
		return string(types.CommandStatusSuccess), detailNoInstances
	case success == s.TargetCount:
		return string(types.CommandStatusSuccess), detailSuccess
	case endings[detailCancelled] == s.TargetCount, s.Cancelling && endings[detailCancelled] > 0:
		return string(types.CommandStatusCancelled), detailCancelled
	case s.ErrorCount > s.MaxErrors && endings[detailExecutionTimeout] > endings[detailFailed]:
		return string(types.CommandStatusTimedOut), detailExecutionTimeout
	case s.ErrorCount > s.MaxErrors:
		return string(types.CommandStatusFailed), detailFailed
	case s.DeliveryTimedOutCount > 0 && s.DeliveryTimedOutCount >= s.MaxErrors:
		return string(types.CommandStatusTimedOut), detailDeliveryTimedOut
	case unreachable == s.TargetCount:
		return string(types.CommandStatusFailed), detailFailed
	case success > 0 && success+unreachable == s.TargetCount:
		return string(types.CommandStatusSuccess), detailSuccess
	}
	return string(types.CommandStatusFailed), detailIncomplete
}
