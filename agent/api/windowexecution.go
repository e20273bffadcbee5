package api

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

func (c *call) findWindowExecution(id string) (raftstore.WindowExecution, error) {
	x, err := raftstore.GetWindowExecution(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return x, refuse(codeDoesNotExist, "There is no execution %s of a maintenance window, or no longer.", id)
	}
	return x, err
}

// statusOf is an execution's status with a request to cancel that the leader has
// not seen yet.
func (c *call) statusOf(x *raftstore.WindowExecution) (types.MaintenanceWindowExecutionStatus, error) {
	if x.EndedAt.IsZero() {
		_, err := raftstore.GetWindowCancel(c, x.ID)
		if err == nil {
			return types.MaintenanceWindowExecutionStatusCancelling, nil
		}
		if !errors.Is(err, raftstore.ErrNotFound) {
			return "", err
		}
	}
	return types.MaintenanceWindowExecutionStatus(x.Status), nil
}

func (c *call) describeMaintenanceWindowExecutions(in *ssm.DescribeMaintenanceWindowExecutionsInput) (*ssm.DescribeMaintenanceWindowExecutionsOutput, error) {
	filters, err := windowFilters(in.Filters, "ExecutedBefore", "ExecutedAfter")
	if err != nil {
		return nil, err
	}
	before, err := timeBounds(filters["ExecutedBefore"])
	if err != nil {
		return nil, err
	}
	after, err := timeBounds(filters["ExecutedAfter"])
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowExecutionsOutput{WindowExecutions: []types.MaintenanceWindowExecution{}}
	next, examined := "", 0
	var failed error
	err = raftstore.ScanWindowExecutions(c, *in.WindowId, start, func(position, id string) bool {
		if len(out.WindowExecutions) == pageSize(in.MaxResults) || examined == maxExamined {
			next = position
			return false
		}
		examined++
		var x raftstore.WindowExecution
		if x, failed = raftstore.GetWindowExecution(c, id); failed != nil {
			return false
		}
		for _, t := range before {
			if !x.StartedAt.Before(t) {
				return true
			}
		}
		for _, t := range after {
			if !x.StartedAt.After(t) {
				return true
			}
		}
		var status types.MaintenanceWindowExecutionStatus
		status, failed = c.statusOf(&x)
		out.WindowExecutions = append(out.WindowExecutions, types.MaintenanceWindowExecution{
			WindowId: &x.WindowID, WindowExecutionId: &x.ID, Status: status, StatusDetails: optional(x.StatusDetails),
			StartTime: &x.StartedAt, EndTime: optionalTime(x.EndedAt),
		})
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// windowPlan is what an execution is to do; one that was missed has an empty one.
func (c *call) windowPlan(executionID string) (raftstore.WindowPlan, error) {
	plan, err := raftstore.GetWindowPlan(c, executionID)
	if errors.Is(err, raftstore.ErrNotFound) {
		err = nil
	}
	return plan, err
}

func (c *call) getMaintenanceWindowExecution(in *ssm.GetMaintenanceWindowExecutionInput) (*ssm.GetMaintenanceWindowExecutionOutput, error) {
	x, err := c.findWindowExecution(*in.WindowExecutionId)
	if err != nil {
		return nil, err
	}
	plan, err := c.windowPlan(x.ID)
	if err != nil {
		return nil, err
	}
	status, err := c.statusOf(&x)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, task := range plan.Tasks {
		ids = append(ids, task.ID)
	}
	return &ssm.GetMaintenanceWindowExecutionOutput{
		WindowExecutionId: &x.ID, TaskIds: ids, Status: status, StatusDetails: optional(x.StatusDetails), StartTime: &x.StartedAt, EndTime: optionalTime(x.EndedAt),
	}, nil
}

// plannedTask is a task of an execution: what was frozen, and where it stands.
type plannedTask struct {
	*oneWindowTask
	state raftstore.WindowTaskExecution
}

// plannedTasks are those of an execution, in their order.
func (c *call) plannedTasks(executionID string) ([]plannedTask, error) {
	plan, err := c.windowPlan(executionID)
	if err != nil {
		return nil, err
	}
	var tasks []plannedTask
	for _, p := range plan.Tasks {
		task, err := readWindowTask(raftstore.WindowTask{ID: p.TaskID, Definition: p.Definition})
		if err != nil {
			return nil, err
		}
		state, err := raftstore.GetWindowTaskExecution(c, executionID, p.ID)
		if err != nil {
			return nil, fmt.Errorf("read the task %s of execution %s: %w", p.ID, executionID, err)
		}
		tasks = append(tasks, plannedTask{task, state})
	}
	return tasks, nil
}

func (c *call) findPlannedTask(executionID, taskID string) (*plannedTask, error) {
	if _, err := c.findWindowExecution(executionID); err != nil {
		return nil, err
	}
	tasks, err := c.plannedTasks(executionID)
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		if task.state.ID == taskID {
			return &task, nil
		}
	}
	return nil, refuse(codeDoesNotExist, "The execution %s has no task %s.", executionID, taskID)
}

// statusFilter reads the filter STATUS.
func statusFilter(in []types.MaintenanceWindowFilter) ([]string, error) {
	filters, err := windowFilters(in, "STATUS")
	if err != nil {
		return nil, err
	}
	for _, v := range filters["STATUS"] {
		known := false
		for _, status := range types.MaintenanceWindowExecutionStatus("").Values() {
			known = known || string(status) == v
		}
		if !known {
			return nil, refuse(codeValidation, "The filter STATUS has no value %q.", v)
		}
	}
	return filters["STATUS"], nil
}

func (c *call) describeMaintenanceWindowExecutionTasks(in *ssm.DescribeMaintenanceWindowExecutionTasksInput) (*ssm.DescribeMaintenanceWindowExecutionTasksOutput, error) {
	statuses, err := statusFilter(in.Filters)
	if err != nil {
		return nil, err
	}
	if _, err := c.findWindowExecution(*in.WindowExecutionId); err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	tasks, err := c.plannedTasks(*in.WindowExecutionId)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowExecutionTasksOutput{WindowExecutionTaskIdentities: []types.MaintenanceWindowExecutionTaskIdentity{}}
	next, begun := "", start == ""
	for _, task := range tasks {
		if begun = begun || task.state.ID == start; !begun || !fits(statuses, func(v string) bool { return v == task.state.Status }) {
			continue
		}
		if len(out.WindowExecutionTaskIdentities) == pageSize(in.MaxResults) {
			next = task.state.ID
			break
		}
		out.WindowExecutionTaskIdentities = append(out.WindowExecutionTaskIdentities, types.MaintenanceWindowExecutionTaskIdentity{
			WindowExecutionId: in.WindowExecutionId, TaskExecutionId: &task.state.ID, TaskArn: task.TaskArn, TaskType: task.TaskType,
			Status: types.MaintenanceWindowExecutionStatus(task.state.Status), StatusDetails: optional(task.state.StatusDetails),
			StartTime: optionalTime(task.state.StartedAt), EndTime: optionalTime(task.state.EndedAt),
		})
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (c *call) getMaintenanceWindowExecutionTask(in *ssm.GetMaintenanceWindowExecutionTaskInput) (*ssm.GetMaintenanceWindowExecutionTaskOutput, error) {
	task, err := c.findPlannedTask(*in.WindowExecutionId, *in.TaskId)
	if err != nil {
		return nil, err
	}
	out := &ssm.GetMaintenanceWindowExecutionTaskOutput{
		WindowExecutionId: in.WindowExecutionId, TaskExecutionId: &task.state.ID, TaskArn: task.TaskArn, Type: task.TaskType, ServiceRole: task.ServiceRoleArn,
		Priority: task.priority(), Status: types.MaintenanceWindowExecutionStatus(task.state.Status), StatusDetails: optional(task.state.StatusDetails),
		StartTime: optionalTime(task.state.StartedAt), EndTime: optionalTime(task.state.EndedAt),
	}
	if len(task.TaskParameters) > 0 {
		out.TaskParameters = []map[string]types.MaintenanceWindowTaskParameterValueExpression{task.TaskParameters}
	}
	out.MaxConcurrency, out.MaxErrors = task.rate()
	return out, nil
}

func (c *call) describeMaintenanceWindowExecutionTaskInvocations(in *ssm.DescribeMaintenanceWindowExecutionTaskInvocationsInput) (*ssm.DescribeMaintenanceWindowExecutionTaskInvocationsOutput, error) {
	statuses, err := statusFilter(in.Filters)
	if err != nil {
		return nil, err
	}
	task, err := c.findPlannedTask(*in.WindowExecutionId, *in.TaskId)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowExecutionTaskInvocationsOutput{
		WindowExecutionTaskInvocationIdentities: []types.MaintenanceWindowExecutionTaskInvocationIdentity{},
	}
	next := ""
	err = raftstore.ScanWindowInvocations(c, *in.WindowExecutionId, *in.TaskId, func(i raftstore.WindowInvocation) bool {
		if i.ID < start || !fits(statuses, func(v string) bool { return v == i.Status }) {
			return true
		}
		if len(out.WindowExecutionTaskInvocationIdentities) == pageSize(in.MaxResults) {
			next = i.ID
			return false
		}
		out.WindowExecutionTaskInvocationIdentities = append(out.WindowExecutionTaskInvocationIdentities, types.MaintenanceWindowExecutionTaskInvocationIdentity{
			WindowExecutionId: in.WindowExecutionId, TaskExecutionId: in.TaskId, InvocationId: aws.String(i.ID), ExecutionId: optional(i.CommandID),
			TaskType: task.TaskType, Parameters: optional(i.Parameters), Status: types.MaintenanceWindowExecutionStatus(i.Status), StatusDetails: optional(i.StatusDetails),
			StartTime: optionalTime(i.StartedAt), EndTime: optionalTime(i.EndedAt), OwnerInformation: optional(i.OwnerInformation), WindowTargetId: optional(i.WindowTargetID),
		})
		return true
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (c *call) getMaintenanceWindowExecutionTaskInvocation(in *ssm.GetMaintenanceWindowExecutionTaskInvocationInput) (*ssm.GetMaintenanceWindowExecutionTaskInvocationOutput, error) {
	task, err := c.findPlannedTask(*in.WindowExecutionId, *in.TaskId)
	if err != nil {
		return nil, err
	}
	i, err := raftstore.GetWindowInvocation(c, *in.WindowExecutionId, *in.TaskId, *in.InvocationId)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeDoesNotExist, "The task %s of execution %s has no invocation %s.", *in.TaskId, *in.WindowExecutionId, *in.InvocationId)
	}
	if err != nil {
		return nil, err
	}
	return &ssm.GetMaintenanceWindowExecutionTaskInvocationOutput{
		WindowExecutionId: in.WindowExecutionId, TaskExecutionId: in.TaskId, InvocationId: &i.ID, ExecutionId: optional(i.CommandID),
		TaskType: task.TaskType, Parameters: optional(i.Parameters), Status: types.MaintenanceWindowExecutionStatus(i.Status), StatusDetails: optional(i.StatusDetails),
		StartTime: optionalTime(i.StartedAt), EndTime: optionalTime(i.EndedAt), OwnerInformation: optional(i.OwnerInformation), WindowTargetId: optional(i.WindowTargetID),
	}, nil
}

// cancelMaintenanceWindowExecution asks the leader to begin no more tasks. An
// execution that has ended has nothing to cancel.
func (c *call) cancelMaintenanceWindowExecution(in *ssm.CancelMaintenanceWindowExecutionInput) (*ssm.CancelMaintenanceWindowExecutionOutput, error) {
	x, err := c.findWindowExecution(*in.WindowExecutionId)
	if err != nil {
		return nil, err
	}
	out := &ssm.CancelMaintenanceWindowExecutionOutput{WindowExecutionId: &x.ID}
	if !x.EndedAt.IsZero() {
		return out, nil
	}
	_, err = raftstore.GetWindowCancel(c, x.ID)
	if !errors.Is(err, raftstore.ErrNotFound) {
		return out, err
	}
	c.txn.PutWindowCancel(raftstore.WindowCancel{ExecutionID: x.ID, RequestedAt: c.now, Caller: c.who.name}, x)
	c.resource = x.ID
	return out, nil
}
