package leader

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

var windowDay = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// daily opens at 02:00 from windowDay on.
func daily(duration, cutoff int) *windowView {
	w := raftstore.Window{
		ID: "mw-1", Schedule: "cron(0 2 * * ? *)", Duration: duration, Cutoff: cutoff, Enabled: true,
		ScheduledAt: windowDay.Add(-time.Hour), OpensAfter: windowDay.Add(-time.Hour), Tags: map[string]string{},
	}
	timetable, err := w.Timetable()
	if err != nil {
		panic(err)
	}
	return &windowView{window: w, timetable: timetable, state: raftstore.WindowState{WindowID: w.ID, HandledUntil: windowDay.Add(-time.Hour), Epoch: 1}}
}

func TestClaims(t *testing.T) {
	at := func(d time.Duration) time.Time { return windowDay.Add(d) }
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		view  func(v *windowView)
		epoch uint64
		now   time.Time
		want  string // status of each opening that is due, with the beginning of its details
	}{
		{"not yet", nil, 1, at(-time.Second), ""},
		{"on time", nil, 1, at(0), "IN_PROGRESS"},
		{"some seconds later, as after a change of the leader", nil, 1, at(50 * time.Second), "IN_PROGRESS"},
		{"late, and the duration allows", nil, 1, at(2*time.Hour - time.Second), "IN_PROGRESS late:"},
		{"late, and the cutoff is over", nil, 1, at(2 * time.Hour), "TIMED_OUT missed: no leader took it up before its cutoff"},
		{"late, and it is not to run late", func(v *windowView) { v.window.Tags["mesh:missed"] = "skip" }, 1, at(2 * time.Minute), "TIMED_OUT missed: no leader took it up for 2m0s"},
		{"not to run late, and on time", func(v *windowView) { v.window.Tags["mesh:missed"] = "skip" }, 1, at(time.Minute), "IN_PROGRESS"},
		{"disabled", func(v *windowView) { v.window.Enabled = false }, 1, at(0), ""},
		{"enabled after it", func(v *windowView) { v.window.OpensAfter = at(time.Second) }, 1, at(time.Minute), ""},
		{"claimed before", func(v *windowView) { v.state.HandledUntil = at(0) }, 1, at(time.Minute), ""},
		{"the one before still runs", func(v *windowView) { v.running = "x" }, 1, at(0), "SKIPPED_OVERLAPPING the execution x"},
		{"two missed, one on time", nil, 1, at(2 * day), "TIMED_OUT missed|TIMED_OUT missed|IN_PROGRESS"},
		{"nothing is decided past one that runs", func(v *windowView) { v.window.Duration = 24 }, 1, at(day), "TIMED_OUT missed|IN_PROGRESS"},
		{"a snapshot was restored", nil, 2, at(day), "TIMED_OUT missed: the mesh was restored|TIMED_OUT missed: the mesh was restored"},
		{"a snapshot was restored before any opening", nil, 2, at(-time.Minute), ""},
	} {
		v := daily(3, 1)
		if c.view != nil {
			c.view(v)
		}
		due, state, changed := claims(v, c.epoch, c.now)
		var got []string
		for _, x := range due {
			got = append(got, strings.TrimSpace(x.Status+" "+x.StatusDetails))
			if x.ScheduledAt != x.ScheduledAt.UTC() || x.CutoffAt.Sub(x.ScheduledAt) != time.Duration(v.window.Duration-1)*time.Hour || x.Missed != strings.HasPrefix(x.StatusDetails, "missed") {
				t.Errorf("%s: %+v", c.name, x)
			}
			if state.HandledUntil.Before(x.ScheduledAt) {
				t.Errorf("%s: handled until %s, before %s", c.name, state.HandledUntil, x.ScheduledAt)
			}
		}
		want := strings.Split(c.want, "|")
		if c.want == "" {
			want = nil
		}
		fits := len(got) == len(want)
		for n := 0; fits && n < len(want); n++ {
			fits = strings.HasPrefix(got[n], want[n])
		}
		if !fits || changed != (len(due) > 0 || c.epoch != 1) || state.Epoch != c.epoch {
			t.Errorf("%s: %q, want %q; %+v, changed %v", c.name, got, want, state, changed)
		}
	}
}

// A long absence is written down in lots, and all of it.
func TestClaimsOfALongAbsence(t *testing.T) {
	v := daily(1, 0)
	now, total := windowDay.AddDate(1, 0, 0).Add(-time.Minute), 0
	for {
		due, state, changed := claims(v, 1, now)
		if !changed {
			break
		}
		if len(due) > maxClaims {
			t.Fatalf("%d at once", len(due))
		}
		total += len(due)
		v.state = state
	}
	if total != 365 {
		t.Errorf("%d openings, want 365", total)
	}
}

// Ids that follow from others are the same in all versions: another leader goes on by
// them.
func TestDerivedIDs(t *testing.T) {
	x := executionID("mw-0123456789abcdef0", windowDay)
	task := taskExecutionID(x, "8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f")
	i := windowInvocationID(task, 0)
	got := fmt.Sprintln(x, task, i, windowInvocationID(task, 1), windowCommandID(i))
	if got != goldenIDs+"\n" {
		t.Errorf("%s\nwant\n%s", got, goldenIDs)
	}
	if executionID("mw-0123456789abcdef0", windowDay.In(time.FixedZone("", 3600))) != x || executionID("mw-0123456789abcdef0", windowDay.Add(time.Second)) == x {
		t.Error("an execution's id follows from window and moment")
	}
}

const goldenIDs = "822002b5-7f50-5308-8c4e-c86d76a6602b 77612e26-1936-5cbd-a93c-3c88dd6d634d 47775dae-001b-5eb5-998d-5634220f500f " +
	"4b50f518-1f8b-526b-8e19-183dd5133491 d33a543c-4187-50e2-9222-7c2ed2e802f6"

// task is a task of a plan for one run at each target.
func task(priority int, targets int, more string) string {
	ids := make([]string, targets)
	for n := range ids {
		ids[n] = fmt.Sprintf(`"t%d"`, n)
	}
	return fmt.Sprintf(`{"TaskArn":"AWS-RunShellScript","TaskType":"RUN_COMMAND","Priority":%d,"MaxConcurrency":"1","MaxErrors":"1","Targets":[{"Key":"WindowTargetIds","Values":[%s]}]%s}`,
		priority, strings.Join(ids, ","), more)
}

const cancelTask = `,"CutoffBehavior":"CANCEL_TASK"`

// stage is an execution that tests let go on; its commands end as they say.
type stage struct {
	t           *testing.T
	v           *executionView
	definitions []windowTask
	now         time.Time
	epoch       uint64
}

// newStage begins an execution at windowDay, open for three hours with a cutoff of one.
func newStage(t *testing.T, tasks ...string) *stage {
	v := daily(3, 1)
	due, _, _ := claims(v, 1, windowDay)
	var is registered
	for n, definition := range tasks {
		is.tasks = append(is.tasks, raftstore.WindowTask{ID: fmt.Sprintf("task%d", n), Definition: json.RawMessage(definition)})
	}
	for n := range 3 {
		is.targets = append(is.targets, raftstore.WindowTarget{ID: fmt.Sprintf("t%d", n), Definition: json.RawMessage(`{"Targets":[{"Key":"tag:role","Values":["web"]}]}`)})
	}
	plan, err := planExecution(due[0], &v.window, is, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, now: windowDay, epoch: 1, v: &executionView{
		execution: due[0], plan: plan, tasks: map[string]raftstore.WindowTaskExecution{}, invocations: map[string]map[int]raftstore.WindowInvocation{}, commands: map[string]commandView{},
	}}
	for _, planned := range plan.Tasks {
		s.v.tasks[planned.ID] = raftstore.WindowTaskExecution{ID: planned.ID, TaskID: planned.TaskID, Status: windowPending}
		s.v.invocations[planned.ID] = map[int]raftstore.WindowInvocation{}
		definition, err := readTask(planned.Definition)
		if err != nil {
			t.Fatal(err)
		}
		s.definitions = append(s.definitions, definition)
	}
	return s
}

// settle does all that is to be done at this moment. Commands are named after task and
// run: task0/0.
func (s *stage) settle() {
	for range 100 {
		step := decideExecution(s.v, s.definitions, s.epoch, s.now)
		s.v.execution = step.execution
		switch {
		case step.changed:
			for _, task := range step.tasks {
				s.v.tasks[task.ID] = task
			}
			for _, i := range step.invocations {
				s.v.invocations[i.TaskID][i.Run] = i
			}
		case len(step.cancels) > 0:
			for _, id := range step.cancels {
				c := s.v.commands[id]
				c.cancelling = true
				s.v.commands[id] = c
			}
		case len(step.starts) > 0:
			at := step.starts[0]
			planned := s.v.plan.Tasks[at.task]
			id := fmt.Sprintf("%s/%d", planned.TaskID, at.run)
			s.v.invocations[planned.ID][at.run] = raftstore.WindowInvocation{TaskID: planned.ID, Run: at.run, CommandID: id, StartedAt: s.now, Status: windowInProgress}
			if _, again := s.v.commands[id]; again {
				s.t.Errorf("%s began twice", id)
			}
			s.v.commands[id] = commandView{}
		default:
			return
		}
		if !s.v.execution.EndedAt.IsZero() {
			return
		}
	}
	s.t.Fatal("it never rests")
}

func (s *stage) end(command, status string, errors int) {
	c := s.v.commands[command]
	c.state = raftstore.CommandState{Status: status, StatusDetails: status, ErrorCount: errors, FinishedAt: s.now, Cancelling: c.cancelling}
	s.v.commands[command] = c
	s.settle()
}

// is compares what there is: the execution, its tasks in the plan's order, and the
// commands that have begun.
func (s *stage) is(when, want string) {
	s.t.Helper()
	parts := []string{s.v.execution.Status}
	for _, planned := range s.v.plan.Tasks {
		part := s.v.tasks[planned.ID].Status
		for n := range planned.Runs {
			if i, begun := s.v.invocations[planned.ID][n]; begun {
				part += " " + i.CommandID + "=" + i.Status
			}
		}
		parts = append(parts, part)
	}
	if got := strings.Join(parts, "; "); got != want {
		s.t.Errorf("%s:\n%s, want\n%s", when, got, want)
	}
}

func TestPrioritiesRunOneAfterAnother(t *testing.T) {
	s := newStage(t, task(5, 1, ""), task(0, 1, ""), task(0, 1, ""), `{"TaskArn":"x","TaskType":"AUTOMATION","Priority":5}`)
	s.settle()
	s.is("equals begin together", "IN_PROGRESS; IN_PROGRESS task1/0=IN_PROGRESS; IN_PROGRESS task2/0=IN_PROGRESS; PENDING; PENDING")
	s.end("task1/0", "Failed", 2)
	s.is("one of two has failed", "IN_PROGRESS; FAILED task1/0=FAILED; IN_PROGRESS task2/0=IN_PROGRESS; PENDING; PENDING")
	s.end("task2/0", "Success", 0)
	s.is("the next group", "IN_PROGRESS; FAILED task1/0=FAILED; SUCCESS task2/0=SUCCESS; IN_PROGRESS task0/0=IN_PROGRESS; FAILED")
	s.end("task0/0", "Success", 0)
	s.is("the end", "FAILED; FAILED task1/0=FAILED; SUCCESS task2/0=SUCCESS; SUCCESS task0/0=SUCCESS; FAILED")
	if details := s.v.tasks[s.v.plan.Tasks[3].ID].StatusDetails; !strings.Contains(details, "runbooks") {
		t.Errorf("AUTOMATION says %q", details)
	}
}

func TestTargetsOfATaskRunOneAfterAnother(t *testing.T) {
	s := newStage(t, task(1, 3, ""))
	s.settle()
	s.is("begin", "IN_PROGRESS; IN_PROGRESS task0/0=IN_PROGRESS")
	s.end("task0/0", "Success", 1)
	s.is("the second target", "IN_PROGRESS; IN_PROGRESS task0/0=SUCCESS task0/1=IN_PROGRESS")
	s.end("task0/1", "Failed", 1)
	s.is("two errors with MaxErrors 1: the third does not begin", "FAILED; FAILED task0/0=SUCCESS task0/1=FAILED")
}

func TestCutoff(t *testing.T) {
	cutoff := windowDay.Add(2 * time.Hour)
	s := newStage(t, task(1, 2, ""), task(1, 2, cancelTask), task(2, 1, ""))
	s.settle()
	s.now = cutoff.Add(-time.Second)
	s.settle()
	s.is("before", "IN_PROGRESS; IN_PROGRESS task0/0=IN_PROGRESS; IN_PROGRESS task1/0=IN_PROGRESS; PENDING")
	s.now = cutoff
	s.settle()
	s.is("no task begins", "IN_PROGRESS; IN_PROGRESS task0/0=IN_PROGRESS; IN_PROGRESS task1/0=IN_PROGRESS; TIMED_OUT")
	if s.v.commands["task0/0"].cancelling || !s.v.commands["task1/0"].cancelling {
		t.Errorf("CONTINUE_TASK goes on and CANCEL_TASK is cancelled: %+v", s.v.commands)
	}
	s.end("task1/0", "Cancelled", 0)
	s.is("cancelled", "IN_PROGRESS; IN_PROGRESS task0/0=IN_PROGRESS; TIMED_OUT task1/0=TIMED_OUT; TIMED_OUT")
	s.now = cutoff.Add(3 * time.Hour)
	s.end("task0/0", "Success", 0)
	s.is("CONTINUE_TASK begins its next target, past the end too", "IN_PROGRESS; IN_PROGRESS task0/0=SUCCESS task0/1=IN_PROGRESS; TIMED_OUT task1/0=TIMED_OUT; TIMED_OUT")
	s.end("task0/1", "Success", 0)
	s.is("the end", "TIMED_OUT; SUCCESS task0/0=SUCCESS task0/1=SUCCESS; TIMED_OUT task1/0=TIMED_OUT; TIMED_OUT")
	if !s.v.execution.Unfinished {
		t.Error("it says nothing of what is left")
	}
}

func TestACancelledTaskThatEndsWellHasSuccess(t *testing.T) {
	s := newStage(t, task(1, 1, cancelTask))
	s.settle()
	s.now = windowDay.Add(2 * time.Hour)
	s.settle()
	s.end("task0/0", "Success", 0)
	s.is("the end", "SUCCESS; SUCCESS task0/0=SUCCESS")
	if s.v.execution.Unfinished {
		t.Error("nothing is left")
	}
}

func TestCancelOfAnExecution(t *testing.T) {
	s := newStage(t, task(1, 2, ""), task(2, 1, ""))
	s.settle()
	s.v.cancelled = true
	s.settle()
	s.is("what has not begun is cancelled", "CANCELLING; IN_PROGRESS task0/0=IN_PROGRESS; CANCELLED")
	if s.v.commands["task0/0"].cancelling {
		t.Error("what runs goes on")
	}
	s.end("task0/0", "Success", 0)
	s.end("task0/1", "Success", 0)
	s.is("the end", "CANCELLED; SUCCESS task0/0=SUCCESS task0/1=SUCCESS; CANCELLED")
}

func TestEndsWithoutACommand(t *testing.T) {
	s := newStage(t)
	s.settle()
	s.is("no tasks", "FAILED")
	if !strings.Contains(s.v.execution.StatusDetails, "no tasks") {
		t.Errorf("it says %q", s.v.execution.StatusDetails)
	}
	s = newStage(t, task(1, 1, ""))
	s.settle()
	delete(s.v.commands, "task0/0")
	s.settle()
	s.is("a command that is gone", "FAILED; FAILED task0/0=FAILED")
	s = newStage(t, task(1, 1, ""), task(2, 1, ""))
	s.settle()
	s.epoch = 2
	s.settle()
	s.is("a snapshot was restored", "FAILED; FAILED task0/0=FAILED; FAILED")
}
