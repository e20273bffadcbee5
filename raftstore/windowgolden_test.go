package raftstore

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	goldenWindow       = "mw-0123456789abcdef0"
	goldenWindowTarget = "1b2c3d4e-5f60-4718-8920-a1b2c3d4e5f6"
	goldenWindowTask   = "2b2c3d4e-5f60-4718-8920-a1b2c3d4e5f6"
	goldenOpening      = "3b2c3d4e-5f60-5718-8920-a1b2c3d4e5f6"
	goldenTaskRun      = "4b2c3d4e-5f60-5718-8920-a1b2c3d4e5f6"
	goldenInvocation   = "5b2c3d4e-5f60-5718-8920-a1b2c3d4e5f6"
)

func goldenWindowExamples(at, later time.Time) map[string]func(*Txn) {
	return map[string]func(*Txn){
		"window": func(t *Txn) {
			t.PutWindow(Window{
				ID: goldenWindow, Name: "nightly", Description: "what for", Schedule: "cron(0 2 ? * SUN#1 *)", ScheduleTimezone: "Europe/Berlin", ScheduleOffset: 2,
				StartDate: "2026-12-01", EndDate: "2027-12-01", Duration: 4, Cutoff: 1, AllowUnassociatedTargets: true, Enabled: true,
				CreatedAt: at, ModifiedAt: later, ScheduledAt: at, OpensAfter: later, Caller: "AKIA0123456789ABCDEF",
				Tags: map[string]string{WindowTagMissed: "skip", WindowTagResume: "true"}, ClientToken: "token", Request: "e3b0",
			})
		},
		"window-target": func(t *Txn) {
			t.PutWindowTarget(WindowTarget{
				WindowID: goldenWindow, ID: goldenWindowTarget, Definition: json.RawMessage(`{"ResourceType":"INSTANCE"}`), CreatedAt: at, ClientToken: "token", Request: "e3b0",
			})
		},
		"window-task": func(t *Txn) {
			t.PutWindowTask(WindowTask{
				WindowID: goldenWindow, ID: goldenWindowTask, Definition: json.RawMessage(`{"TaskType":"RUN_COMMAND"}`), CreatedAt: at, ClientToken: "token", Request: "e3b0",
			})
		},
		"window-state": func(t *Txn) {
			t.PutWindowState(WindowState{WindowID: goldenWindow, HandledUntil: at, Epoch: 2})
		},
		"window-execution": func(t *Txn) {
			t.ClaimOpening(WindowExecution{
				ID: goldenOpening, WindowID: goldenWindow, ScheduledAt: at, StartedAt: at, CutoffAt: later, ClosesAt: later,
				Status: "IN_PROGRESS", StatusDetails: "late", Missed: true, Unfinished: true, Resumes: goldenTaskRun, Epoch: 2,
			})
		},
		"window-execution-ended": func(t *Txn) {
			t.PutWindowExecution(WindowExecution{Meta: Meta{ModifyIndex: 9}, ID: goldenOpening, WindowID: goldenWindow, Status: "SUCCESS", EndedAt: later})
		},
		"window-plan": func(t *Txn) {
			t.PutNewWindowPlan(WindowPlan{
				ExecutionID: goldenOpening, WindowName: "nightly",
				Tasks: []WindowPlanTask{{ID: goldenTaskRun, TaskID: goldenWindowTask, Definition: json.RawMessage(`{"TaskType":"RUN_COMMAND"}`),
					Runs: []WindowPlanRun{{TargetID: goldenWindowTarget, Unsuccessful: goldenRun, Done: true}, {NodeIDs: []string{"mi-0123456789abcdef0"}}}}},
				Targets: map[string]json.RawMessage{goldenWindowTarget: json.RawMessage(`{"ResourceType":"INSTANCE"}`)},
			})
		},
		"window-task-execution": func(t *Txn) {
			t.PutWindowTaskExecution(WindowTaskExecution{ExecutionID: goldenOpening, ID: goldenTaskRun, TaskID: goldenWindowTask, Status: "SUCCESS", StatusDetails: "why", StartedAt: at, EndedAt: later})
		},
		"window-invocation": func(t *Txn) {
			t.PutWindowInvocation(WindowInvocation{
				ExecutionID: goldenOpening, TaskID: goldenTaskRun, ID: goldenInvocation, Run: 1, WindowTargetID: goldenWindowTarget, OwnerInformation: "the site",
				CommandID: goldenRun, Parameters: "{}", Status: "FAILED", StatusDetails: "Failed", StartedAt: at, EndedAt: later, Errors: 2, Stopped: true,
			})
		},
		"window-cancel": func(t *Txn) {
			t.PutWindowCancel(WindowCancel{ExecutionID: goldenOpening, RequestedAt: at, Caller: "AKIA0123456789ABCDEF"}, WindowExecution{ID: goldenOpening})
		},
	}
}

// What is in the golden files of windows is read by today's code, whole.
func TestGoldenWindowRecordsAreRead(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 19, 30, 0, 123456789, time.UTC)
	r := memoryReader{}
	examples := goldenWindowExamples(at, at.Add(time.Hour))
	for kind := range examples {
		if kind == "window-execution-ended" {
			continue
		}
		data, err := os.ReadFile(filepath.Join("testdata", "golden", kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var records []goldenRecord
		if err := json.Unmarshal(data, &records); err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			if string(record.Value) != "null" {
				r[record.Key] = record.Value
			}
		}
	}
	again := func(kind string, err error, put func(*Txn)) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		var want, got Txn
		examples[kind](&want)
		put(&got)
		if !sameJSON(t, got.Ops[0].Value, want.Ops[0].Value) || got.Ops[0].Key != want.Ops[0].Key {
			t.Errorf("%s comes back as %s\n%s\nand was %s\n%s", kind, got.Ops[0].Key, got.Ops[0].Value, want.Ops[0].Key, want.Ops[0].Value)
		}
	}
	w, err := GetWindowByToken(r, "token")
	again("window", err, func(t *Txn) { t.PutWindow(w) })
	target, err := GetWindowTargetByToken(r, "token")
	again("window-target", err, func(t *Txn) { t.PutWindowTarget(target) })
	task, err := GetWindowTaskByToken(r, "token")
	again("window-task", err, func(t *Txn) { t.PutWindowTask(task) })
	state, err := GetWindowState(r, goldenWindow)
	again("window-state", err, func(t *Txn) { t.PutWindowState(state) })
	x, err := GetWindowExecution(r, goldenOpening)
	again("window-execution", err, func(t *Txn) { t.ClaimOpening(x) })
	plan, err := GetWindowPlan(r, goldenOpening)
	again("window-plan", err, func(t *Txn) { t.PutNewWindowPlan(plan) })
	taskRun, err := GetWindowTaskExecution(r, goldenOpening, goldenTaskRun)
	again("window-task-execution", err, func(t *Txn) { t.PutWindowTaskExecution(taskRun) })
	i, err := GetWindowInvocation(r, goldenOpening, goldenTaskRun, goldenInvocation)
	again("window-invocation", err, func(t *Txn) { t.PutWindowInvocation(i) })
	c, err := GetWindowCancel(r, goldenOpening)
	again("window-cancel", err, func(t *Txn) { t.PutWindowCancel(c, x) })
	if ids := ActiveWindowExecutions(r); len(ids) != 1 || ids[0] != goldenOpening {
		t.Errorf("active are %v", ids)
	}
}

// A deleted window leaves nothing but its executions, and a swept execution nothing at
// all.
func TestWindowsLeaveNothing(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 19, 30, 0, 0, time.UTC)
	r := memoryReader{}
	apply := func(txn Txn) {
		for _, op := range txn.Ops {
			if delete(r, op.Key); !op.Delete {
				r[op.Key] = op.Value
			}
		}
	}
	for kind, put := range goldenWindowExamples(at, at.Add(time.Hour)) {
		if kind == "window-execution-ended" || kind == "window-cancel" {
			continue
		}
		var txn Txn
		put(&txn)
		apply(txn)
	}
	if txn, err := SweepWindowExecution(r, goldenOpening); err != nil || len(txn.Ops) > 0 {
		t.Errorf("one that runs is swept: %+v, %v", txn, err)
	}
	var deleted Txn
	w, err := GetWindow(r, goldenWindow)
	if err == nil {
		err = deleted.DeleteWindow(r, w)
	}
	if err != nil {
		t.Fatal(err)
	}
	apply(deleted)
	x, err := GetWindowExecution(r, goldenOpening)
	if err != nil {
		t.Fatal(err)
	}
	x.EndedAt = at
	var end Txn
	end.PutWindowExecution(x)
	apply(end)
	swept, err := SweepWindowExecution(r, goldenOpening)
	if err != nil {
		t.Fatal(err)
	}
	apply(swept)
	for key := range r {
		t.Errorf("%s is left", key)
	}
}
