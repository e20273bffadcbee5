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
	// stop ends the node, see Config.Fatal.
	stop func(error)
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
	// Commits are not synced, so this is where a disk that lost some of them says so,
	// before the log is cut.
	if err := s.tx.DB().Sync(); err != nil {
		err = fmt.Errorf("sync the state (is the disk failing?): %w", err)
		s.stop(err)
		return err
	}
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

// restoreState makes state.db what the snapshot says: into a new file, verified,
// then renamed over the old one. Nothing is synced: after a power cut the state is
// made from the snapshot again. On an error the old state is as it
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
	db, err = openState(cfg)
	if err != nil {
		return nil, true, fmt.Errorf("restore the state: %w", err)
	}
	return db, true, nil
}

// copySnapshot writes the snapshot's database to path, checked.
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

// recoverState opens the state and brings it up to the newest snapshot when it is
// behind it. A state that was not closed in good order is made from that snapshot,
// or from nothing; the log does the rest. One that is ahead of reach, where log and
// snapshots end, is refused: raft.db was replaced by an older one, and this server
// has forgotten what it promised.
func recoverState(cfg Config, logs *logStore, snapshots *snapshotStore, reach uint64) (*bbolt.DB, error) {
	closed, err := logs.stateWasClosed()
	if err != nil {
		return nil, err
	}
	var db *bbolt.DB
	var applied, witnessed uint64
	if closed {
		db, err = openState(cfg)
		switch {
		case errors.Is(err, errDamagedFile):
			cfg.Log.Warn("the state is damaged; making it again from the newest snapshot and the log", "error", err, "kept", cfg.statePath()+".damaged")
			if err := os.Rename(cfg.statePath(), cfg.statePath()+".damaged"); err != nil {
				return nil, fmt.Errorf("move the damaged state away: %w", err)
			}
		case err != nil:
			return nil, err
		default:
			if err := db.View(func(tx *bbolt.Tx) error { applied = appliedIndex(tx); return nil }); err != nil {
				return db, fmt.Errorf("read the state: %w", err)
			}
		}
	} else {
		cfg.Log.Info("the last stop was not orderly; making the state again from the newest snapshot and the log")
		// Nobody will use it, but it is a witness.
		witnessed = lastApplied(cfg.statePath())
	}
	if witnessed = max(witnessed, applied); witnessed > reach {
		return db, fmt.Errorf("%s has entries up to %d but raft.db and the snapshots end at %d: they are not of one time; %s", cfg.statePath(), witnessed, reach, rejoin)
	}
	db, damagedOnes, err := restoreNewest(cfg, db, applied, logs, snapshots)
	if err != nil {
		return db, err
	}
	for _, id := range damagedOnes {
		cfg.Log.Warn("a snapshot is damaged; going on without it", "snapshot", id)
		if err := os.RemoveAll(filepath.Join(cfg.snapshotPath(), id)); err != nil {
			return db, fmt.Errorf("delete the damaged snapshot %s: %w", id, err)
		}
	}
	if db != nil {
		return db, nil
	}
	if err := os.Remove(cfg.statePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make the state again: %w", err)
	}
	return openState(cfg)
}

// restoreNewest restores the newest snapshot that is whole and ahead of db, which
// has applied and is nil when it is of no worth. It returns the state to go on
// with, nil for none, and the snapshots that are damaged and of which the log has
// all that they would bring. db is closed when it is replaced.
func restoreNewest(cfg Config, db *bbolt.DB, applied uint64, logs *logStore, snapshots *snapshotStore) (_ *bbolt.DB, damagedOnes []string, _ error) {
	list, err := snapshots.List()
	if err != nil {
		return db, nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var damage error
	// enough reports that the log has what follows index, if a damaged snapshot
	// makes that a question. A damaged one that is past the log was acknowledged.
	enough := func(index uint64) error {
		if damage == nil {
			return nil
		}
		follows, err := logs.follows(index)
		if err == nil && !follows {
			err = fmt.Errorf("%w, and the log does not reach back to entry %d: %s", damage, index, rejoin)
		}
		return err
	}
	for _, meta := range list {
		// A snapshot's own index may be past its content's: entries of Raft itself
		// count there and not here.
		if db != nil && applied >= meta.Index {
			break
		}
		source, content, err := openSnapshot(snapshots, meta.ID)
		if errors.Is(err, errDamagedSnapshot) {
			damage = fmt.Errorf("snapshot %s: %w", meta.ID, err)
			damagedOnes = append(damagedOnes, meta.ID)
			continue
		}
		if err != nil {
			return db, nil, err
		}
		if db != nil && applied >= content {
			source.Close()
			break
		}
		if err := enough(content); err != nil {
			source.Close()
			return db, nil, err
		}
		restored, replaced, err := restoreState(cfg, source)
		source.Close()
		if replaced && db != nil {
			err = errors.Join(err, db.Close())
		}
		if errors.Is(err, errDamagedSnapshot) && !replaced {
			damage = fmt.Errorf("snapshot %s: %w", meta.ID, err)
			damagedOnes = append(damagedOnes, meta.ID)
			continue
		}
		if err != nil {
			return restored, nil, err
		}
		cfg.Log.Info("restored the state from a snapshot", "snapshot", meta.ID, "index", content)
		return restored, damagedOnes, nil
	}
	if err := enough(applied); err != nil {
		return db, nil, err
	}
	return db, damagedOnes, nil
}

// openSnapshot opens a snapshot, whose checksums are checked as it is read, and
// returns the index of its content.
func openSnapshot(snapshots *snapshotStore, id string) (source *openedSnapshot, content uint64, err error) {
	_, file, err := snapshots.Open(id)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errDamagedSnapshot, err)
	}
	source = &openedSnapshot{bufio.NewReader(file), file}
	header, err := source.Peek(snapshotHeaderSize)
	if err != nil {
		err = fmt.Errorf("%w: read its header: %w", errDamagedSnapshot, err)
	} else {
		_, content, _, err = readSnapshotHeader(bytes.NewReader(header))
	}
	if err != nil {
		source.Close()
		return nil, 0, err
	}
	return source, content, nil
}

type openedSnapshot struct {
	*bufio.Reader
	io.Closer
}
