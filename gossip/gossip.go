package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"

	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is this node's part in the gossip of its mesh. Safe for concurrent use.
type Gossip struct {
	config    Config
	speaker   *speaker
	transport *transport
	ring      *memberlist.Keyring
	list      *memberlist.Memberlist
	// broadcasts are tags on their way to others; it has its own lock.
	broadcasts *memberlist.TransmitLimitedQueue
	// living counts the members that are alive, this one included.
	living atomic.Int64
	// arrivals counts members that became alive, for settleLoop.
	arrivals atomic.Int64
	keyLock  sync.Mutex

	// mu guards what follows. It is held for moments only, also by memberlist's
	// callbacks, and never while calling memberlist, Admit or the disk.
	mu          sync.Mutex
	members     map[string]*member
	tags        map[string]*tagCopy
	seeds       []string
	subscribers map[chan struct{}]struct{}
	leaving     bool
	elsewhere   *elsewhere

	// Each wakes the loop of its name to look again.
	wakeReconnect, wakeAnnounce, wakeSpread, wakeSettle, wakeConflict, wakePeers chan struct{}

	// savedPeers is what savePeers wrote last; used by rememberLoop and then Close.
	savedPeers []peer

	stop        context.CancelFunc
	loops       sync.WaitGroup
	stopSpeaker context.CancelFunc
	speaking    sync.WaitGroup

	// life guards the way open → closed, which Open's failure, Close and Kill
	// take once.
	life   sync.Mutex
	closed bool
}

// Open begins to listen and to gossip, and tries seeds and remembered peers for
// up to JoinTimeout. That none answers is no error: they are tried for ever. It
// returns ErrDuplicateNode when another living node has this node's id.
func Open(config Config) (*Gossip, error) {
	config, ip, err := config.checked()
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	if config.Dir != "" {
		if err := os.MkdirAll(config.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("gossip directory: %w", err)
		}
	}
	g := &Gossip{
		config:        config,
		speaker:       newSpeaker(config.Log),
		ring:          &memberlist.Keyring{},
		members:       make(map[string]*member),
		tags:          make(map[string]*tagCopy),
		subscribers:   make(map[chan struct{}]struct{}),
		wakeReconnect: make(chan struct{}, 1),
		wakeAnnounce:  make(chan struct{}, 1),
		wakeSpread:    make(chan struct{}, 1),
		wakeSettle:    make(chan struct{}, 1),
		wakeConflict:  make(chan struct{}, 1),
		wakePeers:     make(chan struct{}, 1),
	}
	if err := changeRing(g.ring, config.Keys); err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	conf := memberlistConfig(g)
	g.broadcasts = &memberlist.TransmitLimitedQueue{
		NumNodes:       func() int { return int(g.living.Load()) },
		RetransmitMult: conf.RetransmitMult,
	}
	if g.transport, err = listen(ip, &config, g.speaker); err != nil {
		return nil, err
	}
	conf.Transport = g.transport
	g.addKnown()
	g.seeds = g.parseSeeds(config.Seeds)

	speakerCtx, stopSpeaker := context.WithCancel(context.Background())
	g.stopSpeaker = stopSpeaker
	g.speaking.Go(func() { g.speaker.run(speakerCtx) })
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	if g.list, err = memberlist.Create(conf); err != nil {
		stop()
		err = errors.Join(fmt.Errorf("gossip: %w", err), g.transport.Shutdown())
		stopSpeaker()
		g.speaking.Wait()
		return nil, err
	}
	g.joinFirst()
	if c, ok := g.claim(); ok && c.alive && g.answers(ctx, c.address) {
		// No goodbye: it would be taken for that of the other.
		g.Kill()
		return nil, g.duplicate(c.address)
	}
	for _, loop := range []func(context.Context){
		g.reconnectLoop, g.announceLoop, g.spreadLoop, g.settleLoop, g.conflictLoop, g.rememberLoop,
	} {
		g.loops.Go(func() { loop(ctx) })
	}
	return g, nil
}

// addKnown lists this node and the remembered ones.
func (g *Gossip) addKnown() {
	for _, p := range readPeers(g.config.Dir, g.config.Log) {
		if p.NodeID == g.config.NodeID {
			continue
		}
		g.members[p.NodeID] = &member{
			meta:          meta{NodeID: p.NodeID, Address: p.Address, Version: p.Version, Voter: p.Voter},
			gossipAddress: p.GossipAddress,
			left:          p.Left,
			lastSeen:      p.LastSeen,
		}
	}
	g.members[g.config.NodeID] = &member{
		meta: meta{
			NodeID:  g.config.NodeID,
			Address: g.config.APIAddress,
			Version: g.config.Version,
			Voter:   g.config.Voter,
			Start:   uint64(max(g.config.Now().UnixMilli(), 1)),
		},
		gossipAddress: g.transport.address(),
		alive:         true,
	}
	g.living.Store(1)
}

// memberlistConfig is memberlist's LAN profile with our timings.
func memberlistConfig(g *Gossip) *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	conf.Name = g.config.NodeID
	conf.BindAddr = g.config.Bind
	conf.Label = g.config.MeshID
	// The transport checks and strips the label, to say what is wrong.
	conf.SkipInboundLabelCheck = true
	conf.Keyring = g.ring
	conf.GossipVerifyIncoming = true
	conf.GossipVerifyOutgoing = true
	// It costs more than it saves: our messages are small and dense.
	conf.EnableCompression = false

	t := g.config.Timings
	conf.GossipInterval = t.GossipInterval
	conf.UDPBufferSize = t.PacketSize
	// r in settleLoop's comment is this times ceil(log10(N+1)).
	conf.RetransmitMult = t.RetransmitMult
	conf.ProbeInterval = t.ProbeInterval
	conf.ProbeTimeout = t.ProbeTimeout
	conf.SuspicionMult = t.SuspicionMult
	conf.PushPullInterval = t.PushPullInterval
	conf.TCPTimeout = t.StreamTimeout
	conf.GossipToTheDeadTime = t.GossipToTheDead
	conf.DeadNodeReclaimTime = t.DeadReclaim
	conf.RequireNodeNames = false

	d := delegate{g}
	conf.Delegate, conf.Events, conf.Conflict, conf.Merge, conf.Alive = d, d, d, d, d
	conf.Logger = log.New(g.speaker, "", 0)
	return conf
}

// Address returns ip:port that gossip listens on.
func (g *Gossip) Address() string { return g.transport.address() }

// Close says goodbye, for at most LeaveTimeout, and ends everything this package
// has started. Others then have this node as left, not as failed. Only the first
// call does anything.
func (g *Gossip) Close() error { return g.end(true) }

// Kill ends everything at once, without a goodbye and without writing what has
// changed since it was last written, as if the process had died.
func (g *Gossip) Kill() { _ = g.end(false) }

func (g *Gossip) end(leave bool) error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	// Push/pulls of our own would hold the loops for as long as the other side
	// is silent; the goodbye needs packets only.
	g.stop()
	g.transport.endDials()
	g.loops.Wait()
	var err error
	if leave {
		g.leave()
		err = g.savePeers()
	}
	if failed := g.list.Shutdown(); failed != nil {
		err = errors.Join(err, fmt.Errorf("end gossip: %w", failed))
	}
	g.stopSpeaker()
	g.speaking.Wait()
	return err
}

// leave first announces that this node is leaving, since memberlist's own
// goodbye does not tell the others' callbacks that it is one.
func (g *Gossip) leave() {
	g.mu.Lock()
	g.leaving = true
	g.mu.Unlock()
	timeout := g.config.Timings.LeaveTimeout
	begin := time.Now()
	err := g.list.UpdateNode(timeout / 2)
	err = errors.Join(err, g.list.Leave(max(timeout-time.Since(begin), timeout/2)))
	if err != nil {
		g.config.Log.Warn("left the mesh, but perhaps not everyone has heard of it", "error", err)
	}
}
