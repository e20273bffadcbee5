package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"fleetmesh/internal/durable"
	"fleetmesh/raftstore"
)

// gateVersion is the version of the gate's file, in docs/storage.md; it is raised
// when an older program could misread the file.
const gateVersion = 1

// gateFile is the file as it lies on disk.
type gateFile struct {
	Version int
	Term    uint64
	Roster  raftstore.Roster
}

// Gate holds what this node knows of who counts, on disk before it is in force:
// the roster and the highest term seen. It is safe for concurrent use.
type Gate struct {
	path   string
	meshID string

	// mu orders changes; it is held while the file is written. Readers use view
	// and term and never wait for a disk.
	mu   sync.Mutex
	view atomic.Pointer[rosterView]
	term atomic.Uint64

	// notifyMu orders subscribers' calls: each sees rosters in rising versions.
	notifyMu    sync.Mutex
	subscribers []func(raftstore.Roster)

	// rosterWanted has room for one wish for a newer roster, which the client
	// serves.
	rosterWanted chan struct{}

	// leader is the id of the node that called as the leader of the highest term
	// seen, until it turns out that it does not lead: where to look first, no more.
	// leaderHeard has room for the news that it is another.
	leader      atomic.Pointer[string]
	leaderHeard chan struct{}
}

// OpenGate reads the gate's file; one that is not there yet is an empty roster
// and term 0.
func OpenGate(path string, meshID string) (*Gate, error) {
	g := &Gate{path: path, meshID: meshID, rosterWanted: make(chan struct{}, 1), leaderHeard: make(chan struct{}, 1)}
	g.view.Store(viewOf(raftstore.Roster{MeshID: meshID}))
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	var file gateFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("open gate: %s is damaged (%w), and with it is lost which leaders this node must refuse: remove the node from the mesh (meshctl node remove), move its directory away and let it join again", path, err)
	}
	if file.Version < 1 || file.Version > gateVersion {
		return nil, fmt.Errorf("open gate: %s has version %d and this program reads up to %d; upgrade this node", path, file.Version, gateVersion)
	}
	if file.Roster.MeshID != meshID {
		return nil, fmt.Errorf("open gate: %s is of mesh %q and this node belongs to %q", path, file.Roster.MeshID, meshID)
	}
	g.view.Store(viewOf(file.Roster))
	g.term.Store(file.Term)
	return g, nil
}

// Roster is the roster in force. Its slices are shared: do not change them.
func (g *Gate) Roster() raftstore.Roster { return g.view.Load().roster }

// Term is the highest term seen.
func (g *Gate) Term() uint64 { return g.term.Load() }

// Update takes a roster with a higher version and passes over any other. When it
// returns, a changed roster is on disk, in force, and known to the subscribers.
func (g *Gate) Update(roster raftstore.Roster) (changed bool, err error) {
	if roster.MeshID != g.meshID {
		return false, fmt.Errorf("take roster: it is of mesh %q and this node belongs to %q", roster.MeshID, g.meshID)
	}
	roster.Members = slices.Clone(roster.Members)
	roster.Removed = slices.Clone(roster.Removed)
	g.mu.Lock()
	if roster.Version <= g.Roster().Version {
		g.mu.Unlock()
		return false, nil
	}
	if err := g.write(gateFile{Version: gateVersion, Term: g.Term(), Roster: roster}); err != nil {
		g.mu.Unlock()
		return false, fmt.Errorf("take roster: %w", err)
	}
	g.view.Store(viewOf(roster))
	g.mu.Unlock()
	g.notify()
	return true, nil
}

// Admit lets a call from the leader of a term pass: it refuses a term below the
// highest seen (*Refusal, stale-term), and a higher one is on disk when it
// returns.
func (g *Gate) Admit(term uint64) error {
	if term == g.Term() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	highest := g.Term()
	if term < highest {
		return &Refusal{Kind: RefusedStaleTerm, Message: fmt.Sprintf("term %d is over: this node has heard of a leader of term %d", term, highest)}
	}
	if term == highest {
		return nil
	}
	if err := g.write(gateFile{Version: gateVersion, Term: term, Roster: g.Roster()}); err != nil {
		return fmt.Errorf("keep term %d: %w", term, err)
	}
	g.term.Store(term)
	return nil
}

// hearLeader notes who has called with a term that Admit let pass.
func (g *Gate) hearLeader(nodeID string) {
	if was := g.leader.Load(); was != nil && *was == nodeID {
		return
	}
	g.leader.Store(&nodeID)
	select {
	case g.leaderHeard <- struct{}{}:
	default:
	}
}

// Subscribe has fn called after each change of the roster, one call at a time.
// fn may read the gate and must not update it.
func (g *Gate) Subscribe(fn func(raftstore.Roster)) {
	g.notifyMu.Lock()
	defer g.notifyMu.Unlock()
	g.subscribers = append(g.subscribers, fn)
}

func (g *Gate) notify() {
	g.notifyMu.Lock()
	defer g.notifyMu.Unlock()
	roster := g.Roster()
	for _, fn := range g.subscribers {
		fn(roster)
	}
}

// wantRoster asks the client to look for a newer roster; it never blocks.
func (g *Gate) wantRoster() {
	select {
	case g.rosterWanted <- struct{}{}:
	default:
	}
}

// write replaces the file so that a crash leaves the old or the new one whole.
// Callers hold g.mu.
func (g *Gate) write(file gateFile) error {
	data, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("encode gate: %w", err)
	}
	if err := durable.WriteFile(g.path, data); err != nil {
		return fmt.Errorf("write gate: %w", err)
	}
	return nil
}
