package leader

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

// Executions go when commands of their age go, with all that belongs to them, whatever
// interrupts it; those that run and young ones stay.
func TestSweepWindows(t *testing.T) {
	now := windowDay
	memory := newMemory()
	put := func(id string, ended time.Time, invocations int) {
		x := raftstore.WindowExecution{ID: id, WindowID: "mw-1", ScheduledAt: now.Add(-time.Duration(len(memory.keys)) * time.Hour)}
		var txn raftstore.Txn
		txn.ClaimOpening(x)
		txn.PutNewWindowPlan(raftstore.WindowPlan{ExecutionID: id})
		txn.PutWindowTaskExecution(raftstore.WindowTaskExecution{ExecutionID: id, ID: "task"})
		for n := range invocations {
			txn.PutWindowInvocation(raftstore.WindowInvocation{ExecutionID: id, TaskID: "task", ID: fmt.Sprintf("%05d", n)})
		}
		memory.must(txn)
		if ended.IsZero() {
			return
		}
		x, err := raftstore.GetWindowExecution(memory, id)
		if err != nil {
			t.Fatal(err)
		}
		x.EndedAt = ended
		txn = raftstore.Txn{}
		txn.PutWindowExecution(x)
		memory.must(txn)
	}
	put("young", now.Add(-29*24*time.Hour), 2)
	put("running", time.Time{}, 2)
	before := slices.Clone(memory.keys)
	put("old", now.Add(-30*24*time.Hour), 2500)
	put("older", now.Add(-90*24*time.Hour), 1)
	faults := []writeFault{writeFine, writeDoneUnknown, writeFine, writeLostUnknown, writeLateUnknown}
	store := &replica{memory: memory, fault: func() writeFault {
		fault := faults[0]
		faults = append(faults[1:], fault)
		return fault
	}}
	s := &sweeper{store: store, settings: Settings{}.withDefaults(), now: func() time.Time { return now }}
	failures := 0
	for err := s.windows(t.Context(), now); err != nil; err = s.windows(t.Context(), now) {
		if failures++; failures > 20 {
			t.Fatal(err)
		}
	}
	memory.settleLate()
	if !slices.Equal(memory.keys, before) {
		t.Errorf("left are\n%q, want\n%q", memory.keys, before)
	}
	if err := s.windows(t.Context(), now.Add(windowsSweepEvery-1)); err != nil {
		t.Error(err)
	}
}
