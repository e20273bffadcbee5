// Package clock keeps a node's two times: its own, which the machine tells, and
// the mesh's, which the leader tells. Records and deadlines of the mesh go by the
// mesh's time, so that a leader with a wrong clock, or two leaders with different
// ones, let nothing expire early and start nothing late.
package clock

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Tolerance is how far two clocks may be apart and still count as agreeing. It
	// is above what a busy machine adds to a round trip, and below what a deadline
	// is set in.
	Tolerance = 2 * time.Second
	// drift bounds how much faster one machine's steady clock runs than another's.
	drift = 500e-6
)

// Clock is safe for concurrent use.
type Clock struct {
	own func() time.Time
	// steady counts on while the machine sleeps, and is never set.
	steady func() time.Duration

	mu sync.Mutex
	// mesh is the mesh's time at the steady time at, once set is true.
	set  bool
	mesh time.Time
	at   time.Duration
	// known is closed once set is true.
	known chan struct{}

	term uint64
	// leads: this node told the time of term, and listens to nobody.
	leads bool
	// quickest is the leader's steady time minus this node's, by the quickest call
	// of the term so far, and quickestAt when it came.
	quickest, quickestAt time.Duration

	// others are other nodes' clocks minus this node's steady time.
	others map[string]time.Duration
}

// New returns a clock over the machine's; nil is the system's.
func New(own func() time.Time) *Clock {
	if own == nil {
		own = time.Now
	}
	start := time.Now()
	return &Clock{own: own, steady: func() time.Duration { return sinceBoot(start) }, known: make(chan struct{}), others: map[string]time.Duration{}}
}

// sinceBoot is the time since the machine was started, sleep included, or since
// start where the kernel does not tell.
func sinceBoot(start time.Time) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Since(start)
	}
	return time.Duration(ts.Nano())
}

// Own is the machine's time.
func (c *Clock) Own() time.Time { return c.own() }

// Steady is a time that is never set: for the distance of two moments on this
// machine.
func (c *Clock) Steady() time.Duration { return c.steady() }

// Now is the mesh's time as this node knows it: the leader's word, counted on; the
// machine's own while no leader has told it any. Setting the machine's clock does
// not move it.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.set {
		return c.own()
	}
	return c.mesh.Add(c.steady() - c.at)
}

// Known is closed once Now is more than this machine's own word.
func (c *Clock) Known() <-chan struct{} { return c.known }

// Lead makes this node the one that tells the time in a term. It goes on from what
// it knows.
func (c *Clock) Lead(term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if term >= c.term {
		c.term, c.leads = term, true
	}
}

// Set sets the mesh's time. Only the leader calls it.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(now)
}

// take is called with mu held.
func (c *Clock) take(now time.Time) {
	c.mesh, c.at = now.Round(0).UTC(), c.steady()
	if !c.set {
		c.set = true
		close(c.known)
	}
}

// Hear takes the time from a call of the leader of a term: sent is its steady time
// when it made the call, now the mesh's. The result is how long the call was on its
// way, as far as that can be known: at least 0, and never more than it really was.
// A call that has lain in the buffers of a machine that stood still is known by
// that. A leader's first call in a term has nothing to be compared with.
func (c *Clock) Hear(term uint64, sent time.Duration, now time.Time) (late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	steady := c.steady()
	ahead := sent - steady
	switch {
	case term < c.term:
		return 0
	case term > c.term:
		c.term, c.leads = term, false
		c.quickest, c.quickestAt = ahead, steady
	case c.leads:
		return 0 // its own call to itself
	default:
		c.quickest -= time.Duration(float64(steady-c.quickestAt) * drift)
		c.quickest, c.quickestAt = max(c.quickest, ahead), steady
	}
	late = c.quickest - ahead
	if !now.IsZero() {
		c.take(now.Add(late))
	}
	return late
}

// Compare notes what another node's clock said in an answer that has just come.
func (c *Clock) Compare(nodeID string, theirs time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others[nodeID] = time.Duration(theirs.UnixNano()) - c.steady()
}

// Ahead is how far other nodes' clocks are ahead of this machine's, for those that
// were compared with it; the answers' way is missing from it.
func (c *Clock) Ahead() map[string]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead := maps.Clone(c.others)
	own := time.Duration(c.own().UnixNano()) - c.steady()
	for id, theirs := range ahead {
		ahead[id] = theirs - own
	}
	return ahead
}

// Forget drops what is known of a node's clock.
func (c *Clock) Forget(nodeID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.others, nodeID)
}
