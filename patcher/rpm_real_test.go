//go:build e2e

package patcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestRealDNF(t *testing.T) {
	inBed(t, func(s Setup) Manager { return NewDNF(s) }, "/var/lib/dnf/rpmdb_lock.pid", rpmBehaviour)
}

func TestRealZypper(t *testing.T) {
	inBed(t, func(s Setup) Manager { return NewZypper(s) }, zyppPid, rpmBehaviour)
}

// rpmBehaviour is what dnf and zypper must do alike, on one bed from an old machine to
// a patched one.
func rpmBehaviour(b *bed) {
	b.install("bash-5", "lib-1", "tool-1", "current-1", "epoch-9", "held-1", "rejected-1", "firmware-1", "widened-1", "stuck-1", "bound-1",
		"prefails-1", "onprefails-1", "postfails-1", "lost-1", "configured-1", "renamed-1", "cut-1")
	notices := bedNotice("RLSA-1", "security", "Important", "CVE-2026-1", false, noarch("lib", "0:1.1-1")) +
		bedNotice("RLSA-2", "security", "Critical", "CVE-2026-2", true, noarch("firmware", "0:2-1")) +
		// Of a version that is no longer offered: whoever gets epoch 3:1 has it.
		bedNotice("RLSA-3", "security", "Low", "", false, noarch("epoch", "2:7-1")) +
		bedNotice("RLBA-4", "bugfix", "None", "", false, noarch("lib", "0:2-1"), noarch("unknown", "0:1-1"))
	b.publish(b.repository, notices, "current-1", "lib-1", "lib-1.1", "lib-2", "tool-2", "epoch-1", "held-2", "rejected-2", "firmware-2", "widened-2", "brought-2",
		"stuck-2", "bound-2", "prefails-2", "onprefails-2", "postfails-2", "lost-2", "configured-2", "successor-2", "cut-2")
	for _, step := range []struct {
		name string
		test func(*bed)
	}{
		{"ScanChangesNothing", scanChangesNothing},
		{"Table", scanTable},
		{"SourceDown", sourceDown},
		{"BaselineSources", baselineSources},
		{"Busy", busyDatabase},
		{"Install", installEach},
		{"Again", installAgain},
		{"Reboot", rebootAfterInstall},
		{"Interrupted", interruptedUpgrade},
	} {
		if !b.Run(step.name, func(t *testing.T) {
			own := *b
			own.T = t
			step.test(&own)
		}) {
			return
		}
	}
}

func scanChangesNothing(b *bed) {
	before := b.sums()
	b.inventory(b.setup())
	if _, err := b.manager(b.setup()).Reboot(b.Context()); err != nil {
		b.Fatal(err)
	}
	offline := b.setup()
	offline.Offline = true
	b.inventory(offline)
	if after := b.sums(); after != before {
		b.Errorf("a scan changed the system:\n%s\nbefore:\n%s", after, before)
	}
}

func scanTable(b *bed) {
	inventory := b.inventory(b.setup())
	got := map[string]string{}
	for _, c := range inventory.Candidates {
		var words []string
		for _, n := range c.Notices {
			words = append(words, n.ID+" "+n.Type+" "+n.Severity)
		}
		if c.Chosen {
			words = append(words, "chosen")
		}
		if c.Held || c.Excluded != "" {
			words = append(words, "held")
		}
		if len(c.Origins) != 1 || c.Origins[0].Repository != "main-repo" || c.Built.IsZero() {
			b.Errorf("%s comes from %v, built %v", c.Title(), c.Origins, c.Built)
		}
		got[c.Name+" "+c.Replaces+" "+c.Version] = strings.Join(words, ", ")
	}
	want := map[string]string{
		"lib 0:1-1 0:1.1-1":      "RLSA-1 security Important",
		"lib 0:1-1 0:2-1":        "RLBA-4 bugfix None, chosen",
		"tool 0:1-1 0:2-1":       "chosen",
		"epoch 0:9-1 3:1-1":      "RLSA-3 security Low, chosen",
		"held 0:1-1 0:2-1":       "held",
		"rejected 0:1-1 0:2-1":   "chosen",
		"firmware 0:1-1 0:2-1":   "RLSA-2 security Critical, chosen",
		"widened 0:1-1 0:2-1":    "chosen",
		"stuck 0:1-1 0:2-1":      "",
		"bound 0:1-1 0:2-1":      "chosen",
		"prefails 0:1-1 0:2-1":   "chosen",
		"onprefails 0:1-1 0:2-1": "chosen",
		"postfails 0:1-1 0:2-1":  "chosen",
		"lost 0:1-1 0:2-1":       "chosen",
		"configured 0:1-1 0:2-1": "chosen",
		"cut 0:1-1 0:2-1":        "chosen",
	}
	for key, words := range want {
		if told, ok := got[key]; !ok || told != words {
			b.Errorf("%s: got %q (%t), want %q", key, told, ok, words)
		}
		delete(got, key)
	}
	for key, words := range got {
		b.Errorf("offered beyond the table: %s: %s", key, words)
	}
	if len(inventory.Installed) != 18 {
		b.Errorf("%d packages are installed, want 18", len(inventory.Installed))
	}
	// brought and successor: renamed is not replaced by another name.
	if inventory.NotInstalled != 2 || !inventory.SecurityKnown || len(inventory.Interruptions) != 0 {
		b.Errorf("not installed %d, security known %t, interruptions %v", inventory.NotInstalled, inventory.SecurityKnown, inventory.Interruptions)
	}
	if s := inventory.Sources; len(s) != 1 || s[0].Name != "main-repo" || s[0].Problem != "" || s[0].Updated.IsZero() || time.Since(s[0].Fetched) > time.Hour {
		b.Errorf("sources: %+v", s)
	}
	i := slices.IndexFunc(inventory.Installed, func(p Installed) bool { return p.Name == "current" })
	if i < 0 || len(inventory.Installed[i].Origins) != 1 || inventory.Installed[i].InstalledAt.IsZero() {
		b.Errorf("current: %+v", inventory.Installed[max(i, 0)])
	}
}

// sourceDown takes the repository away: older data is used and the problem told; without
// any data the scan fails.
func sourceDown(b *bed) {
	if err := os.Rename(b.repository, b.repository+".away"); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := os.Rename(b.repository+".away", b.repository); err != nil {
			b.Fatal(err)
		}
	}()
	inventory := b.inventory(b.setup())
	if len(inventory.Candidates) == 0 || len(inventory.Sources) != 1 || inventory.Sources[0].Problem == "" {
		b.Errorf("%d candidates, sources %+v", len(inventory.Candidates), inventory.Sources)
	}
	fresh := b.setup()
	fresh.Cache = b.TempDir()
	if _, err := b.manager(fresh).Inventory(b.Context()); err == nil || !strings.Contains(err.Error(), "main-repo") {
		b.Errorf("without any source and data: %v", err)
	}
}

func baselineSources(b *bed) {
	b.publish("/srv/other", "", "tool-2")
	before := b.sums()
	setup := b.setup()
	setup.Cache = "/srv/cache.other"
	setup.Sources = []types.PatchSource{{Name: aws.String("other"), Products: []string{"*"},
		Configuration: aws.String("[other]\nname=Other\nbaseurl=file:///srv/other\nenabled=1\ngpgcheck=0")}}
	inventory := b.inventory(setup)
	if len(inventory.Candidates) != 1 || inventory.Candidates[0].Name != "tool" || inventory.Candidates[0].Origins[0].Repository != "other" {
		b.Errorf("candidates: %+v", inventory.Candidates)
	}
	if after := b.sums(); after != before {
		b.Errorf("the system's configuration changed:\n%s\nbefore:\n%s", after, before)
	}
}

// busyDatabase holds the locks as another program does: a scan goes on, an install waits
// and then names the holder, and goes on when the lock is free.
func busyDatabase(b *bed) {
	holder := exec.Command("sleep", "600")
	if err := holder.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	b.write(b.pidFile, fmt.Sprint(holder.Process.Pid))
	b.inventory(b.setup())
	setup := b.setup()
	setup.LockWait = 2 * lockPoll
	_, err := b.manager(setup).Install(b.Context(), []Package{noarch("tool", "0:2-1")}, nil)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("sleep 600 (pid %d)", holder.Process.Pid)) {
		b.Errorf("install while another holds the lock: %v", err)
	}
	b.has("tool", "1")
	if err := os.Remove(b.pidFile); err != nil {
		b.Fatal(err)
	}
}

// installEach asks for good and bad packages at once: each has its own outcome.
func installEach(b *bed) {
	if err := os.Remove(b.repository + "/lost-2-1.noarch.rpm"); err != nil {
		b.Fatal(err)
	}
	b.write("/srv/bed/configured.conf", "the administrator's\n")
	var notes []string
	manager := b.manager(b.setup())
	failures, err := manager.Install(b.Context(), bedWant, []string{"rejected"})
	if err != nil {
		b.Fatal(err)
	}
	if told, ok := manager.(interface{ Notes() []string }); ok {
		notes = told.Notes()
	}
	got := map[string]string{}
	for _, f := range failures {
		got[f.Name] = f.Reason
	}
	for name, words := range map[string]string{
		"stuck": "not-in-any-repository", "bound": "rejected", "prefails": "the disk of prefails is odd",
		"lost": "lost-2-1.noarch", "held": "held", "nowhere": "nowhere",
	} {
		if reason, ok := got[name]; !ok || name != "held" && !strings.Contains(reason, words) {
			b.Errorf("%s should fail with %q in the reason, got %q (%t)", name, words, reason, ok)
		}
		delete(got, name)
	}
	// rpm goes on with a package whose dependency failed in the same transaction;
	// zypper, which has a transaction for each, does not.
	if reason, failed := got["onprefails"]; failed && !strings.Contains(reason, "prefails") {
		b.Errorf("onprefails failed: %s", reason)
	}
	delete(got, "onprefails")
	for name, reason := range got {
		b.Errorf("%s failed: %s", name, reason)
	}
	for name, version := range map[string]string{
		"lib": "1.1", "epoch": "1", "firmware": "2", "widened": "2", "brought": "2", "postfails": "2", "configured": "2",
		"tool": "1", "rejected": "1", "held": "1", "stuck": "1", "bound": "1", "prefails": "1", "lost": "1", "cut": "1", "renamed": "1", "current": "1",
	} {
		b.has(name, version)
	}
	if text, err := os.ReadFile("/srv/bed/configured.conf"); err != nil || string(text) != "the administrator's\n" {
		b.Errorf("the administrator's file is %q, %v", text, err)
	}
	for _, part := range []string{"configured.conf.rpmnew", "postfails is cross"} {
		if !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, part) }) {
			b.Errorf("nothing is noted about %s: %q", part, notes)
		}
	}
}

// bedWant is asked for at once: lib is not brought to the newest, tool and cut not at
// all.
var bedWant = []Package{
	noarch("stuck", "0:2-1"), noarch("lib", "0:1.1-1"), noarch("prefails", "0:2-1"), noarch("epoch", "3:1-1"), noarch("lost", "0:2-1"), noarch("held", "0:2-1"),
	noarch("firmware", "0:2-1"), noarch("bound", "0:2-1"), noarch("widened", "0:2-1"), noarch("nowhere", "0:1-1"), noarch("postfails", "0:2-1"),
	noarch("configured", "0:2-1"), noarch("onprefails", "0:2-1"),
}

// installAgain asks for what is there already: nothing is done.
func installAgain(b *bed) {
	before := b.run("rpm", "-qa", "--qf", "%{NAME} %{VERSION} %{INSTALLTIME} %{INSTALLTID}\n")
	failures, err := b.manager(b.setup()).Install(b.Context(), []Package{noarch("lib", "0:1.1-1"), noarch("widened", "0:2-1")}, nil)
	if err != nil || len(failures) != 0 {
		b.Errorf("a second install: %v, %v", failures, err)
	}
	if after := b.run("rpm", "-qa", "--qf", "%{NAME} %{VERSION} %{INSTALLTIME} %{INSTALLTID}\n"); after != before {
		b.Errorf("a second install changed\n%sto\n%s", before, after)
	}
}

func rebootAfterInstall(b *bed) {
	manager := b.manager(b.setup())
	if _, err := manager.Inventory(b.Context()); err != nil {
		b.Fatal(err)
	}
	reboot, err := manager.Reboot(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if !reboot.Needed || !slices.ContainsFunc(reboot.Evidence, func(s string) bool { return strings.Contains(s, "RLSA-2") && strings.Contains(s, "firmware") }) {
		b.Errorf("reboot: %+v", reboot)
	}
}

// interruptedUpgrade leaves what a killed transaction does: two versions in the database.
func interruptedUpgrade(b *bed) {
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	b.run("rpm", "-i", "--force-debian", "--force", "--nodeps", b.file("cut-2"))
	b.has("cut", "1", "2")
	inventory := b.inventory(b.setup())
	if len(inventory.Interruptions) != 1 || inventory.Interruptions[0].Package != "cut.noarch" {
		b.Errorf("interruptions: %+v", inventory.Interruptions)
	}
	done, err := b.manager(b.setup()).Repair(ctx)
	if err != nil || len(done) != 1 || !strings.Contains(done[0], "cut") {
		b.Errorf("repair: %q, %v", done, err)
	}
	b.has("cut", "2")
	if done, err := b.manager(b.setup()).Repair(ctx); err != nil || len(done) != 0 {
		b.Errorf("a second repair: %q, %v", done, err)
	}
}
