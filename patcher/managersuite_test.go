package patcher

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// managerHost is a machine of a test with a real package manager and a repository
// that it uses over HTTP. Each test has one of its own.
type managerHost interface {
	// manager is a new one for the machine; change adapts its Setup, nil: nothing.
	manager(change func(*Setup)) Manager
	// version is how the manager writes a version: 1.1, or 0:1.1-1.
	version(short string) string
	// arch is that of packages which testPackage.arch does not name.
	arch() string
	// publish adds versions of packages to the repository.
	publish(packages ...testPackage)
	// setUp installs packages with the machine's tools, from the repository.
	setUp(names ...string)
	// installed asks the package database: versions by name.
	installed() map[string]string
	hold(name string)
	// interrupt leaves a transaction undone that was to bring the package of the
	// repository onto the machine.
	interrupt(name string)
	// lockFile is what the manager locks while it changes packages.
	lockFile() string
	// down lets the repository answer no more; lose lets it not have a package that its
	// index names.
	down()
	lose(name, version string)
	// digest changes when anything of the system's package management changes.
	digest() string
	// file is the path of a file of the machine.
	file(name string) string
}

// testPackage is a version of a package to publish. Scripts are of sh.
type testPackage struct {
	name, version string
	arch          string
	// needs are names, of apt also "name (>= 2)", of rpm "name >= 2".
	needs    []string
	security bool
	conffile string // a path, whose content is the version
	before   string // script before the package is unpacked
	after    string // script after that
}

func (p testPackage) of(h managerHost) Package {
	arch := p.arch
	if arch == "" {
		arch = h.arch()
	}
	return Package{Name: p.name, Arch: arch, Version: h.version(p.version)}
}

// managerBehaviours are what a Manager promises, whatever tool it has.
var managerBehaviours = []struct {
	name string
	run  func(t *testing.T, h managerHost)
}{
	{"a scan tells what is installed, what is offered and what is for security", suiteScan},
	{"a scan changes nothing", suiteScanChangesNothing},
	{"a scan works while another program holds the lock", suiteScanWhileBusy},
	{"install brings the versions asked for, what they need, and nothing else", suiteInstall},
	{"install again does nothing", suiteInstallAgain},
	{"a failing script does not void the others", suiteFailingScript},
	{"a failing script before unpacking does not void the others", suiteFailingBefore},
	{"an unmet dependency does not void the others", suiteUnmet},
	{"a package that cannot be fetched does not void the others", suiteLost},
	{"what is held is told and stays", suiteHeld},
	{"what is blocked does not come along", suiteBlocked},
	{"a configuration file of the administrator stays and is told", suiteConffile},
	{"install waits for the lock and names its holder", suiteBusy},
	{"an interrupted transaction is told and repaired", suiteInterrupted},
	{"a source that fails is told, older data is used", suiteSourceDown},
	{"nothing begins when the time is over", suiteEnded},
}

// testManager runs the suite; each behaviour gets a new machine.
func testManager(t *testing.T, newHost func(t *testing.T) managerHost) {
	for _, b := range managerBehaviours {
		t.Run(b.name, func(t *testing.T) { b.run(t, newHost(t)) })
	}
}

func mustInventory(t *testing.T, m Manager) *Inventory {
	t.Helper()
	inventory, err := m.Inventory(t.Context())
	if err != nil {
		t.Fatalf("Inventory: %v", err)
	}
	return inventory
}

func candidatesOf(inventory *Inventory, name string) []Candidate {
	return slices.DeleteFunc(slices.Clone(inventory.Candidates), func(c Candidate) bool { return c.Name != name })
}

func installedOf(t *testing.T, inventory *Inventory, name string) Installed {
	t.Helper()
	for _, i := range inventory.Installed {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("%s is not among the installed packages", name)
	return Installed{}
}

// wantInstalled compares the packages that begin with "suite".
func wantInstalled(t *testing.T, h managerHost, want map[string]string) {
	t.Helper()
	got := h.installed()
	maps.DeleteFunc(got, func(name, _ string) bool { return !strings.HasPrefix(name, "suite") })
	if !maps.Equal(got, want) {
		t.Errorf("installed are %v, want %v", got, want)
	}
}

func mustInstall(t *testing.T, m Manager, want []Package, blocked ...string) []Failure {
	t.Helper()
	failures, err := m.Install(t.Context(), want, blocked)
	if err != nil {
		t.Fatalf("Install: %v", err)
	}
	return failures
}

// wantFailures wants one failure for each name, with a reason that has the word.
func wantFailures(t *testing.T, failures []Failure, words map[string]string) {
	t.Helper()
	left := maps.Clone(words)
	for _, f := range failures {
		word, ok := left[f.Name]
		if !ok {
			t.Errorf("%s failed: %s", f.Title(), f.Reason)
			continue
		}
		delete(left, f.Name)
		if !strings.Contains(f.Reason, word) {
			t.Errorf("the reason of %s is %q, want %q in it", f.Title(), f.Reason, word)
		}
	}
	for name := range left {
		t.Errorf("%s has not failed", name)
	}
}

func suiteScan(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp("suite-a", "suite-b")
	h.publish(testPackage{name: "suite-a", version: "1.1", security: true}, testPackage{name: "suite-a", version: "1.2"}, testPackage{name: "suite-c", version: "1.0"})
	inventory := mustInventory(t, h.manager(nil))
	if i := installedOf(t, inventory, "suite-a"); i.Version != h.version("1.0") || i.Arch != h.arch() || len(i.Origins) == 0 || i.InstalledAt.IsZero() || i.Held || i.Broken != "" {
		t.Errorf("suite-a is told as %+v", i)
	}
	found := candidatesOf(inventory, "suite-a")
	if len(found) != 2 {
		t.Fatalf("the candidates of suite-a are %+v, want 1.1 and 1.2", found)
	}
	for i, c := range found {
		security := offeredForSecurity(c.Origins) || slices.ContainsFunc(c.Notices, func(n Notice) bool { return strings.EqualFold(n.Type, "security") })
		if want := h.version([]string{"1.1", "1.2"}[i]); c.Version != want || c.Replaces != h.version("1.0") || c.Chosen != (i == 1) || security != (i == 0) {
			t.Errorf("candidate %d of suite-a is %+v, security %t", i, c, security)
		}
	}
	if found := candidatesOf(inventory, "suite-b"); len(found) > 0 {
		t.Errorf("suite-b has candidates: %+v", found)
	}
	if inventory.NotInstalled < 1 || !inventory.SecurityKnown || len(inventory.Interruptions) > 0 {
		t.Errorf("not installed %d, security known %t, interruptions %v", inventory.NotInstalled, inventory.SecurityKnown, inventory.Interruptions)
	}
	for _, s := range inventory.Sources {
		if s.Problem != "" || s.Fetched.IsZero() || s.Updated.IsZero() {
			t.Errorf("a source is told as %+v", s)
		}
	}
	if len(inventory.Sources) == 0 {
		t.Error("no source is told")
	}
}

func suiteScanChangesNothing(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1", security: true})
	before := h.digest()
	m := h.manager(nil)
	for range 2 {
		if found := candidatesOf(mustInventory(t, m), "suite-a"); len(found) != 1 {
			t.Fatalf("candidates: %+v", found)
		}
	}
	if _, err := m.Reboot(t.Context()); err != nil {
		t.Errorf("Reboot: %v", err)
	}
	if after := h.digest(); after != before {
		t.Errorf("the scan has changed the system:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// holdLock lets a process of its own hold a lock as package managers do, until the
// function that it returns is called.
func holdLock(t *testing.T, path string) (pid int, release func()) {
	t.Helper()
	command := exec.Command("/proc/self/exe", "-test.run=^TestHoldLock$")
	command.Env = append(os.Environ(), namespaceVariable+"=lock", "PATCHER_TEST_LOCK="+path)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		in.Close()
		command.Wait()
	})
	t.Cleanup(release)
	return command.Process.Pid, release
}

func suiteScanWhileBusy(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	_, release := holdLock(t, h.lockFile())
	defer release()
	if found := candidatesOf(mustInventory(t, h.manager(nil)), "suite-a"); len(found) != 1 {
		t.Errorf("candidates: %+v", found)
	}
}

func suiteInstall(t *testing.T, h managerHost) {
	a, b, c := testPackage{name: "suite-a", version: "1.1", needs: []string{"suite-new"}}, testPackage{name: "suite-b", version: "1.1"}, testPackage{name: "suite-c", version: "1.1"}
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"}, testPackage{name: "suite-c", version: "1.0"})
	h.setUp("suite-a", "suite-b", "suite-c")
	h.publish(a, b, c, testPackage{name: "suite-new", version: "1.0"}, testPackage{name: "suite-b", version: "1.2"})
	m := h.manager(nil)
	mustInventory(t, m)
	// An older version than the newest, and suite-c is not asked for.
	wantFailures(t, mustInstall(t, m, []Package{a.of(h), b.of(h)}), nil)
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.1"), "suite-b": h.version("1.1"), "suite-c": h.version("1.0"), "suite-new": h.version("1.0")})
}

func suiteInstallAgain(t *testing.T, h managerHost) {
	a := testPackage{name: "suite-a", version: "1.1", after: "echo again >> /suite-a.log"}
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(a)
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h)}), nil)
	before := h.digest()
	wantFailures(t, mustInstall(t, m, []Package{a.of(h)}), nil)
	if h.digest() != before {
		t.Error("the second installation has changed the system")
	}
	if log, err := os.ReadFile(h.file("/suite-a.log")); err != nil || string(log) != "again\n" {
		t.Errorf("the package was installed more than once: %q, %v", log, err)
	}
}

// suiteFailure installs suite-a to suite-d of which suite-b fails, and then suite-d
// alone.
func suiteFailure(t *testing.T, h managerHost, b testPackage, word string, state map[string]string) {
	names := []string{"suite-a", "suite-b", "suite-c", "suite-d"}
	for _, name := range names {
		h.publish(testPackage{name: name, version: "1.0"})
	}
	h.setUp(names...)
	a, c, d := testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-c", version: "1.1"}, testPackage{name: "suite-d", version: "1.1"}
	h.publish(a, b, c, d)
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h), b.of(h), c.of(h)}), map[string]string{"suite-b": word})
	for name, version := range state {
		state[name] = h.version(version)
	}
	got := h.installed()
	for _, name := range []string{"suite-a", "suite-c"} {
		if got[name] != h.version("1.1") {
			t.Errorf("%s is at %s", name, got[name])
		}
	}
	for name, version := range state {
		if got[name] != version {
			t.Errorf("%s is at %s, want %s", name, got[name], version)
		}
	}
	// What failed does not keep a later run from its work.
	wantFailures(t, mustInstall(t, m, []Package{d.of(h)}), nil)
	if got := h.installed()["suite-d"]; got != h.version("1.1") {
		t.Errorf("suite-d is at %s after the next run", got)
	}
}

func suiteFailingScript(t *testing.T, h managerHost) {
	// rpm has no script whose failure undoes what was unpacked; the versions tell.
	suiteFailure(t, h, testPackage{name: "suite-b", version: "1.1", before: "exit 1", after: "exit 1"}, "", nil)
}

func suiteFailingBefore(t *testing.T, h managerHost) {
	suiteFailure(t, h, testPackage{name: "suite-b", version: "1.1", before: "echo will not do >&2; exit 1"}, "", map[string]string{"suite-b": "1.0"})
}

func suiteUnmet(t *testing.T, h managerHost) {
	suiteFailure(t, h, testPackage{name: "suite-b", version: "1.1", needs: []string{"suite-nowhere"}}, "suite-nowhere", map[string]string{"suite-b": "1.0"})
}

func suiteLost(t *testing.T, h managerHost) {
	names := []string{"suite-a", "suite-b"}
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp(names...)
	a, b := testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-b", version: "1.1"}
	h.publish(a, b)
	h.lose("suite-b", "1.1")
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h), b.of(h)}), map[string]string{"suite-b": "suite-b"}) // the file's name
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.1"), "suite-b": h.version("1.0")})
}

func suiteHeld(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp("suite-a", "suite-b")
	a, b := testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-b", version: "1.1"}
	h.publish(a, b)
	h.hold("suite-b")
	m := h.manager(nil)
	inventory := mustInventory(t, m)
	if i := installedOf(t, inventory, "suite-b"); !i.Held {
		t.Errorf("the held package is told as %+v", i)
	}
	if found := candidatesOf(inventory, "suite-b"); len(found) != 1 || !found[0].Held {
		t.Errorf("its candidates are told as %+v", found)
	}
	wantFailures(t, mustInstall(t, m, []Package{a.of(h), b.of(h)}), map[string]string{"suite-b": ""})
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.1"), "suite-b": h.version("1.0")})
}

func suiteBlocked(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"}, testPackage{name: "suite-c", version: "1.0"})
	h.setUp("suite-a", "suite-b", "suite-c")
	a, b := testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-b", version: "1.1", needs: []string{"suite-new"}}
	h.publish(a, b, testPackage{name: "suite-new", version: "1.0"}, testPackage{name: "suite-c", version: "1.1"})
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h), b.of(h)}, "suite-new", "suite-c"), map[string]string{"suite-b": "suite-new"})
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.1"), "suite-b": h.version("1.0"), "suite-c": h.version("1.0")})
}

func suiteConffile(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0", conffile: "/etc/suite-a.conf"})
	h.setUp("suite-a")
	put(t, h.file("/"), "/etc/suite-a.conf", "the administrator's\n")
	a := testPackage{name: "suite-a", version: "1.1", conffile: "/etc/suite-a.conf"}
	h.publish(a)
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h)}), nil)
	if text, err := os.ReadFile(h.file("/etc/suite-a.conf")); err != nil || string(text) != "the administrator's\n" {
		t.Errorf("the configuration file has %q, %v", text, err)
	}
	n, ok := m.(noter)
	if !ok || !strings.Contains(strings.Join(n.Notes(), "\n"), "/etc/suite-a.conf") {
		t.Error("that it was kept is not told")
	}
}

func suiteBusy(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	a := testPackage{name: "suite-a", version: "1.1"}
	h.publish(a)
	mustInventory(t, h.manager(nil))
	pid, release := holdLock(t, h.lockFile())
	_, err := h.manager(nil).Install(t.Context(), []Package{a.of(h)}, nil)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "pid "+strconv.Itoa(pid)) {
		t.Errorf("with the lock held by %d: %v", pid, err)
	}
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.0")})
	waits := &waitingLog{waiting: make(chan struct{})}
	go func() {
		select {
		case <-waits.waiting:
			release()
		case <-t.Context().Done():
		}
	}()
	failures, err := h.manager(func(s *Setup) { s.LockWait, s.Log = time.Minute, waits }).Install(t.Context(), []Package{a.of(h)}, nil)
	if err != nil || len(failures) > 0 {
		t.Errorf("Install after a wait: %v, %v", failures, err)
	}
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.1")})
}

// waitingLog tells when somebody says that he waits.
type waitingLog struct {
	waiting chan struct{}
	said    bool
}

func (w *waitingLog) Write(text []byte) (int, error) {
	if !w.said && bytes.Contains(text, []byte("Waiting for ")) {
		w.said = true
		close(w.waiting)
	}
	return len(text), nil
}

func suiteInterrupted(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	h.interrupt("suite-a")
	m := h.manager(nil)
	if inventory := mustInventory(t, m); len(inventory.Interruptions) == 0 {
		t.Error("the interrupted transaction is not told")
	}
	did, err := m.Repair(t.Context())
	if err != nil || len(did) == 0 {
		t.Errorf("Repair did %q, %v", did, err)
	}
	if inventory := mustInventory(t, m); len(inventory.Interruptions) > 0 {
		t.Errorf("after the repair: %+v", inventory.Interruptions)
	}
	if did, err := m.Repair(t.Context()); err != nil || len(did) > 0 {
		t.Errorf("a second Repair did %q, %v", did, err)
	}
}

func suiteSourceDown(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	m := h.manager(nil)
	mustInventory(t, m)
	h.down()
	inventory := mustInventory(t, m)
	if found := candidatesOf(inventory, "suite-a"); len(found) != 1 {
		t.Errorf("with the source down the candidates are %+v", found)
	}
	if !slices.ContainsFunc(inventory.Sources, func(s Source) bool { return s.Problem != "" && !s.Updated.IsZero() }) {
		t.Errorf("that it is down is not told: %+v", inventory.Sources)
	}
	offline := mustInventory(t, h.manager(func(s *Setup) { s.Offline = true }))
	if found := candidatesOf(offline, "suite-a"); len(found) != 1 {
		t.Errorf("offline the candidates are %+v", found)
	}
}

func suiteEnded(t *testing.T, h managerHost) {
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	a := testPackage{name: "suite-a", version: "1.1"}
	h.publish(a)
	m := h.manager(nil)
	mustInventory(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Install(ctx, []Package{a.of(h)}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Install after the end: %v", err)
	}
	if _, err := m.Inventory(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Inventory after the end: %v", err)
	}
	wantInstalled(t, h, map[string]string{"suite-a": h.version("1.0")})
}
