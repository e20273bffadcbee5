package raftstore

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// countedLog counts what is read from the file, and fails to write when told to.
type countedLog struct {
	*raft.InmemStore
	reads int
	fails error
}

func (l *countedLog) GetLog(index uint64, entry *raft.Log) error {
	l.reads++
	return l.InmemStore.GetLog(index, entry)
}

func (l *countedLog) StoreLogs(entries []*raft.Log) error {
	if l.fails != nil {
		return l.fails
	}
	return l.InmemStore.StoreLogs(entries)
}

func TestTheNewestEntriesAreInMemory(t *testing.T) {
	t.Parallel()
	disk := &countedLog{InmemStore: raft.NewInmemStore()}
	l := &recentLog{LogStore: disk}
	store := func(term, first, last uint64, size int) error {
		var entries []*raft.Log
		for index := first; index <= last; index++ {
			entries = append(entries, &raft.Log{Index: index, Term: term, Data: make([]byte, size)})
		}
		return l.StoreLogs(entries)
	}
	// read returns the term of an entry, 0 when there is none, and whether the file
	// was read for it.
	read := func(index uint64) (term uint64, fromDisk bool) {
		t.Helper()
		before := disk.reads
		var entry raft.Log
		err := l.GetLog(index, &entry)
		if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatal(err)
		}
		if err == nil && entry.Index != index {
			t.Errorf("entry %d for %d", entry.Index, index)
		}
		return entry.Term, disk.reads > before
	}
	expect := func(index, wantTerm uint64, wantDisk bool) {
		t.Helper()
		if term, fromDisk := read(index); term != wantTerm || fromDisk != wantDisk {
			t.Errorf("entry %d is of term %d, from the file %v; want %d, %v", index, term, fromDisk, wantTerm, wantDisk)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(store(1, 1, 10, 10))
	expect(1, 1, false)
	expect(10, 1, false)
	expect(11, 0, true)
	// Entries that contradict a new leader's are replaced.
	must(l.DeleteRange(8, 10))
	expect(8, 0, true)
	must(store(2, 8, 9, 10))
	expect(7, 1, true)
	expect(8, 2, false)
	// A write that failed may have left anything.
	disk.fails = errors.New("full")
	if err := store(2, 10, 10, 10); !errors.Is(err, disk.fails) {
		t.Errorf("a failed write: %v", err)
	}
	disk.fails = nil
	expect(9, 2, true)
	// What comes after a gap, as behind a received snapshot, stands alone.
	must(store(2, 10, 12, 10))
	must(store(3, 20, 22, 10))
	expect(12, 2, true)
	expect(20, 3, false)
	// Both bounds, and the newest entry in any case.
	must(store(3, 23, 5000, 10))
	if n := len(l.entries); n > maxRecentEntries {
		t.Errorf("%d entries in memory", n)
	}
	expect(5000, 3, false)
	for index := uint64(5001); index < 5020; index++ {
		must(store(3, index, index, MaxTxnSize))
		if l.size > maxRecentSize {
			t.Fatalf("%d bytes in memory", l.size)
		}
		expect(index, 3, false)
	}
	sum := 0
	for _, entry := range l.entries {
		sum += len(entry.Data)
	}
	if sum != l.size {
		t.Errorf("%d bytes are counted, %d are there", l.size, sum)
	}
}
