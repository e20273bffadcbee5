package raftstore

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// WindowState is how far the leader has come with a window. agent/leader writes it,
// but for the first, which is written with the window.
type WindowState struct {
	Meta
	WindowID string
	// HandledUntil: every opening up to then was claimed.
	HandledUntil time.Time
	// Epoch is the mesh's at that time. Where the mesh's is higher a snapshot was
	// restored, and what was claimed since it was saved is not known.
	Epoch uint64
}

// WindowExecution is where the execution of one opening stands. agent/leader writes
// it with everything that belongs to the execution, its modify index as
// precondition: so two leaders cannot both go on with it.
type WindowExecution struct {
	Meta
	ID       string // UUID, made of window and opening
	WindowID string
	// ScheduledAt is the opening, StartedAt when it was claimed.
	ScheduledAt time.Time
	StartedAt   time.Time
	// CutoffAt: no task begins from then on. ClosesAt is the window's end.
	CutoffAt time.Time
	ClosesAt time.Time
	EndedAt  time.Time // zero until Status is terminal

	Status        string // types.MaintenanceWindowExecutionStatus
	StatusDetails string
	// Missed: it ran nothing, since its time was over or should not be used.
	Missed bool
	// Unfinished: the cutoff kept it from something, which the next opening may take up.
	Unfinished bool
	// Resumes is the execution that this one takes up.
	Resumes string
	Epoch   uint64
}

// WindowPlan is what an execution is to do, frozen when the opening was claimed. It
// never changes.
type WindowPlan struct {
	ExecutionID string
	WindowName  string
	// Tasks are in order of priority.
	Tasks []WindowPlanTask
	// Targets has the definitions of the registered targets that tasks use, by id.
	Targets map[string]json.RawMessage
}

// WindowPlanTask is one task of a plan.
type WindowPlanTask struct {
	ID         string // UUID of the task execution, made of execution and task
	TaskID     string
	Definition json.RawMessage
	// Runs are done one after another.
	Runs []WindowPlanRun
}

// WindowPlanRun is what a task does at one target.
type WindowPlanRun struct {
	// TargetID is a registered target's, "" for the nodes that the task names itself.
	TargetID string
	// NodeIDs are those nodes.
	NodeIDs []string `json:",omitempty"`
	// Unsuccessful is a command of an earlier execution: only where that had no
	// success is left to do. Done: nothing is left.
	Unsuccessful string `json:",omitempty"`
	Done         bool   `json:",omitempty"`
}

// WindowTaskExecution is where one task of an execution stands.
type WindowTaskExecution struct {
	Meta
	ExecutionID   string
	ID            string
	TaskID        string
	Status        string
	StatusDetails string
	// StartedAt is when the task began, or was given up without a beginning.
	StartedAt time.Time
	EndedAt   time.Time
}

// WindowInvocation is one run of a task.
type WindowInvocation struct {
	Meta
	ExecutionID string
	TaskID      string // of the task execution
	ID          string // UUID, made of task execution and target
	// Run is its place among the runs of the plan's task.
	Run              int
	WindowTargetID   string
	OwnerInformation string
	CommandID        string // "" when there is no command
	// Parameters is the beginning of the SendCommandInput as JSON.
	Parameters    string `json:",omitempty"`
	Status        string
	StatusDetails string
	StartedAt     time.Time
	EndedAt       time.Time
	// Errors is how many of its nodes counted as errors.
	Errors int
	// Stopped: they were too many for the task to go on.
	Stopped bool
}

// WindowCancel is a request to cancel an execution, written by the API and acted on
// by the leader.
type WindowCancel struct {
	Meta
	ExecutionID string
	RequestedAt time.Time
	Caller      string
}

// windowClaim is the claim of an opening. Its key is window and time: there is one.
type windowClaim struct{ ExecutionID string }

const (
	windowStatePrefix           = "window-state/"
	windowClaimPrefix           = "window-claim/"
	windowExecutionPrefix       = "window-execution/"
	windowPlanPrefix            = "window-plan/"
	windowTaskExecutionPrefix   = "window-task-execution/"
	windowInvocationPrefix      = "window-invocation/"
	windowCancelPrefix          = "window-cancel/"
	activeWindowExecutionPrefix = "active-window-execution/"

	windowStateVersion         = 1
	windowClaimVersion         = 1
	windowExecutionVersion     = 1
	windowPlanVersion          = 1
	windowTaskExecutionVersion = 1
	windowInvocationVersion    = 1
	windowCancelVersion        = 1
)

// WindowCancelPrefix is what to watch to learn of requests to cancel.
const WindowCancelPrefix = windowCancelPrefix

// GetWindowState returns how far the leader has come with a window, or ErrNotFound.
func GetWindowState(r Reader, windowID string) (WindowState, error) {
	var s WindowState
	index, found, err := getRecord(r, windowStatePrefix+windowID, windowStateVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// PutWindowState writes s, requiring that it is unchanged since it was read.
func (t *Txn) PutWindowState(s WindowState) {
	t.Require(windowStatePrefix+s.WindowID, s.ModifyIndex)
	t.Put(windowStatePrefix+s.WindowID, encodeRecord(windowStateVersion, s))
}

// ClaimOpening writes a new execution as the claim of its opening, requiring that
// nobody has claimed it.
func (t *Txn) ClaimOpening(x WindowExecution) {
	key := windowClaimPrefix + x.WindowID + "/" + newestFirst(x.ScheduledAt)
	t.Require(key, 0)
	t.Put(key, encodeRecord(windowClaimVersion, windowClaim{ExecutionID: x.ID}))
	if x.EndedAt.IsZero() {
		t.Put(activeWindowExecutionPrefix+x.ID, nil)
	}
	t.PutWindowExecution(x)
}

// ScanWindowExecutions calls fn with the id and list position of each execution of
// a window, newest opening first, from position start on ("" for the newest), until
// fn returns false.
func ScanWindowExecutions(r Reader, windowID, start string, fn func(position, id string) bool) error {
	return scanRecordsWithKey(r, windowClaimPrefix+windowID+"/", start, windowClaimVersion, func(position string, c windowClaim) bool {
		return fn(position, c.ExecutionID)
	})
}

// scanRecordsWithKey is scanRecords that tells the rest of the key too.
func scanRecordsWithKey[T any](r Reader, prefix, start string, version int, fn func(rest string, record T) bool) error {
	var failed error
	r.Scan(prefix, prefix+start, func(key string, value []byte, _ uint64) bool {
		var record T
		if failed = decodeRecord(key, value, version, &record); failed != nil {
			return false
		}
		return fn(strings.TrimPrefix(key, prefix), record)
	})
	return failed
}

// GetWindowExecution returns an execution, or ErrNotFound.
func GetWindowExecution(r Reader, id string) (WindowExecution, error) {
	var x WindowExecution
	index, found, err := getRecord(r, windowExecutionPrefix+id, windowExecutionVersion, &x)
	if err == nil && !found {
		err = ErrNotFound
	}
	x.ModifyIndex = index
	return x, err
}

// ActiveWindowExecutions returns the ids of the executions that have not ended.
func ActiveWindowExecutions(r Reader) []string {
	var ids []string
	r.Scan(activeWindowExecutionPrefix, "", func(key string, _ []byte, _ uint64) bool {
		ids = append(ids, strings.TrimPrefix(key, activeWindowExecutionPrefix))
		return true
	})
	return ids
}

// PutWindowExecution writes x, requiring that it is unchanged since it was read, and
// drops it from the active ones when it has ended.
func (t *Txn) PutWindowExecution(x WindowExecution) {
	t.Require(windowExecutionPrefix+x.ID, x.ModifyIndex)
	t.Put(windowExecutionPrefix+x.ID, encodeRecord(windowExecutionVersion, x))
	if !x.EndedAt.IsZero() {
		t.Delete(activeWindowExecutionPrefix + x.ID)
		t.Delete(windowCancelPrefix + x.ID)
	}
}

// GetWindowPlan returns what an execution is to do, or ErrNotFound for one that does
// nothing.
func GetWindowPlan(r Reader, executionID string) (WindowPlan, error) {
	var p WindowPlan
	_, found, err := getRecord(r, windowPlanPrefix+executionID, windowPlanVersion, &p)
	if err == nil && !found {
		err = ErrNotFound
	}
	return p, err
}

// PutNewWindowPlan writes the plan of a new execution.
func (t *Txn) PutNewWindowPlan(p WindowPlan) {
	t.Put(windowPlanPrefix+p.ExecutionID, encodeRecord(windowPlanVersion, p))
}

// GetWindowTaskExecution returns a task of an execution, or ErrNotFound.
func GetWindowTaskExecution(r Reader, executionID, id string) (WindowTaskExecution, error) {
	var task WindowTaskExecution
	index, found, err := getRecord(r, windowTaskExecutionPrefix+executionID+"/"+id, windowTaskExecutionVersion, &task)
	if err == nil && !found {
		err = ErrNotFound
	}
	task.ModifyIndex = index
	return task, err
}

// ScanWindowTaskExecutions calls fn for each task of an execution, in order of ids.
func ScanWindowTaskExecutions(r Reader, executionID string, fn func(WindowTaskExecution) bool) error {
	return scanRecords(r, windowTaskExecutionPrefix+executionID+"/", "", windowTaskExecutionVersion, func(task WindowTaskExecution, index uint64) bool {
		task.ModifyIndex = index
		return fn(task)
	})
}

// PutWindowTaskExecution writes a task of an execution, requiring that it is
// unchanged since it was read.
func (t *Txn) PutWindowTaskExecution(task WindowTaskExecution) {
	key := windowTaskExecutionPrefix + task.ExecutionID + "/" + task.ID
	t.Require(key, task.ModifyIndex)
	t.Put(key, encodeRecord(windowTaskExecutionVersion, task))
}

// GetWindowInvocation returns a run of a task, or ErrNotFound.
func GetWindowInvocation(r Reader, executionID, taskID, id string) (WindowInvocation, error) {
	var i WindowInvocation
	index, found, err := getRecord(r, windowInvocationPrefix+executionID+"/"+taskID+"/"+id, windowInvocationVersion, &i)
	if err == nil && !found {
		err = ErrNotFound
	}
	i.ModifyIndex = index
	return i, err
}

// ScanWindowInvocations calls fn for each run of a task ("" for all tasks of the
// execution), in order of ids, until fn returns false.
func ScanWindowInvocations(r Reader, executionID, taskID string, fn func(WindowInvocation) bool) error {
	prefix := windowInvocationPrefix + executionID + "/"
	if taskID != "" {
		prefix += taskID + "/"
	}
	return scanRecords(r, prefix, "", windowInvocationVersion, func(i WindowInvocation, index uint64) bool {
		i.ModifyIndex = index
		return fn(i)
	})
}

// PutWindowInvocation writes a run of a task, requiring that it is unchanged since
// it was read.
func (t *Txn) PutWindowInvocation(i WindowInvocation) {
	key := windowInvocationPrefix + i.ExecutionID + "/" + i.TaskID + "/" + i.ID
	t.Require(key, i.ModifyIndex)
	t.Put(key, encodeRecord(windowInvocationVersion, i))
}

// GetWindowCancel returns the request to cancel an execution, or ErrNotFound.
func GetWindowCancel(r Reader, executionID string) (WindowCancel, error) {
	var c WindowCancel
	index, found, err := getRecord(r, windowCancelPrefix+executionID, windowCancelVersion, &c)
	if err == nil && !found {
		err = ErrNotFound
	}
	c.ModifyIndex = index
	return c, err
}

// PutWindowCancel writes a request to cancel, requiring that there is none and that
// the execution is as it was read, which is active.
func (t *Txn) PutWindowCancel(c WindowCancel, x WindowExecution) {
	t.Require(windowExecutionPrefix+x.ID, x.ModifyIndex)
	t.Require(windowCancelPrefix+c.ExecutionID, c.ModifyIndex)
	t.Put(windowCancelPrefix+c.ExecutionID, encodeRecord(windowCancelVersion, c))
}

// SweepWindowExecution returns the transaction that deletes an ended execution with
// all that belongs to it; it is bounded in size, and empty when nothing is left.
func SweepWindowExecution(r Reader, id string) (t Txn, err error) {
	x, err := GetWindowExecution(r, id)
	if err != nil || x.EndedAt.IsZero() {
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return t, err
	}
	for _, prefix := range []string{windowInvocationPrefix, windowTaskExecutionPrefix} {
		r.Scan(prefix+id+"/", "", func(key string, _ []byte, _ uint64) bool {
			if len(t.Ops) < maxSweep {
				t.Delete(key)
			}
			return len(t.Ops) < maxSweep
		})
	}
	if len(t.Ops) == maxSweep {
		return t, nil
	}
	t.Delete(windowPlanPrefix + id)
	t.Delete(windowExecutionPrefix + id)
	t.Delete(windowClaimPrefix + x.WindowID + "/" + newestFirst(x.ScheduledAt))
	return t, nil
}

// ScanEndedWindowExecutions calls fn for each execution that has ended, in order of
// ids, until fn returns false.
func ScanEndedWindowExecutions(r Reader, fn func(WindowExecution) bool) error {
	return scanRecords(r, windowExecutionPrefix, "", windowExecutionVersion, func(x WindowExecution, index uint64) bool {
		x.ModifyIndex = index
		return x.EndedAt.IsZero() || fn(x)
	})
}
