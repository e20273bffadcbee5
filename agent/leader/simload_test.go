package leader

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

const (
	// storm is how long new faults come.
	storm = 60 * time.Second
	// patience is the delivery time of commands that outlive every fault.
	patience = 4 * time.Minute
)

// schedule draws what will happen.
func (s *simulation) schedule() {
	some := func(most int, what func()) {
		for range s.rng.IntN(most + 1) {
			s.after(s.upTo(storm), what)
		}
	}
	for n := range 1 + s.rng.IntN(6) {
		s.after(s.upTo(30*time.Second), func() { s.newCommand(n) })
	}
	some(4, s.lead)
	some(2, func() {
		s.leader.die("killed")
		s.after(s.upTo(3*time.Second), s.lead)
	})
	some(6, func() {
		m := s.any()
		m.kill()
		s.after(s.upTo(20*time.Second), func() { m.boot(s.chance(0.4)) })
	})
	some(3, func() { s.any().freeze(s.upTo(25 * time.Second)) })
	some(2, s.cut)
	some(1, func() { s.join() })
	some(2, s.retag)
	if s.chance(0.2) {
		s.after(s.upTo(storm), func() { s.removeNode(s.any()) })
	}
	if s.chance(0.1) {
		s.after(s.upTo(storm), s.jump)
	}
	if s.chance(0.04) {
		s.after(s.upTo(storm), s.restore)
	}
	s.after(storm, func() {
		s.calm = true
		s.note("calm")
		s.memory.settleLate()
		s.lead()
		for _, m := range s.machines {
			m.deaf, m.mute = false, false
			m.boot(false)
			s.sight(m, true)
		}
	})
}

// join enrols one more node.
func (s *simulation) join() {
	id := fmt.Sprintf("mi-%02d", len(s.machines))
	m := &machine{sim: s, id: id, up: true, seen: true, jobs: map[string]*simJob{}}
	s.machines = append(s.machines, m)
	s.byID[id] = m
	n := raftstore.Node{ID: id, Name: id, PublicKey: id, Address: id + ":7947", PlatformType: "Linux", Tags: s.tags()}
	if s.chance(0.2) {
		n.PlatformType = "Windows"
	}
	var t raftstore.Txn
	t.PutNode(n)
	s.memory.must(t)
}

func (s *simulation) tags() map[string]string {
	tags := map[string]string{"role": []string{"web", "db"}[s.rng.IntN(2)]}
	if s.chance(0.5) {
		tags["zone"] = []string{"a", "b"}[s.rng.IntN(2)]
	}
	return tags
}

func (s *simulation) retag() {
	n, err := raftstore.GetNode(s.memory, s.any().id)
	if err != nil {
		return // removed
	}
	n.Tags = s.tags()
	s.note("%s has tags %v", n.ID, n.Tags)
	var t raftstore.Txn
	t.PutNode(n)
	s.memory.must(t)
}

// jump sets a node's clock wrong, under its feet.
func (s *simulation) jump() {
	m := s.any()
	m.jumped = true
	m.skew = s.upTo(2*time.Hour) - time.Hour
	s.note("the clock of %s is off by %s", m.id, m.skew)
}

// restore begins a new epoch.
func (s *simulation) restore() {
	mesh, err := raftstore.GetMesh(s.memory)
	if err != nil {
		s.fault("%w", err)
		return
	}
	s.note("a snapshot is restored")
	s.restored = true
	mesh.Epoch++
	var t raftstore.Txn
	t.PutMesh(mesh)
	s.memory.must(t)
	for _, l := range s.leaders {
		if l.replica.frozen != nil {
			l.die("the store was restored")
		}
	}
}

// targets draws one of all the forms that targets have.
func (s *simulation) targets(input map[string]any) {
	target := func(key string, values ...string) map[string]any { return map[string]any{"Key": key, "Values": values} }
	var ids []string
	for _, m := range s.machines {
		if s.chance(0.6) && !m.removed {
			ids = append(ids, m.id)
		}
	}
	if len(ids) == 0 {
		ids = []string{s.machines[0].id}
	}
	switch s.rng.IntN(9) {
	case 0, 1, 2:
		input["InstanceIds"] = ids
	case 3, 4:
		input["Targets"] = []map[string]any{target("tag:role", []string{"web", "db"}[:1+s.rng.IntN(2)]...)}
	case 5:
		input["Targets"] = []map[string]any{target("tag:role", "web"), target("tag:zone", "a", "b")}
	case 6:
		input["Targets"] = []map[string]any{target("tag-key", "zone", "nothing")}
	case 7:
		input["Targets"] = []map[string]any{target("InstanceIds", "*")}
	case 8:
		input["Targets"] = []map[string]any{target("instanceids", ids...)}
	}
}

func (s *simulation) newCommand(n int) {
	patient := n%2 == 0
	text := func(format string, args ...any) *string { v := fmt.Sprintf(format, args...); return &v }
	input := map[string]any{"DocumentName": "AWS-RunShellScript", "Parameters": map[string][]string{"commands": {"true"}}}
	s.targets(input)
	if s.chance(0.7) {
		input["MaxConcurrency"] = []*string{text("%d", 1+s.rng.IntN(5)), text("%d%%", 10+s.rng.IntN(90))}[s.rng.IntN(2)]
	}
	if s.chance(0.7) {
		input["MaxErrors"] = []*string{text("%d", s.rng.IntN(4)), text("%d%%", s.rng.IntN(60))}[s.rng.IntN(2)]
	}
	body, err := json.Marshal(input)
	if err != nil {
		s.fault("%w", err)
		return
	}
	deliver := 5*time.Second + s.upTo(40*time.Second)
	if patient {
		deliver = patience
	}
	mesh, err := raftstore.GetMesh(s.memory)
	if err != nil {
		s.fault("%w", err)
		return
	}
	c := raftstore.Command{
		ID: fmt.Sprintf("c%03d", n), Input: body, Document: json.RawMessage(`{}`), RequestedAt: s.now,
		DeliverUntil: s.now.Add(deliver), ExpiresAt: s.now.Add(deliver + 20*time.Second), Epoch: mesh.Epoch,
	}
	if s.chance(0.2) {
		c.Document = json.RawMessage(`{"for":"Linux"}`)
	}
	s.note("command %s: %s, to start within %s, %s", c.ID, body, deliver, c.Document)
	s.commands = append(s.commands, c)
	var t raftstore.Txn
	t.PutNewCommand(c, raftstore.CommandState{ID: c.ID, Status: "Pending", StatusDetails: "Pending"})
	s.memory.must(t)
	for !patient && s.chance(0.4) {
		s.after(s.upTo([]time.Duration{time.Second, 20 * time.Second}[s.rng.IntN(2)]), func() { s.cancelCommand(c.ID) })
	}
}

// cancelCommand asks for the end of a command, or of some of it, as the API does.
func (s *simulation) cancelCommand(id string) {
	state, err := raftstore.GetCommandState(s.memory, id)
	if err != nil || !state.FinishedAt.IsZero() {
		return
	}
	cancel, _ := raftstore.GetCommandCancel(s.memory, id) // none yet: the zero value
	cancel.CommandID, cancel.RequestedAt = id, s.now
	if s.chance(0.4) {
		cancel.All = true
	} else {
		cancel.NodeIDs = append(slices.Clone(cancel.NodeIDs), s.any().id)
	}
	s.cancelled[id] = true
	s.note("cancel %s: all %t, %v", id, cancel.All, cancel.NodeIDs)
	var t raftstore.Txn
	t.PutCommandCancel(cancel)
	s.memory.must(t)
}

func (s *simulation) removeNode(m *machine) {
	n, err := raftstore.GetNode(s.memory, m.id)
	if err != nil {
		return
	}
	s.note("%s is removed from the mesh", m.id)
	m.removed = true
	var t raftstore.Txn
	t.DeleteNode(n)
	s.memory.must(t)
	for _, l := range s.leaders {
		if !l.dead {
			l.engine.nodesChanged()
			s.after(0, l.step)
		}
	}
}

// checkAccepted: a job is there only when its start is committed, and never when
// its invocation has ended as one that was not started.
func (s *simulation) checkAccepted(m *machine, job peer.Job) {
	i, err := raftstore.GetInvocation(s.memory, job.CommandID, m.id)
	switch {
	case m.removed:
	case err != nil || i.DispatchedAt.IsZero():
		s.fault("command %s came to %s, and no start is committed: %+v, %v", job.CommandID, m.id, i, err)
	case s.neverStarted(&i):
		s.fault("command %s came to %s after its end as %s: %s", job.CommandID, m.id, i.StatusDetails, i.Reason)
	}
}

// neverStarted: the invocation has ended, and the store says that it did not run.
func (s *simulation) neverStarted(i *raftstore.Invocation) bool {
	return i.StatusDetails == "Terminated" && !strings.HasPrefix(i.Reason, "restored") || i.StatusDetails == "Undeliverable" ||
		i.StatusDetails == "InvalidPlatform" || strings.HasPrefix(i.Reason, "cancelled before") || strings.HasPrefix(i.Reason, "not started")
}

// checkRecalled: a start is taken back only when its node has not got the job.
func (s *simulation) checkRecalled(before *past) {
	for key := range before.was {
		rest, ok := strings.CutPrefix(key, "invocation/")
		if !ok {
			continue
		}
		id, node, _ := strings.Cut(rest, "/")
		old, err := raftstore.GetInvocation(before, id, node)
		if err != nil || old.DispatchedAt.IsZero() {
			continue
		}
		i, err := raftstore.GetInvocation(s.memory, id, node)
		if j := s.byID[node].jobs[id]; err == nil && j != nil && !s.byID[node].removed && (i.DispatchedAt.IsZero() || s.neverStarted(&i) && j.starts > 0) {
			s.fault("command %s on %s is %s (%s), and the node has it", id, node, i.StatusDetails, i.Reason)
		}
	}
}

// acknowledged checks that an acknowledged report is in the store.
func (s *simulation) acknowledged(m *machine, j *simJob, report peer.JobReport) {
	i, err := raftstore.GetInvocation(s.memory, j.job.CommandID, m.id)
	if err != nil || i.Sequence < report.Sequence && !(i.Terminal() && report.FinishedAt.IsZero()) {
		s.fault("command %s on %s: report %d was acknowledged and is not in the store (%+v, %v)", j.job.CommandID, m.id, report.Sequence, i, err)
	}
	if j.acked = max(j.acked, report.Sequence); !report.FinishedAt.IsZero() && j.told.IsZero() {
		j.told = s.now
	}
}

// checkRunning counts what truly runs.
func (s *simulation) checkRunning(id string) {
	running, limit := 0, 0
	if state, err := raftstore.GetCommandState(s.memory, id); err == nil {
		limit = state.MaxConcurrency
	}
	for _, m := range s.machines {
		if j := m.jobs[id]; j != nil {
			if j.starts > 1 {
				s.fault("command %s ran %d times on %s", id, j.starts, m.id)
			}
			if j.running && !m.removed {
				running++
			}
		}
	}
	if running > limit {
		s.fault("command %s: %d run at once, MaxConcurrency is %d", id, running, limit)
	}
}

// prove is what every schedule ends with.
func (s *simulation) prove() {
	if active := raftstore.ActiveCommands(s.memory); len(active) > 0 {
		s.fault("commands %v never ended", active)
	}
	if n := len(s.leader.engine.commands) + len(s.leader.engine.links); n > 0 {
		s.fault("the engine remembers %d commands and %d links of ended commands", len(s.leader.engine.commands), len(s.leader.engine.links))
	}
	for _, c := range s.commands {
		s.proveLimits(c)
		err := raftstore.ScanInvocations(s.memory, c.ID, "", func(i raftstore.Invocation) bool {
			s.proveInvocation(c, &i)
			return true
		})
		if err != nil {
			s.fault("%w", err)
		}
	}
}

// proveLimits: a percentage of the targets is never exceeded, not even by a part of
// one of them.
func (s *simulation) proveLimits(c raftstore.Command) {
	state, err := raftstore.GetCommandState(s.memory, c.ID)
	if err != nil {
		s.fault("%w", err)
		return
	}
	var input struct{ MaxConcurrency, MaxErrors string }
	if err := json.Unmarshal(c.Input, &input); err != nil {
		s.fault("%w", err)
	}
	check := func(spec string, has, least int) {
		digits, percent := strings.CutSuffix(spec, "%")
		if n, _ := strconv.Atoi(digits); percent && has > least && has*100 > n*state.TargetCount {
			s.fault("command %s: %s of %d targets became %d", c.ID, spec, state.TargetCount, has)
		}
	}
	check(input.MaxConcurrency, state.MaxConcurrency, 1)
	check(input.MaxErrors, state.MaxErrors, 0)
}

func (s *simulation) proveInvocation(c raftstore.Command, i *raftstore.Invocation) {
	m := s.byID[i.NodeID]
	j := m.jobs[c.ID]
	if j == nil {
		j = &simJob{}
	}
	sound := !m.removed && !m.jumped && !s.restored
	switch {
	case !i.Terminal():
		s.fault("command %s on %s never ended", c.ID, i.NodeID)
	case j.starts > 1:
		s.fault("command %s ran %d times on %s", c.ID, j.starts, i.NodeID)
	case i.DispatchedAt.After(c.DeliverUntil.Add(time.Second)):
		s.fault("command %s on %s was started at %s, the time to start was over at %s", c.ID, i.NodeID, i.DispatchedAt, c.DeliverUntil)
	case i.StatusDetails == detailSuccess && j.details != detailSuccess:
		s.fault("command %s on %s: Success without a run", c.ID, i.NodeID)
	case j.starts > 0 && !m.removed && s.neverStarted(i):
		s.fault("command %s on %s: %s (%s), but it ran", c.ID, i.NodeID, i.StatusDetails, i.Reason)
	case j.starts == 0 && sound && i.StatusDetails == detailDeliveryTimedOut && c.DeliverUntil.Sub(c.RequestedAt) == patience:
		s.fault("command %s never started on %s, which was there: %s", c.ID, i.NodeID, i.Reason)
	case i.StatusDetails == detailSuccess && i.Reason != "":
		s.fault("command %s on %s: a repeated report was taken for another: %s", c.ID, i.NodeID, i.Reason)
	case i.StatusDetails == detailCancelled && !s.cancelled[c.ID]:
		s.fault("command %s on %s is cancelled, and nobody asked for it", c.ID, i.NodeID)
	case sound && !j.told.IsZero() && j.told.Add(time.Second).Before(c.ExpiresAt) && i.StatusDetails != j.details:
		s.fault("command %s on %s: the node reported %s in time and the store has %s (%s)", c.ID, i.NodeID, j.details, i.StatusDetails, i.Reason)
	case !m.removed && !j.told.IsZero() && i.StatusDetails != j.details && !strings.Contains(i.Reason, "the node reported later: "+j.details):
		s.fault("command %s on %s: the node reported %s, was told that it is kept, and the store has %s (%s)", c.ID, i.NodeID, j.details, i.StatusDetails, i.Reason)
	}
}
