package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
)

// The aims of a scan, against the question that the machine's own tool answers.
const (
	scanFactor = 1.2
	scanSlack  = 50 // ms
	scanMemory = 60 // MiB
)

const scanMethod = "From the start of the process to its end, output to /dev/null, everything in the page cache; the rows take turns. " +
	"Times are of the process with all its children. Memory is the highest VmHWM of the process itself, in runs of their own in which it is read every few milliseconds; what its children use is listed apart. CPU of children is that of all that were waited for."

// scan is a program that tells what can be upgraded: meshd, or one that it is measured
// beside.
type scan struct {
	name string
	args []string
	// root is where the program's file system begins, "" for this machine's own.
	root string
	// prepare comes before each run and is not measured; nil for nothing.
	prepare func() error

	took, cpu []float64 // milliseconds
	watched   []footprint
}

// footprint is what a run took beside time.
type footprint struct {
	peak                float64            // MiB, of the process itself
	ownCPU, childrenCPU float64            // milliseconds
	children            map[string]float64 // the highest peak, in MiB, by the program's name
}

// start starts a run. errors gets what it says of errors.
func (s *scan) start(ctx context.Context) (_ *exec.Cmd, errors *bytes.Buffer, _ error) {
	if s.prepare != nil {
		if err := s.prepare(); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	cmd := exec.CommandContext(ctx, s.args[0], s.args[1:]...)
	errors = &bytes.Buffer{}
	cmd.Dir, cmd.Stderr = "/", errors
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return cmd, errors, nil
}

// cpuOf is what an ended process and the children it waited for have used.
func cpuOf(cmd *exec.Cmd) float64 {
	return milliseconds(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
}

// time runs it once.
func (s *scan) time(ctx context.Context) (took, cpu float64, err error) {
	cmd, errors, err := s.start(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := cmd.Wait(); err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %.400s", s.name, err, errors)
	}
	return milliseconds(time.Since(began)), cpuOf(cmd), nil
}

// watchEvery is how often a process is looked at while it is watched.
const watchEvery = 3 * time.Millisecond

// watch runs it once and looks at it and its children all the time.
func (s *scan) watch(ctx context.Context) (footprint, error) {
	seen := footprint{children: map[string]float64{}}
	cmd, errors, err := s.start(ctx)
	if err != nil {
		return seen, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	family := map[int]bool{cmd.Process.Pid: true} // whether a process belongs to it
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return seen, fmt.Errorf("%s: %w: %.400s", s.name, err, errors)
			}
			seen.childrenCPU = max(0, cpuOf(cmd)-seen.ownCPU)
			return seen, nil
		case <-look.C:
		}
		for _, pid := range processes(cmd.Process.Pid, family) {
			peak, name := peakMemory(pid)
			if pid != cmd.Process.Pid {
				if name != "" && name != filepath.Base(s.args[0]) { // not yet what it will be
					seen.children[name] = max(seen.children[name], peak)
				}
				continue
			}
			seen.peak = max(seen.peak, peak)
			if cpu, err := cpuTime(pid); err == nil {
				seen.ownCPU = max(seen.ownCPU, milliseconds(cpu))
			}
		}
	}
}

// processes are those of a family; known remembers of each process whether it is one.
func processes(first int, known map[int]bool) []int {
	pids := []int{first}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscan(entry.Name(), &pid); err != nil || pid == first {
			continue
		}
		belongs, asked := known[pid]
		if !asked {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue
			}
			// The name, in parentheses, may hold anything; what follows it does not.
			fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
			var parent int
			if len(fields) > 1 {
				_, _ = fmt.Sscan(fields[1], &parent)
			}
			belongs = known[parent]
			known[pid] = belongs
		}
		if belongs {
			pids = append(pids, pid)
		}
	}
	return pids
}

// peakMemory is the highest resident memory of a process so far, in MiB, and its name.
func peakMemory(pid int) (float64, string) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, ""
	}
	var kib float64
	var name string
	for line := range strings.Lines(string(data)) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Name":
			name = strings.TrimSpace(value)
		case "VmHWM":
			_, _ = fmt.Sscan(value, &kib)
		}
	}
	return kib / 1024, name
}

// measure lets all take turns, between two measurements of the floor.
func (t *table) measure(ctx context.Context, b *bench, all []*scan) error {
	const starts = 50
	t.Floor = &floorCheck{What: fmt.Sprintf("start `sh -c true` %d times, two at a time", starts), Unit: "ms"}
	var err error
	if t.Floor.Before, err = execFloor(starts, 30); err != nil {
		return err
	}
	for round := range b.times(9, 3) + 1 {
		for _, s := range all {
			took, cpu, err := s.time(ctx)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // the page cache is warm from here on
			}
			s.took, s.cpu = append(s.took, took), append(s.cpu, cpu)
		}
	}
	for range 3 {
		for _, s := range all {
			seen, err := s.watch(ctx)
			if err != nil {
				return err
			}
			s.watched = append(s.watched, seen)
		}
	}
	t.Floor.After, err = execFloor(starts, 30)
	return err
}

// within judges the row by another one and a time that may be added.
func (r *row) within(peer *scan) *row {
	r.times(peer.took, peer.name)
	r.Aim = fmt.Sprintf("≤ %s × %s + %d ms", number(scanFactor), peer.name, scanSlack)
	return r.judge(median(r.Values) <= scanFactor*median(peer.took)+scanSlack)
}

// costs adds the rows of memory and CPU.
func (t *table) costs(ours bool, s *scan) {
	pick := func(value func(footprint) float64) []float64 {
		var values []float64
		for _, seen := range s.watched {
			values = append(values, value(seen))
		}
		return values
	}
	peak := t.add("peak memory: "+s.name, "MiB", pick(func(f footprint) float64 { return f.peak }))
	if !ours {
		t.add("CPU: "+s.name, "ms", s.cpu)
		return
	}
	peak.below(scanMemory)
	t.add("CPU: "+s.name+", meshd itself", "ms", pick(func(f footprint) float64 { return f.ownCPU }))
	t.add("CPU: "+s.name+", its children", "ms", pick(func(f footprint) float64 { return f.childrenCPU }))
	highest := map[string]float64{}
	for _, seen := range s.watched {
		for name, peak := range seen.children {
			highest[name] = max(highest[name], peak)
		}
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(highest)) {
		words = append(words, fmt.Sprintf("%s %s MiB", name, number(highest[name])))
	}
	if len(words) > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("Children of %s, and their peak memory where it was seen: %s.", s.name, strings.Join(words, ", ")))
	}
}

// patchScan prepares a scan by meshd of the machine below root. cache is a directory of
// that machine; first: each run begins without it.
func (b *bench) patchScan(name, root, cache string, system types.OperatingSystem, first, offline bool) (*scan, error) {
	baseline, ok := patcher.PredefinedDefault(system)
	if !ok {
		return nil, fmt.Errorf("there is no default baseline for %s", system)
	}
	dir := filepath.Join(b.dir, "patch")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	order, err := json.Marshal(patcher.Order{Operation: types.PatchOperationTypeScan, Baseline: baseline.Baseline})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "order.json")
	if err := os.WriteFile(file, order, 0o644); err != nil {
		return nil, err
	}
	kept := filepath.Join("/", root, cache)
	s := &scan{name: name, args: []string{filepath.Join(b.bin, "meshd"), "patch-run", "--order", file, "--report", b.patchReport(),
		"--cache", kept, "--state", filepath.Join(dir, "state"), "--root", filepath.Join("/", root)}}
	if offline {
		s.args = append(s.args, "--offline")
	}
	if first {
		s.prepare = func() error { return os.RemoveAll(kept) }
	}
	return s, nil
}

func (b *bench) patchReport() string { return filepath.Join(b.dir, "patch", "report.json") }

// lastReport is that of the last scan.
func (b *bench) lastReport() (patcher.Report, error) {
	var report patcher.Report
	text, err := os.ReadFile(b.patchReport())
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		return report, fmt.Errorf("read the report of a scan: %w", err)
	}
	return report, nil
}

func benchPatch(ctx context.Context, b *bench) error {
	platform, err := patcher.Detect("/")
	if err != nil {
		return err
	}
	_, missing := os.Stat("/var/lib/dpkg/status")
	if missing != nil || !installed("apt", "apt-get") || os.Geteuid() != 0 {
		b.finish(&table{Title: "Patching: a scan", Notes: []string{"It needs root on a machine with apt, and was not measured."}})
		return nil
	}
	system := types.OperatingSystem(platform.OperatingSystem)
	if err := b.patchMachine(ctx, system); err != nil {
		return err
	}
	return inPrivateRoot(filepath.Join(b.dir, "private"), func(root string) error {
		if err := b.patchCopy(ctx, root, system); err != nil {
			return err
		}
		return b.patchDNF(ctx, root)
	})
}

// aptScans are the questions to apt itself. options come first.
func aptScans(root string, options ...string) (list, upgrade *scan) {
	list = &scan{name: "apt list", root: root, args: slices.Concat([]string{"/usr/bin/apt"}, options, []string{"list", "--upgradable"})}
	upgrade = &scan{name: "apt-get -s dist-upgrade", root: root, args: slices.Concat([]string{"/usr/bin/apt-get"}, options, []string{"-s", "dist-upgrade"})}
	return list, upgrade
}

// describe says what was scanned.
func describe(report patcher.Report) string {
	return fmt.Sprintf("%d packages are installed, %d versions are offered for them, and the sources have %d other packages.",
		len(report.Patches), len(report.Offers), report.NotApplicable)
}

// patchMachine scans this machine as it is.
func (b *bench) patchMachine(ctx context.Context, system types.OperatingSystem) error {
	t := &table{Title: "Patching: a scan of this machine", Method: scanMethod + " `apt list` is `apt list --upgradable`. Nothing is fetched but where a row says so; all read the system's lists."}
	list, upgrade := aptScans("")
	cache := filepath.Join(b.dir, "patch", "cache")
	again, err := b.patchScan("scan", "", cache, system, false, true)
	if err != nil {
		return err
	}
	first, err := b.patchScan("first scan, without anything kept", "", cache+"-first", system, true, true)
	if err != nil {
		return err
	}
	fetch, err := b.patchScan("scan with fresh lists", "", cache+"-fetch", system, false, false)
	if err != nil {
		return err
	}
	all := []*scan{list, again, upgrade, first}
	var update *scan
	if _, _, err := fetch.time(ctx); err == nil {
		report, err := b.lastReport()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(report.Sources, func(s patcher.Source) bool { return s.Problem == "" }) {
			// With the configuration of the scan: into the same directory, the same files.
			update = &scan{name: "apt-get update alone", args: []string{"/usr/bin/apt-get", "-c", filepath.Join(cache+"-fetch", "apt", "apt.conf"), "update"}}
			all = append(all, fetch, update)
		}
	}
	if err := t.measure(ctx, b, all); err != nil {
		return err
	}
	t.add(list.name, "ms", list.took)
	t.add(upgrade.name, "ms", upgrade.took).times(list.took, list.name)
	t.add(again.name, "ms", again.took).within(list)
	t.add(first.name, "ms", first.took).within(list)
	if update != nil {
		t.add(update.name, "ms", update.took).note("asks the publishers, checks signatures")
		t.add(fetch.name, "ms", fetch.took).times(update.took, update.name)
	} else {
		t.Notes = append(t.Notes, "No source could be reached; scans with fresh lists were not measured.")
	}
	t.costs(false, list)
	t.costs(false, upgrade)
	t.costs(true, again)
	t.costs(true, first)
	if update != nil {
		t.costs(true, fetch)
	}
	if report, err := b.lastReport(); err == nil {
		t.Notes = append(t.Notes, describe(report))
	}
	b.finish(t)
	return nil
}
