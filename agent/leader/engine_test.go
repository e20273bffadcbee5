package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// bench drives one engine by hand.
type bench struct {
	t      *testing.T
	now    time.Time
	memory *memory
	engine *engine
	away   map[string]bool
	// commits counts the entries since the last look.
	commits int
}

func (b *bench) Alive(id string) bool                 { return !b.away[id] }
func (b *bench) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

func newBench(t *testing.T, nodes int) *bench {
	b := &bench{t: t, now: noon, memory: newMemory(), away: map[string]bool{}}
	b.memory.term = 1
	var birth raftstore.Txn
	birth.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	for n := range nodes {
		id := fmt.Sprintf("mi-%04d", n)
		birth.PutNode(raftstore.Node{ID: id, Name: id, PublicKey: id, Address: id + ":7947", PlatformType: "Linux", Tags: map[string]string{"role": "web"}})
	}
	b.memory.must(birth)
	b.memory.check = func(before *past) {
		b.commits++
		if err := audit(before, b.memory, false); err != nil {
			t.Error(err)
		}
	}
	b.succeed()
	return b
}

// succeed begins a new term with a new engine.
func (b *bench) succeed() {
	b.memory.term++
	b.engine = newEngine(Config{
		Store: recordsOnly{Records: &replica{memory: b.memory, term: b.memory.term}}, Members: b, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return b.now }, Settings: Settings{}.withDefaults(),
		Platforms: func(document json.RawMessage) []string {
			if strings.Contains(string(document), "Windows") {
				return []string{"Windows"}
			}
			return nil
		},
	}, b.memory.term, func() float64 { return 0 })
	b.engine.unknownPause = 0
	if err := b.engine.refresh(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) send(id, input string) {
	var t raftstore.Txn
	c := raftstore.Command{
		ID: id, Input: json.RawMessage(input), Document: json.RawMessage(`{}`), RequestedAt: b.now,
		DeliverUntil: b.now.Add(10 * time.Minute), ExpiresAt: b.now.Add(time.Hour), Epoch: 1,
	}
	if strings.Contains(input, "windows") {
		c.Document = json.RawMessage(`"Windows"`)
	}
	t.PutNewCommand(c, raftstore.CommandState{ID: id, Status: "Pending", StatusDetails: "Pending"})
	b.memory.must(t)
	b.commits = 0
	if err := b.engine.refresh(); err != nil {
		b.t.Fatal(err)
	}
}

// turn is one turn of the loop.
func (b *bench) turn() []*call {
	b.t.Helper()
	if err := b.engine.round(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	calls, err := b.engine.calls()
	if err != nil {
		b.t.Fatal(err)
	}
	return calls
}

func (b *bench) accept(calls []*call) {
	for _, c := range calls {
		a := answer{call: c}
		for _, id := range c.ids {
			a.answers = append(a.answers, peer.JobAnswer{CommandID: id})
		}
		b.engine.takeAnswer(a)
	}
}

func (b *bench) report(node, command string, sequence uint64, status string) *reportCall {
	r := peer.JobReport{CommandID: command, Sequence: sequence, Status: status, StatusDetails: status}
	if status != "InProgress" {
		r.FinishedAt = b.now
	}
	call := &reportCall{nodeID: node, reports: []peer.JobReport{r}, done: make(chan reportResult, 1)}
	b.engine.takeReport(call)
	return call
}

func (b *bench) state(id string) raftstore.CommandState {
	b.t.Helper()
	s, err := raftstore.GetCommandState(b.memory, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) invocation(id, node string) *raftstore.Invocation {
	b.t.Helper()
	i, err := raftstore.GetInvocation(b.memory, id, node)
	if err != nil {
		b.t.Fatal(err)
	}
	return &i
}

const byRole = `{"Targets":[{"Key":"tag:role","Values":["web"]}]}`

func TestOneCommitStartsASmallCommand(t *testing.T) {
	b := newBench(t, 20)
	b.send("c", byRole)
	calls := b.turn()
	if b.commits != 1 || len(calls) != 20 {
		t.Errorf("%d commits and %d calls", b.commits, len(calls))
	}
	if s := b.state("c"); !s.Resolved || s.InFlight != 20 || s.Status != "InProgress" {
		t.Errorf("%+v", s)
	}
	if c := calls[0]; c.jobs[0].CommandID != "c" || c.target.Address != c.nodeID+":7947" || c.fence.Term != b.memory.term || c.fence.Epoch != 1 {
		t.Errorf("%+v", c)
	}
}

func TestALargeCommandStartsInItsFirstEntry(t *testing.T) {
	b := newBench(t, 1000)
	b.send("c", `{"MaxConcurrency":"10%","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	first := 0
	check := b.memory.check
	b.memory.check = func(before *past) {
		check(before)
		if first == 0 {
			first = b.state("c").InFlight
		}
	}
	calls := b.turn()
	if first != 100 || len(calls) != 100 {
		t.Errorf("%d in flight after the first entry, %d calls", first, len(calls))
	}
	if b.commits > 6 {
		t.Errorf("%d entries", b.commits)
	}
}

func TestManyReportsShareACommit(t *testing.T) {
	b := newBench(t, 100)
	b.send("c", `{"MaxConcurrency":"100","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	b.accept(b.turn())
	b.commits = 0
	var waiting []*reportCall
	for n := range 100 {
		waiting = append(waiting, b.report(fmt.Sprintf("mi-%04d", n), "c", 1, "Success"))
		if n < 99 {
			b.turn()
			if b.commits != 0 {
				t.Fatal("a report was committed alone although others were expected at once")
			}
		}
	}
	b.turn() // all that were expected are there: now
	if b.commits != 1 {
		t.Errorf("%d commits", b.commits)
	}
	for _, call := range waiting {
		select {
		case r := <-call.done:
			if r.err != nil || len(r.unknown) > 0 {
				t.Errorf("%+v", r)
			}
		default:
			t.Fatal("a report was committed and not acknowledged")
		}
	}
	if s := b.state("c"); s.Status != "Success" || s.CompletedCount != 100 {
		t.Errorf("%+v", s)
	}
}

func TestAReportAloneWaitsOnlyShortly(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", byRole)
	b.accept(b.turn())
	call := b.report("mi-0000", "c", 1, "Success")
	b.turn()
	if len(call.done) != 0 {
		t.Fatal("acknowledged before it was committed")
	}
	if wake := b.engine.nextWake(); !wake.Equal(b.now.Add(b.engine.settings.ReportDelay)) {
		t.Errorf("woken at %v", wake)
	}
	b.now = b.engine.nextWake()
	b.turn()
	if len(call.done) != 1 || b.invocation("c", "mi-0000").Status != "Success" {
		t.Error("not committed when its time had come")
	}
}

func TestUnknownCommandsAreNamed(t *testing.T) {
	b := newBench(t, 1)
	call := b.report("mi-0000", "nobody-knows", 1, "Success")
	b.now = b.engine.nextWake()
	b.turn()
	if r := <-call.done; len(r.unknown) != 1 || r.err != nil {
		t.Errorf("%+v", r)
	}
}

func TestALateReportOfAnEndedCommandIsDetail(t *testing.T) {
	b := newBench(t, 1)
	b.send("c", byRole)
	b.accept(b.turn())
	b.now = b.now.Add(2 * time.Hour)
	b.turn()
	if s := b.state("c"); s.StatusDetails != "DeliveryTimedOut" {
		t.Fatalf("%+v", s)
	}
	for range 2 { // the second is a repetition
		call := b.report("mi-0000", "c", 2, "Success")
		b.now = b.engine.nextWake()
		b.turn()
		if r := <-call.done; r.err != nil || len(r.unknown) > 0 {
			t.Errorf("%+v", r)
		}
	}
	i := b.invocation("c", "mi-0000")
	if i.StatusDetails != "DeliveryTimedOut" || strings.Count(i.Reason, "the node reported later: Success") != 1 {
		t.Errorf("%+v", i)
	}
}

func TestNobodyHasTheTag(t *testing.T) {
	b := newBench(t, 3)
	b.send("c", `{"Targets":[{"Key":"tag:role","Values":["none"]}]}`)
	b.turn()
	if s := b.state("c"); s.Status != "Success" || s.StatusDetails != "NoInstancesInTag" || s.TargetCount != 0 || s.FinishedAt.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestInvalidPlatform(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", `{"Comment":"windows","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	if calls := b.turn(); len(calls) != 0 {
		t.Error("it was sent")
	}
	if s, i := b.state("c"), b.invocation("c", "mi-0000"); s.Status != "Failed" || i.StatusDetails != "InvalidPlatform" || !strings.Contains(i.Reason, "Windows") || s.ErrorCount != 0 {
		t.Errorf("%+v %+v", s, i)
	}
}

func TestANodeThatIsAwayIsStartedWhenItComes(t *testing.T) {
	b := newBench(t, 3)
	b.away["mi-0001"] = true
	b.send("c", byRole)
	if calls := b.turn(); len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	if i := b.invocation("c", "mi-0001"); i.Status != "Pending" || b.state("c").InFlight != 2 {
		t.Errorf("%+v", i)
	}
	delete(b.away, "mi-0001")
	b.engine.membersChanged()
	if calls := b.turn(); len(calls) != 1 || calls[0].nodeID != "mi-0001" {
		t.Errorf("%d calls", len(calls))
	}
}

func TestAwayUntilTheDeliveryDeadline(t *testing.T) {
	b := newBench(t, 1)
	b.away["mi-0000"] = true
	b.send("c", byRole)
	b.turn()
	b.now = b.engine.nextWake()
	b.turn()
	if s, i := b.state("c"), b.invocation("c", "mi-0000"); s.Status != "TimedOut" || s.DeliveryTimedOutCount != 1 || i.StatusDetails != "DeliveryTimedOut" {
		t.Errorf("%+v %+v", s, i)
	}
}

func TestSilenceIsNotFailure(t *testing.T) {
	b := newBench(t, 1)
	b.send("c", byRole)
	for range 10 {
		calls := b.turn()
		if len(calls) != 1 || calls[0].kind != callJobs {
			t.Fatalf("%d calls", len(calls))
		}
		b.engine.takeAnswer(answer{call: calls[0], err: context.DeadlineExceeded})
		if b.turn(); !b.invocation("c", "mi-0000").InFlight() {
			t.Fatal("it was given up")
		}
		b.now = b.engine.nextWake()
	}
	// Away now: it may have the job, so it stays in flight, and nobody is called.
	b.away["mi-0000"] = true
	b.engine.membersChanged()
	if calls := b.turn(); len(calls) != 0 || !b.invocation("c", "mi-0000").InFlight() {
		t.Error("silence was taken for an answer")
	}
}

func TestAJobThatNeverLeftFreesItsPlace(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", `{"MaxConcurrency":"1","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	calls := b.turn()
	b.away["mi-0000"] = true
	b.engine.takeAnswer(answer{call: calls[0], err: fmt.Errorf("dial: %w", peer.ErrNotSent)})
	calls = b.turn()
	if len(calls) != 1 || calls[0].nodeID != "mi-0001" || b.invocation("c", "mi-0000").Status != "Delayed" || b.state("c").StatusDetails != "InProgress" {
		t.Errorf("%d calls, %+v, %+v", len(calls), b.invocation("c", "mi-0000"), b.state("c"))
	}
	b.report("mi-0001", "c", 1, "Success")
	if b.turn(); b.state("c").Status != "InProgress" || b.state("c").StatusDetails != "Delayed" {
		t.Errorf("only a delayed one is left: %+v", b.state("c"))
	}
	delete(b.away, "mi-0000")
	b.engine.membersChanged()
	b.now = b.now.Add(time.Second) // the pause after the failed attempt
	if calls = b.turn(); len(calls) != 1 || b.invocation("c", "mi-0000").Status != "InProgress" || b.state("c").DelayedCount != 0 {
		t.Errorf("back: %d calls, %+v, %+v", len(calls), b.invocation("c", "mi-0000"), b.state("c"))
	}
}

// A node that is being started anew for a step has its place until its job has
// ended, whoever leads meanwhile and however gossip takes its silence.
func TestARebootingNodeKeepsItsPlace(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", `{"MaxConcurrency":"1","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	b.accept(b.turn())
	held := func(when string) {
		t.Helper()
		for _, c := range b.turn() {
			if c.kind == callJobs || c.nodeID != "mi-0000" {
				t.Errorf("%s: %s is called", when, c.nodeID)
			}
		}
		if s := b.state("c"); s.InFlight != 1 || s.DelayedCount != 0 || !b.invocation("c", "mi-0001").DispatchedAt.IsZero() {
			t.Errorf("%s: %+v, %+v", when, s, b.invocation("c", "mi-0001"))
		}
	}
	b.report("mi-0000", "c", 1, "InProgress")
	held("it runs")
	b.engine.takeReport(&reportCall{nodeID: "mi-0000", done: make(chan reportResult, 1), reports: []peer.JobReport{
		{CommandID: "c", Sequence: 2, Status: "InProgress", StatusDetails: "InProgress", Reason: "rebooting: the step a asks for it"},
	}})
	held("it asks for a boot")
	b.away["mi-0000"] = true
	b.engine.membersChanged()
	for range 3 {
		held("it is down")
		if i := b.invocation("c", "mi-0000"); i.Status != "InProgress" || !strings.HasPrefix(i.Reason, "rebooting: ") {
			t.Errorf("%+v", i)
		}
		b.now = b.now.Add(3 * time.Minute)
		b.succeed()
	}
	held("the time to start is almost over")
	delete(b.away, "mi-0000")
	b.engine.membersChanged()
	held("it is back")
	b.report("mi-0000", "c", 3, "InProgress")
	held("the step runs again")
	b.report("mi-0000", "c", 4, "Success")
	if calls := b.turn(); len(calls) != 1 || calls[0].nodeID != "mi-0001" || calls[0].kind != callJobs {
		t.Errorf("after its end: %d calls, %+v", len(calls), b.state("c"))
	}
}

func TestRampUpHoldsAcrossLeaders(t *testing.T) {
	b := newBench(t, 9)
	b.engine.settings.RampUp = true
	b.send("c", byRole)
	started := func() int { return b.state("c").InFlight + b.state("c").CompletedCount }
	if b.turn(); started() != 1 {
		t.Fatalf("%d started at first", started())
	}
	b.succeed()
	b.engine.settings.RampUp = true
	if b.turn(); started() != 1 {
		t.Fatalf("%d started under a new leader, and the first has not reported", started())
	}
	for n, want := range []int{3, 5, 7, 9, 9} {
		b.report(fmt.Sprintf("mi-%04d", n), "c", 1, []string{"InProgress", "Success"}[n%2])
		b.now = b.now.Add(time.Second)
		if b.turn(); started() != want {
			t.Errorf("%d started after %d reports, want %d", started(), n+1, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, details string
		answer        peer.JobAnswer
		err           error
	}{
		{"refused", "Failed", peer.JobAnswer{CommandID: "c", Refused: "the disk is full"}, nil},
		{"too late by its clock", "DeliveryTimedOut", peer.JobAnswer{CommandID: "c", Refused: "late", TooLate: true}, nil},
		{"malformed", "Failed", peer.JobAnswer{}, &peer.Refusal{Kind: peer.RefusedInput, Message: "too large"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 1)
			b.send("c", byRole)
			b.engine.takeAnswer(answer{call: b.turn()[0], answers: []peer.JobAnswer{c.answer}, err: c.err})
			b.turn()
			if i := b.invocation("c", "mi-0000"); i.StatusDetails != c.details || i.Reason == "" {
				t.Errorf("%+v", i)
			}
		})
	}
}

func TestOneMalformedJobDoesNotCondemnTheOthers(t *testing.T) {
	b := newBench(t, 1)
	b.send("c1", byRole)
	b.send("c2", byRole)
	calls := b.turn()
	if len(calls) != 1 || len(calls[0].jobs) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	refusal := &peer.Refusal{Kind: peer.RefusedInput, Message: "too large"}
	b.engine.takeAnswer(answer{call: calls[0], err: refusal})
	calls = b.turn()
	b.engine.takeAnswer(answer{call: calls[0], err: refusal})
	b.accept(b.turn())
	b.turn()
	if one, two := b.invocation("c1", "mi-0000"), b.invocation("c2", "mi-0000"); one.Status != "Failed" || two.Status != "InProgress" {
		t.Errorf("%s, %s", one.Status, two.Status)
	}
}

func TestANewLeaderAsksFirst(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", byRole)
	b.turn()
	b.succeed()
	calls := b.turn()
	if len(calls) != 2 || calls[0].kind != callStates {
		t.Fatalf("%d calls", len(calls))
	}
	for _, c := range calls {
		a := answer{call: c}
		if c.nodeID == "mi-0001" {
			a.unknown = c.ids
		}
		b.engine.takeAnswer(a)
	}
	calls = b.turn()
	if len(calls) != 1 || calls[0].kind != callJobs || calls[0].nodeID != "mi-0001" {
		t.Errorf("%d calls", len(calls))
	}
}

func TestUnknownPastTheDeliveryDeadline(t *testing.T) {
	b := newBench(t, 1)
	b.send("c", byRole)
	b.turn()
	b.now = b.now.Add(11 * time.Minute)
	b.succeed()
	calls := b.turn()
	b.engine.takeAnswer(answer{call: calls[0], unknown: calls[0].ids})
	if calls := b.turn(); len(calls) != 0 || b.invocation("c", "mi-0000").StatusDetails != "DeliveryTimedOut" {
		t.Errorf("%+v", b.invocation("c", "mi-0000"))
	}
}

func (b *bench) cancel(id string, nodes ...string) {
	var t raftstore.Txn
	t.PutCommandCancel(raftstore.CommandCancel{CommandID: id, All: len(nodes) == 0, NodeIDs: nodes, RequestedAt: b.now})
	b.memory.must(t)
	if err := b.engine.refresh(); err != nil {
		b.t.Fatal(err)
	}
}

func TestCancelOfACommand(t *testing.T) {
	b := newBench(t, 2)
	b.away["mi-0001"] = true
	b.send("c", byRole)
	b.accept(b.turn())
	b.cancel("c")
	calls := b.turn()
	if s := b.state("c"); s.Status != "Cancelling" || b.invocation("c", "mi-0001").Status != "Cancelled" || b.invocation("c", "mi-0000").Status != "Cancelling" {
		t.Errorf("%+v", s)
	}
	for range 3 { // until the node reports the end
		if len(calls) != 1 || calls[0].kind != callCancel {
			t.Fatalf("%d calls", len(calls))
		}
		b.engine.takeAnswer(answer{call: calls[0]})
		if calls := b.turn(); len(calls) != 0 {
			t.Fatal("asked again without a pause")
		}
		b.now = b.engine.nextWake()
		calls = b.turn()
	}
	b.engine.takeAnswer(answer{call: calls[0]})
	b.report("mi-0000", "c", 1, "Cancelled")
	b.turn()
	if s := b.state("c"); s.Status != "Cancelled" {
		t.Errorf("%+v", s)
	}
}

func TestCancelOfOneNode(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", byRole)
	b.accept(b.turn())
	b.cancel("c", "mi-0001")
	b.turn()
	if s := b.state("c"); s.Status != "InProgress" || b.invocation("c", "mi-0000").Status != "InProgress" || b.invocation("c", "mi-0001").Status != "Cancelling" {
		t.Errorf("%+v", s)
	}
}

// A job that may lie in the buffers of a node that stands still is not called
// cancelled because the node says once that it does not have it.
func TestCancelOfAnUncertainJob(t *testing.T) {
	b := newBench(t, 1)
	b.send("c", byRole)
	calls := b.turn()
	b.engine.takeAnswer(answer{call: calls[0], err: context.DeadlineExceeded})
	b.cancel("c")
	b.turn()
	for asked := 1; ; asked++ {
		b.now = b.engine.nextWake()
		calls := b.turn()
		if len(calls) != 1 || calls[0].kind != callStates {
			t.Fatalf("%d calls; it must be asked for, and not sent again", len(calls))
		}
		b.engine.takeAnswer(answer{call: calls[0], unknown: calls[0].ids})
		b.turn()
		if i := b.invocation("c", "mi-0000"); i.Status == "Cancelled" {
			if asked < 2 {
				t.Error("one answer was enough")
			}
			return
		}
		if asked > 3 {
			t.Fatal("it never ends")
		}
	}
}

func TestRemovedNodes(t *testing.T) {
	b := newBench(t, 3)
	b.away["mi-0002"] = true
	b.send("c", byRole)
	b.accept(b.turn())
	for _, id := range []string{"mi-0000", "mi-0002"} {
		n, err := raftstore.GetNode(b.memory, id)
		if err != nil {
			t.Fatal(err)
		}
		var txn raftstore.Txn
		txn.DeleteNode(n)
		b.memory.must(txn)
	}
	b.engine.nodesChanged()
	b.turn()
	for id, details := range map[string]string{"mi-0000": "Failed", "mi-0002": "Undeliverable"} { // the first has it
		if i := b.invocation("c", id); i.Status != "Failed" || i.StatusDetails != details || i.Reason == "" {
			t.Errorf("%+v", i)
		}
	}
	if !b.invocation("c", "mi-0001").InFlight() {
		t.Error("the others go on")
	}
}

func TestTheErrorThresholdIsExact(t *testing.T) {
	b := newBench(t, 10)
	b.send("c", `{"MaxConcurrency":"2","MaxErrors":"1","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	started := b.turn()
	for n := 0; len(started) > 0; n++ {
		b.accept(started[:1])
		b.report(started[0].nodeID, "c", 1, "Failed")
		started = append(started[1:], b.turn()...)
		if n > 10 {
			t.Fatal("it never stops")
		}
	}
	s := b.state("c")
	// Two errors stop it; the one in flight then may fail as the third.
	if s.Status != "Failed" || s.ErrorCount < 2 || s.ErrorCount > 3 || !s.Stopped {
		t.Errorf("%+v", s)
	}
}

func TestRestoredMeshesEndWhatWasUnfinished(t *testing.T) {
	b := newBench(t, 2)
	b.send("c", byRole)
	b.accept(b.turn())
	mesh, err := raftstore.GetMesh(b.memory)
	if err != nil {
		t.Fatal(err)
	}
	mesh.Epoch++
	var txn raftstore.Txn
	txn.PutMesh(mesh)
	b.memory.must(txn)
	b.succeed()
	if calls := b.turn(); len(calls) != 0 {
		t.Error("something was sent")
	}
	if i := b.invocation("c", "mi-0000"); i.StatusDetails != "Terminated" || !strings.HasPrefix(i.Reason, "restored") {
		t.Errorf("%+v", i)
	}
}

func TestAnAccusationStopsEverything(t *testing.T) {
	b := newBench(t, 3)
	b.send("c", byRole)
	calls := b.turn()
	b.engine.takeAnswer(answer{call: calls[0], err: &peer.Refusal{Kind: peer.RefusedStaleTerm}})
	b.now = b.now.Add(time.Minute)
	if calls := b.turn(); len(calls) != 0 || !b.engine.accused {
		t.Error("it goes on")
	}
	b.engine.acquitted()
	if calls := b.turn(); len(calls) == 0 {
		t.Error("it does not go on after a majority has confirmed it")
	}
}

func TestADeposedEngineEnds(t *testing.T) {
	b := newBench(t, 1)
	b.send("c", byRole)
	b.memory.term++
	if err := b.engine.round(context.Background()); !errors.Is(err, raftstore.ErrNotLeader) {
		t.Errorf("%v", err)
	}
	if calls, _ := b.engine.calls(); len(calls) != 0 {
		t.Error("a start that was not committed was sent")
	}
}

func TestCallsInFlightAreBounded(t *testing.T) {
	b := newBench(t, 300)
	b.engine.settings.CallsInFlight = 7
	b.send("c", `{"MaxConcurrency":"300","Targets":[{"Key":"tag:role","Values":["web"]}]}`)
	sent := 0
	for calls := b.turn(); len(calls) > 0; calls = b.turn() {
		if len(calls) > 7 {
			t.Fatalf("%d at once", len(calls))
		}
		sent += len(calls)
		b.accept(calls)
	}
	if sent != 300 {
		t.Errorf("%d sent", sent)
	}
}

func TestAnUnreadableCommandDoesNotStopTheOthers(t *testing.T) {
	b := newBench(t, 1)
	b.send("bad", `{"InstanceIds": 5}`)
	b.send("good", byRole)
	if calls := b.turn(); len(calls) != 1 || calls[0].jobs[0].CommandID != "good" {
		t.Errorf("%d calls", len(calls))
	}
	// A report about it is neither lost nor declared unwanted.
	var txn raftstore.Txn
	txn.PutInvocation(raftstore.Invocation{CommandID: "bad", NodeID: "mi-0000", Status: "InProgress", DispatchedAt: b.now})
	state := b.state("bad")
	state.MaxConcurrency, state.TargetCount, state.InFlight = 1, 1, 1
	txn.PutCommandState(state)
	b.memory.must(txn)
	call := b.report("mi-0000", "bad", 1, "Success")
	b.now = b.engine.nextWake()
	b.turn()
	if r := <-call.done; r.err == nil || len(r.unknown) > 0 {
		t.Errorf("%+v", r)
	}
}
