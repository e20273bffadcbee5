package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// state.db, a bbolt file, as docs/storage.md describes it. The names and the
// format number are on disk: never renumber.
var (
	// recordsBucket maps each key to its modify index (8 bytes, big endian) and
	// its value, put together.
	recordsBucket = []byte("records")
	// metaBucket holds what the store must know of itself.
	metaBucket = []byte("meta")

	metaFormat  = []byte("format")  // 8 bytes, big endian: stateFormat
	metaNodeID  = []byte("node-id") // whose file this is
	metaApplied = []byte("applied") // 8 bytes, big endian: index of the last entry applied
	metaServers = []byte("servers") // JSON of storedServers
)

const (
	stateFormat = 1
	// indexSize is the length of the modify index before each value.
	indexSize = 8
	// mmapSize is how much address space a file is mapped with at first. Growing
	// beyond it makes writers wait for readers, so it is ample; it costs no memory.
	mmapSize = 256 << 20
)

// storedServers is the last configuration of Raft that was committed.
type storedServers struct {
	Index   uint64
	Servers []Server
}

func bboltOptions(lockTimeout time.Duration) *bbolt.Options {
	return &bbolt.Options{
		Timeout: lockTimeout,
		// The list of free pages is not written with each commit but found anew by
		// a scan when the file is opened, and kept as a map: commits stay small
		// however many pages are free.
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mmapSize,
		NoStatistics:    true,
	}
}

// rejoin is what to do with a store that has forgotten what it promised. Its vote
// must leave the mesh before it comes back empty: an empty voter would vote again.
const rejoin = "this copy of the store cannot be used. Where other voters have the mesh, remove this node from it (meshctl node remove), then move its directory away and let it join again"

// errDamagedFile is a file that is not what was written.
var errDamagedFile = errors.New("damaged")

// openFile opens a state file after it has looked at every page of it, so that a
// damaged file is refused with a sentence and does not end the process later. Its
// commits are not synced.
func openFile(path string, lockTimeout time.Duration) (*bbolt.DB, error) {
	if _, err := prepareFile(path, lockTimeout); err != nil {
		return nil, err
	}
	options := bboltOptions(lockTimeout)
	options.NoSync = true
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		return nil, explainOpen(path, err)
	}
	return db, nil
}

// prepareFile reads the whole file at path, or makes it when it is missing. Its
// name is durable when the caller has synced the directory. torn is set when the
// last commit is not whole and the one before counts.
func prepareFile(path string, lockTimeout time.Duration) (torn bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, makeFile(path, lockTimeout)
	case err != nil:
		return false, fmt.Errorf("look at %s: %w", path, err)
	case info.Size() == 0:
		return false, damaged(path, errors.New("it is empty"))
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return false, explainOpen(path, err)
	}
	defer db.Close() // and with it the lock
	file, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	defer file.Close()
	torn, err = checkPages(file, info.Size())
	if err != nil {
		return false, damaged(path, err)
	}
	return torn, nil
}

// makeFile makes an empty bbolt file under another name first: a power cut leaves
// it whole or not at all, and a file that is not whole is damaged.
func makeFile(path string, lockTimeout time.Duration) error {
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make %s: %w", path, err)
	}
	db, err := bbolt.Open(unfinished, 0o600, bboltOptions(lockTimeout)) // syncs it
	if err == nil {
		err = db.Close()
	}
	if err == nil {
		err = os.Rename(unfinished, path)
	}
	if err != nil {
		return fmt.Errorf("make %s (is the disk full?): %w", path, err)
	}
	return nil
}

func explainOpen(path string, err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("open %s: another process has it open (is meshd already running on this directory?)", path)
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return damaged(path, err)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

func damaged(path string, err error) error {
	return fmt.Errorf("%s is %w (%w): %s", path, errDamagedFile, err, rejoin)
}

// openState opens state.db and checks whose it is; a new file is made ready.
func openState(cfg Config) (*bbolt.DB, error) {
	db, err := openFile(cfg.statePath(), lockTimeout)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(recordsBucket); err != nil {
			return err
		}
		if meta.Get(metaFormat) == nil {
			if err := meta.Put(metaFormat, encodeIndex(stateFormat)); err != nil {
				return err
			}
			return meta.Put(metaNodeID, []byte(cfg.NodeID))
		}
		if err := checkFormat(meta); err != nil {
			return err
		}
		if id := string(meta.Get(metaNodeID)); id != cfg.NodeID {
			return fmt.Errorf("it belongs to node %s and this is node %s: a store is not copied from machine to machine, let this one join instead", id, cfg.NodeID)
		}
		return checkMesh(tx, cfg.MeshID)
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", cfg.statePath(), err)
	}
	return db, nil
}

// lastApplied is the applied index of the state file at path, 0 when that cannot be
// told.
func lastApplied(path string) (applied uint64) {
	if _, err := os.Stat(path); err != nil {
		return 0
	}
	if _, err := prepareFile(path, lockTimeout); err != nil {
		return 0
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return 0
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			applied = decodeIndex(meta.Get(metaApplied))
		}
		return nil
	}); err != nil {
		return 0
	}
	return applied
}

func checkFormat(meta *bbolt.Bucket) error {
	if format := decodeIndex(meta.Get(metaFormat)); format != stateFormat {
		return fmt.Errorf("it has format %d and this version of meshd knows %d: upgrade this node", format, stateFormat)
	}
	return nil
}

// checkMesh compares the store's mesh, once it knows one, with meshID, if set.
func checkMesh(tx *bbolt.Tx, meshID string) error {
	mesh, err := GetMesh(view{records: tx.Bucket(recordsBucket)})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case meshID != "" && mesh.ID != meshID:
		return fmt.Errorf("it belongs to mesh %s and this node to mesh %s", mesh.ID, meshID)
	}
	return nil
}

func encodeIndex(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// decodeIndex is 0 for what is not there.
func decodeIndex(b []byte) uint64 {
	if len(b) < indexSize {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// appliedIndex is the index of the last entry that tx has seen applied.
func appliedIndex(tx *bbolt.Tx) uint64 { return decodeIndex(tx.Bucket(metaBucket).Get(metaApplied)) }

func readServers(tx *bbolt.Tx) (storedServers, error) {
	var stored storedServers
	data := tx.Bucket(metaBucket).Get(metaServers)
	if data == nil {
		return stored, nil
	}
	if err := json.Unmarshal(data, &stored); err != nil {
		return stored, fmt.Errorf("decode the servers of Raft: %w", err)
	}
	return stored, nil
}

// view is a Reader of one bbolt transaction.
type view struct {
	records *bbolt.Bucket
	index   uint64
}

func newView(tx *bbolt.Tx) view {
	return view{records: tx.Bucket(recordsBucket), index: appliedIndex(tx)}
}

func (v view) Index() uint64 { return v.index }

func (v view) Get(key string) (value []byte, modifyIndex uint64, ok bool) {
	if key == "" {
		return nil, 0, false
	}
	stored := v.records.Get([]byte(key))
	if len(stored) < indexSize {
		return nil, 0, false
	}
	return stored[indexSize:len(stored):len(stored)], decodeIndex(stored), true
}

func (v view) Scan(prefix, start string, fn func(key string, value []byte, modifyIndex uint64) bool) {
	from := []byte(max(prefix, start))
	cursor := v.records.Cursor()
	for k, stored := cursor.Seek(from); k != nil && len(stored) >= indexSize; k, stored = cursor.Next() {
		key := string(k)
		if !strings.HasPrefix(key, prefix) {
			return
		}
		if !fn(key, stored[indexSize:len(stored):len(stored)], decodeIndex(stored)) {
			return
		}
	}
}
