package leader

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/raftstore"
)

// Statuses of executions, of their tasks and of these tasks' invocations.
const (
	windowInProgress = string(types.MaintenanceWindowExecutionStatusInProgress)
	windowPending    = string(types.MaintenanceWindowExecutionStatusPending)
	windowSuccess    = string(types.MaintenanceWindowExecutionStatusSuccess)
	windowFailed     = string(types.MaintenanceWindowExecutionStatusFailed)
	windowTimedOut   = string(types.MaintenanceWindowExecutionStatusTimedOut)
	windowCancelling = string(types.MaintenanceWindowExecutionStatusCancelling)
	windowCancelled  = string(types.MaintenanceWindowExecutionStatusCancelled)
	windowOverlaps   = string(types.MaintenanceWindowExecutionStatusSkippedOverlapping)
)

const (
	// lateAfter is how long after its time an opening still counts as on time: a change
	// of the leader takes seconds.
	lateAfter = time.Minute
	// maxClaims bounds the openings that are claimed in one transaction.
	maxClaims = 100
	// maxDetails bounds StatusDetails, in characters.
	maxDetails = 250
)

// windowIDs is the name space of all ids that follow from others.
var windowIDs = uuid.MustParse("5d1f2c8e-6a53-4b52-9b7e-0f3c1a7d9e24")

// derivedID is always the same for the same parts: so a leader that goes on with
// what another began makes nothing twice.
func derivedID(parts ...string) string {
	return uuid.NewSHA1(windowIDs, []byte(strings.Join(parts, "/"))).String()
}

func executionID(windowID string, at time.Time) string {
	return derivedID(windowID, strconv.FormatInt(at.Unix(), 10))
}
func taskExecutionID(executionID, taskID string) string { return derivedID(executionID, taskID) }
func windowInvocationID(taskExecutionID string, run int) string {
	return derivedID(taskExecutionID, strconv.Itoa(run))
}
func windowCommandID(invocationID string) string { return derivedID(invocationID, "command") }

// openings tells when a window opens; *schedule.Timetable is one.
type openings interface {
	Next(after time.Time) (time.Time, bool)
}

// windowView is a window at one moment.
type windowView struct {
	window    raftstore.Window
	state     raftstore.WindowState
	timetable openings
	// running is the execution that has not ended, "" without one.
	running string
}

// handledUntil is the moment after which openings are still to be claimed.
func (v *windowView) handledUntil() time.Time {
	if v.window.OpensAfter.After(v.state.HandledUntil) {
		return v.window.OpensAfter
	}
	return v.state.HandledUntil
}

// next is the first opening that is not claimed.
func (v *windowView) next() (time.Time, bool) {
	if !v.window.Enabled {
		return time.Time{}, false
	}
	return v.timetable.Next(v.handledUntil())
}

// claims decides what becomes of the openings that are due, oldest first. The last
// one may be to run; it has no end yet, and what comes after it is decided next time.
// state is how far the leader has come then; changed says whether anything is to be
// written.
func claims(v *windowView, epoch uint64, now time.Time) (due []raftstore.WindowExecution, state raftstore.WindowState, changed bool) {
	state = v.state
	restored := state.Epoch != epoch
	for at, ok := v.next(); ok && !at.After(now) && len(due) < maxClaims; at, ok = v.timetable.Next(at) {
		x := claim(v, at, epoch, restored, now)
		due = append(due, x)
		state.HandledUntil = at.UTC()
		if x.EndedAt.IsZero() {
			return due, state, true
		}
	}
	if restored && len(due) < maxClaims {
		// All that may have been claimed since the snapshot was saved is behind us.
		state.Epoch = epoch
		if now.After(state.HandledUntil) {
			state.HandledUntil = now
		}
	}
	return due, state, state != v.state
}

// claim decides what becomes of one opening.
func claim(v *windowView, at time.Time, epoch uint64, restored bool, now time.Time) raftstore.WindowExecution {
	w := &v.window
	closes := at.Add(time.Duration(w.Duration) * time.Hour)
	x := raftstore.WindowExecution{
		ID: executionID(w.ID, at), WindowID: w.ID, ScheduledAt: at.UTC(), StartedAt: now,
		CutoffAt: closes.Add(-time.Duration(w.Cutoff) * time.Hour).UTC(), ClosesAt: closes.UTC(), Status: windowInProgress, Epoch: epoch,
	}
	none := func(status string, missed bool, format string, args ...any) raftstore.WindowExecution {
		x.Status, x.StatusDetails, x.Missed = status, first(fmt.Sprintf(format, args...), maxDetails), missed
		x.StartedAt, x.EndedAt = x.ScheduledAt, now
		return x
	}
	late := now.Sub(at)
	switch {
	case restored:
		return none(windowTimedOut, true, "missed: the mesh was restored from a snapshot, and whether this opening ran before is not known")
	case !now.Before(x.CutoffAt):
		return none(windowTimedOut, true, "missed: no leader took it up before its cutoff at %s", x.CutoffAt.Format(time.RFC3339))
	case late > lateAfter && w.Tags[raftstore.WindowTagMissed] == "skip":
		return none(windowTimedOut, true, "missed: no leader took it up for %s, and the tag %s is skip", late.Round(time.Second), raftstore.WindowTagMissed)
	case v.running != "":
		return none(windowOverlaps, false, "the execution %s of an earlier opening was still running", v.running)
	case late > lateAfter:
		x.StatusDetails = fmt.Sprintf("late: it opened at %s and no leader took it up for %s", x.ScheduledAt.Format(time.RFC3339), late.Round(time.Second))
	}
	return x
}

// executionView is an execution that has not ended, at one moment.
type executionView struct {
	execution raftstore.WindowExecution
	plan      raftstore.WindowPlan
	tasks     map[string]raftstore.WindowTaskExecution
	// invocations are those of each task execution, by the place of their run.
	invocations map[string]map[int]raftstore.WindowInvocation
	commands    map[string]commandView
	// cancelled: somebody asked to cancel the execution.
	cancelled bool
}

// commandView is a command of an invocation.
type commandView struct {
	state raftstore.CommandState
	// cancelling: it is being cancelled already.
	cancelling bool
}

// plannedRun is a run that is to begin.
type plannedRun struct {
	task int // its place among the plan's
	run  int
	// errors is how many nodes counted as errors in the runs before.
	errors int
}

// executionStep is what is to be done next with an execution.
type executionStep struct {
	execution   raftstore.WindowExecution
	tasks       []raftstore.WindowTaskExecution
	invocations []raftstore.WindowInvocation
	// changed: execution, tasks and invocations are to be written.
	changed bool
	// starts and cancels are for when nothing has changed.
	starts []plannedRun
	// cancels are commands.
	cancels []string
}

// decideExecution decides the next step of an execution.
func decideExecution(v *executionView, definitions []windowTask, epoch uint64, now time.Time) executionStep {
	step := executionStep{execution: v.execution}
	x := &step.execution
	if x.Epoch != epoch {
		return v.restored(now)
	}
	if v.cancelled && x.Status == windowInProgress {
		x.Status, step.changed = windowCancelling, true
	}
	group, open := int32(0), false // the priority that is at work
	for i := range v.plan.Tasks {
		if state := v.tasks[v.plan.Tasks[i].ID]; state.EndedAt.IsZero() {
			group, open = definitions[i].priority(), true
			break
		}
	}
	if !open {
		v.end(&step, now)
		return step
	}
	for i := range v.plan.Tasks {
		state := v.tasks[v.plan.Tasks[i].ID]
		cutoff := !now.Before(x.CutoffAt)
		put := func(status, details string) {
			state.Status, state.StatusDetails = status, first(details, maxDetails)
			if state.StartedAt.IsZero() {
				state.StartedAt = now
			}
			if status != windowInProgress {
				state.EndedAt = now
			}
			step.tasks, step.changed = append(step.tasks, state), true
		}
		switch {
		case !state.EndedAt.IsZero():
		case !state.StartedAt.IsZero():
			v.decideTask(&step, i, definitions[i], put, now)
		case v.cancelled:
			put(windowCancelled, "the execution was cancelled before the task began")
		case cutoff:
			x.Unfinished = true
			put(windowTimedOut, "the cutoff came before the task began")
		case definitions[i].priority() != group:
		case definitions[i].TaskType != types.MaintenanceWindowTaskTypeRunCommand:
			put(windowFailed, fmt.Sprintf("tasks of type %s need runbooks, which this version of the mesh does not run", definitions[i].TaskType))
		default:
			put(windowInProgress, "")
		}
	}
	return step
}

// decideTask decides the next step of a task that has begun. Its runs are done one
// after another.
func (v *executionView) decideTask(step *executionStep, at int, task windowTask, put func(status, details string), now time.Time) {
	x := &step.execution
	planned := v.plan.Tasks[at]
	cancels := !now.Before(x.CutoffAt) && task.CutoffBehavior == types.MaintenanceWindowTaskCutoffBehaviorCancelTask
	ended := map[string]int{}
	errors, stopped, done := 0, false, 0
	for n, run := range planned.Runs {
		if run.Done {
			done++
			continue
		}
		i, begun := v.invocations[planned.ID][n]
		switch {
		case begun && !i.EndedAt.IsZero():
			ended[i.Status]++
			errors += i.Errors
			stopped = stopped || i.Stopped
			continue
		case begun:
			c, known := v.commands[i.CommandID]
			if known && c.state.FinishedAt.IsZero() {
				if cancels && !c.cancelling {
					step.cancels = append(step.cancels, i.CommandID)
				}
				return
			}
			step.invocations, step.changed = append(step.invocations, endInvocation(i, c.state, known, cancels, now)), true
			return
		case stopped || task.stops(errors):
			put(windowFailed, fmt.Sprintf("stopped after %s: %s not begun", counted(errors, "error"), counted(len(planned.Runs)-n, "target")))
			return
		case cancels:
			x.Unfinished = true
			put(windowTimedOut, fmt.Sprintf("the cutoff came: %s not begun", counted(len(planned.Runs)-n, "target")))
			return
		}
		step.starts = append(step.starts, plannedRun{task: at, run: n, errors: errors})
		return
	}
	switch {
	case done == len(planned.Runs) && done > 0:
		put(windowSuccess, "an earlier opening has done it")
	case cancels && ended[windowTimedOut] > 0:
		x.Unfinished = true
		put(windowTimedOut, "the cutoff came before the end of the task")
	default:
		put(worst(ended), "")
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// endInvocation ends an invocation as its command has.
func endInvocation(i raftstore.WindowInvocation, command raftstore.CommandState, known, cutOff bool, now time.Time) raftstore.WindowInvocation {
	i.EndedAt = now
	if !known {
		i.Status, i.StatusDetails, i.Stopped = windowFailed, "the command is not there any more", true
		return i
	}
	if i.EndedAt = command.FinishedAt; i.EndedAt.Before(i.StartedAt) {
		i.EndedAt = i.StartedAt // another leader's clock
	}
	i.Errors, i.Stopped = command.ErrorCount, command.Stopped
	i.StatusDetails = first(strings.TrimPrefix(i.StatusDetails+"; "+command.StatusDetails, "; "), maxDetails)
	switch types.CommandStatus(command.Status) {
	case types.CommandStatusSuccess:
		i.Status = windowSuccess
		return i
	case types.CommandStatusTimedOut:
		i.Status = windowTimedOut
	case types.CommandStatusCancelled:
		i.Status = windowCancelled
	default:
		i.Status = windowFailed
	}
	if cutOff && command.Cancelling {
		i.Status, i.StatusDetails = windowTimedOut, "the cutoff cancelled the command"
	}
	return i
}

// worst is the status of what has parts that have ended so.
func worst(ended map[string]int) string {
	for _, status := range []string{windowFailed, windowTimedOut, windowCancelled} {
		if ended[status] > 0 {
			return status
		}
	}
	return windowSuccess
}

// end ends an execution whose tasks have all ended.
func (v *executionView) end(step *executionStep, now time.Time) {
	ended := map[string]int{}
	for _, task := range v.tasks {
		ended[task.Status]++
	}
	x := &step.execution
	x.Status, x.EndedAt, step.changed = worst(ended), now, true
	switch {
	case v.cancelled && ended[windowCancelled] > 0:
		x.Status = windowCancelled
	case len(v.plan.Tasks) == 0:
		x.Status, x.StatusDetails = windowFailed, "no tasks are registered with the window"
	}
}

// restored ends an execution of before a snapshot was restored: nothing of it goes
// on, as of a command.
func (v *executionView) restored(now time.Time) executionStep {
	const details = "the mesh was restored from a snapshot"
	step := executionStep{execution: v.execution, changed: true}
	for _, task := range v.tasks {
		for _, i := range v.invocations[task.ID] {
			if i.EndedAt.IsZero() {
				i.Status, i.StatusDetails, i.EndedAt = windowFailed, details, now
				step.invocations = append(step.invocations, i)
			}
		}
		if task.EndedAt.IsZero() {
			if task.StartedAt.IsZero() {
				task.StartedAt = now
			}
			task.Status, task.StatusDetails, task.EndedAt = windowFailed, details, now
			step.tasks = append(step.tasks, task)
		}
	}
	step.execution.Status, step.execution.StatusDetails, step.execution.EndedAt = windowFailed, details, now
	return step
}

// windowTask is a task as its plan has it.
type windowTask struct {
	*ssm.RegisterTaskWithMaintenanceWindowInput
}

// priority is the task's; 0 comes first.
func (t *windowTask) priority() int32 {
	if t.Priority == nil {
		return 1
	}
	return *t.Priority
}

// mostErrors is MaxErrors as a number; ok is false for a percentage, which each
// command counts by itself.
func (t *windowTask) mostErrors() (n int, ok bool) {
	n, err := strconv.Atoi(aws.ToString(t.MaxErrors))
	return n, err == nil
}

// stops reports whether so many errors end the task.
func (t *windowTask) stops(errors int) bool {
	most, ok := t.mostErrors()
	return ok && errors > most
}
