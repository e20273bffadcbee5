package leader

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	schedules "fleetmesh/internal/schedule"
	"fleetmesh/raftstore"
)

const (
	// associationDelivery is how long a run waits for a node that is away. Then the node
	// owes it, and runs it when it answers.
	associationDelivery = time.Hour
	// associationLate is how late a run may begin that is for the times of its schedule
	// only, without a Duration.
	associationLate = time.Hour
	// associationReturn is between two runs on a node that are due to its return alone,
	// SSM's least time of a schedule: a node that comes and goes does not run all the
	// time, and a document that starts the machine anew not again and again.
	associationReturn = 30 * time.Minute
	// associationNodes is how many nodes one run on some nodes is for: SendCommand's
	// bound.
	associationNodes = 50

	defaultAssociationErrors = "100%"
	associationIDParameter   = "ASSOCIATION_ID"

	statusSkipped  = "Skipped"
	statusTimedOut = "TimedOut"
)

// associationPlan is an association as decisions need it.
type associationPlan struct {
	record raftstore.Association
	input  *ssm.CreateAssociationInput
	// command has the targets, for matches.
	command *ssm.SendCommandInput
	// times is nil without a schedule.
	times *schedules.Timetable
}

func planAssociation(a raftstore.Association) (*associationPlan, error) {
	p := &associationPlan{record: a, input: &ssm.CreateAssociationInput{}}
	if err := json.Unmarshal(a.Input, p.input); err != nil {
		return nil, fmt.Errorf("read association %s: %w", a.ID, err)
	}
	p.command = &ssm.SendCommandInput{Targets: p.input.Targets}
	if p.input.InstanceId != nil {
		p.command.InstanceIds = []string{*p.input.InstanceId}
	}
	expression := aws.ToString(p.input.ScheduleExpression)
	if expression == "" {
		return p, nil
	}
	parsed, err := schedules.Parse(expression, schedules.Association)
	if err != nil {
		return nil, fmt.Errorf("read the schedule of association %s: %w", a.ID, err)
	}
	p.times, err = parsed.With(schedules.Terms{Offset: int(aws.ToInt32(p.input.ScheduleOffset)), Since: a.ScheduledSince})
	if err != nil {
		return nil, fmt.Errorf("read the schedule of association %s: %w", a.ID, err)
	}
	return p, nil
}

// isFor reports whether a node is a target.
func (p *associationPlan) isFor(n raftstore.Node) bool { return matches(n, p.command) }

// keepsTimes: it runs at the times of its schedule only.
func (p *associationPlan) keepsTimes() bool { return p.input.ApplyOnlyAtCronInterval }

// next is the first time of the schedule after a moment, zero for none.
func (p *associationPlan) next(after time.Time) time.Time {
	if p.times == nil {
		return time.Time{}
	}
	next, _ := p.times.Next(after)
	return next.UTC()
}

// dueDecision is what becomes of something that is due.
type dueDecision struct {
	// run: on all targets, now. scheduledFor is the time of the schedule that it is of.
	run          bool
	scheduledFor time.Time
	// missed says which times before that had no run, "" for none; missedFor is the
	// first.
	missed    string
	missedFor time.Time
	// reschedule: next is the schedule's next time, zero for none.
	reschedule bool
	next       time.Time
	// spare: an earlier run goes on where it has started; else it ends everywhere.
	spare bool
	// halt: an earlier run does not go on where it has not started.
	halt bool
}

// decideDue decides about one thing that is due at now.
func decideDue(p *associationPlan, d raftstore.AssociationDue, state raftstore.AssociationState, now time.Time) dueDecision {
	switch {
	case d.Cause == raftstore.AssociationScheduled:
		if !d.At.Equal(state.NextDue) || p.times == nil {
			return dueDecision{} // another schedule's
		}
		return decideScheduled(p, d.At, now)
	case strings.HasPrefix(d.Cause, raftstore.AssociationChanged):
		if d.Cause != raftstore.AssociationChanged+strconv.Itoa(p.record.Version) {
			return dueDecision{} // a newer version is due too
		}
		return dueDecision{run: !p.keepsTimes(), spare: true, halt: true}
	case strings.HasPrefix(d.Cause, raftstore.AssociationDocument):
		return dueDecision{run: !p.keepsTimes(), spare: true}
	case strings.HasPrefix(d.Cause, raftstore.AssociationOnce):
		return dueDecision{run: true}
	}
	return dueDecision{}
}

// decideScheduled runs the last of the times that have come: a mesh that had no leader
// catches up once. The others are recorded as missed.
func decideScheduled(p *associationPlan, at, now time.Time) dueDecision {
	decision := dueDecision{run: true, scheduledFor: at, reschedule: true, next: p.next(now)}
	count := 0
	last := at
	for t := range p.times.Between(at, now.Add(time.Nanosecond)) {
		if t.After(at) {
			count++
			last = t.UTC()
		}
	}
	switch {
	case count == 1:
		decision.missed = fmt.Sprintf("nobody led the mesh at %s", at.Format(time.RFC3339))
	case count > 1:
		decision.missed = fmt.Sprintf("nobody led the mesh at %d times, from %s on", count, at.Format(time.RFC3339))
	}
	decision.missedFor, decision.scheduledFor = at, last
	if !p.keepsTimes() {
		return decision
	}
	late := associationLate
	if hours := aws.ToInt32(p.input.Duration); hours > 0 {
		late = time.Duration(hours) * time.Hour
	}
	if now.Sub(last) >= late {
		decision.run = false
		decision.missed = fmt.Sprintf("nobody led the mesh at %d times, from %s on, and the association runs at its times only", count+1, at.Format(time.RFC3339))
	}
	return decision
}

// associationExecutionID is the id of an execution and of its command: whoever takes
// up the claim makes the same.
func associationExecutionID(associationID string, version int, claim string) string {
	space, err := uuid.Parse(associationID)
	if err != nil {
		space = uuid.NewSHA1(uuid.Nil, []byte(associationID))
	}
	return uuid.NewSHA1(space, []byte(strconv.Itoa(version)+"/"+claim)).String()
}

// associationOrder is the command of a run. nodeIDs are those of a run that is not for
// all targets.
func associationOrder(p *associationPlan, cause string, scheduledFor, now time.Time, nodeIDs []string) *ssm.SendCommandInput {
	in := p.input
	out := &ssm.SendCommandInput{
		DocumentName: in.Name, DocumentVersion: in.DocumentVersion, Parameters: associationParameters(in.Parameters, p.record.ID),
		MaxConcurrency: in.MaxConcurrency, MaxErrors: in.MaxErrors, Comment: aws.String(associationComment(p, cause, scheduledFor)),
	}
	if out.MaxErrors == nil {
		out.MaxErrors = aws.String(defaultAssociationErrors)
	}
	switch {
	case len(nodeIDs) > 0:
		out.InstanceIds = nodeIDs
	case in.InstanceId != nil:
		out.InstanceIds = []string{*in.InstanceId}
	default:
		out.Targets = in.Targets
	}
	wait := associationDelivery
	if hours := aws.ToInt32(in.Duration); hours > 0 {
		wait = min(wait, time.Duration(hours)*time.Hour)
	}
	if next := p.next(now); !next.IsZero() {
		wait = min(wait, next.Sub(now))
	}
	out.TimeoutSeconds = aws.Int32(int32(max(wait, 30*time.Second) / time.Second))
	return out
}

// associationParameters puts the association's id in place of {{ASSOCIATION_ID}}.
func associationParameters(parameters map[string][]string, id string) map[string][]string {
	if parameters == nil {
		return nil
	}
	out := make(map[string][]string, len(parameters))
	for name, values := range parameters {
		values = slices.Clone(values)
		for i, v := range values {
			inner, open := strings.CutPrefix(v, "{{")
			if inner, closed := strings.CutSuffix(inner, "}}"); open && closed && strings.TrimSpace(inner) == associationIDParameter {
				values[i] = id
			}
		}
		out[name] = values
	}
	return out
}

// maxComment is SendCommand's bound, in characters.
const maxComment = 100

// associationComment says why a run is.
func associationComment(p *associationPlan, cause string, scheduledFor time.Time) string {
	name := aws.ToString(p.input.AssociationName)
	if name == "" {
		name = p.record.ID
	}
	why := "was asked for"
	switch {
	case cause == raftstore.AssociationScheduled:
		why = "at " + scheduledFor.UTC().Format(time.RFC3339)
	case cause == raftstore.AssociationChanged+"1":
		why = "is new"
	case strings.HasPrefix(cause, raftstore.AssociationChanged):
		why = "was changed"
	case strings.HasPrefix(cause, raftstore.AssociationDocument):
		why = "has a new document"
	case strings.HasPrefix(cause, raftstore.AssociationCatchUp):
		why = "is due on nodes that joined or returned"
	}
	head := "association "
	if room := maxComment - len(head) - len(": ") - len(why); len(name) > room {
		name = name[:room]
	}
	return head + name + ": " + why
}

// owesRun says why a node that has changed owes a run of an association that is for
// it, "" when it does not. stands is how the association stands on it, known whether
// there is a record.
func owesRun(p *associationPlan, state raftstore.AssociationState, n raftstore.Node, stands raftstore.AssociationTarget, known bool) string {
	switch {
	case p.keepsTimes():
		return ""
	case state.Version != p.record.Version:
		return "" // a run on all targets is due
	case !known:
		return "the node became a target"
	case !n.LastPing.IsZero() && n.LastPing.After(stands.StartedAt):
		return "the node was away"
	}
	return ""
}

// owedVerdict is what becomes of an owed run while its node answers.
type owedVerdict int

const (
	owedRun  owedVerdict = iota // run it
	owedWait                    // look again
	owedDrop                    // there is nothing to run
)

// owedSituation is what the leader knows about an owed run.
type owedSituation struct {
	plan  *associationPlan // nil when the association is gone
	state raftstore.AssociationState
	node  raftstore.Node
	// stands is how the association stands on the node; the zero value when it does
	// not yet.
	stands raftstore.AssociationTarget
	// unresolved: a run that has not ended may yet be for the node.
	unresolved bool
	// runs are the node's invocations in runs that have not ended.
	runs []raftstore.Invocation
	// stopped: the last run on all targets had more errors than it may. refused: it
	// could not begin.
	stopped, refused bool
}

// decideOwed decides about a run that a node owes. until is when to look again, for
// owedWait; zero when something else will tell.
func decideOwed(o raftstore.AssociationOwed, s owedSituation, now time.Time) (verdict owedVerdict, until time.Time) {
	switch {
	case s.plan == nil, !s.plan.isFor(s.node), s.plan.keepsTimes():
		return owedDrop, time.Time{}
	case s.refused, s.stopped && s.plan.times != nil:
		return owedDrop, time.Time{} // not before the next run on all targets
	case s.state.Version != s.plan.record.Version, s.unresolved:
		return owedWait, time.Time{}
	case s.stands.StartedAt.After(o.Since):
		return owedDrop, time.Time{} // it has run since
	}
	for _, i := range s.runs {
		switch {
		case i.DispatchedAt.After(o.Since), !i.Terminal() && !i.InFlight():
			return owedDrop, time.Time{} // it has run since, or will
		case i.InFlight():
			return owedWait, time.Time{}
		}
	}
	missed := s.stands.Status == "" || s.stands.DetailedStatus == detailDeliveryTimedOut
	if due := s.stands.ReturnedAt.Add(associationReturn); !missed && now.Before(due) {
		return owedWait, due
	}
	return owedRun, time.Time{}
}

// standsAfter is how an association stands on a node after an invocation of a run.
// changed is false when the record says so already or of a newer run.
func standsAfter(was raftstore.AssociationTarget, e raftstore.AssociationExecution, i raftstore.Invocation) (is raftstore.AssociationTarget, changed bool) {
	if was.ExecutionID != e.ID && was.ExecutedAt.After(e.CreatedAt) {
		return was, false
	}
	if e.Superseded && i.DispatchedAt.IsZero() {
		return was, false // the newer run is for the node too
	}
	is = was
	is.AssociationID, is.NodeID, is.Version, is.DocumentVersion = e.AssociationID, i.NodeID, e.Version, e.DocumentVersion
	is.ExecutionID, is.ExecutedAt = e.ID, e.CreatedAt
	is.Status, is.DetailedStatus = i.AssociationStatus()
	is.ErrorCode, is.Summary = associationResult(i)
	if i.DispatchedAt.After(is.StartedAt) {
		is.StartedAt = i.DispatchedAt
	}
	if i.Status == invocationSuccess {
		is.SucceededAt = e.CreatedAt
	}
	return is, is != was
}

// maxSummary is the model's bound of ExecutionSummary, in characters.
const maxSummary = 512

// associationResult is the exit code and a sentence about an ended invocation.
func associationResult(i raftstore.Invocation) (code, summary string) {
	if !i.Terminal() {
		return "", ""
	}
	good, bad := 0, 0
	for _, step := range i.Plugins {
		if step.Status == string(types.CommandPluginStatusFailed) || step.Status == string(types.CommandPluginStatusTimedOut) {
			bad++
			code = strconv.Itoa(step.ResponseCode)
		} else if step.Status == string(types.CommandPluginStatusSuccess) {
			good++
		}
	}
	summary = fmt.Sprintf("%d out of %d steps processed, %d success, %d failed", good+bad, len(i.Plugins), good, bad)
	if i.Reason != "" {
		summary = i.Reason
	}
	if len(code) > 10 {
		code = ""
	}
	return code, first(summary, maxSummary)
}

// executionEnd is the status of an execution whose command has ended.
func executionEnd(e raftstore.AssociationExecution, command raftstore.CommandState) (status, detailed string) {
	if e.Superseded && command.Status != string(types.CommandStatusSuccess) {
		return statusTimedOut, statusTimedOut
	}
	return command.Status, command.StatusDetails
}

// owesAfter says why a node owes a run of which it ended as i, "" when it does not.
func owesAfter(p *associationPlan, e raftstore.AssociationExecution, i raftstore.Invocation) string {
	if p == nil || p.keepsTimes() || e.Version != p.record.Version || i.StatusDetails != detailDeliveryTimedOut || !i.DispatchedAt.IsZero() {
		return ""
	}
	return "the node was away"
}
