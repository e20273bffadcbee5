package api

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

const (
	codeFeatureNotAvailable = "FeatureNotAvailableException"

	targetWindowTargetIDs = "WindowTargetIds"

	// defaultPriority is a task's that has none; 0 comes first.
	defaultPriority = 1
	// noTargetsRate is what tasks without targets show for MaxConcurrency and MaxErrors.
	noTargetsRate = "1"
)

// windowTaskMembers are those of a task's requests that its record keeps.
var windowTaskMembers = []string{
	"Targets", "TaskArn", "ServiceRoleArn", "TaskType", "TaskParameters", "TaskInvocationParameters", "Priority", "MaxConcurrency", "MaxErrors",
	"LoggingInfo", "Name", "Description", "CutoffBehavior",
}

// oneWindowTask is a registered task.
type oneWindowTask struct {
	*ssm.RegisterTaskWithMaintenanceWindowInput
	record raftstore.WindowTask
}

func readWindowTask(record raftstore.WindowTask) (*oneWindowTask, error) {
	task := &oneWindowTask{RegisterTaskWithMaintenanceWindowInput: new(ssm.RegisterTaskWithMaintenanceWindowInput), record: record}
	if err := awsjson.Unmarshal(record.Definition, task.RegisterTaskWithMaintenanceWindowInput); err != nil {
		return nil, fmt.Errorf("read the task %s of window %s: %w", record.ID, record.WindowID, storeFault(err))
	}
	return task, nil
}

// targetIDs are the registered targets that the task uses.
func (t *oneWindowTask) targetIDs() []string { return t.targetValues(targetWindowTargetIDs) }

func (t *oneWindowTask) targetValues(key string) []string {
	var values []string
	for _, target := range t.Targets {
		if aws.ToString(target.Key) == key {
			values = append(values, target.Values...)
		}
	}
	return values
}

func (t *oneWindowTask) priority() int32 {
	if t.Priority == nil {
		return defaultPriority
	}
	return *t.Priority
}

func (t *oneWindowTask) cutoffBehavior() types.MaintenanceWindowTaskCutoffBehavior {
	if t.CutoffBehavior == "" {
		return types.MaintenanceWindowTaskCutoffBehaviorContinueTask
	}
	return t.CutoffBehavior
}

// rate is MaxConcurrency and MaxErrors as they are shown.
func (t *oneWindowTask) rate() (concurrency, mostErrors *string) {
	if len(t.Targets) == 0 {
		return aws.String(noTargetsRate), aws.String(noTargetsRate)
	}
	return t.MaxConcurrency, t.MaxErrors
}

func (c *call) windowTasks(windowID string) ([]*oneWindowTask, error) {
	var tasks []*oneWindowTask
	var failed error
	err := raftstore.ScanWindowTasks(c, windowID, "", func(record raftstore.WindowTask) bool {
		var task *oneWindowTask
		task, failed = readWindowTask(record)
		tasks = append(tasks, task)
		return failed == nil
	})
	return tasks, errors.Join(err, failed)
}

func (c *call) registerTaskWithMaintenanceWindow(in *ssm.RegisterTaskWithMaintenanceWindowInput) (*ssm.RegisterTaskWithMaintenanceWindowOutput, error) {
	asked := *in
	asked.ClientToken = nil
	request, err := requestHash(&asked)
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientToken)
	if token != "" {
		made, err := raftstore.GetWindowTaskByToken(c, token)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
		case err != nil:
			return nil, err
		case made.Request != request:
			return nil, refuse(codeIdempotency, "The ClientToken was used for the task %s with other parameters.", made.ID)
		default:
			return &ssm.RegisterTaskWithMaintenanceWindowOutput{WindowTaskId: &made.ID}, nil
		}
	}
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	definition, err := mergeMembers(windowTaskMembers, c.in.Body)
	if err != nil {
		return nil, err
	}
	record := raftstore.WindowTask{WindowID: w.ID, ID: uuid.NewString(), Definition: definition, CreatedAt: c.now, ClientToken: token, Request: request}
	if err := c.checkWindowTask(&w, record, in.AlarmConfiguration); err != nil {
		return nil, err
	}
	tasks, err := c.windowTasks(w.ID)
	if err != nil {
		return nil, err
	}
	if len(tasks) >= c.face.cfg.WindowTasks {
		return nil, refuse(codeResourceLimit, "A maintenance window has at most %d tasks (setting window-task-limit).", c.face.cfg.WindowTasks)
	}
	if err := c.checkPlan(&w, nil, &record); err != nil {
		return nil, err
	}
	c.txn.PutWindow(w)
	c.txn.PutWindowTask(record)
	c.resource = w.ID + "/" + record.ID
	return &ssm.RegisterTaskWithMaintenanceWindowOutput{WindowTaskId: &record.ID}, nil
}

// checkWindowTask refuses a task that no opening could do.
func (c *call) checkWindowTask(w *raftstore.Window, record raftstore.WindowTask, alarms *types.AlarmConfiguration) error {
	task, err := readWindowTask(record)
	if err != nil {
		return err
	}
	if alarms != nil {
		return refuse(codeValidation, "The mesh knows no CloudWatch alarms. Leave out AlarmConfiguration.")
	}
	if task.LoggingInfo != nil {
		return refuse(codeValidation, "Output to S3 is not supported: the whole output stays on the node that made it; `meshctl command output` reads it through any node. Leave out LoggingInfo.")
	}
	switch task.TaskType {
	case types.MaintenanceWindowTaskTypeLambda:
		return refuse(codeFeatureNotAvailable, "A mesh has no Lambda functions. Register a RUN_COMMAND task with a document that does the same.")
	case types.MaintenanceWindowTaskTypeStepFunctions:
		return refuse(codeFeatureNotAvailable, "A mesh has no Step Functions. Register a RUN_COMMAND task with a document that does the same.")
	}
	if err := checkTaskParameters(task); err != nil {
		return err
	}
	if len(task.Targets) == 0 {
		switch {
		case task.TaskType == types.MaintenanceWindowTaskTypeRunCommand:
			return refuse(codeValidation, "A task of type RUN_COMMAND has targets: give %s or %s.", targetWindowTargetIDs, targetInstanceIDs)
		case task.MaxConcurrency != nil:
			return refuse(codeValidation, "Maintenance window tasks without targets don't support MaxConcurrency values")
		case task.MaxErrors != nil:
			return refuse(codeValidation, "Maintenance window tasks without targets don't support MaxErrors values")
		}
	} else if task.MaxConcurrency == nil || task.MaxErrors == nil {
		return refuse(codeValidation, "Maintenance window tasks with targets require MaxConcurrency and MaxErrors values")
	}
	if err := c.checkTaskTargets(w, task); err != nil {
		return err
	}
	if task.TaskType != types.MaintenanceWindowTaskTypeRunCommand {
		return nil
	}
	return c.checkRunCommand(task)
}

// checkTaskParameters refuses the parameters of another type.
func checkTaskParameters(task *oneWindowTask) error {
	p := task.TaskInvocationParameters
	if p == nil {
		return nil
	}
	given := map[types.MaintenanceWindowTaskType]bool{
		types.MaintenanceWindowTaskTypeRunCommand: p.RunCommand != nil, types.MaintenanceWindowTaskTypeAutomation: p.Automation != nil,
		types.MaintenanceWindowTaskTypeLambda: p.Lambda != nil, types.MaintenanceWindowTaskTypeStepFunctions: p.StepFunctions != nil,
	}
	for kind, is := range given {
		if is && kind != task.TaskType {
			return refuse(codeValidation, "The task is of type %s and TaskInvocationParameters has parameters for %s.", task.TaskType, kind)
		}
	}
	return nil
}

func (c *call) checkTaskTargets(w *raftstore.Window, task *oneWindowTask) error {
	for _, target := range task.Targets {
		key := aws.ToString(target.Key)
		if key != targetWindowTargetIDs && key != targetInstanceIDs {
			return refuse(codeValidation, "The target key %q isn't valid for a task: use %s, or %s for node ids.", key, targetWindowTargetIDs, targetInstanceIDs)
		}
		if len(target.Values) == 0 {
			return refuse(codeValidation, "The target %q has no values.", key)
		}
	}
	seen := map[string]bool{}
	for _, id := range task.targetIDs() {
		if seen[id] {
			return refuse(codeValidation, "The target %s is given twice.", id)
		}
		seen[id] = true
		if _, err := c.findWindowTarget(w.ID, id); err != nil {
			return err
		}
	}
	named := task.targetValues(targetInstanceIDs)
	if err := checkDistinct(named); err != nil {
		return err
	}
	if err := c.checkEnrolled(named); err != nil || w.AllowUnassociatedTargets {
		return err
	}
	registered, err := c.registeredNodes(w.ID)
	if err != nil {
		return err
	}
	for _, id := range named {
		if !registered[id] {
			return refuse(codeValidation, "%s is not registered as a target with the maintenance window %s, which allows no unassociated targets: register it, or update the window with AllowUnassociatedTargets.", id, w.ID)
		}
	}
	return nil
}

// registeredNodes are those that the targets of a window name by id.
func (c *call) registeredNodes(windowID string) (map[string]bool, error) {
	nodes := map[string]bool{}
	var failed error
	err := raftstore.ScanWindowTargets(c, windowID, "", func(record raftstore.WindowTarget) bool {
		var is *ssm.RegisterTargetWithMaintenanceWindowInput
		if is, failed = windowTarget(record); failed != nil {
			return false
		}
		for _, t := range is.Targets {
			if strings.EqualFold(aws.ToString(t.Key), targetInstanceIDs) {
				for _, id := range t.Values {
					nodes[id] = true
				}
			}
		}
		return true
	})
	return nodes, errors.Join(err, failed)
}

// notInRunCommand are the pseudo parameters that a command for many nodes cannot
// have.
var notInRunCommand = regexp.MustCompile(`\{\{\s*(TARGET_ID|RESOURCE_ID)\s*\}\}`)

// checkRunCommand refuses what every opening would be refused.
func (c *call) checkRunCommand(task *oneWindowTask) error {
	source, err := c.findDocument(aws.ToString(task.TaskArn), "", "")
	if isCode(err, codeInvalidDocument) {
		return refuse(codeDoesNotExist, "There is no document %s.", aws.ToString(task.TaskArn))
	}
	if err != nil {
		return err
	}
	if source.head.Type != string(types.DocumentTypeCommand) {
		return refuse(codeValidation, "The document %s is of type %s: RUN_COMMAND runs documents of type Command.", source.head.Name, source.head.Type)
	}
	parameters := map[string][]string{}
	for name, p := range task.TaskParameters {
		parameters[name] = p.Values
	}
	if task.TaskInvocationParameters != nil && task.TaskInvocationParameters.RunCommand != nil {
		p := task.TaskInvocationParameters.RunCommand
		if err := checkUnsupported(&ssm.SendCommandInput{
			OutputS3BucketName: p.OutputS3BucketName, OutputS3KeyPrefix: p.OutputS3KeyPrefix, NotificationConfig: p.NotificationConfig,
			CloudWatchOutputConfig: p.CloudWatchOutputConfig, ServiceRoleArn: p.ServiceRoleArn,
		}); err != nil {
			return err
		}
		for name, values := range p.Parameters {
			parameters[name] = values
		}
	}
	for name, values := range parameters {
		for _, v := range values {
			if found := notInRunCommand.FindString(v); found != "" {
				return refuse(codeValidation, "The parameter %s has %s, which RUN_COMMAND does not support: one command runs on all nodes of a target. A script knows its node as its host's name.", name, found)
			}
		}
	}
	return nil
}

// checkPlan refuses a window whose openings could not be frozen in one transaction.
// target and task stand for what is to be changed or added.
func (c *call) checkPlan(w *raftstore.Window, target *raftstore.WindowTarget, task *raftstore.WindowTask) error {
	sizes := map[string]int{}
	if err := raftstore.ScanWindowTargets(c, w.ID, "", func(t raftstore.WindowTarget) bool {
		sizes[t.ID] = len(t.Definition)
		return true
	}); err != nil {
		return err
	}
	if target != nil {
		sizes[target.ID] = len(target.Definition)
	}
	tasks, err := c.windowTasks(w.ID)
	if err != nil {
		return err
	}
	if task != nil {
		read, err := readWindowTask(*task)
		if err != nil {
			return err
		}
		tasks = append(slices.DeleteFunc(tasks, func(t *oneWindowTask) bool { return t.record.ID == task.ID }), read)
	}
	total := 0
	for _, t := range tasks {
		total += len(t.record.Definition)
		for _, id := range t.targetIDs() {
			total += sizes[id] + planPair
			sizes[id] = 0 // once for all tasks
		}
	}
	if total > maxWindowPlan {
		return refuse(codeResourceLimit, "The tasks of the window, with the targets that they use, come to %d bytes; the limit is %d. Put long scripts into documents.", total, maxWindowPlan)
	}
	return nil
}

func (c *call) findWindowTask(windowID, id string) (*oneWindowTask, error) {
	record, err := raftstore.GetWindowTask(c, windowID, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeDoesNotExist, "The maintenance window %s has no task %s.", windowID, id)
	}
	if err != nil {
		return nil, err
	}
	return readWindowTask(record)
}

func (c *call) updateMaintenanceWindowTask(in *ssm.UpdateMaintenanceWindowTaskInput) (*ssm.UpdateMaintenanceWindowTaskOutput, error) {
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	was, err := c.findWindowTask(w.ID, *in.WindowTaskId)
	if err != nil {
		return nil, err
	}
	kept := windowTaskMembers
	if aws.ToBool(in.Replace) {
		if err := required(map[string]bool{"taskArn": in.TaskArn != nil}); err != nil {
			return nil, err
		}
		kept = []string{"TaskType"}
	}
	record := was.record
	if record.Definition, err = updatedMembers(windowTaskMembers, kept, record.Definition, c.in.Body); err != nil {
		return nil, err
	}
	if err := c.checkWindowTask(&w, record, in.AlarmConfiguration); err != nil {
		return nil, err
	}
	if err := c.checkPlan(&w, nil, &record); err != nil {
		return nil, err
	}
	task, err := readWindowTask(record)
	if err != nil {
		return nil, err
	}
	c.txn.PutWindow(w)
	c.txn.PutWindowTask(record)
	c.resource = w.ID + "/" + record.ID
	out := &ssm.UpdateMaintenanceWindowTaskOutput{
		WindowId: &w.ID, WindowTaskId: &record.ID, TaskArn: task.TaskArn, Targets: list(task.Targets), ServiceRoleArn: task.ServiceRoleArn,
		TaskParameters: task.TaskParameters, TaskInvocationParameters: task.TaskInvocationParameters, Priority: task.priority(),
		Name: task.Name, Description: task.Description, CutoffBehavior: task.cutoffBehavior(),
	}
	out.MaxConcurrency, out.MaxErrors = task.rate()
	return out, nil
}

func (c *call) deregisterTaskFromMaintenanceWindow(in *ssm.DeregisterTaskFromMaintenanceWindowInput) (*ssm.DeregisterTaskFromMaintenanceWindowOutput, error) {
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	task, err := c.findWindowTask(w.ID, *in.WindowTaskId)
	if err != nil {
		return nil, err
	}
	c.txn.PutWindow(w)
	c.txn.DeleteWindowTask(task.record)
	c.resource = w.ID + "/" + task.record.ID
	return &ssm.DeregisterTaskFromMaintenanceWindowOutput{WindowId: &w.ID, WindowTaskId: &task.record.ID}, nil
}

func (c *call) getMaintenanceWindowTask(in *ssm.GetMaintenanceWindowTaskInput) (*ssm.GetMaintenanceWindowTaskOutput, error) {
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	task, err := c.findWindowTask(w.ID, *in.WindowTaskId)
	if err != nil {
		return nil, err
	}
	out := &ssm.GetMaintenanceWindowTaskOutput{
		WindowId: &w.ID, WindowTaskId: &task.record.ID, TaskArn: task.TaskArn, TaskType: task.TaskType, Targets: list(task.Targets),
		ServiceRoleArn: task.ServiceRoleArn, TaskParameters: task.TaskParameters, TaskInvocationParameters: task.TaskInvocationParameters,
		Priority: task.priority(), Name: task.Name, Description: task.Description, CutoffBehavior: task.cutoffBehavior(),
	}
	out.MaxConcurrency, out.MaxErrors = task.rate()
	return out, nil
}

func (c *call) describeMaintenanceWindowTasks(in *ssm.DescribeMaintenanceWindowTasksInput) (*ssm.DescribeMaintenanceWindowTasksOutput, error) {
	filters, err := windowFilters(in.Filters, "WindowTaskId", "TaskArn", "Priority", "TaskType")
	if err != nil {
		return nil, err
	}
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	tasks, err := c.windowTasks(w.ID)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowTasksOutput{Tasks: []types.MaintenanceWindowTask{}}
	next := ""
	for _, task := range tasks {
		if task.record.ID < start ||
			!fits(filters["WindowTaskId"], func(v string) bool { return v == task.record.ID }) ||
			!fits(filters["TaskArn"], func(v string) bool { return v == aws.ToString(task.TaskArn) }) ||
			!fits(filters["Priority"], func(v string) bool { return v == fmt.Sprint(task.priority()) }) ||
			!fits(filters["TaskType"], func(v string) bool { return v == string(task.TaskType) }) {
			continue
		}
		if len(out.Tasks) == pageSize(in.MaxResults) {
			next = task.record.ID
			break
		}
		shown := types.MaintenanceWindowTask{
			WindowId: &w.ID, WindowTaskId: &task.record.ID, TaskArn: task.TaskArn, Type: task.TaskType, Targets: list(task.Targets),
			ServiceRoleArn: task.ServiceRoleArn, TaskParameters: task.TaskParameters, Priority: task.priority(),
			Name: task.Name, Description: task.Description, CutoffBehavior: task.cutoffBehavior(),
		}
		shown.MaxConcurrency, shown.MaxErrors = task.rate()
		out.Tasks = append(out.Tasks, shown)
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}
