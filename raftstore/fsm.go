package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// fsm applies committed entries to state.db. Raft calls it from one goroutine,
// but for what the methods of snapshots say.
//
// A batch of entries is one bbolt transaction, and the index of its last entry
// is written in it. After a restart Raft gives again what came after its newest
// snapshot; entries up to the applied index are skipped. Commits are not synced:
// what a client was told is in the log, and a state that was not closed in good
// order is made again.
type fsm struct {
	cfg     Config
	state   *atomic.Pointer[bbolt.DB]
	watches *watches
	// stop ends the node, see Config.Fatal.
	stop func(error)
	// retire closes a replaced state file when its last reader is gone.
	retire func(*bbolt.DB)
	// stopped is why nothing is applied any more, nil while all is well. Only
	// Raft's goroutine uses it.
	stopped error
}

// verdict is what became of an entry: nil, ErrConflict, or why it could not be
// applied. It is the Response of Raft's future.
type verdict struct{ err error }

// errAlreadyApplied is the verdict on an entry that was applied before a restart;
// nobody waits for it.
var errAlreadyApplied = errors.New("applied before")

// Apply implements raft.FSM.
func (f *fsm) Apply(entry *raft.Log) any { return f.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(entries []*raft.Log) []any {
	verdicts := make([]any, len(entries))
	var changed []string
	err := f.stopped
	if err == nil {
		changed, err = f.applyAll(entries, verdicts)
	}
	if err != nil {
		if f.stopped == nil {
			f.stopped = err
			f.stop(err)
		}
		// The entries are committed in the log, and this node applied none of them.
		for i := range verdicts {
			verdicts[i] = verdict{err}
		}
		return verdicts
	}
	f.watches.changed(changed)
	return verdicts
}

// applyAll applies the entries in one transaction, or none of them. It returns
// the keys that changed.
func (f *fsm) applyAll(entries []*raft.Log, verdicts []any) (changed []string, err error) {
	tx, err := f.state.Load().Begin(true)
	if err != nil {
		return nil, fmt.Errorf("write the state: %w", err)
	}
	defer tx.Rollback()
	applied := appliedIndex(tx)
	fresh := false
	for i, entry := range entries {
		if entry.Index <= applied {
			verdicts[i] = verdict{errAlreadyApplied}
			continue
		}
		fresh = true
		applied = entry.Index
		switch entry.Type {
		case raft.LogConfiguration:
			if err := storeServers(tx, entry.Index, raft.DecodeConfiguration(entry.Data)); err != nil {
				return nil, fmt.Errorf("write the servers of entry %d: %w", entry.Index, err)
			}
			verdicts[i] = verdict{}
		case raft.LogCommand:
			txn, err := decodeTxn(entry.Data)
			if err != nil {
				return nil, fmt.Errorf("entry %d of the log cannot be applied: %w", entry.Index, err)
			}
			held, err := applyTxn(tx.Bucket(recordsBucket), entry.Index, txn)
			if err != nil {
				return nil, fmt.Errorf("write entry %d to the state: %w", entry.Index, err)
			}
			if !held {
				verdicts[i] = verdict{ErrConflict}
				continue
			}
			verdicts[i] = verdict{}
			for _, op := range txn.Ops {
				changed = append(changed, op.Key)
			}
		default:
			return nil, fmt.Errorf("entry %d of the log has type %v: %w", entry.Index, entry.Type, errUnknownEntry)
		}
	}
	if !fresh {
		return nil, nil
	}
	if err := tx.Bucket(metaBucket).Put(metaApplied, encodeIndex(applied)); err != nil {
		return nil, fmt.Errorf("write the applied index: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("write the state up to entry %d (is the disk full?): %w", applied, err)
	}
	return changed, nil
}

// applyTxn applies t when its preconditions hold, and reports whether they did.
// It decides nothing else: what it does follows from the records and t alone.
func applyTxn(records *bbolt.Bucket, index uint64, t Txn) (held bool, err error) {
	for _, p := range t.Preconditions {
		if decodeIndex(records.Get([]byte(p.Key))) != p.ModifyIndex {
			return false, nil
		}
	}
	for _, op := range t.Ops {
		if op.Delete {
			err = records.Delete([]byte(op.Key))
		} else {
			stored := make([]byte, 0, indexSize+len(op.Value))
			stored = append(stored, encodeIndex(index)...)
			err = records.Put([]byte(op.Key), append(stored, op.Value...))
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func storeServers(tx *bbolt.Tx, index uint64, configuration raft.Configuration) error {
	stored := storedServers{Index: index}
	for _, server := range configuration.Servers {
		stored.Servers = append(stored.Servers, Server{
			ID: string(server.ID), Address: string(server.Address), Voter: server.Suffrage == raft.Voter,
		})
	}
	data, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	return tx.Bucket(metaBucket).Put(metaServers, data)
}

// Snapshot implements raft.FSM: it captures this moment in a read transaction,
// at once. Copying it is Persist's work, while entries are applied.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.stopped != nil {
		return nil, f.stopped
	}
	tx, err := f.state.Load().Begin(false)
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	return &snapshot{tx: tx, applied: appliedIndex(tx), stop: f.stop}, nil
}

// Restore implements raft.FSM: the state becomes that of the snapshot, which came
// from another server. Whatever goes wrong before the new file is in place, the
// old state stays as it is.
func (f *fsm) Restore(source io.ReadCloser) error {
	defer source.Close()
	if f.stopped != nil {
		return f.stopped
	}
	old := f.state.Load()
	db, replaced, err := restoreState(f.cfg, source)
	if err != nil {
		if replaced {
			f.stopped = err
			f.stop(err)
		}
		return err
	}
	f.state.Store(db)
	f.retire(old)
	f.watches.all()
	return nil
}
