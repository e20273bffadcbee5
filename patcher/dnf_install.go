package patcher

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// dnfBusy is dnf's exit status when another program has its lock and it may not wait.
const dnfBusy = 200

// Install lets dnf bring all packages in one transaction, and then what that leaves.
func (m *DNF) Install(ctx context.Context, want []Package, blocked []string) ([]Failure, error) {
	m.stock = nil
	if err := m.prepare(); err != nil {
		return nil, err
	}
	defer m.dropDownloads()
	install := rpmInstall{rpmHost: m.rpmHost, blocked: blocked, transact: func(want, excluded []Package) (*rpmReport, error) {
		report, err := m.transact(ctx, m.installArguments(want, excluded, blocked))
		if err == nil {
			m.notes = append(m.notes, report.notes...)
		}
		return report, err
	}}
	err := install.bring(ctx, want)
	return install.failures, err
}

func (m *DNF) installArguments(want, excluded []Package, blocked []string) []string {
	args := append(m.options(), "-y", "--setopt=metadata_expire=-1", "--setopt=*.metadata_expire=-1",
		"--setopt=clean_requirements_on_remove=0", "--skip-broken")
	for _, pattern := range blocked {
		args = append(args, "--exclude="+pattern)
	}
	for _, p := range excluded {
		args = append(args, "--exclude="+nevra(p))
	}
	args = append(args, "install")
	for _, p := range want {
		args = append(args, nevra(p))
	}
	return args
}

// transact runs dnf to change the system, when no other program does so. It is not
// ended with ctx once it has begun.
func (m *DNF) transact(ctx context.Context, args []string) (*rpmReport, error) {
	for range 5 {
		if err := m.waitForDatabase(ctx, "/var/lib/dnf/rpmdb_lock.pid"); err != nil {
			return nil, err
		}
		report := &rpmReport{}
		result, err := tool{Root: m.setup.Root, Name: m.program, Args: append([]string{"--setopt=exit_on_lock=1"}, args...), Env: dnfEnvironment,
			Line: report.line, Log: m.setup.Log, Whole: true}.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.program, err)
		}
		if result.Code == dnfBusy {
			continue // another program was quicker
		}
		report.last = result.lastWords()
		return report, nil
	}
	return nil, fmt.Errorf("%w: other programs were quicker five times", ErrBusy)
}

// dropDownloads removes packages that a failed transaction left in the cache.
func (m *DNF) dropDownloads() {
	dirs, err := filepath.Glob(filepath.Join(m.cache(), "*", "packages"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		os.RemoveAll(dir)
	}
}

// Repair ends what an interrupted transaction left: packages that are there in two
// versions. dnf installs the newer one again, since its scripts may not have run, and
// removes the older; where no repository has it, rpm removes the older alone.
func (m *DNF) Repair(ctx context.Context) ([]string, error) {
	m.stock = nil
	if err := m.prepare(); err != nil {
		return nil, err
	}
	return m.repair(ctx, "/var/lib/dnf/rpmdb_lock.pid", func(ctx context.Context, _ []duplicate) error {
		_, err := m.transact(ctx, append(m.options(), "-y", "--setopt=clean_requirements_on_remove=0", "remove", "--duplicates"))
		return err
	})
}

func (m *DNF) interruptions(ctx context.Context, installed []Installed) ([]Interruption, error) {
	return m.rpmHost.interruptions(ctx, installed, "/var/lib/dnf/rpmdb_lock.pid")
}
