package raftstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Association is an association as it stands: what agent/api writes of it.
type Association struct {
	Meta
	ID      string // UUID
	Version int    // from 1; each update makes a new one
	// Input has the members of CreateAssociation as they came over the wire.
	Input        json.RawMessage
	DocumentName string // without the ARN's head
	CreatedAt    time.Time
	UpdatedAt    time.Time
	// ScheduledSince is when it got its schedule: a rate counts from it.
	ScheduledSince time.Time
	Caller         string
	Tags           map[string]string  `json:",omitempty"`
	Reported       *AssociationReport `json:",omitempty"`
}

// AssociationReport is what UpdateAssociationStatus has said last.
type AssociationReport struct {
	Name           string
	Message        string
	AdditionalInfo string
	Date           time.Time
}

// AssociationVersion is a version of an association. It never changes.
type AssociationVersion struct {
	Meta
	AssociationID string
	Number        int
	Input         json.RawMessage
	CreatedAt     time.Time
	Caller        string
}

// AssociationState is where an association stands. agent/leader writes it with each
// claim, and agent/api with each version, always with its modify index as
// precondition.
type AssociationState struct {
	Meta
	ID string
	// NextDue is the time of the schedule that is in the due index; zero for none.
	NextDue time.Time
	// Version and DocumentVersion are those that the last run on all targets was of.
	Version         int
	DocumentVersion string
	// ExecutionID is that of the last run on all targets, RunAt when the last run
	// began, on whatever targets. SucceededAt is when the last one began that had
	// success.
	ExecutionID string
	RunAt       time.Time
	SucceededAt time.Time
	// Counts are the nodes that it is for by how its last run on them stands
	// (AssociationTarget.DetailedStatus).
	Counts map[string]int `json:",omitempty"`
}

// AssociationDue is something about an association that is due at a time.
type AssociationDue struct {
	Meta
	AssociationID string
	At            time.Time
	// Cause names the claim: scheduled, version-3, document-4-17, once-UUID. Two make
	// no run: end-UUID ends an execution, targets-3 looks for nodes that version 3 is
	// not for any more. Of one association and time there is one of each.
	Cause string
}

// Causes of what is due; a claim's key has them too.
const (
	AssociationScheduled = "scheduled"
	AssociationChanged   = "version-"
	AssociationDocument  = "document-"
	AssociationOnce      = "once-"
	AssociationEnd       = "end-"
	AssociationCatchUp   = "nodes-"
	// AssociationTargets looks for nodes that a new version is not for any more; of a
	// deleted association these are all.
	AssociationTargets = "targets-"
)

const (
	associationPrefix        = "association/"
	associationVersionPrefix = "association-version/"
	associationStatePrefix   = "association-state/"
	associationDuePrefix     = "association-due/"
	associationCountKey      = "association-count"
	sweptAssociationPrefix   = "swept-association/"

	associationRecordVersion  = 1
	associationVersionVersion = 1
	associationStateVersion   = 1
	associationDueVersion     = 1
	associationCountVersion   = 1
)

// Prefixes that the leader's loop of associations waits on.
const (
	AssociationPrefix    = associationPrefix
	AssociationDuePrefix = associationDuePrefix
	CommandStatePrefix   = commandStatePrefix
	DocumentPrefix       = documentPrefix
)

// GetAssociation returns the association with this id, or ErrNotFound.
func GetAssociation(r Reader, id string) (Association, error) {
	var a Association
	index, found, err := getRecord(r, associationPrefix+id, associationRecordVersion, &a)
	if err == nil && !found {
		err = ErrNotFound
	}
	a.ModifyIndex = index
	return a, err
}

// ScanAssociations calls fn for each association with an id >= start, in order of
// ids, until fn returns false.
func ScanAssociations(r Reader, start string, fn func(Association) bool) error {
	return scanRecords(r, associationPrefix, start, associationRecordVersion, func(a Association, index uint64) bool {
		a.ModifyIndex = index
		return fn(a)
	})
}

// ScanAssociationIndexes calls fn for the id and modify index of each association, in
// order of ids, until fn returns false. It reads no record.
func ScanAssociationIndexes(r Reader, fn func(id string, modifyIndex uint64) bool) {
	r.Scan(associationPrefix, "", func(key string, _ []byte, index uint64) bool {
		return fn(strings.TrimPrefix(key, associationPrefix), index)
	})
}

// DeletedAssociations returns the ids of the associations that have left something
// for [SweepAssociations].
func DeletedAssociations(r Reader) []string {
	var ids []string
	r.Scan(sweptAssociationPrefix, "", func(key string, _ []byte, _ uint64) bool {
		ids = append(ids, strings.TrimPrefix(key, sweptAssociationPrefix))
		return true
	})
	return ids
}

// PutAssociation writes a, requiring that it is unchanged since it was read.
func (t *Txn) PutAssociation(a Association) {
	t.Require(associationPrefix+a.ID, a.ModifyIndex)
	t.Put(associationPrefix+a.ID, encodeRecord(associationRecordVersion, a))
}

// RequireAssociation requires that a is unchanged since it was read.
func (t *Txn) RequireAssociation(a Association) { t.Require(associationPrefix+a.ID, a.ModifyIndex) }

// DeleteAssociation deletes a, requiring that it is unchanged, and marks what is left
// of it for [SweepAssociations].
func (t *Txn) DeleteAssociation(a Association) {
	t.Require(associationPrefix+a.ID, a.ModifyIndex)
	t.Delete(associationPrefix + a.ID)
	t.Put(sweptAssociationPrefix+a.ID, nil)
}

// AssociationCount is how many associations there were at a moment.
type AssociationCount struct {
	Meta
	Associations int `json:"-"`
}

// CountAssociations counts the associations.
func CountAssociations(r Reader) (AssociationCount, error) {
	var c AssociationCount
	index, _, err := getRecord(r, associationCountKey, associationCountVersion, &c)
	c.ModifyIndex, c.Associations = index, countKeys(r, associationPrefix)
	return c, err
}

// PutAssociationCount requires that no association was added since they were counted.
// The transaction that adds one does it.
func (t *Txn) PutAssociationCount(c AssociationCount) {
	t.Require(associationCountKey, c.ModifyIndex)
	t.Put(associationCountKey, encodeRecord(associationCountVersion, c))
}

func associationVersionKey(id string, number int) string {
	return fmt.Sprintf("%s%s/%010d", associationVersionPrefix, id, number)
}

// GetAssociationVersion returns a version of an association, or ErrNotFound.
func GetAssociationVersion(r Reader, id string, number int) (AssociationVersion, error) {
	var v AssociationVersion
	index, found, err := getRecord(r, associationVersionKey(id, number), associationVersionVersion, &v)
	if err == nil && !found {
		err = ErrNotFound
	}
	v.ModifyIndex = index
	return v, err
}

// PutNewAssociationVersion writes v. The same transaction puts the association, which
// guards the number.
func (t *Txn) PutNewAssociationVersion(v AssociationVersion) {
	t.Put(associationVersionKey(v.AssociationID, v.Number), encodeRecord(associationVersionVersion, v))
}

// GetAssociationState returns the state of an association, or ErrNotFound.
func GetAssociationState(r Reader, id string) (AssociationState, error) {
	var s AssociationState
	index, found, err := getRecord(r, associationStatePrefix+id, associationStateVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// PutAssociationState writes s, requiring that it is unchanged since it was read.
func (t *Txn) PutAssociationState(s AssociationState) {
	t.Require(associationStatePrefix+s.ID, s.ModifyIndex)
	t.Put(associationStatePrefix+s.ID, encodeRecord(associationStateVersion, s))
}

func associationDueKey(d AssociationDue) string {
	return associationDuePrefix + d.At.UTC().Format(expiryKeyTimeFormat) + "/" + d.AssociationID + "/" + d.Cause
}

// ScanAssociationsDue calls fn for what is due, the earliest first, until fn returns
// false.
func ScanAssociationsDue(r Reader, fn func(AssociationDue) bool) error {
	return scanRecords(r, associationDuePrefix, "", associationDueVersion, func(d AssociationDue, index uint64) bool {
		d.ModifyIndex = index
		return fn(d)
	})
}

// PutAssociationDue writes d; the same a second time is no error.
func (t *Txn) PutAssociationDue(d AssociationDue) {
	t.Put(associationDueKey(d), encodeRecord(associationDueVersion, d))
}

// DeleteAssociationDue deletes d.
func (t *Txn) DeleteAssociationDue(d AssociationDue) { t.Delete(associationDueKey(d)) }

// SweepAssociations returns the transaction that deletes the next lot of what deleted
// associations have left: all but executions and their commands, which go as commands
// do. It is empty when there is nothing.
func SweepAssociations(r Reader) Txn {
	var t Txn
	r.Scan(sweptAssociationPrefix, "", func(key string, _ []byte, _ uint64) bool {
		id := strings.TrimPrefix(key, sweptAssociationPrefix)
		sweep := func(prefix string, also func(rest string)) {
			r.Scan(prefix, "", func(key string, _ []byte, _ uint64) bool {
				if len(t.Ops)+3 > maxSweep {
					return false
				}
				t.Delete(key)
				if also != nil {
					also(strings.TrimPrefix(key, prefix))
				}
				return true
			})
		}
		sweep(associationVersionPrefix+id+"/", nil)
		sweep(associationTargetPrefix+id+"/", func(node string) {
			t.Delete(associationTargetByNodePrefix + node + "/" + id)
			t.Delete(associationOwedPrefix + node + "/" + id)
		})
		if len(t.Ops)+3 > maxSweep {
			return false // more of it may be left
		}
		t.Delete(associationStatePrefix + id)
		t.Delete(key)
		return true
	})
	return t
}
