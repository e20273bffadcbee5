package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fleetmesh/agent/api"
	"fleetmesh/agent/peer"
	"fleetmesh/agent/worker"
	"fleetmesh/gossip"
	"fleetmesh/internal/clock"
	"fleetmesh/raftstore"
)

// ErrRemoved is Err of a node that was deregistered from its mesh.
var ErrRemoved = errors.New("this node was deregistered from its mesh; to use the machine again, delete the directory and join")

// Agent is a running node. Open starts it, Close ends it; both are called once,
// by one owner.
type Agent struct {
	config   Config
	dir      directory
	log      *slog.Logger
	identity *Identity
	unlock   func()

	// clock has this machine's time and the mesh's.
	clock   *clock.Clock
	gate    *peer.Gate
	client  *peer.Client
	server  *peer.Server
	worker  *worker.Worker
	face    *api.Face
	streams *raftStreams
	// gossip starts after the port: whoever sees this node alive may send it work.
	gossip atomic.Pointer[gossip.Gossip]

	// ctx ends when Close begins; loops are all goroutines of this type.
	ctx   context.Context
	stop  context.CancelFunc
	loops sync.WaitGroup

	apiServer    *http.Server
	socketServer *http.Server

	// holding is the store and what lives on it; nil on a plain member.
	holdingMu sync.RWMutex
	holding   *holding
	// storeState is why it is nil on a node that has a store; guarded by holdingMu.
	storeState storeState
	// strangers are removed nodes that call.
	strangers chan stranger
	// storeTrouble has room for the failure that a full disk made of the store.
	storeTrouble chan error

	// gossipKeysMu makes taking new gossip keys one at a time.
	gossipKeysMu sync.Mutex

	failOnce sync.Once
	failed   chan struct{}
	err      error
}

// Open starts the node of config.DataDir. Errors name what stands in the way:
// ErrNoNode, ErrDirectoryInUse, ErrConfig, a port in use, a damaged file.
func Open(config Config, log *slog.Logger) (_ *Agent, err error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	dir := directory(config.DataDir)
	if complete, err := dir.complete(); err != nil {
		return nil, err
	} else if !complete {
		return nil, fmt.Errorf("%w: %s; make a mesh with `meshd init` or enrol with `meshd join`", ErrNoNode, string(dir))
	}
	unlock, err := dir.lock()
	if err != nil {
		return nil, err
	}
	identity, err := loadIdentity(dir)
	if err != nil {
		unlock()
		return nil, err
	}
	a := &Agent{
		config: config, dir: dir, identity: identity, unlock: unlock, clock: clock.New(config.Now),
		log:    log.With("self", identity.NodeID()),
		failed: make(chan struct{}), storeTrouble: make(chan error, 1), strangers: make(chan stranger, farewellsWaiting),
	}
	a.ctx, a.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			a.Close()
		}
	}()

	if a.gate, err = peer.OpenGate(dir.gate(), identity.MeshID()); err != nil {
		return nil, err
	}
	if a.gate.Roster().IsRemoved(identity.Identity().PublicKey) {
		return nil, ErrRemoved
	}
	peers := peer.Config{Credentials: identity, Gate: a.gate, Log: a.log.With("part", "peer"), Now: a.certificateTime, Clock: a.clock, Where: a.where, OnRemoved: a.turnedAway}
	a.client = peer.NewClient(peers)
	if err = a.openWorker(); err != nil {
		return nil, err
	}
	a.face = api.New(a.faceConfig())
	if _, holds := identity.MeshKey(); holds && !dir.lostStore() {
		a.storeState = storeOpening
	}
	if a.server, err = peer.Listen(config.Address(), peers, (*handlers)(a)); err != nil {
		return nil, err
	}
	a.streams = &raftStreams{listener: a.server.Raft(), client: a.client}
	a.spawn(a.streams.serve)
	if err = a.openGossip(); err != nil {
		return nil, err
	}
	if err = a.openOwnStore(); err != nil {
		return nil, err
	}
	if err = a.serveAPI(); err != nil {
		return nil, err
	}
	a.gate.Subscribe(a.rosterChanged)
	a.rosterChanged(a.gate.Roster())
	a.spawn(a.renewCertificates)
	a.spawn(a.keepDisk)
	a.spawn(a.bidFarewells)
	a.spawn(a.wantRoster)
	a.log.Info("running", "address", config.Address(), "gossip", config.GossipAddress(), "mesh", identity.MeshID(), "version", Version)
	return a, nil
}

// rosterDelay is how long after its start a node asks for what has happened to the
// roster while it was away, and by how much chance makes it longer. A leader that the
// node does not know makes it ask at once. Shorter: when a site gets its power back,
// each node shakes hands with all voters while these are busy electing one.
const rosterDelay = 2 * time.Second

// wantRoster asks for the roster, once.
func (a *Agent) wantRoster() {
	select {
	case <-time.After(rosterDelay + rand.N(rosterDelay)):
		a.client.WantRoster()
	case <-a.ctx.Done():
	}
}

// certificateTime is what other nodes' certificates are judged by: the mesh's time
// where this node holds the store, since a voter with a wrong clock may lead. A
// member goes by its own: a thief of a voter's key could else hold the time still
// for a node that is cut off, and with it the end of the certificate.
func (a *Agent) certificateTime() time.Time {
	if _, holds := a.identity.MeshKey(); holds {
		return a.clock.Now()
	}
	return a.clock.Own()
}

// where is the address at which gossip sees a node.
func (a *Agent) where(nodeID string) string {
	if g := a.gossip.Load(); g != nil {
		return g.Where(nodeID)
	}
	return ""
}

// spawn runs fn on a goroutine that Close waits for; fn ends when a.ctx does or
// when the part it serves is closed.
func (a *Agent) spawn(fn func()) {
	a.loops.Add(1)
	go func() {
		defer a.loops.Done()
		fn()
	}()
}

func (a *Agent) openGossip() error {
	var keys gossipKeysFile
	if err := readJSON(a.dir.gossipKeys(), &keys); err != nil {
		return fmt.Errorf("load the gossip keys: %w; copy %s from another node of the mesh, or remove this node (meshctl node remove), move its directory away and let it join again", err, a.dir.gossipKeys())
	}
	g, err := gossip.Open(gossip.Config{
		NodeID: a.identity.NodeID(), MeshID: a.identity.MeshID(),
		Bind: a.config.Bind, Port: a.config.GossipPort, APIAddress: a.config.Address(), Version: Version,
		Keys: keys.Keys, Dir: a.dir.gossip(), Admit: a.admit, Timings: a.config.Gossip,
		OnConflict: func(err error) {
			a.log.Error("another machine uses this node's identity; stop one of the two, delete its directory and join it anew", "error", err)
		},
		Now: a.clock.Own,
		Log: a.log.With("part", "gossip"),
	})
	if err != nil {
		return err
	}
	a.gossip.Store(g)
	g.SetVoter(a.isVoter())
	a.reseed()
	return nil
}

// admit vetoes nodes that were removed from the mesh.
func (a *Agent) admit(nodeID string) error {
	for _, removed := range a.gate.Roster().Removed {
		if removed.NodeID == nodeID {
			return fmt.Errorf("node %s was removed from the mesh", nodeID)
		}
	}
	return nil
}

func (a *Agent) isVoter() bool {
	roster := a.gate.Roster()
	member, ok := roster.Member(a.identity.NodeID())
	return ok && !member.StandBy
}

// rosterChanged runs after each change of the roster, on the gate's goroutine.
func (a *Agent) rosterChanged(roster raftstore.Roster) {
	if roster.IsRemoved(a.identity.Identity().PublicKey) {
		a.fail(ErrRemoved)
		return
	}
	if g := a.gossip.Load(); g != nil {
		g.SetVoter(a.isVoter())
		for _, removed := range roster.Removed {
			g.Forget(removed.NodeID)
		}
	}
	a.reseed()
}

// reseed tells gossip whom to look for when they are away.
func (a *Agent) reseed() {
	g := a.gossip.Load()
	if g == nil {
		return
	}
	var enrolled []string
	if store := a.store(); store != nil {
		err := store.View(func(r raftstore.Reader) error {
			return raftstore.ScanNodes(r, "", func(n raftstore.Node) bool {
				enrolled = append(enrolled, n.GossipAddress)
				return true
			})
		})
		if err != nil && !errors.Is(err, raftstore.ErrClosed) {
			a.log.Warn("read the enrolled nodes", "error", err)
		}
	}
	a.seed(g, enrolled)
}

// seed tells gossip the addresses of the enrolled nodes, as far as they are known
// here, and those that the enrolment and the settings have named.
func (a *Agent) seed(g *gossip.Gossip, enrolled []string) {
	var seeds []string
	if err := readJSON(a.dir.path("gossip", "first-peers.json"), &seeds); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.Warn("read the first peers", "error", err)
	}
	seeds = slices.Concat(seeds, enrolled, a.config.gossipSeeds())
	slices.Sort(seeds)
	g.SetSeeds(slices.Compact(seeds))
}

// fail ends the node: Failed is closed and Err says why.
func (a *Agent) fail(err error) {
	a.failOnce.Do(func() {
		a.err = err
		close(a.failed)
	})
}

// Failed is closed when the node cannot go on; its owner then calls Close.
func (a *Agent) Failed() <-chan struct{} { return a.failed }

// Err is why Failed is closed, nil before.
func (a *Agent) Err() error {
	select {
	case <-a.failed:
		return a.err
	default:
		return nil
	}
}

// NodeID is this node's id.
func (a *Agent) NodeID() string { return a.identity.NodeID() }

// apiDrain bounds how long Close waits for API requests in flight.
const apiDrain = 3 * time.Second

// Close ends the node in the order in which its parts depend on each other:
// no new requests; hand leadership over and say goodbye, so that nobody waits for
// a time-out; then the port before the store, because reads of peers have no
// deadline; then the worker, whose scripts go on.
func (a *Agent) Close() error {
	var errs []error
	a.stop()
	drain, cancel := context.WithTimeout(context.Background(), apiDrain)
	defer cancel()
	a.closeStoreLeadership(drain)
	for _, server := range []*http.Server{a.apiServer, a.socketServer} {
		if server == nil {
			continue
		}
		if err := server.Shutdown(drain); err != nil {
			server.Close()
		}
	}
	if g := a.gossip.Load(); g != nil {
		errs = append(errs, g.Close())
	}
	if a.server != nil {
		errs = append(errs, a.server.Close())
	}
	errs = append(errs, a.closeStore())
	if a.worker != nil {
		errs = append(errs, a.worker.Close())
	}
	if a.client != nil {
		a.client.Close()
	}
	a.loops.Wait()
	a.unlock()
	return errors.Join(errs...)
}
