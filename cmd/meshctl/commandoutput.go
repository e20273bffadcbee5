package main

import (
	"bytes"
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

// outputOptions is what `command output` is told.
type outputOptions struct {
	node, step     string
	stderr, follow bool
}

func (a *app) commandOutputCommand() *cobra.Command {
	var o outputOptions
	cmd := &cobra.Command{
		Use: "output COMMAND-ID", Short: "Print the whole output of a command",
		Long: `output prints what a command wrote on a node, whole and byte by byte, as far as it has
come; with --follow until it ends. Of several steps each begins on a line of its own; one
that was skipped or refused says why. The output is on the node: while the node is away,
only the beginning can be had, by ` + "`meshctl command show`" + `.

Of a command on several nodes and without --node it prints the output of all, what is
the same of several once, below a line with their names.`,
		Args: exactly("COMMAND-ID"), ValidArgsFunction: a.completeCommands(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.commandOutput(cmd.Context(), arguments[0], o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.node, "node", "", "the `NODE` (default all)")
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
	found, err := c.invocationsOn(ctx, id, o.node)
	if err != nil {
		return err
	}
	if len(found) > 1 && o.follow {
		return usagef("the command runs on %d nodes: choose one to follow with --node", len(found))
	}
	if len(found) > 1 {
		return a.outputOfAll(ctx, c, id, found, o)
	}
	invocation := found[0]
	node := aws.ToString(invocation.InstanceId)
	if o.follow {
		if err := a.until(ctx, c, id, hasBegun(node)); err != nil {
			return err
		}
		if found, err = c.invocationsOn(ctx, id, node); err != nil {
			return err
		}
		invocation = found[0]
	}
	steps := stepsOf(invocation, o.step)
	to := a.out
	var whole bytes.Buffer
	if !a.forPeople() {
		to = &whole
	}
	lines := &wholeLines{to: to}
	if len(steps) > 1 {
		to = lines
	}
	for _, step := range steps {
		if len(steps) > 1 {
			if err := lines.end(); err != nil {
				return err
			}
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

// wholeLines keeps what several steps wrote apart.
type wholeLines struct {
	to   io.Writer
	open bool // the last byte ended no line
}

func (w *wholeLines) Write(data []byte) (int, error) {
	if len(data) > 0 {
		w.open = data[len(data)-1] != '\n'
	}
	return w.to.Write(data)
}

// end ends the line that a step has left open.
func (w *wholeLines) end() error {
	if !w.open {
		return nil
	}
	if _, err := w.Write([]byte("\n")); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// stepsOf are the steps whose output is wanted: the given one, else all; "" is the
// only one.
func stepsOf(invocation types.CommandInvocation, given string) []string {
	if given != "" || len(invocation.CommandPlugins) <= 1 {
		return []string{given}
	}
	var steps []string
	for _, step := range invocation.CommandPlugins {
		steps = append(steps, aws.ToString(step.Name))
	}
	return steps
}

// invocationsOn finds the command's invocation on the node, or all; one at least.
func (c *client) invocationsOn(ctx context.Context, id, given string) ([]types.CommandInvocation, error) {
	in := &ssm.ListCommandInvocationsInput{CommandId: &id, Details: true}
	if given != "" {
		node, err := c.nodeID(ctx, given)
		if err != nil {
			return nil, err
		}
		in.InstanceId = &node
	}
	found, err := c.invocations(ctx, in)
	if err == nil && len(found) == 0 {
		err = &outcome{exit: exitRefused, code: "InvocationDoesNotExist", message: "the command has no such node (yet); `meshctl command show " + id + "` shows its nodes"}
	}
	return found, err
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
