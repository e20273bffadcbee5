package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

const (
	// roomForJobs is what must be free below the node's directory for a job to be
	// accepted, in bytes: the ends of all that run already must fit in.
	roomForJobs = 4 << 20
	// roomForStore is what must be free for a store that was closed by a full disk to
	// be opened again. Less would close it again at once.
	roomForStore = 16 << 20
	// diskEvery is how often the disk is looked at.
	diskEvery = 2 * time.Second
)

// fullDisk says that the disk is too full to take jobs on, "" when it is not.
func (a *Agent) fullDisk() string {
	free, err := executor.FreeBytes(string(a.dir))
	if err != nil || free >= roomForJobs {
		return "" // what cannot be asked shows itself when something is written
	}
	return fmt.Sprintf("the disk of this node is full: %d KiB are free below %s, and %d are needed; free some, and send the command again", free>>10, string(a.dir), roomForJobs>>10)
}

// storeState is why this node does not hold the store that it has; it is read by
// the leader.
type storeState string

const (
	storeOpening storeState = "it is opening its store"
	storeFull    storeState = "its disk is full"
)

func (a *Agent) setStoreState(s storeState) {
	a.holdingMu.Lock()
	defer a.holdingMu.Unlock()
	a.storeState = s
}

// storeFailed is the store's Fatal. A full disk closes the store until there is
// room; anything else ends the node.
func (a *Agent) storeFailed(err error) {
	free, freeErr := executor.FreeBytes(string(a.dir))
	if !isFull(err) && (freeErr != nil || free >= roomForStore) {
		a.fail(fmt.Errorf("the store cannot go on: %w", err))
		return
	}
	select {
	case a.storeTrouble <- err:
	default:
	}
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// keepDisk looks after what a disk can do to this node: it fills up, and somebody
// deletes the store under it. It runs until Close.
func (a *Agent) keepDisk() {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	full := false
	for {
		select {
		case <-a.ctx.Done():
			return
		case err := <-a.storeTrouble:
			a.log.Error("the disk is full: this node does not hold the store until there is room", "needed_bytes", uint64(roomForStore), "error", err)
			a.setStoreState(storeFull)
			if err := a.closeStore(); err != nil {
				a.log.Warn("close the store", "error", err)
			}
		case <-tick.C:
		}
		why := a.fullDisk()
		switch was := full; {
		case why != "" && !was:
			full = true
			a.log.Error("this node takes no jobs: " + why)
		case why == "" && was:
			full = false
			a.log.Info("there is room on the disk again: this node takes jobs")
		}
		if g := a.gossip.Load(); g != nil {
			g.SetDiskFull(full || a.storeIs(storeFull))
		}
		if a.storeIs(storeFull) {
			a.reopenStore()
		}
		a.missStore()
	}
}

func (a *Agent) storeIs(s storeState) bool {
	a.holdingMu.RLock()
	defer a.holdingMu.RUnlock()
	return a.storeState == s
}

// reopenStore opens a store that was closed by a full disk, once there is room.
func (a *Agent) reopenStore() {
	if _, holds := a.identity.MeshKey(); !holds {
		a.setStoreState("")
		return
	}
	if free, err := executor.FreeBytes(string(a.dir)); err != nil || free < roomForStore {
		return
	}
	if err := a.openStore(); err != nil {
		if !errors.Is(err, raftstore.ErrClosed) {
			a.log.Warn("open the store again", "error", err)
		}
		return
	}
	a.log.Info("there is room on the disk again: this node holds the store")
}

// storeFile is the file of the store that holds this node's votes and log. Without
// it the rest is worth nothing.
func (d directory) storeFile() string { return filepath.Join(d.store(), "raft.db") }

// lostStore reports that the store that this node is to hold is gone.
func (d directory) lostStore() bool {
	_, err := os.Stat(d.storeFile())
	return errors.Is(err, os.ErrNotExist)
}

const lostStoreText = "the store of this node is gone from its directory: what it has promised as a voter is unknown, so it votes no more. The leader replaces it, and gives it a new store, by itself"

// missStore closes a store whose files were deleted: what is written to them is
// gone with the process.
func (a *Agent) missStore() {
	a.holdingMu.RLock()
	h := a.holding
	a.holdingMu.RUnlock()
	if h == nil {
		return
	}
	now, err := os.Stat(a.dir.storeFile())
	if err == nil && os.SameFile(now, h.file) || err != nil && !errors.Is(err, os.ErrNotExist) {
		return
	}
	a.log.Error(lostStoreText)
	drain, cancel := context.WithTimeout(a.ctx, apiDrain)
	defer cancel()
	a.closeStoreLeadership(drain)
	if err := a.closeStore(); err != nil {
		a.log.Warn("close the store", "error", err)
	}
}
