package api

import (
	"sync"
	"time"
)

const (
	// paceEvery is how often a node without a vote may write by its own authority,
	// without an access key, over a long time; paceBurst how often at once. Each
	// write stays in the audit log: a thief of a member's key must not be able to
	// fill the voters' disks. Faster helps scripts that use the local socket a lot.
	paceEvery = 500 * time.Millisecond
	paceBurst = 100
	// paceSweep is how many nodes are remembered before those are looked for that
	// have been quiet.
	paceSweep = 1024
)

// errPaced: root of a member writes too often.
var errPaced = refuse(codeThrottled, "Rate exceeded: this node changes things too often by its own authority, which is %d times at once and then every %s. Nothing was done; wait, or use an access key.", paceBurst, paceEvery)

// paces bounds what each node writes by its own authority. The zero value is
// ready.
type paces struct {
	mu sync.Mutex
	// free is, by node id, when the node will have been quiet for long enough to
	// have its whole burst again.
	free    map[string]time.Time
	sweepAt int
}

// take reports whether the node may write now, and counts it.
func (p *paces) take(nodeID string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == nil {
		p.free, p.sweepAt = map[string]time.Time{}, paceSweep
	}
	if len(p.free) >= p.sweepAt {
		for id, free := range p.free {
			if !free.After(now) {
				delete(p.free, id)
			}
		}
		p.sweepAt = max(paceSweep, 2*len(p.free))
	}
	free, may := nextFree(p.free[nodeID], now)
	if may {
		p.free[nodeID] = free
	}
	return may
}

// nextFree is when a node that writes now has its whole burst again; may is false
// when it has nothing of it left.
func nextFree(free, now time.Time) (next time.Time, may bool) {
	// A clock that was set back must not shut a node out for long.
	if free.Before(now) || free.After(now.Add(2*paceBurst*paceEvery)) {
		free = now
	}
	next = free.Add(paceEvery)
	return next, next.Sub(now) <= paceBurst*paceEvery
}
