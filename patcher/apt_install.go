package patcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// installRounds bounds how often Install begins anew with what a failed transaction
// left out.
const installRounds = 5

// Install implements [Manager].
func (a *Apt) Install(ctx context.Context, want []Package, blocked []string) ([]Failure, error) {
	a.notes = nil
	native, err := a.architecture(ctx)
	if err != nil {
		return nil, err
	}
	lists := a.dirs().lists
	if a.setup.Offline {
		lists = a.newerLists()
	}
	if err := a.prepare(lists); err != nil {
		return nil, err
	}
	state, err := a.readDpkg(native)
	if err != nil {
		return nil, err
	}
	marks, err := a.automatic(native)
	if err != nil {
		return nil, err
	}
	i := &aptInstall{
		Apt: a, native: native, before: state, blocked: map[string]bool{}, reasons: map[Package]string{},
		dpkg: dpkgReader{reasons: map[string]string{}},
	}
	for _, name := range blocked {
		i.blocked[name] = true
	}
	rest := i.possible(want)
	if len(rest) == 0 {
		return i.failures(want, state), nil
	}
	if err := writeOpen(a.dirs().preferences, a.preferences(rest, blocked, native)); err != nil {
		return nil, err
	}
	defer a.dropArchives()
	err = i.rounds(ctx, rest)
	// What was begun is brought to an end, and told, also when the time is over.
	after := context.WithoutCancel(ctx)
	state, failed := a.readDpkg(native)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	err = errors.Join(err, a.keepMarks(after, marks, native))
	for _, name := range i.dpkg.kept {
		a.notes = append(a.notes, "the configuration file "+name+" was changed on this machine and has been kept; the package's own lies beside it as "+name+".dpkg-dist")
	}
	return i.failures(want, state), err
}

// aptInstall is one Install.
type aptInstall struct {
	*Apt
	native  string
	before  *dpkgState
	blocked map[string]bool
	// reasons is why packages were not even tried.
	reasons map[Package]string
	dpkg    dpkgReader
}

// possible drops what needs no apt to be refused, and what is there already.
func (i *aptInstall) possible(want []Package) []Package {
	var rest []Package
	for _, p := range want {
		d, known := i.before.packages[debKey(p.Name, p.Arch, i.native)]
		switch {
		case i.blocked[p.Name] || i.blocked[p.ID()]:
			i.reasons[p] = "it is blocked by a rejected patch"
		case known && d.present() && d.Version == p.Version:
		case known && d.Want == "hold":
			i.reasons[p] = fmt.Sprintf("it is held at %s by apt-mark", d.Version)
		case known && d.present() && CompareDeb(d.Version, p.Version) > 0:
			i.reasons[p] = fmt.Sprintf("the newer version %s is installed", d.Version)
		case !slices.Contains(rest, p):
			rest = append(rest, p)
		}
	}
	return rest
}

// rounds installs, and begins anew with what a failure left out, as long as that
// gets further.
func (i *aptInstall) rounds(ctx context.Context, rest []Package) error {
	for range installRounds {
		good, err := i.choose(ctx, rest)
		if err != nil || len(good) == 0 {
			return err
		}
		if err := i.transaction(ctx, good); err != nil {
			return err
		}
		state, err := i.readDpkg(i.native)
		if err != nil {
			return err
		}
		if len(state.interruptions()) > 0 {
			// Others must not stay half-way for one that fails.
			if _, err := i.repair(context.WithoutCancel(ctx), &i.dpkg); err != nil && !errors.Is(err, ErrInterrupted) {
				return err
			}
			if state, err = i.readDpkg(i.native); err != nil {
				return err
			}
		}
		rest = slices.DeleteFunc(slices.Clone(good), func(p Package) bool {
			return i.reached(p, state) || i.dpkg.reason(p) != ""
		})
		if len(rest) == 0 || len(rest) == len(good) {
			return nil
		}
	}
	return nil
}

func (i *aptInstall) reached(p Package, state *dpkgState) bool {
	return state.packages[debKey(p.Name, p.Arch, i.native)].Version == p.Version
}

// choose finds the most of rest that apt can do in one go, and notes why it cannot
// do the others. What depends on each other is tried together before it is taken
// apart.
func (i *aptInstall) choose(ctx context.Context, rest []Package) ([]Package, error) {
	var good []Package
	var bad []Package
	var split func(part []Package) error
	split = func(part []Package) error {
		reason, err := i.try(ctx, append(slices.Clone(good), part...))
		switch {
		case err != nil:
			return err
		case reason == "":
			good = append(good, part...)
			return nil
		case len(part) == 1:
			bad = append(bad, part[0])
			i.reasons[part[0]] = reason
			return nil
		}
		half := len(part) / 2
		return errors.Join(split(part[:half]), split(part[half:]))
	}
	if err := split(rest); err != nil {
		return nil, err
	}
	// What failed for want of one that came later may do now.
	for len(bad) > 0 {
		failed, before := bad, len(good)
		bad = nil
		for _, p := range failed {
			if err := split([]Package{p}); err != nil {
				return nil, err
			}
		}
		if len(good) == before {
			break
		}
	}
	for _, p := range good {
		delete(i.reasons, p)
	}
	return good, nil
}

// arguments are the command line of apt-get install for packages.
func (i *aptInstall) arguments(packages []Package) []string {
	args := []string{
		"install", "--no-remove", "--no-install-recommends",
		"-o", "Dir::Etc::Preferences=" + i.inside(i.dirs().preferences),
		"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
	}
	for _, p := range packages {
		name := p.Name
		if p.Arch != "all" && p.Arch != i.native {
			name += ":" + p.Arch
		}
		args = append(args, name+"="+p.Version)
	}
	return args
}

// try asks apt whether it can install packages together, and fetches them: "" when
// it has. Nothing of the system is changed.
func (i *aptInstall) try(ctx context.Context, packages []Package) (reason string, err error) {
	plan, err := i.simulate(ctx, i.arguments(packages)...)
	if err != nil {
		return "", err
	}
	if len(plan.Problems) > 0 {
		return withRejections(plan.reason(), sortedKeys(i.blocked)), nil
	}
	if len(plan.Remove) > 0 {
		return "it needs these packages to be removed: " + strings.Join(plan.Remove, ", "), nil
	}
	for _, step := range plan.Install {
		if i.blocked[step.Name] || i.blocked[step.ID()] {
			return fmt.Sprintf("it needs %s, which is blocked by a rejected patch", step.Title()), nil
		}
	}
	reader := fetchReader{reasons: map[string]string{}}
	fetch := i.aptGet(fetchLimit, "apt-get", append([]string{"--download-only", "-o", "Debug::NoLocking=1"}, i.arguments(packages)...)...)
	fetch.Line = reader.line
	o, err := fetch.run(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch packages: %w", err)
	}
	if o.Code == 0 {
		return "", nil
	}
	last := packages[len(packages)-1]
	if reason := reader.reasons[last.Name]; reason != "" {
		return reason, nil
	}
	for _, reason := range reader.reasons {
		return "a package that it needs cannot be had: " + reason, nil
	}
	if len(reader.other) > 0 {
		return "it cannot be fetched: " + strings.Join(reader.other, "; "), nil
	}
	return "it cannot be fetched: " + o.lastWords(), nil
}

// transaction lets apt install packages. What became of them is read from dpkg's
// status; an error says that it did not begin.
func (i *aptInstall) transaction(ctx context.Context, packages []Package) error {
	began := time.Now()
	if err := waitForLocks(ctx, i.lockFiles(), i.setup.LockWait, i.setup.Log); err != nil {
		return err
	}
	// Another may have been faster: apt waits for what is left of the time.
	left := max(0, i.setup.LockWait-time.Since(began))
	install := i.aptGet(transactionLimit, "apt-get", append([]string{
		"-o", fmt.Sprintf("DPkg::Lock::Timeout=%d", int(left.Seconds())),
	}, i.arguments(packages)...)...)
	install.Whole = true
	locked := false
	var other []string
	install.Line = func(line string) {
		if text, ok := strings.CutPrefix(line, "E: "); ok {
			locked = locked || strings.Contains(line, "Could not get lock") || strings.Contains(line, "Unable to acquire the dpkg frontend lock")
			other = append(other, text)
		}
		i.dpkg.line(line)
	}
	o, err := install.run(ctx)
	if err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	if o.Code == 0 {
		return nil
	}
	if locked {
		if path, who, held := anyLock(i.lockFiles()); held {
			return busy(path, who, time.Since(began))
		}
		return fmt.Errorf("%w: %s", ErrBusy, strings.Join(other, "; "))
	}
	for _, p := range packages {
		i.reasons[p] = "apt-get ended with an error: " + strings.Join(other, "; ")
	}
	return nil
}

// failures compares what was wanted with what is.
func (i *aptInstall) failures(want []Package, state *dpkgState) []Failure {
	var failures []Failure
	for _, p := range want {
		d := state.packages[debKey(p.Name, p.Arch, i.native)]
		if d.Version == p.Version && d.broken() == "" {
			continue
		}
		reason := i.dpkg.reason(p)
		if reason == "" {
			reason = i.reasons[p]
		}
		if d.broken() != "" && d.Version == p.Version {
			reason = strings.TrimPrefix(reason+"; it is "+d.broken(), "; ")
		}
		if reason == "" {
			reason = "apt-get did not install it, and did not say why"
		}
		failures = append(failures, Failure{Package: p, Reason: reason})
	}
	return failures
}

// preferences are the machine's own, with those of the run before them: what is
// blocked is not to be had, and of what is wanted the wanted version is the one that
// others get which need it.
func (a *Apt) preferences(want []Package, blocked []string, native string) string {
	var text strings.Builder
	for _, name := range blocked {
		fmt.Fprintf(&text, "Package: %s\nPin: release *\nPin-Priority: -1\n\n", blockedPattern(name, native))
	}
	for _, p := range want {
		name := p.Name
		if p.Arch != "all" {
			name += ":" + p.Arch
		}
		fmt.Fprintf(&text, "Package: %s\nPin: version %s\nPin-Priority: 995\n\n", name, p.Version)
	}
	if own, err := os.ReadFile(a.path("/etc/apt/preferences")); err == nil {
		text.Write(own)
	}
	return text.String()
}

// blockedPattern writes a name, or a name.arch, as apt's preferences do.
func blockedPattern(name, native string) string {
	if at := strings.LastIndexByte(name, '.'); at > 0 {
		switch arch := name[at+1:]; arch {
		case "all":
			return name[:at]
		case native, "amd64", "i386", "arm64", "armhf", "armel", "ppc64el", "s390x", "riscv64", "mips64el":
			return name[:at] + ":" + arch
		}
	}
	return name
}

// keepMarks marks again as automatic what apt now takes for asked for by name.
func (a *Apt) keepMarks(ctx context.Context, before map[string]bool, native string) error {
	now, err := a.automatic(native)
	if err != nil {
		return err
	}
	args := []string{"auto"}
	for _, key := range sortedKeys(before) {
		if !now[key] {
			args = append(args, key)
		}
	}
	if len(args) == 1 {
		return nil
	}
	state, err := a.readDpkg(native)
	if err != nil {
		return err
	}
	args = slices.DeleteFunc(args, func(key string) bool { return key != "auto" && !state.packages[key].present() })
	if len(args) == 1 {
		return nil
	}
	mark := a.aptGet(queryLimit, "apt-mark", args...)
	o, err := mark.run(ctx)
	if err == nil && o.Code != 0 {
		err = errors.New(o.lastWords())
	}
	if err != nil {
		return fmt.Errorf("keep apt's marks of automatic packages: %w", err)
	}
	return nil
}

// dropArchives removes what was fetched.
func (a *Apt) dropArchives() {
	for _, pattern := range []string{"*.deb", "partial/*.deb", "partial/*.FAILED"} {
		files, err := filepath.Glob(filepath.Join(a.dirs().archives, pattern))
		if err != nil {
			continue
		}
		for _, file := range files {
			os.Remove(file)
		}
	}
}
