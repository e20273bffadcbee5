package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/clock"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// Records is the store as far as the engine needs it. *raftstore.Store is one.
type Records interface {
	// Apply commits t or says why not: ErrConflict, ErrNotLeader, ErrUnknownOutcome,
	// ErrTooLarge, ErrClosed.
	Apply(ctx context.Context, t raftstore.Txn) (modifyIndex uint64, err error)
	// View shows one moment of the local store; this node's own commits are in it.
	View(fn func(raftstore.Reader) error) error
}

// Store is the store as the leader needs it. *raftstore.Store is one.
type Store interface {
	Records
	// ConfirmedView is View after a majority has confirmed that this node leads.
	ConfirmedView(ctx context.Context, fn func(raftstore.Reader) error) error
	Watch(prefixes ...string) *raftstore.Watch
	AppliedIndex() uint64
	// Servers are Raft's servers, and the index of their configuration, which every
	// change names as prevIndex, so that a plan made on an old one fails.
	Servers() ([]raftstore.Server, uint64, error)
	AddNonvoter(ctx context.Context, nodeID, address string, prevIndex uint64) error
	AddVoter(ctx context.Context, nodeID, address string, prevIndex uint64) error
	Demote(ctx context.Context, nodeID string, prevIndex uint64) error
	Remove(ctx context.Context, nodeID string, prevIndex uint64) error
	TransferLeadership(ctx context.Context) error
}

// Peers calls other nodes. *peer.Client is one. See there what the errors tell.
type Peers interface {
	Jobs(ctx context.Context, to peer.Target, in *peer.JobsRequest) (*peer.JobsResponse, error)
	Cancel(ctx context.Context, to peer.Target, in *peer.CancelRequest) (*peer.CancelResponse, error)
	JobStates(ctx context.Context, to peer.Target, in *peer.JobStatesRequest) (*peer.JobStatesResponse, error)
	Roster(ctx context.Context, to peer.Target, in *peer.RosterRequest) error
	Farewell(ctx context.Context, to peer.Target, in *peer.RosterRequest) error
	Keyring(ctx context.Context, to peer.Target, in *peer.KeyringRequest) error
	Promote(ctx context.Context, to peer.Target, in *peer.PromoteRequest) error
	Demote(ctx context.Context, to peer.Target, in *peer.DemoteRequest) error
	RaftState(ctx context.Context, to peer.Target, in *peer.RaftStateRequest) (*peer.RaftStateResponse, error)
}

// Members says who answers. It is asked from several goroutines and must not
// block. This node itself is alive.
type Members interface {
	Alive(nodeID string) bool
	// Subscribe returns a channel that becomes readable when anything may have
	// changed, and a function that ends it.
	Subscribe() (<-chan struct{}, func())
}

// Gate is this node's own guard: it follows a new roster before others do.
type Gate interface {
	Update(roster raftstore.Roster) (changed bool, err error)
}

// Config is what a Leader works with. All fields but Platforms, LastSeen, Started, Settings, Now
// and Clock are required.
type Config struct {
	NodeID  string
	Store   Store
	Peers   Peers
	Members Members
	// LastSeen is when this node's gossip ceased to see a node, zero when it never saw
	// it. It may be nil.
	LastSeen func(nodeID string) time.Time
	// Started tells one start of a node's daemon from another, as far as gossip knows; 0
	// is unknown. It may be nil.
	Started func(nodeID string) uint64
	Gate    Gate
	Log     *slog.Logger
	// Now is the scheduling clock; nil is the system's.
	Now func() time.Time
	// Clock is where Now comes from. This node tells the mesh's time by it while it
	// leads. nil: the time is Now's, and nobody is told it.
	Clock *clock.Clock

	// Platforms returns the platform types that a document is for, none for all.
	// nil takes every document to be for all.
	Platforms func(document json.RawMessage) []string
	// Compose makes the records of a command as SendCommand does, by the store's moment
	// r, or says why it would refuse. It changes nothing; the loops of windows and
	// associations put what it returns, under ids of their own.
	Compose func(r raftstore.Reader, in *ssm.SendCommandInput, id, caller string, now time.Time) (command raftstore.Command, state raftstore.CommandState, refusal string, err error)
	// MeshKey is handed to nodes that are to hold the store.
	MeshKey func() pki.MeshKey
	// OpenGossipKey opens a key of the keyring.
	OpenGossipKey func(key raftstore.GossipKey) ([]byte, error)
	// NewGossipKey makes a random gossip key, sealed for the keyring.
	NewGossipKey func() (raftstore.GossipKey, error)
	// IssueVoterCertificate issues a PEM chain for the node's enrolled key by the CA
	// in the store: a voter's, for stand-bys too, or a member's.
	IssueVoterCertificate func(node raftstore.Node, voter bool) ([]byte, error)

	Settings Settings
}

// Leader runs what only the leader runs. It is made once per node that holds the
// store; Run is called for each term that this node leads.
type Leader struct {
	cfg Config

	mu sync.Mutex
	// reign is the present one, nil while this node does not lead.
	reign *reign
}

// reign is one Run.
type reign struct {
	reports chan *reportCall
	// over is closed when no more reports are taken.
	over chan struct{}
	// seen is what voters and stand-bys say about their stores.
	seen *inspection
}

// New returns a Leader that does nothing until Run.
func New(cfg Config) *Leader {
	clock := cfg.Now
	if clock == nil {
		clock = time.Now
	}
	cfg.Now = func() time.Time { return clock().UTC() } // as records have it
	cfg.Settings = cfg.Settings.withDefaults()
	return &Leader{cfg: cfg}
}

// Run starts every loop of a leader, and returns when ctx has ended and they all
// have too. It is made for [raftstore.Store.Lead]: two calls never overlap. When
// the mesh turns out to have a newer leader, all stops at once and Run waits for
// the end of ctx.
func (l *Leader) Run(ctx context.Context, term uint64) {
	log := l.cfg.Log.With("term", term)
	log.Info("leading")
	l.beginClock(ctx, term, newInspection())
	for errors.Is(l.work(ctx, term, log), errClockSet) && ctx.Err() == nil {
		log.Info("leading on, by the new time")
	}
	<-ctx.Done()
	log.Info("not leading")
}

// work runs the loops until ctx ends or one of them must end all; it says why.
func (l *Leader) work(ctx context.Context, term uint64, log *slog.Logger) error {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	seen := newInspection()
	r := &reign{reports: make(chan *reportCall, 256), over: make(chan struct{}), seen: seen}
	l.mu.Lock()
	l.reign = r
	l.mu.Unlock()

	cfg := l.cfg
	cfg.Log = log
	push := newPusher(cfg, term)
	var loops sync.WaitGroup
	for name, run := range map[string]func(context.Context) error{
		"dispatch":     newDispatcher(cfg, term, r, rand.Float64).run,
		"voters":       newVoterLoop(cfg, term, push, seen).run,
		"push":         push.run,
		"lastping":     func(ctx context.Context) error { return keepLastPing(ctx, cfg) },
		"sweep":        func(ctx context.Context) error { return sweep(ctx, cfg) },
		"windows":      func(ctx context.Context) error { return keepWindows(ctx, cfg) },
		"clock":        func(ctx context.Context) error { return l.keepClock(ctx, term, seen) },
		"associations": func(ctx context.Context) error { return keepAssociations(ctx, cfg) },
	} {
		loops.Go(func() {
			for working.Err() == nil {
				err := run(working)
				switch {
				case working.Err() != nil:
				case errors.Is(err, errClockSet):
					stop(err)
				case over(err):
					log.Warn("leading no more", "loop", name, "cause", err)
					stop(err)
				default:
					// Such as a record that a newer version wrote. The other loops go on.
					log.Error("a loop of the leader failed and begins anew", "loop", name, "error", err)
					pause(working, restartPause)
				}
			}
		})
	}
	<-working.Done()
	l.mu.Lock()
	l.reign = nil
	l.mu.Unlock()
	close(r.over)
	loops.Wait()
	return context.Cause(working)
}

// Report takes a node's reports about its own jobs and returns when they are
// committed. unknown lists the commands that the mesh does not know: nothing about
// them will ever be wanted. A *peer.Refusal of kind not-leader is returned while
// this node does not lead; after any error the reports must be sent again.
func (l *Leader) Report(ctx context.Context, nodeID string, reports []peer.JobReport) (unknown []string, err error) {
	l.mu.Lock()
	r := l.reign
	l.mu.Unlock()
	if r == nil {
		return nil, notLeading()
	}
	if len(reports) > maxReports {
		return nil, &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("%d reports at once are more than %d", len(reports), maxReports)}
	}
	// Here, on the caller's time, and not in the engine, which serves all nodes.
	reports = shortened(reports, l.cfg.Now())
	if err := keepFindings(ctx, l.cfg.Store, nodeID, reports, l.cfg.Now()); err != nil {
		if errors.Is(err, raftstore.ErrNotLeader) {
			return nil, notLeading()
		}
		return nil, err
	}
	call := &reportCall{nodeID: nodeID, reports: reports, done: make(chan reportResult, 1)}
	select {
	case r.reports <- call:
	case <-r.over:
		return nil, notLeading()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case result := <-call.done:
		if result.err == nil {
			result.err = disown(ctx, l.cfg.Store, nodeID, result.unknown)
		}
		return result.unknown, result.err
	case <-r.over:
		return nil, notLeading()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Storeless lists the voters and stand-bys that hold no store, and why: "" means
// that it is lost. It is empty while this node does not lead.
func (l *Leader) Storeless() map[string]string {
	l.mu.Lock()
	r := l.reign
	l.mu.Unlock()
	if r == nil {
		return nil
	}
	r.seen.mu.Lock()
	defer r.seen.mu.Unlock()
	why := make(map[string]string, len(r.seen.without))
	for id, s := range r.seen.without {
		why[id] = s.trouble
	}
	return why
}

func notLeading() *peer.Refusal {
	return &peer.Refusal{Kind: peer.RefusedNotLeader, Message: "this node does not lead the mesh"}
}

// restartPause is the wait before a loop begins anew after an error that is not
// the end of the leadership.
const restartPause = time.Second

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// over reports whether an error of the store means that this node leads no more.
func over(err error) bool {
	return errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, raftstore.ErrClosed)
}
