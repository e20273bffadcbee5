package leader

import (
	"sync"
	"time"

	"fleetmesh/agent/peer"
)

// inspection is what voters and stand-bys say about their stores in a term. The
// clock's loop and the voters' loop write it, whoever judges a quorum reads it.
type inspection struct {
	mu sync.Mutex
	// without has the nodes that hold no store.
	without map[string]storeless
}

// storeless is a node that should hold the store and holds none.
type storeless struct {
	since time.Time
	// trouble is why the node cannot use the store that it has; "" when it has none.
	trouble string
}

func newInspection() *inspection { return &inspection{without: map[string]storeless{}} }

// note takes a node's answer.
func (i *inspection) note(nodeID string, out *peer.RaftStateResponse, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	was, known := i.without[nodeID]
	switch {
	case out.HoldsStore:
		delete(i.without, nodeID)
	case !known || was.trouble != out.Trouble:
		i.without[nodeID] = storeless{since: now, trouble: out.Trouble}
	}
}

// forget drops what a node has said.
func (i *inspection) forget(nodeID string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.without, nodeID)
}

// storeless tells since when a node holds no store, and why.
func (i *inspection) storeless(nodeID string) (s storeless, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, ok = i.without[nodeID]
	return s, ok
}
