package leader

import (
	"errors"
	"testing"

	"fleetmesh/agent/peer"
)

// TestABatchThatWasOvertakenIsRefused: the outcome of a batch is unknown, another
// leader starts the command on another node, and this node leads again before its
// old engine has noticed. What that engine tries once more starts nothing, though
// nobody has touched the invocation that it would start: the batch names the
// counters that it was decided on.
func TestABatchThatWasOvertakenIsRefused(t *testing.T) {
	b := newBench(t, 2)
	b.away["mi-0000"], b.away["mi-0001"] = true, true
	b.send("c", `{"MaxConcurrency":"1","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	b.turn()
	former, tries := b.engine, 0
	former.unknownPause = 0
	former.store = &replica{memory: b.memory, term: b.memory.term, fault: func() writeFault {
		if tries++; tries > 1 {
			return writeFine
		}
		term := b.memory.term
		b.away["mi-0000"], b.away["mi-0001"] = false, true
		b.succeed()
		if calls := b.turn(); len(calls) != 1 || calls[0].nodeID != "mi-0000" {
			t.Fatalf("the other leader makes %d calls", len(calls))
		}
		b.memory.term = term
		return writeLostUnknown
	}}
	b.away["mi-0001"] = false
	former.membersChanged()
	if err := former.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tries < 2 {
		t.Fatal("the batch was not tried again")
	}
	if s := b.state("c"); s.InFlight != 1 {
		t.Errorf("%d are in flight, MaxConcurrency is 1", s.InFlight)
	}
	if i := b.invocation("c", "mi-0001"); i.InFlight() {
		t.Error("the overtaken batch has started a node")
	}
}

// What a deposed leader has never heard of may have been started by its successor.
func TestADeposedLeaderDisownsNothing(t *testing.T) {
	b := newBench(t, 1)
	former := &replica{memory: b.memory, term: b.memory.term, frozen: b.memory.clone()}
	b.succeed()
	b.send("c", byRole)
	b.accept(b.turn())
	present := recordsOnly{Records: &replica{memory: b.memory, term: b.memory.term}}
	for _, c := range []struct {
		name    string
		store   Store
		unknown []string
		want    peer.RefusalKind
	}{
		{"deposed", recordsOnly{Records: former}, []string{"c"}, peer.RefusedNotLeader},
		{"it became known meanwhile", present, []string{"d", "c"}, peer.RefusedUnavailable},
		{"nobody knows it", present, []string{"d"}, ""},
		{"deposed, and all is committed", recordsOnly{Records: former}, nil, ""},
	} {
		err := disown(t.Context(), c.store, "mi-0000", c.unknown)
		var refusal *peer.Refusal
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.As(err, &refusal) || refusal.Kind != c.want):
			t.Errorf("%s: %v, want a refusal %s", c.name, err, c.want)
		}
	}
}
