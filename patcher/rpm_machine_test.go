//go:build e2e

package patcher

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// rpmMachines runs a test on a machine with dnf and on one with zypper.
func rpmMachines(t *testing.T, test func(*testing.T, *rpmMachine)) {
	t.Run("dnf", func(t *testing.T) { test(t, newDNFMachine(t)) })
	t.Run("zypper", func(t *testing.T) { test(t, newZypperMachine(t)) })
}

func noarch(name, version string) Package {
	return Package{Name: name, Arch: "noarch", Version: version}
}

// TestRPMTable is the exact table of a machine with each kind of package.
func TestRPMTable(t *testing.T) {
	rpmMachines(t, func(t *testing.T, h *rpmMachine) {
		names := []string{"suite-lib", "suite-current", "suite-epoch", "suite-firmware", "suite-stuck", "suite-renamed", "suite-held"}
		for _, name := range names {
			h.publish(testPackage{name: name, version: "1"})
		}
		h.setUp(names...)
		h.hold("suite-held")
		h.notice("RLSA-1", "security", "Important", "CVE-2026-1", false, noarch("suite-lib", "0:1.1-1"))
		h.notice("RLBA-2", "bugfix", "None", "", false, noarch("suite-lib", "0:2-1"), noarch("suite-unknown", "0:1-1"))
		h.notice("RLSA-3", "security", "Critical", "CVE-2026-3", true, noarch("suite-firmware", "0:2-1"))
		// About a version that nobody offers any more: who gets 3:1 has what it promises.
		h.notice("RLSA-4", "security", "Low", "", false, noarch("suite-epoch", "2:7-1"))
		h.addSpec("suite-successor", "2", "1", "Obsoletes: suite-renamed < 3\nProvides: suite-renamed = 3", "", "")
		h.publish(testPackage{name: "suite-lib", version: "1.1"}, testPackage{name: "suite-lib", version: "2"}, testPackage{name: "suite-epoch", version: "3:1"},
			testPackage{name: "suite-firmware", version: "2"}, testPackage{name: "suite-stuck", version: "2", needs: []string{"not-in-any-repository"}}, testPackage{name: "suite-held", version: "2"})
		m := h.manager(nil)
		inventory := mustInventory(t, m)
		got := map[string]string{}
		for _, c := range inventory.Candidates {
			words := []string{}
			for _, n := range c.Notices {
				words = append(words, n.ID+" "+n.Type+" "+n.Severity)
			}
			if c.Chosen {
				words = append(words, "chosen")
			}
			if c.Held {
				words = append(words, "held")
			}
			if len(c.Origins) != 1 || c.Origins[0].Repository != "main-repo" || c.Built.IsZero() {
				t.Errorf("%s comes from %v, built %v", c.Title(), c.Origins, c.Built)
			}
			got[c.Name+" "+c.Replaces+" "+c.Version] = strings.Join(words, ", ")
		}
		for key, words := range map[string]string{
			"suite-lib 0:1-1 0:1.1-1":    "RLSA-1 security Important",
			"suite-lib 0:1-1 0:2-1":      "RLBA-2 bugfix None, chosen",
			"suite-epoch 0:1-1 3:1-1":    "RLSA-4 security Low, chosen",
			"suite-firmware 0:1-1 0:2-1": "RLSA-3 security Critical, chosen",
			"suite-stuck 0:1-1 0:2-1":    "",
			"suite-held 0:1-1 0:2-1":     "held",
		} {
			if told, ok := got[key]; !ok || told != words {
				t.Errorf("%s: got %q (%t), want %q", key, told, ok, words)
			}
			delete(got, key)
		}
		for key, words := range got {
			t.Errorf("offered beyond the table: %s: %s", key, words)
		}
		// The package that another name replaces stays, and the other counts as not there.
		if inventory.NotInstalled != 1 {
			t.Errorf("%d packages are not installed, want 1", inventory.NotInstalled)
		}
		wantFailures(t, mustInstall(t, m, []Package{noarch("suite-firmware", "0:2-1")}), nil)
		if _, err := m.Inventory(t.Context()); err != nil {
			t.Fatal(err)
		}
		reboot, err := m.Reboot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !reboot.Needed || !slices.ContainsFunc(reboot.Evidence, func(s string) bool { return strings.Contains(s, "RLSA-3") && strings.Contains(s, "suite-firmware") }) {
			t.Errorf("after an upgrade whose notice suggests a reboot: %+v", reboot)
		}
		if got := h.installed(); got["suite-renamed"] == "" || got["suite-successor"] != "" || got["suite-lib"] != "0:1-1" {
			t.Errorf("more was changed than asked for: %v", got)
		}
	})
}

// TestDNFExcludes tells what the configuration excludes, of dnf as of a repository, and
// that it is not held.
func TestDNFExcludes(t *testing.T) {
	h := newDNFMachine(t)
	names := []string{"suite-a", "suite-b", "suite-c"}
	for _, name := range names {
		h.publish(testPackage{name: name, version: "1"})
	}
	h.setUp(names...)
	for _, name := range names {
		h.publish(testPackage{name: name, version: "2"})
	}
	put(t, h.root, "/etc/dnf/dnf.conf", "[main]\ngpgcheck=0\nexcludepkgs=suite-a\n")
	put(t, h.root, "/etc/yum.repos.d/main.repo", "[main-repo]\nname=Main\nbaseurl="+h.server.URL+"\ngpgcheck=0\nexclude=suite-b*\n")
	for _, c := range mustInventory(t, h.manager(nil)).Candidates {
		if excluded := c.Name != "suite-c"; c.Held || c.Chosen == excluded || strings.Contains(c.Excluded, "excludepkgs=suite-a in /etc/dnf/dnf.conf, exclude=suite-b* in /etc/yum.repos.d/main.repo") != excluded {
			t.Errorf("%s is told as %+v", c.Name, c)
		}
	}
}

// TestRPMFailedDependency runs the failing script of a package once, although others
// need the package and what is left is tried again.
func TestRPMFailedDependency(t *testing.T) {
	rpmMachines(t, func(t *testing.T, h *rpmMachine) {
		names := []string{"suite-a", "suite-b", "suite-c", "suite-d"}
		for _, name := range names {
			h.publish(testPackage{name: name, version: "1"})
		}
		h.setUp(names...)
		h.publish(testPackage{name: "suite-a", version: "2", before: "echo tried >>/tmp/suite-a.log; exit 1"}, testPackage{name: "suite-b", version: "2", needs: []string{"suite-a = 2"}},
			testPackage{name: "suite-c", version: "2"}, testPackage{name: "suite-d", version: "2"})
		m := h.manager(nil)
		mustInventory(t, m)
		var want []Package
		for _, name := range names {
			want = append(want, noarch(name, "0:2-1"))
		}
		failures := slices.DeleteFunc(mustInstall(t, m, want), func(f Failure) bool { return f.Name == "suite-b" })
		wantFailures(t, failures, map[string]string{"suite-a": "scriptlet failed"})
		if got := h.installed(); got["suite-c"] != "0:2-1" || got["suite-d"] != "0:2-1" || got["suite-a"] != "0:1-1" {
			t.Errorf("installed are %v", got)
		}
		if text, err := os.ReadFile(h.file("/tmp/suite-a.log")); err != nil || string(text) != "tried\n" {
			t.Errorf("the failing script ran with %q, %v", text, err)
		}
	})
}

// TestRPMBlockedVersion blocks one version of a package, by patterns as lists of
// rejections have them, and no other.
func TestRPMBlockedVersion(t *testing.T) {
	for _, pattern := range []string{"suite-a-3-1.noarch", "suite-a-3*"} {
		t.Run(strings.ReplaceAll(pattern, "*", "X"), func(t *testing.T) {
			rpmMachines(t, func(t *testing.T, h *rpmMachine) {
				h.publish(testPackage{name: "suite-a", version: "1"}, testPackage{name: "suite-b", version: "1"}, testPackage{name: "suite-c", version: "1"})
				h.setUp("suite-a", "suite-b", "suite-c")
				h.publish(testPackage{name: "suite-a", version: "2"}, testPackage{name: "suite-a", version: "3"},
					testPackage{name: "suite-b", version: "2", needs: []string{"suite-a >= 3"}}, testPackage{name: "suite-c", version: "2", needs: []string{"suite-a >= 2"}})
				m := h.manager(nil)
				mustInventory(t, m)
				wantFailures(t, mustInstall(t, m, []Package{noarch("suite-b", "0:2-1"), noarch("suite-c", "0:2-1")}, pattern), map[string]string{"suite-b": "suite-a"})
				wantInstalled(t, h, map[string]string{"suite-a": "0:2-1", "suite-b": "0:1-1", "suite-c": "0:2-1"})
			})
		})
	}
}

// TestDNFModules offers no versions of a module's stream that is not enabled, though
// they are newer, and dnf lists them in the same metadata.
func TestDNFModules(t *testing.T) {
	h := newDNFMachine(t)
	h.publish(testPackage{name: "suite-a", version: "1"}, testPackage{name: "suite-b", version: "1"})
	h.setUp("suite-a", "suite-b")
	h.publish(testPackage{name: "suite-a", version: "1.1"}, testPackage{name: "suite-a", version: "2"}, testPackage{name: "suite-b", version: "2"})
	document := func(stream, versions string) string {
		return "---\ndocument: modulemd\nversion: 2\ndata:\n  name: suitemodule\n  stream: \"" + stream + "\"\n  version: 1\n  context: c0ffee\n  arch: x86_64\n" +
			"  summary: s\n  description: d\n  license:\n    module: [MIT]\n  artifacts:\n    rpms: [" + versions + "]\n...\n"
	}
	put(t, h.work, "modules.yaml", document("1", "suite-a-0:1-1.noarch, suite-a-0:1.1-1.noarch")+document("2", "suite-a-0:2-1.noarch, suite-b-0:2-1.noarch"))
	h.command("modifyrepo_c", "--mdtype=modules", h.work+"/modules.yaml", h.repository+"/repodata")
	put(t, h.root, "/etc/dnf/modules.d/suitemodule.module", "[suitemodule]\nname=suitemodule\nstream=1\nprofiles=\nstate=enabled\n")
	put(t, h.root, "/etc/os-release", "ID=rocky\nVERSION_ID=9.4\nPLATFORM_ID=platform:el9\n")
	before := h.digest()
	inventory := mustInventory(t, h.manager(nil))
	var got []string
	for _, c := range inventory.Candidates {
		got = append(got, c.Title())
	}
	if want := []string{"suite-a.noarch:0:1.1-1"}; !slices.Equal(got, want) {
		t.Errorf("offered are %v, want %v", got, want)
	}
	if after := h.digest(); after != before {
		t.Errorf("the system has changed:\n%s\nbefore:\n%s", after, before)
	}
}

// TestZypperVendor keeps to the vendor of a package, as zypper's own upgrade does.
func TestZypperVendor(t *testing.T) {
	h := newZypperMachine(t)
	h.addSpec("suite-a", "1", "1", "Vendor: One", "", "")
	h.addSpec("suite-b", "1", "1", "Vendor: One", "", "")
	h.publish()
	h.setUp("suite-a", "suite-b")
	h.addSpec("suite-a", "2", "1", "Vendor: Another", "", "")
	h.addSpec("suite-b", "2", "1", "Vendor: One", "", "")
	h.publish()
	for _, c := range mustInventory(t, h.manager(nil)).Candidates {
		if other := c.Name == "suite-a"; c.Chosen == other || strings.Contains(c.Excluded, "Another") != other {
			t.Errorf("%s is told as %+v", c.Name, c)
		}
	}
}

// TestRPMBaselineSources uses a repository that the machine does not know, and no
// other.
func TestRPMBaselineSources(t *testing.T) {
	rpmMachines(t, func(t *testing.T, h *rpmMachine) {
		h.publish(testPackage{name: "suite-a", version: "1"}, testPackage{name: "suite-b", version: "1"})
		h.setUp("suite-a", "suite-b")
		h.publish(testPackage{name: "suite-a", version: "2"})
		url := h.server.URL
		for _, name := range []string{"/etc/yum.repos.d/main.repo", "/etc/zypp/repos.d/main.repo"} {
			put(t, h.root, name, "[own]\nname=Own\nbaseurl=http://127.0.0.1:9/\nenabled=1\ngpgcheck=0\n")
		}
		before := h.digest()
		inventory := mustInventory(t, h.manager(func(s *Setup) {
			s.Sources = []types.PatchSource{{Name: aws.String("other"), Products: []string{"*"}, Configuration: aws.String("[other]\nname=Other\nbaseurl=" + url + "\nenabled=1\ngpgcheck=0")}}
		}))
		if c := inventory.Candidates; len(c) != 1 || c[0].Name != "suite-a" || c[0].Origins[0].Repository != "other" {
			t.Errorf("candidates: %+v", c)
		}
		if s := inventory.Sources; len(s) != 1 || s[0].Name != "other" || s[0].Problem != "" {
			t.Errorf("sources: %+v", s)
		}
		if after := h.digest(); after != before {
			t.Errorf("the system has changed:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// TestRPMOneSourceDown has a source that never answered beside one that does: the scan
// tells it, and an install works.
func TestRPMOneSourceDown(t *testing.T) {
	rpmMachines(t, func(t *testing.T, h *rpmMachine) {
		for _, name := range []string{"/etc/yum.repos.d/down.repo", "/etc/zypp/repos.d/down.repo"} {
			put(t, h.root, name, "[down]\nname=Never There\nbaseurl=http://127.0.0.1:9/\nenabled=1\ngpgcheck=0\nretries=1\n")
		}
		h.publish(testPackage{name: "suite-a", version: "1"})
		h.setUp("suite-a")
		h.publish(testPackage{name: "suite-a", version: "2"})
		m := h.manager(nil)
		inventory := mustInventory(t, m)
		problems := map[string]string{}
		for _, s := range inventory.Sources {
			problems[s.Name] = s.Problem
		}
		if len(problems) != 2 || problems["main-repo"] != "" || !strings.Contains(problems["down"], "127.0.0.1") {
			t.Errorf("problems: %q", problems)
		}
		if c := inventory.Candidates; len(c) != 1 || !c[0].Chosen {
			t.Errorf("candidates: %+v", c)
		}
		wantFailures(t, mustInstall(t, m, []Package{noarch("suite-a", "0:2-1")}), nil)
		again, err := m.(rereader).Reread(t.Context())
		if err != nil || len(again.Candidates) != 0 || len(again.Sources) != 2 {
			t.Fatalf("taken stock again: %+v, %v", again, err)
		}
		for _, s := range again.Sources {
			if s.Problem != problems[s.Name] {
				t.Errorf("taken stock again, %s has the problem %q, not %q", s.Name, s.Problem, problems[s.Name])
			}
		}
	})
}

// TestRPMNoSource tells what is wrong where nothing can be known.
func TestRPMNoSource(t *testing.T) {
	rpmMachines(t, func(t *testing.T, h *rpmMachine) {
		h.down()
		_, err := h.manager(nil).Inventory(t.Context())
		if err == nil || !strings.Contains(err.Error(), "main-repo") {
			t.Errorf("with the only source down: %v", err)
		}
		for _, name := range []string{"/etc/yum.repos.d/main.repo", "/etc/zypp/repos.d/main.repo"} {
			if err := os.Remove(h.file(name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.manager(nil).Inventory(t.Context()); err == nil || !strings.Contains(err.Error(), "repositor") {
			t.Errorf("without any source: %v", err)
		}
	})
}

// TestRPMPidFile respects the lock that a tool has beside rpm's.
func TestRPMPidFile(t *testing.T) {
	rpmMachines(t, func(t *testing.T, h *rpmMachine) {
		h.publish(testPackage{name: "suite-a", version: "1"})
		h.setUp("suite-a")
		h.publish(testPackage{name: "suite-a", version: "2"})
		mustInventory(t, h.manager(nil))
		pid, release := holdLock(t, h.file("/tmp/lock"))
		defer release()
		name := "/var/lib/dnf/rpmdb_lock.pid"
		if h.zypper {
			name = zyppPid
		}
		put(t, h.root, name, strconv.Itoa(pid))
		_, err := h.manager(nil).Install(t.Context(), []Package{noarch("suite-a", "0:2-1")}, nil)
		if err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(pid)) {
			t.Errorf("with %s: %v", name, err)
		}
		wantInstalled(t, h, map[string]string{"suite-a": "0:1-1"})
	})
}
