package patcher

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

var (
	testNow = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

	bookworm  = Platform{OperatingSystem: "DEBIAN", Product: "Debian12", Codename: "bookworm", Arch: "amd64"}
	rocky     = Platform{OperatingSystem: "ROCKY_LINUX", Product: "RockyLinux9.4", Arch: "x86_64"}
	leap      = Platform{OperatingSystem: "SUSE", Product: "Suse15.6", Arch: "x86_64"}
	amazon    = Platform{OperatingSystem: "AMAZON_LINUX_2023", Product: "AmazonLinux2023", Arch: "x86_64"}
	stream    = Platform{OperatingSystem: "CENTOS", Product: "CentOS9", Arch: "x86_64"}
	mainSuite = Origin{Label: "Debian", Suite: "stable", Codename: "bookworm", Component: "main"}
	secSuite  = Origin{Label: "Debian-Security", Suite: "stable-security", Codename: "bookworm-security", Component: "main"}
)

func ago(days int) time.Time { return testNow.Add(-time.Duration(days) * day) }

// rule makes an approval rule of filters as KEY=a,b and a delay in days.
func rule(days int, filters ...string) types.PatchRule {
	return types.PatchRule{PatchFilterGroup: group(filters...), ApproveAfterDays: aws.Int32(int32(days))}
}

func anyRule(r types.PatchRule) types.PatchRule {
	r.EnableNonSecurity = aws.Bool(true)
	return r
}

func level(r types.PatchRule, l types.PatchComplianceLevel) types.PatchRule {
	r.ComplianceLevel = l
	return r
}

func until(r types.PatchRule, date string) types.PatchRule {
	r.ApproveAfterDays, r.ApproveUntilDate = nil, aws.String(date)
	return r
}

func group(filters ...string) *types.PatchFilterGroup {
	g := &types.PatchFilterGroup{}
	for _, f := range filters {
		key, values, _ := strings.Cut(f, "=")
		g.PatchFilters = append(g.PatchFilters, types.PatchFilter{Key: types.PatchFilterKey(key), Values: strings.Split(values, ",")})
	}
	return g
}

func rules(r ...types.PatchRule) *Baseline {
	return &Baseline{ApprovalRules: &types.PatchRuleGroup{PatchRules: r}}
}

func predefined(t *testing.T, name string) *Baseline {
	t.Helper()
	for _, b := range Predefined() {
		if b.Name == name {
			return &b.Baseline
		}
	}
	t.Fatalf("there is no predefined baseline %s", name)
	return nil
}

// parsePackage reads name.arch:version.
func parsePackage(title string) Package {
	id, version, _ := strings.Cut(title, ":")
	dot := strings.LastIndexByte(id, '.')
	return Package{Name: id[:dot], Arch: id[dot+1:], Version: version}
}

func have(title string, change ...func(*Installed)) Installed {
	i := Installed{Package: parsePackage(title), InstalledAt: ago(100), Priority: "optional", Section: "libs"}
	for _, c := range change {
		c(&i)
	}
	return i
}

func from(origins ...Origin) func(*Installed) { return func(i *Installed) { i.Origins = origins } }
func listed(n ...Notice) func(*Installed)     { return func(i *Installed) { i.Notices = n } }

// offer is a version that replaces another and is the package manager's choice.
func offer(title, replaces string, change ...func(*Candidate)) Candidate {
	c := Candidate{Package: parsePackage(title), Replaces: replaces, Chosen: true, Priority: "optional", Section: "libs", Built: ago(50)}
	for _, change := range change {
		change(&c)
	}
	return c
}

func by(origins ...Origin) func(*Candidate) { return func(c *Candidate) { c.Origins = origins } }
func under(n ...Notice) func(*Candidate)    { return func(c *Candidate) { c.Notices = n } }
func notChosen(c *Candidate)                { c.Chosen = false }
func held(c *Candidate)                     { c.Held = true }
func excluded(c *Candidate)                 { c.Excluded = "it has the priority -1." }

func notice(id, kind, severity string, age int) Notice {
	return Notice{ID: id, Type: kind, Severity: severity, Issued: ago(age), Updated: ago(age)}
}

func inventory(manager string, installed []Installed, offers ...Candidate) *Inventory {
	return &Inventory{Manager: manager, Installed: installed, Candidates: offers, SecurityKnown: true, Sources: []Source{{Name: "test"}}}
}

// states are "state title", in order.
func states(e *Evaluation) []string {
	var s []string
	for _, p := range e.Patches {
		s = append(s, string(p.State)+" "+p.Title)
	}
	return s
}

func titles(packages []Package) []string {
	var s []string
	for _, p := range packages {
		s = append(s, p.Title())
	}
	return s
}

func reasonOf(e *Evaluation, title string) string {
	for _, p := range e.Patches {
		if p.Title == title {
			return p.Reason
		}
	}
	for _, p := range e.Pending {
		if p.Title == title {
			return p.Reason
		}
	}
	return ""
}

type evaluateTest struct {
	name     string
	baseline *Baseline
	platform Platform
	inv      *Inventory
	options  EvaluateOptions
	states   []string // all of them
	install  []string
	blocked  []string
	reasons  map[string]string // by title, a part of it
	gaps     []string          // a part of each
}

func (test evaluateTest) run(t *testing.T) {
	o := test.options
	if o.Now.IsZero() {
		o.Now = testNow
	}
	e := Evaluate(test.baseline, test.platform, test.inv, o)
	equal := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n  got  %q\n  want %q", what, got, want)
		}
	}
	equal("states", states(e), test.states)
	equal("install", titles(e.Install), test.install)
	equal("blocked", e.Blocked, test.blocked)
	for title, part := range test.reasons {
		if r := reasonOf(e, title); !strings.Contains(r, part) {
			t.Errorf("the reason of %s is %q, without %q", title, r, part)
		}
	}
	if len(e.Gaps) != len(test.gaps) {
		t.Errorf("gaps: %q, want %d", e.Gaps, len(test.gaps))
	}
	for i := range min(len(e.Gaps), len(test.gaps)) {
		if !strings.Contains(e.Gaps[i], test.gaps[i]) {
			t.Errorf("gap %q is without %q", e.Gaps[i], test.gaps[i])
		}
	}
	if t.Failed() {
		for _, p := range e.Patches {
			t.Logf("%s %s: %s", p.State, p.Title, p.Reason)
		}
		for _, p := range e.Pending {
			t.Logf("pending %s: %s", p.Title, p.Reason)
		}
	}
}

func TestEvaluateApt(t *testing.T) {
	security := predefined(t, "AWS-DebianDefaultPatchBaseline")
	everything := rules(anyRule(rule(0, "PRODUCT=*")))
	everything.BaselineId = security.BaselineId // no ledger, no delay
	for _, test := range []evaluateTest{
		{
			name: "security source only", baseline: security, platform: bookworm,
			inv: inventory("apt", []Installed{
				have("libdemo.all:1.0", from(mainSuite)), have("tooldemo.all:1.0", from(mainSuite)),
				have("fixed.amd64:2.1", from(secSuite)), have("own.all:1"),
			}, offer("libdemo.all:1.1", "1.0", by(secSuite)), offer("tooldemo.all:1.1", "1.0", by(mainSuite))),
			states:  []string{"INSTALLED fixed.amd64:2.1", "MISSING libdemo.all:1.1", "INSTALLED_OTHER own.all:1", "INSTALLED_OTHER tooldemo.all:1.0"},
			install: []string{"libdemo.all:1.1"},
			reasons: map[string]string{
				"libdemo.all:1.1":  "approved by rule 1 (Required|Important|Standard|Optional|Extra)",
				"tooldemo.all:1.1": "not for security: no security source offers this version",
				"fixed.amd64:2.1":  "installed; approved by rule 1",
			},
		},
		{
			name: "both sources offer one version", baseline: security, platform: bookworm,
			inv:     inventory("apt", []Installed{have("a.all:1")}, offer("a.all:2", "1", by(mainSuite, secSuite))),
			states:  []string{"MISSING a.all:2"},
			install: []string{"a.all:2"},
		},
		{
			name: "a security fix below a newer ordinary version", baseline: security, platform: bookworm,
			inv: inventory("apt", []Installed{have("a.all:1")},
				offer("a.all:3", "1", by(mainSuite)), offer("a.all:2", "1", by(secSuite), notChosen)),
			states:  []string{"MISSING a.all:2"},
			install: []string{"a.all:2"},
			reasons: map[string]string{"a.all:3": "not for security"},
		},
		{
			name: "versions of another architecture are versions of the same package", baseline: security, platform: bookworm,
			inv: inventory("apt", []Installed{have("a.amd64:1")},
				offer("a.amd64:3", "1", by(secSuite)), offer("a.all:2", "1", by(secSuite), notChosen)),
			states:  []string{"MISSING a.amd64:3"},
			install: []string{"a.amd64:3"},
		},
		{
			name: "ubuntu's suites", baseline: predefined(t, "AWS-UbuntuDefaultPatchBaseline"),
			platform: Platform{OperatingSystem: "UBUNTU", Product: "Ubuntu22.04"},
			inv: inventory("apt", []Installed{have("a.amd64:1"), have("b.amd64:1"), have("c.amd64:1")},
				offer("a.amd64:2", "1", by(Origin{Vendor: "Ubuntu", Label: "Ubuntu", Suite: "jammy-security", Codename: "jammy"})),
				offer("b.amd64:2", "1", by(Origin{Vendor: "UbuntuESM", Label: "UbuntuESM", Suite: "jammy-infra-security"})),
				offer("c.amd64:2", "1", by(Origin{Vendor: "Ubuntu", Label: "Ubuntu", Suite: "jammy-updates"}))),
			states:  []string{"MISSING a.amd64:2", "MISSING b.amd64:2", "INSTALLED_OTHER c.amd64:1"},
			install: []string{"a.amd64:2", "b.amd64:2"},
		},
		{
			name: "priorities in dpkg's case", platform: bookworm,
			baseline: rules(rule(0, "PRODUCT=Debian11,Debian12", "PRIORITY=Required,Important")),
			options:  EvaluateOptions{FirstSeen: map[string]time.Time{"a.all:2": ago(1), "b.all:2": ago(1)}},
			inv: inventory("apt", []Installed{have("a.all:1"), have("b.all:1")},
				offer("a.all:2", "1", by(secSuite), func(c *Candidate) { c.Priority = "important" }), offer("b.all:2", "1", by(secSuite))),
			states:  []string{"MISSING a.all:2", "INSTALLED_OTHER b.all:1"},
			install: []string{"a.all:2"},
			reasons: map[string]string{"b.all:2": "rule 1 wants PRIORITY Required|Important, this has optional"},
		},
		{
			name: "section", platform: bookworm, baseline: rules(rule(0, "SECTION=admin")),
			inv: inventory("apt", []Installed{have("a.all:1"), have("b.all:1")},
				offer("a.all:2", "1", by(secSuite), func(c *Candidate) { c.Section = "admin" }), offer("b.all:2", "1", by(secSuite))),
			states:  []string{"MISSING a.all:2", "INSTALLED_OTHER b.all:1"},
			install: []string{"a.all:2"},
		},
		{
			name: "another product", platform: bookworm, baseline: rules(rule(0, "PRODUCT=Debian8,Debian9")),
			inv:     inventory("apt", []Installed{have("a.all:1")}, offer("a.all:2", "1", by(secSuite))),
			states:  []string{"INSTALLED_OTHER a.all:1"},
			reasons: map[string]string{"a.all:2": "rule 1 wants PRODUCT Debian8|Debian9, this has Debian12"},
		},
		{
			name: "predefined baselines have no delay here", baseline: security, platform: bookworm,
			options: EvaluateOptions{FirstSeen: map[string]time.Time{"a.all:2": ago(0)}},
			inv:     inventory("apt", []Installed{have("a.all:1")}, offer("a.all:2", "1", by(secSuite))),
			states:  []string{"MISSING a.all:2"},
			install: []string{"a.all:2"},
		},
		{
			name: "the first-seen ledger delays custom ones", baseline: rules(rule(7, "PRIORITY=*")), platform: bookworm,
			options: EvaluateOptions{FirstSeen: map[string]time.Time{"a.all:2": ago(7), "b.all:2": ago(6)}},
			inv: inventory("apt", []Installed{have("a.all:1"), have("b.all:1"), have("new.all:1")},
				offer("a.all:2", "1", by(secSuite)), offer("b.all:2", "1", by(secSuite)), offer("new.all:2", "1", by(secSuite))),
			states:  []string{"MISSING a.all:2", "INSTALLED_OTHER b.all:1", "INSTALLED_OTHER new.all:1"},
			install: []string{"a.all:2"},
			reasons: map[string]string{
				"a.all:2":   "7 days after it was first seen on 2026-06-23",
				"b.all:2":   "rule 1 (all) approves it on 2026-07-01, 7 days after it was first seen on 2026-06-24",
				"new.all:2": "rule 1 (all) approves it on 2026-07-07",
			},
		},
		{
			name: "until a date", baseline: rules(until(rule(0, "PRIORITY=*"), "2026-06-23")), platform: bookworm,
			options: EvaluateOptions{FirstSeen: map[string]time.Time{
				"a.all:2": time.Date(2026, 6, 23, 23, 59, 59, 0, time.UTC), "b.all:2": time.Date(2026, 6, 24, 0, 0, 0, 0, time.UTC)}},
			inv: inventory("apt", []Installed{have("a.all:1"), have("b.all:1")},
				offer("a.all:2", "1", by(secSuite)), offer("b.all:2", "1", by(secSuite))),
			states:  []string{"MISSING a.all:2", "INSTALLED_OTHER b.all:1"},
			install: []string{"a.all:2"},
			reasons: map[string]string{"b.all:2": "approves until 2026-06-23 only, and it was first seen on 2026-06-24"},
		},
		{
			name: "approved by name, whatever the rules and filters say", platform: bookworm,
			baseline: &Baseline{GlobalFilters: group("PRODUCT=Debian8"), ApprovedPatches: []string{"a", "b", "c=2", "d.all", "e*"},
				ApprovedPatchesComplianceLevel: "HIGH"},
			inv: inventory("apt", []Installed{have("a.all:1"), have("b.all:1"), have("c.all:1"), have("d.all:1"), have("e.all:1")},
				offer("a.all:2", "1", by(secSuite)), offer("b.all:2", "1", by(mainSuite)), offer("c.all:2", "1", by(secSuite)),
				offer("d.all:2", "1", by(secSuite)), offer("e.all:2", "1", by(secSuite))),
			states: []string{"MISSING a.all:2", "INSTALLED_OTHER b.all:1", "INSTALLED_OTHER c.all:1",
				"INSTALLED_OTHER d.all:1", "INSTALLED_OTHER e.all:1"},
			install: []string{"a.all:2"},
			reasons: map[string]string{
				"a.all:2": `approved by "a" in ApprovedPatches`,
				"b.all:2": `in ApprovedPatches as "b", but not for security`,
				"c.all:2": "no rule and no entry",
			},
			gaps: []string{`"c=2" of ApprovedPatches`, `"e*" of ApprovedPatches`},
		},
		{
			name: "approved list with non-security", platform: bookworm,
			baseline: &Baseline{ApprovedPatches: []string{"b"}, ApprovedPatchesEnableNonSecurity: true},
			inv:      inventory("apt", []Installed{have("b.all:1")}, offer("b.all:2", "1", by(mainSuite))),
			states:   []string{"MISSING b.all:2"},
			install:  []string{"b.all:2"},
		},
		{
			name: "held and excluded", baseline: everything, platform: bookworm,
			inv: inventory("apt", []Installed{have("h.all:1"), have("p.all:1"), have("x.all:1")},
				offer("h.all:2", "1", held), offer("p.all:3", "1", by(secSuite), excluded), offer("p.all:2", "1"),
				offer("x.all:2", "1", by(secSuite), excluded)),
			states:  []string{"MISSING h.all:2", "MISSING p.all:2", "MISSING x.all:2"},
			install: []string{"p.all:2"},
			reasons: map[string]string{
				"h.all:2": "; held by apt-mark, so it is not installed",
				"p.all:3": "; it has the priority -1, so it is not installed",
				"x.all:2": "; it has the priority -1, so it is not installed",
			},
		},
		{
			name: "a backport that nothing asks for", platform: bookworm,
			baseline: &Baseline{ApprovalRules: everything.ApprovalRules, ApprovedPatches: []string{"asked"}, ApprovedPatchesEnableNonSecurity: true},
			inv: inventory("apt", []Installed{have("a.all:1"), have("asked.all:1")}, offer("a.all:2", "1", notChosen, excluded),
				offer("asked.all:2", "1", notChosen, excluded)),
			states:  []string{"INSTALLED a.all:1", "MISSING asked.all:2"},
			reasons: map[string]string{"a.all:2": "; it has the priority -1, so it is not installed"},
		},
		{
			name: "not the manager's choice and not excluded: its dependencies may be missing", baseline: everything, platform: bookworm,
			inv:     inventory("apt", []Installed{have("a.all:1")}, offer("a.all:2", "1", notChosen)),
			states:  []string{"MISSING a.all:2"},
			install: []string{"a.all:2"},
		},
		{
			name: "older and equal versions are no candidates", baseline: everything, platform: bookworm,
			inv: inventory("apt", []Installed{have("a.all:1:1")}, offer("a.all:1:1", "1:1"), offer("a.all:9", "1:1"),
				offer("unknown.all:1", "")),
			states: []string{"INSTALLED a.all:1:1"},
		},
		{
			name: "half-configured", baseline: security, platform: bookworm,
			inv:     inventory("apt", []Installed{have("a.all:2", from(secSuite), func(i *Installed) { i.Broken = "half-configured" })}),
			states:  []string{"FAILED a.all:2"},
			reasons: map[string]string{"a.all:2": "installed, but not wholly: half-configured"},
		},
		{
			name: "no security source at all", baseline: security, platform: bookworm,
			inv: &Inventory{Manager: "apt", Installed: []Installed{have("a.all:1")}, Candidates: []Candidate{offer("a.all:2", "1", by(mainSuite))},
				Sources: []Source{{Name: "main", Problem: "404"}}},
			states: []string{"INSTALLED_OTHER a.all:1"},
			gaps:   []string{"the source main could not be refreshed: 404", "no source of the machine tells which updates are for security"},
		},
		{
			name: "nothing known", baseline: nil, platform: Platform{}, inv: nil,
			gaps: []string{"no source of packages"},
		},
	} {
		t.Run(test.name, test.run)
	}
}

func TestEvaluateYum(t *testing.T) {
	important := notice("RHSA-2026:1", "security", "Important", 10)
	important.CVEs, important.Bugzillas = []string{"CVE-2026-1"}, []string{"2200001"}
	moderate := notice("RHSA-2026:2", "security", "Moderate", 10)
	bugfix := notice("RHBA-2026:3", "bugfix", "None", 10)
	feature := notice("RHEA-2026:4", "enhancement", "", 10)
	three := []Installed{have("a.x86_64:0:1-1"), have("b.x86_64:0:1-1"), have("c.x86_64:0:1-1")}
	defaults := predefined(t, "AWS-RockyLinuxDefaultPatchBaseline")
	for _, test := range []evaluateTest{
		{
			name: "default rules by notice", baseline: defaults, platform: rocky,
			inv: inventory("dnf", append(three, have("d.x86_64:0:1-1"), have("e.x86_64:0:1-1"), have("f.x86_64:0:2-1", listed(important)))[:6],
				offer("a.x86_64:0:2-1", "0:1-1", under(important)), offer("b.x86_64:0:2-1", "0:1-1", under(moderate)),
				offer("c.x86_64:0:2-1", "0:1-1", under(bugfix)), offer("d.x86_64:0:2-1", "0:1-1", under(feature)),
				offer("e.x86_64:0:2-1", "0:1-1")),
			states: []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1", "MISSING c.x86_64:0:2-1",
				"INSTALLED_OTHER d.x86_64:0:1-1", "INSTALLED_OTHER e.x86_64:0:1-1", "INSTALLED f.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1", "c.x86_64:0:2-1"},
			reasons: map[string]string{
				"a.x86_64:0:2-1": "approved by rule 1 (Security, Critical|Important): RHSA-2026:1, 7 days after it was published on 2026-06-20",
				"b.x86_64:0:2-1": "rule 1 wants SEVERITY Critical|Important, this has Moderate; rule 2 wants CLASSIFICATION Bugfix, this has Security",
				"c.x86_64:0:2-1": "approved by rule 2 (Bugfix)",
				"e.x86_64:0:2-1": "rule 1 wants CLASSIFICATION Security, this has none",
			},
		},
		{
			name: "filters are of one notice", platform: rocky, baseline: rules(rule(0, "CLASSIFICATION=Security", "SEVERITY=Critical")),
			inv:    inventory("dnf", three[:1], offer("a.x86_64:0:2-1", "0:1-1", under(moderate, notice("RHBA-2026:9", "bugfix", "Critical", 1)))),
			states: []string{"INSTALLED_OTHER a.x86_64:0:1-1"},
		},
		{
			name: "updated counts before issued, issued before built", baseline: rules(rule(7, "CLASSIFICATION=*")), platform: rocky,
			inv: inventory("dnf", three,
				offer("a.x86_64:0:2-1", "0:1-1", under(Notice{ID: "A", Issued: ago(30), Updated: ago(3)})),
				offer("b.x86_64:0:2-1", "0:1-1", under(Notice{ID: "B", Issued: ago(30)}), func(c *Candidate) { c.Built = ago(1) }),
				offer("c.x86_64:0:2-1", "0:1-1", under(Notice{ID: "C"}), func(c *Candidate) { c.Built = ago(1) })),
			states:  []string{"INSTALLED_OTHER a.x86_64:0:1-1", "MISSING b.x86_64:0:2-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			install: []string{"b.x86_64:0:2-1"},
			reasons: map[string]string{
				"a.x86_64:0:2-1": "approves it on 2026-07-04, 7 days after it was published on 2026-06-27",
				"c.x86_64:0:2-1": "7 days after it was built on 2026-06-29",
			},
		},
		{
			name: "no date at all means no delay", baseline: rules(rule(360, "CLASSIFICATION=*"), until(rule(0, "CLASSIFICATION=*"), "2020-01-01")), platform: rocky,
			inv:     inventory("dnf", three[:1], offer("a.x86_64:0:2-1", "0:1-1", under(Notice{ID: "A"}), func(c *Candidate) { c.Built = time.Time{} })),
			states:  []string{"MISSING a.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "at once because no date of it is known"},
		},
		{
			name: "the delay ends to the second", baseline: rules(rule(7, "CLASSIFICATION=*")), platform: rocky,
			inv: inventory("dnf", three[:2],
				offer("a.x86_64:0:2-1", "0:1-1", under(Notice{ID: "A", Updated: ago(7)})),
				offer("b.x86_64:0:2-1", "0:1-1", under(Notice{ID: "B", Updated: ago(7).Add(time.Second)}))),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "until a day, its end in UTC included", baseline: rules(until(rule(0, "CLASSIFICATION=*"), "2026-05-01")), platform: rocky,
			inv: inventory("dnf", three[:2],
				offer("a.x86_64:0:2-1", "0:1-1", under(Notice{ID: "A", Updated: time.Date(2026, 5, 2, 1, 59, 59, 0, time.FixedZone("", 2*3600))})),
				offer("b.x86_64:0:2-1", "0:1-1", under(Notice{ID: "B", Updated: time.Date(2026, 5, 2, 2, 0, 0, 0, time.FixedZone("", 2*3600))}))),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "a date that is none approves nothing", baseline: rules(until(rule(0, "CLASSIFICATION=*"), "someday")), platform: rocky,
			inv:     inventory("dnf", three[:1], offer("a.x86_64:0:2-1", "0:1-1", under(important))),
			states:  []string{"INSTALLED_OTHER a.x86_64:0:1-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "has a date that is none: someday"},
		},
		{
			name: "newest of several approved, also below the newest", baseline: defaults, platform: rocky,
			inv: inventory("dnf", three[:1],
				offer("a.x86_64:0:2-1", "0:1-1", under(important), notChosen), offer("a.x86_64:0:10-1", "0:1-1", under(bugfix), notChosen),
				offer("a.x86_64:0:11-1", "0:1-1", under(feature))),
			states:  []string{"MISSING a.x86_64:0:10-1"},
			install: []string{"a.x86_64:0:10-1"},
			reasons: map[string]string{"a.x86_64:0:11-1": "this has Enhancement", "a.x86_64:0:2-1": ""},
		},
		{
			name: "non-security updates", platform: rocky,
			baseline: rules(anyRule(rule(7, "PRODUCT=RockyLinux9.*")), rule(0, "CLASSIFICATION=Security")),
			inv: inventory("dnf", three, offer("a.x86_64:0:2-1", "0:1-1"), offer("b.x86_64:0:2-1", "0:1-1", func(c *Candidate) { c.Built = ago(2) }),
				offer("c.x86_64:0:2-1", "0:1-1", under(notice("X", "security", "Low", 1)))),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED b.x86_64:0:1-1", "MISSING c.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1", "c.x86_64:0:2-1"},
			reasons: map[string]string{"b.x86_64:0:2-1": "rule 1 (RockyLinux9.*) approves it on 2026-07-05, 7 days after it was built on 2026-06-28"},
		},
		{
			name: "not in an advisory", platform: rocky, baseline: rules(rule(0, "PRODUCT=*")),
			inv:     inventory("dnf", three[:1], offer("a.x86_64:0:2-1", "0:1-1")),
			states:  []string{"INSTALLED_OTHER a.x86_64:0:1-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "not for security: no advisory lists this version"},
		},
		{
			name: "global filters come first", platform: rocky,
			baseline: &Baseline{GlobalFilters: group("SEVERITY=Important"), ApprovalRules: rules(rule(0, "CLASSIFICATION=*")).ApprovalRules,
				ApprovedPatches: []string{"RHSA-2026:2"}},
			inv: inventory("dnf", three, offer("a.x86_64:0:2-1", "0:1-1", under(important)),
				offer("b.x86_64:0:2-1", "0:1-1", under(moderate)), offer("c.x86_64:0:2-1", "0:1-1", under(bugfix))),
			states:  []string{"MISSING a.x86_64:0:2-1", "MISSING b.x86_64:0:2-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1", "b.x86_64:0:2-1"},
			reasons: map[string]string{"c.x86_64:0:2-1": "the global filter wants SEVERITY Important, this has None"},
		},
		{
			name: "approved by CVE, Bugzilla, advisory, NVRA and wildcard", platform: rocky,
			baseline: &Baseline{ApprovedPatches: []string{"CVE-2026-1", "77", "RHEA-2026:4", "d-2-1.x86_64", "e-*.x86_64"}},
			inv: inventory("dnf", []Installed{have("a.x86_64:0:1-1"), have("b.x86_64:0:1-1"), have("c.x86_64:0:1-1"), have("d.x86_64:0:1-1"),
				have("e.x86_64:0:1-1"), have("e.i686:0:1-1"), have("f.x86_64:0:1-1")},
				offer("a.x86_64:0:2-1", "0:1-1", under(important)), offer("b.x86_64:0:2-1", "0:1-1", under(Notice{ID: "X", Bugzillas: []string{"77"}})),
				offer("c.x86_64:0:2-1", "0:1-1", under(feature)), offer("d.x86_64:0:2-1", "0:1-1", under(bugfix)),
				offer("e.x86_64:0:2-1", "0:1-1", under(bugfix)), offer("e.i686:0:2-1", "0:1-1", under(bugfix)),
				offer("f.x86_64:0:2-1", "0:1-1", under(moderate))),
			states: []string{"MISSING a.x86_64:0:2-1", "MISSING b.x86_64:0:2-1", "MISSING c.x86_64:0:2-1", "MISSING d.x86_64:0:2-1",
				"INSTALLED_OTHER e.i686:0:1-1", "MISSING e.x86_64:0:2-1", "INSTALLED_OTHER f.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1", "b.x86_64:0:2-1", "c.x86_64:0:2-1", "d.x86_64:0:2-1", "e.x86_64:0:2-1"},
		},
		{
			name: "rejected takes no CVE, no advisory, no Bugzilla", platform: rocky,
			baseline: &Baseline{ApprovalRules: rules(rule(0, "CLASSIFICATION=*")).ApprovalRules,
				RejectedPatches: []string{"CVE-2026-1", "2200001", "RHSA-2026:1", "b-2-*", "c"}},
			inv: inventory("dnf", three, offer("a.x86_64:0:2-1", "0:1-1", under(important)),
				offer("b.x86_64:0:2-1", "0:1-1", under(bugfix)), offer("c.x86_64:0:2-1", "0:1-1", under(bugfix))),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1"},
			reasons: map[string]string{"b.x86_64:0:2-1": `rejected by "b-2-*"`, "c.x86_64:0:1-1": "which allows it as a dependency"},
			gaps:    []string{`"CVE-2026-1" of RejectedPatches`, `"2200001" of RejectedPatches`, `"RHSA-2026:1" of RejectedPatches`},
		},
		{
			name: "rejected wins over approved; the next lower version is taken", platform: rocky,
			baseline: &Baseline{ApprovedPatches: []string{"RHSA-2026:1", "RHBA-2026:3"}, RejectedPatches: []string{"a-3-1.x86_64"}},
			inv:      inventory("dnf", three[:1], offer("a.x86_64:0:3-1", "0:1-1", under(important)), offer("a.x86_64:0:2-1", "0:1-1", under(bugfix), notChosen)),
			states:   []string{"MISSING a.x86_64:0:2-1"},
			install:  []string{"a.x86_64:0:2-1"},
			reasons:  map[string]string{"a.x86_64:0:3-1": `rejected by "a-3-1.x86_64"`},
		},
		{
			name: "BLOCK", platform: rocky,
			baseline: &Baseline{ApprovalRules: rules(level(rule(0, "CLASSIFICATION=*"), "CRITICAL")).ApprovalRules,
				RejectedPatches: []string{"a", "b-2-1.x86_64", "newdemo*"}, RejectedPatchesAction: "BLOCK"},
			inv: inventory("dnf", []Installed{have("a.x86_64:0:1-1", listed(bugfix)), have("b.x86_64:0:1-1"), have("c.x86_64:0:1-1")},
				offer("a.x86_64:0:2-1", "0:1-1", under(important)), offer("b.x86_64:0:2-1", "0:1-1", under(bugfix), notChosen),
				offer("b.x86_64:0:3-1", "0:1-1", under(bugfix)), offer("c.x86_64:0:2-1", "0:1-1", under(bugfix))),
			states:  []string{"INSTALLED_REJECTED a.x86_64:0:1-1", "MISSING b.x86_64:0:3-1", "MISSING c.x86_64:0:2-1"},
			install: []string{"b.x86_64:0:3-1", "c.x86_64:0:2-1"},
			blocked: []string{"a", "b-2-1.x86_64", "newdemo*"},
			reasons: map[string]string{"a.x86_64:0:1-1": `rejected by "a" with BLOCK`},
		},
		{
			name: "no updateinfo on RHEL and Rocky", platform: rocky, baseline: rules(anyRule(rule(0, "PRODUCT=*"))),
			inv:     &Inventory{Manager: "dnf", Installed: three[:1], Candidates: []Candidate{offer("a.x86_64:0:2-1", "0:1-1")}, Sources: []Source{{Name: "base"}}},
			states:  []string{"INSTALLED_OTHER a.x86_64:0:1-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "no source of the machine has advisories"},
			gaps:    []string{"no source of the machine has advisories (updateinfo)"},
		},
		{
			name: "no updateinfo elsewhere", platform: stream, baseline: predefined(t, "AWS-CentOSDefaultPatchBaseline"),
			inv: &Inventory{Manager: "dnf", Installed: three[:2], Candidates: []Candidate{offer("a.x86_64:0:2-1", "0:1-1"),
				offer("b.x86_64:0:2-1", "0:1-1", func(c *Candidate) { c.Built = ago(6) })}, Sources: []Source{{Name: "base"}}},
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED b.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "approved by rule 1 (all), 7 days after it was built on 2026-05-11"},
		},
		{
			name: "no updateinfo elsewhere, security only", platform: stream, baseline: rules(rule(0, "PRODUCT=*")),
			inv:    &Inventory{Manager: "dnf", Installed: three[:1], Candidates: []Candidate{offer("a.x86_64:0:2-1", "0:1-1")}, Sources: []Source{{Name: "base"}}},
			states: []string{"INSTALLED_OTHER a.x86_64:0:1-1"},
			gaps:   []string{"no source of the machine tells which updates are for security"},
		},
		{
			name: "custom sources without classification", platform: stream,
			baseline: rules(anyRule(rule(0, "CLASSIFICATION=Security")), anyRule(rule(0, "CLASSIFICATION=Bugfix", "SEVERITY=*"))),
			inv:      inventory("dnf", three[:1], offer("a.x86_64:0:2-1", "0:1-1")),
			states:   []string{"INSTALLED_OTHER a.x86_64:0:1-1"},
		},
		{
			name: "Medium is also Moderate on Amazon Linux 2023", platform: amazon, baseline: rules(rule(0, "SEVERITY=Medium")),
			inv: inventory("dnf", three[:2], offer("a.x86_64:0:2-1", "0:1-1", under(notice("ALAS2023-2026-1", "security", "medium", 1))),
				offer("b.x86_64:0:2-1", "0:1-1", under(moderate))),
			states:  []string{"MISSING a.x86_64:0:2-1", "MISSING b.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1", "b.x86_64:0:2-1"},
		},
		{
			name: "Medium is not Moderate elsewhere", platform: Platform{OperatingSystem: "AMAZON_LINUX_2", Product: "AmazonLinux2"}, baseline: rules(rule(0, "SEVERITY=Medium")),
			inv: inventory("yum", three[:2], offer("a.x86_64:0:2-1", "0:1-1", under(notice("ALAS2-2026-1", "security", "medium", 1))),
				offer("b.x86_64:0:2-1", "0:1-1", under(moderate))),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "Oracle's default", platform: Platform{OperatingSystem: "ORACLE_LINUX", Product: "OracleLinux9.4"},
			baseline: predefined(t, "AWS-OracleLinuxDefaultPatchBaseline"),
			inv: inventory("dnf", three, offer("a.x86_64:0:2-1", "0:1-1", under(notice("ELSA-2026-1", "security", "MODERATE", 8))),
				offer("b.x86_64:0:2-1", "0:1-1", under(notice("ELSA-2026-2", "security", "LOW", 8))),
				offer("c.x86_64:0:2-1", "0:1-1", under(notice("ELEA-2026-2", "enhancement", "", 8)))),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1", "MISSING c.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1", "c.x86_64:0:2-1"},
		},
		{
			name: "several installed kernels", platform: rocky, baseline: defaults,
			inv: inventory("dnf", []Installed{have("kernel.x86_64:0:5-1", listed(bugfix)), have("kernel.x86_64:0:5-2")},
				offer("kernel.x86_64:0:5-3", "0:5-2", under(important))),
			states:  []string{"INSTALLED kernel.x86_64:0:5-1", "MISSING kernel.x86_64:0:5-3"},
			install: []string{"kernel.x86_64:0:5-3"},
		},
		{
			name: "a package changes its architecture", platform: rocky, baseline: defaults,
			inv:     inventory("dnf", []Installed{have("a.noarch:0:1-1")}, offer("a.x86_64:0:2-1", "0:1-1", under(important))),
			states:  []string{"MISSING a.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "a package has two architectures now", platform: rocky, baseline: defaults,
			inv: inventory("dnf", []Installed{have("a.noarch:0:1-1")},
				offer("a.i686:0:2-1", "0:1-1", under(important), notChosen), offer("a.x86_64:0:2-1", "0:1-1", under(important))),
			states:  []string{"MISSING a.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
	} {
		t.Run(test.name, test.run)
	}
}

func TestEvaluateZypper(t *testing.T) {
	critical := notice("SUSE-SLE-Module-Basesystem-15-SP6-2026-123", "security", "critical", 10)
	recommended := notice("openSUSE-SLE-15.6-2026-200", "recommended", "moderate", 10)
	three := []Installed{have("a.x86_64:0:1-1"), have("b.x86_64:0:1-1"), have("c.x86_64:0:1-1")}
	offers := []Candidate{offer("a.x86_64:0:2-1", "0:1-1", under(critical)), offer("b.x86_64:0:2-1", "0:1-1", under(recommended)),
		offer("c.x86_64:0:2-1", "0:1-1")}
	for _, test := range []evaluateTest{
		{
			name: "default", baseline: predefined(t, "AWS-SuseDefaultPatchBaseline"), platform: leap, inv: inventory("zypper", three, offers...),
			states:  []string{"MISSING a.x86_64:0:2-1", "INSTALLED_OTHER b.x86_64:0:1-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "what a patch references, and only that", baseline: rules(rule(0, "CLASSIFICATION=*")), platform: leap,
			inv:     inventory("zypper", three, offers...),
			states:  []string{"MISSING a.x86_64:0:2-1", "MISSING b.x86_64:0:2-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			install: []string{"a.x86_64:0:2-1", "b.x86_64:0:2-1"},
			reasons: map[string]string{"c.x86_64:0:2-1": "no patch of a source lists this version"},
		},
		{
			name: "patch names and rpm names", platform: leap, inv: inventory("zypper", three, offers...),
			baseline: &Baseline{ApprovedPatches: []string{"SUSE-SLE-Module-*-2026-123", "b-2-1.x86_64.rpm", "c-2-1.x86_64"}},
			states:   []string{"MISSING a.x86_64:0:2-1", "MISSING b.x86_64:0:2-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			install:  []string{"a.x86_64:0:2-1", "b.x86_64:0:2-1"},
			reasons:  map[string]string{"c.x86_64:0:2-1": `in ApprovedPatches as "c-2-1.x86_64", but not for security`},
		},
		{
			name: "rejected by patch name and rpm name", platform: leap, inv: inventory("zypper", three, offers...),
			baseline: &Baseline{ApprovalRules: rules(rule(0, "CLASSIFICATION=*")).ApprovalRules, RejectedPatchesAction: "BLOCK",
				RejectedPatches: []string{"openSUSE-SLE-15.6-2026-200", "a-2-1.x86_64.rpm"}},
			states:  []string{"INSTALLED_OTHER a.x86_64:0:1-1", "INSTALLED_OTHER b.x86_64:0:1-1", "INSTALLED_OTHER c.x86_64:0:1-1"},
			blocked: []string{"a", "a-2-1.x86_64", "b", "openSUSE-SLE-15.6-2026-200"},
		},
	} {
		t.Run(test.name, test.run)
	}
}

// TestEvaluateRun: what a run adds to a scan.
func TestEvaluateRun(t *testing.T) {
	everything := rules(anyRule(rule(0, "PRODUCT=*")))
	install := types.PatchOperationTypeInstall
	two := []Installed{have("a.x86_64:0:1-1"), have("b.x86_64:0:1-1")}
	for _, test := range []evaluateTest{
		{
			name: "failed", baseline: everything, platform: stream,
			options: EvaluateOptions{Operation: install, Failed: map[string]string{"a.x86_64:0:2-1": "scriptlet failed", "gone.x86_64:0:1-1": "not found",
				"i.x86_64:0:3-1": "its %post failed"}},
			inv:     inventory("dnf", []Installed{two[0], two[1], have("i.x86_64:0:3-1")}, offer("a.x86_64:0:2-1", "0:1-1"), offer("b.x86_64:0:2-1", "0:1-1", held)),
			states:  []string{"FAILED a.x86_64:0:2-1", "MISSING b.x86_64:0:2-1", "FAILED gone.x86_64:0:1-1", "FAILED i.x86_64:0:3-1"},
			install: []string{"a.x86_64:0:2-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "; scriptlet failed", "gone.x86_64:0:1-1": "not found",
				"b.x86_64:0:2-1": "; held by versionlock"},
		},
		{
			name: "what Install leaves is failed, a scan's is missing", baseline: everything, platform: stream,
			options: EvaluateOptions{Operation: install},
			inv:     inventory("dnf", two[:1], offer("a.x86_64:0:2-1", "0:1-1")),
			states:  []string{"FAILED a.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1"},
			reasons: map[string]string{"a.x86_64:0:2-1": "; it is still not installed"},
		},
		{
			name: "pending reboot, also of what is not approved", baseline: rules(rule(0, "CLASSIFICATION=Security")), platform: stream,
			options: EvaluateOptions{PendingReboot: map[string]bool{"a.x86_64:0:1-1": true, "b.x86_64:0:9-9": true}},
			inv:     inventory("dnf", two),
			states:  []string{"INSTALLED_PENDING_REBOOT a.x86_64:0:1-1", "INSTALLED_OTHER b.x86_64:0:1-1"},
		},
		{
			name: "pending reboot and already a newer one", baseline: everything, platform: stream,
			options: EvaluateOptions{PendingReboot: map[string]bool{"a.x86_64:0:1-1": true}},
			inv:     inventory("dnf", two[:1], offer("a.x86_64:0:2-1", "0:1-1")),
			states:  []string{"INSTALLED_PENDING_REBOOT a.x86_64:0:1-1", "MISSING a.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "override installs exactly its list; the baseline judges", baseline: rules(rule(0, "PRIORITY=*")), platform: bookworm,
			options: EvaluateOptions{Operation: install, FirstSeen: map[string]time.Time{"sec.all:2": ago(1)},
				Override: &OverrideList{Patches: []OverridePatch{{ID: "tool*.all"}, {ID: "ver.*", Title: "*:1.5"}, {ID: "bare.all", Title: "2"},
					{ID: "h.all"}, {ID: "none.all"}, {ID: "done.all"}}}},
			inv: inventory("apt", []Installed{have("bare.all:1"), have("done.all:1"), have("h.all:1"), have("sec.all:1"), have("tool1.all:1"), have("tool2.amd64:1"), have("ver.amd64:1")},
				offer("bare.all:2", "1"), offer("h.all:2", "1", held), offer("sec.all:2", "1", by(secSuite)), offer("tool1.all:3", "1", excluded),
				offer("tool1.all:2", "1"), offer("tool2.amd64:2", "1"), offer("ver.amd64:2", "1"), offer("ver.amd64:1.5", "1", notChosen)),
			states: []string{"INSTALLED_OTHER bare.all:1", "INSTALLED_OTHER done.all:1", "INSTALLED_OTHER h.all:1", "FAILED h.all:2", "MISSING sec.all:2",
				"INSTALLED_OTHER tool1.all:1", "INSTALLED_OTHER tool2.amd64:1", "INSTALLED_OTHER ver.amd64:1"},
			install: []string{"bare.all:2", "tool1.all:2", "ver.amd64:1.5"},
			blocked: []string{"sec", "tool2"},
			reasons: map[string]string{"h.all:2": "named by the install override list; held by apt-mark"},
			gaps:    []string{`"none.all" of the install override list`},
		},
		{
			name: "a scan ignores an override list", baseline: everything, platform: stream,
			options: EvaluateOptions{Operation: types.PatchOperationTypeScan, Override: &OverrideList{Patches: []OverridePatch{{ID: "zzz.x86_64"}}}},
			inv:     inventory("dnf", two[:1], offer("a.x86_64:0:2-1", "0:1-1")),
			states:  []string{"MISSING a.x86_64:0:2-1"},
			install: []string{"a.x86_64:0:2-1"},
		},
		{
			name: "override takes what the baseline rejects", platform: stream,
			baseline: &Baseline{RejectedPatches: []string{"a"}, RejectedPatchesAction: "BLOCK"},
			options:  EvaluateOptions{Operation: install, Override: &OverrideList{Patches: []OverridePatch{{ID: "a.x86_64", Title: "a.x86_64:0:2-*"}}}},
			inv:      inventory("dnf", two[:1], offer("a.x86_64:0:2-1", "0:1-1")),
			states:   []string{"INSTALLED_REJECTED a.x86_64:0:1-1"},
			install:  []string{"a.x86_64:0:2-1"},
		},
		{
			name: "the baseline of another system", platform: stream, baseline: &Baseline{OperatingSystem: "DEBIAN"},
			inv:    inventory("dnf", nil),
			gaps:   []string{"the baseline is for DEBIAN, and the machine is CENTOS"},
			states: nil,
		},
	} {
		t.Run(test.name, test.run)
	}
}

// TestPatchMembers: what a patch tells besides its state.
func TestPatchMembers(t *testing.T) {
	sec := notice("RHSA-2026:1", "security", "important", 10)
	sec.CVEs = []string{"CVE-2026-2", "CVE-2026-1"}
	fix := notice("RHBA-2026:1", "bugfix", "", 10)
	fix.CVEs = []string{"CVE-2026-1"}
	inv := inventory("dnf", []Installed{have("a.x86_64:0:1-1", listed(sec)), have("b.x86_64:0:1-1", listed(sec)), have("o.x86_64:0:1-1", listed(notice("X", "security", "low", 1)))},
		offer("a.x86_64:0:2-1", "0:1-1", under(fix, sec)))
	inv.NotInstalled = 7
	b := rules(level(rule(0, "CLASSIFICATION=Security", "SEVERITY=Important"), "MEDIUM"), level(rule(0, "CLASSIFICATION=Bugfix"), "CRITICAL"),
		level(rule(0, "SEVERITY=Important"), "LOW"))
	e := Evaluate(b, rocky, inv, EvaluateOptions{Now: testNow})
	if e.NotApplicable != 7 || len(e.Offers) != 1 || !e.Offers[0].Security {
		t.Errorf("not applicable %d, offers %+v", e.NotApplicable, e.Offers)
	}
	if len(e.Patches) != 3 {
		t.Fatalf("patches: %q", states(e))
	}
	missing, installed, other := e.Patches[0], e.Patches[1], e.Patches[2]
	// Two rules approve it by one notice each: the graver level wins, and with it what
	// the patch is.
	if got := fmt.Sprintf("%s %s %s %v %v %s %v", missing.Classification, missing.Severity, missing.ComplianceLevel, missing.CVEIds, missing.Notices,
		missing.Replaces, missing.Security); got != "Bugfix None CRITICAL [CVE-2026-1 CVE-2026-2] [RHBA-2026:1 RHSA-2026:1] 0:1-1 true" {
		t.Errorf("missing: %s", got)
	}
	if got := fmt.Sprintf("%s %s %s %v %v", installed.Classification, installed.Severity, installed.ComplianceLevel, installed.CVEIds,
		installed.InstalledTime.Equal(ago(100))); got != "Security Important MEDIUM [] true" {
		t.Errorf("installed: %s", got)
	}
	if other.State != types.PatchComplianceDataStateInstalledOther || other.Classification != "" || other.Severity != "" || other.ComplianceLevel != "UNSPECIFIED" {
		t.Errorf("other: %+v", other)
	}
}

// TestBaselineSources: products of sources are named as in filters.
func TestBaselineSources(t *testing.T) {
	source := func(name string, products ...string) types.PatchSource {
		return types.PatchSource{Name: aws.String(name), Products: products}
	}
	b := &Baseline{Sources: []types.PatchSource{source("exact", "RockyLinux8.10", "RockyLinux9.4"), source("any", "*"),
		source("minor", "RockyLinux9.*"), source("other", "RockyLinux9"), source("other minor", "RockyLinux8.*")}}
	var names []string
	for _, s := range BaselineSources(b, rocky) {
		names = append(names, *s.Name)
	}
	if want := []string{"exact", "any", "minor"}; !slices.Equal(names, want) {
		t.Errorf("sources %q, want %q", names, want)
	}
}
