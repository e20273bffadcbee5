package patcher

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

const day = 24 * time.Hour

// judge decides about one version of a package at a time.
type judge struct {
	b                  *Baseline
	p                  Platform
	family             family
	o                  EvaluateOptions
	predefined         bool
	rules              []types.PatchRule
	approved, rejected []listEntry
	// mute is why rules approve nothing at all on this machine, "" where they do.
	mute string
}

func newJudge(b *Baseline, p Platform, inv *Inventory, o EvaluateOptions) *judge {
	j := &judge{b: b, p: p, family: familyOf(p.OperatingSystem, inv.Manager), o: o}
	_, j.predefined = PredefinedByID(b.BaselineId)
	if b.ApprovalRules != nil {
		j.rules = b.ApprovalRules.PatchRules
	}
	for _, text := range b.ApprovedPatches {
		j.approved = append(j.approved, parseEntry(j.family, false, text))
	}
	for _, text := range b.RejectedPatches {
		j.rejected = append(j.rejected, parseEntry(j.family, true, text))
	}
	os := types.OperatingSystem(p.OperatingSystem)
	if !inv.SecurityKnown && (os == types.OperatingSystemRedhatEnterpriseLinux || os == types.OperatingSystemRockyLinux) {
		j.mute = "no source of the machine has advisories (updateinfo), and without them rules approve nothing here"
	}
	return j
}

// verdict is what a baseline says of a version.
type verdict struct {
	approved bool
	level    types.PatchComplianceLevel
	reason   string
	notice   *Notice   // that decided, if one did
	listed   bool      // ApprovedPatches names it
	from     time.Time // when a delay ends
}

// decide is approve without what is rejected.
func (j *judge) decide(s *subject) verdict {
	v := j.approve(s)
	if entry, rejected := j.reject(s); rejected {
		return verdict{reason: fmt.Sprintf("rejected by %q", entry), notice: v.notice, level: v.level}
	}
	return v
}

// reject returns the entry of RejectedPatches that names the subject.
func (j *judge) reject(s *subject) (string, bool) {
	for _, e := range j.rejected {
		if _, ok := e.names(j.family, true, s); ok {
			return e.text, true
		}
	}
	return "", false
}

// approve asks the list and all rules, and takes the highest level of those that
// approve. RejectedPatches are not considered.
func (j *judge) approve(s *subject) verdict {
	best := j.listed(s)
	others := make([]verdict, 0, len(j.rules)+1)
	if best.reason != "" && !best.approved {
		others = append(others, best)
	}
	for _, v := range j.byRules(s) {
		switch {
		case !v.approved:
			others = append(others, v)
		case !best.approved || levelRank(v.level) > levelRank(best.level):
			v.listed = best.listed
			best = v
		}
	}
	if best.approved {
		return best
	}
	return unapproved(others)
}

// unapproved joins why nothing approves. It waits for the rule whose delay ends
// first.
func unapproved(why []verdict) verdict {
	var result verdict
	var reasons []string
	for _, v := range why {
		if !v.from.IsZero() && (result.from.IsZero() || v.from.Before(result.from)) {
			result = v
		}
		if !slices.Contains(reasons, v.reason) {
			reasons = append(reasons, v.reason)
		}
	}
	if !result.from.IsZero() {
		return result
	}
	result.reason = strings.Join(reasons, "; ")
	if result.reason == "" {
		result.reason = "the baseline has no rule and no entry that approves it"
	}
	return result
}

// listed asks ApprovedPatches. Filters and delays do not bind what is in it.
func (j *judge) listed(s *subject) verdict {
	for _, e := range j.approved {
		n, ok := e.names(j.family, false, s)
		if !ok {
			continue
		}
		if !j.b.ApprovedPatchesEnableNonSecurity && !s.selected(j.family) {
			return verdict{reason: fmt.Sprintf("in ApprovedPatches as %q, but %s", e.text, unselected(j.family))}
		}
		return verdict{
			approved: true,
			level:    cmp.Or(j.b.ApprovedPatchesComplianceLevel, types.PatchComplianceLevelUnspecified),
			reason:   fmt.Sprintf("approved by %q in ApprovedPatches", e.text),
			notice:   n,
			listed:   true,
		}
	}
	return verdict{}
}

// byRules asks each rule.
func (j *judge) byRules(s *subject) []verdict {
	if len(j.rules) == 0 {
		return nil
	}
	if j.mute != "" {
		return []verdict{{reason: j.mute}}
	}
	views := s.views(j.p, j.family)
	if j.b.GlobalFilters != nil {
		filters := j.b.GlobalFilters.PatchFilters
		kept := slices.DeleteFunc(slices.Clone(views), func(v filterView) bool { return v.mismatch(filters) != nil })
		if len(kept) == 0 {
			return []verdict{{reason: "the global filter " + views[0].describeMismatch(views[0].mismatch(filters))}}
		}
		views = kept
	}
	result := make([]verdict, len(j.rules))
	for i := range j.rules {
		result[i] = j.byRule(i, s, views)
	}
	return result
}

// byRule is the best that a rule says of the subject under any of its notices.
func (j *judge) byRule(i int, s *subject, views []filterView) verdict {
	rule := &j.rules[i]
	var filters []types.PatchFilter
	if rule.PatchFilterGroup != nil {
		filters = rule.PatchFilterGroup.PatchFilters
	}
	name := fmt.Sprintf("rule %d (%s)", i+1, describeFilters(filters))
	var best verdict
	for _, view := range views {
		var v verdict
		if f := view.mismatch(filters); f != nil {
			v = verdict{reason: fmt.Sprintf("rule %d %s", i+1, view.describeMismatch(f))}
		} else if !(rule.EnableNonSecurity != nil && *rule.EnableNonSecurity) && !s.selected(j.family) {
			v = verdict{reason: unselected(j.family)}
		} else {
			v = j.delayed(rule, name, s, view.notice)
			v.level = cmp.Or(rule.ComplianceLevel, types.PatchComplianceLevelUnspecified)
			v.notice = view.notice
		}
		if v.approved {
			return v
		}
		if best.reason == "" || !v.from.IsZero() && (best.from.IsZero() || v.from.Before(best.from)) {
			best = v
		}
	}
	return best
}

// delayed decides when a version that a rule's filters match is approved.
func (j *judge) delayed(rule *types.PatchRule, name string, s *subject, n *Notice) verdict {
	since, what := j.released(s, n)
	approved := verdict{approved: true, reason: "approved by " + name}
	if n != nil {
		approved.reason += ": " + n.ID
	}
	if j.family == aptFamily && j.predefined {
		return approved
	}
	if rule.ApproveUntilDate != nil && *rule.ApproveUntilDate != "" {
		last, err := time.Parse(time.DateOnly, *rule.ApproveUntilDate)
		if err != nil {
			return verdict{reason: name + " has a date that is none: " + *rule.ApproveUntilDate}
		}
		if since.IsZero() {
			approved.reason += ", whose date is not known"
			return approved
		}
		if !since.Before(last.Add(day)) {
			return verdict{reason: fmt.Sprintf("%s approves until %s only, and it was %s on %s", name, *rule.ApproveUntilDate, what, date(since))}
		}
		approved.reason += fmt.Sprintf(", %s on %s, not after %s", what, date(since), *rule.ApproveUntilDate)
		return approved
	}
	days := 0
	if rule.ApproveAfterDays != nil {
		days = int(*rule.ApproveAfterDays)
	}
	if since.IsZero() {
		if days > 0 {
			approved.reason += ", at once because no date of it is known"
		}
		return approved
	}
	from := since.Add(time.Duration(days) * day)
	wait := fmt.Sprintf("%d days after it was %s on %s", days, what, date(since))
	if days == 1 {
		wait = strings.Replace(wait, "days", "day", 1)
	}
	if from.After(j.o.Now) {
		return verdict{from: from, reason: fmt.Sprintf("%s approves it on %s, %s", name, date(from), wait)}
	}
	if days > 0 {
		approved.reason += ", " + wait
	}
	return approved
}

// released is the date from which delays count, zero where there is none, and what
// happened then. A notice that is published anew starts them anew, as with SSM.
func (j *judge) released(s *subject, n *Notice) (time.Time, string) {
	if j.family == aptFamily {
		// Archives of apt give no dates.
		if t, ok := j.o.FirstSeen[s.Title()]; ok {
			return t, "first seen"
		}
		if s.installed {
			return time.Time{}, ""
		}
		return j.o.Now, "first seen"
	}
	switch {
	case n != nil && !n.Updated.IsZero():
		return n.Updated, "published"
	case n != nil && !n.Issued.IsZero():
		return n.Issued, "published"
	}
	return s.built, "built"
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// leading is the notice that describes a subject which no rule approved by one: the
// most severe for security, else the first.
func (j *judge) leading(s *subject) *Notice {
	var best *Notice
	rank := func(n *Notice) int {
		r := severityRank(n.Severity)
		if strings.EqualFold(n.Type, "security") {
			r += 10
		}
		return r
	}
	for i := range s.notices {
		if best == nil || rank(&s.notices[i]) > rank(best) {
			best = &s.notices[i]
		}
	}
	return best
}

func severityRank(s string) int {
	switch strings.ToLower(s) {
	case "critical":
		return 4
	case "important":
		return 3
	case "moderate", "medium":
		return 2
	case "low":
		return 1
	}
	return 0
}

// levelRank orders compliance levels, the gravest highest.
func levelRank(l types.PatchComplianceLevel) int {
	order := []types.PatchComplianceLevel{
		types.PatchComplianceLevelUnspecified,
		types.PatchComplianceLevelInformational,
		types.PatchComplianceLevelLow,
		types.PatchComplianceLevelMedium,
		types.PatchComplianceLevelHigh,
		types.PatchComplianceLevelCritical,
	}
	return slices.Index(order, l)
}

// gaps tells what keeps the result from being whole.
func (j *judge) gaps(inv *Inventory) []string {
	var gaps []string
	if os := j.b.OperatingSystem; os != "" && OperatingSystem(os) != j.p.OperatingSystem {
		gaps = append(gaps, fmt.Sprintf("the baseline is for %s, and the machine is %s", os, cmp.Or(j.p.OperatingSystem, "none that has a name")))
	}
	for _, s := range inv.Sources {
		if s.Problem != "" {
			gaps = append(gaps, fmt.Sprintf("the source %s could not be refreshed: %s", s.Name, s.Problem))
		}
	}
	if len(inv.Sources) == 0 {
		gaps = append(gaps, "the machine has no source of packages")
	}
	if j.mute != "" {
		gaps = append(gaps, j.mute)
	} else if !inv.SecurityKnown && j.wantsSecurity() {
		gaps = append(gaps, "no source of the machine tells which updates are for security, so nothing is approved as such")
	}
	for _, e := range j.approved {
		if e.kind == noEntry {
			gaps = append(gaps, fmt.Sprintf("the entry %q of ApprovedPatches is in no format of this system, and names nothing", e.text))
		}
	}
	for _, e := range j.rejected {
		if e.kind == noEntry {
			gaps = append(gaps, fmt.Sprintf("the entry %q of RejectedPatches is in no format of this system, and names nothing", e.text))
		}
	}
	if o := j.o.Override; o != nil && j.o.Operation == types.PatchOperationTypeInstall {
		for _, id := range o.unmatched(inv) {
			gaps = append(gaps, fmt.Sprintf("the entry %q of the install override list names no version that is offered or installed", id))
		}
	}
	return gaps
}

// wantsSecurity: something of the baseline approves only what is for security.
func (j *judge) wantsSecurity() bool {
	return len(j.approved) > 0 && !j.b.ApprovedPatchesEnableNonSecurity ||
		slices.ContainsFunc(j.rules, func(r types.PatchRule) bool { return r.EnableNonSecurity == nil || !*r.EnableNonSecurity })
}
