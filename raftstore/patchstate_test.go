package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// apply puts a transaction into a memory reader, as the store does.
func (m memoryReader) apply(txns ...Txn) {
	for _, t := range txns {
		for _, op := range t.Ops {
			if op.Delete {
				delete(m, op.Key)
			} else {
				m[op.Key] = op.Value
			}
		}
	}
}

func report(t *testing.T, m memoryReader, state PatchState, list PatchList) bool {
	t.Helper()
	var txn Txn
	changed, err := PutPatchReport(m, &txn, state, list)
	if err != nil {
		t.Fatal(err)
	}
	m.apply(txn)
	return changed
}

func TestALaterReportReplacesAnEarlierOne(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	m := memoryReader{}
	list := func(title string) PatchList {
		return PatchList{Patches: []PatchEntry{{Title: title, State: "MISSING"}}}
	}
	state := func(end time.Time, missing int) PatchState {
		return PatchState{NodeID: "mi-1", EndedAt: end, Counts: PatchCounts{Missing: missing}}
	}
	problem := func(when time.Time) PatchState {
		return PatchState{NodeID: "mi-1", Problem: "no disk", ProblemAt: when}
	}
	for _, step := range []struct {
		name    string
		state   PatchState
		list    PatchList
		changed bool
		missing int
		title   string
		problem string
	}{
		{"a failed scan of a new node", problem(at.Add(-time.Hour)), PatchList{}, true, 0, "", "no disk"},
		{"the first scan", state(at, 1), list("a.all:1"), true, 1, "a.all:1", ""},
		{"the same once more", state(at, 9), list("b.all:1"), false, 1, "a.all:1", ""},
		{"an older one", state(at.Add(-time.Minute), 9), list("b.all:1"), false, 1, "a.all:1", ""},
		{"an older failure", problem(at.Add(-time.Minute)), PatchList{}, false, 1, "a.all:1", ""},
		{"a failed scan", problem(at.Add(time.Minute)), PatchList{}, true, 1, "a.all:1", "no disk"},
		{"the failed scan once more", problem(at.Add(time.Minute)), PatchList{}, false, 1, "a.all:1", "no disk"},
		{"a newer scan", state(at.Add(time.Hour), 2), list("c.all:1"), true, 2, "c.all:1", ""},
	} {
		if changed := report(t, m, step.state, step.list); changed != step.changed {
			t.Errorf("%s: changed %v, want %v", step.name, changed, step.changed)
		}
		s, err := GetPatchState(m, "mi-1")
		if err != nil || s.Counts.Missing != step.missing || s.Problem != step.problem {
			t.Errorf("%s: %+v, %v", step.name, s, err)
		}
		l, err := GetPatchList(m, "mi-1")
		if step.title == "" {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: a list %+v, %v", step.name, l, err)
			}
		} else if err != nil || len(l.Patches) != 1 || l.Patches[0].Title != step.title {
			t.Errorf("%s: %+v, %v", step.name, l, err)
		}
	}
}

// A list that has no room loses what matters least, tells how much, and fits into an
// entry of the log.
func TestAListIsCutToItsRoom(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('a' + random.IntN(26))
		}
		return string(b)
	}
	var list PatchList
	for i := range 6000 {
		p := PatchEntry{Title: fmt.Sprintf("%s.amd64:%d", text(30), i), State: "INSTALLED_OTHER", Reason: text(20)}
		if i%3 == 1 {
			p.State = "INSTALLED"
		}
		if i%100 == 2 {
			p.State = "MISSING"
		}
		list.Patches = append(list.Patches, p)
	}
	m := memoryReader{}
	var txn Txn
	if _, err := PutPatchReport(m, &txn, PatchState{NodeID: "mi-1", EndedAt: time.Unix(1, 0)}, list); err != nil {
		t.Fatal(err)
	}
	entry, err := encodeTxn(txn)
	if err != nil || len(entry) > 140<<10 {
		t.Fatalf("an entry of %d bytes, %v", len(entry), err)
	}
	m.apply(txn)
	s, err := GetPatchState(m, "mi-1")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := GetPatchList(m, "mi-1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Omitted == 0 || s.Omitted+len(kept.Patches) != len(list.Patches) {
		t.Errorf("%d are kept and %d omitted of %d", len(kept.Patches), s.Omitted, len(list.Patches))
	}
	missing := 0
	for _, p := range kept.Patches {
		if p.State == "MISSING" {
			missing++
		}
	}
	if missing != 60 {
		t.Errorf("%d of 60 missing patches are in the list", missing)
	}
}

func TestOffersAreSeenOnce(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	m := memoryReader{}
	offer := func(product, title string, detail int) PatchOffer {
		return PatchOffer{OperatingSystem: "DEBIAN", Product: product, Title: title, Offer: []byte(fmt.Sprintf(`{"Detail":%d}`, detail)), Detail: detail}
	}
	put := func(now time.Time, offers ...PatchOffer) int {
		t.Helper()
		txns, err := PutPatchOffers(m, offers, now)
		if err != nil {
			t.Fatal(err)
		}
		m.apply(txns...)
		ops := 0
		for _, txn := range txns {
			ops += len(txn.Ops)
		}
		return ops
	}
	if n := put(at, offer("Debian12", "a.all:1", 0), offer("Debian12", "a.all:1", 0), offer("Debian11", "a.all:1", 0)); n != 2 {
		t.Errorf("%d were written", n)
	}
	if n := put(at.Add(time.Hour), offer("Debian12", "a.all:1", 0)); n != 0 {
		t.Errorf("what is known was written %d times", n)
	}
	if n := put(at.Add(2*time.Hour), offer("Debian12", "a.all:1", 2), offer("Debian12", "b.all:1", 0)); n != 2 {
		t.Errorf("an advisory and a new version are %d writes", n)
	}
	if n := put(at.Add(3*time.Hour), offer("Debian12", "a.all:1", 1)); n != 0 {
		t.Errorf("what tells less was written %d times", n)
	}
	if n := put(at.Add(30*time.Hour), offer("Debian12", "a.all:1", 1)); n != 1 {
		t.Errorf("the next day it was seen again, and written %d times", n)
	}
	seen, err := PatchesFirstSeen(m, "DEBIAN", 10)
	if err != nil || len(seen) != 2 || !seen["a.all:1"].Equal(at) || !seen["b.all:1"].Equal(at.Add(2*time.Hour)) {
		t.Errorf("first seen %v, %v", seen, err)
	}
	if seen, _ := PatchesFirstSeen(m, "DEBIAN", 1); len(seen) != 1 || seen["a.all:1"].IsZero() {
		t.Errorf("of one, the last that was seen: %v", seen)
	}
	_ = ScanPatchOffers(m, "DEBIAN", "DEBIAN/Debian12/a.all:1", func(o PatchOffer) bool {
		if string(o.Offer) != `{"Detail":2}` || !o.LastSeen.Equal(at.Add(30*time.Hour)) {
			t.Errorf("the offer is %+v", o)
		}
		return false
	})
	txn, next, err := SweepPatchOffers(m, at.Add(20*time.Hour), "")
	if err != nil || next != "" || len(txn.Ops) != 2 {
		t.Errorf("swept %+v, next %q, %v", txn.Ops, next, err)
	}
}

func TestSweepsOfPatches(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	m := memoryReader{}
	var txn Txn
	txn.PutNewPatchSnapshot(PatchSnapshot{ID: "a", OperatingSystem: "DEBIAN", PatchGroup: "x/y", KeepUntil: at})
	txn.PutNewPatchSnapshot(PatchSnapshot{ID: "b", OperatingSystem: "DEBIAN", KeepUntil: at.Add(2 * time.Hour)})
	txn.PutNode(Node{ID: "mi-1", PublicKey: "k"})
	for _, id := range []string{"mi-1", "mi-2"} {
		txn.putPatchState(PatchState{NodeID: id})
		txn.Put(patchListPrefix+id, encodeRecord(1, patchList{}))
		txn.PutCompliance(Compliance{Type: "Custom:A", NodeID: id})
	}
	m.apply(txn)
	m.apply(SweepPatchSnapshots(m, at.Add(time.Hour)), SweepRemovedNodes(m))
	var left []string
	m.Scan("", "", func(key string, _ []byte, _ uint64) bool { left = append(left, key); return true })
	want := "[compliance/Custom:A/mi-1 node-by-key/k node/mi-1 patch-list/mi-1 patch-snapshot-expiry/20261123T140000.000000000Z/b/DEBIAN/ patch-snapshot/b/DEBIAN/ patch-state/mi-1]"
	if fmt.Sprint(left) != want {
		t.Errorf("left are %v\nwant %s", left, want)
	}
	if kinds := ComplianceTypes(m); len(kinds) != 1 || kinds[0] != "Custom:A" {
		t.Errorf("types %v", kinds)
	}
}
