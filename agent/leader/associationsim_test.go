package leader

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

var associationSeeds = flag.Int("association.seeds", 60, "random schedules of TestAssociationModel")

// associationModel is a mesh for associations: real transactions, leaders whose writes
// fail in every way and whose clocks differ, nodes that come and go, and a stand-in for
// the dispatcher.
type associationModel struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	memory *memory
	now    time.Time
	began  time.Time
	skew   time.Duration
	leader *associations
	alive  map[string]bool
	// sent is how often a command began on a node.
	sent map[string]int
	// runs are the moments at which anything of an association began on a node.
	runs map[string][]time.Time
	// faults: writes fail.
	faults bool
	// starts are the daemons' starts.
	starts map[string]uint64
}

func newAssociationModel(t *testing.T, seed uint64, nodes int) *associationModel {
	m := &associationModel{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), memory: newMemory(), alive: map[string]bool{},
		sent: map[string]int{}, runs: map[string][]time.Time{}, starts: map[string]uint64{}, now: time.Date(2026, 3, 2, 10, 7, 13, 0, time.UTC),
	}
	m.began = m.now
	var txn raftstore.Txn
	txn.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	m.memory.must(txn)
	for range nodes {
		m.join()
	}
	m.lead()
	return m
}

func (m *associationModel) join() string {
	id := fmt.Sprintf("mi-%017x", len(m.alive))
	var txn raftstore.Txn
	txn.PutNode(raftstore.Node{ID: id, Name: id, PublicKey: id, PlatformType: "Linux", Tags: map[string]string{"role": "web"}})
	m.memory.must(txn)
	m.alive[id], m.starts[id] = true, 1
	m.look()
	return id
}

// look tells the leader that nodes may have changed.
func (m *associationModel) look() {
	if m.leader != nil {
		m.leader.nodesChanged = true
	}
}

// lead lets another node lead, with a clock of its own.
func (m *associationModel) lead() {
	m.memory.term++
	if m.faults {
		m.skew = time.Duration(m.rng.IntN(360)-180) * time.Second
	}
	r := &replica{memory: m.memory, term: m.memory.term, depose: func() {}, regain: func() {}, fault: func() writeFault {
		if m.faults && m.rng.IntN(6) == 0 {
			return writeFault(1 + m.rng.IntN(int(writeFaults)-2))
		}
		return writeFine
	}}
	m.leader = newAssociations(Config{
		Store: modelStore{Records: r}, Members: modelMembers(m.alive), Log: slog.New(slog.DiscardHandler), Settings: Settings{}.withDefaults(),
		Now: func() time.Time { return m.now.Add(m.skew) }, Compose: modelCompose,
		Started: func(id string) uint64 { return m.starts[id] },
	})
}

// modelStore is a Store of which only the records are used.
type modelStore struct {
	Store
	Records
}

func (s modelStore) Apply(ctx context.Context, t raftstore.Txn) (uint64, error) {
	return s.Records.Apply(ctx, t)
}
func (s modelStore) View(fn func(raftstore.Reader) error) error { return s.Records.View(fn) }

type modelMembers map[string]bool

func (m modelMembers) Alive(id string) bool                 { return m[id] }
func (m modelMembers) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// modelCompose makes a command of what an association asks for.
func modelCompose(r raftstore.Reader, in *ssm.SendCommandInput, id, caller string, now time.Time) (raftstore.Command, raftstore.CommandState, string, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return raftstore.Command{}, raftstore.CommandState{}, "", err
	}
	if *in.DocumentName == "Gone" {
		return raftstore.Command{}, raftstore.CommandState{}, "there is no document", nil
	}
	deliver := now.Add(time.Duration(*in.TimeoutSeconds) * time.Second)
	return raftstore.Command{ID: id, Input: body, DocumentName: *in.DocumentName, DocumentVersion: "1", Caller: caller, RequestedAt: now, DeliverUntil: deliver, ExpiresAt: deliver.Add(time.Hour), Epoch: 1},
		raftstore.CommandState{ID: id, Status: "Pending", StatusDetails: "Pending"}, "", nil
}

// put makes an association, or its next version, as the API of a node with the present
// leader's clock does.
func (m *associationModel) put(id string, in map[string]any) {
	m.t.Helper()
	m.memory.settleLate()
	now := m.now.Add(m.skew)
	input, err := json.Marshal(in)
	if err != nil {
		m.t.Fatal(err)
	}
	var txn raftstore.Txn
	a, err := raftstore.GetAssociation(m.memory, id)
	state, _ := raftstore.GetAssociationState(m.memory, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		a = raftstore.Association{ID: id, CreatedAt: now, ScheduledSince: now}
		state = raftstore.AssociationState{ID: id}
	}
	if !state.NextDue.IsZero() {
		txn.DeleteAssociationDue(raftstore.AssociationDue{AssociationID: id, At: state.NextDue, Cause: raftstore.AssociationScheduled})
	}
	a.Version++
	a.Input, a.UpdatedAt, a.DocumentName = input, now, in["Name"].(string)
	p, err := planAssociation(a)
	if err != nil {
		m.t.Fatal(err)
	}
	state.NextDue = p.next(now)
	txn.PutAssociation(a)
	txn.PutAssociationState(state)
	txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: id, At: now, Cause: raftstore.AssociationChanged + strconv.Itoa(a.Version)})
	if !state.NextDue.IsZero() {
		txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: id, At: state.NextDue, Cause: raftstore.AssociationScheduled})
	}
	m.memory.must(txn)
}

// work lets the leader work until it has nothing to do now, and the dispatcher after
// it. A leader whose write fails is one that was killed there: another goes on.
func (m *associationModel) work() {
	m.t.Helper()
	for range 200 {
		before := m.memory.index
		next, err := m.leader.once(context.Background())
		if err != nil {
			if !errors.Is(err, raftstore.ErrUnknownOutcome) && !errors.Is(err, raftstore.ErrNotLeader) {
				m.t.Fatalf("seed %d: %v", m.seed, err)
			}
			m.lead()
			continue
		}
		m.dispatch()
		if m.memory.index == before && (next.IsZero() || next.After(m.now.Add(m.skew))) {
			return
		}
	}
	m.t.Fatalf("seed %d: the leader finds no end", m.seed)
}

// dispatch is the dispatcher with nodes that run everything at once.
func (m *associationModel) dispatch() {
	m.memory.settleLate()
	for _, id := range raftstore.ActiveCommands(m.memory) {
		command, err := raftstore.GetCommand(m.memory, id)
		if err != nil {
			m.t.Fatal(err)
		}
		state, _ := raftstore.GetCommandState(m.memory, id)
		cancel, _ := raftstore.GetCommandCancel(m.memory, id)
		in := &ssm.SendCommandInput{}
		if err := json.Unmarshal(command.Input, in); err != nil {
			m.t.Fatal(err)
		}
		var txn raftstore.Txn
		open, failed := 0, 0
		was := state
		var nodes []raftstore.Node
		_ = raftstore.ScanNodes(m.memory, "", func(n raftstore.Node) bool { nodes = append(nodes, n); return true })
		for _, n := range nodes {
			i, err := raftstore.GetInvocation(m.memory, id, n.ID)
			if errors.Is(err, raftstore.ErrNotFound) {
				if state.Resolved || !matches(n, in) {
					continue
				}
				i = raftstore.Invocation{CommandID: id, NodeID: n.ID, Status: invocationPending, StatusDetails: detailPending}
			}
			old := i
			switch {
			case i.Terminal():
			case cancel.All || cancel.Waiting:
				i = ended(i, invocationCancelled, detailCancelled, "", m.now)
			case m.alive[n.ID]:
				i.DispatchedAt = m.now.Add(m.skew)
				i = ended(i, invocationSuccess, detailSuccess, "", m.now)
				m.sent[id+" "+n.ID]++
				m.runs[command.Caller+" "+n.ID] = append(m.runs[command.Caller+" "+n.ID], m.now)
			case !m.now.Add(m.skew).Before(command.DeliverUntil):
				i = ended(i, invocationTimedOut, detailDeliveryTimedOut, "", m.now)
			}
			if !i.Terminal() {
				open++
			} else if i.Status != invocationSuccess {
				failed++
			}
			if i.Status != old.Status || i.ModifyIndex == 0 {
				txn.PutInvocation(i)
			}
		}
		state.Resolved = true
		if open == 0 {
			state.Status, state.StatusDetails, state.FinishedAt = invocationSuccess, detailSuccess, m.now
			if failed > 0 {
				state.Status, state.StatusDetails = invocationFailed, detailIncomplete
			}
		}
		if len(txn.Ops) > 0 || state != was {
			txn.PutCommandState(state)
			m.memory.must(txn)
		}
	}
}

// pass lets time go by, in steps.
func (m *associationModel) pass(d, step time.Duration) {
	m.t.Helper()
	for end := m.now.Add(d); m.now.Before(end); {
		m.now = m.now.Add(step)
		m.look()
		m.work()
	}
}

// away and back are a node that gossip gives up, and that answers again.
func (m *associationModel) away(id string) {
	m.alive[id] = false
	m.memory.settleLate()
	n, err := raftstore.GetNode(m.memory, id)
	if err != nil {
		m.t.Fatal(err)
	}
	n.LastPing = m.now.Add(m.skew)
	var txn raftstore.Txn
	txn.PutNode(n)
	m.memory.must(txn)
	m.look()
}

func (m *associationModel) back(id string) {
	m.alive[id] = true
	m.look()
}

func (m *associationModel) executions(id string) []raftstore.AssociationExecution {
	m.memory.settleLate()
	var all []raftstore.AssociationExecution
	if err := raftstore.ScanAssociationExecutions(m.memory, id, "", func(_ string, e raftstore.AssociationExecution) bool {
		all = append(all, e)
		return true
	}); err != nil {
		m.t.Fatal(err)
	}
	return all
}

func everywhere(schedule string) map[string]any {
	in := map[string]any{"Name": "State", "Targets": []map[string]any{{"Key": "InstanceIds", "Values": []string{"*"}}}}
	if schedule != "" {
		in["ScheduleExpression"] = schedule
	}
	return in
}

const modelAssociation = "6f1e2d3c-4b5a-4697-8877-665544332211"

// TestAssociationModel: leaders are killed before, in and after their writes, their
// clocks differ, the association is updated meanwhile: of each time of the schedule
// there is one run, on each node at most once.
func TestAssociationModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*associationSeeds) {
		m := newAssociationModel(t, seed, 3)
		m.faults = true
		m.put(modelAssociation, everywhere("rate(30 minutes)"))
		since, _ := raftstore.GetAssociation(m.memory, modelAssociation)
		for range 40 {
			m.now = m.now.Add(time.Duration(1+m.rng.IntN(10)) * time.Minute)
			switch m.rng.IntN(12) {
			case 0:
				m.lead()
			case 1:
				m.work() // what was due before, by this leader's clock
				m.put(modelAssociation, everywhere("rate(30 minutes)"))
			case 2:
				m.away("mi-00000000000000001")
			case 3:
				m.back("mi-00000000000000001")
			}
			m.work()
		}
		m.faults = false
		m.lead()
		m.pass(10*time.Minute, time.Minute)
		times := map[int64]int{}
		last := int64(0)
		for _, e := range m.executions(modelAssociation) {
			if e.ID != associationExecutionID(e.AssociationID, e.Version, raftstore.AssociationClaimName(e.Cause, e.ScheduledFor)) {
				t.Errorf("seed %d: the id of %s does not follow from its claim", seed, e.Cause)
			}
			if e.Cause == raftstore.AssociationScheduled {
				n := int64(e.ScheduledFor.Sub(since.ScheduledSince) / (30 * time.Minute))
				times[n]++
				last = max(last, n)
			}
			if _, err := raftstore.GetCommand(m.memory, e.ID); err != nil != e.NoCommand {
				t.Errorf("seed %d: run %s without command %t: %v", seed, e.Cause, e.NoCommand, err)
			}
		}
		for n := int64(1); n <= last; n++ {
			if times[n] != 1 {
				t.Errorf("seed %d: %d runs of time %d", seed, times[n], n)
			}
		}
		if passed := int64(m.now.Add(-3*time.Minute).Sub(since.ScheduledSince) / (30 * time.Minute)); last < passed {
			t.Errorf("seed %d: the last run is of time %d, and %d have passed", seed, last, passed)
		}
		for key, times := range m.sent {
			if times != 1 {
				t.Errorf("seed %d: %s ran %d times", seed, key, times)
			}
		}
		if commands := raftstore.ActiveAssociationExecutions(m.memory, ""); len(commands) > 1 {
			t.Errorf("seed %d: %d runs do not end", seed, len(commands))
		}
		if t.Failed() {
			return
		}
	}
}

// A node that was away for days runs once when it is back, whatever it has missed.
func TestAssociationCatchesUpOnce(t *testing.T) {
	t.Parallel()
	for _, schedule := range []string{"rate(30 minutes)", "rate(1 day)", "cron(0 2 * * ? *)", ""} {
		m := newAssociationModel(t, 1, 2)
		node := "mi-00000000000000001"
		m.put(modelAssociation, everywhere(schedule))
		m.work()
		m.pass(5*time.Minute, time.Minute)
		m.away(node)
		m.pass(50*time.Hour+11*time.Minute, 7*time.Minute)
		before := len(m.runs["association/"+modelAssociation+" "+node])
		if before != 1 {
			t.Errorf("%q: %d runs before it was away", schedule, before)
		}
		m.back(node)
		m.work()
		m.pass(5*time.Minute, time.Minute)
		if after := len(m.runs["association/"+modelAssociation+" "+node]); after != 2 {
			t.Errorf("%q: %d runs after its return, not one", schedule, after-before)
		}
		s, err := raftstore.GetAssociationTarget(m.memory, modelAssociation, node)
		if err != nil || s.Status != "Success" {
			t.Errorf("%q: it stands as %+v, %v", schedule, s, err)
		}
		state, _ := raftstore.GetAssociationState(m.memory, modelAssociation)
		if state.Counts["Success"] != 2 || len(state.Counts) != 1 {
			t.Errorf("%q: the nodes stand as %v", schedule, state.Counts)
		}
		c, err := raftstore.GetCompliance(m.memory, complianceAssociation, node)
		if err != nil || c.Compliant.Unspecified != 1 || c.NonCompliant.Unspecified != 0 {
			t.Errorf("%q: compliance %+v, %v", schedule, c, err)
		}
	}
}

// A daemon that is started anew before gossip misses it has returned as well; one that
// comes and goes runs it each half an hour.
func TestAssociationAfterAQuickStart(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 2)
	node := "mi-00000000000000001"
	runs := func() int { return len(m.runs["association/"+modelAssociation+" "+node]) }
	m.put(modelAssociation, everywhere(""))
	m.work()
	for minute, want := range []int{2, 2, 2} { // the creation, and the first start
		m.starts[node]++
		m.pass(time.Minute, time.Minute)
		if got := runs(); got != want {
			t.Errorf("%d runs after start %d, not %d", got, minute+1, want)
		}
	}
	m.pass(time.Hour, time.Minute)
	if got := runs(); got != 3 {
		t.Errorf("%d runs in all, not 3", got)
	}
	m.lead()
	m.pass(time.Hour, 10*time.Minute)
	if got := runs(); got != 3 {
		t.Errorf("%d runs under the next leader, not 3", got)
	}
	if got := len(m.runs["association/"+modelAssociation+" mi-00000000000000000"]); got != 1 {
		t.Errorf("%d runs on the other node, not one", got)
	}
}

// An association that runs at its times only does nothing when it is made or changed,
// nor when a node joins or returns.
func TestAssociationOnlyAtItsTimes(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 2)
	in := everywhere("cron(0 12 * * ? *)")
	in["ApplyOnlyAtCronInterval"] = true
	m.put(modelAssociation, in)
	m.work()
	m.join()
	m.away("mi-00000000000000001")
	m.work()
	m.back("mi-00000000000000001")
	m.put(modelAssociation, in)
	m.pass(90*time.Minute, 5*time.Minute)
	if e := m.executions(modelAssociation); len(e) != 0 {
		t.Errorf("it ran before its time: %+v", e)
	}
	m.pass(time.Hour, 5*time.Minute)
	e := m.executions(modelAssociation)
	if len(e) != 1 || e[0].Counts["Success"] != 3 || !e[0].ScheduledFor.Equal(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("at its time: %+v", e)
	}
}

// A node that joins, or gets the tag, runs what it was not there for; one that loses
// the tag is forgotten.
func TestAssociationFollowsTags(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 1)
	in := map[string]any{"Name": "State", "Targets": []map[string]any{{"Key": "tag:role", "Values": []string{"db"}}}}
	m.put(modelAssociation, in)
	m.work()
	node := m.join()
	m.work()
	if got := m.runs["association/"+modelAssociation+" "+node]; len(got) != 0 {
		t.Errorf("a stranger ran it: %v", got)
	}
	retag := func(role string) {
		n, _ := raftstore.GetNode(m.memory, node)
		n.Tags = map[string]string{"role": role}
		var txn raftstore.Txn
		txn.PutNode(n)
		m.memory.must(txn)
		m.look()
		m.work()
	}
	retag("db")
	if got := m.runs["association/"+modelAssociation+" "+node]; len(got) != 1 {
		t.Errorf("with the tag it ran %d times", len(got))
	}
	retag("web")
	if s, err := raftstore.GetAssociationTarget(m.memory, modelAssociation, node); !errors.Is(err, raftstore.ErrNotFound) {
		t.Errorf("without the tag it is known still: %+v", s)
	}
	if c, err := raftstore.GetCompliance(m.memory, complianceAssociation, node); err != nil || c.Compliant.Unspecified != 0 {
		t.Errorf("without the tag it is compliant still: %+v, %v", c, err)
	}
	state, _ := raftstore.GetAssociationState(m.memory, modelAssociation)
	if len(state.Counts) != 0 {
		t.Errorf("the nodes stand as %v", state.Counts)
	}
}

// Two changes of one association come to one claim: the second finds the first.
func TestAssociationClaimsOnce(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 0)
	e := raftstore.AssociationExecution{ID: "one", AssociationID: modelAssociation, Cause: raftstore.AssociationScheduled, ScheduledFor: m.now, CreatedAt: m.now}
	var first, second raftstore.Txn
	first.PutNewAssociationExecution(e)
	e.ID, e.CreatedAt = "two", m.now.Add(time.Second)
	second.PutNewAssociationExecution(e)
	if _, err := m.memory.commit(first); err != nil {
		t.Fatal(err)
	}
	if _, err := m.memory.commit(second); !errors.Is(err, raftstore.ErrConflict) {
		t.Errorf("the second claim: %v", err)
	}
}

// countingReader counts the keys that are looked at.
type countingReader struct {
	raftstore.Reader
	keys *int
}

func (r countingReader) Get(key string) ([]byte, uint64, bool) {
	*r.keys++
	return r.Reader.Get(key)
}

func (r countingReader) Scan(prefix, start string, fn func(string, []byte, uint64) bool) {
	r.Reader.Scan(prefix, start, func(key string, value []byte, index uint64) bool {
		*r.keys++
		return fn(key, value, index)
	})
}

type countingRecords struct {
	Records
	keys *int
}

func (c countingRecords) View(fn func(raftstore.Reader) error) error {
	return c.Records.View(func(r raftstore.Reader) error { return fn(countingReader{r, c.keys}) })
}

// Where nothing is due a round reads what there is of associations once, and not their
// nodes; a node that changes is looked at alone.
func TestAssociationRoundsReadLittle(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 100)
	in := everywhere("cron(0 2 * * ? *)")
	in["ApplyOnlyAtCronInterval"] = true
	const many = 100
	for i := range many {
		m.put(fmt.Sprintf("6f1e2d3c-4b5a-4697-8877-%012d", i), in)
	}
	m.work()
	keys := 0
	m.leader.store = countingRecords{m.leader.store, &keys}
	round := func() int {
		t.Helper()
		keys = 0
		if _, err := m.leader.once(t.Context()); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if got := round(); got > 2*many {
		t.Errorf("a round in which nothing is due looks at %d keys", got)
	}
	m.away("mi-00000000000000001")
	if got := round(); got > 7*many {
		t.Errorf("a round after a change of one node looks at %d keys", got)
	}
}
