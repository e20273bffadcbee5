package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fleetmesh/agent"
)

func newRun() *cobra.Command {
	defaults := agent.DefaultConfig()
	flagged := defaults
	var dataDir, file string
	cmd := &cobra.Command{
		Use:   "run --data-dir DIR",
		Short: "Run the node until SIGTERM",
		Long: `Runs the node of the data directory until SIGTERM or SIGINT. Scripts that run
at that moment go on, and are picked up at the next start.

Settings come from the flags, else from --config, else from the meshd.yaml that
init or join left in the data directory, else from the defaults. Readiness is told to systemd (Type=notify).

Exit status: 0 ended by a signal, 1 failed, 2 wrong usage or configuration.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := requireDataDir(&dataDir); err != nil {
				return err
			}
			config, err := settings(cmd.Flags(), dataDir, file)
			if err != nil {
				return err
			}
			if config.Now, err = machineClock(); err != nil {
				return usageError{err}
			}
			return run(cmd.Context(), config)
		},
	}
	addDataDir(cmd, &dataDir)
	cmd.Flags().StringVar(&file, "config", "", "a file whose keys count before those of DIR/meshd.yaml")
	addSettings(cmd.Flags(), &flagged)
	return cmd
}

// settings is what init or join kept in the directory, under the file, under the
// flags that were given.
func settings(flags *pflag.FlagSet, dataDir, file string) (agent.Config, error) {
	config, err := agent.ReadConfig(agent.ConfigPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return config, fmt.Errorf("%w: %s; make a mesh with `meshd init` or enrol with `meshd join`", agent.ErrNoNode, dataDir)
	}
	if err == nil && file != "" {
		err = config.Overlay(file)
	}
	if err != nil {
		return config, err
	}
	config.DataDir = dataDir
	// The same flags once more, on top of the file's values: only those that were
	// given change anything.
	over := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	addSettings(over, &config)
	flags.Visit(func(f *pflag.Flag) {
		if target := over.Lookup(f.Name); target != nil && err == nil {
			err = target.Value.Set(f.Value.String())
		}
	})
	return config, err
}

func run(ctx context.Context, config agent.Config) error {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
		return fmt.Errorf("%w: log-level must be debug, info, warn or error, not %q", agent.ErrConfig, config.LogLevel)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	node, err := agent.Open(config, log)
	if err != nil {
		return err
	}
	notify(log, daemon.SdNotifyReady)
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case <-node.Failed():
	}
	notify(log, daemon.SdNotifyStopping)
	closeErr := node.Close()
	if err := node.Err(); err != nil {
		return err
	}
	return closeErr
}

// notify tells systemd, where it listens.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("tell systemd", "state", state, "error", err)
	}
}

func newCheckConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file",
		Long: `Reads FILE as meshd run would and says what is wrong with it, by line and key.

Exit status: 0 the file is good, 2 it is not (or cannot be read).`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("check-config takes one file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := agent.ReadConfig(args[0])
			if err == nil {
				err = config.Check()
			}
			if err != nil {
				return usageError{err}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good\n", args[0])
			return nil
		},
	}
}
