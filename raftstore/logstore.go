package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// Keys of ours in the bucket "conf" of raft.db, beside Raft's own. They are on
// disk: never rename.
var (
	logFormatKey = []byte("FleetmeshFormat")
	logNodeIDKey = []byte("FleetmeshNodeID")
	// logStateKey tells what state.db is worth: stateInUse or stateClosed.
	logStateKey = []byte("FleetmeshState")
)

// state.db is not synced while it is in use, and synced when it is closed. After
// a stop that was not orderly, above all a power cut, it may hold anything and
// look whole; so it is made again.
var (
	stateInUse  = []byte("in use")
	stateClosed = []byte("closed")
)

const (
	logFormat = 1
	// compactionChunk is how many entries are deleted in one transaction when the
	// log is cut behind a snapshot: writers wait no longer than that takes.
	compactionChunk = 1024
)

// logStore is raft.db: Raft's log, its term and its vote. raft-boltdb does the
// work; here is what it does not do: say whose file it is, cut the log in small
// steps, and stop the node in good order when the disk takes no more writes.
// The newest entries are read from recentLog.
type logStore struct {
	bolt *raftboltdb.BoltStore
	// made is set when this Open has made raft.db.
	made bool
	// stop ends the node, see Config.Fatal.
	stop func(error)

	mu sync.Mutex
	// failed is the first failure to write; nothing is written after it.
	failed error
	// released is closed when the store closes.
	released    chan struct{}
	releaseOnce sync.Once
}

// openLog opens raft.db and checks whose it is.
func openLog(cfg Config, stop func(error)) (*logStore, error) {
	path := cfg.logPath()
	torn, err := prepareFile(path, lockTimeout)
	if err != nil {
		return nil, err
	}
	if torn {
		cfg.Log.Warn("the last write to the log is not whole, as after a power cut; going on with the one before", "file", path)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: path, BoltOptions: bboltOptions(lockTimeout), MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, explainOpen(path, err)
	}
	l := &logStore{bolt: bolt, stop: stop, released: make(chan struct{})}
	if err := l.check(cfg.NodeID); err != nil {
		bolt.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return l, nil
}

func (l *logStore) check(nodeID string) error {
	format, err := l.bolt.GetUint64(logFormatKey)
	switch {
	case errors.Is(err, raftboltdb.ErrKeyNotFound):
		l.made = true
		if err := l.bolt.Set(logNodeIDKey, []byte(nodeID)); err != nil {
			return err
		}
		return l.bolt.SetUint64(logFormatKey, logFormat)
	case err != nil:
		return err
	case format != logFormat:
		return fmt.Errorf("it has format %d and this version of meshd knows %d: upgrade this node", format, logFormat)
	}
	id, err := l.bolt.Get(logNodeIDKey)
	if err != nil {
		return err
	}
	if string(id) != nodeID {
		return fmt.Errorf("it belongs to node %s and this is node %s: a store is not copied from machine to machine, let this one join instead", id, nodeID)
	}
	return nil
}

// stateWasClosed reports whether state.db is what was last written to it. A log
// without a word on it is new, or of a version that synced each commit.
func (l *logStore) stateWasClosed() (bool, error) {
	value, err := l.bolt.Get(logStateKey)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	return bytes.Equal(value, stateClosed), nil
}

// markState says durably what state.db is worth from now on.
func (l *logStore) markState(worth []byte) error {
	if err := l.bolt.Set(logStateKey, worth); err != nil {
		return fmt.Errorf("write raft.db (is the disk full?): %w", err)
	}
	return nil
}

// checkEntries reads everything behind the newest snapshot, whose index is
// snapshot: Raft panics on an entry that it cannot read. Older entries may have a
// gap where a snapshot was received.
func (l *logStore) checkEntries(snapshot uint64) error {
	first, err := l.bolt.FirstIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	last, err := l.bolt.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if last > 0 && first > snapshot+1 {
		return fmt.Errorf("the log begins at entry %d and the newest snapshot ends at %d: snapshots are missing; %s", first, snapshot, rejoin)
	}
	for index := snapshot + 1; index <= last; index++ {
		var entry raft.Log
		if err := l.bolt.GetLog(index, &entry); err != nil {
			return fmt.Errorf("entry %d of the log, which ends at %d, cannot be read (%w): %s", index, last, err, rejoin)
		}
	}
	return nil
}

// follows reports whether the log has everything that comes after index.
func (l *logStore) follows(index uint64) (bool, error) {
	last, err := l.bolt.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	if last < index {
		return false, nil
	}
	for next := index + 1; next <= last; next++ {
		var entry raft.Log
		err := l.bolt.GetLog(next, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read entry %d of the log: %w", next, err)
		}
	}
	return true, nil
}

// fail remembers the first failure to write and stops the node.
func (l *logStore) fail(what string, err error) error {
	err = fmt.Errorf("%s of Raft (is the disk full?): %w", what, err)
	l.mu.Lock()
	first := l.failed == nil
	if first {
		l.failed = err
	}
	l.mu.Unlock()
	if first {
		l.stop(err)
	}
	return err
}

func (l *logStore) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// release lets go of whoever waits for the store to close.
func (l *logStore) release() { l.releaseOnce.Do(func() { close(l.released) }) }

// FirstIndex implements raft.LogStore.
func (l *logStore) FirstIndex() (uint64, error) { return l.bolt.FirstIndex() }

// LastIndex implements raft.LogStore.
func (l *logStore) LastIndex() (uint64, error) { return l.bolt.LastIndex() }

// GetLog implements raft.LogStore.
func (l *logStore) GetLog(index uint64, entry *raft.Log) error { return l.bolt.GetLog(index, entry) }

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l *logStore) StoreLogs(entries []*raft.Log) error {
	if err := l.failure(); err != nil {
		return err
	}
	if err := l.bolt.StoreLogs(entries); err != nil {
		return l.fail("write the log", err)
	}
	return nil
}

// DeleteRange implements raft.LogStore. Entries at the beginning go in chunks,
// oldest first: a crash in between leaves a longer log and no hole. Entries at
// the end, which contradict the leader's, go at once.
func (l *logStore) DeleteRange(low, high uint64) error {
	if err := l.failure(); err != nil {
		return err
	}
	first, err := l.bolt.FirstIndex()
	if err != nil {
		return err
	}
	if low <= first {
		for low = first; high-low >= compactionChunk && low < high; low += compactionChunk {
			if err := l.bolt.DeleteRange(low, low+compactionChunk-1); err != nil {
				return l.fail("cut the log", err)
			}
		}
	}
	if err := l.bolt.DeleteRange(low, high); err != nil {
		return l.fail("cut the log", err)
	}
	return nil
}

// Set implements raft.StableStore.
func (l *logStore) Set(key, value []byte) error {
	if err := l.failure(); err != nil {
		return err
	}
	if err := l.bolt.Set(key, value); err != nil {
		return l.fail("write the vote", err)
	}
	return nil
}

// Get implements raft.StableStore.
func (l *logStore) Get(key []byte) ([]byte, error) { return l.bolt.Get(key) }

// SetUint64 implements raft.StableStore. Raft answers an error about its current
// term with a panic, in the middle of whatever the process does. So a failed
// write holds Raft here until the store closes, which Config.Fatal asks for, and
// then says nothing: from the failure on this server writes no vote and no entry,
// so it grants and acknowledges nothing in the term that is not on disk.
func (l *logStore) SetUint64(key []byte, value uint64) error {
	err := l.failure()
	if err == nil {
		if err = l.bolt.SetUint64(key, value); err == nil {
			return nil
		}
		err = l.fail("write the term", err)
	}
	if string(key) != raftTermKey {
		return err
	}
	<-l.released
	return nil
}

// raftTermKey is the key under which Raft keeps its current term.
const raftTermKey = "CurrentTerm"

// GetUint64 implements raft.StableStore.
func (l *logStore) GetUint64(key []byte) (uint64, error) { return l.bolt.GetUint64(key) }

func (l *logStore) close() error { return l.bolt.Close() }
