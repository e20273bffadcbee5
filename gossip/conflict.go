package gossip

import (
	"context"
	"fmt"
	"net"
	"time"
)

const (
	// conflictPings are sent to an address before it counts as silent.
	conflictPings = 5
	// conflictPatience times ConflictDelay is how long others may say that this
	// node is alive elsewhere, at an address that is silent from here, before they
	// are believed. It is longer than a failure takes to be found.
	conflictPatience = 10
	// maxConflicts bounds how many addresses are reported.
	maxConflicts = 64
)

// elsewhere is an address, not this node's, at which others have this node's id.
type elsewhere struct {
	address string
	alive   bool
	since   time.Time
}

// noteSelf is told where others have this node. If elsewhere, then either two
// nodes have one id, or this node has moved and the others do not know yet.
func (g *Gossip) noteSelf(address string, alive bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if address == g.transport.address() {
		g.elsewhere = nil
		return
	}
	if g.elsewhere == nil || g.elsewhere.address != address {
		g.elsewhere = &elsewhere{address: address, since: time.Now()}
	}
	g.elsewhere.alive = alive
	wake(g.wakeConflict)
}

// claim returns a copy of what noteSelf has noted.
func (g *Gossip) claim() (elsewhere, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.elsewhere == nil {
		return elsewhere{}, false
	}
	return *g.elsewhere, true
}

func (g *Gossip) dropClaim() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.elsewhere = nil
}

// answers asks the address for a node with this node's id.
func (g *Gossip) answers(ctx context.Context, address string) bool {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return false
	}
	for range conflictPings {
		if ctx.Err() != nil {
			return false
		}
		if _, err := g.list.Ping(g.config.NodeID, to); err == nil {
			return true
		}
	}
	return false
}

func (g *Gossip) duplicate(address string) error {
	return fmt.Errorf("node id %s is in use at %s, this node is at %s: %w",
		g.config.NodeID, address, g.transport.address(), ErrDuplicateNode)
}

// conflictLoop looks into claims to this node's id: a living one is reported, and
// a stale one is worn down by announcing this node again until the others take
// the new address (which they do DeadReclaim after the old one has failed).
func (g *Gossip) conflictLoop(ctx context.Context) {
	reported := make(map[string]bool)
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wakeConflict:
		}
		for {
			if _, ok := g.claim(); !ok {
				break
			}
			if !sleep(ctx, g.config.Timings.ConflictDelay) {
				return
			}
			c, ok := g.claim()
			if !ok || reported[c.address] {
				break
			}
			patient := time.Since(c.since) < conflictPatience*g.config.Timings.ConflictDelay
			if c.alive && len(reported) < maxConflicts && (g.answers(ctx, c.address) || !patient) {
				reported[c.address] = true
				err := g.duplicate(c.address)
				g.config.Log.Error("two nodes have one id", "error", err)
				g.config.OnConflict(err)
				break
			}
			other := g.anyAlive()
			if other == "" {
				// Nobody is there to hold another opinion.
				g.dropClaim()
				break
			}
			if !c.alive || !patient {
				g.config.Log.Debug("gossip announces a new address", "old", c.address, "new", g.transport.address())
			}
			// A failure is logged by join, and this goes on anyway.
			_ = g.join(other)
		}
	}
}
