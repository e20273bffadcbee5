package leader

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// Limits of what a report of patches may put into records. A node keeps to them; one
// that does not is cut.
const (
	maxPatches    = 20_000
	maxOffers     = 5_000
	maxPatchText  = 1_000 // characters
	maxPatchTexts = 200   // of CVEs and advisories of one patch, of sources and signs
)

// patchRecords are the records that a report of AWS-RunPatchBaseline makes: the
// node's state and its list for raftstore.PutPatchReport, and the offers for
// raftstore.PutPatchOffers.
func patchRecords(report patcher.Report, node raftstore.Node, commandID string, now time.Time) (raftstore.PatchState, raftstore.PatchList, []raftstore.PatchOffer) {
	state := raftstore.PatchState{
		NodeID: node.ID, OperatingSystem: string(operatingSystem(report.Platform, node)), Product: product(report.Platform.Product),
		Manager: first(report.Manager, maxName), PatchGroup: first(report.PatchGroup, maxName), BaselineID: first(report.BaselineId, maxName),
		SnapshotID: first(report.SnapshotId, maxName), OverrideName: first(report.OverrideName, maxName),
		Operation: operation(report.Operation), RebootOption: rebootOption(report.RebootOption), CommandID: commandID,
		StartedAt: notAfter(report.StartedAt, now), EndedAt: notAfter(report.EndedAt, now), NoRebootInstallAt: notAfter(report.NoRebootInstallAt, now),
		PendingReboot: report.Reboot.Needed,
	}
	if state.EndedAt.IsZero() {
		state.EndedAt = now
	}
	if report.Problem != "" {
		state.Problem, state.ProblemAt = first(report.Problem, maxReason), state.EndedAt
	}
	if report.Problem != "" && len(report.Patches) == 0 {
		// Nothing is known of the machine: what is stored stays, and grows old.
		state.EndedAt = time.Time{}
		return state, raftstore.PatchList{}, nil
	}
	counts := patcher.Count(report.Patches, report.NotApplicable)
	counts.Installed += max(report.Omitted.Installed, 0)
	counts.InstalledOther += max(report.Omitted.InstalledOther, 0)
	state.Omitted = max(report.Omitted.Installed, 0) + max(report.Omitted.InstalledOther, 0)
	state.Compliant.Unspecified += state.Omitted
	state.Counts = raftstore.PatchCounts{
		Installed: counts.Installed, InstalledOther: counts.InstalledOther, InstalledPendingReboot: counts.InstalledPendingReboot,
		InstalledRejected: counts.InstalledRejected, Missing: counts.Missing, Failed: counts.Failed, NotApplicable: counts.NotApplicable,
		CriticalNonCompliant: counts.CriticalNonCompliant, SecurityNonCompliant: counts.SecurityNonCompliant, OtherNonCompliant: counts.OtherNonCompliant,
	}
	state.OverallSeverity = string(patcher.OverallSeverity(report.Patches))
	var list raftstore.PatchList
	for i := range report.Patches {
		p := &report.Patches[i]
		level := complianceLevel(p.ComplianceLevel)
		if patcher.CompliantState(p.State) {
			countLevel(&state.Compliant, level)
		} else {
			countLevel(&state.NonCompliant, level)
		}
		if i >= maxPatches {
			continue // counted; no machine has so many packages
		}
		list.Patches = append(list.Patches, raftstore.PatchEntry{
			Title: first(p.Title, maxName), KBID: first(p.KBId, maxName), Classification: first(p.Classification, maxName),
			Severity: first(p.Severity, maxName), State: first(string(p.State), maxName), InstalledAt: notAfter(p.InstalledTime, now),
			CVEs: texts(p.CVEIds), ComplianceLevel: string(level), Security: p.Security, Replaces: first(p.Replaces, maxPatchText), Held: p.Held,
			Notices: texts(p.Notices), Reason: first(p.Reason, maxPatchText),
		})
	}
	for _, p := range report.Pending[:min(len(report.Pending), maxOffers)] {
		list.Pending = append(list.Pending, raftstore.PendingPatch{Title: first(p.Title, maxName), Reason: first(p.Reason, maxPatchText), From: sane(p.From, now)})
	}
	state.Incomplete = len(report.Sources) == 0
	for _, s := range report.Sources[:min(len(report.Sources), maxPatchTexts)] {
		source := raftstore.PatchSource{
			Name: first(s.Name, maxPatchText), UpdatedAt: notAfter(s.Updated, now), FetchedAt: notAfter(s.Fetched, now), Problem: first(s.Problem, maxPatchText),
		}
		list.Sources = append(list.Sources, source)
		state.Incomplete = state.Incomplete || source.Problem != "" && source.FetchedAt.IsZero()
		if at := source.FetchedAt; !at.IsZero() && (state.MetadataAt.IsZero() || at.Before(state.MetadataAt)) {
			state.MetadataAt = at
		}
	}
	for _, i := range report.Interruptions[:min(len(report.Interruptions), maxPatchTexts)] {
		list.Interruptions = append(list.Interruptions, first(interruption(i), maxPatchText))
	}
	list.Evidence, list.Services, list.Repaired = texts(report.Reboot.Evidence), texts(report.Reboot.Services), texts(report.Repaired)
	list.Gaps, list.Notes = texts(report.Gaps), texts(report.Notes)
	state.Gaps = len(list.Gaps)
	return state, list, patchOffers(report, state)
}

// interruption is what a transaction left, with the package that it is about.
func interruption(i patcher.Interruption) string {
	if strings.HasPrefix(i.What, i.Package) {
		return i.What
	}
	return join(i.Package, i.What)
}

// patchOffers are the entries of the catalogue.
func patchOffers(report patcher.Report, state raftstore.PatchState) []raftstore.PatchOffer {
	if state.OperatingSystem == "" {
		return nil
	}
	// Debian testing and its like are no product of SSM's.
	product := cmp.Or(state.Product, state.OperatingSystem)
	var offers []raftstore.PatchOffer
	for _, offer := range report.Offers[:min(len(report.Offers), maxOffers)] {
		detail := len(offer.Notices)
		if offer.Security {
			detail++
		}
		title := offer.Title()
		// What is this node's own is no part of the catalogue.
		offer.Replaces, offer.Chosen, offer.Held, offer.Excluded = "", false, false, ""
		for i := range offer.Notices {
			n := &offer.Notices[i]
			n.Title, n.CVEs, n.Bugzillas = first(n.Title, maxPatchText), texts(n.CVEs), texts(n.Bugzillas)
		}
		content, err := json.Marshal(offer)
		if err != nil {
			continue // a date that no calendar has: no publisher gives it
		}
		offers = append(offers, raftstore.PatchOffer{
			OperatingSystem: state.OperatingSystem, Product: product, Title: title, Offer: content, Detail: detail,
		})
	}
	return offers
}

// productForm keeps what nodes call their product out of the keys of the store, when
// it is none.
var productForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func product(name string) string {
	if !productForm.MatchString(name) {
		return ""
	}
	return name
}

// operatingSystem is what the node said in its report, else what is known of it.
func operatingSystem(p patcher.Platform, node raftstore.Node) patcher.OperatingSystem {
	if os := types.OperatingSystem(p.OperatingSystem); slices.Contains(os.Values(), os) {
		return p.OperatingSystem
	}
	return patcher.OperatingSystemOf(node.PlatformName, node.PlatformVersion)
}

func operation(o types.PatchOperationType) string {
	if o == types.PatchOperationTypeInstall {
		return string(o)
	}
	return string(types.PatchOperationTypeScan)
}

func rebootOption(o types.RebootOption) string {
	if slices.Contains(o.Values(), o) {
		return string(o)
	}
	return ""
}

func complianceLevel(l types.PatchComplianceLevel) types.PatchComplianceLevel {
	if slices.Contains(l.Values(), l) {
		return l
	}
	return types.PatchComplianceLevelUnspecified
}

func countLevel(c *raftstore.SeverityCounts, level types.PatchComplianceLevel) {
	switch level {
	case types.PatchComplianceLevelCritical:
		c.Critical++
	case types.PatchComplianceLevelHigh:
		c.High++
	case types.PatchComplianceLevelMedium:
		c.Medium++
	case types.PatchComplianceLevelLow:
		c.Low++
	case types.PatchComplianceLevelInformational:
		c.Informational++
	default:
		c.Unspecified++
	}
}

// notAfter is a time that is over, as the mesh sees it: a clock that is ahead does not
// make what it reports look younger.
func notAfter(t, now time.Time) time.Time {
	if t = sane(t, now); t.After(now) {
		return now
	}
	return t
}

// texts bounds a list of texts.
func texts(list []string) []string {
	list = slices.Clone(list[:min(len(list), maxPatchTexts)])
	for i := range list {
		list[i] = first(list[i], maxPatchText)
	}
	return list
}
