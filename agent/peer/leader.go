package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptrace"
	"slices"
	"time"
)

// pace is how patiently the leader is searched and attended.
type pace struct {
	// search bounds the search for a leader: longer than an election takes, and
	// short enough that an API client is told within 5 s. It does not bound a call
	// that a leader is working on.
	search time.Duration
	// searchAgain bounds it while the last search found nobody: whoever asks a mesh
	// that is known to be without a leader is told so soon, however often.
	searchAgain time.Duration
	// connect is how long one candidate may take to be connected to before the
	// next is asked. The connection goes on being made and serves a later round.
	connect time.Duration
	// attendAfter is how long a call to the leader goes on before the client looks
	// whether the leader still lives; then it looks every attendEvery, and
	// attendAgain after a look that failed. A look fails after attendLimit. Together
	// they are some 3 s, so that an API client is told within 5 s also of a leader
	// that stopped under its call; a leader that is so slow has long lost its voters.
	attendAfter, attendEvery, attendAgain, attendLimit time.Duration
}

func normalPace() pace {
	return pace{
		search: 4 * time.Second, searchAgain: 700 * time.Millisecond, connect: time.Second,
		attendAfter: 750 * time.Millisecond, attendEvery: 2 * time.Second,
		attendAgain: 100 * time.Millisecond, attendLimit: time.Second,
	}
}

const (
	// Pauses between rounds over the candidates, each stretched by chance by up to
	// a half, so that a thousand nodes do not ask in step.
	firstPause = 50 * time.Millisecond
	mostPause  = 300 * time.Millisecond
	// answerLimit bounds the leader's work on a report or a renewal.
	answerLimit = 30 * time.Second
)

// Forward hands an API request to the leader. With retry the request may be sent
// again when the outcome of a try is unknown: for requests that the leader
// recognizes when they come twice.
func (c *Client) Forward(ctx context.Context, in *ForwardRequest, retry bool) (*ForwardResponse, error) {
	return toLeaderCall[ForwardRequest, ForwardResponse](ctx, c, toLeader, routeForward, in, retry)
}

// Report hands this node's reports to the leader. A report may arrive twice.
func (c *Client) Report(ctx context.Context, in *ReportRequest) (*ReportResponse, error) {
	return toLeaderCall[ReportRequest, ReportResponse](ctx, c, toLeader, routeReport, in, true)
}

// Renew asks the leader for a new certificate for this node's key. It works with
// an expired certificate, and with voters whose certificates are expired too. The
// answer's roster is for the caller to take.
func (c *Client) Renew(ctx context.Context, in *RenewRequest) (*RenewResponse, error) {
	return toLeaderCall[RenewRequest, RenewResponse](ctx, c, toRenew, routeRenew, in, true)
}

// toLeaderCall sends a call to the leader, wherever it is: rounds over the
// candidates, following the hints of those that do not lead, until one answers or
// time is up.
func toLeaderCall[In, Out any](ctx context.Context, c *Client, to purpose, route string, in *In, retry bool) (*Out, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	var s search
	patience := c.pace.search
	if c.leaderless.Load() {
		patience = c.pace.searchAgain
	}
	end := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		heard := c.cfg.Gate.leader.Load()
		queue := candidates(c.likeliest(heard), c.cfg.Credentials.Identity().NodeID, c.cfg.Gate.view.Load(), c.isSuspect, rand.Perm)
		tried := make(map[Target]bool)
		for len(queue) > 0 && ctx.Err() == nil {
			target := queue[0]
			queue = queue[1:]
			if tried[target] {
				continue
			}
			tried[target] = true
			out, err := attempt[In, Out](ctx, c, to, target, route, in, retry)
			c.suspect(target, err)
			if heard != nil && (err == nil) != (*heard == target.NodeID) {
				c.cfg.Gate.leader.CompareAndSwap(heard, nil) // another leads, or this one does not
			}
			if err == nil {
				c.leader.Store(&target)
				c.leaderless.Store(false)
				return out, nil
			}
			if known := c.leader.Load(); known != nil && *known == target {
				c.leader.CompareAndSwap(known, nil)
			}
			lostBefore := s.unknown
			hint, done := s.note(err, retry)
			if done {
				return nil, err
			}
			if s.unknown && !lostBefore {
				// The try may have taken its time; leave some for another.
				end = latest(end, time.Now().Add(c.pace.search/2))
			}
			// A leader that the roster does not know is not called on a hint alone;
			// when the roster has been refreshed, a later round will. A renewal goes
			// further, for it brings the roster: it believes a voter's certificate.
			if hint != nil && (c.knows(*hint) || to == toRenew) {
				queue = append([]Target{*hint}, queue...)
			}
			if time.Now().After(end) {
				break
			}
		}
		if ctx.Err() != nil {
			return nil, s.failure(context.Cause(ctx))
		}
		// Perhaps the roster is an old one and others lead today.
		c.cfg.Gate.wantRoster()
		if time.Now().After(end) {
			c.leaderless.Store(true)
			return nil, s.failure(nil)
		}
		select {
		case <-time.After(min(stretched(pause), time.Until(end))):
		case <-ctx.Done():
			return nil, s.failure(context.Cause(ctx))
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func stretched(pause time.Duration) time.Duration {
	return pause + rand.N(pause/2)
}

// likeliest is who led last, as far as this node knows: who called it as the
// leader, or who answered it as one.
func (c *Client) likeliest(heard *string) *Target {
	if heard != nil && *heard != c.cfg.Credentials.Identity().NodeID {
		if m, ok := c.cfg.Gate.view.Load().members[*heard]; ok {
			return &Target{NodeID: m.NodeID, Address: m.Address}
		}
	}
	return c.leader.Load()
}

// greetLeaders opens the connection to a leader that has made itself known, ahead
// of the first report: else the first command would wait for a handshake with each
// of its nodes twice, once each way. The leader sets the pace, by its own first
// calls. It is the client's own goroutine.
func (c *Client) greetLeaders() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.cfg.Gate.leaderHeard:
		}
		if target := c.likeliest(c.cfg.Gate.leader.Load()); target != nil {
			ctx, cancel := context.WithTimeout(c.ctx, handshakeLimit)
			// What fails, the report will meet again.
			_, _ = call[readRosterRequest, readRosterResponse](ctx, c, toLeader, *target, routeReadRoster, &readRosterRequest{}, false)
			cancel()
		}
	}
}

// knows reports whether the roster has this node as a voter or stand-by.
func (c *Client) knows(target Target) bool {
	_, ok := c.cfg.Gate.view.Load().members[target.NodeID]
	return ok
}

// errSlow ends a try at a candidate that cannot be connected to in time.
var errSlow = errors.New("it takes long to connect")

// attempt is one try at one candidate, attended while it lasts.
func attempt[In, Out any](ctx context.Context, c *Client, to purpose, target Target, route string, in *In, retry bool) (*Out, error) {
	if route != routeForward {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerLimit)
		defer cancel()
	}
	if to == toRenew && !c.knows(target) {
		to = toHinted
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(c.pace.connect, func() { cancel(errSlow) })
	defer slow.Stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { slow.Stop() }})
	defer c.attend(ctx, cancel, to, target)()
	return call[In, Out](ctx, c, to, target, route, in, retry)
}

// search is what a search for the leader has met so far.
type search struct {
	// unknown is set once a try ended without its outcome being known.
	unknown bool
	// refused is the last answer "not now".
	refused *Refusal
	last    error
}

// note takes the error of a try in. It returns the leader that was named, if any,
// and done when the search ends with this error.
func (s *search) note(err error, retry bool) (hint *Target, done bool) {
	s.last = err
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		switch refusal.Kind {
		case RefusedNotLeader:
			if refusal.Leader == "" || refusal.LeaderID == "" {
				return nil, false
			}
			return &Target{NodeID: refusal.LeaderID, Address: refusal.Leader}, false
		case RefusedUnavailable:
			s.refused = refusal
			return nil, false
		default:
			return nil, true
		}
	}
	if errors.Is(err, ErrNotSent) {
		return nil, false
	}
	s.unknown = true
	return nil, !retry
}

// failure is the error of a search that found nobody. cause is why it ended early.
func (s *search) failure(cause error) error {
	why := s.last
	if why == nil {
		why = errors.New("no candidate is known")
	}
	switch {
	case s.unknown && cause != nil:
		return fmt.Errorf("%w: %w", cause, why)
	case s.unknown:
		return fmt.Errorf("%w, and what a try before has done is unknown: %w", ErrNoLeader, opaque(why))
	case s.refused != nil:
		return s.refused
	case cause != nil:
		return fmt.Errorf("%w: %w: %w: %w", ErrNoLeader, ErrNotSent, cause, opaque(why))
	default:
		return fmt.Errorf("%w: %w: %w", ErrNoLeader, ErrNotSent, opaque(why))
	}
}

// opaque keeps an error's text and hides what it is: the last try's refusal or
// ErrNotSent says nothing about the tries before it.
func opaque(err error) error { return errors.New(err.Error()) }

// suspectTime is how long a candidate that did not answer is asked last.
const suspectTime = 15 * time.Second

// suspect notes whether a candidate answered, with whatever.
func (c *Client) suspect(target Target, err error) {
	c.suspectsMu.Lock()
	defer c.suspectsMu.Unlock()
	if refusal := (*Refusal)(nil); err == nil || errors.As(err, &refusal) {
		delete(c.suspects, target)
		return
	}
	for known, since := range c.suspects {
		if time.Since(since) > suspectTime {
			delete(c.suspects, known)
		}
	}
	c.suspects[target] = time.Now()
}

func (c *Client) isSuspect(target Target) bool {
	c.suspectsMu.Lock()
	defer c.suspectsMu.Unlock()
	since, ok := c.suspects[target]
	return ok && time.Since(since) <= suspectTime
}

// candidates lists whom to ask for the leader, the likeliest first: who led last,
// this node itself where it holds the store (it answers at once and knows), the
// voters by chance, the stand-bys, and after all of them those that did not answer
// a moment ago.
func candidates(last *Target, self string, v *rosterView, suspect func(Target) bool, shuffle func(int) []int) []Target {
	var first, voters, standBys, suspects []Target
	if last != nil {
		first = append(first, *last)
	}
	for _, i := range shuffle(len(v.roster.Members)) {
		m := v.roster.Members[i]
		target := Target{NodeID: m.NodeID, Address: m.Address}
		switch {
		case suspect(target):
			suspects = append(suspects, target)
		case m.NodeID == self:
			first = append(first, target)
		case m.StandBy:
			standBys = append(standBys, target)
		default:
			voters = append(voters, target)
		}
	}
	return slices.Concat(first, voters, standBys, suspects)
}
