package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Config says who this node is and how it gossips. NodeID, MeshID, Bind,
// APIAddress and Keys are required.
type Config struct {
	// NodeID is the node's id and its name in gossip.
	NodeID string
	// MeshID is on every packet and stream: those of another mesh are refused.
	MeshID string
	// Bind is the one IP address to listen on, which is also the address told to
	// others: 0.0.0.0 and :: are refused.
	Bind string
	// Port is for TCP and UDP alike; 0 takes a free one (see [Gossip.Address]).
	Port int
	// APIAddress is host:port of this node's TLS port, told to all.
	APIAddress string
	// Version is this program's version, told to all: at most 32 characters.
	Version string
	// Voter is told to all; see [Gossip.SetVoter].
	Voter bool
	// Keys are 32 bytes each. The first encrypts, all decrypt.
	Keys [][]byte
	// Dir holds peers.json, written atomically. Empty: nothing is remembered, and
	// after a restart only the seeds are tried.
	Dir string
	// Seeds are as in [Gossip.SetSeeds]; Open tries them before it returns.
	Seeds []string
	// Admit says whether a node may be a member; an error keeps it out and is
	// logged. It is called under memberlist's locks for every alive message: it
	// must be quick and must not block. It may call this package. Nil admits all.
	Admit func(nodeID string) error
	// OnConflict is told, once per address, that another living node uses this
	// node's id. It wraps ErrDuplicateNode. Nothing is stopped: which of the two
	// is the wrong one is for people to say. May be nil.
	OnConflict func(error)
	// Cut, when it says true, keeps everything from being sent or dialled to that
	// gossip address: for tests of partitions, set on both sides. Nil cuts nothing.
	Cut func(address string) bool
	// Now is the clock that LastSeen is told by; nil is the system's.
	Now func() time.Time
	// Log gets what is worth reading; memberlist's chatter goes to it at Debug.
	Log *slog.Logger
	// Timings: each zero field takes its default.
	Timings Timings
}

// Timings are the knobs of the protocol. The defaults are memberlist's LAN
// profile, which is also serf's, except where said. Nodes of one mesh should agree.
type Timings struct {
	// GossipInterval (200ms) is how often waiting news goes to three nodes.
	// Shorter spreads news faster and costs packets only while there is news.
	GossipInterval time.Duration
	// ProbeInterval (1s) is how often one other node is probed. Shorter finds
	// failures sooner, in proportion; each node then sends and answers that many
	// more packets for ever.
	ProbeInterval time.Duration
	// ProbeTimeout (500ms) is the wait for the answer to a direct probe before
	// others are asked to try; the 99th percentile of a round trip on a bad day.
	// Shorter accuses busy nodes, longer must stay below ProbeInterval.
	ProbeTimeout time.Duration
	// PacketSize (1400) is the most bytes of a packet of news. More than fits the
	// path in one piece is lost as a whole with each piece. At most 8192: memberlist
	// counts the pieces of news in a packet in one byte, and a short one has 36.
	PacketSize int
	// RetransmitMult (5, memberlist 4): a node sends each piece of news
	// RetransmitMult * ceil(log10(N+1)) times. Less makes fewer packets, and more
	// nodes that miss it and wait for a push/pull.
	RetransmitMult int
	// SuspicionMult (4): a node that does not answer is held failed after
	// SuspicionMult * max(1, log10(N)) * ProbeInterval. Less finds failures
	// sooner and accuses busy nodes more often.
	SuspicionMult int
	// PushPullInterval (30s) is how often everything is exchanged with one other
	// node; memberlist stretches it beyond 32 nodes. Shorter heals lost packets
	// sooner and costs N times the size of the whole state.
	PushPullInterval time.Duration
	// StreamTimeout (5s, memberlist 10s) bounds each read and write of a
	// push/pull; a dial gets at most 3s of it. Longer helps very slow links and
	// keeps reconnect attempts to silent addresses hanging.
	StreamTimeout time.Duration
	// GossipToTheDead (30s) is how long after its death a node is still told what
	// is said about it, so that it can object. After that memberlist forgets it,
	// and only the reconnect loop finds it again.
	GossipToTheDead time.Duration
	// DeadReclaim (10s, memberlist never) is how long a node must have been
	// failed before its id may come back from another address. Shorter lets a
	// moved node in sooner, and a clone of a node that only stumbled as well.
	DeadReclaim time.Duration
	// ReconnectMin and ReconnectMax (1s, 30s) bound the pause between two
	// attempts at one address that is not alive; the pause doubles, with jitter of
	// a half either way. While nobody at all is alive the longest pause is a sixth
	// of ReconnectMax. Shorter heals partitions sooner; the price is a SYN per
	// dead node, per living node and pause.
	ReconnectMin, ReconnectMax time.Duration
	// JoinTimeout (2s) is how long Open waits for a first answer. Longer delays
	// the start of a node that is alone.
	JoinTimeout time.Duration
	// LeaveTimeout (3s) bounds the goodbye in Close. Shorter risks to be taken
	// for failed.
	LeaveTimeout time.Duration
	// ConflictDelay (3s) is how long a claim to this node's id by another address
	// must stand before it is checked: a clone that gives up at its own start is
	// gone by then.
	ConflictDelay time.Duration
}

const (
	// keySize is AES-256.
	keySize = 32
	// minPacket has room for the longest message, maxPacket for no more messages
	// than memberlist can count.
	minPacket, maxPacket = 1400, 8192
)

// ErrDuplicateNode is returned by Open when another living node has this
// node's id, and given to Config.OnConflict when that is found out later.
var ErrDuplicateNode = errors.New("another living node has the same node id; was this machine cloned? " +
	"give the copy an identity of its own by removing its state directory and joining again")

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

func (t Timings) withDefaults() Timings {
	orDefault(&t.GossipInterval, 200*time.Millisecond)
	orDefault(&t.ProbeInterval, time.Second)
	orDefault(&t.ProbeTimeout, 500*time.Millisecond)
	for knob, value := range map[*int]int{&t.PacketSize: 1400, &t.RetransmitMult: 5, &t.SuspicionMult: 4} {
		if *knob <= 0 {
			*knob = value
		}
	}
	orDefault(&t.PushPullInterval, 30*time.Second)
	orDefault(&t.StreamTimeout, 5*time.Second)
	orDefault(&t.GossipToTheDead, 30*time.Second)
	orDefault(&t.DeadReclaim, 10*time.Second)
	orDefault(&t.ReconnectMin, time.Second)
	orDefault(&t.ReconnectMax, 30*time.Second)
	orDefault(&t.JoinTimeout, 2*time.Second)
	orDefault(&t.LeaveTimeout, 3*time.Second)
	orDefault(&t.ConflictDelay, 3*time.Second)
	return t
}

// checked returns the config with its defaults and the bind address, or what is
// wrong with it.
func (c Config) checked() (Config, netip.Addr, error) {
	var none netip.Addr
	c.Timings = c.Timings.withDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Admit == nil {
		c.Admit = func(string) error { return nil }
	}
	if c.Cut == nil {
		c.Cut = func(string) bool { return false }
	}
	if c.OnConflict == nil {
		c.OnConflict = func(error) {}
	}
	switch {
	case !validNodeID(c.NodeID):
		return c, none, fmt.Errorf("node id %q: want 1 to %d letters, digits, dots, dashes", c.NodeID, maxNodeID)
	case c.MeshID == "" || len(c.MeshID) > 128:
		return c, none, fmt.Errorf("mesh id %q: want 1 to 128 bytes", c.MeshID)
	case c.Port < 0 || c.Port > 65535:
		return c, none, fmt.Errorf("gossip port %d: want 0 to 65535", c.Port)
	case !validAddress(c.APIAddress):
		return c, none, fmt.Errorf("API address %q: want host:port", c.APIAddress)
	case !validVersion(c.Version):
		return c, none, fmt.Errorf("version %q: want at most %d printable characters", c.Version, maxVersion)
	case c.Timings.ProbeTimeout >= c.Timings.ProbeInterval:
		return c, none, fmt.Errorf("probe timeout %s must be below the probe interval %s", c.Timings.ProbeTimeout, c.Timings.ProbeInterval)
	case c.Timings.PacketSize < minPacket || c.Timings.PacketSize > maxPacket:
		return c, none, fmt.Errorf("packet size %d: want %d to %d", c.Timings.PacketSize, minPacket, maxPacket)
	case c.Timings.ReconnectMin > c.Timings.ReconnectMax:
		return c, none, fmt.Errorf("shortest reconnect pause %s is above the longest %s", c.Timings.ReconnectMin, c.Timings.ReconnectMax)
	}
	ip, err := netip.ParseAddr(c.Bind)
	if err != nil {
		return c, none, fmt.Errorf("bind address: %w", err)
	}
	ip = ip.Unmap()
	if ip.IsUnspecified() || ip.IsMulticast() {
		return c, none, fmt.Errorf("bind address %s cannot be told to other nodes: give one address of this machine", ip)
	}
	if err := checkKeys(c.Keys); err != nil {
		return c, none, err
	}
	return c, ip, nil
}
