package leader

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

// maxNamedNodes is how many node ids one target of a command may have.
const maxNamedNodes = 50

func readTask(definition json.RawMessage) (windowTask, error) {
	task := windowTask{new(ssm.RegisterTaskWithMaintenanceWindowInput)}
	if err := awsjson.Unmarshal(definition, task.RegisterTaskWithMaintenanceWindowInput); err != nil {
		return task, fmt.Errorf("read a task's definition: %w", err)
	}
	return task, nil
}

func readTarget(definition json.RawMessage) (*ssm.RegisterTargetWithMaintenanceWindowInput, error) {
	target := new(ssm.RegisterTargetWithMaintenanceWindowInput)
	if err := awsjson.Unmarshal(definition, target); err != nil {
		return nil, fmt.Errorf("read a target's definition: %w", err)
	}
	return target, nil
}

// registered is what is registered with a window.
type registered struct {
	tasks   []raftstore.WindowTask
	targets []raftstore.WindowTarget
}

// planExecution freezes what an execution is to do: tasks in order of priority, of
// equals the older first. unfinished, where set, is the execution that this one
// takes up, with all its invocations; kept says whether a command can still be read.
func planExecution(x raftstore.WindowExecution, w *raftstore.Window, is registered, unfinished *executionView, kept func(commandID string) bool) (raftstore.WindowPlan, error) {
	plan := raftstore.WindowPlan{ExecutionID: x.ID, WindowName: w.Name, Targets: map[string]json.RawMessage{}}
	targets := map[string]json.RawMessage{}
	named := map[string]bool{} // nodes that are registered by id
	for _, t := range is.targets {
		targets[t.ID] = t.Definition
		target, err := readTarget(t.Definition)
		if err != nil {
			return plan, err
		}
		for _, t := range target.Targets {
			if isExplicit(t) {
				for _, id := range t.Values {
					named[id] = true
				}
			}
		}
	}
	type ordered struct {
		raftstore.WindowTask
		windowTask
	}
	var tasks []ordered
	for _, t := range is.tasks {
		task, err := readTask(t.Definition)
		if err != nil {
			return plan, err
		}
		tasks = append(tasks, ordered{t, task})
	}
	slices.SortStableFunc(tasks, func(a, b ordered) int {
		return cmp.Or(cmp.Compare(a.priority(), b.priority()), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, t := range tasks {
		planned := raftstore.WindowPlanTask{ID: taskExecutionID(x.ID, t.ID), TaskID: t.ID, Definition: t.WindowTask.Definition}
		var nodes []string
		for _, target := range t.Targets {
			if aws.ToString(target.Key) == "WindowTargetIds" {
				for _, id := range target.Values {
					planned.Runs = append(planned.Runs, raftstore.WindowPlanRun{TargetID: id})
					if definition, there := targets[id]; there {
						plan.Targets[id] = definition
					}
				}
				continue
			}
			for _, id := range target.Values {
				if w.AllowUnassociatedTargets || named[id] {
					nodes = append(nodes, id)
				}
			}
		}
		for some := range slices.Chunk(nodes, maxNamedNodes) {
			planned.Runs = append(planned.Runs, raftstore.WindowPlanRun{NodeIDs: some})
		}
		if len(planned.Runs) == 0 && len(t.Targets) > 0 {
			planned.Runs = []raftstore.WindowPlanRun{{}} // whose nodes are all gone
		}
		if unfinished != nil {
			takeUp(&planned, unfinished, kept)
		}
		plan.Tasks = append(plan.Tasks, planned)
	}
	return plan, nil
}

// takeUp leaves of a task what an earlier execution has not done.
func takeUp(task *raftstore.WindowPlanTask, before *executionView, kept func(commandID string) bool) {
	at := slices.IndexFunc(before.plan.Tasks, func(t raftstore.WindowPlanTask) bool { return t.TaskID == task.TaskID })
	if at < 0 {
		return
	}
	was := before.plan.Tasks[at]
	for n := range task.Runs {
		run := &task.Runs[n]
		same := slices.IndexFunc(was.Runs, func(r raftstore.WindowPlanRun) bool {
			return r.TargetID == run.TargetID && slices.Equal(r.NodeIDs, run.NodeIDs)
		})
		if same < 0 {
			continue
		}
		i := before.invocations[was.ID][same]
		switch {
		case was.Runs[same].Done || i.Status == windowSuccess:
			run.Done = true
		case i.CommandID != "" && kept(i.CommandID):
			run.Unsuccessful = i.CommandID
		case i.CommandID == "" && was.Runs[same].Unsuccessful != "" && kept(was.Runs[same].Unsuccessful):
			run.Unsuccessful = was.Runs[same].Unsuccessful
		}
	}
}

// pseudoParameter is what stands for a fact of the execution in a task's parameters.
var pseudoParameter = regexp.MustCompile(`\{\{\s*(WINDOW_ID|WINDOW_TASK_ID|WINDOW_TARGET_ID|WINDOW_EXECUTION_ID|TASK_EXECUTION_ID|INVOCATION_ID|TARGET_TYPE)\s*\}\}`)

// runCommand is the command of one run, as SendCommand's input. left names the nodes
// that are left out because they are not enrolled any more. problem says why there
// can be none.
func runCommand(x raftstore.WindowExecution, plan *raftstore.WindowPlan, task windowTask, at plannedRun, enrolled func(nodeID string) bool) (in *ssm.SendCommandInput, i raftstore.WindowInvocation, left []string, problem string) {
	planned := plan.Tasks[at.task]
	run := planned.Runs[at.run]
	i = raftstore.WindowInvocation{
		ExecutionID: x.ID, TaskID: planned.ID, ID: windowInvocationID(planned.ID, at.run), Run: at.run, WindowTargetID: run.TargetID, Status: windowInProgress,
	}
	var targets []types.Target
	if run.TargetID != "" {
		definition, there := plan.Targets[run.TargetID]
		if !there {
			return nil, i, nil, "the target is not registered with the window any more"
		}
		target, err := readTarget(definition)
		if err != nil {
			return nil, i, nil, "the target cannot be read: " + err.Error()
		}
		targets, i.OwnerInformation = target.Targets, aws.ToString(target.OwnerInformation)
	} else {
		targets = []types.Target{{Key: aws.String("InstanceIds"), Values: run.NodeIDs}}
	}
	if run.Unsuccessful != "" {
		targets = []types.Target{{Key: aws.String(raftstore.TargetUnsuccessful), Values: []string{run.Unsuccessful}}}
	}
	targets, left = onlyEnrolled(targets, enrolled)
	for _, t := range targets {
		if len(t.Values) == 0 {
			return nil, i, left, "none of its nodes is enrolled and a target any more"
		}
	}
	in = &ssm.SendCommandInput{DocumentName: task.TaskArn, Targets: targets, MaxConcurrency: task.MaxConcurrency, MaxErrors: task.MaxErrors, Parameters: map[string][]string{}}
	if most, ok := task.mostErrors(); ok {
		in.MaxErrors = aws.String(strconv.Itoa(max(0, most-at.errors))) // one threshold for all runs of the task
	}
	fill := func(text string) string {
		return pseudoParameter.ReplaceAllStringFunc(text, func(found string) string {
			switch strings.TrimSpace(strings.Trim(found, "{}")) {
			case "WINDOW_ID":
				return x.WindowID
			case "WINDOW_TASK_ID":
				return planned.TaskID
			case "WINDOW_TARGET_ID":
				return run.TargetID
			case "WINDOW_EXECUTION_ID":
				return x.ID
			case "TASK_EXECUTION_ID":
				return planned.ID
			case "INVOCATION_ID":
				return i.ID
			}
			return string(types.MaintenanceWindowResourceTypeInstance)
		})
	}
	parameter := func(name string, values []string) {
		filled := make([]string, len(values))
		for n, v := range values {
			filled[n] = fill(v)
		}
		in.Parameters[name] = filled
	}
	for name, p := range task.TaskParameters {
		parameter(name, p.Values)
	}
	if p := task.TaskInvocationParameters; p != nil && p.RunCommand != nil {
		for name, values := range p.RunCommand.Parameters {
			parameter(name, values)
		}
		in.DocumentVersion, in.DocumentHash, in.DocumentHashType = p.RunCommand.DocumentVersion, p.RunCommand.DocumentHash, p.RunCommand.DocumentHashType
		in.TimeoutSeconds = p.RunCommand.TimeoutSeconds
		if p.RunCommand.Comment != nil {
			in.Comment = aws.String(first(fill(*p.RunCommand.Comment), 100))
		}
	}
	if takesSnapshot(aws.ToString(task.TaskArn)) && len(strings.Join(in.Parameters["SnapshotId"], "")) == 0 {
		in.Parameters["SnapshotId"] = []string{x.ID} // one set of patches for all of the window
	}
	if len(in.Parameters) == 0 {
		in.Parameters = nil
	}
	return in, i, left, ""
}

// takesSnapshot reports whether a document, by name or ARN, takes the snapshot of a run.
func takesSnapshot(document string) bool {
	name := document[strings.LastIndex(document, "/")+1:]
	return name == "AWS-RunPatchBaseline" || name == "AWS-RunPatchBaselineWithHooks"
}

// onlyEnrolled leaves out node ids that are not the mesh's any more.
func onlyEnrolled(targets []types.Target, enrolled func(nodeID string) bool) (all []types.Target, left []string) {
	for _, t := range targets {
		if isExplicit(t) && !slices.Contains(t.Values, "*") {
			var values []string
			for _, id := range t.Values {
				if enrolled(id) {
					values = append(values, id)
				} else {
					left = append(left, id)
				}
			}
			t.Values = values
		}
		all = append(all, t)
	}
	return all, left
}
