package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"fleetmesh/agent/leader"
	"fleetmesh/raftstore"
)

// holding is what a voter or stand-by has and a plain member has not: the store,
// and the loops that live on it.
type holding struct {
	store  *raftstore.Store
	leader *leader.Leader
	// file is the store's file as it was when it was opened.
	file os.FileInfo
	// stop ends the loops; done is closed when they have ended.
	stop  context.CancelFunc
	loops sync.WaitGroup
}

// store returns the open store, nil on a plain member.
func (a *Agent) store() *raftstore.Store {
	a.holdingMu.RLock()
	defer a.holdingMu.RUnlock()
	if a.holding == nil {
		return nil
	}
	return a.holding.store
}

// openOwnStore opens the store that this node has, if it is to hold one, at its
// start.
func (a *Agent) openOwnStore() error {
	if err := os.RemoveAll(a.dir.goneStore()); err != nil {
		return fmt.Errorf("delete a store that is held no more: %w", err)
	}
	if _, holds := a.identity.MeshKey(); !holds {
		return nil
	}
	if a.dir.lostStore() {
		a.log.Error(lostStoreText)
		return nil
	}
	err := a.openStore()
	if err != nil && isFull(err) {
		a.storeFailed(err)
		return nil
	}
	return err
}

// newStore makes an empty store, as the leader asks, or opens the one that is
// there.
func (a *Agent) newStore() error {
	if a.dir.lostStore() && a.store() == nil {
		// What else is left of an earlier one does not go with a new log.
		if err := os.RemoveAll(a.dir.store()); err != nil {
			return fmt.Errorf("clear what is left of the store: %w", err)
		}
	}
	return a.openStore()
}

// openStore opens the store and starts what lives on it. It is idempotent.
func (a *Agent) openStore() error {
	a.holdingMu.Lock()
	defer a.holdingMu.Unlock()
	if a.holding != nil {
		return nil
	}
	if a.ctx.Err() != nil {
		return raftstore.ErrClosed
	}
	store, err := raftstore.Open(raftstore.Config{
		Dir: a.dir.store(), NodeID: a.identity.NodeID(), MeshID: a.identity.MeshID(), Address: a.config.Address(),
		Stream: a.streams.open(), Log: a.log.With("part", "raft"),
		Fatal: a.storeFailed,
	})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	file, err := os.Stat(a.dir.storeFile())
	if err != nil {
		return errors.Join(fmt.Errorf("open the store: %w", err), store.Close())
	}
	h := &holding{store: store, leader: leader.New(a.leaderConfig(store)), file: file}
	ctx, stop := context.WithCancel(a.ctx)
	h.stop = stop
	h.loops.Go(func() { store.Lead(ctx, h.leader.Run) })
	h.loops.Go(func() { a.publishNodes(ctx, store) })
	a.holding, a.storeState = h, ""
	a.log.Info("this node holds the store")
	return nil
}

// closeStore ends what lives on the store, then the store.
func (a *Agent) closeStore() error {
	a.holdingMu.Lock()
	h := a.holding
	a.holding = nil
	a.holdingMu.Unlock()
	if h == nil {
		return nil
	}
	h.stop()
	err := h.store.Close()
	h.loops.Wait()
	return err
}

// dropStore closes the store and deletes it with the mesh key: this node is a
// plain member from now on.
func (a *Agent) dropStore() error {
	if err := a.closeStore(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	if err := a.dir.removeStore(); err != nil {
		return fmt.Errorf("delete the store: %w", err)
	}
	a.log.Info("this node holds the store no more")
	return a.identity.DropMeshKey()
}

// closeStoreLeadership hands leadership to another voter, if there is one, so
// that the mesh does not wait for an election time-out.
func (a *Agent) closeStoreLeadership(ctx context.Context) {
	store := a.store()
	if store == nil || !store.IsLeader() {
		return
	}
	if err := store.TransferLeadership(ctx); err != nil && !errors.Is(err, raftstore.ErrNotLeader) {
		a.log.Debug("hand over leadership", "error", err)
	}
}

// publishInterval bounds how often the enrolled nodes are told to gossip, so that
// a thousand joins are not a thousand scans; and the pause is publishShare times as
// long as the scan before it took.
const (
	publishInterval = 200 * time.Millisecond
	publishShare    = 20
)

// publishNodes tells gossip the tags and addresses of the enrolled nodes, as the
// store has them, whenever they change. Its owner is the holding.
func (a *Agent) publishNodes(ctx context.Context, store *raftstore.Store) {
	watch := store.Watch(raftstore.NodePrefix)
	defer watch.Stop()
	g := a.gossip.Load()
	published := map[string]uint64{}
	for {
		began := time.Now()
		seen := map[string]bool{}
		var addresses []string
		err := store.View(func(r raftstore.Reader) error {
			return raftstore.ScanNodes(r, "", func(n raftstore.Node) bool {
				seen[n.ID] = true
				addresses = append(addresses, n.GossipAddress)
				if published[n.ID] != n.ModifyIndex {
					g.SetTags(n.ID, n.ModifyIndex, n.Tags)
					published[n.ID] = n.ModifyIndex
				}
				return true
			})
		})
		switch {
		case errors.Is(err, raftstore.ErrClosed):
			return
		case err != nil:
			a.log.Warn("read the enrolled nodes", "error", err)
		default:
			for id := range published {
				if !seen[id] {
					delete(published, id)
				}
			}
			a.seed(g, addresses)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(publishInterval, publishShare*time.Since(began))):
		}
		select {
		case <-ctx.Done():
			return
		case <-watch.C:
		}
	}
}
