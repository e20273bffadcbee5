package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fleetmesh/raftstore"
)

// Times of keepLastPing: losses within the pause share a commit.
const (
	lastPingPause = time.Second
	lastPingBatch = 200
	// lastPingExact is how old a record may be, compared with what this node has seen,
	// before it is mended: leaders see a node go at slightly different moments.
	lastPingExact = time.Minute
)

// keepLastPing writes down when a node was last known alive, once it is lost. It
// works until ctx ends or something goes wrong.
func keepLastPing(ctx context.Context, cfg Config) error {
	members, unsubscribe := cfg.Members.Subscribe()
	defer unsubscribe()
	nodes := cfg.Store.Watch(raftstore.NodePrefix)
	defer nodes.Stop()
	alive := map[string]time.Time{} // last known alive
	lost := map[string]time.Time{}
	for {
		if err := noticeLost(cfg, alive, lost); err != nil {
			return err
		}
		for len(lost) > 0 {
			if err := writeLost(ctx, cfg, lost); err != nil {
				if ctx.Err() != nil || over(err) {
					return err
				}
				cfg.Log.Warn("when nodes were lost cannot be written now", "error", err)
				break
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lastPingPause):
		}
		if len(lost) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-members:
		case <-nodes.C:
		}
	}
}

// noticeLost moves the nodes that are alive no more from alive to lost, with the
// present: that is when gossip gave them up. Those that were given up while nobody
// led are lost since then.
func noticeLost(cfg Config, alive, lost map[string]time.Time) error {
	now := cfg.Now().UTC()
	return cfg.Store.View(func(r raftstore.Reader) error {
		return raftstore.ScanNodes(r, "", func(n raftstore.Node) bool {
			_, was := alive[n.ID]
			switch is := cfg.Members.Alive(n.ID); {
			case is:
				alive[n.ID] = now
				delete(lost, n.ID)
			case was:
				lost[n.ID] = now
				delete(alive, n.ID)
			case cfg.LastSeen != nil:
				if at := cfg.LastSeen(n.ID).UTC(); at.After(n.LastPing.Add(lastPingExact)) {
					lost[n.ID] = at
				}
			}
			return true
		})
	})
}

// writeLost writes some of lost and takes them out of it.
func writeLost(ctx context.Context, cfg Config, lost map[string]time.Time) error {
	var txn raftstore.Txn
	var written []string
	err := cfg.Store.View(func(r raftstore.Reader) error {
		for id, at := range lost {
			if len(written) == lastPingBatch {
				break
			}
			written = append(written, id)
			n, err := raftstore.GetNode(r, id)
			if errors.Is(err, raftstore.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			n.LastPing = at
			txn.PutNode(n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(txn.Ops) > 0 {
		if _, err := cfg.Store.Apply(ctx, txn); err != nil {
			return fmt.Errorf("write when nodes were lost: %w", err)
		}
	}
	for _, id := range written {
		delete(lost, id)
	}
	return nil
}
