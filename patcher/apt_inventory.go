package patcher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"fleetmesh/internal/durable"
)

// Inventory implements [Manager].
func (a *Apt) Inventory(ctx context.Context) (*Inventory, error) {
	a.problems = refreshProblems{}
	return a.inventory(ctx, !a.setup.Offline)
}

// Reread takes stock again with the metadata of the last Inventory.
func (a *Apt) Reread(ctx context.Context) (*Inventory, error) { return a.inventory(ctx, false) }

func (a *Apt) inventory(ctx context.Context, refresh bool) (*Inventory, error) {
	native, err := a.architecture(ctx)
	if err != nil {
		return nil, err
	}
	lists := a.dirs().lists
	if a.setup.Offline {
		lists = a.newerLists()
	} else if refresh {
		if err := a.seed(); err != nil {
			return nil, err
		}
	}
	if err := a.prepare(lists); err != nil {
		return nil, err
	}
	if refresh {
		if err := a.refresh(ctx, &a.problems); err != nil {
			return nil, err
		}
	}
	inventory := &Inventory{Manager: "apt"}
	targets, err := a.targets(ctx)
	if err != nil {
		return nil, err
	}
	if inventory.Sources, err = a.sources(ctx, lists, targets, refresh); err != nil {
		return nil, err
	}
	if len(targets) == 0 && len(inventory.Sources) > 0 && !slices.ContainsFunc(inventory.Sources, func(s Source) bool { return s.Problem == "" }) {
		return nil, fmt.Errorf("no source could be read: %s: %s", inventory.Sources[0].Name, inventory.Sources[0].Problem)
	}
	// What another process changes just now is not interrupted.
	_, _, busy := anyLock(a.lockFiles())
	state, err := a.readDpkg(native)
	if err != nil {
		return nil, err
	}
	if !busy {
		inventory.Interruptions = state.interruptions()
	}
	if err := a.join(ctx, inventory, state, targets, native); err != nil {
		return nil, err
	}
	return inventory, nil
}

// refresh fetches the lists into our directory. That a source fails is in problems.
func (a *Apt) refresh(ctx context.Context, problems *refreshProblems) error {
	update := a.aptGet(refreshLimit, "apt-get", "update")
	update.Line = problems.line
	o, err := update.run(ctx)
	if errors.Is(err, errLimit) {
		problems.lines = append(problems.lines, fmt.Sprintf("the refresh took longer than %s", refreshLimit))
		return nil
	}
	if err != nil {
		return fmt.Errorf("refresh apt's lists: %w", err)
	}
	if o.Code != 0 && len(problems.lines) == 0 {
		return fmt.Errorf("refresh apt's lists: %s", o.lastWords())
	}
	return nil
}

// seed copies the machine's own lists into ours when there are none: then only what
// has changed is fetched, and a source that does not answer has data all the same.
func (a *Apt) seed() error {
	ours, system := a.dirs().lists, a.path("/var/lib/apt/lists")
	if len(a.setup.Sources) > 0 || !newestRelease(ours).IsZero() {
		return nil
	}
	entries, err := os.ReadDir(system)
	if err != nil {
		return nil // nothing to begin with
	}
	if err := os.MkdirAll(ours, 0o755); err != nil {
		return fmt.Errorf("prepare apt's directories: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.Type().IsRegular() && (isRelease(name) || strings.HasSuffix(name, "_Release.gpg") || strings.Contains(name, "_Packages")) {
			if err := copyFile(filepath.Join(system, name), filepath.Join(ours, name)); err != nil {
				return fmt.Errorf("copy the system's lists: %w", err)
			}
		}
	}
	return nil
}

// copyFile copies with the time of the last change, by which apt asks for newer.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

func isRelease(name string) bool {
	return strings.HasSuffix(name, "_InRelease") || strings.HasSuffix(name, "_Release")
}

// newestRelease is when the youngest Release file of a directory of lists came
// there; zero when there is none.
func newestRelease(lists string) time.Time {
	var newest time.Time
	entries, _ := os.ReadDir(lists)
	for _, entry := range entries {
		if !isRelease(entry.Name()) {
			continue
		}
		if info, err := entry.Info(); err == nil && changed(info).After(newest) {
			newest = changed(info)
		}
	}
	return newest
}

// changed is when a file came to be where it is: apt gives files the publisher's
// time.
func changed(info fs.FileInfo) time.Time {
	if status, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(status.Ctim.Unix()).UTC().Truncate(time.Second)
	}
	return info.ModTime().UTC()
}

// newerLists is the directory to use when nothing is fetched: ours, or the system's
// when that was refreshed later.
func (a *Apt) newerLists() string {
	ours, system := a.dirs().lists, a.path("/var/lib/apt/lists")
	mine := newestRelease(ours)
	if len(a.setup.Sources) == 0 && (mine.IsZero() || newestRelease(system).After(mine)) {
		return system
	}
	return ours
}

// fetchedFile keeps when each source was last refreshed without a problem.
const fetchedFile = "fetched.json"

// sources tells of each of the machine's sources.
func (a *Apt) sources(ctx context.Context, lists string, targets []aptTarget, refreshed bool) ([]Source, error) {
	problems := &a.problems
	var found []Source
	files := map[string]string{}
	ask := a.aptGet(queryLimit, "apt-get", "update", "--print-uris")
	ask.Log = nil
	var complaints []string
	ask.Line = func(line string) {
		if text, ok := strings.CutPrefix(line, "E: "); ok {
			complaints = append(complaints, text)
		}
		address, file, ok := printedRelease(line)
		name := sourceName(address)
		if !ok || files[name] != "" {
			return
		}
		files[name] = file
		found = append(found, Source{Name: name})
	}
	o, err := ask.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("list apt's sources: %w", err)
	}
	if o.Code != 0 {
		return nil, fmt.Errorf("list apt's sources: %s", withoutPassword(strings.Join(complaints, "; ")))
	}
	stamps := filepath.Join(filepath.Dir(a.dirs().lists), fetchedFile)
	fetched := map[string]time.Time{}
	if text, err := os.ReadFile(stamps); err == nil {
		if json.Unmarshal(text, &fetched) != nil {
			clear(fetched)
		}
	}
	now := a.setup.Now().UTC().Truncate(time.Second)
	maps.DeleteFunc(fetched, func(name string, _ time.Time) bool { return files[name] == "" })
	for i := range found {
		source := &found[i]
		source.Problem = problems.of(source.Name)
		if refreshed && source.Problem == "" {
			fetched[source.Name] = now
		}
		if lists == a.dirs().lists {
			source.Fetched = fetched[source.Name]
		}
		release, came, err := readReleaseFile(lists, files[source.Name])
		if err != nil {
			// Without a Release file: of a trusted source its lists are data all the same.
			if !slices.ContainsFunc(targets, func(t aptTarget) bool { return t.Source == source.Name }) {
				source.Problem, source.Fetched = cmp.Or(source.Problem, "there is no data of it"), time.Time{}
			}
			continue
		}
		source.Updated = release.Date
		if source.Fetched.IsZero() {
			source.Fetched = came
		}
		if !release.ValidUntil.IsZero() && now.After(release.ValidUntil) && source.Problem == "" {
			source.Problem = fmt.Sprintf("its publisher meant the data to be used until %s only", release.ValidUntil.Format(time.RFC3339))
		}
	}
	if refreshed {
		text, err := json.Marshal(fetched)
		if err != nil {
			return nil, err
		}
		if err := durable.WriteFile(stamps, text); err != nil {
			return nil, err
		}
	}
	// A problem that names no source is told with the first that has none.
	if len(problems.lines) > 0 && !slices.ContainsFunc(found, func(s Source) bool { return s.Problem != "" }) {
		for _, line := range problems.lines {
			if !harmless(line) && len(found) > 0 {
				found[0].Problem = withoutPassword(line)
				break
			}
		}
	}
	return found, nil
}

// readReleaseFile reads a source's InRelease, or Release where it has no such.
func readReleaseFile(lists, name string) (debRelease, time.Time, error) {
	for _, name := range []string{name, strings.TrimSuffix(name, "InRelease") + "Release"} {
		file, err := os.Open(filepath.Join(lists, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return debRelease{}, time.Time{}, err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return debRelease{}, time.Time{}, err
		}
		release, err := readRelease(file)
		return release, changed(info), err
	}
	return debRelease{}, time.Time{}, fs.ErrNotExist
}

// targets are the lists of packages that apt uses.
func (a *Apt) targets(ctx context.Context) ([]aptTarget, error) {
	var targets []aptTarget
	ask := a.aptGet(queryLimit, "apt-get", "indextargets")
	ask.Stdout = func(out io.Reader) error {
		return stanzas(out, func(s stanza) error {
			if t, ok := readTarget(s); ok {
				targets = append(targets, t)
			}
			return nil
		})
	}
	o, err := ask.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("list apt's indexes: %w", err)
	}
	if o.Code != 0 {
		return nil, fmt.Errorf("list apt's indexes: %s", o.lastWords())
	}
	return targets, nil
}

// open gives read the content of a list, unpacked.
func (a *Apt) open(ctx context.Context, path string, read func(io.Reader) error) error {
	switch ext := filepath.Ext(path); {
	case strings.Contains(ext, "_") || ext == "":
		file, err := os.Open(a.path(path))
		if err != nil {
			return err
		}
		defer file.Close()
		return read(file)
	default:
		unpack := a.tool(queryLimit, "/usr/lib/apt/apt-helper", "cat-file", path)
		unpack.Stdout = read
		o, err := unpack.run(ctx)
		if err == nil && o.Code != 0 {
			err = errors.New(o.lastWords())
		}
		return err
	}
}

// join brings installed packages and lists together.
func (a *Apt) join(ctx context.Context, inventory *Inventory, state *dpkgState, targets []aptTarget, native string) error {
	type entry struct {
		installed  Installed
		candidates []Candidate
		phased     []int // of candidates
	}
	entries := make(map[string]*entry, len(state.packages))
	for key, d := range state.packages {
		if !d.present() {
			continue
		}
		entries[key] = &entry{installed: Installed{
			Package: d.Package, InstalledAt: a.installedAt(d.Package), Section: d.Section, Priority: d.Priority,
			Held: d.Want == "hold", Broken: d.broken(),
		}}
	}
	var origin Origin
	phasing := false
	reader := packagesReader{native: native, others: map[uint64]struct{}{}}
	reader.wanted = func(key []byte) bool { return entries[string(key)] != nil }
	reader.each = func(key string, o debOffer) {
		e := entries[key]
		order := CompareDeb(o.Version, e.installed.Version)
		if order == 0 {
			if o.Version == e.installed.Version && !slices.Contains(e.installed.Origins, origin) {
				e.installed.Origins = append(e.installed.Origins, origin)
			}
			return
		}
		if order < 0 {
			return
		}
		at := slices.IndexFunc(e.candidates, func(c Candidate) bool { return c.Version == o.Version })
		if at < 0 {
			at = len(e.candidates)
			e.candidates = append(e.candidates, Candidate{
				Package: o.Package, Replaces: e.installed.Version, Section: o.Section, Priority: o.Priority, Held: e.installed.Held,
			})
			e.phased = append(e.phased, o.Phased)
		}
		e.phased[at] = max(e.phased[at], o.Phased)
		if !slices.Contains(e.candidates[at].Origins, origin) {
			e.candidates[at].Origins = append(e.candidates[at].Origins, origin)
		}
	}
	for _, t := range targets {
		origin = Origin{Label: t.Release.Label, Vendor: t.Release.Origin, Suite: t.Release.Suite, Codename: t.Release.Codename, Component: t.Component, Site: t.Site}
		inventory.SecurityKnown = inventory.SecurityKnown || securityOrigin(origin)
		err := a.open(ctx, t.File, func(in io.Reader) error { return reader.read(in, t.Arch) })
		if err != nil {
			return fmt.Errorf("read %s: %w", t.File, err)
		}
	}
	inventory.NotInstalled = len(reader.others)

	keys := slices.Sorted(maps.Keys(entries))
	var ask []string
	for _, key := range keys {
		e := entries[key]
		inventory.Installed = append(inventory.Installed, e.installed)
		if len(e.candidates) > 0 {
			ask = append(ask, key)
		}
		phasing = phasing || slices.ContainsFunc(e.phased, func(percent int) bool { return percent < 100 })
	}
	policy, err := a.policy(ctx, ask)
	if err != nil {
		return err
	}
	taken := map[string]bool{} // by debKey: apt's own upgrade installs it
	if phasing {
		plan, err := a.simulate(ctx, "dist-upgrade")
		if err != nil {
			return err
		}
		for _, step := range plan.Install {
			taken[debKey(step.Name, step.Arch, native)] = true
		}
	}
	for _, key := range ask {
		e := entries[key]
		name := strings.TrimSuffix(key, ":"+native)
		chosen := policy.chosen[name]
		for i := range e.candidates {
			c := &e.candidates[i]
			switch {
			case c.Version != chosen && CompareDeb(c.Version, chosen) > 0:
				c.Excluded = fmt.Sprintf("the machine's apt preferences give this version the priority %s, and choose %s", orUnknown(policy.priority[name+" "+c.Version]), chosen)
			case c.Version == chosen && e.phased[i] < 100 && !taken[key]:
				c.Excluded = fmt.Sprintf("its publisher gives this version to %d %% of all machines so far, and apt does not take it on this one", e.phased[i])
			case c.Version == chosen:
				c.Chosen = true
			}
		}
		slices.SortStableFunc(e.candidates, func(x, y Candidate) int { return CompareDeb(x.Version, y.Version) })
		inventory.Candidates = append(inventory.Candidates, e.candidates...)
	}
	return nil
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// policyBatch is how many packages one apt-cache is asked about: a command line has
// an end.
const policyBatch = 5000

// policy asks apt which versions of packages its preferences choose.
func (a *Apt) policy(ctx context.Context, keys []string) (*policyReader, error) {
	reader := &policyReader{chosen: map[string]string{}, priority: map[string]string{}}
	for batch := range slices.Chunk(keys, policyBatch) {
		ask := a.aptGet(queryLimit, "apt-cache", append([]string{"policy"}, batch...)...)
		ask.Log = nil
		ask.Line = reader.line
		o, err := ask.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask apt for its choice: %w", err)
		}
		if o.Code != 0 {
			return nil, fmt.Errorf("ask apt for its choice: %s", o.lastWords())
		}
	}
	return reader, nil
}

// simulate runs apt-get -s.
func (a *Apt) simulate(ctx context.Context, args ...string) (aptPlan, error) {
	var reader planReader
	ask := a.aptGet(queryLimit, "apt-get", append([]string{"-s"}, args...)...)
	ask.Log = nil
	ask.Line = reader.line
	o, err := ask.run(ctx)
	if err != nil {
		return aptPlan{}, fmt.Errorf("ask apt what it would do: %w", err)
	}
	if o.Code != 0 && len(reader.plan.Problems) == 0 {
		reader.plan.Problems = []string{o.lastWords()}
	}
	return reader.plan, nil
}

// Reboot implements [Manager].
func (a *Apt) Reboot(ctx context.Context) (Reboot, error) {
	native, err := a.architecture(ctx)
	if err != nil {
		return Reboot{}, err
	}
	state, err := a.readDpkg(native)
	if err != nil {
		return Reboot{}, err
	}
	reboot := rebootRequired(a.setup.Root)
	var kernels []kernelPackage
	for _, d := range state.packages {
		if image, ok := strings.CutPrefix(d.Name, "linux-image-"); ok && d.present() {
			kernels = append(kernels, kernelPackage{Name: d.Name, Release: strings.TrimPrefix(image, "unsigned-"), Version: d.Version})
		}
	}
	running, err := readRunningImage(a.setup.Root)
	if err != nil {
		return Reboot{}, err
	}
	reboot.Evidence = append(reboot.Evidence, debianKernels(running, kernels)...)
	reboot.Needed = len(reboot.Evidence) > 0
	reboot.Services, err = staleServices(ctx, a.setup.Root)
	return reboot, err
}
