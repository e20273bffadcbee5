package raftstore

import (
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"

	"fleetmesh/internal/durable"
)

// snapshotStore is Raft's, and makes durable what that leaves open: Raft syncs the
// files of a snapshot and its name, but not the names of the files in it. The log
// is cut behind a snapshot, so a power cut must not take one.
type snapshotStore struct {
	*raft.FileSnapshotStore
	path string
}

func openSnapshots(cfg Config) (*snapshotStore, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, retainedSnapshots, newRaftLogger(cfg.Log))
	if err != nil {
		return nil, err
	}
	return &snapshotStore{files, cfg.snapshotPath()}, nil
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, servers raft.Configuration, serversIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, servers, serversIndex, transport)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, path: filepath.Join(s.path, sink.ID())}, nil
}

// snapshotSink is one snapshot that is being written. Raft closes it more than
// once; the first end counts.
type snapshotSink struct {
	raft.SnapshotSink
	path string // once it is whole
	once sync.Once
	err  error
}

// Close implements raft.SnapshotSink.
func (s *snapshotSink) Close() error {
	s.once.Do(func() {
		if s.err = s.SnapshotSink.Close(); s.err == nil {
			s.err = durable.SyncDir(s.path)
		}
	})
	return s.err
}

// Cancel implements raft.SnapshotSink.
func (s *snapshotSink) Cancel() error {
	s.once.Do(func() { s.err = s.SnapshotSink.Cancel() })
	return s.err
}
