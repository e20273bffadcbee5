package raftstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// PatchSnapshot is the baseline of one run, frozen: what is changed later, of the
// baseline or of what is registered, does not reach it.
type PatchSnapshot struct {
	Meta
	ID              string // UUID, of the run
	OperatingSystem string
	PatchGroup      string
	BaselineID      string
	// Baseline is the baseline as patcher.Baseline writes it.
	Baseline json.RawMessage
	// Ledger is when the versions on offer were first seen, JSON deflated, empty where no
	// delay asks for it: to find that for each node of a run would cost the leader more
	// than the rest of its job.
	Ledger []byte `json:",omitempty"`
	// FrozenAt is the mesh's time by which approval is judged on all nodes.
	FrozenAt time.Time
	// KeepUntil is when it may be deleted.
	KeepUntil time.Time
}

const (
	patchSnapshotPrefix       = "patch-snapshot/"
	patchSnapshotExpiryPrefix = "patch-snapshot-expiry/"
	patchSnapshotVersion      = 1
)

// Position is what tells snapshots apart: run, operating system, group.
func (s *PatchSnapshot) Position() string {
	return s.ID + "/" + s.OperatingSystem + "/" + s.PatchGroup
}

// maxLedger is how many bytes a ledger may have, deflated; the baseline needs room too.
const maxLedger = 64 << 10

// SetFirstSeen packs when each version was first seen, by title.
func (s *PatchSnapshot) SetFirstSeen(seen map[string]time.Time) error {
	content, err := deflateJSON(seen)
	if err != nil {
		return fmt.Errorf("pack what was first seen: %w", err)
	}
	if len(content) <= maxLedger {
		s.Ledger = content
	}
	return nil
}

// FirstSeen returns when each version was first seen; nil where that is not frozen.
func (s *PatchSnapshot) FirstSeen() (map[string]time.Time, error) {
	if len(s.Ledger) == 0 {
		return nil, nil
	}
	var seen map[string]time.Time
	if err := inflateJSON(s.Ledger, &seen); err != nil {
		return nil, fmt.Errorf("read what was first seen, of snapshot %s: %w", s.ID, err)
	}
	return seen, nil
}

// GetPatchSnapshot returns what a run has frozen for an operating system and a patch
// group ("" for none), or ErrNotFound.
func GetPatchSnapshot(r Reader, id, operatingSystem, patchGroup string) (PatchSnapshot, error) {
	s := PatchSnapshot{ID: id, OperatingSystem: operatingSystem, PatchGroup: patchGroup}
	index, found, err := getRecord(r, patchSnapshotPrefix+s.Position(), patchSnapshotVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// ScanPatchSnapshots calls fn for all that a run has frozen for an operating system.
func ScanPatchSnapshots(r Reader, id, operatingSystem string, fn func(PatchSnapshot) bool) error {
	return scanRecords(r, patchSnapshotPrefix+id+"/"+operatingSystem+"/", "", patchSnapshotVersion, func(s PatchSnapshot, index uint64) bool {
		s.ModifyIndex = index
		return fn(s)
	})
}

// PutNewPatchSnapshot writes s, requiring that it is not there.
func (t *Txn) PutNewPatchSnapshot(s PatchSnapshot) {
	key := patchSnapshotPrefix + s.Position()
	t.Require(key, 0)
	t.Put(key, encodeRecord(patchSnapshotVersion, s))
	t.Put(patchSnapshotExpiryPrefix+s.KeepUntil.UTC().Format(expiryKeyTimeFormat)+"/"+s.Position(), nil)
}

// SweepPatchSnapshots returns the transaction that deletes snapshots whose time is
// over; it is empty when there are none, and bounded in size.
func SweepPatchSnapshots(r Reader, now time.Time) Txn {
	var t Txn
	limit := patchSnapshotExpiryPrefix + now.UTC().Format(expiryKeyTimeFormat)
	r.Scan(patchSnapshotExpiryPrefix, "", func(key string, _ []byte, _ uint64) bool {
		if key >= limit || len(t.Ops)+2 > maxSweep {
			return false
		}
		_, position, _ := strings.Cut(strings.TrimPrefix(key, patchSnapshotExpiryPrefix), "/")
		t.Delete(patchSnapshotPrefix + position)
		t.Delete(key)
		return true
	})
	return t
}
