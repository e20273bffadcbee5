package api

import (
	"context"
	"log/slog"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// Store is what the face needs of raftstore.Store.
type Store interface {
	// Apply commits txn; see raftstore.ErrConflict, ErrNotLeader,
	// ErrUnknownOutcome and ErrTooLarge.
	Apply(ctx context.Context, txn raftstore.Txn) (index uint64, err error)
	// ConfirmedView shows fn a moment that no acknowledged write is missing from,
	// or fails with raftstore.ErrNotLeader.
	ConfirmedView(ctx context.Context, fn func(raftstore.Reader) error) error
	// Watch tells of changes below the prefixes; whoever takes it stops it.
	Watch(prefixes ...string) *raftstore.Watch
	IsLeader() bool
	Leader() (id, address string)
	Term() uint64
	// Servers are Raft's voters and stand-bys.
	Servers() (servers []raftstore.Server, index uint64, err error)
}

// Peers is what the face needs of peer.Client beside Forward.
type Peers interface {
	Output(ctx context.Context, to peer.Target, in *peer.OutputRequest) (*peer.OutputResponse, error)
}

// Member is a node as this node's gossip sees it; the fields are those of
// gossip.Member.
type Member struct {
	NodeID        string
	Address       string // host:port of the TLS port
	GossipAddress string
	Version       string
	Voter         bool
	DiskFull      bool
	Alive         bool
	LastSeen      time.Time
	Tags          map[string]string
}

// Config is what a Face is made of. All fields but AuditFile, Clock, Storeless and
// the quotas are needed; the functions are called from many goroutines at once, and each
// request asks them anew, since roles come and go.
type Config struct {
	// NodeID is this node's, Version this program's.
	NodeID  string
	Version string
	// Store returns the open store, a nil interface on a plain member.
	Store func() Store
	// Forward sends a request to the leader (peer.Client.Forward). retry allows
	// sending it again when the outcome of the first time is unknown.
	Forward func(ctx context.Context, in *peer.ForwardRequest, retry bool) (*peer.ForwardResponse, error)
	Peers   Peers
	// Members is gossip's view, this node included.
	Members func() []Member
	// Roster is the gate's: what this node knows of voters without the store.
	Roster func() raftstore.Roster
	// MeshKey opens the store's secrets; ok is false on a plain member.
	MeshKey func() (key pki.MeshKey, ok bool)
	// Documents is how many documents of its own the mesh keeps, DocumentVersions how
	// many versions of each; 0 is MaxDocuments and MaxDocumentVersions.
	Documents, DocumentVersions int
	// Windows is how many maintenance windows the mesh keeps, WindowTasks and
	// WindowTargets how much can be registered with each; 0 is MaxWindows,
	// MaxWindowTasks and MaxWindowTargets.
	Windows, WindowTasks, WindowTargets int
	// PatchStaleAfter is how old what is known of a node's patches may be; 0 is
	// DefaultPatchStaleAfter.
	PatchStaleAfter time.Duration
	// AuditFile is where this node notes the reads that it answers and the requests
	// that it refuses; "" notes nothing.
	AuditFile string
	Log       *slog.Logger
	// Now is the mesh's time.
	Now func() time.Time
	// Clock tells how the nodes' clocks differ, and when the mesh's time is known;
	// nil in tests.
	Clock Clock
	// Storeless is, on the leader, the voters and stand-bys that hold no store, and
	// why, "" when they have lost it; nil in tests.
	Storeless func() map[string]string
}

// Clock is what the face needs of clock.Clock.
type Clock interface {
	// Own is what this machine's clock says.
	Own() time.Time
	// Ahead is how far other nodes' clocks are ahead of it.
	Ahead() map[string]time.Duration
	// Known is closed once Now is more than this machine's word.
	Known() <-chan struct{}
}

// Face answers API requests. Its methods may be called from many goroutines at
// once; it has no goroutine of its own, so it needs no closing: a request ends
// with its context.
type Face struct {
	cfg        Config
	operations map[string]*operation
	trail      trail
	// enrolling lets one enrolment at a time decide: they all count in the same
	// record, and would only overtake one another.
	enrolling chan struct{}
	// counting does the same for the making of documents.
	counting chan struct{}
	// paces bounds, on the leader, what members write by their own authority.
	paces paces
	// large has a place for each large body in memory.
	large chan struct{}
	// search, localSearch and confirm are leaderSearch, localSearch and
	// confirmPatience, shorter in tests; watchPause is as the constant.
	search, localSearch, confirm, watchPause time.Duration
}

// New returns a Face. Requests may be served before the store is open.
func New(cfg Config) *Face {
	if cfg.Documents == 0 {
		cfg.Documents = MaxDocuments
	}
	if cfg.DocumentVersions == 0 {
		cfg.DocumentVersions = MaxDocumentVersions
	}
	if cfg.Windows == 0 {
		cfg.Windows = MaxWindows
	}
	if cfg.WindowTasks == 0 {
		cfg.WindowTasks = MaxWindowTasks
	}
	if cfg.WindowTargets == 0 {
		cfg.WindowTargets = MaxWindowTargets
	}
	if cfg.PatchStaleAfter == 0 {
		cfg.PatchStaleAfter = DefaultPatchStaleAfter
	}
	return &Face{
		cfg: cfg, operations: operationTable(), trail: trail{path: cfg.AuditFile, limit: maxTrail, log: cfg.Log}, enrolling: make(chan struct{}, 1), counting: make(chan struct{}, 1), large: make(chan struct{}, maxLarge),
		search: leaderSearch, localSearch: localSearch, confirm: confirmPatience, watchPause: watchPause,
	}
}
