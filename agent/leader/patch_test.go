package leader

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

var patchNow = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

func TestPatchRecords(t *testing.T) {
	t.Parallel()
	node := raftstore.Node{ID: "mi-1", PlatformName: "Debian GNU/Linux", PlatformVersion: "12"}
	patch := func(title string, state types.PatchComplianceDataState, level types.PatchComplianceLevel, security bool) patcher.Patch {
		return patcher.Patch{Title: title, KBId: strings.Split(title, ":")[0], State: state, ComplianceLevel: level, Security: security}
	}
	report := patcher.Report{
		Operation: types.PatchOperationTypeScan, BaselineId: "pb-1", PatchGroup: "web", Manager: "apt",
		Platform:  patcher.Platform{OperatingSystem: "DEBIAN", Product: "Debian12"},
		StartedAt: patchNow.Add(-time.Minute), EndedAt: patchNow.Add(time.Hour), // a clock that is ahead
		Patches: []patcher.Patch{
			patch("a.all:1", types.PatchComplianceDataStateInstalled, "HIGH", true),
			patch("b.all:1", types.PatchComplianceDataStateInstalledOther, "", false),
			patch("c.all:1", types.PatchComplianceDataStateMissing, types.PatchComplianceLevelHigh, true),
			patch("d.all:1", types.PatchComplianceDataStateFailed, types.PatchComplianceLevelCritical, false),
			patch("e.all:1", types.PatchComplianceDataStateInstalledPendingReboot, "NONSENSE", false),
		},
		NotApplicable: 7, Omitted: patcher.Omitted{InstalledOther: 10, Installed: -5},
		Sources: []patcher.Source{{Name: "main", Fetched: patchNow.Add(-time.Hour)}, {Name: "security", Fetched: patchNow.Add(-2 * time.Hour), Problem: "503"}},
		Offers: []patcher.Offer{{Security: true, Candidate: patcher.Candidate{
			Package: patcher.Package{Name: "c", Arch: "all", Version: "1"}, Replaces: "0", Chosen: true, Held: true, Excluded: "why",
		}}},
		Reboot:        patcher.Reboot{Needed: true, Evidence: []string{"an old kernel"}},
		Interruptions: []patcher.Interruption{{Package: "d.all", What: "d.all 1 is unpacked"}, {Package: "e.all", What: "half-way"}, {What: "a journal"}},
	}
	state, list, offers := patchRecords(report, node, "c-1", patchNow)
	want := raftstore.PatchCounts{Installed: 1, InstalledOther: 11, InstalledPendingReboot: 1, Missing: 1, Failed: 1, NotApplicable: 7,
		CriticalNonCompliant: 1, SecurityNonCompliant: 1, OtherNonCompliant: 1}
	if state.Counts != want {
		t.Errorf("counts %+v\nwant   %+v", state.Counts, want)
	}
	if c, n := state.Compliant, state.NonCompliant; c != (raftstore.SeverityCounts{High: 1, Unspecified: 11}) || n != (raftstore.SeverityCounts{High: 1, Critical: 1, Unspecified: 1}) {
		t.Errorf("compliant %+v, not compliant %+v", c, n)
	}
	if !state.EndedAt.Equal(patchNow) || !state.MetadataAt.Equal(patchNow.Add(-2*time.Hour)) || state.Incomplete || !state.PendingReboot || state.Omitted != 10 ||
		state.OverallSeverity != "HIGH" || state.OperatingSystem != "DEBIAN" || state.CommandID != "c-1" {
		t.Errorf("state %+v", state)
	}
	if !slices.Equal(list.Interruptions, []string{"d.all 1 is unpacked", "e.all; half-way", "a journal"}) {
		t.Errorf("interruptions %q", list.Interruptions)
	}
	if len(list.Patches) != 5 || len(list.Sources) != 2 || list.Evidence[0] != "an old kernel" || list.Patches[4].ComplianceLevel != "UNSPECIFIED" {
		t.Errorf("list %+v", list)
	}
	if len(offers) != 1 || offers[0].Title != "c.all:1" || offers[0].Detail != 1 {
		t.Fatalf("offers %+v", offers)
	}
	var offer patcher.Offer
	if err := json.Unmarshal(offers[0].Offer, &offer); err != nil || offer.Replaces != "" || offer.Chosen || offer.Held || offer.Excluded != "" || !offer.Security {
		t.Errorf("the catalogue has %+v, %v", offer, err)
	}

	failed := report
	failed.Problem, failed.Patches = "the package manager is busy", nil
	if state, list, offers := patchRecords(failed, node, "c-1", patchNow); state.Known() || state.Problem == "" || len(list.Patches)+len(offers) > 0 {
		t.Errorf("a failed operation tells %+v", state)
	}
	for name, sources := range map[string][]patcher.Source{"no source": nil, "one that was never read": {{Name: "main", Fetched: patchNow}, {Name: "x", Problem: "404"}}} {
		report.Sources = sources
		if state, _, _ := patchRecords(report, node, "c-1", patchNow); !state.Incomplete {
			t.Errorf("%s: the state is whole", name)
		}
	}
	report.Platform = patcher.Platform{OperatingSystem: "PLAN9", Product: "../../x"}
	if state, _, offers := patchRecords(report, node, "c-1", patchNow); state.OperatingSystem != "DEBIAN" || state.Product != "" || len(offers) != 1 || offers[0].Product != "DEBIAN" {
		t.Errorf("nonsense of a platform makes %+v", state)
	}
}

// memoryStore is a Reader of what transactions have put.
type memoryStore map[string][]byte

func (m memoryStore) Index() uint64 { return 1 }
func (m memoryStore) Get(key string) ([]byte, uint64, bool) {
	value, ok := m[key]
	return value, 0, ok
}
func (m memoryStore) Scan(prefix, start string, fn func(string, []byte, uint64) bool) {
	for key, value := range m { // the order matters to none of these tests
		if strings.HasPrefix(key, prefix) && key >= start && !fn(key, value, 0) {
			return
		}
	}
}

func (m memoryStore) put(fill func(*raftstore.Txn)) {
	var t raftstore.Txn
	fill(&t)
	for _, op := range t.Ops {
		m[op.Key] = op.Value
	}
}

func TestFreezeBaseline(t *testing.T) {
	t.Parallel()
	m := memoryStore{}
	baseline := func(id, definition string) {
		m.put(func(t *raftstore.Txn) {
			t.PutPatchBaseline(raftstore.PatchBaseline{ID: id, Name: "own", OperatingSystem: "DEBIAN", Definition: json.RawMessage(definition)})
		})
	}
	const delayed = `{"ApprovalRules":{"PatchRules":[{"PatchFilterGroup":{"PatchFilters":[{"Key":"PRIORITY","Values":["*"]}]},"ApproveAfterDays":7}]},"RejectedPatches":["one"]}`
	baseline("pb-00000000000000001", delayed)
	baseline("pb-00000000000000002", `{"RejectedPatches":["two"]}`)
	m.put(func(t *raftstore.Txn) {
		t.PutPatchGroup(raftstore.PatchGroup{OperatingSystem: "DEBIAN", Name: "web", BaselineID: "pb-00000000000000001"})
		t.PutPatchGroup(raftstore.PatchGroup{OperatingSystem: "DEBIAN", Name: "gone", BaselineID: "pb-00000000000000009"})
		txns, err := raftstore.PutPatchOffers(m, []raftstore.PatchOffer{{OperatingSystem: "DEBIAN", Product: "Debian12", Title: "c.all:1", Offer: []byte("{}")}}, patchNow.AddDate(0, 0, -3))
		if err == nil {
			t.Merge(txns[0])
		}
	})
	node := func(os, version string, tags ...string) raftstore.Node {
		n := raftstore.Node{ID: "mi-1", PlatformName: os, PlatformVersion: version, Tags: map[string]string{}}
		for i := 0; i+1 < len(tags); i += 2 {
			n.Tags[tags[i]] = tags[i+1]
		}
		return n
	}
	run := patchRun{SnapshotID: "s-1", ExpiresAt: patchNow.Add(time.Hour)}
	order := func(run patchRun, now time.Time, n raftstore.Node) (patcher.Order, string) {
		t.Helper()
		f := newFreezing(m, run, now)
		order, problem, err := f.freezeBaseline(n)
		if err != nil {
			t.Fatal(err)
		}
		m.put(f.put)
		return order, problem
	}

	web, problem := order(run, patchNow, node("Debian GNU/Linux", "12", "PatchGroup", "web"))
	if problem != "" || web.Baseline.BaselineId != "pb-00000000000000001" || web.PatchGroup != "web" || web.Baseline.RejectedPatches[0] != "one" || !web.Now.Equal(patchNow) {
		t.Errorf("by group: %+v, %s", web, problem)
	}
	if !web.FirstSeen["c.all:1"].Equal(patchNow.AddDate(0, 0, -3)) {
		t.Errorf("a delay gets the ledger %v", web.FirstSeen)
	}
	if both, _ := order(run, patchNow, node("Debian GNU/Linux", "12", "PatchGroup", "none", "Patch Group", "web")); both.PatchGroup != "web" {
		t.Errorf("of both tags counts %q", both.PatchGroup)
	}
	other, _ := order(run, patchNow, node("Debian GNU/Linux", "12"))
	if other.Baseline.Name != "AWS-DebianDefaultPatchBaseline" || other.FirstSeen != nil {
		t.Errorf("the predefined default: %+v", other)
	}
	if rocky, _ := order(run, patchNow, node("Rocky Linux", "9.4", "PatchGroup", "web")); rocky.Baseline.Name != "AWS-RockyLinuxDefaultPatchBaseline" {
		t.Errorf("a group without a baseline for the system: %+v", rocky)
	}

	// What changes while the run is under way does not reach it.
	baseline("pb-00000000000000001", `{"RejectedPatches":["changed"]}`)
	m.put(func(t *raftstore.Txn) {
		t.PutDefaultPatchBaseline(raftstore.DefaultPatchBaseline{OperatingSystem: "DEBIAN", BaselineID: "pb-00000000000000002"})
		t.PutPatchGroup(raftstore.PatchGroup{OperatingSystem: "DEBIAN", Name: "late", BaselineID: "pb-00000000000000001"})
	})
	later := patchNow.Add(30 * time.Minute)
	m.put(func(t *raftstore.Txn) {
		txns, err := raftstore.PutPatchOffers(m, []raftstore.PatchOffer{{OperatingSystem: "DEBIAN", Product: "Debian12", Title: "late.all:1", Offer: []byte("{}")}}, later)
		if err == nil {
			t.Merge(txns[0])
		}
	})
	for group, want := range map[string]string{"web": "one", "": "", "late": "one"} {
		o, problem := order(run, later, node("Debian GNU/Linux", "12", "PatchGroup", group))
		if got := strings.Join(o.Baseline.RejectedPatches, ","); problem != "" || got != want || !o.Now.Equal(patchNow) {
			t.Errorf("group %q later in the run: rejected %q, now %s, %s", group, got, o.Now, problem)
		}
		if _, frozen := o.FirstSeen["late.all:1"]; frozen || (want == "one") != (len(o.FirstSeen) == 1) {
			t.Errorf("group %q later in the run: the ledger is %v", group, o.FirstSeen)
		}
	}
	next := run
	next.SnapshotID = "s-2"
	for group, want := range map[string]string{"web": "changed", "": "two"} {
		if o, _ := order(next, later, node("Debian GNU/Linux", "12", "PatchGroup", group)); strings.Join(o.Baseline.RejectedPatches, ",") != want || !o.Now.Equal(later) {
			t.Errorf("the next run of group %q: %+v", group, o)
		}
	}

	override := run
	override.Overridden = true
	if o, problem := order(override, later, node("Debian GNU/Linux", "12")); problem != "" || o.FirstSeen["c.all:1"].IsZero() {
		t.Errorf("a baseline that comes with the request gets the ledger %v, %s", o.FirstSeen, problem)
	}
	for name, refused := range map[string]struct {
		run  patchRun
		node raftstore.Node
		says string
	}{
		"no system":               {run, node("Alpine Linux", "3"), "no patch baselines for Alpine"},
		"a baseline that is gone": {run, node("Debian GNU/Linux", "12", "PatchGroup", "gone"), "pb-00000000000000009 is gone"},
	} {
		if _, problem := order(refused.run, later, refused.node); !strings.Contains(problem, refused.says) {
			t.Errorf("%s: %q", name, problem)
		}
	}
}
