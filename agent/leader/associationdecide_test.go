package leader

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

// planOf is the plan of an association that was made at since, with the members in.
func planOf(t *testing.T, since time.Time, in map[string]any) *associationPlan {
	t.Helper()
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	p, err := planAssociation(raftstore.Association{ID: modelAssociation, Version: 2, Input: input, DocumentName: "State", ScheduledSince: since})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func clockTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

func TestDecideDue(t *testing.T) {
	t.Parallel()
	with := func(schedule string, more ...any) map[string]any {
		in := everywhere(schedule)
		for i := 0; i < len(more); i += 2 {
			in[more[i].(string)] = more[i+1]
		}
		return in
	}
	times := with("cron(0 2 * * ? *)", "ApplyOnlyAtCronInterval", true)
	for name, test := range map[string]struct {
		in    map[string]any
		cause string
		due   string // the time of the schedule
		next  string // what the state has; due when it is ""
		now   string

		run, spare, halt bool
		scheduledFor     string
		missed           string
		then             string // the next time; "" for not rescheduled
	}{
		"at its time": {in: with("rate(1 hour)"), cause: "scheduled", due: "2026-03-01 11:00:00", now: "2026-03-01 11:00:00",
			run: true, scheduledFor: "2026-03-01 11:00:00", then: "2026-03-01 12:00:00"},
		"a moment late": {in: with("rate(1 hour)"), cause: "scheduled", due: "2026-03-01 11:00:00", now: "2026-03-01 11:00:02",
			run: true, scheduledFor: "2026-03-01 11:00:00", then: "2026-03-01 12:00:00"},
		"one time missed": {in: with("rate(1 hour)"), cause: "scheduled", due: "2026-03-01 11:00:00", now: "2026-03-01 12:30:00",
			run: true, scheduledFor: "2026-03-01 12:00:00", missed: "at 2026-03-01T11:00:00Z", then: "2026-03-01 13:00:00"},
		"days missed: once": {in: with("rate(1 hour)"), cause: "scheduled", due: "2026-03-01 11:00:00", now: "2026-03-03 11:30:00",
			run: true, scheduledFor: "2026-03-03 11:00:00", missed: "48 times", then: "2026-03-03 12:00:00"},
		"another schedule's": {in: with("rate(1 hour)"), cause: "scheduled", due: "2026-03-01 11:00:00", next: "2026-03-01 11:30:00", now: "2026-03-01 11:30:00"},
		"the last time": {in: with("at(2026-03-01T11:00:00)"), cause: "scheduled", due: "2026-03-01 11:00:00", now: "2026-03-01 11:00:00",
			run: true, scheduledFor: "2026-03-01 11:00:00", then: "0001-01-01 00:00:00"},
		"its times only, late within the hour": {in: times, cause: "scheduled", due: "2026-03-02 02:00:00", now: "2026-03-02 02:59:00",
			run: true, scheduledFor: "2026-03-02 02:00:00", then: "2026-03-03 02:00:00"},
		"its times only, too late": {in: times, cause: "scheduled", due: "2026-03-02 02:00:00", now: "2026-03-02 03:00:00",
			scheduledFor: "2026-03-02 02:00:00", missed: "its times only", then: "2026-03-03 02:00:00"},
		"its times only, within its duration": {in: with("cron(0 2 * * ? *)", "ApplyOnlyAtCronInterval", true, "Duration", 3), cause: "scheduled", due: "2026-03-02 02:00:00", now: "2026-03-02 04:30:00",
			run: true, scheduledFor: "2026-03-02 02:00:00", then: "2026-03-03 02:00:00"},
		"with an offset": {in: with("cron(0 2 ? * SUN#1 *)", "ApplyOnlyAtCronInterval", true, "ScheduleOffset", 2), cause: "scheduled", due: "2026-03-03 02:00:00", now: "2026-03-03 02:00:00",
			run: true, scheduledFor: "2026-03-03 02:00:00", then: "2026-04-07 02:00:00"},
		"a new version":                   {in: with(""), cause: "version-2", now: "2026-03-01 10:00:00", run: true, spare: true, halt: true},
		"a version that was replaced":     {in: with(""), cause: "version-1", now: "2026-03-01 10:00:00"},
		"a new version of its times only": {in: times, cause: "version-2", now: "2026-03-01 10:00:00", spare: true, halt: true},
		"a new document":                  {in: with(""), cause: "document-2-7", now: "2026-03-01 10:00:00", run: true, spare: true},
		"a new document, its times only":  {in: times, cause: "document-2-7", now: "2026-03-01 10:00:00", spare: true},
		"asked for":                       {in: with(""), cause: "once-1", now: "2026-03-01 10:00:00", run: true},
		"asked for, its times only":       {in: times, cause: "once-1", now: "2026-03-01 10:00:00", run: true},
		"what nobody knows":               {in: with(""), cause: "later", now: "2026-03-01 10:00:00"},
	} {
		p := planOf(t, clockTime(t, "2026-03-01 10:00:00"), test.in)
		d := raftstore.AssociationDue{AssociationID: modelAssociation, Cause: test.cause, At: clockTime(t, test.now)}
		var state raftstore.AssociationState
		if test.due != "" {
			d.At = clockTime(t, test.due)
			state.NextDue = d.At
		}
		if test.next != "" {
			state.NextDue = clockTime(t, test.next)
		}
		got := decideDue(p, d, state, clockTime(t, test.now))
		var scheduledFor, then time.Time
		if test.scheduledFor != "" {
			scheduledFor = clockTime(t, test.scheduledFor)
		}
		if test.then != "" {
			then = clockTime(t, test.then)
		}
		if got.run != test.run || got.spare != test.spare || got.halt != test.halt || !got.scheduledFor.Equal(scheduledFor) ||
			got.reschedule != (test.then != "") || !got.next.Equal(then) || !strings.Contains(got.missed, test.missed) || (got.missed == "") != (test.missed == "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDecideOwed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	plan := planOf(t, now.Add(-time.Hour), everywhere("rate(1 hour)"))
	once := planOf(t, now.Add(-time.Hour), everywhere(""))
	times := everywhere("cron(0 2 * * ? *)")
	times["ApplyOnlyAtCronInterval"] = true
	since := now.Add(-10 * time.Minute)
	current := raftstore.AssociationState{Version: 2}
	node := raftstore.Node{ID: "mi-1"}
	inFlight := raftstore.Invocation{DispatchedAt: since.Add(-time.Minute)}
	for name, test := range map[string]struct {
		s    owedSituation
		want owedVerdict
		wait time.Duration
	}{
		"it runs":                              {s: owedSituation{plan: plan, state: current}, want: owedRun},
		"the association is gone":              {s: owedSituation{state: current}, want: owedDrop},
		"the node is no target any more":       {s: owedSituation{plan: planOf(t, now, map[string]any{"Name": "State", "Targets": []map[string]any{{"Key": "tag-key", "Values": []string{"db"}}}}), state: current}, want: owedDrop},
		"its times only":                       {s: owedSituation{plan: planOf(t, now, times), state: current}, want: owedDrop},
		"a new version is about to run":        {s: owedSituation{plan: plan, state: raftstore.AssociationState{Version: 1}}, want: owedWait},
		"a run is being resolved":              {s: owedSituation{plan: plan, state: current, unresolved: true}, want: owedWait},
		"the last run was stopped":             {s: owedSituation{plan: plan, state: current, stopped: true}, want: owedDrop},
		"the last run could not begin":         {s: owedSituation{plan: once, state: current, refused: true}, want: owedDrop},
		"stopped, and there is no next":        {s: owedSituation{plan: once, state: current, stopped: true}, want: owedRun},
		"it has run since":                     {s: owedSituation{plan: plan, state: current, stands: raftstore.AssociationTarget{StartedAt: since.Add(time.Second)}}, want: owedDrop},
		"it has run since, unknown to records": {s: owedSituation{plan: plan, state: current, runs: []raftstore.Invocation{{DispatchedAt: since.Add(time.Second), FinishedAt: now}}}, want: owedDrop},
		"it waits in a run":                    {s: owedSituation{plan: plan, state: current, runs: []raftstore.Invocation{{}}}, want: owedDrop},
		"it runs still":                        {s: owedSituation{plan: plan, state: current, runs: []raftstore.Invocation{inFlight}}, want: owedWait},
		"it came and went":                     {s: owedSituation{plan: plan, state: current, stands: raftstore.AssociationTarget{StartedAt: since.Add(-time.Hour)}}, want: owedRun},
	} {
		test.s.node = node
		got, until := decideOwed(raftstore.AssociationOwed{Since: since}, test.s, now)
		if got != test.want || !until.IsZero() {
			t.Errorf("%s: %v, until %s", name, got, until)
		}
	}
	// It returned a moment ago: not at once again, unless it has missed a run.
	returned := now.Add(-20 * time.Second)
	stands := raftstore.AssociationTarget{StartedAt: returned, ReturnedAt: returned, Status: "Success", DetailedStatus: "Success"}
	owed := raftstore.AssociationOwed{Since: now.Add(-10 * time.Second)}
	got, until := decideOwed(owed, owedSituation{plan: plan, state: current, node: node, stands: stands}, now)
	if got != owedWait || !until.Equal(returned.Add(associationReturn)) {
		t.Errorf("a moment ago: %v, until %s", got, until)
	}
	stands.Status, stands.DetailedStatus = "TimedOut", "DeliveryTimedOut"
	if got, _ := decideOwed(owed, owedSituation{plan: plan, state: current, node: node, stands: stands}, now); got != owedRun {
		t.Errorf("a moment ago, and it has missed a run: %v", got)
	}
}

func TestStandsAfter(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	run := raftstore.AssociationExecution{ID: "run", AssociationID: modelAssociation, Version: 2, DocumentVersion: "3", CreatedAt: at}
	failed := raftstore.Invocation{NodeID: "mi-1", Status: "Failed", StatusDetails: "Failed", DispatchedAt: at.Add(time.Second), FinishedAt: at.Add(time.Minute),
		Plugins: []raftstore.PluginResult{{Status: "Success"}, {Status: "Failed", ResponseCode: 7}}}
	got, changed := standsAfter(raftstore.AssociationTarget{}, run, failed)
	if !changed || got.Status != "Failed" || got.ErrorCode != "7" || got.Summary != "2 out of 2 steps processed, 1 success, 1 failed" || got.DocumentVersion != "3" ||
		!got.StartedAt.Equal(failed.DispatchedAt) || !got.SucceededAt.IsZero() || got.ExecutionID != "run" {
		t.Errorf("after a failure: %+v", got)
	}
	if again, changed := standsAfter(got, run, failed); changed {
		t.Errorf("the same again: %+v", again)
	}
	newer := raftstore.AssociationTarget{ExecutionID: "newer", ExecutedAt: at.Add(time.Hour), Status: "Success"}
	if is, changed := standsAfter(newer, run, failed); changed || is.Status != "Success" {
		t.Errorf("an older run's end: %+v", is)
	}
	superseded := run
	superseded.Superseded = true
	if is, changed := standsAfter(raftstore.AssociationTarget{Status: "Success"}, superseded, raftstore.Invocation{NodeID: "mi-1", Status: "Cancelled", StatusDetails: "Cancelled", FinishedAt: at}); changed {
		t.Errorf("what a newer run has ended before it began: %+v", is)
	}
	for _, pair := range [][3]string{{"Delayed", "Delayed", "Pending"}, {"Cancelling", "Cancelling", "InProgress"}, {"TimedOut", "DeliveryTimedOut", "TimedOut"}} {
		if is, _ := standsAfter(raftstore.AssociationTarget{}, run, raftstore.Invocation{Status: pair[0], StatusDetails: pair[1]}); is.Status != pair[2] {
			t.Errorf("%s: %s", pair[1], is.Status)
		}
	}
}

func TestAssociationOrder(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 10, 40, 0, 0, time.UTC)
	in := everywhere("rate(30 minutes)")
	in["Parameters"] = map[string][]string{"AssociationId": {"{{ ASSOCIATION_ID }}"}, "commands": {"echo {{ASSOCIATION_ID}}", "{{ASSOCIATION_ID}}"}}
	in["AssociationName"] = strings.Repeat("n", 128)
	p := planOf(t, now.Add(-40*time.Minute), in)
	got := associationOrder(p, raftstore.AssociationScheduled, now, now, nil)
	if *got.MaxErrors != "100%" || got.MaxConcurrency != nil || *got.TimeoutSeconds != 20*60 || len(got.Targets) != 1 || len(got.InstanceIds) != 0 {
		t.Errorf("the order: %+v, timeout %d", got, *got.TimeoutSeconds)
	}
	if got.Parameters["AssociationId"][0] != modelAssociation || got.Parameters["commands"][0] != "echo {{ASSOCIATION_ID}}" || got.Parameters["commands"][1] != modelAssociation ||
		p.input.Parameters["AssociationId"][0] != "{{ ASSOCIATION_ID }}" {
		t.Errorf("its parameters: %v", got.Parameters)
	}
	if c := *got.Comment; len(c) > maxComment || !strings.HasSuffix(c, ": at 2026-03-01T10:40:00Z") {
		t.Errorf("its comment: %q", c)
	}
	some := associationOrder(p, "nodes-1", time.Time{}, now, []string{"mi-1"})
	if len(some.Targets) != 0 || len(some.InstanceIds) != 1 {
		t.Errorf("on some nodes: %+v", some)
	}
	if one, two := associationExecutionID(modelAssociation, 1, "once-1"), associationExecutionID(modelAssociation, 2, "once-1"); one == two || one != associationExecutionID(modelAssociation, 1, "once-1") {
		t.Errorf("ids %s and %s", one, two)
	}
}

// A run that begins while another goes on ends it; a change lets it end where it runs.
func TestAssociationSupersedes(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 2)
	m.away("mi-00000000000000001") // so that the first run does not end
	m.put(modelAssociation, everywhere("rate(30 minutes)"))
	m.work()
	first := m.executions(modelAssociation)[0]
	m.now = m.now.Add(time.Second)
	m.put(modelAssociation, everywhere("rate(30 minutes)"))
	step := func() raftstore.CommandCancel {
		if _, err := m.leader.once(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel, err := raftstore.GetCommandCancel(m.memory, first.ID)
		if err != nil {
			t.Fatal(err)
		}
		return cancel
	}
	if cancel := step(); !cancel.Waiting || cancel.All {
		t.Errorf("after a change: %+v", cancel)
	}
	m.work()
	all := m.executions(modelAssociation)
	if len(all) != 2 || all[1].Status != "TimedOut" || !all[1].Superseded || all[0].FinishedAt != (time.Time{}) {
		t.Errorf("the runs: %+v", all)
	}
	s, _ := raftstore.GetAssociationTarget(m.memory, modelAssociation, "mi-00000000000000001")
	if s.Status != "Pending" || s.ExecutionID != all[0].ID {
		t.Errorf("on the node that is away: %+v", s)
	}
	first = all[0]
	m.now = m.now.Add(31 * time.Minute)
	if cancel := step(); !cancel.All {
		t.Errorf("after the next time: %+v", cancel)
	}
}

// What cannot be run is recorded with the reason, and the schedule goes on.
func TestAssociationRefused(t *testing.T) {
	t.Parallel()
	m := newAssociationModel(t, 1, 1)
	in := everywhere("rate(30 minutes)")
	in["Name"] = "Gone"
	m.put(modelAssociation, in)
	m.pass(35*time.Minute, 5*time.Minute)
	all := m.executions(modelAssociation)
	if len(all) != 2 || all[0].Status != "Failed" || all[0].Reason != "there is no document" || !all[0].NoCommand || all[0].Cause != raftstore.AssociationScheduled {
		t.Errorf("the runs: %+v", all)
	}
	if active := raftstore.ActiveCommands(m.memory); len(active) != 0 {
		t.Errorf("commands: %v", active)
	}
}
