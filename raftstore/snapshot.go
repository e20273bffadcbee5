package raftstore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"fleetmesh/internal/durable"
)

// The content of a snapshot, as it lies in snapshots/<id>/state.bin and goes to
// a follower. Numbers are 8 bytes, big endian.
//
//	8 bytes    snapshotMagic; the last one is the version
//	number     index of the last entry applied
//	number     length of the database
//	bytes      a state.db
//	32 bytes   SHA-256 of all of the above
const (
	snapshotMagic      = "fmstate\x01"
	snapshotHeaderSize = len(snapshotMagic) + 2*indexSize
)

var errDamagedSnapshot = errors.New("the snapshot is damaged")

// snapshot is one moment of the state. Persist and Release may run while entries
// are applied.
type snapshot struct {
	tx      *bbolt.Tx
	applied uint64
}

// Persist implements raft.FSMSnapshot. The sink is a local file, so the read
// transaction lasts no longer than a copy at the disk's speed; followers are sent
// that file, at theirs.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	err := s.write(sink)
	if err != nil {
		return errors.Join(fmt.Errorf("write the snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

func (s *snapshot) write(w io.Writer) error {
	defer s.Release()
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<20)
	header := make([]byte, 0, snapshotHeaderSize)
	header = append(header, snapshotMagic...)
	header = binary.BigEndian.AppendUint64(header, s.applied)
	header = binary.BigEndian.AppendUint64(header, uint64(s.tx.Size()))
	if _, err := out.Write(header); err != nil {
		return err
	}
	if _, err := s.tx.WriteTo(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// Release implements raft.FSMSnapshot; it may be called twice.
func (s *snapshot) Release() { _ = s.tx.Rollback() } // the only error is that it is released already

// readSnapshotHeader returns the applied index and the length of the database.
func readSnapshotHeader(r io.Reader) (header []byte, applied uint64, size int64, err error) {
	header = make([]byte, snapshotHeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, 0, 0, fmt.Errorf("%w: read its header: %w", errDamagedSnapshot, err)
	}
	version := len(snapshotMagic) - 1
	if !bytes.Equal(header[:version], []byte(snapshotMagic[:version])) {
		return nil, 0, 0, fmt.Errorf("%w: it does not begin as one", errDamagedSnapshot)
	}
	if header[version] != snapshotMagic[version] {
		return nil, 0, 0, fmt.Errorf("the snapshot has format %d and this version of meshd knows %d: upgrade this node", header[version], snapshotMagic[version])
	}
	applied = binary.BigEndian.Uint64(header[len(snapshotMagic):])
	length := binary.BigEndian.Uint64(header[len(snapshotMagic)+indexSize:])
	if length > 1<<62 {
		return nil, 0, 0, fmt.Errorf("%w: its length makes no sense", errDamagedSnapshot)
	}
	return header, applied, int64(length), nil
}

// restoreState makes state.db what the snapshot says: into a new file, verified
// and synced, then renamed over the old one. On an error the old state is as it
// was, unless replaced is set: then the new file is in place and cannot be opened.
func restoreState(cfg Config, source io.Reader) (db *bbolt.DB, replaced bool, err error) {
	path := cfg.restorePath()
	defer os.Remove(path) // it is gone after a success
	if err := copySnapshot(path, source); err != nil {
		return nil, false, fmt.Errorf("restore the state: %w", err)
	}
	if err := adoptState(cfg, path); err != nil {
		return nil, false, fmt.Errorf("restore the state: %w", err)
	}
	if err := os.Rename(path, cfg.statePath()); err != nil {
		return nil, false, fmt.Errorf("restore the state: %w", err)
	}
	if err := durable.SyncDir(cfg.Dir); err != nil {
		return nil, true, fmt.Errorf("restore the state: %w", err)
	}
	db, err = openState(cfg)
	if err != nil {
		return nil, true, fmt.Errorf("restore the state: %w", err)
	}
	return db, true, nil
}

// copySnapshot writes the snapshot's database to path, checked and synced.
func copySnapshot(path string, source io.Reader) error {
	header, _, size, err := readSnapshotHeader(source)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	sum.Write(header)
	if n, err := io.CopyN(io.MultiWriter(file, sum), source, size); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends after %d of %d bytes", errDamagedSnapshot, n, size)
		}
		return fmt.Errorf("copy it (is the disk full?): %w", err)
	}
	expected := make([]byte, sha256.Size)
	if _, err := io.ReadFull(source, expected); err != nil {
		return fmt.Errorf("%w: read its checksum: %w", errDamagedSnapshot, err)
	}
	if !bytes.Equal(expected, sum.Sum(nil)) {
		return fmt.Errorf("%w: its checksum is wrong", errDamagedSnapshot)
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return file.Close()
}

// adoptState makes the state file at path, which another server wrote, this
// node's own. A file of another mesh is refused.
func adoptState(cfg Config, path string) error {
	db, err := openFile(path, lockTimeout)
	if err != nil {
		return err
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil || tx.Bucket(recordsBucket) == nil {
			return fmt.Errorf("%w: it holds no state", errDamagedSnapshot)
		}
		if err := checkFormat(meta); err != nil {
			return err
		}
		if err := checkMesh(tx, cfg.MeshID); err != nil {
			return err
		}
		return meta.Put(metaNodeID, []byte(cfg.NodeID))
	})
	if err != nil {
		return err
	}
	return db.Close()
}

// recoverState brings the state up to the newest snapshot when it is behind it,
// as after a crash between the arrival of a snapshot and its restore, and returns
// the state to go on with. db is closed when it is replaced.
func recoverState(cfg Config, db *bbolt.DB, logs *logStore, snapshots *snapshotStore) (*bbolt.DB, error) {
	list, err := snapshots.List()
	if err != nil {
		return db, fmt.Errorf("list the snapshots: %w", err)
	}
	var applied uint64
	if err := db.View(func(tx *bbolt.Tx) error { applied = appliedIndex(tx); return nil }); err != nil {
		return db, fmt.Errorf("read the state: %w", err)
	}
	for _, meta := range list {
		// A snapshot's own index may be past its content's: entries of Raft itself
		// count there and not here.
		if applied >= meta.Index {
			break
		}
		restored, err := recoverFrom(cfg, db, applied, snapshots, meta.ID)
		if err == nil {
			return restored, nil
		}
		if !errors.Is(err, errDamagedSnapshot) {
			return db, err
		}
		// A snapshot that never became the state may go, if the log still has all
		// that follows the state: then it was never acknowledged either.
		follows, logErr := logs.follows(applied)
		if logErr != nil {
			return db, logErr
		}
		if !follows {
			return db, fmt.Errorf("snapshot %s: %w, and the log does not reach back to the state: remove this node from the mesh and let it join again", meta.ID, err)
		}
		cfg.Log.Warn("a snapshot that was being received is damaged; going on without it", "snapshot", meta.ID, "error", err)
		if err := os.RemoveAll(filepath.Join(cfg.snapshotPath(), meta.ID)); err != nil {
			return db, fmt.Errorf("delete the damaged snapshot %s: %w", meta.ID, err)
		}
	}
	return db, nil
}

// recoverFrom restores one snapshot if it is ahead of the state.
func recoverFrom(cfg Config, db *bbolt.DB, applied uint64, snapshots *snapshotStore, id string) (*bbolt.DB, error) {
	_, source, err := snapshots.Open(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamagedSnapshot, err)
	}
	defer source.Close()
	buffered := bufio.NewReader(source)
	header, err := buffered.Peek(snapshotHeaderSize)
	if err != nil {
		return nil, fmt.Errorf("%w: read its header: %w", errDamagedSnapshot, err)
	}
	_, content, _, err := readSnapshotHeader(bytes.NewReader(header))
	if err != nil {
		return nil, err
	}
	if applied >= content {
		return db, nil
	}
	restored, replaced, err := restoreState(cfg, buffered)
	if err != nil {
		return nil, err
	}
	if replaced {
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("close the replaced state: %w", err)
		}
	}
	cfg.Log.Info("restored the state from a snapshot that had arrived before the last stop", "snapshot", id, "index", content)
	return restored, nil
}
