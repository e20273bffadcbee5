package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// app is one run of meshctl: its surroundings and its global flags.
type app struct {
	surroundings
	configFile string
	endpoint   string
	socket     string
	output     string
	timeout    time.Duration
	noColor    bool
}

// run runs one command line and returns its exit code. The context ends when the
// user interrupts.
func run(ctx context.Context, s surroundings, arguments []string) int {
	a := &app{surroundings: s}
	root := a.rootCommand()
	root.SetArgs(append([]string{}, arguments...)) // nil would mean the process's own
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	f := explain(err, ctx.Err() != nil)
	a.report(f)
	return f.Exit
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "meshctl",
		Short: "Run commands on the nodes of a mesh, and look after it",
		Long: `meshctl runs commands on the nodes of a mesh, and looks after it.

It needs the administrator's access that ` + "`meshd init`" + ` wrote (--config, MESHCTL_CONFIG or
~/.config/meshctl/config.yaml); as root on a node it works without, over the
node's local socket.

NODE is a node's id or its name, where only one has that name.`,
		Example: `  meshctl mesh status
  meshctl run --targets tag:role=web -- uptime
  eval "$(meshctl env)"; aws ssm describe-instance-information`,
		Version:           programVersion(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.checkFlags(cmd) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", "", "access to the mesh (default ~/.config/meshctl/config.yaml)")
	flags.StringVar(&a.endpoint, "endpoint", "", "https URL of the node to ask, instead of the configuration's")
	flags.StringVar(&a.socket, "socket", "", "ask over this local socket of a node")
	flags.StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	flags.DurationVar(&a.timeout, "timeout", time.Minute, "how long to wait for an answer of the mesh, retries included")
	flags.BoolVar(&a.noColor, "no-color", false, "no colours (as NO_COLOR)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{message: err.Error(), path: cmd.CommandPath()}
	})
	root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		a.envCommand(), a.meshCommand(), a.nodeCommand(), a.activationCommand(), a.runCommand(),
		a.commandCommand(), a.documentCommand(), a.windowCommand(), a.associationCommand(), a.baselineCommand(), a.patchCommand(), a.patchGroupCommand(), a.keyringCommand(), a.completionCommand(),
	)
	root.AddCommand(laterCommands()...)
	finish(root)
	return root
}

func (a *app) checkFlags(cmd *cobra.Command) error {
	if a.output == "csv" && cmd.Annotations[annotationCSV] != "" {
		return a.checkTimeout()
	}
	if !slices.Contains([]string{"table", "json", "yaml"}, a.output) {
		wrong := a.output
		a.output = "table" // the error itself has to be told somehow
		return usagef("-o is table, json or yaml, not %q", wrong)
	}
	return a.checkTimeout()
}

func (a *app) checkTimeout() error {
	if a.timeout <= 0 {
		return usagef("--timeout is a positive time such as 30s")
	}
	return nil
}

// annotationNotAll marks commands that may end with exitNotAll.
const annotationNotAll = "exit-not-all"

// finish gives every command what all have in common: wrong arguments are wrong
// usage, a group without a subcommand is too, and the help lists the exit codes.
func finish(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
	if cmd.DisableFlagParsing {
		return
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, arguments []string) error {
			if err := check(cmd, arguments); err != nil {
				return &usageError{message: err.Error(), path: cmd.CommandPath()}
			}
			return nil
		}
	}
	if act := cmd.RunE; act != nil {
		cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
			err := act(cmd, arguments)
			if usage, ok := err.(*usageError); ok && usage.path == "" {
				usage.path = cmd.CommandPath()
			}
			return err
		}
	} else {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = chooseSubcommand
	}
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}
	var codes strings.Builder
	for _, m := range exitMeaning {
		if m.code == exitNotAll && cmd.HasParent() && cmd.Annotations[annotationNotAll] == "" {
			continue
		}
		fmt.Fprintf(&codes, "\n  %-3d  %s", m.code, m.text)
	}
	cmd.Long += "\n\nExit codes:" + codes.String()
}

// chooseSubcommand answers a group that was called without one of its commands.
func chooseSubcommand(cmd *cobra.Command, arguments []string) error {
	if len(arguments) == 0 {
		if !cmd.HasParent() {
			return cmd.Help()
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return &usageError{message: fmt.Sprintf("say what: %s %s", cmd.CommandPath(), strings.Join(names, "|")), path: cmd.CommandPath()}
	}
	message := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), arguments[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(arguments[0]); len(near) > 0 {
		message += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return &usageError{message: message, path: cmd.CommandPath()}
}

// note is talk: it goes to stderr, so that stdout has nothing but data.
func (a *app) note(format string, arguments ...any) {
	fmt.Fprintf(a.err, format+"\n", arguments...)
}

// say is note for a text as it is.
func (a *app) say(text string) { a.note("%s", text) }

// exactly asks for the named arguments, no more and no fewer.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, arguments []string) error {
		if len(arguments) < len(names) {
			return fmt.Errorf("%s is missing", strings.Join(names[len(arguments):], " and "))
		}
		if len(arguments) > len(names) {
			return fmt.Errorf("unexpected argument %q", arguments[len(names)])
		}
		return nil
	}
}

// atLeast asks for the named arguments; the last may be repeated.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, arguments []string) error {
		if len(arguments) < len(names) {
			return fmt.Errorf("%s is missing", strings.Join(names[len(arguments):], " and "))
		}
		return nil
	}
}
