package patcher

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// EvaluateOptions is what besides baseline and inventory decides about states.
type EvaluateOptions struct {
	// Now is the time by which approval is judged.
	Now time.Time
	// FirstSeen is when the mesh first saw a version, by title: the base of delays of
	// custom baselines with apt. What it lacks is seen now for the first time.
	FirstSeen map[string]time.Time
	// PendingReboot are the titles that we installed since the machine booted.
	PendingReboot map[string]bool
	// Failed is why versions could not be installed in this run, by title.
	Failed map[string]string
	// Operation: of Install, what is approved and still not installed is FAILED, but
	// for what the machine's administrator holds or excludes.
	Operation types.PatchOperationType
	// Override, of Install, is the list of what is installed instead of what the
	// baseline approves. The baseline still judges the states.
	Override *OverrideList
}

// Evaluation is what a baseline makes of an inventory. All lists are sorted.
type Evaluation struct {
	// Patches has what is installed and what is missing. An installed version for
	// which there is a missing one is not in it, unless it is itself not compliant.
	Patches       []Patch
	Pending       []Pending
	Offers        []Offer
	NotApplicable int
	// Install is the newest approved version of each package that lacks it, or what
	// the override list names.
	Install []Package
	// Blocked are the packages that must not be installed or upgraded, not even as a
	// dependency: names, and of rpm families also the entries of RejectedPatches as
	// they stand, with their wildcard.
	Blocked []string
	// Gaps are sentences on what could not be known, so that a short list of missing
	// patches is not taken for a good one.
	Gaps []string
}

// Evaluate judges an inventory by a baseline. It is pure: the same values give the
// same result, in the same order.
func Evaluate(b *Baseline, p Platform, inv *Inventory, o EvaluateOptions) *Evaluation {
	if b == nil {
		b = &Baseline{}
	}
	if inv == nil {
		inv = &Inventory{}
	}
	e := &evaluator{
		judge:      newJudge(b, p, inv, o),
		inv:        inv,
		result:     &Evaluation{NotApplicable: inv.NotInstalled},
		replaced:   make(map[string]bool),
		unreported: make(map[string]string, len(o.Failed)),
	}
	for title, reason := range o.Failed {
		e.unreported[title] = reason
	}
	e.candidates()
	e.installed()
	e.failed()
	if o.Operation == types.PatchOperationTypeInstall && o.Override != nil {
		e.override(o.Override)
	} else {
		e.blocked()
	}
	e.result.Gaps = e.gaps(inv)
	return e.sorted()
}

// evaluator collects the result of one Evaluate.
type evaluator struct {
	*judge
	inv    *Inventory
	result *Evaluation
	// replaced are the titles of installed versions that a missing one stands for.
	replaced map[string]bool
	// unreported is of Failed what no patch of the result has told yet.
	unreported map[string]string
}

func ofCandidate(c *Candidate) *subject {
	return &subject{Package: c.Package, origins: c.Origins, notices: c.Notices, section: c.Section, priority: c.Priority, built: c.Built}
}

func ofInstalled(i *Installed) *subject {
	return &subject{Package: i.Package, origins: i.Origins, notices: i.Notices, section: i.Section, priority: i.Priority, built: i.Built, installed: true}
}

// upgrades are the candidates that are newer than what is installed, by the ID of
// that, the newest first. A version of another architecture, of which nothing is
// installed, takes the place of the installed one: only one of them can be had.
func (e *evaluator) upgrades() map[string][]*Candidate {
	installed := make(map[string]string)
	replaced := make(map[Package]string) // name and version to ID
	for _, i := range e.inv.Installed {
		at := Package{Name: i.Name, Version: i.Version}
		if id, ok := replaced[at]; !ok || i.ID() < id {
			replaced[at] = i.ID()
		}
		if v, ok := installed[i.ID()]; !ok || e.family.compareVersions(i.Version, v) > 0 {
			installed[i.ID()] = i.Version
		}
	}
	found := make(map[string][]*Candidate)
	for k := range e.inv.Candidates {
		c := &e.inv.Candidates[k]
		id := c.ID()
		have, ok := installed[id]
		if !ok {
			have = c.Replaces
			id = cmp.Or(replaced[Package{Name: c.Name, Version: have}], id)
		}
		if have != "" && e.family.compareVersions(c.Version, have) > 0 {
			found[id] = append(found[id], c)
		}
	}
	for _, list := range found {
		slices.SortStableFunc(list, func(a, b *Candidate) int {
			return cmp.Or(e.family.compareVersions(b.Version, a.Version), strings.Compare(a.Version, b.Version), chosenFirst(a, b))
		})
	}
	return found
}

// chosenFirst orders one version of two architectures: the package manager's choice is
// the first.
func chosenFirst(a, b *Candidate) int {
	switch {
	case a.Chosen == b.Chosen:
		return 0
	case a.Chosen:
		return -1
	}
	return 1
}

// candidates decides what is missing, what waits, and what is offered.
func (e *evaluator) candidates() {
	upgrades := e.upgrades()
	for _, id := range sortedKeys(upgrades) {
		e.candidatesOf(id, upgrades[id])
	}
	for i := range e.inv.Candidates {
		c := e.inv.Candidates[i]
		e.result.Offers = append(e.result.Offers, Offer{Candidate: c, Security: ofCandidate(&c).security(e.family)})
	}
}

// candidatesOf decides about the newer versions of an installed package, the newest first. The
// newest approved one that the machine's configuration allows is missing, and
// installed. Where it allows none, the newest approved one is missing; but what it
// excludes only waits if nobody needs it, as a backport is.
func (e *evaluator) candidatesOf(id string, list []*Candidate) {
	verdicts := make([]verdict, len(list))
	best, forbidden := -1, -1
	for i, c := range list {
		s := ofCandidate(c)
		v := e.decide(s)
		verdicts[i] = v
		switch {
		case !v.approved || best >= 0:
		case !c.Held && c.Excluded == "":
			best = i
		case forbidden < 0 && (c.Held || v.listed || s.selected(e.family)):
			forbidden = i
		}
	}
	missing := best
	if missing < 0 {
		missing = forbidden
	}
	seen := make(map[string]bool)
	for i, c := range list {
		if i == missing {
			e.missing(c, verdicts[i], i == best)
			e.replaced[id+":"+c.Replaces] = true
			break // older ones are superseded
		}
		if title := c.Title(); !seen[title] {
			seen[title] = true
			e.result.Pending = append(e.result.Pending, Pending{Title: title, Reason: verdicts[i].reason + holdReason(e.inv.Manager, c), From: verdicts[i].from})
		}
	}
}

func (e *evaluator) missing(c *Candidate, v verdict, allowed bool) {
	s := ofCandidate(c)
	patch := e.patch(s, v)
	patch.Replaces, patch.Held = c.Replaces, !allowed
	patch.State = types.PatchComplianceDataStateMissing
	patch.Reason += holdReason(e.inv.Manager, c)
	if reason, ok := e.o.Failed[patch.Title]; ok {
		delete(e.unreported, patch.Title)
		patch.State = types.PatchComplianceDataStateFailed
		patch.Reason += "; " + reason
	} else if allowed && e.o.Operation == types.PatchOperationTypeInstall && e.o.Override == nil {
		patch.State = types.PatchComplianceDataStateFailed
		patch.Reason += "; it is still not installed"
	}
	patch.CVEIds = cves(s.notices)
	e.result.Patches = append(e.result.Patches, patch)
	if allowed {
		e.result.Install = append(e.result.Install, c.Package)
	}
}

// holdReason is what the machine's configuration has against a version, as the end
// of a sentence.
func holdReason(manager string, c *Candidate) string {
	switch {
	case c.Held && manager == "apt":
		return "; held by apt-mark, so it is not installed"
	case c.Held && manager == "zypper":
		return "; locked by zypper, so it is not installed"
	case c.Held:
		return "; held by versionlock, so it is not installed"
	case c.Excluded != "":
		return "; " + strings.TrimSuffix(c.Excluded, ".") + ", so it is not installed"
	}
	return ""
}

// installed decides the states of the installed packages.
func (e *evaluator) installed() {
	for k := range e.inv.Installed {
		i := &e.inv.Installed[k]
		s := ofInstalled(i)
		v := e.approve(s)
		patch := e.patch(s, v)
		patch.InstalledTime = i.InstalledAt
		rejected, isRejected := e.reject(s)
		failure, failed := e.o.Failed[patch.Title]
		switch {
		case failed:
			delete(e.unreported, patch.Title)
			patch.State, patch.Reason = types.PatchComplianceDataStateFailed, failure
			patch.CVEIds = cves(s.notices)
		case i.Broken != "":
			patch.State = types.PatchComplianceDataStateFailed
			patch.Reason = "installed, but not wholly: " + i.Broken
			patch.CVEIds = cves(s.notices)
		case isRejected && e.b.RejectedPatchesAction == types.PatchActionBlock:
			patch.State = types.PatchComplianceDataStateInstalledRejected
			patch.Reason = fmt.Sprintf("installed, and rejected by %q with BLOCK", rejected)
		case e.o.PendingReboot[patch.Title]:
			patch.State = types.PatchComplianceDataStateInstalledPendingReboot
			patch.Reason = "installed by a patch run, and the machine has not been rebooted since"
		case isRejected:
			patch.State = types.PatchComplianceDataStateInstalledOther
			patch.Reason = fmt.Sprintf("installed, and rejected by %q, which allows it as a dependency", rejected)
		case v.approved:
			patch.State = types.PatchComplianceDataStateInstalled
			patch.Reason = "installed; " + v.reason
		default:
			patch.State = types.PatchComplianceDataStateInstalledOther
			patch.Reason = "installed; " + v.reason
		}
		if patch.State == types.PatchComplianceDataStateInstalledOther {
			patch.Classification, patch.Severity, patch.ComplianceLevel = "", "", types.PatchComplianceLevelUnspecified
		}
		if e.replaced[patch.Title] && CompliantState(patch.State) {
			continue
		}
		e.result.Patches = append(e.result.Patches, patch)
	}
}

// failed adds what failed and is neither offered as missing nor installed.
func (e *evaluator) failed() {
	for _, title := range sortedKeys(e.unreported) {
		patch := Patch{
			Title:           title,
			KBId:            kbOfTitle(title),
			State:           types.PatchComplianceDataStateFailed,
			ComplianceLevel: types.PatchComplianceLevelUnspecified,
			Reason:          e.unreported[title],
		}
		for i := range e.inv.Candidates {
			if c := &e.inv.Candidates[i]; c.Title() == title {
				s := ofCandidate(c)
				patch = e.patch(s, e.decide(s))
				patch.State, patch.Reason, patch.Replaces = types.PatchComplianceDataStateFailed, e.unreported[title], c.Replaces
				patch.CVEIds = cves(s.notices)
			}
		}
		e.result.Patches = append(e.result.Patches, patch)
	}
}

// kbOfTitle is a title without the version; neither name nor architecture has a colon.
func kbOfTitle(title string) string {
	kb, _, _ := strings.Cut(title, ":")
	return kb
}

// blocked collects what RejectedPatches with BLOCK forbids.
func (e *evaluator) blocked() {
	if e.b.RejectedPatchesAction != types.PatchActionBlock {
		return
	}
	wanted := make(map[string]bool)
	for _, p := range e.result.Install {
		wanted[p.Name] = true
	}
	block := func(name string) {
		// Another version of it is approved: its own entry blocks the rejected one.
		if !wanted[name] {
			e.result.Blocked = append(e.result.Blocked, name)
		}
	}
	for _, entry := range e.rejected {
		switch {
		case entry.kind == nameEntry:
			block(entry.text)
		case entry.kind != noEntry && e.family == yumFamily:
			e.result.Blocked = append(e.result.Blocked, entry.text)
		case entry.kind != noEntry && e.family == zypperFamily:
			e.result.Blocked = append(e.result.Blocked, strings.TrimSuffix(entry.text, ".rpm"))
		}
	}
	for i := range e.inv.Candidates {
		s := ofCandidate(&e.inv.Candidates[i])
		if _, rejected := e.reject(s); rejected {
			block(s.Name)
		}
	}
}

// patch describes a subject, but for its state.
func (e *evaluator) patch(s *subject, v verdict) Patch {
	p := Patch{
		Title:           s.Title(),
		KBId:            s.ID(),
		Security:        s.security(e.family),
		ComplianceLevel: v.level,
		Reason:          v.reason,
	}
	if p.ComplianceLevel == "" {
		p.ComplianceLevel = types.PatchComplianceLevelUnspecified
	}
	if e.family == aptFamily {
		p.Classification = aptClassification(s)
	} else {
		n := v.notice
		if n == nil {
			n = e.leading(s)
		}
		p.Classification, p.Severity = classification(n), severity(e.p.OperatingSystem, n)
	}
	for _, n := range s.notices {
		p.Notices = append(p.Notices, n.ID)
	}
	slices.Sort(p.Notices)
	p.Notices = slices.Compact(p.Notices)
	return p
}

func cves(notices []Notice) []string {
	var ids []string
	for _, n := range notices {
		ids = append(ids, n.CVEs...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (e *evaluator) sorted() *Evaluation {
	r := e.result
	slices.SortStableFunc(r.Patches, func(a, b Patch) int {
		return cmp.Or(strings.Compare(a.Title, b.Title), strings.Compare(string(a.State), string(b.State)))
	})
	slices.SortStableFunc(r.Pending, func(a, b Pending) int { return strings.Compare(a.Title, b.Title) })
	slices.SortStableFunc(r.Offers, func(a, b Offer) int { return strings.Compare(a.Title(), b.Title()) })
	slices.SortFunc(r.Install, func(a, b Package) int { return strings.Compare(a.Title(), b.Title()) })
	slices.Sort(r.Blocked)
	r.Blocked = slices.Compact(r.Blocked)
	return r
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
