package patcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// fakeManager is a machine in memory.
type fakeManager struct {
	inventory Inventory
	failing   map[string]string // reasons by name: what Install cannot do
	repair    error
	repaired  []string
	install   error // Install does nothing and returns it
	reboot    Reboot
	calls     []string
	blocked   []string
	// atInstall is called when Install begins.
	atInstall func()
}

func (m *fakeManager) Compare(a, b string) int { return CompareDeb(a, b) }

func (m *fakeManager) Inventory(context.Context) (*Inventory, error) {
	m.calls = append(m.calls, "inventory")
	copied := m.inventory
	copied.Installed, copied.Candidates = slices.Clone(m.inventory.Installed), slices.Clone(m.inventory.Candidates)
	return &copied, nil
}

func (m *fakeManager) Repair(context.Context) ([]string, error) {
	m.calls = append(m.calls, "repair")
	return m.repaired, m.repair
}

func (m *fakeManager) Install(_ context.Context, want []Package, blocked []string) ([]Failure, error) {
	m.calls = append(m.calls, fmt.Sprintf("install %d", len(want)))
	m.blocked = blocked
	if m.atInstall != nil {
		m.atInstall()
	}
	if m.install != nil {
		return nil, m.install
	}
	var failures []Failure
	for _, p := range want {
		if reason := m.failing[p.Name]; reason != "" {
			failures = append(failures, Failure{Package: p, Reason: reason})
			continue
		}
		for i := range m.inventory.Installed {
			if m.inventory.Installed[i].Name == p.Name {
				m.inventory.Installed[i].Version = p.Version
				m.inventory.Installed[i].Origins = []Origin{{Label: "Debian-Security", Codename: "bookworm-security"}}
			}
		}
		m.inventory.Candidates = slices.DeleteFunc(m.inventory.Candidates, func(c Candidate) bool { return c.Package == p })
	}
	return failures, nil
}

func (m *fakeManager) Reboot(context.Context) (Reboot, error) { return m.reboot, nil }

// fakeMachine has the packages a and b at 1, and offers 2 of both for security.
func fakeMachine() *fakeManager {
	m := &fakeManager{inventory: Inventory{Manager: "apt", SecurityKnown: true}}
	for _, name := range []string{"a", "b"} {
		m.inventory.Installed = append(m.inventory.Installed, Installed{Package: Package{name, "amd64", "1"}, Priority: "optional"})
		m.inventory.Candidates = append(m.inventory.Candidates, Candidate{
			Package: Package{name, "amd64", "2"}, Replaces: "1", Priority: "optional", Chosen: true,
			Origins: []Origin{{Label: "Debian-Security", Codename: "bookworm-security"}},
		})
	}
	return m
}

// runBed is a machine's root, with its state, for Run.
type runBed struct {
	t           *testing.T
	root, state string
	now         time.Time
	log         bytes.Buffer
}

func newRunBed(t *testing.T) *runBed {
	b := &runBed{t: t, root: t.TempDir(), state: t.TempDir(), now: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)}
	put(t, b.root, "/etc/os-release", "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n")
	b.boot("one")
	return b
}

func (b *runBed) boot(id string) { put(b.t, b.root, "/proc/sys/kernel/random/boot_id", id+"\n") }

func (b *runBed) order(operation types.PatchOperationType, option types.RebootOption) Order {
	return Order{Operation: operation, RebootOption: option, Now: b.now, Baseline: Baseline{
		BaselineId: "pb-1", OperatingSystem: types.OperatingSystemDebian,
		ApprovalRules: &types.PatchRuleGroup{PatchRules: []types.PatchRule{{
			PatchFilterGroup: &types.PatchFilterGroup{PatchFilters: []types.PatchFilter{{Key: types.PatchFilterKeyProduct, Values: []string{"*"}}}},
		}}},
	}}
}

func (b *runBed) run(order Order, m Manager) (*Report, error) {
	b.now = b.now.Add(time.Minute)
	now := b.now
	return Run(b.t.Context(), order, m, Setup{Root: b.root, Log: &b.log, Now: func() time.Time { return now }}, b.state)
}

func (b *runBed) must(order Order, m Manager) *Report {
	b.t.Helper()
	report, err := b.run(order, m)
	if err != nil {
		b.t.Fatalf("Run: %v", err)
	}
	return report
}

func wantStates(t *testing.T, r *Report, want map[string]types.PatchComplianceDataState) {
	t.Helper()
	for _, p := range r.Patches {
		state, ok := want[p.Title]
		if !ok || p.State != state {
			t.Errorf("%s is %s (%s), want %s", p.Title, p.State, p.Reason, state)
		}
		delete(want, p.Title)
	}
	for title := range want {
		t.Errorf("%s is not in the report", title)
	}
}

const (
	installedState = types.PatchComplianceDataStateInstalled
	pendingState   = types.PatchComplianceDataStateInstalledPendingReboot
	missingState   = types.PatchComplianceDataStateMissing
	failedState    = types.PatchComplianceDataStateFailed
)

func TestScanInstallsNothing(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	report := b.must(b.order(types.PatchOperationTypeScan, types.RebootOptionRebootIfNeeded), m)
	wantStates(t, report, map[string]types.PatchComplianceDataState{"a.amd64:2": missingState, "b.amd64:2": missingState})
	if report.Rebooting || !slices.Equal(m.calls, []string{"inventory"}) {
		t.Errorf("rebooting %t, calls %v", report.Rebooting, m.calls)
	}
	if report.Platform.Product != "Debian12" || report.Manager != "apt" || report.BaselineId != "pb-1" || !report.EndedAt.After(time.Time{}) {
		t.Errorf("the report says %+v", report)
	}
}

func TestInstallRebootsAndComesBack(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	m.failing = map[string]string{"b": "its script failed"}
	m.repaired = []string{"c was configured"}
	order := b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded)
	first := b.must(order, m)
	wantStates(t, first, map[string]types.PatchComplianceDataState{"a.amd64:2": pendingState, "b.amd64:2": failedState})
	if !first.Rebooting || !slices.Equal(m.calls, []string{"repair", "inventory", "install 2", "inventory"}) {
		t.Fatalf("rebooting %t, calls %v", first.Rebooting, m.calls)
	}
	b.boot("two")
	m.calls = nil
	second := b.must(order, m)
	// What failed before the reboot is told, and not tried again.
	wantStates(t, second, map[string]types.PatchComplianceDataState{"a.amd64:2": installedState, "b.amd64:2": failedState})
	if second.Rebooting || !slices.Equal(m.calls, []string{"inventory"}) {
		t.Errorf("after the reboot: rebooting %t, calls %v", second.Rebooting, m.calls)
	}
	if !second.StartedAt.Equal(first.StartedAt) || !slices.Equal(second.Repaired, m.repaired) {
		t.Errorf("after the reboot the run began %s and repaired %q", second.StartedAt, second.Repaired)
	}
	if failures := second.Failures(); len(failures) != 1 || !strings.Contains(failures[0].Reason, "its script failed") {
		t.Errorf("failures: %+v", failures)
	}
	// The same order once more is a new run.
	m.calls = nil
	if third := b.must(order, m); third.Rebooting || !slices.Equal(m.calls, []string{"repair", "inventory", "install 1", "inventory"}) {
		t.Errorf("the third run: rebooting %t, calls %v", third.Rebooting, m.calls)
	}
}

func TestNoRebootLeavesPatchesPending(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	order := b.order(types.PatchOperationTypeInstall, types.RebootOptionNoReboot)
	report := b.must(order, m)
	pending := func() map[string]types.PatchComplianceDataState {
		return map[string]types.PatchComplianceDataState{"a.amd64:2": pendingState, "b.amd64:2": pendingState}
	}
	wantStates(t, report, pending())
	if report.Rebooting || !report.NoRebootInstallAt.Equal(b.now) {
		t.Errorf("rebooting %t, installed without reboot at %s", report.Rebooting, report.NoRebootInstallAt)
	}
	installedAt := b.now
	scan := b.must(b.order(types.PatchOperationTypeScan, ""), m)
	wantStates(t, scan, pending())
	m.calls = nil
	again := b.must(order, m)
	wantStates(t, again, pending())
	if again.Rebooting || slices.Contains(m.calls, "install 0") || !again.NoRebootInstallAt.Equal(installedAt) {
		t.Errorf("a second installation: calls %v, rebooting %t, %s", m.calls, again.Rebooting, again.NoRebootInstallAt)
	}
	// What is pending is reason enough for a reboot.
	if report := b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded), m); !report.Rebooting {
		t.Error("RebootIfNeeded does not reboot for what is pending")
	}
	b.boot("two")
	wantStates(t, b.must(b.order(types.PatchOperationTypeScan, ""), m), map[string]types.PatchComplianceDataState{"a.amd64:2": installedState, "b.amd64:2": installedState})
}

func TestWithoutInstallationNoReboot(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	m.failing = map[string]string{"a": "no", "b": "no"}
	m.reboot = Reboot{Needed: true, Evidence: []string{"an older kernel runs"}}
	report := b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded), m)
	if report.Rebooting || !report.Reboot.Needed {
		t.Errorf("rebooting %t, needed %t", report.Rebooting, report.Reboot.Needed)
	}
}

func TestAPackageLeftHalfInstalledIsNotPending(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	m.failing = map[string]string{"b": "its script failed"}
	m.inventory.Candidates = m.inventory.Candidates[1:]
	m.atInstall = func() {
		m.inventory.Installed[1].Version, m.inventory.Installed[1].Broken = "2", "half-configured"
		m.inventory.Candidates = nil
	}
	report := b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded), m)
	if report.Rebooting {
		t.Error("the machine is rebooted for a package that failed")
	}
	if failures := report.Failures(); len(failures) != 1 || failures[0].Title != "b.amd64:2" {
		t.Errorf("failures: %+v", failures)
	}
}

func TestWhatAKilledRunInstalledIsPending(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	m.atInstall = func() {
		// As if the process were killed after the work was done: the state of before.
		text, err := os.ReadFile(filepath.Join(b.state, stateFile))
		if err != nil {
			t.Fatalf("nothing was written before the installation: %v", err)
		}
		put(t, b.state, "saved", string(text))
	}
	b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionNoReboot), m)
	saved, err := os.ReadFile(filepath.Join(b.state, "saved"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, b.state, stateFile, string(saved))
	// Its transaction goes on: a scan meanwhile does not forget it.
	m.inventory.Installed[0].Broken = "unpacked"
	wantStates(t, b.must(b.order(types.PatchOperationTypeScan, ""), m), map[string]types.PatchComplianceDataState{"a.amd64:2": failedState, "b.amd64:2": pendingState})
	m.inventory.Installed[0].Broken = ""
	wantStates(t, b.must(b.order(types.PatchOperationTypeScan, ""), m), map[string]types.PatchComplianceDataState{"a.amd64:2": pendingState, "b.amd64:2": pendingState})
}

func TestABusyManagerIsReportedWithAScan(t *testing.T) {
	for _, where := range []string{"repair", "install"} {
		t.Run(where, func(t *testing.T) {
			b, m := newRunBed(t), fakeMachine()
			busy := fmt.Errorf("%w: apt-get (pid 7) holds the lock", ErrBusy)
			if where == "repair" {
				m.repair = busy
			} else {
				m.install = busy
			}
			report, err := b.run(b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded), m)
			if !errors.Is(err, ErrBusy) || !strings.Contains(report.Problem, "pid 7") || report.Rebooting {
				t.Errorf("error %v, problem %q, rebooting %t", err, report.Problem, report.Rebooting)
			}
			// They were not tried, so they have not failed.
			wantStates(t, report, map[string]types.PatchComplianceDataState{"a.amd64:2": missingState, "b.amd64:2": missingState})
		})
	}
}

func TestWhatCannotBeRepairedDoesNotKeepOthers(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	m.repair = fmt.Errorf("%w: c is half-configured", ErrInterrupted)
	report := b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionNoReboot), m)
	wantStates(t, report, map[string]types.PatchComplianceDataState{"a.amd64:2": pendingState, "b.amd64:2": pendingState})
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "c is half-configured") {
		t.Errorf("notes: %q", report.Notes)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*runBed, *Order)
		want   string
	}{
		{"a baseline for another system", func(_ *runBed, o *Order) { o.Baseline.OperatingSystem = types.OperatingSystemUbuntu }, "is for UBUNTU, and this machine is DEBIAN"},
		{"a system without baselines", func(b *runBed, _ *Order) {
			put(t, b.root, "/etc/os-release", "NAME=Plan9\nVERSION_ID=4\nID=plan9\n")
		}, "no patch baselines for Plan9 4"},
		{"an override list that is none", func(_ *runBed, o *Order) { o.Override = "patches: []" }, "no patches"},
		{"a state from the future", func(b *runBed, _ *Order) { put(b.t, b.state, stateFile, `{"Version":2}`) }, "newer meshd"},
		{"a state that is none", func(b *runBed, _ *Order) { put(b.t, b.state, stateFile, `{`) }, "read the state of patch runs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, m := newRunBed(t), fakeMachine()
			order := b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded)
			c.change(b, &order)
			report, err := b.run(order, m)
			if err == nil || !strings.Contains(err.Error(), c.want) || report == nil || report.Problem != err.Error() || len(m.calls) > 0 {
				t.Errorf("error %v, problem %q, calls %v; want %q", err, report.Problem, m.calls, c.want)
			}
		})
	}
}

func TestOverrideListDecidesWhatIsInstalled(t *testing.T) {
	b, m := newRunBed(t), fakeMachine()
	order := b.order(types.PatchOperationTypeInstall, types.RebootOptionNoReboot)
	order.Override, order.OverrideName = "patches:\n  - id: b.amd64\n", "https://example.org/list.yaml"
	report := b.must(order, m)
	if !slices.Contains(m.calls, "install 1") || report.OverrideName != order.OverrideName {
		t.Errorf("calls %v, override %q", m.calls, report.OverrideName)
	}
}

func TestBaselineSourcesAreThoseOfTheProduct(t *testing.T) {
	text := func(s string) *string { return &s }
	b := &Baseline{Sources: []types.PatchSource{
		{Name: text("one"), Products: []string{"Debian11"}}, {Name: text("two"), Products: []string{"Debian11", "Debian12"}}, {Name: text("three"), Products: []string{"*"}},
	}}
	var names []string
	for _, s := range BaselineSources(b, Platform{Product: "Debian12"}) {
		names = append(names, *s.Name)
	}
	if !slices.Equal(names, []string{"two", "three"}) {
		t.Errorf("sources: %v", names)
	}
}

func TestExitCodes(t *testing.T) {
	failed := []Patch{{State: failedState}}
	for _, c := range []struct {
		name   string
		report Report
		want   int
	}{
		{"a scan that finds failed ones", Report{Operation: types.PatchOperationTypeScan, Patches: failed}, 0},
		{"an installation", Report{Operation: types.PatchOperationTypeInstall, Patches: []Patch{{State: missingState}}}, 0},
		{"an installation with a failure", Report{Operation: types.PatchOperationTypeInstall, Patches: failed}, 1},
		{"a failure, to be told after the reboot", Report{Operation: types.PatchOperationTypeInstall, Patches: failed, Rebooting: true}, 194},
		{"a problem", Report{Operation: types.PatchOperationTypeScan, Problem: "no"}, 1},
	} {
		if got := c.report.ExitCode(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestReportText(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	r := &Report{
		Operation: types.PatchOperationTypeInstall, BaselineId: "pb-1", Manager: "apt", StartedAt: at, EndedAt: at.Add(90 * time.Second),
		Platform: Platform{Product: "Debian12", Name: "Debian GNU/Linux", Release: "12"},
		Patches: []Patch{
			{Title: "a.amd64:2", State: installedState},
			{Title: "b.amd64:2", Replaces: "1", Classification: "Security", ComplianceLevel: types.PatchComplianceLevelCritical, State: missingState, Security: true, Reason: "approved by rule 1"},
			{Title: "c.amd64:2", State: failedState, Reason: "its script failed"},
		},
		Pending:       []Pending{{Title: "d.amd64:9", Reason: "not for security"}},
		Sources:       []Source{{Name: "http://x bookworm", Updated: at.Add(-50 * time.Hour), Fetched: at.Add(-3 * time.Hour), Problem: "it does not answer"}},
		Reboot:        Reboot{Needed: true, Evidence: []string{"the running kernel 1 is older than the installed 2"}, Services: []string{"ssh.service"}},
		NotApplicable: 7, Notes: []string{"a note"}, Gaps: []string{"a gap"}, Repaired: []string{"a repair"},
		Interruptions: []Interruption{{What: "e is half-configured"}},
	}
	var out strings.Builder
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	const want = `NON-COMPLIANT: 1 missing, 1 failed, 0 waiting for a reboot, 0 installed though rejected; 1 of them for security.
Install by pb-1 on Debian12 (Debian GNU/Linux 12, apt)
Began 2026-11-24T03:00:00Z, took 1m30s.
Installed: 1 that the baseline approves, 0 others. Not installed, not needed: 7.

Failed (1):
  c.amd64:2
      its script failed

Missing (1):
  b.amd64:2 (now 1) Security, CRITICAL
      approved by rule 1

Offered, not approved (1):
  d.amd64:9: not for security

Repaired before (1):
  a repair

Interrupted, and not repaired (1):
  e is half-configured

Worth a look (1):
  a note

Not known (1):
  a gap

Sources (1):
  http://x bookworm: made 2 days ago, fetched 3 hours ago; FAILED: it does not answer

The machine must be started anew.
  the running kernel 1 is older than the installed 2

Services that run on with replaced files (1):
  ssh.service
`
	if got := out.String(); got != want {
		t.Errorf("the text is\n%s\nwant\n%s", got, want)
	}
	if err := r.WriteText(brokenPipe{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("an output that is closed: %v", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestStateOnDisk holds the file's format: a later meshd must read it.
func TestStateOnDisk(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	state := &runState{Version: stateVersion, BootID: "one", Installed: map[string]time.Time{"a.amd64:2": at}, NoRebootInstallAt: at, Resume: &resumption{
		Order: "key", BootID: "one", StartedAt: at, Failed: map[string]string{"b.amd64:2": "no"},
	}}
	if err := state.save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	const golden = `{"Version":1,"BootID":"one","Installed":{"a.amd64:2":"2026-11-24T03:00:00Z"},"NoRebootInstallAt":"2026-11-24T03:00:00Z","Resume":{"Order":"key","BootID":"one","StartedAt":"2026-11-24T03:00:00Z","Failed":{"b.amd64:2":"no"}}}` + "\n"
	if string(text) != golden {
		t.Errorf("state.json is\n%swant\n%s", text, golden)
	}
	read, err := loadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := json.Marshal(read); string(a)+"\n" != golden {
		t.Errorf("read back as %s", a)
	}
}

// TestStateSaveChanged leaves the file of a state alone that has not changed.
func TestStateSaveChanged(t *testing.T) {
	dir := t.TempDir()
	state := &runState{Version: stateVersion, BootID: "one"}
	inode := func() uint64 {
		t.Helper()
		if err := state.saveChanged(dir); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	first := inode()
	if again := inode(); again != first {
		t.Error("an unchanged state was written again")
	}
	state.onBoot("two")
	inode()
	if read, err := loadState(dir); err != nil || read.BootID != "two" {
		t.Errorf("a changed state was not written: %+v, %v", read, err)
	}
}

// TestWhatARepairEndsWaitsForAReboot: the power goes in the middle of an installation.
// What the next one repairs is in force after another reboot only; where there was
// nothing to repair, the boot has put it in force.
func TestWhatARepairEndsWaitsForAReboot(t *testing.T) {
	for _, repaired := range [][]string{nil, {"dpkg --configure -a: a.amd64:2 is installed"}} {
		b, m := newRunBed(t), fakeMachine()
		cut := &runState{Version: stateVersion, BootID: "one"}
		cut.intend([]Package{{"a", "amd64", "2"}, {"b", "amd64", "2"}}, b.now)
		if err := cut.save(b.state); err != nil {
			t.Fatal(err)
		}
		b.boot("two")
		m.inventory.Candidates = nil // a is there, b never came
		m.inventory.Installed[0].Version = "2"
		if scan := b.must(b.order(types.PatchOperationTypeScan, ""), m); Count(scan.Patches, 0).InstalledPendingReboot > 0 {
			t.Errorf("a scan after the boot: %+v", scan.Patches)
		}
		m.repaired = repaired
		report := b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded), m)
		want := min(len(repaired), 1)
		if got := Count(report.Patches, 0).InstalledPendingReboot; got != want || report.Rebooting != (want > 0) {
			t.Errorf("repaired %q: %d wait for a reboot, rebooting %t", repaired, got, report.Rebooting)
		}
		b.boot("three")
		m.repaired = nil
		if last := b.must(b.order(types.PatchOperationTypeInstall, types.RebootOptionRebootIfNeeded), m); last.Rebooting || Count(last.Patches, 0).InstalledPendingReboot > 0 {
			t.Errorf("repaired %q, after another boot: %+v", repaired, last.Patches)
		}
	}
}
