package patcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestAptKeepsMarksOfAutomaticPackages(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp("suite-a", "suite-b")
	h.do("/usr/bin/apt-mark", "auto", "suite-a")
	a, b := testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-b", version: "1.1"}
	h.publish(a, b)
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h), b.of(h)}), nil)
	if got := strings.Fields(h.do("/usr/bin/apt-mark", "showauto")); !slices.Equal(got, []string{"suite-a"}) {
		t.Errorf("automatic are %v, want suite-a", got)
	}
}

func TestAptTwoArchitectures(t *testing.T) {
	h := aptHostOf(t)
	if h.native == "i386" {
		t.Skip("needs a machine that is not i386")
	}
	h.do("/usr/bin/dpkg", "--add-architecture", "i386")
	own, foreign := testPackage{name: "suite-own", version: "1.0", arch: h.native}, testPackage{name: "suite-foreign", version: "1.0", arch: "i386"}
	both := testPackage{name: "suite-all", version: "1.0"}
	h.publish(own, foreign, both)
	h.setUp("suite-own", "suite-foreign", "suite-all")
	own.version, foreign.version, both.version = "1.1", "1.1", "1.1"
	h.publish(own, foreign, both)
	m := h.manager(nil)
	inventory := mustInventory(t, m)
	for _, p := range []testPackage{own, foreign, both} {
		found := candidatesOf(inventory, p.name)
		if len(found) != 1 || found[0].Package != p.of(h) || !found[0].Chosen || len(found[0].Origins) != 1 {
			t.Errorf("the candidates of %s are %+v", p.name, found)
		}
	}
	if inventory.NotInstalled != 0 {
		t.Errorf("%d packages are told as not installed", inventory.NotInstalled)
	}
	wantFailures(t, mustInstall(t, m, []Package{own.of(h), foreign.of(h), both.of(h)}), nil)
	wantInstalled(t, h, map[string]string{"suite-own": "1.1", "suite-foreign": "1.1", "suite-all": "1.1"})
}

func TestAptPreferencesDecide(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	put(t, h.root, "/etc/apt/preferences.d/pin", "Package: suite-a\nPin: version 1.2\nPin-Priority: -10\n")
	h.publish(testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-a", version: "1.2"})
	found := candidatesOf(mustInventory(t, h.manager(nil)), "suite-a")
	if len(found) != 2 || !found[0].Chosen || found[0].Excluded != "" || found[1].Chosen || !strings.Contains(found[1].Excluded, "-10") {
		t.Errorf("candidates: %+v", found)
	}
}

func TestAptPhasedUpdates(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp("suite-a", "suite-b")
	put(t, h.root, "/etc/apt/apt.conf.d/60phased", "APT::Get::Never-Include-Phased-Updates \"true\";\n")
	h.repo.stanza["suite-a"] = "Phased-Update-Percentage: 10\n"
	h.publish(testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-b", version: "1.1"})
	inventory := mustInventory(t, h.manager(nil))
	if found := candidatesOf(inventory, "suite-a"); len(found) != 1 || found[0].Chosen || !strings.Contains(found[0].Excluded, "10 %") {
		t.Errorf("the phased candidate is told as %+v", found)
	}
	if found := candidatesOf(inventory, "suite-b"); len(found) != 1 || !found[0].Chosen {
		t.Errorf("the other is told as %+v", found)
	}
}

func TestAptTellsOfSources(t *testing.T) {
	h := aptHostOf(t)
	put(t, h.root, "/etc/apt/sources.list", fmt.Sprintf("deb [trusted=yes] %[1]s/debian stable main\ndeb %[1]s/security stable-security main\ndeb [trusted=yes] %[1]s/nowhere stable main\n", h.repo.server.URL))
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-a", version: "1.2", security: true})
	inventory := mustInventory(t, h.manager(nil))
	problems := map[string]string{}
	for _, s := range inventory.Sources {
		problems[strings.TrimPrefix(s.Name, h.repo.server.URL)] = s.Problem
	}
	if len(problems) != 3 || problems["/debian stable"] != "" || !strings.Contains(problems["/security stable-security"], "not signed") || !strings.Contains(problems["/nowhere stable"], "404") {
		t.Errorf("the sources' problems are %q", problems)
	}
	// A source without a signature is not used.
	if found := candidatesOf(inventory, "suite-a"); len(found) != 1 || found[0].Version != "1.1" {
		t.Errorf("candidates: %+v", found)
	}
	if inventory.SecurityKnown {
		t.Error("no source for security is usable, and security counts as known")
	}
}

func TestAptTellsOfExpiredSources(t *testing.T) {
	h := aptHostOf(t)
	h.repo.validUntil = time.Now().Add(time.Hour)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	mustInventory(t, h.manager(nil))
	later := h.manager(func(s *Setup) {
		s.Offline, s.Now = true, func() time.Time { return time.Now().Add(48 * time.Hour) }
	})
	for _, s := range mustInventory(t, later).Sources {
		if !strings.Contains(s.Problem, "until ") {
			t.Errorf("the expired source is told as %+v", s)
		}
	}
	h.repo.validUntil = time.Now().Add(-time.Hour)
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	inventory := mustInventory(t, h.manager(nil))
	for _, s := range inventory.Sources {
		if !strings.Contains(s.Problem, "expired") {
			t.Errorf("the expired source is told as %+v", s)
		}
	}
	if found := candidatesOf(inventory, "suite-a"); len(found) > 0 {
		t.Errorf("expired data is used: %+v", found)
	}
}

func TestAptWithoutAnySource(t *testing.T) {
	h := aptHostOf(t)
	h.down()
	if inventory, err := h.manager(nil).Inventory(t.Context()); err == nil {
		t.Errorf("a machine of which nothing is known is told as %+v", inventory)
	}
}

func TestAptBeginsWithTheSystemsLists(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	h.do("/usr/bin/apt-get", "update")
	h.down()
	before := h.digest()
	for _, offline := range []bool{true, false} {
		inventory := mustInventory(t, h.manager(func(s *Setup) { s.Offline = offline }))
		if found := candidatesOf(inventory, "suite-a"); len(found) != 1 {
			t.Errorf("offline %t: candidates %+v", offline, found)
		}
	}
	if h.digest() != before {
		t.Error("the scan has changed the system")
	}
}

func TestAptReadsPackedLists(t *testing.T) {
	h := aptHostOf(t)
	put(t, h.root, "/etc/apt/apt.conf.d/60packed", "Acquire::GzipIndexes \"true\";\nAcquire::CompressionTypes::Order { \"gz\"; };\n")
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	m := h.apt(nil)
	if found := candidatesOf(mustInventory(t, m), "suite-a"); len(found) != 1 {
		t.Errorf("candidates: %+v", found)
	}
	packed, err := filepath.Glob(filepath.Join(m.dirs().lists, "*_Packages.*"))
	if err != nil || len(packed) == 0 {
		t.Errorf("the lists are not packed: %v, %v", packed, err)
	}
}

func TestAptSourcesOfABaseline(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-a", version: "1.2", security: true})
	before := h.digest()
	line := fmt.Sprintf("deb [trusted=yes] %s/security stable-security main", h.repo.server.URL)
	only := func(s *Setup) { s.Sources = []types.PatchSource{{Configuration: &line}} }
	for range 2 {
		inventory := mustInventory(t, h.manager(only))
		if found := candidatesOf(inventory, "suite-a"); len(found) != 1 || found[0].Version != "1.2" || len(inventory.Sources) != 1 {
			t.Fatalf("with the baseline's sources: %+v of %+v", found, inventory.Sources)
		}
		if found := candidatesOf(mustInventory(t, h.manager(nil)), "suite-a"); len(found) != 2 {
			t.Fatalf("with the machine's: %+v", found)
		}
	}
	if h.digest() != before {
		t.Error("the system has changed")
	}
	b := testPackage{name: "suite-a", version: "1.1"}
	if failures := mustInstall(t, h.manager(only), []Package{b.of(h)}); len(failures) != 1 {
		t.Errorf("what only the machine's sources offer was installed: %v", failures)
	}
}

func TestAptReadsTheJournalOfAnInterruptedDpkg(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	status, err := os.ReadFile(h.file("/var/lib/dpkg/status"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, h.root, "/var/lib/dpkg/updates/0000", strings.Replace(string(status), "install ok installed", "install ok half-configured", 1))
	m := h.manager(nil)
	inventory := mustInventory(t, m)
	if len(inventory.Interruptions) != 2 || installedOf(t, inventory, "suite-a").Broken != "half-configured" {
		t.Errorf("interruptions %+v of %+v", inventory.Interruptions, inventory.Installed)
	}
	if did, err := m.Repair(t.Context()); err != nil || len(did) != 2 {
		t.Errorf("Repair did %q, %v", did, err)
	}
	if inventory := mustInventory(t, m); len(inventory.Interruptions) > 0 {
		t.Errorf("after the repair: %+v", inventory.Interruptions)
	}
}

func TestAptRepairNamesWhatItCannotMend(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp("suite-a", "suite-b")
	a, b := testPackage{name: "suite-a", version: "1.1", after: "echo no such luck >&2; exit 3"}, testPackage{name: "suite-b", version: "1.1"}
	h.publish(a, b)
	h.interrupt("suite-a")
	h.interrupt("suite-b")
	did, err := h.manager(nil).Repair(t.Context())
	if !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "exit status 3 (no such luck)") || len(did) != 1 || !strings.Contains(did[0], "suite-b") {
		t.Errorf("Repair did %q, %v", did, err)
	}
}

func TestAptRepairMeetsDependencies(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1", needs: []string{"suite-new"}}, testPackage{name: "suite-new", version: "1.0"})
	m := h.manager(nil)
	mustInventory(t, m)
	h.interrupt("suite-a")
	if did, err := m.Repair(t.Context()); err != nil || len(did) == 0 {
		t.Errorf("Repair did %q, %v", did, err)
	}
	wantInstalled(t, h, map[string]string{"suite-a": "1.1", "suite-new": "1.0"})
}

func TestAptInstallsWhatDependsOnEachOtherTogether(t *testing.T) {
	h := aptHostOf(t)
	var names []string
	var want []Package
	for i := range 6 {
		name := fmt.Sprintf("suite-%d", i)
		names = append(names, name)
		h.publish(testPackage{name: name, version: "1.0"})
	}
	h.setUp(names...)
	// Each needs the same version of its neighbour, in a ring; a newer one is offered
	// that is not asked for; and one more cannot be had.
	for i, name := range names {
		next := names[(i+1)%len(names)]
		for _, version := range []string{"1.1", "1.2"} {
			p := testPackage{name: name, version: version, needs: []string{next + " (= " + version + ")"}}
			if h.publish(p); version == "1.1" {
				want = append(want, p.of(h))
			}
		}
	}
	h.publish(testPackage{name: "suite-bad", version: "1.0"})
	h.setUp("suite-bad")
	bad := testPackage{name: "suite-bad", version: "1.1", needs: []string{"suite-nowhere"}}
	h.publish(bad)
	want = slices.Insert(want, 2, bad.of(h))
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, want), map[string]string{"suite-bad": "suite-nowhere"})
	for name, version := range h.installed() {
		if strings.HasPrefix(name, "suite-") && name != "suite-bad" && version != "1.1" {
			t.Errorf("%s is at %s", name, version)
		}
	}
}

func TestAptRemovesNothing(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"}, testPackage{name: "suite-b", version: "1.0"})
	h.setUp("suite-a", "suite-b")
	h.repo.stanza["suite-a"] = "Conflicts: suite-b\n"
	a := testPackage{name: "suite-a", version: "1.1"}
	h.publish(a)
	m := h.manager(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h)}), map[string]string{"suite-a": "remove"})
	wantInstalled(t, h, map[string]string{"suite-a": "1.0", "suite-b": "1.0"})
}

func TestAptLeavesNoArchives(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	a := testPackage{name: "suite-a", version: "1.1"}
	h.publish(a)
	m := h.apt(nil)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h)}), nil)
	for _, dir := range []string{m.dirs().archives, filepath.Join(m.dirs().archives, "partial"), h.file("/var/cache/apt/archives")} {
		if files, err := filepath.Glob(filepath.Join(dir, "*.deb")); err != nil || len(files) > 0 {
			t.Errorf("%s has %v, %v", dir, files, err)
		}
	}
}

func TestAptAsksForAReboot(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	m := h.manager(nil)
	if r, err := m.Reboot(t.Context()); err != nil || r.Needed {
		t.Errorf("Reboot: %+v, %v", r, err)
	}
	a := testPackage{name: "suite-a", version: "1.1", after: "touch /run/reboot-required; for i in 1 2; do echo suite-a; done >> /run/reboot-required.pkgs"}
	h.publish(a)
	mustInventory(t, m)
	wantFailures(t, mustInstall(t, m, []Package{a.of(h)}), nil)
	if r, err := m.Reboot(t.Context()); err != nil || !r.Needed || len(r.Evidence) != 1 || !strings.HasSuffix(r.Evidence[0], "asked for by suite-a") {
		t.Errorf("Reboot: %+v, %v", r, err)
	}
}

func TestAptAtWorkIsNotInterrupted(t *testing.T) {
	h := aptHostOf(t)
	h.publish(testPackage{name: "suite-a", version: "1.0"})
	h.setUp("suite-a")
	h.publish(testPackage{name: "suite-a", version: "1.1"})
	h.interrupt("suite-a")
	_, release := holdLock(t, h.lockFile())
	defer release()
	if inventory := mustInventory(t, h.manager(nil)); len(inventory.Interruptions) > 0 || installedOf(t, inventory, "suite-a").Broken != "unpacked" {
		t.Errorf("what another program does just now is told as %+v", inventory.Interruptions)
	}
}
