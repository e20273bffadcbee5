package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

func (a *app) associationShow(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.associationID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.DescribeAssociation(ctx, &ssm.DescribeAssociationInput{AssociationId: &id})
	if err != nil {
		return err
	}
	if !a.forPeople() {
		return a.print(out, nil)
	}
	runs, err := c.associationRuns(ctx, id)
	if err != nil {
		return err
	}
	var names map[string]string
	if len(runs.Waiting) > 0 {
		ids := make([]string, len(runs.Waiting))
		for i, w := range runs.Waiting {
			ids[i] = w.NodeId
		}
		names = c.namesOf(ctx, ids)
	}
	d := out.AssociationDescription
	return a.print(out, func(w io.Writer) {
		facts(w, "Name", cell(aws.ToString(d.AssociationName)), "Id", cell(id), "Version", cell(aws.ToString(d.AssociationVersion)),
			"Document", cell(aws.ToString(d.Name)+" "+aws.ToString(d.DocumentVersion)), "Parameters", parametersText(d.Parameters),
			"Targets", targetsText(d.InstanceId, d.Targets), "Schedule", scheduleText(d), "Next", a.nextText(d, runs.NextTime),
			"Rate", rateText(d), "Compliance", complianceText(d), "Created", a.clock(d.Date), "Changed", a.clock(d.LastUpdateAssociationDate),
			"Last run", a.clock(d.LastExecutionDate), "Last success", a.clock(d.LastSuccessfulExecutionDate), "Status", a.overviewText(d.Overview),
			"Detail", detailText(d.Overview), "Waiting", a.waitingText(runs.Waiting, names))
	})
}

// associationRuns is what Systems Manager has no member for.
func (c *client) associationRuns(ctx context.Context, id string) (meshapi.AssociationRuns, error) {
	out, err := c.mesh.DescribeAssociationRuns(ctx, &meshapi.DescribeAssociationRunsInput{AssociationId: id})
	if err != nil {
		return meshapi.AssociationRuns{}, err
	}
	if len(out.Associations) != 1 {
		return meshapi.AssociationRuns{}, fmt.Errorf("the mesh's answer is about %d associations, not one", len(out.Associations))
	}
	return out.Associations[0], nil
}

func parametersText(parameters map[string][]string) string {
	lines := make([]string, 0, len(parameters))
	for name, values := range parameters {
		lines = append(lines, cell(name+"="+strings.Join(values, "; ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func scheduleText(d *types.AssociationDescription) string {
	text := aws.ToString(d.ScheduleExpression)
	if text == "" {
		return "none: once on each node"
	}
	if d.ScheduleOffset != nil {
		text += ", " + count(int(*d.ScheduleOffset), "day") + " later"
	}
	if d.ApplyOnlyAtCronInterval {
		text += ", only then"
	}
	if d.Duration != nil {
		text += ", ended after " + count(int(*d.Duration), "hour")
	}
	return cell(text)
}

// nextText is the next time of a schedule, as the user's clock shows it.
func (a *app) nextText(d *types.AssociationDescription, next *time.Time) string {
	switch {
	case next != nil:
		return a.clock(next) + ", in " + away(next.Sub(a.now()))
	case d.ScheduleExpression != nil:
		return "never: the times of the schedule are over"
	}
	return "where a node joins, returns or becomes a target"
}

func rateText(d *types.AssociationDescription) string {
	concurrency, errors := "50", "100%"
	if d.MaxConcurrency != nil {
		concurrency = *d.MaxConcurrency
	}
	if d.MaxErrors != nil {
		errors = *d.MaxErrors
	}
	return cell(concurrency + " at a time, stops after more than " + errors + " errors")
}

func complianceText(d *types.AssociationDescription) string {
	severity := string(d.ComplianceSeverity)
	if severity == "" {
		severity = "UNSPECIFIED"
	}
	if d.SyncCompliance == types.AssociationSyncComplianceManual {
		return cell(severity + ", by PutComplianceItems")
	}
	return cell(severity + ", by its runs")
}

// detailText is shown where it says more than the status.
func detailText(o *types.AssociationOverview) string {
	if o == nil || aws.ToString(o.DetailedStatus) == aws.ToString(o.Status) {
		return ""
	}
	return paragraph(aws.ToString(o.DetailedStatus), "")
}

func (a *app) waitingText(waiting []meshapi.AssociationWaiting, names map[string]string) string {
	lines := make([]string, len(waiting))
	for i, w := range waiting {
		name := w.NodeId
		if names[w.NodeId] != "" {
			name = names[w.NodeId]
		}
		since := w.Since
		lines[i] = cell(name + ": " + w.Reason + "; it runs when the node answers, since " + a.clock(&since))
	}
	return strings.Join(lines, "\n")
}

func (a *app) associationExecutionsCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{Use: "executions ASSOCIATION [--id EXECUTION]", Short: "Show the last runs and why they were, or what one did on each node", Args: exactly("ASSOCIATION"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if id != "" {
				return a.associationTargets(cmd.Context(), arguments[0], id)
			}
			return a.associationExecutions(cmd.Context(), arguments[0])
		}}
	cmd.Flags().StringVar(&id, "id", "", "what the run with this `EXECUTION` id did on each node")
	return cmd
}

func (a *app) associationExecutions(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.associationID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.DescribeAssociationExecutions(ctx, &ssm.DescribeAssociationExecutionsInput{AssociationId: &id, MaxResults: aws.Int32(50)})
	if err != nil {
		return err
	}
	why := map[string]meshapi.AssociationRun{}
	if a.forPeople() {
		runs, err := c.associationRuns(ctx, id)
		if err != nil {
			return err
		}
		for _, run := range runs.Runs {
			why[run.ExecutionId] = run
		}
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("BEGAN", "BECAUSE", "VERSION", "STATUS", "NODES", "ID")
		for _, e := range out.AssociationExecutions {
			run := why[aws.ToString(e.ExecutionId)]
			because := becauseText[run.Cause]
			if run.ScheduledTime != nil {
				because += " " + a.clock(run.ScheduledTime)
			}
			status := a.paintState(cell(aws.ToString(e.Status)))
			if run.Reason != "" {
				status += ": " + cell(strings.TrimPrefix(run.Reason, aws.ToString(e.Status)+": "))
			}
			t.AppendRow([]any{a.clock(e.CreatedTime), because, cell(aws.ToString(e.AssociationVersion)), status,
				cell(strings.Trim(aws.ToString(e.ResourceCountByStatus), "{}")), cell(aws.ToString(e.ExecutionId))})
		}
		a.renderTable(w, t)
	})
}

var becauseText = map[string]string{
	"created": "it was made", "updated": "it was changed", "scheduled": "scheduled", "document": "its document was changed", "requested": "it was asked for",
	"nodes": "nodes joined or returned",
}

// maxNamesAsked is how many ids one request for names has.
const maxNamesAsked = 100

func (a *app) associationTargets(ctx context.Context, given, execution string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.associationID(ctx, given)
	if err != nil {
		return err
	}
	out := &ssm.DescribeAssociationExecutionTargetsOutput{AssociationExecutionTargets: []types.AssociationExecutionTarget{}}
	pages := ssm.NewDescribeAssociationExecutionTargetsPaginator(c.ssm, &ssm.DescribeAssociationExecutionTargetsInput{AssociationId: &id, ExecutionId: &execution})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.AssociationExecutionTargets = append(out.AssociationExecutionTargets, page.AssociationExecutionTargets...)
	}
	var names map[string]string
	if a.forPeople() {
		ids := make([]string, len(out.AssociationExecutionTargets))
		for i, t := range out.AssociationExecutionTargets {
			ids[i] = aws.ToString(t.ResourceId)
		}
		names = map[string]string{}
		for some := range slices.Chunk(ids, maxNamesAsked) {
			maps.Copy(names, c.namesOf(ctx, some))
		}
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("NODE", "STATUS", "DETAIL", "BEGAN", "ID")
		for _, target := range out.AssociationExecutionTargets {
			node := aws.ToString(target.ResourceId)
			t.AppendRow([]any{cell(names[node]), a.paintState(cell(aws.ToString(target.Status))), cell(aws.ToString(target.DetailedStatus)), a.clock(target.LastExecutionDate), cell(node)})
		}
		a.renderTable(w, t)
		if len(out.AssociationExecutionTargets) > 0 {
			fmt.Fprintf(w, "\n`meshctl command show %s` shows what it ran and printed.\n", cell(execution))
		}
	})
}
