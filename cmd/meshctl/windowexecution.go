package main

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"
)

func (a *app) windowExecutionsCommand() *cobra.Command {
	var most int
	cmd := &cobra.Command{
		Use: "executions WINDOW [EXECUTION-ID]", Aliases: []string{"history"}, Short: "Show how the last openings went, or one of them with its tasks and nodes",
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) > 2 {
				return fmt.Errorf("unexpected argument %q", arguments[2])
			}
			return atLeast("WINDOW")(nil, arguments)
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if most < 1 {
				return usagef("--last is 1 or more")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if len(arguments) == 2 {
				return a.windowExecution(cmd.Context(), c, arguments[1])
			}
			return a.windowExecutions(cmd.Context(), c, arguments[0], most)
		},
	}
	cmd.Flags().IntVar(&most, "last", 20, "how many at most")
	return cmd
}

func (a *app) windowExecutions(ctx context.Context, c *client, given string, most int) error {
	id, err := c.windowID(ctx, given)
	if err != nil {
		return err
	}
	out := &ssm.DescribeMaintenanceWindowExecutionsOutput{WindowExecutions: []types.MaintenanceWindowExecution{}}
	pages := ssm.NewDescribeMaintenanceWindowExecutionsPaginator(c.ssm, &ssm.DescribeMaintenanceWindowExecutionsInput{WindowId: &id})
	for pages.HasMorePages() && len(out.WindowExecutions) < most {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.WindowExecutions = append(out.WindowExecutions, page.WindowExecutions...)
	}
	out.WindowExecutions = out.WindowExecutions[:min(most, len(out.WindowExecutions))]
	return a.print(out, func(w io.Writer) {
		t := newTable("BEGAN", "ENDED", "STATUS", "WHY", "EXECUTION")
		for _, x := range out.WindowExecutions {
			t.AppendRow([]any{a.clock(x.StartTime), a.clock(x.EndTime), a.paintExecution(x.Status), cell(aws.ToString(x.StatusDetails)), aws.ToString(x.WindowExecutionId)})
		}
		a.renderTable(w, t)
		if len(out.WindowExecutions) == 0 {
			a.note("it has not opened yet, or too long ago to be kept")
		}
	})
}

// paintExecution colours the status of an execution or of a part of it.
func (a *app) paintExecution(status types.MaintenanceWindowExecutionStatus) string {
	switch status {
	case types.MaintenanceWindowExecutionStatusSuccess:
		return a.paint(a.outTerminal, green, string(status))
	case types.MaintenanceWindowExecutionStatusPending, types.MaintenanceWindowExecutionStatusInProgress, types.MaintenanceWindowExecutionStatusCancelling:
		return a.paint(a.outTerminal, yellow, string(status))
	}
	return a.paint(a.outTerminal, red, cell(string(status)))
}

// executionDetail is an execution with all that it did.
type executionDetail struct {
	Execution *ssm.GetMaintenanceWindowExecutionOutput
	Tasks     []executedTask
}

type executedTask struct {
	Task        types.MaintenanceWindowExecutionTaskIdentity
	Invocations []executedRun
}

type executedRun struct {
	Invocation types.MaintenanceWindowExecutionTaskInvocationIdentity
	Nodes      []types.CommandInvocation
}

func (c *client) windowExecution(ctx context.Context, id string) (*executionDetail, error) {
	var d executionDetail
	var err error
	if d.Execution, err = c.ssm.GetMaintenanceWindowExecution(ctx, &ssm.GetMaintenanceWindowExecutionInput{WindowExecutionId: &id}); err != nil {
		return nil, err
	}
	tasks := ssm.NewDescribeMaintenanceWindowExecutionTasksPaginator(c.ssm, &ssm.DescribeMaintenanceWindowExecutionTasksInput{WindowExecutionId: &id})
	for tasks.HasMorePages() {
		page, err := tasks.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, task := range page.WindowExecutionTaskIdentities {
			d.Tasks = append(d.Tasks, executedTask{Task: task})
		}
	}
	for n := range d.Tasks {
		runs := ssm.NewDescribeMaintenanceWindowExecutionTaskInvocationsPaginator(c.ssm, &ssm.DescribeMaintenanceWindowExecutionTaskInvocationsInput{
			WindowExecutionId: &id, TaskId: d.Tasks[n].Task.TaskExecutionId,
		})
		for runs.HasMorePages() {
			page, err := runs.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, i := range page.WindowExecutionTaskInvocationIdentities {
				run := executedRun{Invocation: i}
				if i.ExecutionId != nil {
					run.Nodes, err = c.invocations(ctx, &ssm.ListCommandInvocationsInput{CommandId: i.ExecutionId})
					if err != nil && explain(err, false).Code != "InvalidCommandId" { // gone before the execution
						return nil, err
					}
				}
				d.Tasks[n].Invocations = append(d.Tasks[n].Invocations, run)
			}
		}
	}
	return &d, nil
}

func (a *app) windowExecution(ctx context.Context, c *client, id string) error {
	d, err := c.windowExecution(ctx, id)
	if err != nil {
		return err
	}
	return a.print(d, func(w io.Writer) {
		x := d.Execution
		facts(w, "Execution", cell(aws.ToString(x.WindowExecutionId)), "Began", a.clock(x.StartTime), "Ended", a.clock(x.EndTime),
			"Status", a.paintExecution(x.Status), "Why", cell(aws.ToString(x.StatusDetails)))
		for _, task := range d.Tasks {
			fmt.Fprintf(w, "\n%s  %s", cell(aws.ToString(task.Task.TaskArn)), a.paintExecution(task.Task.Status))
			if task.Task.StatusDetails != nil {
				fmt.Fprintf(w, ": %s", cell(*task.Task.StatusDetails))
			}
			fmt.Fprintln(w)
			for _, run := range task.Invocations {
				if run.Invocation.ExecutionId == nil {
					fmt.Fprintf(w, "  %s: %s\n", a.paintExecution(run.Invocation.Status), cell(aws.ToString(run.Invocation.StatusDetails)))
					continue
				}
				fmt.Fprintf(w, "  command %s  %s  %s\n", cell(*run.Invocation.ExecutionId), a.paintExecution(run.Invocation.Status), cell(aws.ToString(run.Invocation.StatusDetails)))
				t := newTable("NODE", "STATUS", "DETAILS", "ID")
				for _, n := range run.Nodes {
					t.AppendRow([]any{cell(aws.ToString(n.InstanceName)), a.paintState(string(n.Status)), cell(aws.ToString(n.StatusDetails)), aws.ToString(n.InstanceId)})
				}
				if len(run.Nodes) > 0 {
					a.renderTable(w, t)
				}
			}
		}
	})
}
