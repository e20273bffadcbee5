package leader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// pusher tells every node the roster and the gossip keys, until it has the present
// ones, and lets gossip keys rotate when nodes were removed. What a node has is
// known from this term's answers only.
type pusher struct {
	cfg  Config
	term uint64
	// epoch is the mesh's, for the fence; written by run.
	epoch atomic.Uint64

	mu sync.Mutex
	// strays are nodes that were taken out of the roster in this term.
	strays  []string
	strayed chan struct{}
	// clean are the nodes that surely hold no store that they should not hold.
	clean map[string]bool
	// claimed are the nodes that are being given a store, or relieved of one: one
	// of the two at a time.
	claimed map[string]bool

	// The rest belongs to run.
	roster  raftstore.Roster
	ring    raftstore.Keyring
	keys    [][]byte
	nodes   map[string]*pushed
	phaseAt time.Time // since when the ring has its version
	results chan pushResult
	running int
	calls   sync.WaitGroup
}

// pushed is what is known of one node.
type pushed struct {
	node    raftstore.Node
	alive   bool
	busy    bool
	roster  uint64
	keyring uint64
	// settled: it is certain that it holds no store that it should not hold.
	settled   bool
	tries     int
	notBefore time.Time
	// again: what the push under way tells is outdated; begin anew.
	again bool
	// parted: it is enrolled no more, and was told so.
	parted bool
}

// anew forgets what the node was told.
func (s *pushed) anew() {
	s.roster, s.keyring, s.settled = 0, 0, s.node.MemberOnly
	s.tries, s.notBefore = 0, time.Time{}
	s.again = s.busy
}

type pushResult struct {
	nodeID          string
	roster, keyring uint64
	settled         bool
	err             error
}

// silentRetry is the pause between attempts to reach a node that gossip holds
// dead: it may only lack the gossip keys. Half of it is chance.
const silentRetry = time.Minute

func newPusher(cfg Config, term uint64) *pusher {
	return &pusher{cfg: cfg, term: term, strayed: make(chan struct{}, 1), clean: map[string]bool{}, claimed: map[string]bool{}}
}

// demote has the node told, now or when it is back, that it holds the store no
// more. Any goroutine may call it.
func (p *pusher) demote(nodeID string) {
	p.mu.Lock()
	p.strays = append(p.strays, nodeID)
	delete(p.clean, nodeID)
	p.mu.Unlock()
	select {
	case p.strayed <- struct{}{}:
	default:
	}
}

// isClean tells that the node holds no store that it should not hold. Only such a
// node is made a stand-by: a voter that was replaced while it was away first gives
// up what it has.
func (p *pusher) isClean(nodeID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clean[nodeID]
}

// claim keeps others from giving a store to the node or taking one from it until
// release; false when somebody is at it.
func (p *pusher) claim(nodeID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claimed[nodeID] {
		return false
	}
	p.claimed[nodeID] = true
	return true
}

func (p *pusher) release(nodeID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.claimed, nodeID)
}

func (p *pusher) setClean(nodeID string, clean bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if clean {
		p.clean[nodeID] = true
	} else {
		delete(p.clean, nodeID)
	}
}

func (p *pusher) currentEpoch() uint64 { return p.epoch.Load() }

// run works until ctx ends or something goes wrong.
func (p *pusher) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	p.results = make(chan pushResult, p.cfg.Settings.PushesInFlight)
	p.nodes, p.running, p.keys = map[string]*pushed{}, 0, nil
	defer func() {
		stop()
		p.calls.Wait()
	}()
	changes := p.cfg.Store.Watch(raftstore.RosterKey, raftstore.KeyringKey, raftstore.NodePrefix)
	defer changes.Stop()
	members, unsubscribe := p.cfg.Members.Subscribe()
	defer unsubscribe()
	if err := p.look(ctx); err != nil {
		return err
	}
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		p.start(ctx)
		if err := p.rotate(ctx); err != nil {
			if ctx.Err() != nil || over(err) {
				return err
			}
			p.cfg.Log.Warn("the gossip key cannot be changed now", "error", err)
		}
		wake.Reset(p.pause())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake.C:
		case <-changes.C:
			if err := p.look(ctx); err != nil {
				return err
			}
		case <-members:
			p.notice()
		case <-p.strayed:
			p.takeStrays()
		case r := <-p.results:
			p.take(r)
		}
	}
}

// look reads roster, keyring and nodes.
func (p *pusher) look(ctx context.Context) error {
	var roster raftstore.Roster
	var ring raftstore.Keyring
	enrolled := map[string]raftstore.Node{}
	err := p.cfg.Store.View(func(r raftstore.Reader) (err error) {
		mesh, err := raftstore.GetMesh(r)
		if err != nil {
			return fmt.Errorf("read the mesh's record: %w", err)
		}
		p.epoch.Store(mesh.Epoch)
		if roster, err = raftstore.GetRoster(r); err != nil {
			return fmt.Errorf("read the roster: %w", err)
		}
		if ring, err = raftstore.GetKeyring(r); err != nil {
			return fmt.Errorf("read the keyring: %w", err)
		}
		return raftstore.ScanNodes(r, "", func(n raftstore.Node) bool { enrolled[n.ID] = n; return true })
	})
	if err != nil {
		return err
	}
	if _, err := p.cfg.Gate.Update(roster); err != nil {
		return fmt.Errorf("take the new roster: %w", err)
	}
	if ring.Version != p.ring.Version || p.keys == nil {
		keys := make([][]byte, 0, len(ring.Keys))
		for _, k := range ring.Keys {
			key, err := p.cfg.OpenGossipKey(k)
			if err != nil {
				return fmt.Errorf("open gossip key %s: %w", k.ID, err)
			}
			keys = append(keys, key)
		}
		p.keys, p.phaseAt = keys, p.cfg.Now()
	}
	p.roster, p.ring = roster, ring
	for id, n := range enrolled {
		state := p.nodes[id]
		if state == nil {
			state = &pushed{settled: n.MemberOnly}
			p.nodes[id] = state
		}
		if state.node.Address != n.Address {
			state.notBefore, state.tries = time.Time{}, 0
		}
		state.node = n
	}
	for id, state := range p.nodes {
		if _, ok := enrolled[id]; ok {
			continue
		}
		if !state.parted && roster.IsRemoved(state.node.PublicKey) {
			state.parted = true
			p.bidFarewell(ctx, state.node)
		}
		if !state.busy {
			delete(p.nodes, id)
		}
	}
	p.notice()
	return nil
}

// bidFarewell tells a removed node so, once: one that is there ends by itself and
// says why, instead of calling at closed doors. Nothing depends on it.
func (p *pusher) bidFarewell(ctx context.Context, node raftstore.Node) {
	to := peer.Target{NodeID: node.ID, Address: node.Address}
	in := &peer.RosterRequest{Fence: p.cfg.fence(p.term, p.epoch.Load()), Roster: p.roster}
	p.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, p.cfg.Settings.CallTimeout)
		defer cancel()
		if err := p.cfg.Peers.Farewell(ctx, to, in); err != nil {
			p.cfg.Log.Debug("a removed node could not be told", "node", to.NodeID, "error", err)
		}
	})
}

// notice follows gossip. A node that has come back may have been set back to an
// older state of its disk: it is told everything again.
func (p *pusher) notice() {
	for id, state := range p.nodes {
		alive := p.cfg.Members.Alive(id)
		if alive && !state.alive {
			state.anew()
			p.setClean(id, state.settled)
		}
		state.alive = alive
	}
}

func (p *pusher) takeStrays() {
	p.mu.Lock()
	strays := p.strays
	p.strays = nil
	p.mu.Unlock()
	for _, id := range strays {
		if state := p.nodes[id]; state != nil {
			state.anew()
		}
	}
}

// lacks reports whether the node must still be told something.
func (p *pusher) lacks(state *pushed) bool {
	_, rostered := p.roster.Member(state.node.ID)
	return state.roster < p.roster.Version || state.keyring < p.ring.Version || !state.settled && !rostered
}

// start begins as many pushes as may run.
func (p *pusher) start(ctx context.Context) {
	now := p.cfg.Now()
	for _, state := range p.nodes {
		if p.running == p.cfg.Settings.PushesInFlight {
			return
		}
		if state.busy || now.Before(state.notBefore) || !p.lacks(state) {
			continue
		}
		state.busy = true
		p.running++
		job := pushJob{
			pusher: p, cfg: p.cfg, fence: p.cfg.fence(p.term, p.epoch.Load()),
			node: state.node, roster: p.roster, ringVersion: p.ring.Version, keys: p.keys, known: *state,
		}
		p.calls.Go(func() { p.results <- job.run(ctx) }) // there is room for each push in flight
	}
}

// pushJob is one node's push.
type pushJob struct {
	pusher      *pusher
	cfg         Config
	fence       peer.Fence
	node        raftstore.Node
	roster      raftstore.Roster
	ringVersion uint64
	keys        [][]byte
	known       pushed
}

func (j pushJob) run(ctx context.Context) pushResult {
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Settings.CallTimeout)
	defer cancel()
	to := peer.Target{NodeID: j.node.ID, Address: j.node.Address}
	done := pushResult{nodeID: j.node.ID, roster: j.known.roster, keyring: j.known.keyring, settled: j.known.settled}
	if done.roster < j.roster.Version {
		if done.err = j.cfg.Peers.Roster(ctx, to, &peer.RosterRequest{Fence: j.fence, Roster: j.roster}); done.err != nil {
			return done
		}
		done.roster = j.roster.Version
	}
	if done.keyring < j.ringVersion {
		if done.err = j.cfg.Peers.Keyring(ctx, to, &peer.KeyringRequest{Fence: j.fence, Version: j.ringVersion, Keys: j.keys}); done.err != nil {
			return done
		}
		done.keyring = j.ringVersion
	}
	if _, rostered := j.roster.Member(j.node.ID); !rostered && !done.settled {
		done.settled, done.err = j.settle(ctx, to)
	}
	return done
}

// settle finds a store on a node that shall hold none: a voter that was replaced
// while it was away, or a stand-by whose demotion was lost with an earlier leader.
func (j pushJob) settle(ctx context.Context, to peer.Target) (settled bool, err error) {
	if !j.pusher.claim(to.NodeID) {
		return false, fmt.Errorf("node %s is being prepared", to.NodeID)
	}
	defer j.pusher.release(to.NodeID)
	var roster raftstore.Roster
	if err := j.cfg.Store.View(func(r raftstore.Reader) (err error) { roster, err = raftstore.GetRoster(r); return err }); err != nil {
		return false, err
	}
	if _, rostered := roster.Member(to.NodeID); rostered {
		return false, nil // since this push began
	}
	servers, _, err := j.cfg.Store.Servers()
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(servers, func(s raftstore.Server) bool { return s.ID == to.NodeID }) {
		// Its removal is not finished. What a voter has promised must not be deleted
		// while Raft counts on it.
		return false, fmt.Errorf("node %s is still one of Raft's servers", to.NodeID)
	}
	out, err := j.cfg.Peers.RaftState(ctx, to, &peer.RaftStateRequest{Fence: j.fence})
	if err != nil || !out.HoldsStore && !out.HoldsKey {
		return err == nil, err
	}
	certificate, err := j.cfg.IssueVoterCertificate(j.node, false)
	if err != nil {
		return false, fmt.Errorf("issue a member's certificate to %s: %w", j.node.ID, err)
	}
	err = j.cfg.Peers.Demote(ctx, to, &peer.DemoteRequest{Fence: j.fence, Certificate: certificate})
	return err == nil, err
}

func (p *pusher) take(r pushResult) {
	p.running--
	state := p.nodes[r.nodeID]
	state.busy = false
	if state.again {
		state.anew()
		return
	}
	state.roster, state.keyring, state.settled = r.roster, r.keyring, r.settled
	p.setClean(r.nodeID, r.settled)
	if r.err == nil {
		state.tries, state.notBefore = 0, time.Time{}
		return
	}
	p.cfg.Log.Debug("push to a node failed", "node", r.nodeID, "tries", state.tries+1, "error", r.err)
	pause := backoff(p.cfg.Settings, state.tries, rand.Float64())
	if !state.alive {
		pause = silentRetry/2 + rand.N(silentRetry/2)
	}
	state.tries++
	state.notBefore = p.cfg.Now().Add(pause)
}

// rotate takes the next phase of a gossip key rotation when its time has come.
func (p *pusher) rotate(ctx context.Context) error {
	confirmed := p.confirmed() || p.cfg.Now().Sub(p.phaseAt) >= p.cfg.Settings.RotationPatience
	phase := nextRotation(p.ring, len(p.roster.Removed), confirmed)
	if phase == rotationNone {
		return nil
	}
	var fresh raftstore.GossipKey
	if phase == rotationIntroduce {
		var err error
		if fresh, err = p.cfg.NewGossipKey(); err != nil {
			return fmt.Errorf("make a gossip key: %w", err)
		}
	}
	var txn raftstore.Txn
	txn.PutKeyring(rotate(p.ring, phase, len(p.roster.Removed), fresh))
	txn.PutAudit(raftstore.AuditEntry{ID: uuid.NewString(), Time: p.cfg.Now().UTC(), Operation: "keyring: rotate", Caller: "mesh", Resource: p.ring.Rotating + fresh.ID})
	_, err := p.cfg.Store.Apply(ctx, txn)
	if err != nil && !errors.Is(err, raftstore.ErrConflict) {
		return err
	}
	return p.look(ctx)
}

// confirmed: every living node has the present keyring.
func (p *pusher) confirmed() bool {
	for _, state := range p.nodes {
		if state.alive && state.keyring < p.ring.Version {
			return false
		}
	}
	return true
}

// pause is how long nothing happens by time alone.
func (p *pusher) pause() time.Duration {
	now := p.cfg.Now()
	pause := idlePause
	for _, state := range p.nodes {
		if !state.busy && p.running < p.cfg.Settings.PushesInFlight && p.lacks(state) {
			pause = min(pause, max(state.notBefore.Sub(now), 0))
		}
	}
	if p.ring.Rotating != "" {
		pause = min(pause, time.Second)
	}
	return pause
}
