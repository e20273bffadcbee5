package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// reportPatches brings a node's report into the store, as the leader does.
func (b *bed) reportPatches(state raftstore.PatchState, list raftstore.PatchList) {
	b.t.Helper()
	var txn raftstore.Txn
	b.read(func(r raftstore.Reader) error {
		_, err := raftstore.PutPatchReport(r, &txn, state, list)
		return err
	})
	if len(txn.Ops) > 0 {
		b.apply(txn)
	}
}

// patchesOf is a state with its list: so many of each.
func patchesOf(id string, at time.Time, installed, missing, critical, failed, pending int) (raftstore.PatchState, raftstore.PatchList) {
	state := raftstore.PatchState{NodeID: id, StartedAt: at.Add(-time.Minute), EndedAt: at, Operation: "Scan", BaselineID: debianDefault, OperatingSystem: "DEBIAN", Product: "Debian12", MetadataAt: at}
	state.Counts = raftstore.PatchCounts{Installed: installed, Missing: missing, Failed: failed, InstalledPendingReboot: pending, CriticalNonCompliant: critical,
		SecurityNonCompliant: missing, OtherNonCompliant: failed + pending}
	state.Compliant.Unspecified = installed
	state.NonCompliant = raftstore.SeverityCounts{Critical: critical, High: missing - critical, Low: failed + pending}
	state.OverallSeverity = "UNSPECIFIED"
	switch {
	case critical > 0:
		state.OverallSeverity = "CRITICAL"
	case missing > 0:
		state.OverallSeverity = "HIGH"
	case failed+pending > 0:
		state.OverallSeverity = "LOW"
	}
	var list raftstore.PatchList
	add := func(n int, what, level string) {
		for i := range n {
			list.Patches = append(list.Patches, raftstore.PatchEntry{Title: fmt.Sprintf("%s-%s%d.all:1", what, level, i), KBID: fmt.Sprintf("%s-%s%d.all", what, level, i), State: what, ComplianceLevel: level})
		}
	}
	add(installed, "INSTALLED", "UNSPECIFIED")
	add(critical, "MISSING", "CRITICAL")
	add(missing-critical, "MISSING", "HIGH")
	add(failed, "FAILED", "LOW")
	add(pending, "INSTALLED_PENDING_REBOOT", "LOW")
	return state, list
}

// A fleet of 200 nodes in different states: what each operation says adds up, also
// with nodes that vanish, report late, twice, or never.
func TestAFleetAddsUp(t *testing.T) {
	b := newBed(t)
	now := b.clock.now().UTC()
	random := rand.New(rand.NewPCG(7, 7))
	type want struct {
		nodes, compliant, nonCompliant, stale, unknown, missing, failed, pending, critical int
	}
	fleet := want{nodes: 2, unknown: 2} // the bed's own two were never scanned
	groups := map[string]*want{"web": {}, "db": {}}
	severity := map[string]int{}
	var vanished []string
	for n := 10; n < 210; n++ {
		group := []string{"web", "db"}[n%2]
		b.addNodes(testNode(n, map[string]string{[]string{"PatchGroup", "Patch Group"}[n/2%2]: group}))
		id, g := nodeID(n), groups[group]
		count := func(add func(*want)) { add(&fleet); add(g) }
		if n%20 == 3 {
			vanished = append(vanished, id)
		} else {
			count(func(w *want) { w.nodes++ })
		}
		at := now.Add(-time.Duration(random.IntN(100)) * time.Hour)
		missing, failed, pending := 0, 0, 0
		switch n % 5 {
		case 1:
			missing = 1 + random.IntN(5)
		case 2:
			failed = 1
		case 3:
			pending = 2
		}
		critical := min(missing, random.IntN(2))
		old := n%10 == 0
		if old {
			at = now.Add(-10 * 24 * time.Hour)
		}
		never := n%20 == 11
		state, list := patchesOf(id, at, 3, missing, critical, failed, pending)
		if !never {
			if n%7 == 0 { // an older report, with other figures
				b.reportPatches(patchesOf(id, at.Add(-time.Hour), 1, 9, 9, 9, 9))
			}
			b.reportPatches(state, list)
			if n%3 == 0 { // twice, and an older one late
				b.reportPatches(state, list)
				b.reportPatches(patchesOf(id, at.Add(-time.Minute), 5, 0, 0, 0, 0))
			}
		}
		if n%20 == 3 {
			continue
		}
		switch {
		case never:
			count(func(w *want) { w.unknown++ })
			continue
		case old:
			count(func(w *want) { w.stale++ })
		case missing+failed+pending > 0:
			count(func(w *want) { w.nonCompliant++ })
			severity[state.OverallSeverity]++
		default:
			count(func(w *want) { w.compliant++ })
		}
		one := func(field *int, n int) {
			if n > 0 {
				*field++
			}
		}
		count(func(w *want) {
			one(&w.missing, missing)
			one(&w.failed, failed)
			one(&w.pending, pending)
			one(&w.critical, critical)
		})
	}
	c, mesh := b.ssm(b.memberURL), b.mesh(b.memberURL)
	for _, id := range vanished {
		if _, err := c.DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &id}); err != nil {
			t.Fatal(err)
		}
	}

	status, err := mesh.DescribePatchStatus(t.Context(), &meshapi.DescribePatchStatusInput{})
	if err != nil {
		t.Fatal(err)
	}
	var got want
	for _, n := range status.Nodes {
		got.nodes++
		switch n.Status {
		case "COMPLIANT":
			got.compliant++
		case "NON_COMPLIANT":
			got.nonCompliant++
		case "STALE":
			got.stale++
		case "UNKNOWN":
			got.unknown++
		}
		if n.Counts.Missing > 0 {
			got.missing++
		}
		if n.Counts.Failed > 0 {
			got.failed++
		}
		if n.Counts.InstalledPendingReboot > 0 {
			got.pending++
		}
		if n.Counts.CriticalNonCompliant > 0 {
			got.critical++
		}
	}
	if got != fleet {
		t.Errorf("the status says %+v\nand it is          %+v", got, fleet)
	}

	states := 0
	for name, w := range groups {
		state, err := c.DescribePatchGroupState(t.Context(), &ssm.DescribePatchGroupStateInput{PatchGroup: &name})
		if err != nil {
			t.Fatal(err)
		}
		if int(state.Instances) != w.nodes || int(state.InstancesWithMissingPatches) != w.missing || int(state.InstancesWithFailedPatches) != w.failed ||
			int(*state.InstancesWithInstalledPendingRebootPatches) != w.pending || int(*state.InstancesWithCriticalNonCompliantPatches) != w.critical ||
			int(state.InstancesWithInstalledPatches) != w.nodes-w.unknown {
			t.Errorf("group %s: %+v, want %+v", name, state, w)
		}
		in := ssm.DescribeInstancePatchStatesForPatchGroupInput{PatchGroup: &name, MaxResults: aws.Int32(10)}
		for missing, filter := range []types.InstancePatchStateOperatorType{"", types.InstancePatchStateOperatorTypeGreaterThan} {
			if missing > 0 {
				in.Filters = []types.InstancePatchStateFilter{{Key: aws.String("MissingCount"), Values: []string{"0"}, Type: filter}}
			}
			found := 0
			pages := ssm.NewDescribeInstancePatchStatesForPatchGroupPaginator(c, &in)
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				found += len(page.InstancePatchStates)
			}
			if wanted := []int{w.nodes - w.unknown, w.missing}[missing]; found != wanted {
				t.Errorf("group %s with filter %q has %d states, want %d", name, filter, found, wanted)
			}
			if missing == 0 {
				states += found
			}
		}
	}
	if states != fleet.nodes-fleet.unknown {
		t.Errorf("%d states of %d nodes of which %d are unknown", states, fleet.nodes, fleet.unknown)
	}

	summary, err := c.ListComplianceSummaries(t.Context(), &ssm.ListComplianceSummariesInput{})
	if err != nil || len(summary.ComplianceSummaryItems) != 1 {
		t.Fatalf("%+v, %v", summary, err)
	}
	item := summary.ComplianceSummaryItems[0]
	if int(item.CompliantSummary.CompliantCount) != fleet.compliant || int(item.NonCompliantSummary.NonCompliantCount) != fleet.nodes-fleet.compliant {
		t.Errorf("the summary says %d and %d, and %d of %d are compliant", item.CompliantSummary.CompliantCount, item.NonCompliantSummary.NonCompliantCount, fleet.compliant, fleet.nodes)
	}
	compliant, all := 0, 0
	pages := ssm.NewListResourceComplianceSummariesPaginator(c, &ssm.ListResourceComplianceSummariesInput{MaxResults: aws.Int32(7)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.ResourceComplianceSummaryItems {
			all++
			if r.Status == types.ComplianceStatusCompliant {
				compliant++
			}
		}
	}
	if all != fleet.nodes || compliant != fleet.compliant {
		t.Errorf("%d of %d resources are compliant, want %d of %d", compliant, all, fleet.compliant, fleet.nodes)
	}
	critical, err := c.ListResourceComplianceSummaries(t.Context(), &ssm.ListResourceComplianceSummariesInput{MaxResults: aws.Int32(50), Filters: []types.ComplianceStringFilter{
		{Key: aws.String("OverallSeverity"), Values: []string{"CRITICAL"}, Type: types.ComplianceQueryOperatorTypeEqual},
	}})
	if err != nil || len(critical.ResourceComplianceSummaryItems) < severity["CRITICAL"] || severity["CRITICAL"] == 0 {
		t.Errorf("%d nodes are critical, want at least %d: %v", len(critical.ResourceComplianceSummaryItems), severity["CRITICAL"], err)
	}

	// Each patch of a node is in its list, by every road.
	state, list := patchesOf(nodeID(12), now.Add(time.Minute), 25, 3, 1, 2, 1)
	b.reportPatches(state, list)
	for filter, wanted := range map[string]int{"": 31, "Missing": 3, "FAILED": 2, "InstalledPendingReboot": 1, "Installed": 25} {
		in := ssm.DescribeInstancePatchesInput{InstanceId: aws.String(nodeID(12)), MaxResults: aws.Int32(10)}
		if filter != "" {
			in.Filters = []types.PatchOrchestratorFilter{{Key: aws.String("State"), Values: []string{filter}}}
		}
		found := map[string]bool{}
		pages := ssm.NewDescribeInstancePatchesPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Patches {
				found[*p.Title+string(p.State)] = true
			}
		}
		if len(found) != wanted {
			t.Errorf("%d patches are %q, want %d", len(found), filter, wanted)
		}
	}
	items := 0
	itemPages := ssm.NewListComplianceItemsPaginator(c, &ssm.ListComplianceItemsInput{ResourceIds: []string{nodeID(12)}, MaxResults: aws.Int32(4), Filters: []types.ComplianceStringFilter{
		{Key: aws.String("Status"), Values: []string{"NON_COMPLIANT"}, Type: types.ComplianceQueryOperatorTypeEqual},
	}})
	for itemPages.HasMorePages() {
		page, err := itemPages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		items += len(page.ComplianceItems)
	}
	if items != 6 {
		t.Errorf("%d items are not compliant, want 6", items)
	}
	gone, err := c.DescribeInstancePatchStates(t.Context(), &ssm.DescribeInstancePatchStatesInput{InstanceIds: []string{vanished[0], nodeID(12), nodeID(12), leaderID}})
	if err != nil || len(gone.InstancePatchStates) != 1 || *gone.InstancePatchStates[0].InstanceId != nodeID(12) {
		t.Errorf("states of one that is gone, one that is not, twice, and one without: %+v, %v", gone, err)
	}
}

// Whatever is not known of a fleet, it is never the reason that it looks better: of
// what is known, take away any part, let it fail, let it grow old.
func TestMissingDataNeverRaisesTheCompliantShare(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	const staleAfter = 7 * 24 * time.Hour
	share := func(fleet []*raftstore.PatchState) (status, summary float64) {
		compliant, listed := 0, 0
		for i, s := range fleet {
			node := raftstore.Node{ID: nodeID(i + 1)}
			if viewPatchStatus(node, s, now, staleAfter).Status == string(patchCompliant) {
				compliant++
			}
			if patchCompliance(node, s, now, staleAfter).status == types.ComplianceStatusCompliant {
				listed++
			}
		}
		return float64(compliant) / float64(len(fleet)), float64(listed) / float64(len(fleet))
	}
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		fleet := make([]*raftstore.PatchState, 1+random.IntN(20))
		for i := range fleet {
			if random.IntN(8) == 0 {
				continue
			}
			one := func() int { return max(0, random.IntN(6)-4) }
			s, _ := patchesOf(nodeID(i+1), now.Add(-time.Duration(random.IntN(9*24))*time.Hour), random.IntN(9), one(), 0, one(), one())
			fleet[i] = &s
		}
		for range 10 {
			status, summary := share(fleet)
			if status != summary {
				t.Fatalf("seed %d: the status says %g and the summary %g", seed, status, summary)
			}
			i := random.IntN(len(fleet))
			if s := fleet[i]; s != nil {
				less := *s
				switch random.IntN(6) {
				case 0:
					fleet[i] = nil
				case 1: // its age is not of today
					less.EndedAt = less.EndedAt.Add(-time.Duration(random.IntN(20*24)) * time.Hour)
				case 2:
					less.Problem, less.ProblemAt = "the package manager is busy", less.EndedAt
				case 3:
					less.Incomplete = true
				case 4:
					less.MetadataAt = less.MetadataAt.Add(-time.Duration(random.IntN(20*24)) * time.Hour)
				case 5: // nothing but a failure is known
					less = raftstore.PatchState{NodeID: s.NodeID, Problem: "no disk", ProblemAt: now}
				}
				if fleet[i] != nil {
					fleet[i] = &less
				}
			}
			if after, _ := share(fleet); after > status {
				t.Fatalf("seed %d: with less known of node %d the share rose from %g to %g: %+v", seed, i, status, after, fleet[i])
			}
		}
	}
}

func TestCatalogueOfPatches(t *testing.T) {
	b := newBed(t)
	now := b.clock.now().UTC()
	offer := func(os, product, name, kind, severity string, updated time.Time) raftstore.PatchOffer {
		o := patcher.Offer{Candidate: patcher.Candidate{Package: patcher.Package{Name: name, Arch: "x86_64", Version: "1:2-3.el9"}, Origins: []patcher.Origin{{Repository: "baseos"}}}, Security: kind == "security"}
		if kind != "" {
			o.Notices = []patcher.Notice{{ID: "RHSA-2026:1", Type: kind, Severity: severity, Updated: updated, CVEs: []string{"CVE-2026-1"}, Bugzillas: []string{"7"}}}
		}
		content, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return raftstore.PatchOffer{OperatingSystem: os, Product: product, Title: o.Title(), Offer: content}
	}
	b.read(func(r raftstore.Reader) error {
		txns, err := raftstore.PutPatchOffers(r, []raftstore.PatchOffer{
			offer("ROCKY_LINUX", "RockyLinux9.4", "kernel", "security", "Critical", now.AddDate(0, 0, -30)),
			offer("ROCKY_LINUX", "RockyLinux9.4", "young", "security", "Important", now.AddDate(0, 0, -1)),
			offer("ROCKY_LINUX", "RockyLinux9.5", "fix", "bugfix", "", now.AddDate(0, 0, -30)),
			offer("ROCKY_LINUX", "RockyLinux9.5", "plain", "", "", now),
			offer("SUSE", "Suse15.6", "kernel", "security", "Critical", now),
		}, now)
		for _, txn := range txns {
			b.apply(txn)
		}
		return err
	})
	b.read(func(r raftstore.Reader) error {
		c := &call{Reader: r}
		at := &raftstore.PatchState{OperatingSystem: "ROCKY_LINUX", Product: "RockyLinux9.4"}
		if advisories, cves, err := c.noticesOf(at, "young.x86_64:1:2-3.el9"); err != nil || !slices.Equal(advisories, []string{"RHSA-2026:1"}) || !slices.Equal(cves, []string{"CVE-2026-1"}) {
			t.Errorf("notices of an offer are %q, %q, %v", advisories, cves, err)
		}
		if advisories, cves, err := c.noticesOf(at, "none.x86_64:1:2-3.el9"); err != nil || len(advisories)+len(cves) > 0 {
			t.Errorf("notices of what is not in the catalogue are %q, %q, %v", advisories, cves, err)
		}
		return nil
	})
	c := b.ssm(b.memberURL)
	for _, test := range []struct {
		filters [][]string
		want    int
	}{
		{nil, 5}, {[][]string{{"PRODUCT", "RockyLinux9.4"}}, 2}, {[][]string{{"PRODUCT", "RockyLinux9.4"}, {"SEVERITY", "Critical"}}, 1}, {[][]string{{"NAME", "kernel"}}, 2},
		{[][]string{{"CVE_ID", "CVE-2026-1"}, {"PRODUCT", "RockyLinux9.5"}}, 1}, {[][]string{{"EPOCH", "1"}, {"VERSION", "2"}, {"RELEASE", "3.el9"}, {"ARCH", "x86_64"}, {"REPOSITORY", "baseos"}}, 5},
		{[][]string{{"ADVISORY_ID", "RHSA-2026:1"}, {"CLASSIFICATION", "Bugfix"}}, 1}, {[][]string{{"BUGZILLA_ID", "8"}}, 0}, {[][]string{{"MSRC_SEVERITY", "Critical"}}, 0},
	} {
		in := ssm.DescribeAvailablePatchesInput{MaxResults: aws.Int32(2)}
		for _, f := range test.filters {
			in.Filters = append(in.Filters, types.PatchOrchestratorFilter{Key: &f[0], Values: f[1:]})
		}
		got := 0
		pages := ssm.NewDescribeAvailablePatchesPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got += len(page.Patches)
		}
		if got != test.want {
			t.Errorf("%v: %d patches, want %d", test.filters, got, test.want)
		}
	}
	rocky, err := c.GetDefaultPatchBaseline(t.Context(), &ssm.GetDefaultPatchBaselineInput{OperatingSystem: types.OperatingSystemRockyLinux})
	if err != nil {
		t.Fatal(err)
	}
	effective := map[string]types.PatchDeploymentStatus{}
	pages := ssm.NewDescribeEffectivePatchesForPatchBaselinePaginator(c, &ssm.DescribeEffectivePatchesForPatchBaselineInput{BaselineId: rocky.BaselineId, MaxResults: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.EffectivePatches {
			effective[*e.Patch.Name] = e.PatchStatus.DeploymentStatus
		}
	}
	if len(effective) != 3 || effective["kernel"] != "APPROVED" || effective["young"] != "PENDING_APPROVAL" || effective["fix"] != "APPROVED" {
		t.Errorf("effective are %v", effective)
	}
	snapshot, err := c.GetDeployablePatchSnapshotForInstance(t.Context(), &ssm.GetDeployablePatchSnapshotForInstanceInput{InstanceId: aws.String(memberID), SnapshotId: aws.String("8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f")})
	if err != nil || *snapshot.Product != "Debian GNU/Linux 12" || len(*snapshot.SnapshotDownloadUrl) < 100 {
		t.Errorf("%+v, %v", snapshot, err)
	}
}
