package patcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// dnfLimit bounds a run of dnf that changes nothing.
const dnfLimit = 30 * time.Minute

// DNF is the Manager of machines with dnf 4. A scan gives dnf directories of ours for all it writes; its
// configuration, plugins and the database of rpm are the machine's.
type DNF struct {
	rpmHost
	program string
	// suggested has the versions of whose installation a notice suggests a reboot, with
	// that notice, as Inventory last saw them.
	suggested map[Package]string
	notes     []string
	// fetched is when the last refresh was, and problems what went wrong in it.
	fetched  time.Time
	problems map[string]string
}

// NewDNF is the Manager of a machine with dnf.
func NewDNF(setup Setup) *DNF {
	return &DNF{rpmHost: newRPMHost(setup), program: "dnf"}
}

// Notes are sentences on what Install found that is worth a person's look, and that
// no outcome of a package says: configuration files, scripts that failed afterwards.
func (m *DNF) Notes() []string { return m.notes }

var _ Manager = (*DNF)(nil)

// writers are plugins of dnf that write to the system in a scan, and have no say in
// what it finds.
const writers = "--disableplugin=generate_completion_cache,subscription-manager,product-id,upload-profile,etckeeper,post-transaction-actions"

func (m *DNF) cache() string   { return filepath.Join(m.setup.Cache, "cache") }
func (m *DNF) persist() string { return filepath.Join(m.setup.Cache, "persist") }
func (m *DNF) sources() string { return filepath.Join(m.setup.Cache, "sources") }

// options are those of all runs: metadata is ours; no package is replaced by another
// name, or comes along without need.
func (m *DNF) options() []string {
	options := []string{"-v",
		"--setopt=cachedir=" + m.within(m.cache()),
		"--setopt=logdir=" + m.within(filepath.Join(m.setup.Cache, "log")),
		"--setopt=best=0", "--setopt=strict=0", "--setopt=obsoletes=0", "--setopt=install_weak_deps=0",
		"--setopt=zchunk=0", "--setopt=keepcache=0", "--setopt=color=never",
		"--setopt=skip_if_unavailable=1", "--setopt=*.skip_if_unavailable=1", "--setopt=*.countme=0"}
	if len(m.setup.Sources) > 0 {
		options = append(options, "--setopt=reposdir="+m.within(m.sources()))
	}
	return options
}

// dry runs dnf such that it changes nothing of the system.
func (m *DNF) dry(ctx context.Context, args ...string) (*dnfPlan, outcome, error) {
	plan := newDNFPlan()
	all := append(m.options(), writers, "--setopt=persistdir="+m.within(m.persist()), "--assumeno")
	result, err := tool{Root: m.setup.Root, Name: m.program, Args: append(all, args...), Env: dnfEnvironment,
		Line: plan.line, Log: m.setup.Log, Limit: dnfLimit}.run(ctx)
	if err != nil {
		return nil, result, fmt.Errorf("%s: %w", m.program, err)
	}
	return plan, result, nil
}

// dnfEnvironment keeps dnf, a program in Python, from holding back what it prints, and an
// administrator's aliases from changing its commands.
var dnfEnvironment = []string{"PYTHONUNBUFFERED=1", "DNF_DISABLE_ALIASES=1"}

func (m *DNF) Inventory(ctx context.Context) (*Inventory, error) {
	return m.inventory(ctx, !m.setup.Offline)
}

// Reread takes stock again with the metadata of the last Inventory.
func (m *DNF) Reread(ctx context.Context) (*Inventory, error) { return m.inventory(ctx, false) }

func (m *DNF) inventory(ctx context.Context, fetch bool) (*Inventory, error) {
	if err := m.prepare(); err != nil {
		return nil, err
	}
	// rpm lists the packages while dnf is busy; what it says of errors comes after dnf's.
	var installed []Installed
	var said bytes.Buffer
	listed := make(chan error)
	go func() {
		host := m.rpmHost
		host.setup.Log = &said
		var err error
		installed, err = host.installed(ctx)
		listed <- err
	}()
	plan, problems, err := m.refresh(ctx, fetch)
	err = errors.Join(<-listed, err)
	said.WriteTo(m.setup.Log)
	if err != nil {
		return nil, err
	}
	m.stock = installed
	catalog := newRPMCatalog(installed, machineArch(m.setup.Root))
	sources, err := m.read(ctx, catalog, plan, problems)
	if err != nil {
		return nil, err
	}
	candidates := catalog.close()
	m.suggested = catalog.suggested()
	if err := m.choose(ctx, plan, installed, &candidates); err != nil {
		return nil, err
	}
	inventory := &Inventory{Manager: m.program, Installed: installed, Sources: sources,
		NotInstalled: len(catalog.lacking), SecurityKnown: catalog.notices > 0}
	for _, candidate := range candidates {
		inventory.Candidates = append(inventory.Candidates, *candidate)
	}
	if inventory.Interruptions, err = m.interruptions(ctx, installed); err != nil {
		return nil, err
	}
	return inventory, nil
}

// prepare makes the directories, and a baseline's repositories in theirs.
func (m *DNF) prepare() error {
	for _, dir := range []string{m.cache(), m.persist(), filepath.Join(m.setup.Cache, "log")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the directory for metadata: %w", err)
		}
	}
	// Which default streams of modules there were is known to the machine's dnf alone.
	if err := copyNewer(m.file("/var/lib/dnf/modulefailsafe"), filepath.Join(m.persist(), "modulefailsafe")); err != nil {
		return fmt.Errorf("copy the memory of modules: %w", err)
	}
	// So are the keys of repositories that sign their metadata; nobody is there to agree
	// to them again.
	rings, _ := filepath.Glob(m.file("/var/cache/dnf/*/pubring")) // the pattern is well formed
	for _, ring := range rings {
		if err := copyNewer(ring, filepath.Join(m.cache(), filepath.Base(filepath.Dir(ring)), "pubring")); err != nil {
			return fmt.Errorf("copy the keys of a repository: %w", err)
		}
	}
	if m.setup.Offline {
		if err := copyNewer(m.file("/var/cache/dnf"), m.cache()); err != nil {
			return fmt.Errorf("copy the machine's metadata: %w", err)
		}
	}
	return m.writeSources(m.sources())
}

// refresh gets the metadata and what dnf would do with it. Where a repository cannot
// be refreshed and older data of it is left, that is used. The problems are those of
// the refresh.
func (m *DNF) refresh(ctx context.Context, fetch bool) (*dnfPlan, map[string]string, error) {
	how := "-C"
	if fetch {
		how = "--refresh"
	}
	plan, result, err := m.dry(ctx, how, "upgrade")
	if err != nil {
		return nil, nil, err
	}
	problems := plan.problems
	if fetch {
		m.fetched, m.problems = time.Now().UTC(), problems
	} else {
		for id, why := range m.problems {
			problems[id] = why
		}
	}
	if fetch && len(problems) > 0 && slices.ContainsFunc(sortedKeys(problems), func(id string) bool { return m.metadata(id) != "" }) {
		if plan, result, err = m.dry(ctx, "-C", "upgrade"); err != nil {
			return nil, nil, err
		}
	}
	if len(plan.loaded) == 0 {
		return nil, nil, fmt.Errorf("no repository can be used: %s", m.why(plan, problems, result))
	}
	return plan, problems, nil
}

func (m *DNF) why(plan *dnfPlan, problems map[string]string, result outcome) string {
	if len(problems) > 0 {
		var all []string
		for _, id := range sortedKeys(problems) {
			all = append(all, id+": "+problems[id])
		}
		return strings.Join(all, "; ")
	}
	if len(plan.errors) > 0 {
		return strings.Join(plan.errors, "; ")
	}
	return result.lastWords()
}

// read reads the metadata of the repositories that dnf used.
func (m *DNF) read(ctx context.Context, catalog *rpmCatalog, plan *dnfPlan, problems map[string]string) ([]Source, error) {
	var sources []Source
	var failed error
	for _, id := range plan.loaded {
		dir := m.metadata(id)
		if dir == "" {
			return nil, fmt.Errorf("dnf used repository %s, and its metadata is not in %s", id, m.cache())
		}
		source, err := rpmRepository{id: id, dir: dir, indexes: filepath.Join(m.setup.Cache, "offers")}.read(ctx, m.setup.Root, catalog)
		if source.Problem = problems[id]; err != nil {
			source.Problem, failed = err.Error(), err
		} else if source.Problem == "" && !m.fetched.IsZero() {
			source.Fetched = m.fetched
		}
		sources = append(sources, source)
	}
	if failed != nil && !slices.ContainsFunc(sources, func(s Source) bool { return s.Problem == "" }) {
		return nil, failed
	}
	for _, id := range sortedKeys(problems) {
		if !slices.Contains(plan.loaded, id) {
			sources = append(sources, Source{Name: id, Problem: problems[id]})
		}
	}
	return sources, nil
}

// metadata is the directory where dnf keeps a repository's metadata, id-HASH, the
// hash being that of its address: the newest, if that changed. "" where there is none.
func (m *DNF) metadata(id string) string {
	var newest string
	var at time.Time
	entries, err := os.ReadDir(m.cache())
	if err != nil {
		return ""
	}
	for _, entry := range entries {
		name, hash, ok := cutLast(entry.Name(), '-')
		if !ok || name != id || len(hash) != 16 || strings.Trim(hash, "0123456789abcdef") != "" {
			continue
		}
		dir := filepath.Join(m.cache(), entry.Name())
		if info, err := os.Stat(filepath.Join(dir, "repodata", "repomd.xml")); err == nil && !info.ModTime().Before(at) {
			newest, at = dir, info.ModTime()
		}
	}
	return newest
}

// choose marks the versions that dnf's own upgrade takes, and those that the
// configuration forbids. It drops what belongs to a stream of a module that is not
// enabled: dnf does not offer that.
func (m *DNF) choose(ctx context.Context, plan *dnfPlan, installed []Installed, candidates *[]*Candidate) error {
	all := *candidates
	for _, candidate := range all {
		candidate.Chosen = plan.taken[candidate.Package]
	}
	var locks lockList
	if plan.locks {
		var err error
		if locks, err = m.versionLocks(); err != nil {
			return err
		}
	}
	for i := range installed {
		installed[i].Held = locks.holds(installed[i].Package)
	}
	for _, candidate := range all {
		if lock := locks.about(candidate.Name); lock != "" && !candidate.Chosen {
			candidate.Held, candidate.Excluded = true, "versionlock has "+lock
		}
	}
	ask := m.doubtful(all)
	if len(ask) == 0 {
		return nil
	}
	args := []string{"-C", "--skip-broken", "install"}
	for _, candidate := range ask {
		args = append(args, nevra(candidate.Package))
	}
	answer, _, err := m.dry(ctx, args...)
	if err != nil {
		return err
	}
	excludes := m.excludes()
	*candidates = slices.DeleteFunc(all, func(candidate *Candidate) bool {
		return answer.filtered[nevra(candidate.Package)] == "modular"
	})
	for _, candidate := range *candidates {
		if answer.filtered[nevra(candidate.Package)] != "exclude" {
			continue
		}
		candidate.Excluded = "the configuration of " + m.program + " excludes it" + excludes
	}
	// What another name would replace stays what it is: its newest version is chosen.
	for i, candidate := range *candidates {
		newest := i+1 == len(*candidates) || (*candidates)[i+1].ID() != candidate.ID()
		if newest && candidate.Excluded == "" && plan.obsoleted[candidate.ID()] {
			candidate.Chosen = true
		}
	}
	return nil
}

// doubtful are the candidates of which it is not clear that dnf offers them: all that
// it did not choose and no lock explains, where there are excludes or modules, or where
// it did not choose the newest.
func (m *DNF) doubtful(all []*Candidate) []*Candidate {
	open := func(c *Candidate) bool { return !c.Chosen && !c.Held }
	ask := slices.DeleteFunc(slices.Clone(all), func(c *Candidate) bool { return !open(c) })
	if len(ask) == 0 || m.excludes() != "" || m.modules(all) {
		return ask
	}
	for i, candidate := range all {
		if newest := i+1 == len(all) || all[i+1].ID() != candidate.ID(); newest && open(candidate) {
			return ask
		}
	}
	return nil
}

// modules tells whether modules may hide one of the candidates: one comes of a module,
// or a stream is enabled.
func (m *DNF) modules(all []*Candidate) bool {
	if slices.ContainsFunc(all, func(c *Candidate) bool { return strings.Contains(c.Version, "module") }) {
		return true
	}
	entries, err := os.ReadDir(m.file("/etc/dnf/modules.d"))
	return err == nil && len(entries) > 0
}

func cutLast(text string, at byte) (before, after string, found bool) {
	i := strings.LastIndexByte(text, at)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// copyNewer copies a tree of plain files but for packages, and those that are as new at
// the target. It is no error that there is no such tree.
func copyNewer(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		if entry.IsDir() && entry.Name() == "packages" {
			return filepath.SkipDir
		}
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil // it went away meanwhile, or is a lock or socket
		}
		if old, err := os.Stat(target); err == nil && !old.ModTime().Before(info.ModTime()) {
			return nil
		}
		return copyFile(path, target)
	})
}

// Reboot judges by what is installed and when, as needs-restarting does.
func (m *DNF) Reboot(ctx context.Context) (Reboot, error) {
	return m.reboot(ctx, m.suggested)
}
