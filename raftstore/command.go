package raftstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Command is what a SendCommand asked for. It never changes once written; what
// becomes of it is in [CommandState] and [Invocation].
type Command struct {
	Meta
	ID string // UUID
	// Input is the validated SendCommandInput as it came over the wire.
	Input json.RawMessage
	// Document is the document's content at the time of the request: a node never
	// fetches it.
	DocumentName    string
	DocumentVersion string
	Document        json.RawMessage
	// Nested are the documents that steps of aws:runDocument lead to, by what they
	// name, as they were at that time too.
	Nested      map[string]NestedDocument `json:",omitempty"`
	Caller      string
	RequestedAt time.Time
	// DeliverUntil: an invocation that has not started by then will not run.
	DeliverUntil time.Time
	// ExpiresAt is DeliverUntil plus the execution timeout; what is not terminal
	// then is reported DeliveryTimedOut.
	ExpiresAt time.Time
	Epoch     uint64
}

// NestedDocument is a document that another runs.
type NestedDocument struct {
	Name    string          // NAME:VERSION
	Content json.RawMessage `json:",omitempty"`
	Problem string          `json:",omitempty"` // why there is no content
}

// CommandState is where a command stands. agent/leader writes it, always with
// its modify index as precondition, together with the invocations it counts.
type CommandState struct {
	Meta
	ID            string
	Status        string // types.CommandStatus
	StatusDetails string
	// Resolved is set when all targets have their invocation record.
	Resolved              bool
	TargetCount           int
	CompletedCount        int // terminal invocations
	ErrorCount            int // Failed and ExecutionTimedOut
	DeliveryTimedOutCount int
	// InFlight is the number of invocations that are committed as dispatched and
	// not terminal.
	InFlight int
	// DelayedCount is the number of invocations whose job could not be sent and
	// waits for its node.
	DelayedCount int `json:",omitempty"`
	// MaxConcurrency and MaxErrors are absolute numbers, once resolved.
	MaxConcurrency int
	MaxErrors      int
	// Cancelling is set when the whole command is being cancelled; Stopped when
	// the error threshold ended it.
	Cancelling bool
	Stopped    bool
	FinishedAt time.Time // zero until Status is terminal
}

// CommandCancel is a request to cancel, written by the API and acted on by the
// leader. NodeIDs empty means all. A further request replaces it by the union.
type CommandCancel struct {
	Meta
	CommandID string
	All       bool
	// Waiting: on the nodes where it was not started.
	Waiting     bool `json:",omitempty"`
	NodeIDs     []string
	RequestedAt time.Time
	Caller      string
}

const (
	commandPrefix       = "command/"
	commandStatePrefix  = "command-state/"
	commandCancelPrefix = "command-cancel/"
	commandByTimePrefix = "command-by-time/"
	activeCommandPrefix = "active-command/"

	commandVersion       = 1
	commandStateVersion  = 1
	commandCancelVersion = 1
)

// TargetUnsuccessful is a target key of the mesh's own: its value is the id of an
// ended command, and the targets are the nodes on which that had no success.
const TargetUnsuccessful = "mesh:unsuccessful"

// Prefixes that watchers of commands wait on.
const (
	ActiveCommandPrefix = activeCommandPrefix
	CommandCancelPrefix = commandCancelPrefix
)

// CommandStateKey is the key to watch for changes of one command's state.
func CommandStateKey(id string) string { return commandStatePrefix + id }

// newestFirst makes keys whose byte order is descending time.
func newestFirst(t time.Time) string {
	return fmt.Sprintf("%020d", uint64(1<<63)-uint64(t.UnixNano()))
}

// GetCommand returns the command with this id, or ErrNotFound.
func GetCommand(r Reader, id string) (Command, error) {
	var c Command
	index, found, err := getRecord(r, commandPrefix+id, commandVersion, &c)
	if err == nil && !found {
		err = ErrNotFound
	}
	c.ModifyIndex = index
	return c, err
}

// GetCommandState returns the state of a command, or ErrNotFound.
func GetCommandState(r Reader, id string) (CommandState, error) {
	var s CommandState
	index, found, err := getRecord(r, commandStatePrefix+id, commandStateVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// GetCommandCancel returns the request to cancel a command, or ErrNotFound.
func GetCommandCancel(r Reader, id string) (CommandCancel, error) {
	var c CommandCancel
	index, found, err := getRecord(r, commandCancelPrefix+id, commandCancelVersion, &c)
	if err == nil && !found {
		err = ErrNotFound
	}
	c.ModifyIndex = index
	return c, err
}

// ScanCommands calls fn with the id and list position of each command, newest
// first, from position start on ("" for the newest), until fn returns false.
// The position is stable while commands come and go; page with it.
func ScanCommands(r Reader, start string, fn func(position, id string) bool) {
	from := ""
	if start != "" {
		from = commandByTimePrefix + start
	}
	r.Scan(commandByTimePrefix, from, func(key string, _ []byte, _ uint64) bool {
		position := strings.TrimPrefix(key, commandByTimePrefix)
		_, id, _ := strings.Cut(position, "/")
		return fn(position, id)
	})
}

// ActiveCommands returns the ids of the commands that are not terminal.
func ActiveCommands(r Reader) []string {
	var ids []string
	r.Scan(activeCommandPrefix, "", func(key string, _ []byte, _ uint64) bool {
		ids = append(ids, strings.TrimPrefix(key, activeCommandPrefix))
		return true
	})
	return ids
}

// PutNewCommand writes a command with its first state and its indexes.
func (t *Txn) PutNewCommand(c Command, s CommandState) {
	t.Require(commandPrefix+c.ID, 0)
	t.Put(commandPrefix+c.ID, encodeRecord(commandVersion, c))
	t.Put(commandByTimePrefix+newestFirst(c.RequestedAt)+"/"+c.ID, nil)
	t.Put(activeCommandPrefix+c.ID, nil)
	t.PutCommandState(s)
}

// PutCommandState writes s, requiring that it is unchanged since it was read,
// and drops the command from the active ones when s is terminal.
func (t *Txn) PutCommandState(s CommandState) {
	t.Require(commandStatePrefix+s.ID, s.ModifyIndex)
	t.Put(commandStatePrefix+s.ID, encodeRecord(commandStateVersion, s))
	if !s.FinishedAt.IsZero() {
		t.Delete(activeCommandPrefix + s.ID)
		t.Delete(commandCancelPrefix + s.ID)
	}
}

// PutCommandCancel writes a request to cancel, requiring that it is unchanged
// since it was read and that the command is still active.
func (t *Txn) PutCommandCancel(c CommandCancel) {
	t.Require(commandCancelPrefix+c.CommandID, c.ModifyIndex)
	t.Put(commandCancelPrefix+c.CommandID, encodeRecord(commandCancelVersion, c))
}
