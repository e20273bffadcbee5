package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

func (a *app) commandCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "command", Short: "List, show, follow and cancel commands"}
	cmd.AddCommand(
		a.commandListCommand(),
		&cobra.Command{
			Use: "show COMMAND-ID", Short: "Show a command, its nodes and its failures in full",
			Args: exactly("COMMAND-ID"), ValidArgsFunction: a.completeCommands(),
			RunE: func(cmd *cobra.Command, arguments []string) error { return a.commandShow(cmd.Context(), arguments[0]) },
		},
		a.commandOutputCommand(),
		a.commandCancelCommand(),
		&cobra.Command{
			Use: "wait COMMAND-ID", Short: "Follow a command until it is done, and show what came of it",
			Args: exactly("COMMAND-ID"), ValidArgsFunction: a.completeCommands(),
			Annotations: map[string]string{annotationNotAll: "yes"},
			RunE: func(cmd *cobra.Command, arguments []string) error {
				c, err := a.connect()
				if err != nil {
					return err
				}
				return a.await(cmd.Context(), c, arguments[0])
			},
		},
	)
	return cmd
}

// listOptions is what `command list` is told.
type listOptions struct {
	status, document, node string
	limit                  int
}

func (a *app) commandListCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "list", Short: "List the commands, the newest first", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.commandList(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.status, "status", "", "only commands with this status, such as InProgress or Failed")
	flags.StringVar(&o.document, "document", "", "only commands of this document")
	flags.StringVar(&o.node, "node", "", "only commands on this node")
	flags.IntVar(&o.limit, "limit", 50, "how many, 0 for all")
	cmd.RegisterFlagCompletionFunc("node", a.completeNodes(false))
	return cmd
}

func (a *app) commandList(ctx context.Context, o listOptions) error {
	if o.limit < 0 {
		return usagef("--limit is 0 or more")
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	in := &ssm.ListCommandsInput{MaxResults: aws.Int32(50)}
	if o.limit > 0 {
		in.MaxResults = aws.Int32(int32(min(o.limit, 50)))
	}
	if o.node != "" {
		id, err := c.nodeID(ctx, o.node)
		if err != nil {
			return err
		}
		in.InstanceId = &id
	}
	for key, value := range map[types.CommandFilterKey]string{types.CommandFilterKeyStatus: o.status, types.CommandFilterKeyDocumentName: o.document} {
		if value != "" {
			in.Filters = append(in.Filters, types.CommandFilter{Key: key, Value: &value})
		}
	}
	out := &ssm.ListCommandsOutput{Commands: []types.Command{}}
	pages := ssm.NewListCommandsPaginator(c.ssm, in)
	more := false
	for pages.HasMorePages() {
		if more = o.limit > 0 && len(out.Commands) >= o.limit; more {
			break
		}
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.Commands = append(out.Commands, page.Commands...)
	}
	if o.limit > 0 && len(out.Commands) > o.limit {
		out.Commands, more = out.Commands[:o.limit], true
	}
	if err := a.print(out, func(w io.Writer) {
		t := newTable("COMMAND", "REQUESTED", "DOCUMENT", "STATUS", "NODES", "DONE", "FAILED", "COMMENT")
		for _, command := range out.Commands {
			t.AppendRow([]any{
				aws.ToString(command.CommandId), a.clock(command.RequestedDateTime), cell(aws.ToString(command.DocumentName)),
				a.paintState(cmp.Or(aws.ToString(command.StatusDetails), string(command.Status))),
				command.TargetCount, command.CompletedCount, command.ErrorCount + command.DeliveryTimedOutCount, cell(aws.ToString(command.Comment)),
			})
		}
		a.renderTable(w, t)
	}); err != nil {
		return err
	}
	if more {
		a.note("meshctl: there are older ones; --limit 0 lists all")
	}
	return nil
}

func (a *app) commandShow(ctx context.Context, id string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	if !a.forPeople() {
		d, err := c.detail(ctx, id)
		if err != nil {
			return err
		}
		if d.Command == nil {
			return noCommand(id)
		}
		return a.print(d, nil)
	}
	commands, err := c.ssm.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: &id})
	if err != nil {
		return err
	}
	if len(commands.Commands) == 0 {
		return noCommand(id)
	}
	course, err := newWatcher(c, nil, nil).look(ctx, id)
	if err != nil {
		return err
	}
	command := commands.Commands[0]
	if err := a.print(nil, func(w io.Writer) { a.showCommand(w, command) }); err != nil {
		return err
	}
	why, err := a.whyNotDone(ctx, c, command, course)
	if err != nil {
		return err
	}
	return a.printCourse(ctx, c, course, why)
}

func noCommand(id string) error {
	return &outcome{exit: exitRefused, code: "InvalidCommandId", message: fmt.Sprintf("no command has the id %s; `meshctl command list` shows the commands", id)}
}

func (a *app) showCommand(w io.Writer, command types.Command) {
	where := strings.Join(command.InstanceIds, " ")
	for _, target := range command.Targets {
		where = strings.TrimSpace(where + " " + aws.ToString(target.Key) + "=" + strings.Join(target.Values, ","))
	}
	facts(w,
		"Command", aws.ToString(command.CommandId),
		"Document", cell(aws.ToString(command.DocumentName)),
		"Comment", cell(aws.ToString(command.Comment)),
		"Requested", a.clock(command.RequestedDateTime),
		"Expires", a.clock(command.ExpiresAfter),
		"Targets", cell(where),
		"Limits", fmt.Sprintf("at most %s at a time, stops after more than %s failures", cmp.Or(cell(aws.ToString(command.MaxConcurrency)), "50"), cmp.Or(cell(aws.ToString(command.MaxErrors)), "0")),
		"Status", a.paintState(cmp.Or(aws.ToString(command.StatusDetails), string(command.Status))),
		"Nodes", fmt.Sprintf("%d, %d done, %d failed, %d not delivered", command.TargetCount, command.CompletedCount, command.ErrorCount, command.DeliveryTimedOutCount),
	)
	for _, line := range command.Parameters["commands"] {
		fmt.Fprintf(w, "\n  %s\n", strings.ReplaceAll(printable(line, "\n\t"), "\n", "\n  "))
	}
	fmt.Fprintln(w)
}

func (a *app) commandCancelCommand() *cobra.Command {
	var nodes []string
	cmd := &cobra.Command{
		Use: "cancel COMMAND-ID", Short: "End a command, on all its nodes or some",
		Long: `cancel ends a command: nodes that have not begun do not begin, scripts that run are
killed with all their processes. It does not wait; ` + "`meshctl command wait`" + ` does.`,
		Args: exactly("COMMAND-ID"), ValidArgsFunction: a.completeCommands(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.commandCancel(cmd.Context(), arguments[0], nodes)
		},
	}
	cmd.Flags().StringSliceVar(&nodes, "nodes", nil, "only on these nodes")
	cmd.RegisterFlagCompletionFunc("nodes", a.completeNodes(false))
	return cmd
}

func (a *app) commandCancel(ctx context.Context, id string, nodes []string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	ids, err := c.nodeIDs(ctx, nodes)
	if err != nil {
		return err
	}
	out, err := c.ssm.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: &id, InstanceIds: ids})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("cancelling; `meshctl command wait %s` waits for the end", id) })
}

// outputOptions is what `command output` is told.
type outputOptions struct {
	node, step     string
	stderr, follow bool
}

func (a *app) commandOutputCommand() *cobra.Command {
	var o outputOptions
	cmd := &cobra.Command{
		Use: "output COMMAND-ID", Short: "Print the whole output of a command on a node",
		Long: `output prints what a command wrote on a node, whole and byte by byte, as far as it has
come; with --follow until it ends. The output is on the node: while the node is away,
only the beginning can be had, by ` + "`meshctl command show`" + `.`,
		Args: exactly("COMMAND-ID"), ValidArgsFunction: a.completeCommands(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.commandOutput(cmd.Context(), arguments[0], o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.node, "node", "", "the node; not needed when there is only one")
	flags.StringVar(&o.step, "step", "", "the step, of a document with several (default all, in turn)")
	flags.BoolVar(&o.stderr, "stderr", false, "what it wrote to stderr, instead of stdout")
	flags.BoolVar(&o.follow, "follow", false, "go on until it ends")
	cmd.RegisterFlagCompletionFunc("node", a.completeNodes(false))
	return cmd
}

// outputDetail is what `command output` prints for programs, with the members of
// GetCommandInvocation.
type outputDetail struct {
	CommandId             string
	InstanceId            string
	PluginName            string  `json:",omitempty"`
	StandardOutputContent *string `json:",omitempty"`
	StandardErrorContent  *string `json:",omitempty"`
}

func (a *app) commandOutput(ctx context.Context, id string, o outputOptions) error {
	if o.follow && !a.forPeople() {
		return usagef("--follow prints the output as it comes and cannot be -o %s", a.output)
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	if o.follow {
		// A moment ago it may have been sent, and have no nodes yet.
		if err := a.until(ctx, c, id, func(course *course) bool { return course.state.Resolved }); err != nil {
			return err
		}
	}
	invocation, err := c.oneInvocation(ctx, id, o.node)
	if err != nil {
		return err
	}
	node := aws.ToString(invocation.InstanceId)
	if o.follow {
		if err := a.until(ctx, c, id, hasBegun(node)); err != nil {
			return err
		}
		if invocation, err = c.oneInvocation(ctx, id, node); err != nil {
			return err
		}
	}
	steps := []string{o.step}
	if o.step == "" && len(invocation.CommandPlugins) > 1 {
		steps = nil
		for _, step := range invocation.CommandPlugins {
			steps = append(steps, aws.ToString(step.Name))
		}
	}
	to := a.out
	var whole bytes.Buffer
	if !a.forPeople() {
		to = &whole
	}
	for _, step := range steps {
		if len(steps) > 1 {
			a.note("==> %s", cell(step))
		}
		in := &meshapi.ReadOutputInput{CommandId: id, InstanceId: node, PluginName: step, Stderr: o.stderr}
		if err := a.copyOutput(ctx, c.mesh.ReadOutput, in, o.follow, to); err != nil {
			return err
		}
	}
	if a.forPeople() {
		return nil
	}
	text := strings.ToValidUTF8(whole.String(), "\uFFFD")
	detail := outputDetail{CommandId: id, InstanceId: node, PluginName: o.step, StandardOutputContent: &text}
	if o.stderr {
		detail.StandardOutputContent, detail.StandardErrorContent = nil, &text
	}
	return a.print(detail, nil)
}

// oneInvocation finds the command's invocation on the node, or the only one.
func (c *client) oneInvocation(ctx context.Context, id, given string) (types.CommandInvocation, error) {
	in := &ssm.ListCommandInvocationsInput{CommandId: &id, Details: true}
	if given != "" {
		node, err := c.nodeID(ctx, given)
		if err != nil {
			return types.CommandInvocation{}, err
		}
		in.InstanceId = &node
	}
	found, err := c.invocations(ctx, in)
	switch {
	case err != nil:
		return types.CommandInvocation{}, err
	case len(found) == 0:
		return types.CommandInvocation{}, &outcome{exit: exitRefused, code: "InvocationDoesNotExist", message: "the command has no such node (yet); `meshctl command show " + id + "` shows its nodes"}
	case len(found) > 1:
		return types.CommandInvocation{}, usagef("the command ran on %d nodes: choose one with --node", len(found))
	}
	return found[0], nil
}

// until watches a command until there is what enough wants, or it is done.
func (a *app) until(ctx context.Context, c *client, id string, enough func(*course) bool) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w := newWatcher(c, func(course *course) {
		if enough(course) {
			stop()
		}
	}, a.say)
	_, err := w.follow(watching, id)
	if watching.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// hasBegun: the node has begun, or will not.
func hasBegun(node string) func(*course) bool {
	return func(course *course) bool {
		i, known := course.nodes[node]
		return known && (i.StartedAt != nil || ended(i.Status) || i.Status == "InProgress")
	}
}

// copyOutput copies a step's output from where it begins. With follow it goes on
// until the step ends, also over a time without a leader or without the node; else
// as far as there is something.
func (a *app) copyOutput(ctx context.Context, read func(context.Context, *meshapi.ReadOutputInput) (*meshapi.ReadOutputOutput, error), in *meshapi.ReadOutputInput, follow bool, to io.Writer) error {
	in.Wait = follow
	answered, silent := time.Now(), false
	for {
		asked := time.Now()
		out, err := read(ctx, in)
		if err != nil {
			if !follow || !passing(err) && !isAway(err) || ctx.Err() != nil || time.Since(answered) > watchPatience {
				return err
			}
			if !silent {
				silent = true
				a.say(troubleText(err))
			}
			if err := sleep(ctx, time.Second); err != nil {
				return err
			}
			continue
		}
		answered = time.Now()
		if silent {
			silent = false
			a.say(troubleText(nil))
		}
		if _, err := to.Write(out.Data); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		if out.Ended || (len(out.Data) == 0 && !follow) {
			return nil
		}
		if next := in.Offset + int64(len(out.Data)); out.NextOffset != next {
			return fmt.Errorf("read the output: the mesh goes on at %d instead of %d", out.NextOffset, next)
		}
		in.Offset = out.NextOffset
		if len(out.Data) == 0 && time.Since(asked) < time.Second { // a node that does not wait is not to be pelted
			if err := sleep(ctx, time.Second); err != nil {
				return err
			}
		}
	}
}

// isAway reports whether the node with the output was not reached. Its meshd may be
// starting again: the script goes on meanwhile.
func isAway(err error) bool { return explain(err, false).Code == "TargetNotConnected" }
