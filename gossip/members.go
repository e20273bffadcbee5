package gossip

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"
)

// Member is a node as this one sees it.
type Member struct {
	NodeID string
	// Address is host:port of its TLS port, GossipAddress host:port of gossip, as
	// it last announced them.
	Address       string
	GossipAddress string
	Version       string
	Voter         bool
	// DiskFull: it takes no jobs, because its disk is full.
	DiskFull bool
	Alive    bool
	// Left: it said goodbye. Neither alive nor left is failed.
	Left bool
	// LastSeen is now for the living, else when this node stopped to count it so.
	LastSeen time.Time
	// Tags are the newest this node has heard of; TagsCut tells that the node has
	// more of them than are spread.
	Tags    map[string]string
	TagsCut bool
}

// member is an entry of the list; guarded by Gossip.mu.
type member struct {
	meta meta
	// raw is what meta was decoded from; nil for one that was only remembered.
	raw           []byte
	gossipAddress string
	alive, left   bool
	lastSeen      time.Time
}

// maxMembers bounds the list against whoever holds the key and invents names.
const maxMembers = 10_000

// Members returns all nodes heard of and not forgotten, this one included, in
// order of ids.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.config.Now()
	list := make([]Member, 0, len(g.members))
	for id, m := range g.members {
		out := Member{
			NodeID:        id,
			Address:       m.meta.Address,
			GossipAddress: m.gossipAddress,
			Version:       m.meta.Version,
			Voter:         m.meta.Voter,
			DiskFull:      m.meta.DiskFull,
			Alive:         m.alive,
			Left:          m.left,
			LastSeen:      m.lastSeen,
		}
		if m.alive {
			out.LastSeen = now
		}
		if c := g.tags[id]; c != nil {
			out.Tags, out.TagsCut = maps.Clone(c.tags), c.cut && !c.stored
		}
		list = append(list, out)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return list
}

// Alive tells whether the node answers, as far as this one knows.
func (g *Gossip) Alive(nodeID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[nodeID]
	return m != nil && m.alive
}

// LastSeen is when this node ceased to count another as alive; zero for the living
// and for nodes that it has never heard of.
func (g *Gossip) LastSeen(nodeID string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[nodeID]; m != nil && !m.alive {
		return m.lastSeen
	}
	return time.Time{}
}

// Started tells one start of a node's program from another; 0 for nodes that this one
// has not heard since it was started itself, and for older programs.
func (g *Gossip) Started(nodeID string) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[nodeID]; m != nil {
		return m.meta.Start
	}
	return 0
}

// Where is host:port of the TLS port of a living node, as it announces it, "" for
// any other.
func (g *Gossip) Where(nodeID string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[nodeID]; m != nil && m.alive {
		return m.meta.Address
	}
	return ""
}

// Subscribe returns a channel that becomes readable after anything in Members has
// changed since it was last read ("look again"), and the function that ends it.
// The channel is never closed.
func (g *Gossip) Subscribe() (changed <-chan struct{}, end func()) {
	c := make(chan struct{}, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subscribers[c] = struct{}{}
	return c, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.subscribers, c)
	}
}

// changed wakes whoever looks at the list; mu is held. Not the reconnect loop: that
// looks at the whole list, and only those who go, and seeds, make work for it.
func (g *Gossip) changed() {
	for c := range g.subscribers {
		wake(c)
	}
	wake(g.wakeSpread)
	wake(g.wakePeers)
}

// wake leaves one signal for a goroutine that then looks at everything.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Forget removes a node for good: from the list, from peers.json and from the
// reconnect loop. It is for nodes that are no longer enrolled; one that still
// announces itself and is admitted comes back.
func (g *Gossip) Forget(nodeID string) {
	if nodeID == g.config.NodeID {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[nodeID]; m != nil {
		if m.alive {
			g.living.Add(-1)
		}
		delete(g.members, nodeID)
	}
	delete(g.tags, nodeID)
	g.changed()
}

// SetVoter announces whether this node is a voter.
func (g *Gossip) SetVoter(voter bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	self := g.members[g.config.NodeID]
	if self.meta.Voter == voter {
		return
	}
	self.meta.Voter = voter
	wake(g.wakeAnnounce)
	g.changed()
}

// SetDiskFull announces whether this node takes no jobs because its disk is full.
func (g *Gossip) SetDiskFull(full bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	self := g.members[g.config.NodeID]
	if self.meta.DiskFull == full {
		return
	}
	self.meta.DiskFull = full
	wake(g.wakeAnnounce)
	g.changed()
}

// SetTags tells the tags of a node as the store has them, on any node that holds
// the store. version must grow with each change; the highest version heard of
// wins, on every node. Up to 4 KiB of tags per node are spread, in order of keys.
func (g *Gossip) SetTags(nodeID string, version uint64, tags map[string]string) {
	if !validNodeID(nodeID) {
		return
	}
	c := newTagCopy(version, tags)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.tags[nodeID]
	if now != nil && now.mark == c.mark {
		if !now.stored {
			g.tags[nodeID] = c
			wake(g.wakeSpread)
		}
		return
	}
	g.takeTags(nodeID, c)
}

// takeTags keeps c if it is newer, and tells whether it was; mu is held.
func (g *Gossip) takeTags(nodeID string, c *tagCopy) bool {
	if now := g.tags[nodeID]; now != nil && !c.mark.newer(now.mark) {
		return false
	}
	g.tags[nodeID] = c
	if nodeID == g.config.NodeID {
		g.members[nodeID].meta.Tags = c.mark
		wake(g.wakeAnnounce)
	}
	g.broadcastTags(nodeID, c)
	g.changed()
	return true
}

// hearTags takes what another node says about tags. Nodes that nobody here knows,
// and those that are gone for long, are none of it; mu is held.
func (g *Gossip) hearTags(entry tagEntry, now time.Time) {
	m := g.members[entry.NodeID]
	if m == nil || !g.current(m, now) || entry.copied == nil {
		return
	}
	g.takeTags(entry.NodeID, entry.copied)
}

// hasTags tells whether these very tags of a node are known here.
func (g *Gossip) hasTags(nodeID string, version uint64, payload []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.tags[nodeID]
	return c != nil && c.mark.Version == version && bytes.Equal(c.payload, payload)
}

// current tells whether m's tags are still spread; mu is held.
func (g *Gossip) current(m *member, now time.Time) bool {
	return m.alive || now.Sub(m.lastSeen) < g.config.Timings.GossipToTheDead
}

// broadcastTags queues c for the others if it fits into a packet and its node is
// alive; else push/pull carries it. mu is held.
func (g *Gossip) broadcastTags(nodeID string, c *tagCopy) {
	if m := g.members[nodeID]; m == nil || !m.alive {
		return
	}
	if message := encodeMessage(nodeID, c); len(message) <= broadcastLimit {
		g.broadcasts.QueueBroadcast(tagsBroadcast{nodeID, message})
	}
}
