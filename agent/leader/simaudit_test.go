package leader

import (
	"errors"
	"fmt"
	"strings"

	"fleetmesh/raftstore"
)

// What must be true of the store is said here in words of its own: nothing of the
// product counts or aggregates for it.

// census is a command's invocations, counted.
type census struct {
	all, ended, inFlight, started, heard, delayed int
	endings                                       map[string]int
}

func (c census) errors() int { return c.endings["Failed"] + c.endings["ExecutionTimedOut"] }

func takeCensus(r raftstore.Reader, commandID string) (census, error) {
	c := census{endings: map[string]int{}}
	err := raftstore.ScanInvocations(r, commandID, "", func(i raftstore.Invocation) bool {
		c.all++
		if !i.FinishedAt.IsZero() {
			c.ended++
			c.endings[i.StatusDetails]++
		}
		if !i.DispatchedAt.IsZero() {
			c.started++
			if i.Sequence > 0 || !i.FinishedAt.IsZero() {
				c.heard++
			}
			if i.FinishedAt.IsZero() {
				c.inFlight++
			}
		}
		if i.Status == "Delayed" {
			c.delayed++
		}
		return true
	})
	return c, err
}

// finalOf is how a command must end, as docs/decisions/0010 says.
func finalOf(c census, maxErrors int, cancelled bool) string {
	unreached := c.endings["Undeliverable"] + c.endings["InvalidPlatform"] + c.endings["AccessDenied"]
	good, late := c.endings["Success"], c.endings["DeliveryTimedOut"]
	if c.all == 0 {
		return "Success/NoInstancesInTag"
	}
	if good == c.all {
		return "Success/Success"
	}
	if n := c.endings["Cancelled"]; n > 0 && (cancelled || n == c.all) {
		return "Cancelled/Cancelled"
	}
	if c.errors() > maxErrors {
		if c.endings["ExecutionTimedOut"] > c.endings["Failed"] {
			return "TimedOut/ExecutionTimedOut"
		}
		return "Failed/Failed"
	}
	if late > 0 && late >= maxErrors {
		return "TimedOut/DeliveryTimedOut"
	}
	if good+unreached == c.all {
		if good == 0 {
			return "Failed/Failed"
		}
		return "Success/Success"
	}
	return "Failed/Incomplete"
}

// audit checks what must be true of every commit and returns what is not.
func audit(before *past, after *memory, ramp bool) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	starts := map[string]int{}
	for key := range before.was {
		rest, ok := strings.CutPrefix(key, "invocation/")
		if !ok {
			continue
		}
		id, node, _ := strings.Cut(rest, "/")
		old, oldErr := raftstore.GetInvocation(before, id, node)
		is, err := raftstore.GetInvocation(after, id, node)
		if err != nil {
			fault("command %s: its invocation on %s is gone: %w", id, node, err)
			continue
		}
		if oldErr == nil && !old.FinishedAt.IsZero() && (old.Status != is.Status || old.StatusDetails != is.StatusDetails || !old.FinishedAt.Equal(is.FinishedAt)) {
			fault("command %s: the end on %s changed from %s to %s", id, node, old.StatusDetails, is.StatusDetails)
		}
		if oldErr == nil && is.Sequence < old.Sequence {
			fault("command %s on %s: the sequence went back from %d to %d", id, node, old.Sequence, is.Sequence)
		}
		if is.Cancelling && is.DispatchedAt.IsZero() && is.FinishedAt.IsZero() {
			fault("command %s: the invocation on %s is to be cancelled, was not started, and has not ended", id, node)
		}
		if !is.DispatchedAt.IsZero() && (oldErr != nil || old.DispatchedAt.IsZero()) {
			starts[id]++
		}
	}
	for key := range before.was {
		id, ok := strings.CutPrefix(key, "command-state/")
		if !ok {
			continue
		}
		state, err := raftstore.GetCommandState(after, id)
		if err != nil {
			fault("command %s: %w", id, err)
			continue
		}
		was, wasErr := raftstore.GetCommandState(before, id)
		count, err := takeCensus(after, id)
		if err != nil {
			fault("command %s: %w", id, err)
		}
		if count.ended != state.CompletedCount || count.errors() != state.ErrorCount || count.endings["DeliveryTimedOut"] != state.DeliveryTimedOutCount ||
			count.inFlight != state.InFlight || count.delayed != state.DelayedCount {
			fault("command %s: the counters %+v are not those of its invocations %+v", id, state, count)
		}
		if state.Resolved && count.all != state.TargetCount {
			fault("command %s: %d targets and %d invocations", id, state.TargetCount, count.all)
		}
		if count.inFlight > state.MaxConcurrency {
			fault("command %s: %d in flight, MaxConcurrency is %d", id, count.inFlight, state.MaxConcurrency)
		}
		if n := starts[id]; n > 0 && count.errors() > state.MaxErrors {
			fault("command %s: %d starts with %d errors, MaxErrors is %d", id, n, count.errors(), state.MaxErrors)
		}
		if n := starts[id]; n > 0 && ramp && count.started > 2*count.heard+1 {
			fault("command %s: %d started, only %d have been heard of", id, count.started, count.heard)
		}
		if wasErr == nil && was.MaxConcurrency > 0 && (was.MaxConcurrency != state.MaxConcurrency || was.MaxErrors != state.MaxErrors) {
			fault("command %s: its limits changed from %d/%d to %d/%d", id, was.MaxConcurrency, was.MaxErrors, state.MaxConcurrency, state.MaxErrors)
		}
		if wasErr == nil && !was.FinishedAt.IsZero() && (was.Status != state.Status || was.StatusDetails != state.StatusDetails || !was.FinishedAt.Equal(state.FinishedAt)) {
			fault("command %s: its end changed from %s to %s", id, was.StatusDetails, state.StatusDetails)
		}
		if !state.FinishedAt.IsZero() {
			if count.ended != count.all {
				fault("command %s: ended with %d of %d", id, count.ended, count.all)
			}
			if got, want := state.Status+"/"+state.StatusDetails, finalOf(count, state.MaxErrors, state.Cancelling); got != want {
				fault("command %s ended %s, want %s: %v, MaxErrors %d", id, got, want, count.endings, state.MaxErrors)
			}
		}
		delete(starts, id)
	}
	for id, n := range starts {
		fault("command %s: %d starts without its counters", id, n)
	}
	return errors.Join(faults...)
}
