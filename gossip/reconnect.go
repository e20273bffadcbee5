package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// reconnectSlots is how many attempts run at once.
	reconnectSlots = 4
	// reconnectRate is how many attempts may begin within ReconnectMin.
	reconnectRate = 10
)

// SetSeeds replaces the gossip addresses (ip:port) that are tried for ever while
// nobody alive is there: those of the enrolled nodes. Addresses that are none are
// logged and left out.
func (g *Gossip) SetSeeds(addresses []string) {
	seeds := g.parseSeeds(addresses)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seeds = seeds
	wake(g.wakeReconnect)
}

func (g *Gossip) parseSeeds(addresses []string) []string {
	var seeds []string
	for _, address := range addresses {
		parsed, err := netip.ParseAddrPort(address)
		if err != nil || parsed.Port() == 0 {
			g.speaker.sayRarely("seed "+address, slog.LevelWarn, "gossip seed ignored: want ip:port", "seed", address)
			continue
		}
		seeds = append(seeds, netip.AddrPortFrom(parsed.Addr().Unmap(), parsed.Port()).String())
	}
	return seeds
}

// targets returns the addresses to try: seeds and known nodes that are not alive.
// Nodes that are no longer admitted are forgotten.
func (g *Gossip) targets() []string {
	g.mu.Lock()
	targets := make(map[string]bool)
	for _, seed := range g.seeds {
		targets[seed] = true
	}
	away := make(map[string]string)
	for id, m := range g.members {
		if !m.alive {
			away[id] = m.gossipAddress
		}
	}
	g.mu.Unlock()

	// Admit may call this package, so it is asked without the lock.
	for id, address := range away {
		if err := g.config.Admit(id); err != nil {
			g.speaker.say(slog.LevelInfo, "node forgotten: it is no longer admitted", "node", id, "reason", err)
			g.Forget(id)
			continue
		}
		targets[address] = true
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.alive {
			delete(targets, m.gossipAddress)
		}
	}
	return slices.Sorted(maps.Keys(targets))
}

// reconnectLoop tries the targets, each with its own growing pause, a few at
// once. memberlist itself looks only at the living, so without this a partition
// that outlasts GossipToTheDead would stay one.
func (g *Gossip) reconnectLoop(ctx context.Context) {
	timings := g.config.Timings
	attempts := make(map[string]*attempt)
	running := 0
	done := make(chan string, reconnectSlots)
	var earliest time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		targets := g.targets()
		now := time.Now()
		for _, target := range targets {
			if attempts[target] == nil {
				attempts[target] = &attempt{next: now.Add(rand.N(timings.ReconnectMin))}
			}
		}
		maps.DeleteFunc(attempts, func(address string, a *attempt) bool {
			_, wanted := slices.BinarySearch(targets, address)
			return !wanted && !a.running
		})
		address, wait := planAttempt(targets, attempts, reconnectSlots-running, earliest, now)
		if address != "" {
			attempts[address].running = true
			running++
			earliest = now.Add(timings.ReconnectMin / reconnectRate)
			g.loops.Go(func() {
				g.join(address)
				done <- address
			})
			continue
		}
		timer.Stop()
		if wait >= 0 {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.wakeReconnect:
		case <-timer.C:
		case address := <-done:
			running--
			a := attempts[address]
			a.running = false
			a.tries++
			alone := g.living.Load() <= 1
			a.next = time.Now().Add(jittered(pauseAfter(a.tries, alone, timings.ReconnectMin, timings.ReconnectMax)))
		}
	}
}

// join does a push/pull with the node at address, and tells why it failed when
// that is worth knowing. memberlist gives text only.
func (g *Gossip) join(address string) error {
	_, err := g.list.Join([]string{address})
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	switch {
	case strings.Contains(text, "no installed keys could decrypt the message"):
		g.speaker.sayRarely("join key "+address, slog.LevelWarn,
			"cannot gossip with a node: it uses another gossip key than this one", "at", address)
	case strings.HasSuffix(text, ": EOF"), strings.Contains(text, "connection reset by peer"):
		g.speaker.sayRarely("join mesh "+address, slog.LevelWarn,
			"cannot gossip with a node: it closes the connection; it belongs to another mesh or is no gossip port", "at", address)
	default:
		g.speaker.say(slog.LevelDebug, "gossip attempt failed", "at", address, "error", text)
	}
	return fmt.Errorf("gossip with %s: %w", address, err)
}

// joinFirst tries some targets at once and returns after the first success, when
// all have failed, or after JoinTimeout.
func (g *Gossip) joinFirst() {
	targets := g.targets()
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	targets = targets[:min(len(targets), reconnectSlots)]
	results := make(chan error, len(targets))
	for _, target := range targets {
		g.loops.Go(func() { results <- g.join(target) })
	}
	timer := time.NewTimer(g.config.Timings.JoinTimeout)
	defer timer.Stop()
	for range targets {
		select {
		case err := <-results:
			if err == nil {
				return
			}
		case <-timer.C:
			return
		}
	}
}
