//go:build !race

// Not under the race detector: hashicorp/raft 1.8.0 reads a follower's id without
// the lock under which it replaces its address (updateLastAppended,
// startStopReplication). The id is the same before and after.

package leader_test

import (
	"slices"
	"testing"

	"fleetmesh/raftstore"
)

func TestANodeThatChangesItsAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, brisk)
	eventually(t, "three voters", func() bool { v, _ := r.servers(); return len(v) == 3 })
	at, _ := r.leading()
	var moved *rigNode
	for _, n := range r.all() {
		if n != at {
			moved = n
		}
	}
	moved.kill()
	elsewhere := r.add() // only for its port
	r.mu.Lock()
	delete(r.nodes, elsewhere.id)
	r.mu.Unlock()
	moved.mu.Lock()
	moved.address = elsewhere.address
	moved.mu.Unlock()
	moved.start()
	r.apply(func(v raftstore.Reader) (t raftstore.Txn, err error) {
		n, err := raftstore.GetNode(v, moved.id)
		n.Address = moved.address
		t.PutNode(n)
		return t, err
	})
	eventually(t, "Raft and the roster to know the address", func() bool {
		_, store := r.leading()
		if store == nil {
			return false
		}
		servers, _, err := store.Servers()
		if err != nil || len(servers) != 3 {
			return false
		}
		at.mu.Lock()
		defer at.mu.Unlock()
		m, _ := at.roster.Member(moved.id)
		return m.Address == moved.address && slices.Contains(servers, raftstore.Server{ID: moved.id, Address: moved.address, Voter: true})
	})
	r.sendCommand("c")
	eventually(t, "a command on all", func() bool { return r.commandState("c").CompletedCount == 3 })
}
