package raftstore

import (
	"encoding/json"
	"errors"
	"time"

	"fleetmesh/internal/schedule"
)

// Window is a maintenance window. Whatever is registered with it, or deregistered,
// writes it too: so an opening is claimed with all that was there, or not at all.
type Window struct {
	Meta
	ID          string // mw- and 17 hex digits
	Name        string
	Description string
	// Schedule to EndDate are as the request had them.
	Schedule         string
	ScheduleTimezone string
	ScheduleOffset   int
	StartDate        string
	EndDate          string
	// Duration and Cutoff are hours.
	Duration                 int
	Cutoff                   int
	AllowUnassociatedTargets bool
	Enabled                  bool
	CreatedAt                time.Time
	ModifiedAt               time.Time
	// ScheduledAt is when it was made, or its schedule last changed: a rate counts
	// from it.
	ScheduledAt time.Time
	// OpensAfter: an opening up to then is none, such as those before it was enabled.
	OpensAfter time.Time
	Caller     string
	Tags       map[string]string
	// ClientToken made the window; Request is the hex SHA-256 of what else was asked.
	ClientToken string
	Request     string
}

// Tags of a window that the leader goes by.
const (
	// WindowTagMissed says what becomes of an opening at which nobody led: "run" (also
	// without the tag) runs it late while its duration allows, "skip" does not.
	WindowTagMissed = "mesh:missed"
	// WindowTagResume, "true", lets an opening take up what the one before could not
	// finish.
	WindowTagResume = "mesh:resume"
)

// Timetable is when the window opens, enabled or not. An error is
// schedule.ErrInvalid.
func (w *Window) Timetable() (*schedule.Timetable, error) {
	parsed, err := schedule.Parse(w.Schedule, schedule.Window)
	if err != nil {
		return nil, err
	}
	terms := schedule.Terms{Offset: w.ScheduleOffset, Since: w.ScheduledAt}
	if w.ScheduleTimezone != "" {
		if terms.Zone, err = schedule.Zone(w.ScheduleTimezone); err != nil {
			return nil, err
		}
	}
	if w.StartDate != "" {
		if terms.Start, err = schedule.Date(w.StartDate); err != nil {
			return nil, err
		}
	}
	if w.EndDate != "" {
		if terms.End, err = schedule.Date(w.EndDate); err != nil {
			return nil, err
		}
	}
	return parsed.With(terms)
}

// WindowTarget is a target registered with a window.
type WindowTarget struct {
	Meta
	WindowID string
	ID       string // UUID
	// Definition has the members of RegisterTargetWithMaintenanceWindow, but for
	// WindowId and ClientToken, as they came over the wire.
	Definition json.RawMessage
	CreatedAt  time.Time
	// ClientToken and Request are as a window's.
	ClientToken string
	Request     string
}

// WindowTask is a task registered with a window; its fields are as a target's.
type WindowTask struct {
	Meta
	WindowID    string
	ID          string
	Definition  json.RawMessage
	CreatedAt   time.Time
	ClientToken string
	Request     string
}

// windowByToken is what a client token made.
type windowByToken struct {
	WindowID string
	ID       string // of the target or task
}

const (
	windowPrefix              = "window/"
	windowByTokenPrefix       = "window-by-token/"
	windowTargetPrefix        = "window-target/"
	windowTargetByTokenPrefix = "window-target-by-token/"
	windowTaskPrefix          = "window-task/"
	windowTaskByTokenPrefix   = "window-task-by-token/"

	windowVersion        = 1
	windowByTokenVersion = 1
	windowTargetVersion  = 1
	windowTaskVersion    = 1
)

// WindowPrefix is what to watch to learn of changed windows, and of what is
// registered with them.
const WindowPrefix = windowPrefix

// GetWindow returns the window with this id, or ErrNotFound.
func GetWindow(r Reader, id string) (Window, error) {
	var w Window
	index, found, err := getRecord(r, windowPrefix+id, windowVersion, &w)
	if err == nil && !found {
		err = ErrNotFound
	}
	w.ModifyIndex = index
	return w, err
}

// GetWindowByToken returns the window that a client token made, or ErrNotFound.
func GetWindowByToken(r Reader, token string) (Window, error) {
	ref, err := getByToken(r, windowByTokenPrefix, token)
	if err != nil {
		return Window{}, err
	}
	return GetWindow(r, ref.WindowID)
}

func getByToken(r Reader, prefix, token string) (windowByToken, error) {
	var ref windowByToken
	_, found, err := getRecord(r, prefix+token, windowByTokenVersion, &ref)
	if err == nil && !found {
		err = ErrNotFound
	}
	return ref, err
}

// ScanWindows calls fn for each window with an id >= start, in order of ids, until
// fn returns false.
func ScanWindows(r Reader, start string, fn func(Window) bool) error {
	return scanRecords(r, windowPrefix, start, windowVersion, func(w Window, index uint64) bool {
		w.ModifyIndex = index
		return fn(w)
	})
}

// CountWindows returns how many windows there are.
func CountWindows(r Reader) int { return countKeys(r, windowPrefix) }

// PutWindow writes w, requiring that it is unchanged since it was read.
func (t *Txn) PutWindow(w Window) {
	t.Require(windowPrefix+w.ID, w.ModifyIndex)
	t.Put(windowPrefix+w.ID, encodeRecord(windowVersion, w))
	if w.ModifyIndex == 0 {
		t.putByToken(windowByTokenPrefix, w.ClientToken, windowByToken{WindowID: w.ID})
	}
}

func (t *Txn) putByToken(prefix, token string, ref windowByToken) {
	if token == "" {
		return
	}
	t.Require(prefix+token, 0)
	t.Put(prefix+token, encodeRecord(windowByTokenVersion, ref))
}

func (t *Txn) deleteByToken(prefix, token string) {
	if token != "" {
		t.Delete(prefix + token)
	}
}

// RequireWindow adds the precondition that w, and what is registered with it, is
// unchanged since it was read.
func (t *Txn) RequireWindow(w Window) { t.Require(windowPrefix+w.ID, w.ModifyIndex) }

// DeleteWindow deletes w with all that is registered with it, requiring that it is
// unchanged. Its executions stay until their time is over.
func (t *Txn) DeleteWindow(r Reader, w Window) error {
	t.RequireWindow(w)
	t.Delete(windowPrefix + w.ID)
	t.Delete(windowStatePrefix + w.ID)
	t.deleteByToken(windowByTokenPrefix, w.ClientToken)
	return errors.Join(
		ScanWindowTargets(r, w.ID, "", func(target WindowTarget) bool {
			t.DeleteWindowTarget(target)
			return true
		}),
		ScanWindowTasks(r, w.ID, "", func(task WindowTask) bool {
			t.DeleteWindowTask(task)
			return true
		}))
}

// GetWindowTarget returns a registered target, or ErrNotFound.
func GetWindowTarget(r Reader, windowID, id string) (WindowTarget, error) {
	var target WindowTarget
	index, found, err := getRecord(r, windowTargetPrefix+windowID+"/"+id, windowTargetVersion, &target)
	if err == nil && !found {
		err = ErrNotFound
	}
	target.ModifyIndex = index
	return target, err
}

// GetWindowTargetByToken returns the target that a client token made, or ErrNotFound.
func GetWindowTargetByToken(r Reader, token string) (WindowTarget, error) {
	ref, err := getByToken(r, windowTargetByTokenPrefix, token)
	if err != nil {
		return WindowTarget{}, err
	}
	return GetWindowTarget(r, ref.WindowID, ref.ID)
}

// ScanWindowTargets calls fn for each target of a window with an id >= start, in
// order of ids, until fn returns false.
func ScanWindowTargets(r Reader, windowID, start string, fn func(WindowTarget) bool) error {
	return scanRecords(r, windowTargetPrefix+windowID+"/", start, windowTargetVersion, func(target WindowTarget, index uint64) bool {
		target.ModifyIndex = index
		return fn(target)
	})
}

// PutWindowTarget writes a target, requiring that it is unchanged since it was read.
// The window is for the caller to put too.
func (t *Txn) PutWindowTarget(target WindowTarget) {
	key := windowTargetPrefix + target.WindowID + "/" + target.ID
	t.Require(key, target.ModifyIndex)
	t.Put(key, encodeRecord(windowTargetVersion, target))
	if target.ModifyIndex == 0 {
		t.putByToken(windowTargetByTokenPrefix, target.ClientToken, windowByToken{WindowID: target.WindowID, ID: target.ID})
	}
}

// DeleteWindowTarget deletes a target. The window is for the caller to put too.
func (t *Txn) DeleteWindowTarget(target WindowTarget) {
	t.Delete(windowTargetPrefix + target.WindowID + "/" + target.ID)
	t.deleteByToken(windowTargetByTokenPrefix, target.ClientToken)
}

// GetWindowTask returns a registered task, or ErrNotFound.
func GetWindowTask(r Reader, windowID, id string) (WindowTask, error) {
	var task WindowTask
	index, found, err := getRecord(r, windowTaskPrefix+windowID+"/"+id, windowTaskVersion, &task)
	if err == nil && !found {
		err = ErrNotFound
	}
	task.ModifyIndex = index
	return task, err
}

// GetWindowTaskByToken returns the task that a client token made, or ErrNotFound.
func GetWindowTaskByToken(r Reader, token string) (WindowTask, error) {
	ref, err := getByToken(r, windowTaskByTokenPrefix, token)
	if err != nil {
		return WindowTask{}, err
	}
	return GetWindowTask(r, ref.WindowID, ref.ID)
}

// ScanWindowTasks calls fn for each task of a window with an id >= start, in order
// of ids, until fn returns false.
func ScanWindowTasks(r Reader, windowID, start string, fn func(WindowTask) bool) error {
	return scanRecords(r, windowTaskPrefix+windowID+"/", start, windowTaskVersion, func(task WindowTask, index uint64) bool {
		task.ModifyIndex = index
		return fn(task)
	})
}

// PutWindowTask writes a task, requiring that it is unchanged since it was read. The
// window is for the caller to put too.
func (t *Txn) PutWindowTask(task WindowTask) {
	key := windowTaskPrefix + task.WindowID + "/" + task.ID
	t.Require(key, task.ModifyIndex)
	t.Put(key, encodeRecord(windowTaskVersion, task))
	if task.ModifyIndex == 0 {
		t.putByToken(windowTaskByTokenPrefix, task.ClientToken, windowByToken{WindowID: task.WindowID, ID: task.ID})
	}
}

// DeleteWindowTask deletes a task. The window is for the caller to put too.
func (t *Txn) DeleteWindowTask(task WindowTask) {
	t.Delete(windowTaskPrefix + task.WindowID + "/" + task.ID)
	t.deleteByToken(windowTaskByTokenPrefix, task.ClientToken)
}
