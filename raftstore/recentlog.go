package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// What recentLog keeps is bounded twice: in bytes of data, and in entries for
// what each costs beside its data.
const (
	maxRecentSize    = 1 << 20
	maxRecentEntries = 512
)

// recentLog is the log with its newest entries in memory: those that followers
// are sent next, that the state machine is given next, and the last one, which an
// idle leader needs for each word to each follower. Raft calls it from several
// goroutines.
type recentLog struct {
	raft.LogStore

	mu sync.Mutex
	// entries are the end of the log, without a gap. What they point to is never
	// changed, by Raft and by the state machine neither.
	entries []raft.Log
	size    int
}

// GetLog implements raft.LogStore.
func (l *recentLog) GetLog(index uint64, entry *raft.Log) error {
	l.mu.Lock()
	if n := len(l.entries); n > 0 && index >= l.entries[0].Index && index <= l.entries[n-1].Index {
		*entry = l.entries[index-l.entries[0].Index]
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	return l.LogStore.GetLog(index, entry)
}

// StoreLog implements raft.LogStore.
func (l *recentLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. Only what is on disk is ever kept.
func (l *recentLog) StoreLogs(entries []*raft.Log) error {
	if err := l.LogStore.StoreLogs(entries); err != nil {
		l.forget()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, entry := range entries {
		if n := len(l.entries); n > 0 && entry.Index != l.entries[n-1].Index+1 {
			l.entries, l.size = nil, 0
		}
		l.entries = append(l.entries, *entry)
		l.size += len(entry.Data)
	}
	for l.size > maxRecentSize || len(l.entries) > maxRecentEntries {
		l.dropOldest(len(l.entries)/2 + 1)
	}
	return nil
}

// dropOldest is called with mu held.
func (l *recentLog) dropOldest(n int) {
	for _, entry := range l.entries[:n] {
		l.size -= len(entry.Data)
	}
	kept := copy(l.entries, l.entries[n:])
	clear(l.entries[kept:])
	l.entries = l.entries[:kept]
}

// DeleteRange implements raft.LogStore.
func (l *recentLog) DeleteRange(low, high uint64) error {
	l.forget()
	return l.LogStore.DeleteRange(low, high)
}

func (l *recentLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.size = nil, 0
}
