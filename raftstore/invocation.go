package raftstore

import (
	"strings"
	"time"
)

// Invocation is one command on one node.
type Invocation struct {
	Meta
	CommandID string
	NodeID    string
	NodeName  string
	// RequestedAt is the command's, for the index by node.
	RequestedAt   time.Time
	Status        string // types.CommandInvocationStatus
	StatusDetails string
	// DispatchedAt is when the start was committed; zero while Pending.
	DispatchedAt time.Time
	// Cancelling is set when this invocation is to be cancelled.
	Cancelling bool
	// Sequence is that of the newest report applied; reports up to it are repeats.
	Sequence   uint64
	StartedAt  time.Time
	FinishedAt time.Time // zero until terminal
	Plugins    []PluginResult
	// Reason says in a sentence why it ended as it did, where the exit code does
	// not tell ("interrupted: …", "the node was removed"). A report that comes
	// after the end is kept here as detail and changes nothing else.
	Reason string
}

// PluginResult is the outcome of one step on one node.
type PluginResult struct {
	Name          string // step name; for schema 1.2 the plugin's
	Status        string // types.CommandPluginStatus
	StatusDetails string
	ResponseCode  int // -1 until it ended
	StartedAt     time.Time
	FinishedAt    time.Time
	// Stdout and Stderr are the first 24,000 and 8,000 characters; the sizes are
	// those of the whole output in bytes, kept on the node.
	Stdout      string
	Stderr      string
	StdoutBytes int64
	StderrBytes int64
	// Reason says why the step ended so, where Stderr is empty and the exit code does
	// not tell.
	Reason string `json:",omitempty"`
}

// Terminal reports whether the invocation has ended.
func (i *Invocation) Terminal() bool { return !i.FinishedAt.IsZero() }

// InFlight reports whether the invocation was dispatched and has not ended.
func (i *Invocation) InFlight() bool { return !i.DispatchedAt.IsZero() && i.FinishedAt.IsZero() }

const (
	invocationPrefix       = "invocation/"
	invocationByNodePrefix = "invocation-by-node/"
	invocationVersion      = 1
)

// InvocationPrefix is the prefix to watch for changes of a command's invocations.
func InvocationPrefix(commandID string) string { return invocationPrefix + commandID + "/" }

// GetInvocation returns a command's invocation on a node, or ErrNotFound.
func GetInvocation(r Reader, commandID, nodeID string) (Invocation, error) {
	var i Invocation
	index, found, err := getRecord(r, invocationPrefix+commandID+"/"+nodeID, invocationVersion, &i)
	if err == nil && !found {
		err = ErrNotFound
	}
	i.ModifyIndex = index
	return i, err
}

// ScanInvocations calls fn for each invocation of a command, from node start on
// ("" for the first), in order of node ids, until fn returns false.
func ScanInvocations(r Reader, commandID, start string, fn func(Invocation) bool) error {
	var failed error
	prefix := InvocationPrefix(commandID)
	from := ""
	if start != "" {
		from = prefix + start
	}
	r.Scan(prefix, from, func(key string, value []byte, index uint64) bool {
		var i Invocation
		if failed = decodeRecord(key, value, invocationVersion, &i); failed != nil {
			return false
		}
		i.ModifyIndex = index
		return fn(i)
	})
	return failed
}

// UnsuccessfulNodes returns the nodes of a command on which it has not ended with
// success, in order.
func UnsuccessfulNodes(r Reader, commandID string) ([]string, error) {
	var ids []string
	err := ScanInvocations(r, commandID, "", func(i Invocation) bool {
		if i.Status != "Success" { // types.CommandInvocationStatusSuccess
			ids = append(ids, i.NodeID)
		}
		return true
	})
	return ids, err
}

// ScanNodeInvocations calls fn with the list position and command id of each
// invocation on a node, newest first, from position start on.
func ScanNodeInvocations(r Reader, nodeID, start string, fn func(position, commandID string) bool) {
	prefix := invocationByNodePrefix + nodeID + "/"
	from := ""
	if start != "" {
		from = prefix + start
	}
	r.Scan(prefix, from, func(key string, _ []byte, _ uint64) bool {
		position := strings.TrimPrefix(key, prefix)
		_, id, _ := strings.Cut(position, "/")
		return fn(position, id)
	})
}

// PutInvocation writes i, requiring that it is unchanged since it was read, and
// its index when it is new.
func (t *Txn) PutInvocation(i Invocation) {
	key := invocationPrefix + i.CommandID + "/" + i.NodeID
	t.Require(key, i.ModifyIndex)
	t.Put(key, encodeRecord(invocationVersion, i))
	if i.ModifyIndex == 0 {
		t.Put(invocationByNodePrefix+i.NodeID+"/"+newestFirst(i.RequestedAt)+"/"+i.CommandID, nil)
	}
}
