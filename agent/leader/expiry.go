package leader

import (
	"fmt"
	"time"

	"fleetmesh/raftstore"
)

// situation is what the leader knows about an open invocation besides its record.
type situation struct {
	// removed: the node is not enrolled any more.
	removed bool
	// refused is why the node will not run it, "" when it has not refused.
	refused string
	tooLate bool // it refused because the time to start is over
	// unsent: in flight, and it is certain that the node has not got the job and
	// that nothing is under way to it.
	unsent bool
	// tried: at least one attempt to send it has failed.
	tried bool
	alive bool
}

// settle returns what an open invocation must become now whatever its command's
// rate allows: ended, or, if it never left, waiting again (Delayed). changed is false when
// it may go on as it is.
func settle(was raftstore.Invocation, command raftstore.Command, state raftstore.CommandState, epoch uint64, s situation, now time.Time) (is raftstore.Invocation, changed bool) {
	timedOut := func(reason string) (raftstore.Invocation, bool) {
		return ended(was, invocationTimedOut, detailDeliveryTimedOut, reason, now), true
	}
	switch {
	case was.Terminal():
		return was, false
	case command.Epoch != epoch:
		return ended(was, invocationFailed, detailTerminated, "restored: the mesh was restored from a snapshot while this was unfinished; it may have run", now), true
	case s.removed && was.InFlight() && !s.unsent:
		return ended(was, invocationFailed, detailFailed, "the node was removed from the mesh after it was sent the job; it may have run", now), true
	case s.removed:
		return ended(was, invocationFailed, detailUndeliverable, "the node was removed from the mesh", now), true
	case s.refused != "" && s.tooLate:
		return timedOut(s.refused)
	case s.refused != "":
		return ended(was, invocationFailed, detailFailed, "the node refused the job: "+s.refused, now), true
	case !now.Before(command.ExpiresAt) && was.InFlight():
		return timedOut(fmt.Sprintf("the node was sent the job and did not report its end before %s", command.ExpiresAt.UTC().Format(time.RFC3339)))
	case !was.InFlight() && (!now.Before(command.DeliverUntil) || !now.Before(command.ExpiresAt)):
		return timedOut(fmt.Sprintf("not started before %s", command.DeliverUntil.UTC().Format(time.RFC3339)))
	case !was.InFlight() && overThreshold(state):
		return ended(was, invocationFailed, detailTerminated, "not started, because the command had more errors than MaxErrors", now), true
	case !was.InFlight() || !s.unsent:
		return was, false
	}
	// In flight by the record, but the job never left.
	switch {
	case was.Cancelling:
		return ended(was, invocationCancelled, detailCancelled, "cancelled before the node got it", now), true
	case overThreshold(state):
		return ended(was, invocationFailed, detailTerminated, "not sent, because the command had more errors than MaxErrors", now), true
	case !now.Before(command.DeliverUntil):
		return timedOut(fmt.Sprintf("the node could not be reached before %s", command.DeliverUntil.UTC().Format(time.RFC3339)))
	case s.tried && !s.alive:
		was.DispatchedAt = time.Time{}
		was.Status, was.StatusDetails = invocationDelayed, detailDelayed
		return was, true
	}
	return was, false
}

// nextDeadline is when time alone will change something about the command. Open
// invocations that were not started end at DeliverUntil, all others at ExpiresAt.
func nextDeadline(command raftstore.Command, now time.Time) time.Time {
	if now.Before(command.DeliverUntil) && command.DeliverUntil.Before(command.ExpiresAt) {
		return command.DeliverUntil
	}
	return command.ExpiresAt
}
