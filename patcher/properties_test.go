package patcher

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"pgregory.net/rapid"
)

// evaluation is a drawn case of Evaluate.
type evaluation struct {
	baseline *Baseline
	platform Platform
	inv      *Inventory
	options  EvaluateOptions
}

func (e evaluation) run() *Evaluation {
	return Evaluate(e.baseline, e.platform, e.inv, e.options)
}

var drawnNames = []string{"alpha", "beta", "gamma", "delta-libs", "kernel"}

func drawEvaluation(t *rapid.T) evaluation {
	platform := rapid.SampledFrom([]Platform{bookworm, rocky, leap, amazon, stream}).Draw(t, "platform")
	f := familyOf(platform.OperatingSystem, "")
	e := evaluation{platform: platform, inv: drawInventory(t, f)}
	e.options = EvaluateOptions{Now: testNow, Operation: rapid.SampledFrom(types.PatchOperationTypeScan.Values()).Draw(t, "operation"),
		FirstSeen: map[string]time.Time{}, PendingReboot: map[string]bool{}, Failed: map[string]string{}}
	for _, c := range e.inv.Candidates {
		if rapid.Bool().Draw(t, "seen") {
			e.options.FirstSeen[c.Title()] = drawTime(t)
		}
		if rapid.IntRange(0, 9).Draw(t, "failed") == 0 {
			e.options.Failed[c.Title()] = "it broke"
		}
	}
	for _, i := range e.inv.Installed {
		if rapid.IntRange(0, 4).Draw(t, "pending") == 0 {
			e.options.PendingReboot[i.Title()] = true
		}
	}
	e.baseline = drawBaseline(t, f)
	return e
}

func drawTime(t *rapid.T) time.Time {
	return rapid.SampledFrom([]time.Time{{}, ago(0), ago(3), ago(7), ago(30), ago(400)}).Draw(t, "time")
}

func drawVersion(t *rapid.T, f family) string {
	v := rapid.SampledFrom([]string{"1.0-1", "1.0-2", "1.1~rc1-1", "1.1-1", "1.10-1", "2.0-1"}).Draw(t, "version")
	if f == aptFamily {
		return v
	}
	return rapid.SampledFrom([]string{"0:", "0:", "1:"}).Draw(t, "epoch") + v
}

func drawNotices(t *rapid.T) []Notice {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Notice {
		return Notice{
			ID:       fmt.Sprintf("RHSA-2026:%d", rapid.IntRange(1, 5).Draw(t, "id")),
			Type:     rapid.SampledFrom([]string{"security", "bugfix", "enhancement", "recommended", ""}).Draw(t, "type"),
			Severity: rapid.SampledFrom([]string{"Critical", "important", "Moderate", "medium", "low", "None", ""}).Draw(t, "severity"),
			CVEs:     rapid.SampledFrom([][]string{nil, {"CVE-2026-1"}, {"CVE-2026-1", "CVE-2026-2"}}).Draw(t, "cves"),
			Issued:   drawTime(t), Updated: drawTime(t),
		}
	}), 0, 2).Draw(t, "notices")
}

func drawInventory(t *rapid.T, f family) *Inventory {
	manager, arches := "dnf", []string{"x86_64", "i686"}
	switch f {
	case aptFamily:
		manager, arches = "apt", []string{"amd64", "all"}
	case zypperFamily:
		manager = "zypper"
	}
	origins := rapid.SampledFrom([][]Origin{nil, {mainSuite}, {secSuite}, {mainSuite, secSuite}, {{Repository: "base"}}})
	inv := &Inventory{Manager: manager, SecurityKnown: rapid.IntRange(0, 9).Draw(t, "known") > 0, Sources: []Source{{Name: "one"}},
		NotInstalled: rapid.IntRange(0, 3).Draw(t, "not installed")}
	for _, name := range drawnNames {
		arch := rapid.SampledFrom(arches).Draw(t, "arch")
		installed := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string { return drawVersion(t, f) }), 0, 2, rapid.ID[string]).Draw(t, "installed")
		for _, v := range installed {
			i := Installed{Package: Package{Name: name, Arch: arch, Version: v}, Priority: "optional", Section: "libs", Origins: origins.Draw(t, "origins")}
			if f != aptFamily {
				i.Notices, i.Built = drawNotices(t), drawTime(t)
			}
			if rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
				i.Broken = "half-configured"
			}
			inv.Installed = append(inv.Installed, i)
		}
		if len(installed) == 0 {
			continue
		}
		for _, v := range rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string { return drawVersion(t, f) }), 0, 3, rapid.ID[string]).Draw(t, "offered") {
			c := Candidate{Package: Package{Name: name, Arch: arch, Version: v}, Replaces: installed[0], Priority: "optional", Section: "libs",
				Origins: origins.Draw(t, "origins"), Held: rapid.IntRange(0, 9).Draw(t, "held") == 0}
			if f != aptFamily {
				c.Notices, c.Built = drawNotices(t), drawTime(t)
			}
			if rapid.IntRange(0, 9).Draw(t, "excluded") == 0 {
				c.Excluded = "the configuration excludes it"
			}
			inv.Candidates = append(inv.Candidates, c)
		}
	}
	return inv
}

// drawnEntries are of lists. Names of zypper's patches are not among them: such an
// entry is known to name a package only as long as the notice is.
var drawnEntries = []string{"alpha", "beta", "gam*", "*-1.1-1.x86_64", "delta-libs-1.1-1.x86_64", "kernel-2.0-1.x86_64.rpm", "CVE-2026-1", "none"}

func drawBaseline(t *rapid.T, f family) *Baseline {
	b := &Baseline{
		ApprovedPatches:                  rapid.SliceOfN(rapid.SampledFrom(drawnEntries), 0, 2).Draw(t, "approved"),
		RejectedPatches:                  rapid.SliceOfN(rapid.SampledFrom(drawnEntries), 0, 2).Draw(t, "rejected"),
		ApprovedPatchesEnableNonSecurity: rapid.Bool().Draw(t, "approved non-security"),
		ApprovedPatchesComplianceLevel:   rapid.SampledFrom(types.PatchComplianceLevelCritical.Values()).Draw(t, "level"),
		RejectedPatchesAction:            rapid.SampledFrom(types.PatchActionBlock.Values()).Draw(t, "action"),
		ApprovalRules:                    &types.PatchRuleGroup{},
	}
	filters := []string{"PRODUCT=*", "PRODUCT=Debian12,RockyLinux9.4,Suse15.6", "PRIORITY=Optional", "SECTION=admin"}
	if f != aptFamily {
		filters = []string{"PRODUCT=*", "CLASSIFICATION=Security", "CLASSIFICATION=Bugfix,Recommended", "SEVERITY=Critical,Important", "SEVERITY=*"}
	}
	draw := func(label string) *types.PatchFilterGroup {
		return group(rapid.SliceOfN(rapid.SampledFrom(filters), 0, 2).Draw(t, label)...)
	}
	if rapid.IntRange(0, 3).Draw(t, "global") == 0 {
		b.GlobalFilters = draw("global filters")
	}
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := types.PatchRule{PatchFilterGroup: draw("filters"), EnableNonSecurity: aws.Bool(rapid.Bool().Draw(t, "non-security")),
			ComplianceLevel: rapid.SampledFrom(types.PatchComplianceLevelCritical.Values()).Draw(t, "level")}
		if rapid.Bool().Draw(t, "until") {
			r.ApproveUntilDate = aws.String(rapid.SampledFrom([]string{"2026-06-25", "2020-01-01", "nonsense"}).Draw(t, "date"))
		} else {
			r.ApproveAfterDays = aws.Int32(rapid.Int32Range(0, 30).Draw(t, "days"))
		}
		b.ApprovalRules.PatchRules = append(b.ApprovalRules.PatchRules, r)
	}
	return b
}

// copyInventory shares no list with its origin, so that a change of one leaves the
// other.
func copyInventory(inv *Inventory) *Inventory {
	c := *inv
	c.Installed, c.Candidates, c.Sources = slices.Clone(inv.Installed), slices.Clone(inv.Candidates), slices.Clone(inv.Sources)
	for i := range c.Installed {
		c.Installed[i].Notices, c.Installed[i].Origins = slices.Clone(c.Installed[i].Notices), slices.Clone(c.Installed[i].Origins)
	}
	for i := range c.Candidates {
		c.Candidates[i].Notices, c.Candidates[i].Origins = slices.Clone(c.Candidates[i].Notices), slices.Clone(c.Candidates[i].Origins)
	}
	return &c
}

// TestEvaluateIsSound: what holds of every evaluation.
func TestEvaluateIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvaluation(t)
		before := copyInventory(e.inv)
		r := e.run()
		if !reflect.DeepEqual(e.inv, before) {
			t.Fatal("the inventory was changed")
		}
		if again := e.run(); !reflect.DeepEqual(r, again) {
			t.Fatalf("two evaluations differ:\n%+v\n%+v", r, again)
		}
		byTitle := make(map[string]types.PatchComplianceDataState)
		for _, p := range r.Patches {
			if _, ok := byTitle[p.Title]; ok {
				t.Fatalf("%s is told twice: %q", p.Title, states(r))
			}
			byTitle[p.Title] = p.State
			if p.Reason == "" || p.ComplianceLevel == "" || p.KBId == "" || p.State == "" {
				t.Fatalf("an incomplete patch: %+v", p)
			}
		}
		missing := make(map[string]bool)
		for _, p := range r.Patches {
			missing[p.KBId] = missing[p.KBId] || p.State == types.PatchComplianceDataStateMissing || p.State == types.PatchComplianceDataStateFailed
		}
		for _, i := range e.inv.Installed {
			if byTitle[i.Title()] == "" && !missing[i.ID()] {
				t.Fatalf("%s is installed, and not told: %q", i.Title(), states(r))
			}
		}
		seen := make(map[string]bool)
		for _, p := range r.Install {
			if seen[p.ID()] {
				t.Fatalf("two versions of %s are to be installed: %q", p.ID(), titles(r.Install))
			}
			seen[p.ID()] = true
			if s := byTitle[p.Title()]; s != types.PatchComplianceDataStateMissing && s != types.PatchComplianceDataStateFailed {
				t.Fatalf("%s is to be installed, and its state is %q", p.Title(), s)
			}
			if slices.Contains(r.Blocked, p.Name) {
				t.Fatalf("%s is to be installed and blocked", p.Title())
			}
		}
		for _, p := range r.Pending {
			if p.Reason == "" || byTitle[p.Title] == types.PatchComplianceDataStateMissing {
				t.Fatalf("%+v waits; its state is %q", p, byTitle[p.Title])
			}
		}
		for _, c := range e.inv.Candidates {
			if (c.Held || c.Excluded != "") && slices.Contains(r.Install, c.Package) {
				t.Fatalf("%s is held or excluded, and to be installed", c.Title())
			}
		}
		counts := Count(r.Patches, r.NotApplicable)
		if sum := counts.Installed + counts.InstalledOther + counts.InstalledPendingReboot + counts.InstalledRejected + counts.Missing + counts.Failed; sum != len(r.Patches) {
			t.Fatalf("the counters add up to %d of %d patches", sum, len(r.Patches))
		}
		if counts.Compliant() != (counts.CriticalNonCompliant+counts.SecurityNonCompliant+counts.OtherNonCompliant == 0) {
			t.Fatalf("the counters disagree on compliance: %+v", counts)
		}
		if e.baseline.RejectedPatchesAction != types.PatchActionBlock && counts.InstalledRejected > 0 {
			t.Fatalf("something is rejected without BLOCK: %q", states(r))
		}
	})
}

// TestMissingDataIsNoCompliance: less data never makes a patch compliant that was not.
func TestMissingDataIsNoCompliance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvaluation(t)
		before := e.run()
		less := e
		less.inv = copyInventory(e.inv)
		removeData(t, &less)
		after := less.run()
		now := make(map[string]types.PatchComplianceDataState)
		for _, p := range after.Patches {
			now[p.Title] = p.State
		}
		for _, p := range before.Patches {
			if state, told := now[p.Title]; told && !CompliantState(p.State) && CompliantState(state) {
				t.Fatalf("%s was %s and is %s with less data", p.Title, p.State, state)
			}
		}
		if len(less.inv.Sources) < len(e.inv.Sources) && len(after.Gaps) == 0 {
			t.Fatal("no source is left, and no gap is told")
		}
	})
}

func removeData(t *rapid.T, e *evaluation) {
	inv := e.inv
	some := func(label string) bool { return rapid.Bool().Draw(t, label) }
	switch rapid.SampledFrom([]string{"candidates", "notices", "dates", "origins", "sources", "ledger"}).Draw(t, "remove") {
	case "candidates":
		inv.Candidates = slices.DeleteFunc(inv.Candidates, func(Candidate) bool { return some("candidate") })
	case "notices":
		for i := range inv.Candidates {
			inv.Candidates[i].Notices = slices.DeleteFunc(inv.Candidates[i].Notices, func(Notice) bool { return some("notice") })
		}
		for i := range inv.Installed {
			inv.Installed[i].Notices = slices.DeleteFunc(inv.Installed[i].Notices, func(Notice) bool { return some("notice") })
		}
	case "dates":
		clearDates := func(built *time.Time, notices []Notice) {
			if some("built") {
				*built = time.Time{}
			}
			for i := range notices {
				if some("updated") {
					notices[i].Updated = time.Time{}
				}
				if some("issued") {
					notices[i].Issued = time.Time{}
				}
			}
		}
		for i := range inv.Candidates {
			clearDates(&inv.Candidates[i].Built, inv.Candidates[i].Notices)
		}
		for i := range inv.Installed {
			clearDates(&inv.Installed[i].Built, inv.Installed[i].Notices)
		}
	case "origins":
		for i := range inv.Candidates {
			if some("origins") {
				inv.Candidates[i].Origins = nil
			}
		}
		for i := range inv.Installed {
			if some("origins") {
				inv.Installed[i].Origins = nil
			}
		}
	case "sources":
		inv.Sources, inv.Candidates, inv.SecurityKnown = nil, nil, false
	case "ledger":
		e.options.FirstSeen = nil
	}
}

// TestNoDateIsNoDelay: without dates at least as much is missing.
func TestNoDateIsNoDelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvaluation(t)
		if familyOf(e.platform.OperatingSystem, "") == aptFamily {
			return // its dates are the mesh's own
		}
		lacking := func(r *Evaluation) map[string]bool {
			ids := make(map[string]bool)
			for _, p := range r.Patches {
				if !CompliantState(p.State) {
					ids[p.KBId] = true
				}
			}
			return ids
		}
		before := lacking(e.run())
		e.inv = copyInventory(e.inv)
		for i := range e.inv.Candidates {
			c := &e.inv.Candidates[i]
			c.Built = time.Time{}
			for k := range c.Notices {
				c.Notices[k].Issued, c.Notices[k].Updated = time.Time{}, time.Time{}
			}
		}
		after := lacking(e.run())
		for id := range before {
			if !after[id] {
				t.Fatalf("%s was not compliant, and is without dates", id)
			}
		}
	})
}

// TestRejectionNeverInstallsMore: one more entry in RejectedPatches brings no package
// to the list that was not on it.
func TestRejectionNeverInstallsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvaluation(t)
		before := e.run()
		b := *e.baseline
		b.RejectedPatches = append(slices.Clone(b.RejectedPatches), rapid.SampledFrom(drawnEntries).Draw(t, "one more"))
		e.baseline = &b
		after := e.run()
		was := make(map[string]string)
		for _, p := range before.Install {
			was[p.ID()] = p.Version
		}
		f := familyOf(e.platform.OperatingSystem, "")
		for _, p := range after.Install {
			if v, ok := was[p.ID()]; !ok || f.compareVersions(p.Version, v) > 0 {
				t.Fatalf("%s is to be installed since %q is rejected; before: %q", p.Title(), b.RejectedPatches, titles(before.Install))
			}
		}
	})
}

// TestInstallIsIdempotent: when the list is installed, nothing is left to install.
func TestInstallIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvaluation(t)
		e.options.Operation, e.options.Failed = types.PatchOperationTypeInstall, nil
		if rapid.Bool().Draw(t, "override") {
			e.options.Override = &OverrideList{Patches: []OverridePatch{
				{ID: rapid.SampledFrom([]string{"*", "alpha.*", "*.x86_64", "kernel.amd64"}).Draw(t, "id"),
					Title: rapid.SampledFrom([]string{"", "*1.1-1", "*:2*", "1.0-2"}).Draw(t, "title")}}}
		}
		first := e.run()
		e.inv = copyInventory(e.inv)
		for _, p := range first.Install {
			install(e.inv, p)
		}
		second := e.run()
		if len(second.Install) > 0 {
			t.Fatalf("installed %q, and %q is left", titles(first.Install), titles(second.Install))
		}
		told := make(map[string]types.PatchComplianceDataState)
		for _, p := range second.Patches {
			told[p.Title] = p.State
		}
		for _, p := range first.Install {
			if s := told[p.Title()]; !strings.HasPrefix(string(s), "INSTALLED") {
				t.Fatalf("%s was installed, and its state is %q", p.Title(), s)
			}
			if e.options.Override == nil && !e.options.PendingReboot[p.Title()] && told[p.Title()] != types.PatchComplianceDataStateInstalled {
				t.Fatalf("%s was approved and installed, and its state is %s", p.Title(), told[p.Title()])
			}
		}
		if e.options.Override == nil && Count(second.Patches, 0).Failed > Count(first.Patches, 0).Failed {
			t.Fatalf("more failed after the installation: %q", states(second))
		}
	})
}

// install replaces a package's installed versions by an offered one.
func install(inv *Inventory, p Package) {
	at := slices.IndexFunc(inv.Candidates, func(c Candidate) bool { return c.Package == p })
	c := inv.Candidates[at]
	inv.Installed = slices.DeleteFunc(inv.Installed, func(i Installed) bool { return i.ID() == p.ID() })
	inv.Installed = append(inv.Installed, Installed{Package: p, Origins: c.Origins, Notices: c.Notices, Section: c.Section, Priority: c.Priority, Built: c.Built})
}
