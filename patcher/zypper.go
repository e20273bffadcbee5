package patcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// zypperLimit bounds a run of zypper that changes nothing.
	zypperLimit = 30 * time.Minute
	// zyppPid is the lock of libzypp.
	zyppPid = "/run/zypp.pid"
	// zyppState is where libzypp keeps what it remembers; also commands that only
	// look write there.
	zyppState = "/var/lib/zypp"
)

// Zypper is the Manager of machines with zypper. A scan gives libzypp directories of
// ours for all it writes, and copies of the repositories' definitions.
type Zypper struct {
	rpmHost
	// suggested has the versions of whose installation a patch suggests a reboot, with
	// that patch, as Inventory last saw them.
	suggested map[Package]string
	notes     []string
	// fetched is when the last refresh was, and problems what went wrong in it.
	fetched  time.Time
	problems map[string]string
}

// NewZypper is the Manager of a machine with zypper.
func NewZypper(setup Setup) *Zypper { return &Zypper{rpmHost: newRPMHost(setup)} }

var _ Manager = (*Zypper)(nil)

// Notes are sentences on what Install found that is worth a person's look, and that
// no outcome of a package says: configuration files, scripts that failed afterwards.
func (z *Zypper) Notes() []string { return z.notes }

func (z *Zypper) dir(name string) string { return filepath.Join(z.setup.Cache, name) }

// options are those of all runs: no questions, metadata and repositories are ours.
func (z *Zypper) options() []string {
	return []string{"--non-interactive", "--cache-dir", z.within(z.dir("cache")), "--reposd-dir", z.within(z.dir("repos"))}
}

// look runs zypper such that it changes nothing of the system: it takes no lock of
// the machine, and where this program may mount it sees a copy of libzypp's state.
func (z *Zypper) look(ctx context.Context, read func(io.Reader) error, args ...string) (outcome, error) {
	run := tool{Root: z.setup.Root, Log: z.setup.Log, Limit: zypperLimit, Stdout: read,
		Env: []string{"ZYPP_LOGFILE=" + z.within(z.dir("zypper.log")), "ZYPP_LOCKFILE_ROOT=" + z.within(z.dir("lock"))}}
	args = append(z.options(), args...)
	if os.Geteuid() == 0 && z.private(ctx) {
		run.Name, run.Args = "unshare", append(privately(z.within(z.dir("state"))), append([]string{"zypper"}, args...)...)
	} else {
		run.Name, run.Args = "zypper", args
	}
	result, err := run.run(ctx)
	if err != nil {
		return result, fmt.Errorf("zypper: %w", err)
	}
	return result, nil
}

// privately are the arguments of unshare for a program that sees a copy in place of
// libzypp's state.
func privately(copied string) []string {
	return []string{"--mount", "--propagation", "private", "/bin/sh", "-c", `mount -n --bind "$1" ` + zyppState + ` && shift && exec "$@"`, "sh", copied}
}

// private tells whether a program can be given a mount of its own.
func (z *Zypper) private(ctx context.Context) bool {
	if !exists(z.file(zyppState)) {
		return false
	}
	result, err := tool{Root: z.setup.Root, Name: "unshare", Limit: time.Minute,
		Args: append(privately(z.within(z.dir("state"))), "true")}.run(ctx)
	return err == nil && result.Code == 0
}

func (z *Zypper) Inventory(ctx context.Context) (*Inventory, error) {
	return z.inventory(ctx, !z.setup.Offline)
}

// Reread takes stock again with the metadata of the last Inventory.
func (z *Zypper) Reread(ctx context.Context) (*Inventory, error) { return z.inventory(ctx, false) }

func (z *Zypper) inventory(ctx context.Context, fetch bool) (*Inventory, error) {
	repositories, err := z.prepare()
	if err != nil {
		return nil, err
	}
	installed, err := z.installed(ctx)
	if err != nil {
		return nil, err
	}
	problems, err := z.refresh(ctx, repositories, fetch)
	if err != nil {
		return nil, err
	}
	catalog := newRPMCatalog(installed, machineArch(z.setup.Root))
	sources, err := z.read(ctx, catalog, repositories, problems)
	if err != nil {
		return nil, err
	}
	candidates := catalog.close()
	z.suggested = catalog.suggested()
	taken := map[Package]bool{}
	result, err := z.look(ctx, func(out io.Reader) error {
		return readZypperUpdates(out, func(p Package) { taken[p] = true })
	}, "--no-refresh", "--xmlout", "list-updates", "-t", "package")
	if err != nil {
		return nil, err
	}
	if result.Code != 0 && result.Code < zypperInformation {
		return nil, fmt.Errorf("zypper list-updates: %s", result.lastWords())
	}
	locks, err := z.locks()
	if err != nil {
		return nil, err
	}
	inventory := &Inventory{Manager: "zypper", Sources: sources, NotInstalled: len(catalog.lacking), SecurityKnown: catalog.notices > 0}
	for _, candidate := range candidates {
		if candidate.Chosen = taken[candidate.Package]; !candidate.Chosen {
			candidate.Held = locks.hold(candidate.Package)
		}
	}
	if err := z.otherVendors(ctx, candidates, catalog.vendors); err != nil {
		return nil, err
	}
	for _, candidate := range candidates {
		inventory.Candidates = append(inventory.Candidates, *candidate)
	}
	for i := range installed {
		installed[i].Held = locks.hold(installed[i].Package)
	}
	if inventory.Interruptions, err = z.interruptions(ctx, installed, zyppPid); err != nil {
		return nil, err
	}
	inventory.Installed, z.stock = installed, installed
	return inventory, nil
}

// otherVendors marks what zypper's own upgrade does not take since it is of another
// vendor than the installed package.
func (z *Zypper) otherVendors(ctx context.Context, candidates []*Candidate, vendors map[Package]string) error {
	own := map[string]string{}
	args := []string{"-q", "--qf", "%{NAME}\t%{VENDOR}\n"}
	for _, c := range candidates {
		if _, asked := own[c.Name]; !asked && !c.Chosen && vendors[c.Package] != "" {
			own[c.Name] = ""
			args = append(args, c.Name)
		}
	}
	if len(own) == 0 {
		return nil
	}
	_, err := tool{Root: z.setup.Root, Name: "rpm", Args: args, Limit: time.Minute, Line: func(line string) {
		if name, vendor, ok := strings.Cut(line, "\t"); ok && vendor != "(none)" {
			own[name] = vendor
		}
	}}.run(ctx)
	if err != nil {
		return fmt.Errorf("ask for the vendors of packages: %w", err)
	}
	for _, c := range candidates {
		if installed, offered := own[c.Name], vendors[c.Package]; !c.Chosen && installed != "" && offered != "" && !strings.EqualFold(installed, offered) {
			c.Excluded = fmt.Sprintf("it is of the vendor %s and the installed one of %s, and zypper keeps to a vendor", offered, installed)
		}
	}
	return nil
}

// prepare makes the directories and copies the definitions of the repositories, or
// writes a baseline's, and returns those that are enabled.
func (z *Zypper) prepare() ([]zyppRepository, error) {
	for _, name := range []string{"cache", "lock/run", "state"} {
		if err := os.MkdirAll(z.dir(name), 0o700); err != nil {
			return nil, fmt.Errorf("make the directory for metadata: %w", err)
		}
	}
	if err := copyNewer(z.file(zyppState), z.dir("state")); err != nil {
		return nil, fmt.Errorf("copy the state of libzypp: %w", err)
	}
	if z.setup.Offline {
		if err := copyNewer(z.file("/var/cache/zypp/raw"), z.dir("cache/raw")); err != nil {
			return nil, fmt.Errorf("copy the machine's metadata: %w", err)
		}
	}
	if err := z.writeSources(z.dir("repos")); err != nil {
		return nil, err
	}
	if len(z.setup.Sources) == 0 {
		if err := z.copyRepositories(); err != nil {
			return nil, fmt.Errorf("copy the repositories' definitions: %w", err)
		}
	}
	return readZyppRepositories(z.dir("repos"))
}

func (z *Zypper) copyRepositories() error {
	if err := os.MkdirAll(z.dir("repos"), 0o700); err != nil {
		return err
	}
	files, err := filepath.Glob(z.file("/etc/zypp/repos.d/*.repo"))
	if err != nil {
		return err
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(z.dir("repos"), filepath.Base(name)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// refresh gets the metadata, and switches repositories off in our copy of which there
// is none: zypper would go for them again each time.
func (z *Zypper) refresh(ctx context.Context, repositories []zyppRepository, fetch bool) (map[string]string, error) {
	problems := maps.Clone(z.problems)
	if fetch || problems == nil {
		problems = map[string]string{}
	}
	if fetch {
		var messages []string
		result, err := z.look(ctx, func(out io.Reader) (err error) {
			messages, err = readZypperErrors(out)
			return err
		}, "--xmlout", "refresh")
		if err != nil {
			return nil, err
		}
		problems = zypperProblems(messages, repositories)
		if result.Code != 0 && len(problems) == 0 && len(messages) > 0 {
			return nil, fmt.Errorf("zypper refresh: %s", strings.Join(messages, "; "))
		}
	}
	if fetch {
		z.fetched, z.problems = time.Now().UTC(), maps.Clone(problems)
	}
	without := z.withoutMetadata(repositories)
	for _, alias := range without {
		if problems[alias] == "" {
			problems[alias] = "there is no metadata of it on this machine"
		}
	}
	if len(without) == len(repositories) {
		var all []string
		for _, alias := range sortedKeys(problems) {
			all = append(all, alias+": "+problems[alias])
		}
		if len(all) == 0 {
			return nil, errors.New("no repository is enabled")
		}
		return nil, fmt.Errorf("no repository can be used: %s", strings.Join(all, "; "))
	}
	if err := z.switchOff(without); err != nil {
		return nil, err
	}
	return problems, nil
}

// withoutMetadata are the aliases of the repositories of which there is none.
func (z *Zypper) withoutMetadata(repositories []zyppRepository) []string {
	var without []string
	for _, r := range repositories {
		if z.metadata(r.alias) == "" {
			without = append(without, r.alias)
		}
	}
	return without
}

// switchOff takes repositories out of our copy of their definitions.
func (z *Zypper) switchOff(aliases []string) error {
	if err := disableZyppRepositories(z.dir("repos"), aliases); err != nil {
		return fmt.Errorf("switch off repositories without metadata: %w", err)
	}
	return nil
}

func (z *Zypper) repository(alias, dir string) rpmRepository {
	return rpmRepository{id: alias, dir: dir, indexes: z.dir("offers")}
}

// metadata is the directory of a repository's metadata, "" where there is none.
func (z *Zypper) metadata(alias string) string {
	dir := filepath.Join(z.dir("cache/raw"), strings.ReplaceAll(alias, "/", "_"))
	if !exists(filepath.Join(dir, "repodata", "repomd.xml")) {
		return ""
	}
	return dir
}

func (z *Zypper) read(ctx context.Context, catalog *rpmCatalog, repositories []zyppRepository, problems map[string]string) ([]Source, error) {
	var sources []Source
	var failed error
	for _, r := range repositories {
		source := Source{Name: r.alias, Problem: problems[r.alias]}
		if dir := z.metadata(r.alias); dir != "" {
			var err error
			if source, err = z.repository(r.alias, dir).read(ctx, z.setup.Root, catalog); err != nil {
				source.Problem, failed = err.Error(), err
			} else if source.Problem = problems[r.alias]; source.Problem == "" && !z.fetched.IsZero() {
				source.Fetched = z.fetched
			}
		}
		sources = append(sources, source)
	}
	if failed != nil && !slices.ContainsFunc(sources, func(s Source) bool { return s.Problem == "" }) {
		return nil, failed
	}
	return sources, nil
}

// Reboot asks zypper too: libzypp notes what it installed since the machine started
// that is in force after a reboot only.
func (z *Zypper) Reboot(ctx context.Context) (Reboot, error) {
	if _, err := z.prepare(); err != nil {
		return Reboot{}, err
	}
	reboot, err := z.reboot(ctx, z.suggested)
	if err != nil {
		return Reboot{}, err
	}
	var said []string
	result, err := z.look(ctx, func(out io.Reader) error {
		data, err := io.ReadAll(io.LimitReader(out, 64<<10))
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" {
				said = append(said, line)
			}
		}
		return err
	}, "needs-rebooting")
	if err != nil {
		return Reboot{}, err
	}
	if result.Code == zypperRebootNeeded {
		reboot.Needed = true
		reboot.Evidence = append(reboot.Evidence, "zypper needs-rebooting: "+strings.Join(said, " "))
	}
	return reboot, nil
}
