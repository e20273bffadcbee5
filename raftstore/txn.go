package raftstore

import "errors"

// Errors that callers test for.
var (
	// ErrConflict is returned by [Store.Apply] when a precondition did not hold;
	// nothing was written. Read again and decide again.
	ErrConflict = errors.New("the record changed meanwhile")
	// ErrNotLeader is returned when this node does not lead; nothing was written.
	ErrNotLeader = errors.New("this node does not lead the mesh")
	// ErrUnknownOutcome is returned when leadership or the caller's context ended
	// after the entry was handed to Raft: it may or may not be committed.
	ErrUnknownOutcome = errors.New("the write may or may not have happened")
	// ErrTooLarge is returned for a transaction over MaxTxnSize; nothing was written.
	ErrTooLarge = errors.New("the transaction is too large")
	// ErrNotFound is returned by typed queries when the record is not there.
	ErrNotFound = errors.New("no such record")
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("the store is closed")
)

// MaxTxnSize is the largest encoded transaction, in bytes. Larger entries delay
// Raft's heartbeats; big things stay on the node that made them.
const MaxTxnSize = 256 << 10

// Op is one change: a put, or a delete when Delete is set (Value is then nil).
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Precondition demands that Key was last written by the entry ModifyIndex;
// 0 demands that the key does not exist.
type Precondition struct {
	Key         string
	ModifyIndex uint64
}

// Txn is all or nothing: when every precondition holds, all Ops are applied in
// order, else none is.
type Txn struct {
	Preconditions []Precondition
	Ops           []Op
}

// Require adds the precondition that key still is as it was read: the entry's
// modify index, 0 for a key that was not there.
func (t *Txn) Require(key string, modifyIndex uint64) {
	t.Preconditions = append(t.Preconditions, Precondition{Key: key, ModifyIndex: modifyIndex})
}

// Put adds a put of raw bytes. Record kinds have typed helpers (PutNode, …).
func (t *Txn) Put(key string, value []byte) {
	t.Ops = append(t.Ops, Op{Key: key, Value: value})
}

// Delete adds a delete; deleting a key that is not there is no error.
func (t *Txn) Delete(key string) {
	t.Ops = append(t.Ops, Op{Key: key, Delete: true})
}

// Merge appends the preconditions and operations of other.
func (t *Txn) Merge(other Txn) {
	t.Preconditions = append(t.Preconditions, other.Preconditions...)
	t.Ops = append(t.Ops, other.Ops...)
}
