package leader

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

func TestOutdated(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	command := func(id string, age time.Duration, size int64) keptCommand {
		return keptCommand{id: id, finishedAt: now.Add(-age), expiresAt: now.Add(-age), size: size}
	}
	open := func(c keptCommand) keptCommand {
		c.expiresAt = now.Add(time.Minute)
		return c
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name     string
		commands []keptCommand
		space    int64
		want     []string
	}{
		{"nothing", nil, 100, nil},
		{"all young and small", []keptCommand{command("a", 29*day, 50), command("b", day, 50)}, 100, nil},
		{"too old", []keptCommand{command("a", 30*day, 1), command("b", 30*day-1, 1)}, 100, []string{"a"}},
		{"old, but a node may still report", []keptCommand{open(command("a", 31*day, 1))}, 100, nil},
		{"crowded: the oldest go until the rest fits", []keptCommand{command("a", 3*day, 60), command("b", 2*day, 60), command("c", day, 40)}, 100, []string{"a"}},
		{"crowded, and it may still be reported", []keptCommand{open(command("a", 3*day, 60)), command("b", 2*day, 60)}, 100, []string{"a"}},
		{"what has just ended stays, however large", []keptCommand{command("a", 59*time.Minute, 600)}, 100, nil},
		{"one that has just ended saves no older one", []keptCommand{command("a", day, 10), command("b", time.Minute, 600), command("c", 2*time.Hour, 10)}, 100, []string{"a", "c"}},
		{"what goes by age makes room", []keptCommand{command("a", 40*day, 90), command("b", day, 90)}, 100, []string{"a"}},
	} {
		if got := outdated(c.commands, now, 30*day, c.space); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v go, want %v", c.name, got, c.want)
		}
	}
}

// A command goes wholly, with every key that its records and indexes have, and
// nothing of another goes with it; whatever is interrupted is finished later.
func TestSweepCommands(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	memory := newMemory()
	put := func(id string, nodes int, ended time.Time) {
		command := raftstore.Command{ID: id, RequestedAt: now.Add(-50 * 24 * time.Hour), ExpiresAt: now.Add(-49 * 24 * time.Hour)}
		state := raftstore.CommandState{ID: id, Status: "Success", FinishedAt: ended}
		var txn raftstore.Txn
		txn.PutNewCommand(command, state)
		for n := range nodes {
			txn.PutInvocation(raftstore.Invocation{CommandID: id, NodeID: fmt.Sprintf("mi-%05d", n), RequestedAt: command.RequestedAt, FinishedAt: ended})
		}
		txn.PutAudit(raftstore.AuditEntry{ID: id, Time: ended})
		memory.must(txn)
	}
	old, young := now.Add(-40*24*time.Hour), now.Add(-time.Hour)
	put("old", 3000, old)
	put("older", 2, old)
	put("open", 2, time.Time{})
	put("young", 2, young)

	faults := []writeFault{writeFine, writeDoneUnknown, writeFine, writeLostUnknown, writeLateUnknown, writeFine}
	store := &replica{memory: memory, fault: func() writeFault {
		fault := faults[0]
		faults = append(faults[1:], fault)
		return fault
	}}
	s := &sweeper{store: store, settings: Settings{AuditRetention: 30 * 24 * time.Hour}.withDefaults(), now: func() time.Time { return now }, kept: map[string]keptCommand{}}
	failures := 0
	for err := s.once(t.Context()); err != nil; err = s.once(t.Context()) {
		if failures++; failures > 20 {
			t.Fatal(err)
		}
		s.kept = map[string]keptCommand{} // as another leader would begin
		for _, c := range commandIDs(t, memory) {
			if _, err := raftstore.GetCommand(memory, c); err != nil {
				t.Fatalf("command %s is listed and cannot be read: %v", c, err)
			}
		}
	}
	if failures == 0 {
		t.Fatal("no write failed")
	}
	if got := commandIDs(t, memory); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"open", "young"}) {
		t.Fatalf("the commands left are %q", got)
	}
	memory.Scan("", "", func(key string, _ []byte, _ uint64) bool {
		if strings.Contains(key, "old") {
			t.Errorf("%s is left", key)
		}
		return true
	})
	for _, id := range []string{"open", "young"} {
		found := 0
		if err := raftstore.ScanInvocations(memory, id, "", func(raftstore.Invocation) bool { found++; return true }); err != nil || found != 2 {
			t.Fatalf("%s has %d invocations (%v), want 2", id, found, err)
		}
	}
}

func commandIDs(t *testing.T, r raftstore.Reader) []string {
	t.Helper()
	var ids []string
	raftstore.ScanCommands(r, "", func(_, id string) bool {
		ids = append(ids, id)
		return true
	})
	return ids
}
