package leader

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// Whatever a node reports, its records have room in entries of the log, and are read
// again.
func FuzzPatchRecords(f *testing.F) {
	f.Add([]byte(`{"Operation":"Scan","EndedAt":"2026-11-24T01:00:00Z","Platform":{"OperatingSystem":"DEBIAN","Product":"Debian12"},"Patches":[{"Title":"a.all:1","State":"MISSING"}],"Offers":[{"Name":"a","Arch":"all","Version":"1"}],"Sources":[{"Name":"main"}]}`))
	f.Add([]byte(`{"EndedAt":"0001-01-01T00:00:00Z","Problem":"no"}`))
	f.Add([]byte(`{"EndedAt":"9999-12-31T23:59:59Z","Patches":[{"Title":":::","KBId":"\u0000","InstalledTime":"9999-12-31T23:59:59Z"}],"Omitted":{"Installed":-9223372036854775808}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var report patcher.Report
		if json.Unmarshal(data, &report) != nil {
			return
		}
		keepReport(t, report)
	})
}

func keepReport(t *testing.T, report patcher.Report) {
	t.Helper()
	m := memoryStore{}
	state, list, offers := patchRecords(report, raftstore.Node{ID: "mi-1", PlatformName: "Debian GNU/Linux", PlatformVersion: "12"}, "c-1", patchNow)
	var txn raftstore.Txn
	changed, err := raftstore.PutPatchReport(m, &txn, state, list)
	if err != nil {
		t.Fatalf("the report is not kept: %v", err)
	}
	txns, err := raftstore.PutPatchOffers(m, offers, patchNow)
	if err != nil {
		t.Fatalf("the offers are not kept: %v", err)
	}
	for _, one := range append(txns, txn) {
		if size := sizeOf(one); size > raftstore.MaxTxnSize {
			t.Fatalf("a transaction of %d bytes", size)
		}
		m.put(func(t *raftstore.Txn) { t.Merge(one) })
	}
	stored, err := raftstore.GetPatchState(m, "mi-1")
	if changed && err != nil {
		t.Fatalf("the state is not read: %v", err)
	}
	if stored.EndedAt.After(patchNow) {
		t.Fatalf("an operation that ended at %s is kept at %s", stored.EndedAt, patchNow)
	}
	if stored.Known() {
		kept, err := raftstore.GetPatchList(m, "mi-1")
		if err != nil {
			t.Fatalf("the list is not read: %v", err)
		}
		if len(kept.Patches) > len(report.Patches) {
			t.Fatalf("%d patches of %d", len(kept.Patches), len(report.Patches))
		}
	}
}

// A node with a thief in it sends as much as a report can hold.
func TestAHugeReportIsKept(t *testing.T) {
	t.Parallel()
	report := patcher.Report{EndedAt: patchNow, Platform: patcher.Platform{OperatingSystem: "DEBIAN", Product: "Debian12"}, Sources: []patcher.Source{{Name: "main", Fetched: patchNow}}}
	for i := range 12_000 {
		p := patcher.Patch{Title: fmt.Sprintf("p%x-%d.all:%d", i*2654435761, i, i), State: "FAILED", Reason: strings.Repeat(fmt.Sprint(i), 20), InstalledTime: patchNow.Add(-time.Duration(i) * time.Second)}
		report.Patches = append(report.Patches, p)
		report.Pending = append(report.Pending, patcher.Pending{Title: p.Title, Reason: p.Reason})
		report.Offers = append(report.Offers, patcher.Offer{Candidate: patcher.Candidate{
			Package: patcher.Package{Name: fmt.Sprint("p", i), Arch: "all", Version: "1"}, Notices: []patcher.Notice{{ID: "N", Title: strings.Repeat("x", 5000), CVEs: make([]string, 1000)}},
		}})
	}
	keepReport(t, report)
	state, _, _ := patchRecords(report, raftstore.Node{ID: "mi-1"}, "c-1", patchNow)
	if state.Counts.Failed != 12_000 {
		t.Errorf("%d of 12000 failures are counted", state.Counts.Failed)
	}
}
