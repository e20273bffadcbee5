package peer

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Causes of the end of a call to a leader that is gone.
var (
	errUnresponsive = errors.New("the leader has stopped answering")
	errSucceeded    = errors.New("the leader has stopped answering, and another leads in its place")
)

// attend watches over a call: it asks the target something small beside it, and
// cancels the call when two such questions in a row are not answered, or one when
// a newer leader has made itself known since the call began: a machine that lost
// power, a paused process and a cut network are silent alike, and a call may
// rightly take long. The caller calls stop when the call is over; nothing runs any
// more when stop returns.
func (c *Client) attend(ctx context.Context, cancel context.CancelCauseFunc, to purpose, target Target) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	term := c.cfg.Gate.Term()
	timer := time.AfterFunc(c.pace.attendAfter, func() {
		defer close(done)
		for failed := false; ; {
			alive := c.ping(ctx, to, target)
			if ctx.Err() != nil {
				return
			}
			switch {
			case !alive && c.cfg.Gate.Term() > term:
				cancel(errSucceeded)
				return
			case !alive && failed:
				cancel(errUnresponsive)
				return
			}
			failed = !alive
			pause := c.pace.attendEvery
			if failed {
				pause = c.pace.attendAgain
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		end()
		if !timer.Stop() {
			<-done
		}
	}
}

// ping reports whether a node answers at all; a refusal is an answer. It has a
// pool of its own where it can, so that long calls do not keep it waiting.
func (c *Client) ping(ctx context.Context, to purpose, target Target) bool {
	ctx, cancel := context.WithTimeout(ctx, c.pace.attendLimit)
	defer cancel()
	if c.knows(target) {
		to = toRoster
	}
	_, err := call[readRosterRequest, readRosterResponse](ctx, c, to, target, routeReadRoster, &readRosterRequest{}, false)
	refusal := (*Refusal)(nil)
	return err == nil || errors.As(err, &refusal)
}

const (
	// refreshLimit bounds one round of asking for the roster, refreshPause is the
	// shortest time between two.
	refreshLimit = 5 * time.Second
	refreshPause = 2 * time.Second
)

// refreshWhenWanted looks for a newer roster when the server has met a voter that
// this node's roster does not know, or when no leader is found among those that it
// does. It is the client's own goroutine.
func (c *Client) refreshWhenWanted() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.cfg.Gate.rosterWanted:
			c.refresh()
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(stretched(refreshPause)):
		}
	}
}

// WantRoster has the client look for a newer roster soon.
func (c *Client) WantRoster() { c.cfg.Gate.wantRoster() }

// refresh asks the members of the roster for theirs and takes the newest. A node
// that was away while voters changed so finds the new ones; it believes only who
// was a voter by its own roster. What fails is passed over: it will be wanted
// again.
func (c *Client) refresh() {
	ctx, cancel := context.WithTimeout(c.ctx, refreshLimit)
	defer cancel()
	self := c.cfg.Credentials.Identity().NodeID
	var asked sync.WaitGroup
	for _, m := range c.cfg.Gate.Roster().Members {
		if m.NodeID == self {
			continue
		}
		asked.Go(func() {
			target := Target{NodeID: m.NodeID, Address: m.Address}
			answer, err := call[readRosterRequest, readRosterResponse](ctx, c, toRoster, target, routeReadRoster, &readRosterRequest{}, true)
			if err != nil {
				return
			}
			changed, err := c.cfg.Gate.Update(answer.Roster)
			if err != nil {
				c.cfg.Log.Warn("take the roster of a voter", "node", m.NodeID, "error", err)
			} else if changed {
				c.cfg.Log.Info("roster found at a voter", "node", m.NodeID, "version", answer.Roster.Version)
			}
		})
	}
	asked.Wait()
}
