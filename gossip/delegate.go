package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It calls from its own goroutines, several at
// once, partly with its locks held: nothing here blocks, calls memberlist or
// keeps a slice it was given.
type delegate struct{ g *Gossip }

// tagsBroadcast is a message about one node's tags; a newer one replaces it in
// the queue.
type tagsBroadcast struct {
	nodeID  string
	message []byte
}

func (b tagsBroadcast) Name() string    { return b.nodeID }
func (b tagsBroadcast) Message() []byte { return b.message }
func (b tagsBroadcast) Finished()       {}
func (b tagsBroadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(tagsBroadcast)
	return ok && o.nodeID == b.nodeID
}

func (d delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	m := d.g.members[d.g.config.NodeID].meta
	m.Leaving = d.g.leaving
	return m.encode()
}

func (d delegate) NotifyMsg(b []byte) {
	entry, err := decodeMessage(b, d.g.hasTags)
	if err != nil {
		d.g.speaker.sayRarely("message", slog.LevelWarn, "gossip message ignored", "error", err)
		return
	}
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	d.g.hearTags(entry, d.g.config.Now())
}

func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.g.broadcasts.GetBroadcasts(overhead, limit)
}

// LocalState is the tags of all nodes that are alive or only just gone.
func (d delegate) LocalState(bool) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.encodeState(d.g.config.Now())
}

// encodeState: map order picks the part that goes when not all fits; mu is held.
func (g *Gossip) encodeState(now time.Time) []byte {
	b := []byte{stateFormat}
	for id, c := range g.tags {
		m := g.members[id]
		if m == nil || !g.current(m, now) {
			continue
		}
		if len(b)+1+len(id)+2*10+len(c.payload) > stateLimit {
			break
		}
		b = appendEntry(b, id, c.mark.Version, c.payload)
	}
	return b
}

func (d delegate) MergeRemoteState(b []byte, _ bool) {
	entries, err := decodeState(b, d.g.hasTags)
	if err != nil {
		d.g.speaker.sayRarely("state", slog.LevelWarn, "gossip state ignored", "error", err)
		return
	}
	now := d.g.config.Now()
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	for _, entry := range entries {
		d.g.hearTags(entry, now)
	}
}

// addressOf is "" for an address that is none.
func addressOf(n *memberlist.Node) string {
	ip, ok := netip.AddrFromSlice(n.Addr)
	if !ok || n.Port == 0 {
		return ""
	}
	return netip.AddrPortFrom(ip.Unmap(), n.Port).String()
}

var errNotItself = errors.New("its metadata names another node")

// NotifyAlive may refuse an alive message.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	g := d.g
	if n.Name == g.config.NodeID {
		return nil
	}
	err := g.admit(n)
	if err != nil {
		g.speaker.sayRarely("alive "+n.Name, slog.LevelWarn, "gossip: node refused", "node", printableName(n.Name), "at", addressOf(n), "error", err)
	}
	return err
}

func (g *Gossip) admit(n *memberlist.Node) error {
	known, full := g.holds(n)
	if !known {
		m, err := decodeMeta(n.Meta)
		if err != nil {
			return err
		}
		if m.NodeID != n.Name {
			return errNotItself
		}
	}
	if addressOf(n) == "" {
		return fmt.Errorf("gossip address: %w", errMalformed)
	}
	if err := g.config.Admit(n.Name); err != nil {
		return err
	}
	if full {
		return fmt.Errorf("more than %d nodes", maxMembers)
	}
	return nil
}

// holds tells whether this very metadata of the node was taken before, as is so with
// most messages: each node says the same many times. full: the node is a new one,
// and there is no room.
func (g *Gossip) holds(n *memberlist.Node) (known, full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[n.Name]
	return m != nil && m.raw != nil && bytes.Equal(m.raw, n.Meta), m == nil && len(g.members) >= maxMembers
}

// NotifyMerge sees the nodes that the other side of a first push/pull knows,
// itself included. It refuses the exchange when none of the living among them is
// admitted, which is so when the other side is a removed node on its own; else
// NotifyAlive judges them one by one.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	g := d.g
	var refused error
	admitted := false
	for _, n := range nodes {
		if n.Name == g.config.NodeID {
			g.noteSelf(addressOf(n), n.State == memberlist.StateAlive || n.State == memberlist.StateSuspect)
			continue
		}
		if n.State != memberlist.StateAlive {
			continue
		}
		if err := g.admit(n); err != nil {
			refused = fmt.Errorf("node %s: %w", printableName(n.Name), err)
		} else {
			admitted = true
		}
	}
	if refused != nil && !admitted {
		g.speaker.sayRarely("merge "+refused.Error(), slog.LevelWarn, "gossip: exchange refused", "error", refused)
		return refused
	}
	return nil
}

// NotifyConflict: a node is announced at another address than the one it is
// alive at.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	g := d.g
	if existing.Name == g.config.NodeID {
		g.noteSelf(addressOf(other), true)
		return
	}
	g.speaker.sayRarely("conflict "+existing.Name, slog.LevelWarn,
		"a node is announced at two addresses; if this goes on, two machines use one node id",
		"node", printableName(existing.Name), "at", addressOf(existing), "also_at", addressOf(other))
}

func (d delegate) NotifyJoin(n *memberlist.Node)   { d.g.noteAlive(n) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.g.noteAlive(n) }

func (g *Gossip) noteAlive(n *memberlist.Node) {
	m, err := decodeMeta(n.Meta)
	if err != nil || m.NodeID != n.Name {
		// NotifyAlive has refused such a node before.
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n.Name == g.config.NodeID {
		return
	}
	known := g.members[n.Name]
	if known == nil {
		known = &member{}
		g.members[n.Name] = known
	}
	if !known.alive {
		known.alive = true
		g.living.Add(1)
		g.arrivals.Add(1)
		wake(g.wakeSettle)
		g.speaker.say(slog.LevelInfo, "node is alive", "node", n.Name, "gossip_address", addressOf(n), "version", m.Version)
	}
	known.raw = bytes.Clone(n.Meta)
	known.meta, known.gossipAddress, known.left, known.lastSeen = m, addressOf(n), false, g.config.Now()
	g.changed()
}

func (d delegate) NotifyLeave(n *memberlist.Node) {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[n.Name]
	if m == nil || !m.alive || n.Name == g.config.NodeID {
		return
	}
	m.alive, m.left, m.lastSeen = false, m.meta.Leaving, g.config.Now()
	g.living.Add(-1)
	if m.left {
		g.speaker.say(slog.LevelInfo, "node has left", "node", n.Name)
	} else {
		g.speaker.say(slog.LevelWarn, "node has failed: it does not answer", "node", n.Name, "gossip_address", m.gossipAddress)
	}
	wake(g.wakeReconnect)
	g.changed()
}

// printableName keeps names that were not yet checked harmless in logs.
func printableName(name string) string {
	if validNodeID(name) {
		return name
	}
	return fmt.Sprintf("%.80q", name)
}

// jittered returns d, half of it more or less.
func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1)
}
