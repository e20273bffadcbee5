package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

// windows opens maintenance windows and sees their executions through. It is the
// only writer of claims and executions while this node leads. It keeps nothing but
// timetables: what it does next follows from the store and the time alone.
type windows struct {
	store   Records
	compose func(r raftstore.Reader, in *ssm.SendCommandInput, id, caller string, now time.Time) (raftstore.Command, raftstore.CommandState, string, error)
	now     func() time.Time
	log     *slog.Logger
	// timetables are those of the windows as they were read last.
	timetables map[string]windowTimetable
	// unreadable are executions that this program cannot go on with; others go on.
	unreadable map[string]bool
	// unknownPause is as the constant.
	unknownPause time.Duration
}

type windowTimetable struct {
	modifyIndex uint64
	timetable   openings // nil for one that cannot be read
}

func newWindows(cfg Config) *windows {
	return &windows{store: cfg.Store, compose: cfg.Compose, now: cfg.Now, log: cfg.Log, timetables: map[string]windowTimetable{}, unreadable: map[string]bool{}, unknownPause: unknownPause}
}

// keepWindows works until ctx ends or something goes wrong.
func keepWindows(ctx context.Context, cfg Config) error {
	watch := cfg.Store.Watch(raftstore.WindowPrefix, raftstore.WindowCancelPrefix, raftstore.ActiveCommandPrefix)
	defer watch.Stop()
	w := newWindows(cfg)
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		next, err := w.work(ctx)
		if err != nil {
			return err
		}
		wait := idlePause
		if !next.IsZero() {
			wait = min(max(next.Sub(w.now()), 0), idlePause)
		}
		wake.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watch.C:
		case <-wake.C:
		}
	}
}

// work does all that is to be done now, one transaction after another. It returns
// when the time brings the next, zero for never.
func (w *windows) work(ctx context.Context) (next time.Time, err error) {
	for {
		var txn raftstore.Txn
		err := w.store.View(func(r raftstore.Reader) (err error) {
			txn, next, err = w.step(r)
			return err
		})
		if err != nil || len(txn.Ops) == 0 {
			return next, err
		}
		switch _, err := w.store.Apply(ctx, txn); {
		case errors.Is(err, raftstore.ErrConflict): // somebody was quicker: look again
		case errors.Is(err, raftstore.ErrUnknownOutcome) && ctx.Err() == nil:
			pause(ctx, w.unknownPause) // the preconditions tell whether it was done
		case err != nil:
			return next, fmt.Errorf("go on with maintenance windows: %w", err)
		}
	}
}

// step is the next transaction, an empty one when there is nothing to do until next.
func (w *windows) step(r raftstore.Reader) (txn raftstore.Txn, next time.Time, err error) {
	mesh, err := raftstore.GetMesh(r)
	if err != nil {
		return txn, next, fmt.Errorf("read the mesh's record: %w", err)
	}
	now := w.now()
	soon := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	running := map[string]string{}
	for _, id := range raftstore.ActiveWindowExecutions(r) {
		v, err := lookAtExecution(r, id)
		if err == nil {
			running[v.execution.WindowID] = id
			txn, err = w.execute(r, v, mesh.Epoch, now)
		}
		if err != nil {
			if !w.unreadable[id] {
				w.log.Error("an execution of a maintenance window cannot be gone on with and is left alone", "execution", id, "error", err)
			}
			w.unreadable[id] = true
			txn = raftstore.Txn{}
			continue
		}
		delete(w.unreadable, id)
		if len(txn.Ops) > 0 {
			return txn, next, nil
		}
		if now.Before(v.execution.CutoffAt) {
			soon(v.execution.CutoffAt)
		}
	}
	var failed error
	err = raftstore.ScanWindows(r, "", func(window raftstore.Window) bool {
		timetable := w.timetable(&window)
		if timetable == nil || !window.Enabled {
			return true
		}
		v := windowView{window: window, timetable: timetable, running: running[window.ID]}
		if v.state, failed = raftstore.GetWindowState(r, window.ID); failed != nil {
			return false
		}
		due, state, changed := claims(&v, mesh.Epoch, now)
		if changed {
			txn, failed = w.claim(r, &window, due, state)
			return false
		}
		if at, ok := v.next(); ok {
			soon(at)
		}
		return true
	})
	return txn, next, errors.Join(err, failed)
}

// timetable is a window's, nil when it cannot be read: then it does not open.
func (w *windows) timetable(window *raftstore.Window) openings {
	t, known := w.timetables[window.ID]
	if known && t.modifyIndex == window.ModifyIndex {
		return t.timetable
	}
	t = windowTimetable{modifyIndex: window.ModifyIndex}
	if timetable, err := window.Timetable(); err != nil {
		w.log.Error("a maintenance window does not open, since its schedule cannot be read", "window", window.ID, "error", err)
	} else {
		t.timetable = timetable
	}
	w.timetables[window.ID] = t
	return t.timetable
}

// claim writes what becomes of the openings of a window that are due.
func (w *windows) claim(r raftstore.Reader, window *raftstore.Window, due []raftstore.WindowExecution, state raftstore.WindowState) (raftstore.Txn, error) {
	var txn raftstore.Txn
	txn.RequireWindow(*window)
	txn.PutWindowState(state)
	for _, x := range due {
		if x.EndedAt.IsZero() {
			plan, resumes, err := plannedExecution(r, x, window)
			if err != nil {
				return txn, err
			}
			x.Resumes = resumes
			txn.PutNewWindowPlan(plan)
			for _, task := range plan.Tasks {
				txn.PutWindowTaskExecution(raftstore.WindowTaskExecution{ExecutionID: x.ID, ID: task.ID, TaskID: task.TaskID, Status: windowPending})
			}
		}
		txn.ClaimOpening(x)
		w.log.Info("a maintenance window's opening is claimed", "window", window.ID, "name", window.Name, "opening", x.ScheduledAt, "execution", x.ID, "status", x.Status, "details", x.StatusDetails)
	}
	return txn, nil
}

// plannedExecution freezes what an execution is to do, and says which it takes up.
func plannedExecution(r raftstore.Reader, x raftstore.WindowExecution, window *raftstore.Window) (plan raftstore.WindowPlan, resumes string, err error) {
	var is registered
	err = errors.Join(
		raftstore.ScanWindowTasks(r, window.ID, "", func(t raftstore.WindowTask) bool {
			is.tasks = append(is.tasks, t)
			return true
		}),
		raftstore.ScanWindowTargets(r, window.ID, "", func(t raftstore.WindowTarget) bool {
			is.targets = append(is.targets, t)
			return true
		}))
	if err != nil {
		return plan, "", err
	}
	var before *executionView
	if window.Tags[raftstore.WindowTagResume] == "true" {
		if before, err = lastUnfinished(r, window.ID); err != nil {
			return plan, "", err
		}
		if before != nil {
			resumes = before.execution.ID
		}
	}
	plan, err = planExecution(x, window, is, before, func(commandID string) bool {
		state, err := raftstore.GetCommandState(r, commandID)
		if err != nil || state.FinishedAt.IsZero() {
			return false
		}
		nodes, err := raftstore.UnsuccessfulNodes(r, commandID)
		return err == nil && len(nodes) > 0
	})
	return plan, resumes, err
}

// lastUnfinished is the last execution of a window that ran anything, when it could
// not finish before its cutoff, else nil.
func lastUnfinished(r raftstore.Reader, windowID string) (v *executionView, err error) {
	var failed error
	err = raftstore.ScanWindowExecutions(r, windowID, "", func(_, id string) bool {
		var x raftstore.WindowExecution
		x, failed = raftstore.GetWindowExecution(r, id)
		switch {
		case failed != nil || x.Missed || x.Status == windowOverlaps:
			return failed == nil
		case x.Unfinished:
			v, failed = lookAtExecution(r, id)
		}
		return false
	})
	return v, errors.Join(err, failed)
}

// lookAtExecution reads an execution with all that belongs to it.
func lookAtExecution(r raftstore.Reader, id string) (*executionView, error) {
	v := &executionView{
		tasks: map[string]raftstore.WindowTaskExecution{}, invocations: map[string]map[int]raftstore.WindowInvocation{}, commands: map[string]commandView{},
	}
	var err error
	if v.execution, err = raftstore.GetWindowExecution(r, id); err != nil {
		return nil, fmt.Errorf("read execution %s: %w", id, err)
	}
	if v.plan, err = raftstore.GetWindowPlan(r, id); err != nil {
		return nil, fmt.Errorf("read the plan of execution %s: %w", id, err)
	}
	_, err = raftstore.GetWindowCancel(r, id)
	if v.cancelled = err == nil; err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	var failed error
	err = errors.Join(
		raftstore.ScanWindowTaskExecutions(r, id, func(task raftstore.WindowTaskExecution) bool {
			v.tasks[task.ID] = task
			return true
		}),
		raftstore.ScanWindowInvocations(r, id, "", func(i raftstore.WindowInvocation) bool {
			if v.invocations[i.TaskID] == nil {
				v.invocations[i.TaskID] = map[int]raftstore.WindowInvocation{}
			}
			v.invocations[i.TaskID][i.Run] = i
			if i.CommandID != "" && i.EndedAt.IsZero() {
				failed = v.lookAtCommand(r, i.CommandID)
			}
			return failed == nil
		}))
	return v, errors.Join(err, failed)
}

func (v *executionView) lookAtCommand(r raftstore.Reader, id string) error {
	state, err := raftstore.GetCommandState(r, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	request, err := raftstore.GetCommandCancel(r, id)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	v.commands[id] = commandView{state: state, cancelling: state.Cancelling || request.All}
	return nil
}

// execute is the next transaction of an execution.
func (w *windows) execute(r raftstore.Reader, v *executionView, epoch uint64, now time.Time) (txn raftstore.Txn, err error) {
	definitions := make([]windowTask, len(v.plan.Tasks))
	for i, task := range v.plan.Tasks {
		if definitions[i], err = readTask(task.Definition); err != nil {
			return txn, err
		}
	}
	step := decideExecution(v, definitions, epoch, now)
	if !step.changed && len(step.starts) == 0 && len(step.cancels) == 0 {
		return txn, nil
	}
	txn.PutWindowExecution(step.execution)
	if step.changed {
		for _, task := range step.tasks {
			txn.PutWindowTaskExecution(task)
		}
		for _, i := range step.invocations {
			txn.PutWindowInvocation(i)
		}
		if !step.execution.EndedAt.IsZero() {
			w.log.Info("an execution of a maintenance window has ended", "window", step.execution.WindowID, "execution", step.execution.ID, "status", step.execution.Status)
		}
		return txn, nil
	}
	if len(step.cancels) > 0 {
		err = cancelCommands(&txn, r, step.cancels, windowCaller(v.execution), now)
		return txn, err
	}
	err = w.begin(&txn, r, v, definitions, step.starts[0], now)
	return txn, err
}

// windowCaller is who commands of a window's execution are from.
func windowCaller(x raftstore.WindowExecution) string { return "maintenance-window/" + x.WindowID }

// cancelCommands asks to cancel commands that have not ended.
func cancelCommands(txn *raftstore.Txn, r raftstore.Reader, ids []string, caller string, now time.Time) error {
	for _, id := range ids {
		_, index, active := r.Get(raftstore.ActiveCommandPrefix + id)
		if !active {
			continue
		}
		request, err := raftstore.GetCommandCancel(r, id)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return err
		}
		request.CommandID, request.All, request.RequestedAt, request.Caller = id, true, now, caller
		txn.Require(raftstore.ActiveCommandPrefix+id, index)
		txn.PutCommandCancel(request)
	}
	return nil
}

// begin starts a run: its invocation and its command are written together.
func (w *windows) begin(txn *raftstore.Txn, r raftstore.Reader, v *executionView, definitions []windowTask, at plannedRun, now time.Time) error {
	var unreadable error
	in, i, left, problem := runCommand(v.execution, &v.plan, definitions[at.task], at, func(nodeID string) bool {
		_, err := raftstore.GetNode(r, nodeID)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			unreadable = err
		}
		return err == nil
	})
	if unreadable != nil {
		return unreadable
	}
	i.StartedAt = now
	if len(left) > 0 {
		i.StatusDetails = first(fmt.Sprintf("%s left out, not enrolled any more: %s and others", counted(len(left), "node"), left[0]), maxDetails)
		if len(left) == 1 {
			i.StatusDetails = "left out, not enrolled any more: " + left[0]
		}
	}
	if problem == "" {
		command, state, refusal, err := w.compose(r, in, windowCommandID(i.ID), windowCaller(v.execution), now)
		if err != nil {
			return err
		}
		if problem = refusal; problem == "" {
			i.CommandID, i.Parameters = command.ID, first(string(command.Input), maxParameters)
			txn.PutNewCommand(command, state)
		}
	}
	if problem != "" {
		// It counts as one error of the task, as if it had been one node.
		i.Status, i.StatusDetails, i.EndedAt, i.Errors = windowFailed, first(problem, maxDetails), now, 1
	}
	txn.PutWindowInvocation(i)
	return nil
}

// maxParameters bounds what an invocation shows of its command's input, in characters.
const maxParameters = 1024
