// Meshd is the daemon of a fleetmesh node: it makes a mesh (init), enrols a
// machine (join) and runs the node (run). All of what it does is in package
// agent; this is flags, a file and signals.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"fleetmesh/agent"
	"fleetmesh/agent/worker"
)

// Exit codes, also in the help text.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError marks what the caller typed wrong.
type usageError struct{ error }

func main() {
	// The shim is this same program, started once for each script; it must not pay
	// for the rest.
	if len(os.Args) > 1 && os.Args[1] == worker.ShimCommand {
		os.Exit(worker.ShimMain(os.Args[2:]))
	}
	syscall.Umask(0o077) // scripts get the usual one from their shim
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return
	}
	var status exitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	fmt.Fprintln(os.Stderr, "meshd:", err)
	var usage usageError
	if errors.As(err, &usage) || errors.Is(err, agent.ErrConfig) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "meshd",
		Short: "The daemon of a fleetmesh node",
		Long: `meshd makes a mesh, enrols a machine in one, and runs its node.

A first mesh in two commands:
  meshd init --data-dir /var/lib/meshd --mesh-name prod
  meshd run  --data-dir /var/lib/meshd

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs, // RunE refuses them, as wrong usage
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q (see meshd --help)", args[0])}
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newInit(), newJoin(), newRun(), newCheckConfig(), newVersion(), newPatchRun())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, only flags: %q (see %s --help)", cmd.CommandPath(), args, cmd.CommandPath())}
	}
	return nil
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "meshd %s (build %s)\n", agent.Version, agent.Build)
		},
	}
}
