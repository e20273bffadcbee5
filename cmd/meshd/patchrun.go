package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fleetmesh/internal/durable"
	"fleetmesh/patcher"
)

// exitStatus ends the program with a code, and prints nothing more.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// orderLimit bounds an order, in bytes: a baseline, an override list, what was first
// seen when.
const orderLimit = 16 << 20

type patchRunFlags struct {
	order, report, cache, state, root, bootIDFile string
	lockWait                                      time.Duration
	offline                                       bool
}

// newPatchRun is what AWS-RunPatchBaseline starts. It is a process of its own so
// that an upgrade of meshd does not end it.
func newPatchRun() *cobra.Command {
	f := patchRunFlags{}
	cmd := &cobra.Command{
		Use:    "patch-run --order FILE",
		Hidden: true,
		Short:  "Do one operation of AWS-RunPatchBaseline on this machine",
		Long: `Reads an order (JSON), scans or installs by its baseline, writes the report
(JSON) to --report, a text for people to stdout, and what the package manager
prints to stderr.

Exit status: 0 done, 1 failed or patches failed, 2 wrong usage, 194 start the
machine anew and run the same order again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return patchRun(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.order, "order", "", "file with the order, - for stdin")
	flags.StringVar(&f.report, "report", "", "file that gets the report")
	flags.StringVar(&f.cache, "cache", "/var/cache/meshd/patch", "directory of ours for metadata")
	flags.StringVar(&f.state, "state", "/var/lib/meshd/patch", "directory that keeps what was installed on which boot")
	flags.StringVar(&f.root, "root", "/", "the machine's file system")
	flags.StringVar(&f.bootIDFile, "boot-id-file", "", "file that names the boot of the machine (default the kernel's)")
	flags.DurationVar(&f.lockWait, "lock-wait", 10*time.Minute, "how long to wait for another program that uses the package manager")
	flags.BoolVar(&f.offline, "offline", false, "fetch no metadata, use what there is")
	return cmd
}

func patchRun(cmd *cobra.Command, f patchRunFlags) error {
	if f.order == "" {
		return usageError{errors.New("--order is required")}
	}
	order, err := readOrder(cmd, f.order)
	if err != nil {
		return usageError{err}
	}
	for _, path := range []*string{&f.cache, &f.state, &f.root} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	// The umask of main is for secrets of the node; packages' scripts want the usual.
	syscall.Umask(0o022)
	release, err := lockState(f.state)
	if err != nil {
		return err
	}
	defer release()
	setup := patcher.Setup{
		Root: f.root, Cache: f.cache, LockWait: f.lockWait, Offline: f.offline, Log: cmd.ErrOrStderr(), BootIDFile: f.bootIDFile,
	}
	platform, err := patcher.Detect(f.root)
	if err != nil {
		return err
	}
	setup.Sources = patcher.BaselineSources(&order.Baseline, platform)
	manager, err := patcher.ManagerOf(setup)
	if err != nil {
		return err
	}
	report, failed := patcher.Run(cmd.Context(), order, manager, setup, f.state)
	if f.report != "" {
		text, err := json.Marshal(report)
		if err != nil {
			return errors.Join(failed, fmt.Errorf("write the report: %w", err))
		}
		if err := durable.WriteFile(f.report, append(text, '\n')); err != nil {
			return errors.Join(failed, err)
		}
	}
	if err := report.WriteText(cmd.OutOrStdout()); err != nil {
		return errors.Join(failed, fmt.Errorf("write the text: %w", err))
	}
	if failed != nil {
		return failed
	}
	if code := report.ExitCode(); code != 0 {
		return exitStatus(code)
	}
	return nil
}

func readOrder(cmd *cobra.Command, name string) (patcher.Order, error) {
	var order patcher.Order
	in := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return order, fmt.Errorf("read the order: %w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, orderLimit+1))
	if err != nil {
		return order, fmt.Errorf("read the order: %w", err)
	}
	if len(text) > orderLimit {
		return order, fmt.Errorf("read the order: it has more than %d bytes", orderLimit)
	}
	if err := json.Unmarshal(text, &order); err != nil {
		return order, fmt.Errorf("read the order: %w", err)
	}
	return order, order.Direct(string(order.Operation), string(order.RebootOption))
}

// lockState keeps a second run from the same directory.
func lockState(dir string) (func(), error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state of patch runs: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another patch run is under way on this machine (%s): %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}
