package patcher

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Install lets zypper bring all packages in one go, and then what that leaves: zypper
// stops at the first package that fails.
func (z *Zypper) Install(ctx context.Context, want []Package, blocked []string) ([]Failure, error) {
	z.stock = nil
	repositories, err := z.prepare()
	if err != nil {
		return nil, err
	}
	// Where nothing is there at all, nobody took stock before, and zypper may fetch it.
	if without := z.withoutMetadata(repositories); len(without) < len(repositories) {
		if err := z.switchOff(without); err != nil {
			return nil, err
		}
	}
	forbidden, err := z.blockedVersions(ctx, repositories, blocked)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(z.dir("cache/packages"))
	install := rpmInstall{rpmHost: z.rpmHost, blocked: blocked, transact: func(want, excluded []Package) (*rpmReport, error) {
		if err := z.writeBlocks(slices.Concat(excluded, forbidden), blocked); err != nil {
			return nil, err
		}
		args := []string{"--no-refresh", "install", "--auto-agree-with-licenses", "--no-recommends", "--download-in-advance", "--details"}
		for _, p := range want {
			args = append(args, zypperSpec(p))
		}
		report, err := z.transact(ctx, args)
		if err == nil {
			z.notes = append(z.notes, report.notes...)
		}
		return report, err
	}}
	err = install.bring(ctx, want)
	return install.failures, err
}

// blockedVersions are the offered versions that a pattern with a version blocks:
// libzypp's locks have patterns for names only.
func (z *Zypper) blockedVersions(ctx context.Context, repositories []zyppRepository, blocked []string) ([]Package, error) {
	var found []Package
	if len(blocked) == 0 {
		return nil, nil
	}
	for _, r := range repositories {
		dir := z.metadata(r.alias)
		if dir == "" {
			continue
		}
		repository := z.repository(r.alias, dir)
		head, _, err := repository.head()
		if err == nil {
			err = repository.offers(ctx, z.setup.Root, head, func(o offered) {
				if slices.ContainsFunc(blocked, func(pattern string) bool { return matchesSpec(pattern, o.Package) }) && !slices.Contains(found, o.Package) {
					found = append(found, o.Package)
				}
			})
		}
		if err != nil {
			return nil, fmt.Errorf("block packages: %w", err)
		}
	}
	return found, nil
}

// zypperSpec is a package of one version as zypper takes it.
func zypperSpec(p Package) string { return p.Name + "." + p.Arch + "=" + p.Version }

// writeBlocks writes a configuration of libzypp in which the blocked packages are
// locked besides those that the administrator locked: zypper has no option for that.
func (z *Zypper) writeBlocks(excluded []Package, blocked []string) error {
	locks, err := os.ReadFile(z.file("/etc/zypp/locks"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("block packages: %w", err)
	}
	text := strings.TrimSpace(string(locks)) + "\n"
	for _, pattern := range blocked {
		text += "\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: " + strings.ReplaceAll(pattern, "\n", " ") + "\n"
	}
	for _, p := range excluded {
		text += "\ntype: package\nmatch_type: exact\ncase_sensitive: on\nsolvable_name: " + p.Name + "\nversion: == " + p.Version + "\n"
	}
	if err := os.WriteFile(z.dir("locks"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("block packages: %w", err)
	}
	var own []byte
	for _, name := range []string{"/etc/zypp/zypp.conf", "/usr/etc/zypp/zypp.conf"} {
		if own, err = os.ReadFile(z.file(name)); err == nil {
			break
		}
	}
	if err := os.WriteFile(z.dir("zypp.conf"), []byte(withLocksFile(string(own), z.within(z.dir("locks")))), 0o600); err != nil {
		return fmt.Errorf("block packages: %w", err)
	}
	return nil
}

// withLocksFile is a configuration of libzypp with another file of locks.
func withLocksFile(config, place string) string {
	var out strings.Builder
	out.WriteString("[main]\nlocksfile.path = " + place + "\n")
	for line := range strings.Lines(config) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key = strings.TrimSpace(key); key == "[main]" || key == "locksfile.path" || key == "locksfile.apply" {
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

// transact runs zypper to change the system, when no other program does so. It is not
// ended with ctx once it has begun.
func (z *Zypper) transact(ctx context.Context, args []string) (*rpmReport, error) {
	for range 5 {
		if err := z.waitForDatabase(ctx, zyppPid); err != nil {
			return nil, err
		}
		report := &rpmReport{}
		run := tool{Root: z.setup.Root, Name: "zypper", Args: append(z.options(), args...), Line: report.line, Log: z.setup.Log, Whole: true,
			Env: []string{"ZYPP_CONF=" + z.within(z.dir("zypp.conf"))}}
		result, err := run.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("zypper: %w", err)
		}
		if result.Code == zypperLocked {
			continue // another program was quicker
		}
		report.last = result.lastWords()
		return report, nil
	}
	return nil, fmt.Errorf("%w: other programs were quicker five times", ErrBusy)
}

// Repair ends what an interrupted transaction left: packages that are there in two
// versions. zypper installs the newer one again, since its scripts may not have run,
// which removes the older; where no repository has it, rpm removes the older alone.
func (z *Zypper) Repair(ctx context.Context) ([]string, error) {
	z.stock = nil
	if _, err := z.prepare(); err != nil {
		return nil, err
	}
	return z.repair(ctx, zyppPid, func(ctx context.Context, found []duplicate) error {
		if err := z.writeBlocks(nil, nil); err != nil {
			return err
		}
		args := []string{"install", "--force", "--auto-agree-with-licenses", "--no-recommends"}
		for _, d := range found {
			args = append(args, zypperSpec(d.newer))
		}
		_, err := z.transact(ctx, args)
		return err
	})
}
