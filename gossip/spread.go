package gossip

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// How the pauses of spreading follow from GossipInterval.
const (
	// spreadGrace gossip intervals (1s) are given to broadcasts, which usually
	// make the rest unnecessary.
	spreadGrace = 5
	// spreadRetry (5s) is the pause before what did not help is done again; it
	// doubles up to the push/pull interval, which would do it anyway.
	spreadRetry = 25
	// spreadJoins is how many push/pulls one round may do.
	spreadJoins = 3
	// settleCrowd nodes that come within one pause are a crowd: a mesh that starts
	// or heals, not a node that joins.
	settleCrowd = 2
	// settlePause (5 gossip intervals, 1s) is before the first of settleRounds
	// push/pulls; it doubles, and is stretched in large meshes.
	settlePause  = 5
	settleRounds = 4
	// settleHealth is the health score above which memberlist holds this node for
	// overloaded; then it makes no more work.
	settleHealth = 2
	// spreadBroadcasts is how many broadcasts one round may queue again.
	spreadBroadcasts = 64
)

// announceLoop tells all when what this node says about itself has changed.
func (g *Gossip) announceLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wakeAnnounce:
		}
		// It waits until the news has gone out, which also spaces announcements; the
		// only error is that this took longer, and the news is still queued then.
		_ = g.list.UpdateNode(2 * g.config.Timings.GossipInterval)
	}
}

// spreadLoop notices by what the nodes announce that tags are not where they
// belong, and does something about it without waiting for the next push/pull.
func (g *Gossip) spreadLoop(ctx context.Context) {
	interval := g.config.Timings.GossipInterval
	rounds := 0
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wakeSpread:
		case <-again.C:
		}
		// The grace comes first: the look is at all members, and while a large mesh
		// comes up there is news of some at every moment.
		if !sleep(ctx, jittered(spreadGrace*interval)) {
			return
		}
		if g.spreadWork().none() {
			rounds = 0
			continue
		}
		for range spreadJoins {
			work := g.spreadWork()
			far := g.tellByBroadcast(work.tell)
			address := g.pickAddress(append(far, work.ask...))
			if address == "" || ctx.Err() != nil {
				break
			}
			if g.join(address) != nil {
				break
			}
		}
		rounds++
		retry := stretched(spreadRetry*interval, int(g.living.Load()))
		again.Reset(jittered(pauseAfter(rounds, false, retry, max(retry, g.config.Timings.PushPullInterval))))
	}
}

func (g *Gossip) spreadWork() spreadWork {
	g.mu.Lock()
	defer g.mu.Unlock()
	return planSpread(g.config.NodeID, g.members, g.tags)
}

// tellByBroadcast queues the tags of these nodes again, and returns those whose
// tags do not fit into a packet.
func (g *Gossip) tellByBroadcast(ids []string) (far []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	queued := 0
	for _, id := range ids {
		c := g.tags[id]
		if c == nil {
			continue
		}
		if len(encodeMessage(id, c)) > broadcastLimit {
			far = append(far, id)
		} else if queued < spreadBroadcasts {
			g.broadcastTags(id, c)
			queued++
		}
	}
	return far
}

// pickAddress returns the gossip address of one of the nodes, or "".
func (g *Gossip) pickAddress(ids []string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids = slices.DeleteFunc(ids, func(id string) bool { return g.members[id] == nil || !g.members[id].alive })
	if len(ids) == 0 {
		return ""
	}
	return g.members[ids[rand.N(len(ids))]].gossipAddress
}

// anyAlive returns the address of some other living node, or "".
func (g *Gossip) anyAlive() string {
	g.mu.Lock()
	var ids []string
	for id, m := range g.members {
		if m.alive && id != g.config.NodeID {
			ids = append(ids, id)
		}
	}
	g.mu.Unlock()
	return g.pickAddress(ids)
}

// settleLoop does a few push/pulls after many nodes have come at once. News of a
// node reaches each other one by gossip with a probability of 1 - e^-r, where r is
// the number of retransmissions (10 with 50 nodes); with thousands of pairs some
// would miss it and wait for the next push/pull.
func (g *Gossip) settleLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wakeSettle:
		}
		pause := stretched(settlePause*g.config.Timings.GossipInterval, int(g.living.Load()))
		for round := range settleRounds {
			if !sleep(ctx, jittered(pause<<round)) {
				return
			}
			if round == 0 && g.arrivals.Swap(0) < settleCrowd {
				break
			}
			address := g.anyAlive()
			if address == "" || g.list.GetHealthScore() > settleHealth {
				continue
			}
			// A failure is logged by join, and the next round takes another node.
			_ = g.join(address)
		}
	}
}
