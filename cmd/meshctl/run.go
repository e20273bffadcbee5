package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [DOCUMENT] {--targets SPEC | --nodes NODE,...} [-- COMMAND ARG...] | --retry-failed COMMAND-ID",
		Short: "Run a document or a command on nodes, and show what came of it",
		Long: `run runs a document, or a command line after --, on nodes of the mesh, follows it
and shows what came of it: a line for each node, then the failures in full.

SPEC is tag:KEY=V1,V2 (nodes with one of the values), tag-key=K (nodes that have the
tag) or all. Given several times, nodes have to fit all of them.

A COMMAND of one argument is a script line as it is; several are the words of
one command. It runs by the document AWS-RunShellScript.

With --reboot each node starts its machine anew after a success, reports that it is
rebooting, and the command ends when it is back.

Nodes that are away are waited for, until the delivery timeout. Interrupting run does
not stop the command: it goes on in the mesh.`,
		Example: `  meshctl run --targets tag:role=web -- uptime
  meshctl run --targets all --max-concurrency 10% --max-errors 1 -- 'apt-get update && df -h /'
  meshctl run AWS-RunShellScript --nodes web-1,web-2 --parameter commands='echo $HOSTNAME'
  meshctl run --retry-failed 0b7c1d2e-3f40-4152-8364-758697a8b9ca`,
		Args: func(cmd *cobra.Command, arguments []string) error {
			document, _ := splitAtDash(cmd, arguments)
			if len(document) > 1 {
				return fmt.Errorf("unexpected argument %q; a command goes after --", document[1])
			}
			return nil
		},
		Annotations:       map[string]string{annotationNotAll: "yes"},
		ValidArgsFunction: a.completeDocuments(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			document, command := splitAtDash(cmd, arguments)
			return a.run(cmd.Context(), o, document, command)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.targets, "targets", nil, "which nodes: tag:KEY=V1,V2, tag-key=K or all (repeatable)")
	flags.StringSliceVar(&o.nodes, "nodes", nil, "which nodes, by id or unique name")
	flags.StringArrayVar(&o.parameters, "parameter", nil, "a parameter `NAME=VALUE` of the document (repeat a name for a list)")
	flags.StringArrayVar(&o.parameterFiles, "parameter-file", nil, "a parameter `NAME=FILE` whose value is the text of a file (repeatable)")
	flags.StringVar(&o.documentVersion, "document-version", "", "which `VERSION` of the document, by number or '$LATEST' (default its default version)")
	flags.StringVar(&o.maxConcurrency, "max-concurrency", "", "on how many nodes at a time, as a number or percentage (default 50)")
	flags.StringVar(&o.maxErrors, "max-errors", "", "how many failures may be before no further node begins, as a number or percentage (default 0)")
	flags.Int32Var(&o.deliveryTimeout, "delivery-timeout", 0, "`seconds` after which a node that has not begun does not begin (default the mesh's)")
	flags.IntVar(&o.executionTimeout, "execution-timeout", 0, "`seconds` a node may take (default the document's)")
	flags.StringVar(&o.comment, "comment", "", "what it is for")
	flags.BoolVar(&o.detach, "detach", false, "print the command's id and do not wait")
	flags.StringVar(&o.retryFailed, "retry-failed", "", "do the ended command `COMMAND-ID` again, only on the nodes where it had no success")
	flags.BoolVar(&o.reboot, "reboot", false, "start each machine anew after a success, and wait for it")
	cmd.RegisterFlagCompletionFunc("nodes", a.completeNodes(false))
	return cmd
}

// splitAtDash splits the arguments at --.
func splitAtDash(cmd *cobra.Command, arguments []string) (before, after []string) {
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		return arguments[:at], arguments[at:]
	}
	return arguments, nil
}

func (a *app) run(ctx context.Context, o runOptions, documents, command []string) error {
	var in *ssm.SendCommandInput
	var err error
	if o.retryFailed != "" {
		err = o.checkRetry(len(documents) + len(command))
	} else {
		in, err = sendInput(o, strings.Join(documents, ""), command) // Args lets one through
	}
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	if o.retryFailed != "" {
		if in, err = c.retryInput(ctx, o); err != nil {
			return err
		}
	}
	out, err := c.send(ctx, in)
	if err != nil {
		if ctx.Err() != nil {
			return &outcome{exit: exitInterrupted, code: "Interrupted", message: "interrupted before the mesh answered: `meshctl command list` tells whether it took the command"}
		}
		switch f := explain(err, false); {
		case f.Code == "InvalidDocument" && len(command) == 0:
			return &outcome{exit: f.Exit, code: f.Code, message: f.Message, hint: "`meshctl document list` shows the documents; a command line goes after --"}
		case f.Code == "InvalidParameters":
			return c.explainParameters(ctx, in, f, len(command) > 0)
		}
		return err
	}
	id := aws.ToString(out.Command.CommandId)
	if o.detach {
		return a.print(out, func(w io.Writer) { fmt.Fprintln(w, id) })
	}
	if a.forPeople() {
		a.note("command %s", id)
	}
	return a.await(ctx, c, id)
}

// await follows a command with a progress line, shows what came of it, and
// returns its verdict.
func (a *app) await(ctx context.Context, c *client, id string) error {
	line := a.startProgress()
	done, err := newWatcher(c, line.show, line.say).follow(ctx, id)
	line.stop()
	if err != nil {
		goesOn := fmt.Sprintf("the command goes on in the mesh: `meshctl command wait %s` follows it, `meshctl command cancel %s` ends it", id, id)
		if ctx.Err() != nil {
			return &outcome{exit: exitInterrupted, code: "Interrupted", message: goesOn}
		}
		if passing(err) {
			a.note("meshctl: %s", goesOn)
		}
		return err
	}
	if err := a.printCourse(ctx, c, done, nil); err != nil {
		return err
	}
	return done.verdict()
}
