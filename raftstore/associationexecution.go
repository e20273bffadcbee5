package raftstore

import (
	"strings"
	"time"
)

// AssociationExecution is one run of an association: a command of the same id, or why
// there was none. It goes when its command goes.
type AssociationExecution struct {
	Meta
	ID            string // UUID; the command's too
	AssociationID string
	Version       int
	// DocumentVersion is the number of the document's version, "" without a command.
	DocumentVersion string
	// Cause is as in [AssociationDue], or nodes-… for a run on some nodes only.
	Cause string
	// ScheduledFor is the time of the schedule; zero for other causes.
	ScheduledFor time.Time
	CreatedAt    time.Time
	// NodeIDs are the nodes of a run that is not for all targets.
	NodeIDs []string `json:",omitempty"`
	// NoCommand: nothing was run; Reason says why.
	NoCommand bool `json:",omitempty"`
	// Superseded: a newer run of the association has begun before this one had ended.
	Superseded bool   `json:",omitempty"`
	Reason     string `json:",omitempty"`
	// Status and DetailedStatus are final when FinishedAt is set; until then they
	// follow from the command.
	Status         string
	DetailedStatus string
	FinishedAt     time.Time
	// Counts are the nodes by DetailedStatus at the end.
	Counts map[string]int `json:",omitempty"`
	// Seen is the store's index up to which the command's invocations were taken into
	// the records of the targets.
	Seen uint64 `json:",omitempty"`
}

// AssociationClaim says that a cause was taken up: at most one execution comes of it.
type AssociationClaim struct {
	Meta
	ExecutionID string
	At          time.Time
}

// AssociationTarget is how an association stands on a node.
type AssociationTarget struct {
	Meta
	AssociationID   string
	NodeID          string
	Version         int
	DocumentVersion string
	ExecutionID     string // of the last run that was for the node
	ExecutedAt      time.Time
	Status          string // Pending, InProgress, Success, Failed, …
	DetailedStatus  string
	// StartedAt is when it was last sent to the node, SucceededAt when a run that had
	// success began there.
	StartedAt   time.Time
	SucceededAt time.Time
	// ReturnedAt is when a run was last made because the node had returned.
	ReturnedAt time.Time `json:",omitzero"`
	ErrorCode  string    `json:",omitempty"`
	Summary    string    `json:",omitempty"`
}

// AssociationOwed says that a node is to run an association as soon as it answers.
type AssociationOwed struct {
	Meta
	NodeID        string
	AssociationID string
	Version       int
	Since         time.Time
	Why           string
}

// AssociationNodes says up to which index changes of nodes were looked at for what
// they mean to associations.
type AssociationNodes struct {
	Meta
	Index uint64
}

// AssociationStart is which start of a node's daemon was looked at.
type AssociationStart struct {
	Meta
	NodeID string
	Start  uint64 // as the node announces it
}

type associationExecutionPlace struct {
	AssociationID string
	CreatedAt     time.Time
	Claim         string
}

const (
	associationClaimPrefix           = "association-claim/"
	associationExecutionPrefix       = "association-execution/"
	associationExecutionByIDPrefix   = "association-execution-by-id/"
	associationExecutionEmptyPrefix  = "association-execution-empty/"
	activeAssociationExecutionPrefix = "active-association-execution/"
	associationTargetPrefix          = "association-target/"
	associationTargetByNodePrefix    = "association-target-by-node/"
	associationOwedPrefix            = "association-owed/"
	associationNodesKey              = "association-nodes"
	associationStartPrefix           = "association-start/"

	associationClaimVersion     = 1
	associationExecutionVersion = 1
	associationPlaceVersion     = 1
	associationTargetVersion    = 1
	associationOwedVersion      = 1
	associationNodesVersion     = 1
	associationStartVersion     = 1
)

// AssociationOwedPrefix is what the leader's loop waits on too.
const AssociationOwedPrefix = associationOwedPrefix

// AssociationClaimName is the name of a claim: the time of the schedule, or the cause.
func AssociationClaimName(cause string, scheduledFor time.Time) string {
	if cause == AssociationScheduled {
		return scheduledFor.UTC().Format(expiryKeyTimeFormat)
	}
	return cause
}

func associationClaimKey(associationID, name string) string {
	return associationClaimPrefix + associationID + "/" + name
}

// GetAssociationClaim returns a claim by its name, or ErrNotFound.
func GetAssociationClaim(r Reader, associationID, name string) (AssociationClaim, error) {
	var c AssociationClaim
	index, found, err := getRecord(r, associationClaimKey(associationID, name), associationClaimVersion, &c)
	if err == nil && !found {
		err = ErrNotFound
	}
	c.ModifyIndex = index
	return c, err
}

func (e *AssociationExecution) claim() string { return AssociationClaimName(e.Cause, e.ScheduledFor) }

func associationExecutionKey(associationID, id string, createdAt time.Time) string {
	return associationExecutionPrefix + associationID + "/" + newestFirst(createdAt) + "/" + id
}

// PutNewAssociationExecution writes an execution with its claim, requiring that the
// cause was not claimed before.
func (t *Txn) PutNewAssociationExecution(e AssociationExecution) {
	claim := associationClaimKey(e.AssociationID, e.claim())
	t.Require(claim, 0)
	t.Put(claim, encodeRecord(associationClaimVersion, AssociationClaim{ExecutionID: e.ID, At: e.CreatedAt}))
	t.Put(associationExecutionByIDPrefix+e.ID, encodeRecord(associationPlaceVersion,
		associationExecutionPlace{AssociationID: e.AssociationID, CreatedAt: e.CreatedAt, Claim: e.claim()}))
	if e.NoCommand {
		t.Put(associationExecutionEmptyPrefix+e.CreatedAt.UTC().Format(expiryKeyTimeFormat)+"/"+e.ID, nil)
	}
	if e.FinishedAt.IsZero() {
		t.Put(activeAssociationExecutionPrefix+e.AssociationID+"/"+e.ID, nil)
	}
	t.PutAssociationExecution(e)
}

// PutAssociationExecution writes e, requiring that it is unchanged since it was read,
// and drops it from the active ones when it has ended.
func (t *Txn) PutAssociationExecution(e AssociationExecution) {
	key := associationExecutionKey(e.AssociationID, e.ID, e.CreatedAt)
	t.Require(key, e.ModifyIndex)
	t.Put(key, encodeRecord(associationExecutionVersion, e))
	if !e.FinishedAt.IsZero() {
		t.Delete(activeAssociationExecutionPrefix + e.AssociationID + "/" + e.ID)
	}
}

// GetAssociationExecution returns the execution with this id, or ErrNotFound.
func GetAssociationExecution(r Reader, id string) (AssociationExecution, error) {
	var e AssociationExecution
	var place associationExecutionPlace
	_, found, err := getRecord(r, associationExecutionByIDPrefix+id, associationPlaceVersion, &place)
	if err == nil && !found {
		err = ErrNotFound
	}
	if err != nil {
		return e, err
	}
	index, found, err := getRecord(r, associationExecutionKey(place.AssociationID, id, place.CreatedAt), associationExecutionVersion, &e)
	if err == nil && !found {
		err = ErrNotFound
	}
	e.ModifyIndex = index
	return e, err
}

// ScanAssociationExecutions calls fn with each execution of an association and its
// position in the list, the newest first, from position start on, until fn returns
// false.
func ScanAssociationExecutions(r Reader, associationID, start string, fn func(position string, e AssociationExecution) bool) error {
	return scanRecords(r, associationExecutionPrefix+associationID+"/", start, associationExecutionVersion, func(e AssociationExecution, index uint64) bool {
		e.ModifyIndex = index
		return fn(newestFirst(e.CreatedAt)+"/"+e.ID, e)
	})
}

// ActiveAssociationExecutions returns the ids of the executions that have not ended,
// of one association or, without an id, of all.
func ActiveAssociationExecutions(r Reader, associationID string) []string {
	prefix := activeAssociationExecutionPrefix
	if associationID != "" {
		prefix += associationID + "/"
	}
	var ids []string
	r.Scan(prefix, "", func(key string, _ []byte, _ uint64) bool {
		ids = append(ids, key[strings.LastIndex(key, "/")+1:])
		return true
	})
	return ids
}

// dropAssociationExecution deletes an execution and its claim.
func (t *Txn) dropAssociationExecution(r Reader, id string) error {
	var place associationExecutionPlace
	_, found, err := getRecord(r, associationExecutionByIDPrefix+id, associationPlaceVersion, &place)
	if err != nil || !found {
		return err
	}
	t.Delete(associationExecutionByIDPrefix + id)
	t.Delete(associationExecutionKey(place.AssociationID, id, place.CreatedAt))
	t.Delete(activeAssociationExecutionPrefix + place.AssociationID + "/" + id)
	t.Delete(associationClaimKey(place.AssociationID, place.Claim))
	return nil
}

// SweepEmptyAssociationExecutions returns the transaction that deletes executions
// without a command from before a time; it is empty when there are none.
func SweepEmptyAssociationExecutions(r Reader, before time.Time) (Txn, error) {
	var t Txn
	var failed error
	limit := associationExecutionEmptyPrefix + before.UTC().Format(expiryKeyTimeFormat)
	r.Scan(associationExecutionEmptyPrefix, "", func(key string, _ []byte, _ uint64) bool {
		if key >= limit || len(t.Ops)+5 > maxSweep {
			return false
		}
		t.Delete(key)
		failed = t.dropAssociationExecution(r, key[strings.LastIndex(key, "/")+1:])
		return failed == nil
	})
	return t, failed
}

// GetAssociationTarget returns how an association stands on a node, or ErrNotFound.
func GetAssociationTarget(r Reader, associationID, nodeID string) (AssociationTarget, error) {
	var s AssociationTarget
	index, found, err := getRecord(r, associationTargetPrefix+associationID+"/"+nodeID, associationTargetVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// ScanAssociationTargets calls fn for each node of an association, from node start
// on, in order of ids, until fn returns false.
func ScanAssociationTargets(r Reader, associationID, start string, fn func(AssociationTarget) bool) error {
	return scanRecords(r, associationTargetPrefix+associationID+"/", start, associationTargetVersion, func(s AssociationTarget, index uint64) bool {
		s.ModifyIndex = index
		return fn(s)
	})
}

// ScanNodeAssociations calls fn with the id of each association that has a record
// for a node, from start on, in order, until fn returns false.
func ScanNodeAssociations(r Reader, nodeID, start string, fn func(associationID string) bool) {
	prefix := associationTargetByNodePrefix + nodeID + "/"
	from := ""
	if start != "" {
		from = prefix + start
	}
	r.Scan(prefix, from, func(key string, _ []byte, _ uint64) bool { return fn(strings.TrimPrefix(key, prefix)) })
}

// NodesOfAssociations returns the ids of the nodes that any association has a record
// for.
func NodesOfAssociations(r Reader) []string { return namesBelow(r, associationTargetByNodePrefix) }

// PutAssociationTarget writes s, requiring that it is unchanged since it was read.
func (t *Txn) PutAssociationTarget(s AssociationTarget) {
	key := associationTargetPrefix + s.AssociationID + "/" + s.NodeID
	t.Require(key, s.ModifyIndex)
	t.Put(key, encodeRecord(associationTargetVersion, s))
	if s.ModifyIndex == 0 {
		t.Put(associationTargetByNodePrefix+s.NodeID+"/"+s.AssociationID, nil)
	}
}

// DeleteAssociationTarget deletes s, requiring that it is unchanged.
func (t *Txn) DeleteAssociationTarget(s AssociationTarget) {
	t.Require(associationTargetPrefix+s.AssociationID+"/"+s.NodeID, s.ModifyIndex)
	t.Delete(associationTargetPrefix + s.AssociationID + "/" + s.NodeID)
	t.Delete(associationTargetByNodePrefix + s.NodeID + "/" + s.AssociationID)
}

// OwingNodes returns the ids of the nodes that owe a run.
func OwingNodes(r Reader) []string { return namesBelow(r, associationOwedPrefix) }

// ScanAssociationsOwed calls fn for each run that a node owes, until fn returns false.
func ScanAssociationsOwed(r Reader, nodeID string, fn func(AssociationOwed) bool) error {
	return scanRecords(r, associationOwedPrefix+nodeID+"/", "", associationOwedVersion, func(o AssociationOwed, index uint64) bool {
		o.ModifyIndex = index
		return fn(o)
	})
}

// GetAssociationOwed returns the run that a node owes of an association, or
// ErrNotFound.
func GetAssociationOwed(r Reader, nodeID, associationID string) (AssociationOwed, error) {
	var o AssociationOwed
	index, found, err := getRecord(r, associationOwedPrefix+nodeID+"/"+associationID, associationOwedVersion, &o)
	if err == nil && !found {
		err = ErrNotFound
	}
	o.ModifyIndex = index
	return o, err
}

// PutAssociationOwed writes o, requiring that it is unchanged since it was read.
func (t *Txn) PutAssociationOwed(o AssociationOwed) {
	key := associationOwedPrefix + o.NodeID + "/" + o.AssociationID
	t.Require(key, o.ModifyIndex)
	t.Put(key, encodeRecord(associationOwedVersion, o))
}

// DeleteAssociationOwed deletes o, requiring that it is unchanged: so much of a claim
// on nodes is their own.
func (t *Txn) DeleteAssociationOwed(o AssociationOwed) {
	key := associationOwedPrefix + o.NodeID + "/" + o.AssociationID
	t.Require(key, o.ModifyIndex)
	t.Delete(key)
}

// GetAssociationNodes returns how far changes of nodes were looked at.
func GetAssociationNodes(r Reader) (AssociationNodes, error) {
	var n AssociationNodes
	index, _, err := getRecord(r, associationNodesKey, associationNodesVersion, &n)
	n.ModifyIndex = index
	return n, err
}

// PutAssociationNodes writes n, requiring that it is unchanged since it was read.
func (t *Txn) PutAssociationNodes(n AssociationNodes) {
	t.Require(associationNodesKey, n.ModifyIndex)
	t.Put(associationNodesKey, encodeRecord(associationNodesVersion, n))
}

// ScanAssociationStarts calls fn for each node of which a start was looked at.
func ScanAssociationStarts(r Reader, fn func(AssociationStart) bool) error {
	return scanRecords(r, associationStartPrefix, "", associationStartVersion, func(s AssociationStart, index uint64) bool {
		s.ModifyIndex = index
		return fn(s)
	})
}

// PutAssociationStart writes s, requiring that it is unchanged since it was read.
func (t *Txn) PutAssociationStart(s AssociationStart) {
	t.Require(associationStartPrefix+s.NodeID, s.ModifyIndex)
	t.Put(associationStartPrefix+s.NodeID, encodeRecord(associationStartVersion, s))
}

// DeleteAssociationStart deletes s, requiring that it is unchanged.
func (t *Txn) DeleteAssociationStart(s AssociationStart) {
	t.Require(associationStartPrefix+s.NodeID, s.ModifyIndex)
	t.Delete(associationStartPrefix + s.NodeID)
}

// ScanNodesSince calls fn for each node whose record was written after an index, in
// order of ids, until fn returns false. It reads no other record.
func ScanNodesSince(r Reader, index uint64, fn func(Node) bool) error {
	var failed error
	r.Scan(nodePrefix, "", func(key string, value []byte, written uint64) bool {
		if written <= index {
			return true
		}
		var n Node
		if failed = decodeRecord(key, value, nodeVersion, &n); failed != nil {
			return false
		}
		n.ModifyIndex = written
		return fn(n)
	})
	return failed
}

// ScanInvocationsSince calls fn for each invocation of a command that was written
// after an index, in order of node ids, until fn returns false. It reads no other
// record.
func ScanInvocationsSince(r Reader, commandID string, index uint64, fn func(Invocation) bool) error {
	var failed error
	r.Scan(InvocationPrefix(commandID), "", func(key string, value []byte, written uint64) bool {
		if written <= index {
			return true
		}
		var i Invocation
		if failed = decodeRecord(key, value, invocationVersion, &i); failed != nil {
			return false
		}
		i.ModifyIndex = written
		return fn(i)
	})
	return failed
}

// AssociationStatus is an invocation's status in the words of associations.
func (i *Invocation) AssociationStatus() (status, detailed string) {
	switch i.StatusDetails {
	case "Delayed":
		return "Pending", "Pending"
	case "Cancelling":
		return "InProgress", "InProgress"
	}
	return i.Status, i.StatusDetails
}
