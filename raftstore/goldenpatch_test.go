package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

const (
	goldenBaseline = "pb-0123456789abcdef0"
	goldenRun      = "8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f"
)

// storedBlock is text in a deflate stream without compression: the same whatever
// version of the library.
func storedBlock(t string) []byte {
	block := []byte{1}
	block = binary.LittleEndian.AppendUint16(block, uint16(len(t)))
	block = binary.LittleEndian.AppendUint16(block, ^uint16(len(t)))
	return append(block, t...)
}

func goldenPatchExamples(node string, at, later time.Time) map[string]func(*Txn) {
	return map[string]func(*Txn){
		"patch-baseline": func(t *Txn) {
			t.PutPatchBaseline(PatchBaseline{
				ID: goldenBaseline, Name: "site", OperatingSystem: "DEBIAN", Description: "what for", Definition: json.RawMessage(`{"ApprovedPatches":["vim"]}`),
				CreatedAt: at, ModifiedAt: later, Caller: "root@" + node, Tags: map[string]string{"role": "web"}, ClientToken: "token", Request: "e3b0",
			})
		},
		"patch-baseline-default": func(t *Txn) {
			t.PutDefaultPatchBaseline(DefaultPatchBaseline{OperatingSystem: "DEBIAN", BaselineID: goldenBaseline})
		},
		"patch-group": func(t *Txn) {
			t.PutPatchGroup(PatchGroup{OperatingSystem: "DEBIAN", Name: "web / prod", BaselineID: goldenBaseline, RegisteredAt: at})
		},
		"patch-snapshot": func(t *Txn) {
			t.PutNewPatchSnapshot(PatchSnapshot{
				ID: goldenRun, OperatingSystem: "DEBIAN", PatchGroup: "web / prod", BaselineID: goldenBaseline,
				Baseline: json.RawMessage(`{"BaselineId":"pb-0123456789abcdef0"}`),
				Ledger:   storedBlock(`{"vim.amd64:2:9.0-1":"2026-11-20T00:00:00Z"}`), FrozenAt: at, KeepUntil: later,
			})
		},
		"patch-state": func(t *Txn) {
			t.putPatchState(PatchState{
				NodeID: node, OperatingSystem: "DEBIAN", Product: "Debian12", Manager: "apt", PatchGroup: "web / prod", BaselineID: goldenBaseline,
				SnapshotID: goldenRun, OverrideName: "list", Operation: "Install", RebootOption: "NoReboot", CommandID: goldenRun,
				StartedAt: at, EndedAt: later, NoRebootInstallAt: at, MetadataAt: at,
				Counts: PatchCounts{Installed: 9, InstalledOther: 8, InstalledPendingReboot: 7, InstalledRejected: 6, Missing: 5, Failed: 4,
					NotApplicable: 3, CriticalNonCompliant: 2, SecurityNonCompliant: 1, OtherNonCompliant: 10},
				Compliant:    SeverityCounts{Critical: 1, High: 2, Medium: 3, Low: 4, Informational: 5, Unspecified: 6},
				NonCompliant: SeverityCounts{Critical: 7}, OverallSeverity: "CRITICAL", PendingReboot: true, Incomplete: true, Gaps: 1, Omitted: 2,
				Problem: "why", ProblemAt: later,
			})
		},
		"patch-list": func(t *Txn) {
			t.Put(patchListPrefix+node, encodeRecord(patchListVersion, patchList{Content: storedBlock(
				`{"Patches":[{"t":"vim.amd64:2:9.0-1","c":"Security","s":"","e":"MISSING","v":["CVE-2026-1"],"l":"HIGH","y":true,"r":"2:8.0-1","n":["DSA-1"],"w":"why"}],` +
					`"Pending":[{"t":"nano.amd64:7-1","w":"not yet","f":"2026-12-01T00:00:00Z"}],"Sources":[{"Name":"main","FetchedAt":"2026-11-23T00:00:00Z"}],"Gaps":["a gap"]}`)}))
		},
		"patch-offer": func(t *Txn) {
			o := PatchOffer{OperatingSystem: "DEBIAN", Product: "Debian12", Title: "vim.amd64:2:9.0-1", Offer: json.RawMessage(`{"Name":"vim"}`), Detail: 1}
			txns, err := PutPatchOffers(memoryReader{}, []PatchOffer{o}, at)
			if err == nil {
				t.Merge(txns[0])
			}
		},
		"compliance": func(t *Txn) {
			t.PutCompliance(Compliance{
				NodeID: node, Type: "Custom:AVCheck", ExecutionTime: at, ExecutionID: "run", ExecutionType: "Command", ContentHash: "hash", UpdatedAt: later,
				Compliant: SeverityCounts{Low: 1}, NonCompliant: SeverityCounts{High: 1},
				Content: storedBlock(`[{"i":"1","t":"pattern","s":"HIGH","e":"NON_COMPLIANT","d":{"k":"v"}},{"i":"2","s":"LOW","e":"COMPLIANT"}]`),
			})
		},
	}
}

// What is in the golden files of patches is read by today's code, whole.
func TestGoldenPatchRecordsAreRead(t *testing.T) {
	t.Parallel()
	const node = "mi-0123456789abcdef0"
	at := time.Date(2026, 11, 23, 19, 30, 0, 123456789, time.UTC)
	r := memoryReader{}
	examples := goldenPatchExamples(node, at, at.Add(time.Hour))
	for kind := range examples {
		data, err := os.ReadFile(filepath.Join("testdata", "golden", kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var records []goldenRecord
		if err := json.Unmarshal(data, &records); err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			if string(record.Value) != "null" {
				r[record.Key] = record.Value
			}
		}
	}
	again := func(kind string, err error, put func(*Txn)) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		var want, got Txn
		examples[kind](&want)
		put(&got)
		if !sameJSON(t, got.Ops[0].Value, want.Ops[0].Value) || got.Ops[0].Key != want.Ops[0].Key {
			t.Errorf("%s comes back as %s\n%s\nand was %s\n%s", kind, got.Ops[0].Key, got.Ops[0].Value, want.Ops[0].Key, want.Ops[0].Value)
		}
	}
	b, err := GetPatchBaselineByToken(r, "token")
	again("patch-baseline", err, func(t *Txn) { t.PutPatchBaseline(b) })
	d, err := GetDefaultPatchBaseline(r, "DEBIAN")
	again("patch-baseline-default", err, func(t *Txn) { t.PutDefaultPatchBaseline(d) })
	g, err := GetPatchGroup(r, "DEBIAN", "web / prod")
	again("patch-group", err, func(t *Txn) { t.PutPatchGroup(g) })
	s, err := GetPatchSnapshot(r, goldenRun, "DEBIAN", "web / prod")
	again("patch-snapshot", err, func(t *Txn) { t.PutNewPatchSnapshot(s) })
	if seen, err := s.FirstSeen(); err != nil || !seen["vim.amd64:2:9.0-1"].Equal(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("first seen %v, %v", seen, err)
	}
	state, err := GetPatchState(r, node)
	again("patch-state", err, func(t *Txn) { t.putPatchState(state) })
	c, err := GetCompliance(r, "Custom:AVCheck", node)
	again("compliance", err, func(t *Txn) { t.PutCompliance(c) })
	err = ScanPatchOffers(r, "DEBIAN", "", func(o PatchOffer) bool {
		again("patch-offer", nil, func(t *Txn) {
			t.Put(patchOfferPrefix+o.Position(), encodeRecord(patchOfferVersion, o))
		})
		return true
	})
	if err != nil {
		t.Error(err)
	}
	list, err := GetPatchList(r, node)
	if err != nil {
		t.Fatal(err)
	}
	want := PatchList{
		Patches: []PatchEntry{{
			Title: "vim.amd64:2:9.0-1", KBID: "vim.amd64", Classification: "Security", State: "MISSING", CVEs: []string{"CVE-2026-1"}, ComplianceLevel: "HIGH",
			Security: true, Replaces: "2:8.0-1", Notices: []string{"DSA-1"}, Reason: "why",
		}},
		Pending: []PendingPatch{{Title: "nano.amd64:7-1", Reason: "not yet", From: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}},
		Sources: []PatchSource{{Name: "main", FetchedAt: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}},
		Gaps:    []string{"a gap"},
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("the list is\n%+v\nand should be\n%+v", list, want)
	}
	items, err := c.Items()
	if err != nil || len(items) != 2 || items[0].Details["k"] != "v" || items[1].Status != "COMPLIANT" {
		t.Errorf("items %+v, %v", items, err)
	}
}
