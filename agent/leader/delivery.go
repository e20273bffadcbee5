package leader

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/failpoint"
)

// phase is how far the job of an invocation in flight has come to its node, as
// far as this leader knows.
type phase int

const (
	// toAsk: whether the node has it is not known, and it must be known before
	// anything else: an earlier leader started it, or it is to be cancelled.
	toAsk phase = iota
	// toSend: to be sent, for the first time or again; accepting is idempotent.
	toSend
	// accepted: the node has it durably and will report.
	accepted
)

// delivery is one job on its way; it exists while its invocation is in flight.
type delivery struct {
	commandID string
	nodeID    string
	phase     phase
	// uncertain: the node may have got it although nobody said so, because an
	// attempt of this term ended without an answer. What an earlier leader sent is
	// not uncertain: once the node has answered in this term it takes nothing more
	// from an earlier one.
	uncertain bool
	// unknownSince is when the node first said that it has not got it, since the
	// last attempt; asked again at askAt. A request may lie in the buffers of a node
	// that stood still, so one such answer does not end the uncertainty.
	unknownSince time.Time
	askAt        time.Time
	calling      bool
	tried        bool
	// refused is why the node will not take it; final once nothing is uncertain.
	refused string
	tooLate bool
	// cancel: the node is to end it; asked again at cancelAt until it reports.
	cancel      bool
	cancelAt    time.Time
	cancelTries int
}

// unsent: it is certain that the node has not got it and nothing is under way.
func (d *delivery) unsent() bool {
	return d.phase == toSend && !d.uncertain && !d.calling
}

// link is all deliveries of one node. One call at a time goes over it.
type link struct {
	nodeID     string
	deliveries map[string]*delivery // by command id
	busy       bool
	// alive is what gossip said last.
	alive     bool
	notBefore time.Time
	tries     int
	// solo: one job a call, since the node could not take a call with several.
	solo bool
	// due is when the schedule will look at the link; zero when it is not on it.
	due   time.Time
	index int
}

// schedule is a heap of links by the time to look at them.
type schedule []*link

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	if s[i].due.Equal(s[j].due) {
		return s[i].nodeID < s[j].nodeID
	}
	return s[i].due.Before(s[j].due)
}
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}
func (s *schedule) Push(x any) {
	l := x.(*link)
	l.index = len(*s)
	*s = append(*s, l)
}
func (s *schedule) Pop() any {
	old := *s
	l := old[len(old)-1]
	*s = old[:len(old)-1]
	l.due = time.Time{}
	return l
}

// pop takes the first link off the schedule.
func (s *schedule) pop() *link { return heap.Pop(s).(*link) }

// at puts the link on the schedule, not later than it is already.
func (s *schedule) at(l *link, due time.Time) {
	switch {
	case l.due.IsZero():
		l.due = due
		heap.Push(s, l)
	case due.Before(l.due):
		l.due = due
		heap.Fix(s, l.index)
	}
}

type callKind int

const (
	callJobs callKind = iota
	callCancel
	callStates
)

// call is one request to a node. The engine makes it, a goroutine performs it,
// and its answer comes back to the engine.
type call struct {
	kind   callKind
	nodeID string
	target peer.Target
	fence  peer.Fence
	jobs   []peer.Job
	ids    []string
}

// answer is what became of a call.
type answer struct {
	call    *call
	answers []peer.JobAnswer
	unknown []string
	err     error
}

// perform makes the call; it may run on any goroutine.
func (c *call) perform(ctx context.Context, peers Peers, timeout time.Duration) answer {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	a := answer{call: c}
	switch c.kind {
	case callJobs:
		var out *peer.JobsResponse
		failpoint.Hit(failpoint.JobsUnsent)
		if out, a.err = peers.Jobs(ctx, c.target, &peer.JobsRequest{Fence: c.fence, Jobs: c.jobs}); a.err == nil {
			failpoint.Hit(failpoint.JobsSent)
			a.answers = out.Answers
		}
	case callCancel:
		_, a.err = peers.Cancel(ctx, c.target, &peer.CancelRequest{Fence: c.fence, CommandIDs: c.ids})
	case callStates:
		var out *peer.JobStatesResponse
		if out, a.err = peers.JobStates(ctx, c.target, &peer.JobStatesRequest{Fence: c.fence, CommandIDs: c.ids}); a.err == nil {
			a.unknown = out.Unknown
		}
	}
	return a
}

// Bounds of one call, under the peers' 4 MiB.
const (
	maxJobBytes   = 2 << 20
	maxIDsPerCall = 1000
)

// work is what a link has to do at a moment.
type work struct {
	ask, send, cancel []*delivery
	// next is when the link has something more to do without any other event.
	next time.Time
}

func (w *work) wait(until time.Time) {
	if w.next.IsZero() || until.Before(w.next) {
		w.next = until
	}
}

// workOf is pure. In each list deliveries are in order of command ids.
func workOf(l *link, now time.Time) work {
	var w work
	for _, d := range l.deliveries {
		switch {
		case d.phase == toAsk && !now.Before(d.askAt):
			w.ask = append(w.ask, d)
		case d.phase == toAsk:
			w.wait(d.askAt)
		case d.phase == toSend && !d.cancel && d.refused == "":
			w.send = append(w.send, d)
		case d.phase == accepted && d.cancel && !now.Before(d.cancelAt):
			w.cancel = append(w.cancel, d)
		case d.phase == accepted && d.cancel:
			w.wait(d.cancelAt)
		}
	}
	for _, list := range [][]*delivery{w.ask, w.send, w.cancel} {
		slices.SortFunc(list, func(a, b *delivery) int { return strings.Compare(a.commandID, b.commandID) })
	}
	return w
}

// backoff is the pause after so many failures; jitter is in [0, 1).
func backoff(s Settings, tries int, jitter float64) time.Duration {
	d := s.RetryMost
	if tries < 20 {
		d = min(s.RetryMost, s.RetryFirst<<tries)
	}
	return d/2 + time.Duration(float64(d)*jitter/2)
}

// outcome is what a failed call tells about its effect.
type outcome int

const (
	// hadNoEffect: the node has surely not done it.
	hadNoEffect outcome = iota
	// isUnknown: it may have, or may yet.
	isUnknown
	// isStale: the node has seen a newer leader; it has not done it.
	isStale
	// isMalformed: the node will not take this request in this form.
	isMalformed
)

func outcomeOf(err error) outcome {
	var refusal *peer.Refusal
	switch {
	case errors.Is(err, peer.ErrNotSent):
		return hadNoEffect
	case !errors.As(err, &refusal):
		return isUnknown
	}
	switch refusal.Kind {
	case peer.RefusedStaleTerm:
		return isStale
	case peer.RefusedInput:
		return isMalformed
	case peer.RefusedInternal:
		return isUnknown // its journal may have it
	}
	return hadNoEffect
}
