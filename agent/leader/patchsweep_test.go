package leader

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

// The sweep takes what is over, in as many transactions as that needs, and leaves the
// rest.
func TestSweepPatches(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	memory := newMemory()
	var txn raftstore.Txn
	txn.PutNewPatchSnapshot(raftstore.PatchSnapshot{ID: "old", OperatingSystem: "DEBIAN", KeepUntil: now.Add(-time.Hour)})
	txn.PutNewPatchSnapshot(raftstore.PatchSnapshot{ID: "new", OperatingSystem: "DEBIAN", KeepUntil: now.Add(time.Hour)})
	txn.PutNode(raftstore.Node{ID: "mi-1", PublicKey: "k"})
	memory.must(txn)
	for _, id := range []string{"mi-1", "mi-2"} {
		var t raftstore.Txn
		if _, err := raftstore.PutPatchReport(memory, &t, raftstore.PatchState{NodeID: id, EndedAt: now}, raftstore.PatchList{}); err == nil {
			memory.must(t)
		}
	}
	offer := func(n int, seen time.Time) {
		t.Helper()
		txns, err := raftstore.PutPatchOffers(memory, []raftstore.PatchOffer{{OperatingSystem: "DEBIAN", Product: "Debian12", Title: fmt.Sprintf("p%04d.all:1", n), Offer: []byte("{}")}}, seen)
		if err != nil {
			t.Fatal(err)
		}
		memory.must(txns[0])
	}
	for n := range 1500 { // more than one transaction looks at
		seen := now.Add(-raftstore.OfferRetention - time.Hour)
		if n%500 == 7 {
			seen = now
		}
		offer(n, seen)
	}
	store := &replica{memory: memory, fault: func() writeFault { return writeFine }}
	s := &sweeper{store: store, settings: Settings{}.withDefaults(), now: func() time.Time { return now }, kept: map[string]keptCommand{}}
	for range 2 { // the second time there is nothing to do
		if err := s.once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	memory.Scan("patch-", "", func(key string, _ []byte, _ uint64) bool {
		left = append(left, key)
		return true
	})
	want := "patch-list/mi-1 patch-offer/DEBIAN/Debian12/p0007.all:1 patch-offer/DEBIAN/Debian12/p0507.all:1 patch-offer/DEBIAN/Debian12/p1007.all:1 " +
		"patch-snapshot-expiry/20261124T130000.000000000Z/new/DEBIAN/ patch-snapshot/new/DEBIAN/ patch-state/mi-1"
	if got := strings.Join(left, " "); got != want {
		t.Errorf("left are %s\nwant %s", got, want)
	}
}
