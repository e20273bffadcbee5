package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

// commandDetail is what `run`, `command show` and `command wait` print: members
// of the API's own outputs.
type commandDetail struct {
	Command            *types.Command
	CommandInvocations []types.CommandInvocation
}

// detail reads the command and all its invocations with their steps.
func (c *client) detail(ctx context.Context, id string) (*commandDetail, error) {
	commands, err := c.ssm.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: &id})
	if err != nil {
		return nil, err
	}
	d := &commandDetail{CommandInvocations: []types.CommandInvocation{}}
	if len(commands.Commands) > 0 {
		d.Command = &commands.Commands[0]
	}
	d.CommandInvocations, err = c.invocations(ctx, &ssm.ListCommandInvocationsInput{CommandId: &id, Details: true})
	return d, err
}

func (c *client) invocations(ctx context.Context, in *ssm.ListCommandInvocationsInput) ([]types.CommandInvocation, error) {
	in.MaxResults = aws.Int32(50)
	all := []types.CommandInvocation{}
	pages := ssm.NewListCommandInvocationsPaginator(c.ssm, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.CommandInvocations...)
	}
	return all, nil
}

// printCourse shows a command: a line for each node, then the failures in full. why,
// where it is not nil, says why a node is not done.
func (a *app) printCourse(ctx context.Context, c *client, course *course, why func(meshapi.InvocationChange) string) error {
	if !a.forPeople() {
		d, err := c.detail(ctx, course.commandID)
		if err != nil {
			return err
		}
		return a.print(d, nil)
	}
	var failed []meshapi.InvocationChange
	for _, i := range course.invocations() {
		if ended(i.Status) && i.Status != "Success" {
			failed = append(failed, i)
		}
	}
	failures := make([]failedNode, min(len(failed), mostFailures))
	inParallel(len(failures), func(at int) { failures[at] = a.readFailure(ctx, c, course.commandID, failed[at]) })
	var text strings.Builder
	a.writeFailures(&text, course.commandID, failures, len(failed)-len(failures))
	return a.print(nil, func(w io.Writer) {
		if len(course.nodes) > 0 {
			a.showInvocations(w, course, why)
		}
		fmt.Fprint(w, text.String())
	})
}

// showInvocations writes the table of nodes.
func (a *app) showInvocations(w io.Writer, course *course, why func(meshapi.InvocationChange) string) {
	if why == nil {
		why = func(meshapi.InvocationChange) string { return "" }
	}
	t := newTable("NODE", "STATUS", "EXIT", "TIME", "OUTPUT")
	for _, row := range invocationRows(course.invocations(), why) {
		t.AppendRow([]any{nodeNames(row.nodes, mostNames), a.paintState(row.status), row.exit, row.time(), cell(row.output)})
	}
	a.renderTable(w, t)
}

// exitText is the exit code, once there is one.
func exitText(i meshapi.InvocationChange) string {
	if i.ResponseCode < 0 || !ended(i.Status) || i.StartedAt == nil {
		return ""
	}
	return fmt.Sprint(i.ResponseCode)
}

func timeText(i meshapi.InvocationChange) string {
	if i.StartedAt == nil || i.FinishedAt == nil {
		return ""
	}
	return elapsed(i.FinishedAt.Sub(*i.StartedAt))
}

// readFailure reads all that the API has about a node's failure.
func (a *app) readFailure(ctx context.Context, c *client, commandID string, i meshapi.InvocationChange) failedNode {
	f := failedNode{node: i.InstanceId, name: cmp.Or(i.Name, i.InstanceId), head: cell(cmp.Or(i.StatusDetails, i.Status))}
	if code := exitText(i); code != "" {
		f.head += ", exit code " + code
	}
	var b strings.Builder
	if i.Reason != "" {
		fmt.Fprintf(&b, "  reason: %s\n", cell(i.Reason))
	}
	if i.StartedAt != nil { // else nothing ran, and there is nothing to read
		f.cut = writeSteps(ctx, c, &b, commandID, i)
	}
	f.body = b.String()
	return f
}

// writeSteps writes the outputs of the steps that failed; cut is returned where the
// API does not have all of them.
func writeSteps(ctx context.Context, c *client, b *strings.Builder, commandID string, i meshapi.InvocationChange) (cut bool) {
	found, err := c.invocations(ctx, &ssm.ListCommandInvocationsInput{CommandId: &commandID, InstanceId: &i.InstanceId, Details: true})
	if err != nil {
		fmt.Fprintf(b, "  its output could not be read: %s\n", cell(explain(err, false).Message))
		return false
	}
	for _, invocation := range found {
		for _, step := range invocation.CommandPlugins {
			if step.Status == types.CommandPluginStatusSuccess {
				continue
			}
			in := &ssm.GetCommandInvocationInput{CommandId: &commandID, InstanceId: &i.InstanceId}
			if len(invocation.CommandPlugins) > 1 {
				in.PluginName = step.Name
				fmt.Fprintf(b, "  step %s: %s, exit code %d\n", cell(aws.ToString(step.Name)), cell(cmp.Or(aws.ToString(step.StatusDetails), string(step.Status))), step.ResponseCode)
			}
			if name := aws.ToString(in.PluginName); name != "" && len(name) < shortestPluginName {
				cut = writePluginOutput(b, aws.ToString(step.Output)) || cut
				continue
			}
			out, err := c.ssm.GetCommandInvocation(ctx, in)
			if err != nil {
				fmt.Fprintf(b, "  its output could not be read: %s\n", cell(explain(err, false).Message))
				continue
			}
			writeOutput(b, "stderr", aws.ToString(out.StandardErrorContent))
			writeOutput(b, "stdout", aws.ToString(out.StandardOutputContent))
			cut = cut || strings.HasSuffix(aws.ToString(out.StandardErrorContent), truncatedMark) || strings.HasSuffix(aws.ToString(out.StandardOutputContent), truncatedMark)
		}
	}
	return cut
}

// shortestPluginName is how many characters GetCommandInvocation wants of a step's
// name. A document may have shorter ones.
const shortestPluginName = 4

// The marks in CommandPlugin.Output: between stdout and stderr, and at their ends
// where they are cut.
const (
	pluginErrorMark     = "\n----------ERROR-------\n"
	pluginCutMark       = "\n---Output truncated---"
	pluginCutErrorsMark = "\n---Error truncated----"
)

// writePluginOutput writes what the listing shows of a step's outputs; cut is
// returned where it does not have all of them.
func writePluginOutput(w io.Writer, output string) (cut bool) {
	stdout, stderr, _ := strings.Cut(output, pluginErrorMark)
	writeOutput(w, "stderr", stderr)
	writeOutput(w, "stdout", stdout)
	return strings.HasSuffix(stdout, pluginCutMark) || strings.HasSuffix(stderr, pluginCutErrorsMark)
}

// truncatedMark ends an output of which the API has not all; the whole is on the
// node.
const truncatedMark = "--output truncated--"

// writeOutput writes a script's output, indented, so that it cannot be taken for
// ours.
func writeOutput(w io.Writer, title, content string) {
	if content == "" {
		return
	}
	fmt.Fprintf(w, "  %s:\n", title)
	content = strings.TrimRight(strings.ReplaceAll(content, "\r\n", "\n"), "\n")
	for line := range strings.SplitSeq(printable(content, "\n\t"), "\n") {
		fmt.Fprintln(w, strings.TrimRight("    "+line, " "))
	}
}
