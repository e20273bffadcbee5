package leader

import (
	"slices"
	"time"

	"fleetmesh/raftstore"
)

// wantsCancel reports whether a request to cancel names the node.
func wantsCancel(c raftstore.CommandCancel, nodeID string) bool {
	return c.CommandID != "" && (c.All || slices.Contains(c.NodeIDs, nodeID))
}

// cancel returns what a request to cancel makes of an open invocation: one that
// was not started ends at once, one in flight ends by the node's report.
func cancel(was raftstore.Invocation, now time.Time) (is raftstore.Invocation, changed bool) {
	switch {
	case was.Terminal() || was.Cancelling:
		return was, false
	case !was.InFlight():
		return ended(was, invocationCancelled, detailCancelled, "cancelled before it was started", now), true
	}
	was.Cancelling = true
	was.Status, was.StatusDetails = invocationCancelling, detailCancelling
	return was, true
}

// ended returns the invocation in a terminal state.
func ended(i raftstore.Invocation, status, details, reason string, now time.Time) raftstore.Invocation {
	i.Status, i.StatusDetails = status, details
	i.Reason = first(reason, maxReason)
	i.FinishedAt = now
	return i
}
