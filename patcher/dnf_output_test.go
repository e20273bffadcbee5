package patcher

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestDNFPlan(t *testing.T) {
	plan := newDNFPlan()
	for line := range strings.Lines(`repo: downloading from remote: down
Errors during downloading metadata for repository 'down':
  - Curl error (7): Couldn't connect to server for http://127.0.0.1:9/x/repodata/repomd.xml
  - Status code: 404 for http://127.0.0.1:9/y
Error: Failed to download metadata for repo 'down': Cannot download repomd.xml: All mirrors were tried
Error: Cache-only enabled but no cache for 'empty'
Ignoring repositories: down, empty
baseos: using metadata from Tue Nov 24 01:52:57 2026.
x-y: using metadata from Tue Nov 24 01:54:38 2026.
All matches were filtered out by exclude filtering for argument: held-0:1.1-1.el9.noarch
All matches were filtered out by modular filtering for argument: nodejs-1:18.0-1.module.x86_64
No match for argument: nosuch-0:1-1.noarch
--> Starting dependency resolution
---> Package kernel.x86_64 5.14.0-2.el9 will be installed
---> Package renamed.noarch 1-1 will be obsoleted
---> Package lib.x86_64 1:1.0-1 will be upgraded
---> Package lib.x86_64 1:1.1-1 will be an upgrade
---> Package old.x86_64 1.1-1 will be an update
--> Finished dependency resolution
`) {
		plan.line(strings.TrimSuffix(line, "\n"))
	}
	if !plan.resolved || !slices.Equal(plan.loaded, []string{"baseos", "x-y"}) {
		t.Errorf("resolved %t, loaded %q", plan.resolved, plan.loaded)
	}
	if want := map[string]string{"down": "Curl error (7): Couldn't connect to server for http://127.0.0.1:9/x/repodata/repomd.xml", "empty": "there is no metadata of it on this machine"}; !maps.Equal(plan.problems, want) {
		t.Errorf("problems %q", plan.problems)
	}
	if want := map[Package]bool{{"kernel", "x86_64", "0:5.14.0-2.el9"}: true, {"lib", "x86_64", "1:1.1-1"}: true, {"old", "x86_64", "0:1.1-1"}: true}; !maps.Equal(plan.taken, want) {
		t.Errorf("taken %v", plan.taken)
	}
	if !plan.obsoleted["renamed.noarch"] || len(plan.obsoleted) != 1 {
		t.Errorf("obsoleted %v", plan.obsoleted)
	}
	if want := map[string]string{"held-0:1.1-1.el9.noarch": "exclude", "nodejs-1:18.0-1.module.x86_64": "modular", "nosuch-0:1-1.noarch": ""}; !maps.Equal(plan.filtered, want) {
		t.Errorf("filtered %q", plan.filtered)
	}
}

func TestVersionLocks(t *testing.T) {
	locks := lockList{"bash-0:5.1.8-6.el9.*", "kernel*", "!lib-2.0-1.*", "0:yum-3.4-1.*"}
	for p, held := range map[Package]bool{
		{"bash", "x86_64", "0:5.1.8-6.el9"}: true, {"bash", "x86_64", "0:5.1.8-7.el9"}: false,
		{"kernel-core", "x86_64", "0:5-1"}: true, {"lib", "x86_64", "0:1.0-1"}: false, {"yum", "noarch", "0:3.4-1"}: true,
	} {
		if got := locks.holds(p); got != held {
			t.Errorf("%s held: %t", p.Title(), got)
		}
	}
	for name, line := range map[string]string{"bash": "bash-0:5.1.8-6.el9.*", "kernel-core": "kernel*", "lib": "!lib-2.0-1.*", "yum": "0:yum-3.4-1.*", "bash-completion": ""} {
		if got := locks.about(name); got != line {
			t.Errorf("about %s: %q, want %q", name, got, line)
		}
	}
}

// TestRPMReport has the output of real runs of dnf 4.14 and zypper 1.14.
func TestRPMReport(t *testing.T) {
	for _, c := range []struct {
		name, output string
		failed       map[Package]string // reasons, whole
		silent       []Package          // about these it says nothing
		notes        []string
	}{
		{name: "dnf", output: `No match for argument: nosuch-0:1-1.noarch
All matches were filtered out by exclude filtering for argument: held-0:1.1-1.el9.noarch

 Problem 1: conflicting requests
  - nothing provides nothere needed by needy-2-1.noarch
 Problem 2: package dep-3:1.1-1.el9.noarch requires new >= 1.1, but none of the providers can be installed
  - package new-1.1-1.el9.noarch is filtered out by exclude filtering
================================================================================
Upgrading:
 good               noarch         2-1                x              6.1 k
[MIRROR] lost-2-1.noarch.rpm: Status code: 404 for http://127.0.0.1/lost-2-1.noarch.rpm (IP: 127.0.0.1)
[FAILED] lost-2-1.noarch.rpm: No more mirrors to try - All mirrors were already tried without success
  Running scriptlet: prefail-2-1.noarch                                     1/8
pre says no
error: %prein(prefail-2-1.noarch) scriptlet failed, exit status 3

Error in PREIN scriptlet in rpm package prefail
  Upgrading        : postfail-2-1.noarch                                    2/8
error: prefail-2-1.noarch: install failed

  Running scriptlet: postfail-2-1.noarch                                    2/8
post says no
warning: %post(postfail-2-1.noarch) scriptlet failed, exit status 3

  Upgrading        : conf-2-1.noarch                                        3/8
warning: /etc/conf.conf created as /etc/conf.conf.rpmnew
warning: /etc/other.conf saved as /etc/other.conf.rpmsave
error: prefail-1-1.noarch: erase skipped
Failed: prefail-2-1.noarch
Error: Transaction failed`,
			failed: map[Package]string{
				{"nosuch", "noarch", "0:1-1"}:     "No match for argument: nosuch-0:1-1.noarch",
				{"held", "noarch", "0:1.1-1.el9"}: "All matches were filtered out by exclude filtering for argument: held-0:1.1-1.el9.noarch",
				{"needy", "noarch", "0:2-1"}:      "Problem 1: conflicting requests; nothing provides nothere needed by needy-2-1.noarch",
				{"dep", "noarch", "3:1.1-1.el9"}:  "Problem 2: package dep-3:1.1-1.el9.noarch requires new >= 1.1, but none of the providers can be installed; package new-1.1-1.el9.noarch is filtered out by exclude filtering",
				{"lost", "noarch", "0:2-1"}: "[MIRROR] lost-2-1.noarch.rpm: Status code: 404 for http://127.0.0.1/lost-2-1.noarch.rpm (IP: 127.0.0.1); " +
					"[FAILED] lost-2-1.noarch.rpm: No more mirrors to try - All mirrors were already tried without success",
				{"prefail", "noarch", "0:2-1"}: "pre says no; error: %prein(prefail-2-1.noarch) scriptlet failed, exit status 3; error: prefail-2-1.noarch: install failed",
			},
			silent: []Package{{"good", "noarch", "0:2-1"}, {"fail", "noarch", "0:2-1"}, {"conf", "noarch", "0:2-1"}, {"postfail", "noarch", "0:2-1"}},
			notes: []string{
				"postfail-2-1.noarch is installed, and its scriptlet %post failed: post says no; warning: %post(postfail-2-1.noarch) scriptlet failed, exit status 3",
				"the configuration file /etc/conf.conf was changed by the administrator and stays; the package's is /etc/conf.conf.rpmnew",
				"the configuration file /etc/other.conf is the package's; the administrator's is /etc/other.conf.rpmsave",
			}},
		{name: "zypper", output: `'nosuch.noarch=0:2-1' not found in package names. Trying capabilities.
No provider of 'nosuch.noarch=0:2-1' found.
2 Problems:
Problem: nothing provides nothere needed by needy-2-1.noarch
Problem: conflicting requests

Problem: conflicting requests
 Solution 1: Following actions will be done:
  remove lock to allow installation of held-1.1-1.el9.noarch[lab]
  remove lock to allow removal of held-1.0-1.el9.noarch
 Solution 2: do not ask to install a solvable providing held.noarch = 1.1-1.el9

Choose from above solutions by number or cancel [1/2/c/d/?] (c): c
File './lost-2-1.noarch.rpm' not found on medium 'dir:/root/x/new'
(4/7) Installing: postfail-2-1.noarch [.......done]
Additional rpm output:
post says no
warning: %post(postfail-2-1.noarch) scriptlet failed, exit status 3
(5/7) Installing: prefail-2-1.noarch [...error]
Installation of prefail-2-1.noarch failed:
Error: Subprocess failed. Error: RPM failed: pre says no
error: %prein(prefail-2-1.noarch) scriptlet failed, exit status 3
Problem occurred during or after installation or removal of packages:
Installation has been aborted as directed.
Please see the above error message for a hint.`,
			failed: map[Package]string{
				{"nosuch", "noarch", "0:2-1"}:     "'nosuch.noarch=0:2-1' not found in package names. Trying capabilities.; No provider of 'nosuch.noarch=0:2-1' found.",
				{"needy", "noarch", "0:2-1"}:      "Problem: nothing provides nothere needed by needy-2-1.noarch",
				{"held", "noarch", "0:1.1-1.el9"}: "Problem: conflicting requests; a lock forbids it",
				{"lost", "noarch", "0:2-1"}:       "File './lost-2-1.noarch.rpm' not found on medium 'dir:/root/x/new'",
				{"prefail", "noarch", "0:2-1"}:    "Installation of prefail-2-1.noarch failed:; error: %prein(prefail-2-1.noarch) scriptlet failed, exit status 3",
			},
			silent: []Package{{"good", "noarch", "0:2-1"}, {"postfail", "noarch", "0:2-1"}},
			notes:  []string{"postfail-2-1.noarch is installed, and its scriptlet %post failed: post says no; warning: %post(postfail-2-1.noarch) scriptlet failed, exit status 3"}},
	} {
		report := &rpmReport{}
		for line := range strings.Lines(c.output) {
			report.line(strings.TrimSuffix(line, "\n"))
		}
		for p, want := range c.failed {
			if got := report.reason(p); got != want {
				t.Errorf("%s: %s failed since\n%q, want\n%q", c.name, p.Title(), got, want)
			}
		}
		for _, p := range c.silent {
			if got := report.reason(p); got != "" {
				t.Errorf("%s: %s is said to fail: %q", c.name, p.Title(), got)
			}
		}
		if !slices.Equal(report.notes, c.notes) {
			t.Errorf("%s: notes %q", c.name, report.notes)
		}
	}
}

// TestFailuresTellThePartOfTheRun: a tool only knows that somebody locked or excluded
// a package.
func TestFailuresTellThePartOfTheRun(t *testing.T) {
	i := rpmInstall{failed: []Package{{"base", "noarch", "0:1.3-1"}}, blocked: []string{"lib", "lib*"}}
	for said, want := range map[string]string{
		"top requires base >= 1.3; not installable providers: base-1.3-1.noarch[j]" + lockedReason: "top requires base >= 1.3; not installable providers: base-1.3-1.noarch[j]; base.noarch:0:1.3-1 has failed in this run",
		"top requires lib >= 1.1, but this requirement cannot be provided":                         "top requires lib >= 1.1, but this requirement cannot be provided; the baseline rejects lib, with BLOCK",
		"top requires library, but this requirement cannot be provided":                            "top requires library, but this requirement cannot be provided",
		"top is held" + lockedReason: "top is held" + lockedReason,
	} {
		if got := i.explained(said); got != want {
			t.Errorf("%q\nis explained as %q", said, got)
		}
	}
	if got := withRejections("app : Depends: lib (>= 1.1) but 1.0 is to be installed", []string{"lib"}); !strings.HasSuffix(got, "; the baseline rejects lib, with BLOCK") {
		t.Errorf("apt's words are %q", got)
	}
}
