package leader

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

func everyNode(string) bool { return true }

func TestPlanOfAnExecution(t *testing.T) {
	v := daily(3, 1)
	due, _, _ := claims(v, 1, windowDay)
	named := func(targets string) string {
		return `{"TaskArn":"d","TaskType":"RUN_COMMAND","MaxConcurrency":"1","MaxErrors":"1","Targets":` + targets + `}`
	}
	is := registered{
		tasks: []raftstore.WindowTask{
			{ID: "c", Definition: json.RawMessage(named(`[{"Key":"WindowTargetIds","Values":["t1","gone"]}]`)), CreatedAt: windowDay},
			{ID: "b", Definition: json.RawMessage(named(`[{"Key":"InstanceIds","Values":["mi-1","mi-2"]}]`)), CreatedAt: windowDay.Add(-1)},
			{ID: "a", Definition: json.RawMessage(`{"TaskArn":"d","TaskType":"RUN_COMMAND","Priority":7,"Targets":[{"Key":"WindowTargetIds","Values":["t0"]}]}`), CreatedAt: windowDay.Add(-2)},
		},
		targets: []raftstore.WindowTarget{
			{ID: "t0", Definition: json.RawMessage(`{"Targets":[{"Key":"InstanceIds","Values":["mi-1"]}]}`)},
			{ID: "t1", Definition: json.RawMessage(`{"Targets":[{"Key":"tag:role","Values":["web"]}]}`)},
			{ID: "unused", Definition: json.RawMessage(`{"Targets":[{"Key":"tag:role","Values":["db"]}]}`)},
		},
	}
	for _, unassociated := range []bool{false, true} {
		v.window.AllowUnassociatedTargets = unassociated
		plan, err := planExecution(due[0], &v.window, is, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, task := range plan.Tasks {
			part := task.TaskID
			for _, run := range task.Runs {
				part += fmt.Sprintf(" %s%v", run.TargetID, run.NodeIDs)
			}
			got = append(got, part)
		}
		want := "b [mi-1]; c t1[] gone[]; a t0[]" // of equal priority the older first
		if unassociated {
			want = strings.Replace(want, "[mi-1]", "[mi-1 mi-2]", 1)
		}
		if strings.Join(got, "; ") != want || len(plan.Targets) != 2 {
			t.Errorf("unassociated %v: %q, want %q, targets %v", unassociated, got, want, plan.Targets)
		}
	}
}

// What the cutoff left is taken up by the next opening, and that alone; also when it
// takes three.
func TestTakeUp(t *testing.T) {
	s := newStage(t, task(1, 3, cancelTask), task(2, 1, ""))
	s.settle()
	s.end("task0/0", "Success", 0)
	s.now = windowDay.Add(2 * time.Hour)
	s.settle()
	s.end("task0/1", "Cancelled", 0)
	s.is("what is unfinished", "TIMED_OUT; TIMED_OUT task0/0=SUCCESS task0/1=TIMED_OUT; TIMED_OUT")
	var is registered
	for n, planned := range s.v.plan.Tasks {
		is.tasks = append(is.tasks, raftstore.WindowTask{ID: planned.TaskID, Definition: planned.Definition, CreatedAt: windowDay.Add(time.Duration(n))})
	}
	for id, definition := range s.v.plan.Targets {
		is.targets = append(is.targets, raftstore.WindowTarget{ID: id, Definition: definition})
	}
	is.tasks = append(is.tasks, raftstore.WindowTask{ID: "new", Definition: json.RawMessage(task(1, 1, "")), CreatedAt: windowDay.Add(time.Hour)})
	v := daily(3, 1)
	v.state.HandledUntil = windowDay
	due, _, _ := claims(v, 1, windowDay.Add(24*time.Hour))
	plan, err := planExecution(due[0], &v.window, is, s.v, func(id string) bool { return id == "task0/1" })
	if err != nil {
		t.Fatal(err)
	}
	left := func(plan raftstore.WindowPlan) string {
		var parts []string
		for _, planned := range plan.Tasks {
			part := planned.TaskID
			for _, run := range planned.Runs {
				switch {
				case run.Done:
					part += " done"
				case run.Unsuccessful != "":
					part += " rest of " + run.Unsuccessful
				default:
					part += " all"
				}
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, "; ")
	}
	if got := left(plan); got != "task0 done rest of task0/1 all; new all; task1 all" {
		t.Errorf("left: %s", got)
	}
	// The second opening begins nothing of it before its own cutoff.
	second := &executionView{execution: due[0], plan: plan, invocations: map[string]map[int]raftstore.WindowInvocation{}}
	again, err := planExecution(due[0], &v.window, is, second, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if got := left(again); got != left(plan) {
		t.Errorf("left after nothing was done: %s, want %s", got, left(plan))
	}
	planned := plan.Tasks[0]
	definition, err := readTask(planned.Definition)
	if err != nil {
		t.Fatal(err)
	}
	in, _, _, problem := runCommand(due[0], &plan, definition, plannedRun{task: 0, run: 1}, everyNode)
	if problem != "" || len(in.Targets) != 1 || *in.Targets[0].Key != raftstore.TargetUnsuccessful || in.Targets[0].Values[0] != "task0/1" {
		t.Errorf("%+v, %q", in, problem)
	}
}

func TestRunCommand(t *testing.T) {
	const parameters = `,"TaskInvocationParameters":{"RunCommand":{"Comment":"by {{WINDOW_ID}}","TimeoutSeconds":60,"Parameters":{"commands":["{{WINDOW_ID}} {{ WINDOW_TASK_ID }} {{WINDOW_TARGET_ID}}","{{WINDOW_EXECUTION_ID}} {{TASK_EXECUTION_ID}} {{INVOCATION_ID}} {{TARGET_TYPE}}","{{.Name}} {{TARGET_ID}}"]}}}`
	s := newStage(t, task(1, 2, parameters))
	in, i, left, problem := runCommand(s.v.execution, &s.v.plan, s.definitions[0], plannedRun{task: 0, run: 1, errors: 1}, everyNode)
	if problem != "" || len(left) > 0 {
		t.Fatal(problem, left)
	}
	planned := s.v.plan.Tasks[0]
	want := []string{"mw-1 task0 t1", s.v.execution.ID + " " + planned.ID + " " + i.ID + " INSTANCE", "{{.Name}} {{TARGET_ID}}"}
	if !slices.Equal(in.Parameters["commands"], want) || *in.Comment != "by mw-1" || *in.TimeoutSeconds != 60 || *in.MaxConcurrency != "1" || *in.Targets[0].Key != "tag:role" {
		t.Errorf("%+v\nwant %q", in, want)
	}
	if *in.MaxErrors != "0" {
		t.Errorf("MaxErrors 1 of the task, one error before: %s is left", *in.MaxErrors)
	}
	if i.ID != windowInvocationID(planned.ID, 1) || i.WindowTargetID != "t1" {
		t.Errorf("%+v", i)
	}
}

func TestRunCommandWithoutANode(t *testing.T) {
	s := newStage(t, task(1, 1, ""))
	nodes := func(enrolled ...string) (string, []string, string) {
		in, _, left, problem := runCommand(s.v.execution, &s.v.plan, s.definitions[0], plannedRun{}, func(id string) bool { return slices.Contains(enrolled, id) })
		if in == nil {
			return "", left, problem
		}
		return strings.Join(in.Targets[0].Values, ","), left, problem
	}
	s.v.plan.Targets["t0"] = json.RawMessage(`{"Targets":[{"Key":"InstanceIds","Values":["mi-1","mi-2"]}]}`)
	if got, left, problem := nodes("mi-2"); got != "mi-2" || !slices.Equal(left, []string{"mi-1"}) || problem != "" {
		t.Errorf("one of two is removed: %q, %v, %q", got, left, problem)
	}
	if got, _, problem := nodes(); got != "" || !strings.Contains(problem, "none of its nodes") {
		t.Errorf("both are removed: %q, %q", got, problem)
	}
	s.v.plan.Targets["t0"] = json.RawMessage(`{"Targets":[{"Key":"InstanceIds","Values":["*"]}]}`)
	if got, _, problem := nodes(); got != "*" || problem != "" {
		t.Errorf("all nodes: %q, %q", got, problem)
	}
	delete(s.v.plan.Targets, "t0")
	if _, _, problem := nodes(); !strings.Contains(problem, "not registered") {
		t.Errorf("a target that is gone: %q", problem)
	}
}

// All nodes of an opening are patched by one set.
func TestPatchRunsShareTheSnapshotOfTheirExecution(t *testing.T) {
	for document, want := range map[string]bool{
		"AWS-RunPatchBaseline": true, "arn:aws:ssm:mesh-1::document/AWS-RunPatchBaseline": true, "AWS-RunShellScript": false, "AWS-RunPatchBaselineAssociation": false,
	} {
		for given, parameters := range map[string]string{"": `{"Operation":["Scan"]}`, "own": `{"Operation":["Scan"],"SnapshotId":["own"]}`} {
			s := newStage(t, strings.Replace(task(1, 1, `,"TaskInvocationParameters":{"RunCommand":{"Parameters":`+parameters+`}}`), "AWS-RunShellScript", document, 1))
			in, _, _, problem := runCommand(s.v.execution, &s.v.plan, s.definitions[0], plannedRun{}, everyNode)
			if problem != "" {
				t.Fatal(problem)
			}
			expected := given
			if want && given == "" {
				expected = s.v.execution.ID
			}
			if got := strings.Join(in.Parameters["SnapshotId"], ""); got != expected {
				t.Errorf("%s with %s: SnapshotId %q, want %q", document, parameters, got, expected)
			}
		}
	}
}
