package patcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// rereader is a Manager that can take stock again without a refresh.
type rereader interface {
	// Reread is Inventory with the metadata of the last one.
	Reread(ctx context.Context) (*Inventory, error)
}

// noter is a Manager that has more to tell of its last Install.
type noter interface{ Notes() []string }

// Run does one operation on the machine of setup with its manager. stateDir keeps
// what was installed on which boot. The report is never nil; an error is its Problem
// too. When Report.Rebooting, the machine is to be started anew, and then Run called
// again with the same order: it takes stock, installs nothing more, and reports.
//
// One Run at a time on a machine: the caller sees to it.
func Run(ctx context.Context, order Order, m Manager, setup Setup, stateDir string) (*Report, error) {
	if setup.Now == nil {
		setup.Now = time.Now
	}
	r := &patchRun{order: order, manager: m, setup: setup, stateDir: stateDir, failed: map[string]string{}}
	r.report = &Report{
		Operation: order.Operation, RebootOption: order.RebootOption, BaselineId: order.Baseline.BaselineId, BaselineName: order.Baseline.Name, SnapshotId: order.SnapshotId,
		PatchGroup: order.PatchGroup, OverrideName: order.OverrideName, StartedAt: r.now(),
	}
	err := r.run(ctx)
	r.report.EndedAt = r.now()
	if err != nil {
		r.report.Problem, r.report.Rebooting = err.Error(), false
	}
	return r.report, err
}

type patchRun struct {
	order    Order
	manager  Manager
	setup    Setup
	stateDir string

	platform  Platform
	bootID    string
	key       string
	state     *runState
	resumed   bool
	inventory *Inventory
	override  *OverrideList
	failed    map[string]string // reasons by title
	// busy is why nothing could be installed, while a scan could be made.
	busy   error
	report *Report
}

func (r *patchRun) now() time.Time { return r.setup.Now().UTC().Truncate(time.Second) }

func (r *patchRun) say(format string, args ...any) {
	if r.setup.Log != nil {
		fmt.Fprintf(r.setup.Log, format+"\n", args...)
	}
}

func (r *patchRun) run(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return err
	}
	install := r.order.Installs() && !r.resumed
	if install {
		if err := r.repair(ctx); err != nil {
			return err
		}
	}
	r.say("Taking stock.")
	var err error
	if r.inventory, err = r.manager.Inventory(ctx); err != nil {
		return fmt.Errorf("take stock: %w", err)
	}
	if install && r.busy == nil {
		if err := r.install(ctx); err != nil {
			return err
		}
	}
	return r.end(ctx)
}

// begin finds out what machine this is, and what earlier runs have left.
func (r *patchRun) begin() error {
	var err error
	if r.platform, err = Detect(r.setup.Root); err != nil {
		return err
	}
	r.report.Platform = r.platform
	if r.platform.OperatingSystem == "" {
		return fmt.Errorf("there are no patch baselines for %s %s", r.platform.Name, r.platform.Release)
	}
	if system := r.order.Baseline.OperatingSystem; system != "" && OperatingSystem(system) != r.platform.OperatingSystem {
		return fmt.Errorf("the baseline %s is for %s, and this machine is %s", r.order.Baseline.BaselineId, system, r.platform.OperatingSystem)
	}
	if r.order.Now.IsZero() {
		r.order.Now = r.now()
	}
	if r.order.Installs() && r.order.Override != "" {
		if r.override, err = ParseOverrideList([]byte(r.order.Override)); err != nil {
			return err
		}
	}
	if r.bootID, err = bootID(r.setup.Root, r.setup.BootIDFile); err != nil {
		return err
	}
	if r.key, err = orderKey(&r.order); err != nil {
		return err
	}
	if r.state, err = loadState(r.stateDir); err != nil {
		return err
	}
	if resume := r.state.Resume; resume != nil && resume.Order == r.key && resume.BootID != r.bootID {
		r.resumed = true
		r.report.StartedAt = resume.StartedAt
		r.report.Repaired, r.report.Notes = resume.Repaired, resume.Notes
		r.failed = resume.Failed
		r.say("The machine was started anew; this is the end of the run that began at %s.", resume.StartedAt.Format(time.RFC3339))
	}
	r.state.onBoot(r.bootID)
	return nil
}

func (r *patchRun) repair(ctx context.Context) error {
	did, err := r.manager.Repair(ctx)
	r.report.Repaired = append(r.report.Repaired, did...)
	switch {
	case errors.Is(err, ErrBusy):
		r.busy = err
	case errors.Is(err, ErrInterrupted):
		// One package that cannot be mended does not keep the others from being patched.
		r.report.Notes = append(r.report.Notes, err.Error())
	case err != nil:
		return fmt.Errorf("repair what was interrupted: %w", err)
	}
	if len(r.state.Unfinished) == 0 || r.busy != nil || err != nil && len(did) == 0 {
		return nil
	}
	r.state.repaired(len(did) > 0, r.now())
	return r.state.save(r.stateDir)
}

// options are those of Evaluate in this run.
func (r *patchRun) options() EvaluateOptions {
	return EvaluateOptions{
		Now: r.order.Now, FirstSeen: r.order.FirstSeen, PendingReboot: r.state.pending(r.inventory), Failed: r.failed,
		Operation: r.order.Operation, Override: r.override,
	}
}

// install brings what is approved onto the machine, and takes stock again.
func (r *patchRun) install(ctx context.Context) error {
	plan := Evaluate(&r.order.Baseline, r.platform, r.inventory, r.options())
	if len(plan.Install) == 0 {
		r.say("There is nothing to install.")
		return nil
	}
	r.say("Installing %d packages.", len(plan.Install))
	r.state.intend(plan.Install, r.now())
	if err := r.state.save(r.stateDir); err != nil {
		return err
	}
	failures, err := r.manager.Install(ctx, plan.Install, plan.Blocked)
	for _, f := range failures {
		r.failed[f.Title()] = f.Reason
	}
	if n, ok := r.manager.(noter); ok {
		r.report.Notes = append(r.report.Notes, n.Notes()...)
	}
	switch {
	case errors.Is(err, ErrBusy):
		r.busy = err
	case err != nil:
		r.busy = fmt.Errorf("install: %w", err)
	}
	after, err := r.reread(ctx)
	if err != nil {
		return errors.Join(r.busy, fmt.Errorf("take stock after the installation: %w", err))
	}
	r.inventory = after
	if r.busy == nil {
		r.state.settle(plan.Install, after)
	}
	there := r.state.pending(after)
	installed := slices.ContainsFunc(plan.Install, func(p Package) bool { return there[p.Title()] })
	if installed && r.order.RebootOption == types.RebootOptionNoReboot {
		r.state.NoRebootInstallAt = r.now()
	}
	return r.state.save(r.stateDir)
}

// reread takes stock again, by the same metadata where the manager can: what was
// published meanwhile has not failed.
func (r *patchRun) reread(ctx context.Context) (*Inventory, error) {
	if m, ok := r.manager.(rereader); ok {
		return m.Reread(ctx)
	}
	return r.manager.Inventory(ctx)
}

// end judges what there is now, and decides about the reboot.
func (r *patchRun) end(ctx context.Context) error {
	report := r.report
	options := r.options()
	if r.busy != nil {
		// What was not tried has not failed.
		options.Operation = types.PatchOperationTypeScan
	}
	e := Evaluate(&r.order.Baseline, r.platform, r.inventory, options)
	report.Manager = r.inventory.Manager
	report.Patches, report.Pending, report.Offers, report.NotApplicable, report.Gaps = e.Patches, e.Pending, e.Offers, e.NotApplicable, e.Gaps
	report.Sources, report.Interruptions = r.inventory.Sources, r.inventory.Interruptions
	report.NoRebootInstallAt = r.state.NoRebootInstallAt
	var err error
	if report.Reboot, err = r.manager.Reboot(ctx); err != nil {
		return errors.Join(r.busy, fmt.Errorf("find out whether a reboot is needed: %w", err))
	}
	if r.resumed || !r.order.Installs() {
		if r.resumed {
			r.state.Resume = nil
		}
		return errors.Join(r.busy, r.state.saveChanged(r.stateDir))
	}
	// As in Systems Manager, what was installed is reason enough.
	report.Rebooting = r.busy == nil && r.order.RebootOption != types.RebootOptionNoReboot && len(options.PendingReboot) > 0
	r.state.Resume = nil
	if report.Rebooting {
		r.state.Resume = &resumption{
			Order: r.key, BootID: r.bootID, StartedAt: report.StartedAt, Failed: r.failed, Repaired: report.Repaired, Notes: report.Notes,
		}
	}
	return errors.Join(r.busy, r.state.save(r.stateDir))
}

// Failures are the patches of a report that could not be installed.
func (r *Report) Failures() []Patch {
	return slices.DeleteFunc(slices.Clone(r.Patches), func(p Patch) bool { return p.State != types.PatchComplianceDataStateFailed })
}

// ExitCode is that of the program that made the report: 194 asks for a reboot and the
// same step again, 1 says that something failed.
func (r *Report) ExitCode() int {
	switch {
	case r.Problem != "", r.Operation == types.PatchOperationTypeInstall && !r.Rebooting && len(r.Failures()) > 0:
		return 1
	case r.Rebooting:
		return 194
	}
	return 0
}

// BaselineSources are the sources of a baseline for a machine: where there are any,
// they are the only ones of a run.
func BaselineSources(b *Baseline, p Platform) []types.PatchSource {
	var sources []types.PatchSource
	for _, s := range b.Sources {
		if slices.ContainsFunc(s.Products, func(product string) bool { return namesProduct(product, p.Product) }) {
			sources = append(sources, s)
		}
	}
	return sources
}
