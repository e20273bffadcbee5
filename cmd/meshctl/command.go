package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"
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
	limited                bool // the user said how many
}

func (a *app) commandListCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "list", Short: "List the commands, the newest first", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.limited = cmd.Flags().Changed("limit")
			return a.commandList(cmd.Context(), o)
		},
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
	if more && !o.limited {
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
		"Document", documentOf(command),
		"Comment", cell(aws.ToString(command.Comment)),
		"Requested", a.clock(command.RequestedDateTime),
		"Expires", a.clock(command.ExpiresAfter),
		"Targets", cell(where),
		"Parameters", givenParameters(command.Parameters),
		"Limits", fmt.Sprintf("at most %s at a time, stops after more than %s failures", cmp.Or(cell(aws.ToString(command.MaxConcurrency)), "50"), cmp.Or(cell(aws.ToString(command.MaxErrors)), "0")),
		"Status", a.paintState(cmp.Or(aws.ToString(command.StatusDetails), string(command.Status))),
		"Nodes", fmt.Sprintf("%d, %d done, %d failed, %d not delivered", command.TargetCount, command.CompletedCount, command.ErrorCount, command.DeliveryTimedOutCount),
	)
	if lines := command.Parameters["commands"]; len(lines) > 0 {
		fmt.Fprintf(w, "\n  %s\n", strings.ReplaceAll(paragraph(strings.Join(lines, "\n"), "\t"), "\n", "\n  "))
	}
	fmt.Fprintln(w)
}

func documentOf(command types.Command) string {
	text := aws.ToString(command.DocumentName)
	if version := aws.ToString(command.DocumentVersion); version != "" {
		text += ", version " + version
	}
	return cell(text)
}

// mostOfParameter is how many characters of a parameter are shown.
const mostOfParameter = 200

// givenParameters are those of a command, a line for each; what runs, the parameter
// commands, is shown by itself.
func givenParameters(given map[string][]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name != "commands" {
			text := []rune(strings.ReplaceAll(name+"="+strings.Join(given[name], ", "), "\n", `\n`))
			if len(text) > mostOfParameter {
				text = append(text[:mostOfParameter], '…')
			}
			lines = append(lines, cell(string(text)))
		}
	}
	return strings.Join(lines, "\n")
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
