package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
	"fleetmesh/internal/awsjson"
)

func (a *app) associationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "association", Short: "Keep nodes in a described state",
		Long: `association keeps nodes in the state that a document describes: it runs when it is made or
changed, at the times of its schedule, and where a node joins, returns or gets its tag.
ASSOCIATION is an id, or a name that only one association has.`}
	cmd.AddCommand(a.associationCreateCommand(), a.associationUpdateCommand(),
		&cobra.Command{Use: "list", Short: "List the associations, with their next times", Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.associationList(cmd.Context()) }},
		&cobra.Command{Use: "show ASSOCIATION", Short: "Show an association, when it runs and how it stands", Args: exactly("ASSOCIATION"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.associationShow(cmd.Context(), arguments[0])
			}},
		&cobra.Command{Use: "delete ASSOCIATION", Short: "Delete an association; what it has done stays", Args: exactly("ASSOCIATION"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.associationDelete(cmd.Context(), arguments[0])
			}},
		a.associationExecutionsCommand(),
		&cobra.Command{Use: "run-once ASSOCIATION", Short: "Run an association now, on all its nodes", Args: exactly("ASSOCIATION"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.associationRunOnce(cmd.Context(), arguments[0])
			}},
	)
	return cmd
}

// associationOptions are the flags of create and update.
type associationOptions struct {
	file, name, document, documentVersion, schedule string
	targets, nodes, parameters, parameterFiles      []string
	maxConcurrency, maxErrors, severity             string
	onlyAtTimes, manual                             bool
	offset, duration                                int32
}

func (o *associationOptions) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "file", "f", "", "JSON `FILE` with the members of CreateAssociation (- is the input)")
	flags.StringVar(&o.name, "name", "", "its name")
	flags.StringVar(&o.documentVersion, "document-version", "", "`VERSION` of the document: a number, $DEFAULT or $LATEST")
	flags.StringArrayVar(&o.targets, "targets", nil, "the nodes: `tag:KEY=V1,V2`, tag-key=K or all (repeatable, ANDed)")
	flags.StringSliceVar(&o.nodes, "nodes", nil, "the nodes: ids or names")
	flags.StringArrayVar(&o.parameters, "parameter", nil, "a parameter of the document: `NAME=VALUE` (repeatable)")
	flags.StringArrayVar(&o.parameterFiles, "parameter-file", nil, "a parameter from a file: `NAME=FILE`")
	flags.StringVar(&o.schedule, "schedule", "", "when it runs: `cron(...)` in UTC, rate(...) or at(...); without it once on each node")
	flags.Int32Var(&o.offset, "offset", 0, "so many `DAYS`, 1 to 6, after what cron says; with --only-at-times")
	flags.BoolVar(&o.onlyAtTimes, "only-at-times", false, "only at the times of the schedule: not when it is made or changed, nor when a node returns")
	flags.Int32Var(&o.duration, "duration", 0, "end a run after so many `HOURS`, 1 to 24; with --only-at-times")
	flags.StringVar(&o.maxConcurrency, "max-concurrency", "", "on so many nodes at a time: a number or a percentage (default 50)")
	flags.StringVar(&o.maxErrors, "max-errors", "", "stop a run after more errors: a number or a percentage (default 100%)")
	flags.StringVar(&o.severity, "severity", "", "of what is not compliant: CRITICAL, HIGH, MEDIUM, LOW or UNSPECIFIED")
	flags.BoolVar(&o.manual, "manual-compliance", false, "compliance comes from PutComplianceItems, not from the runs")
}

// input is the request of the flags; the nodes are still as the user named them.
func (o *associationOptions) input(stdin io.Reader) (*ssm.CreateAssociationInput, error) {
	in := &ssm.CreateAssociationInput{}
	if o.file != "" {
		content, err := readFileOrInput(o.file, stdin)
		if err != nil {
			return nil, fmt.Errorf("read the association: %w", err)
		}
		if err := awsjson.Unmarshal(content, in); err != nil {
			return nil, fmt.Errorf("read the association: %w", err)
		}
	}
	set := func(to **string, value string) {
		if value != "" {
			*to = &value
		}
	}
	set(&in.Name, o.document)
	set(&in.AssociationName, o.name)
	set(&in.DocumentVersion, o.documentVersion)
	set(&in.ScheduleExpression, o.schedule)
	set(&in.MaxConcurrency, o.maxConcurrency)
	set(&in.MaxErrors, o.maxErrors)
	if o.severity != "" {
		in.ComplianceSeverity = types.AssociationComplianceSeverity(strings.ToUpper(o.severity))
	}
	if o.manual {
		in.SyncCompliance = types.AssociationSyncComplianceManual
	}
	in.ApplyOnlyAtCronInterval = in.ApplyOnlyAtCronInterval || o.onlyAtTimes
	if o.offset != 0 {
		in.ScheduleOffset = &o.offset
	}
	if o.duration != 0 {
		in.Duration = &o.duration
	}
	parameters, err := parseParameters(o.parameters, o.parameterFiles)
	if err != nil {
		return nil, err
	}
	if len(parameters) > 0 {
		in.Parameters = parameters
	}
	targets, err := parseTargets(o.targets)
	switch {
	case err != nil:
		return nil, err
	case len(targets) > 0 && len(o.nodes) > 0:
		return nil, usagef("--targets and --nodes exclude each other")
	case len(o.nodes) > maxInstanceIDs:
		return nil, usagef("--nodes takes %d nodes at most; use --targets", maxInstanceIDs)
	case len(o.nodes) > 0:
		targets = []types.Target{{Key: aws.String("InstanceIds"), Values: o.nodes}}
	}
	if len(targets) > 0 {
		in.Targets = targets
	}
	return in, nil
}

// resolve puts ids in place of the names of --nodes.
func (o *associationOptions) resolve(ctx context.Context, c *client, in *ssm.CreateAssociationInput) error {
	if len(o.nodes) == 0 {
		return nil
	}
	ids, err := c.nodeIDs(ctx, o.nodes)
	if err == nil {
		in.Targets[0].Values = ids
	}
	return err
}

func (a *app) associationCreateCommand() *cobra.Command {
	var o associationOptions
	cmd := &cobra.Command{
		Use: "create {DOCUMENT | --file FILE} {--targets SPEC | --nodes NODE,…} [--schedule EXPRESSION]", Short: "Make an association",
		Example: `  meshctl association create AWS-RunShellScript --name motd --targets tag:role=web --schedule 'rate(1 hour)' --parameter 'commands=cp /srv/motd /etc/motd'
  meshctl association create AWS-RunPatchBaseline --targets all --schedule 'cron(0 2 ? * SUN *)' --only-at-times --parameter Operation=Scan`,
		Args: upTo("DOCUMENT"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if len(arguments) > 0 {
				o.document = arguments[0]
			}
			in, err := o.input(a.in)
			if err != nil {
				return err
			}
			switch {
			case in.Name == nil:
				return usagef("say what to run: a DOCUMENT, or a --file with a Name")
			case len(in.Targets) == 0 && in.InstanceId == nil:
				return usagef("say where: --targets tag:KEY=VALUE, --targets all or --nodes NODE,…")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := o.resolve(cmd.Context(), c, in); err != nil {
				return err
			}
			out, err := c.ssm.CreateAssociation(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, aws.ToString(out.AssociationDescription.AssociationId)) })
		},
	}
	o.flags(cmd)
	return cmd
}

// upTo takes an argument or none.
func upTo(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, arguments []string) error {
		if len(arguments) > 1 {
			return fmt.Errorf("unexpected argument %q after %s", arguments[1], name)
		}
		return nil
	}
}

func (a *app) associationUpdateCommand() *cobra.Command {
	var o associationOptions
	var noSchedule bool
	cmd := &cobra.Command{
		Use: "update ASSOCIATION [--schedule EXPRESSION] [--parameter NAME=VALUE]… …", Short: "Change an association; what is not given stays",
		Long: `update changes what is given and keeps the rest, unlike the API's UpdateAssociation, which
replaces all. With --parameter all parameters are given anew. The new version runs at
once, unless it runs at its times only.`,
		Args: exactly("ASSOCIATION"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			change, err := o.input(a.in)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			id, err := c.associationID(ctx, arguments[0])
			if err != nil {
				return err
			}
			if err := o.resolve(ctx, c, change); err != nil {
				return err
			}
			was, err := c.ssm.DescribeAssociation(ctx, &ssm.DescribeAssociationInput{AssociationId: &id})
			if err != nil {
				return err
			}
			in := mergeAssociation(was.AssociationDescription, change)
			if cmd.Flags().Changed("only-at-times") {
				in.ApplyOnlyAtCronInterval = o.onlyAtTimes
			}
			if cmd.Flags().Changed("manual-compliance") && !o.manual {
				in.SyncCompliance = types.AssociationSyncComplianceAuto
			}
			if noSchedule {
				in.ScheduleExpression, in.ScheduleOffset, in.Duration, in.ApplyOnlyAtCronInterval = nil, nil, nil, false
			}
			out, err := c.ssm.UpdateAssociation(ctx, in)
			if err != nil {
				return err
			}
			return a.print(out, func(io.Writer) {
				a.note("updated %s to version %s", id, aws.ToString(out.AssociationDescription.AssociationVersion))
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.document, "document", "", "`DOCUMENT` that it runs")
	cmd.Flags().BoolVar(&noSchedule, "no-schedule", false, "without a schedule from now on")
	return cmd
}

// mergeAssociation is what an association was, with what is given of change.
func mergeAssociation(was *types.AssociationDescription, change *ssm.CreateAssociationInput) *ssm.UpdateAssociationInput {
	in := &ssm.UpdateAssociationInput{
		AssociationId: was.AssociationId, AssociationVersion: was.AssociationVersion, Name: was.Name, AssociationName: was.AssociationName,
		DocumentVersion: was.DocumentVersion, Parameters: was.Parameters, Targets: was.Targets, ScheduleExpression: was.ScheduleExpression,
		ScheduleOffset: was.ScheduleOffset, Duration: was.Duration, MaxConcurrency: was.MaxConcurrency, MaxErrors: was.MaxErrors,
		ComplianceSeverity: was.ComplianceSeverity, SyncCompliance: was.SyncCompliance, ApplyOnlyAtCronInterval: was.ApplyOnlyAtCronInterval || change.ApplyOnlyAtCronInterval,
	}
	set(&in.Name, change.Name)
	set(&in.AssociationName, change.AssociationName)
	set(&in.DocumentVersion, change.DocumentVersion)
	set(&in.ScheduleExpression, change.ScheduleExpression)
	set(&in.MaxConcurrency, change.MaxConcurrency)
	set(&in.MaxErrors, change.MaxErrors)
	set(&in.ScheduleOffset, change.ScheduleOffset)
	set(&in.Duration, change.Duration)
	if change.Parameters != nil {
		in.Parameters = change.Parameters
	}
	if change.Targets != nil {
		in.Targets = change.Targets
	}
	if change.ComplianceSeverity != "" {
		in.ComplianceSeverity = change.ComplianceSeverity
	}
	if change.SyncCompliance != "" {
		in.SyncCompliance = change.SyncCompliance
	}
	return in
}

func set[T any](to **T, value *T) {
	if value != nil {
		*to = value
	}
}

// uuidForm is an association's id.
var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// associations are all that fit.
func (c *client) associations(ctx context.Context, filters ...types.AssociationFilter) (*ssm.ListAssociationsOutput, error) {
	out := &ssm.ListAssociationsOutput{Associations: []types.Association{}}
	in := &ssm.ListAssociationsInput{}
	if len(filters) > 0 {
		in.AssociationFilterList = filters
	}
	pages := ssm.NewListAssociationsPaginator(c.ssm, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out.Associations = append(out.Associations, page.Associations...)
	}
	return out, nil
}

// associationID finds an association by its name; an id is one already.
func (c *client) associationID(ctx context.Context, given string) (string, error) {
	if uuidForm.MatchString(given) {
		return given, nil
	}
	all, err := c.associations(ctx, types.AssociationFilter{Key: types.AssociationFilterKeyAssociationName, Value: &given})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, one := range all.Associations {
		ids = append(ids, aws.ToString(one.AssociationId))
	}
	switch len(ids) {
	case 0:
		return "", &outcome{exit: exitRefused, code: "AssociationDoesNotExist", message: fmt.Sprintf("no association has the id or name %q", given), hint: "`meshctl association list` shows those that there are"}
	case 1:
		return ids[0], nil
	}
	return "", &outcome{exit: exitRefused, code: "ValidationException", message: fmt.Sprintf("%d associations are named %q: %s", len(ids), given, strings.Join(ids, ", ")), hint: "give the id"}
}

func (a *app) associationList(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.associations(ctx)
	if err != nil {
		return err
	}
	next := map[string]*time.Time{}
	if a.forPeople() {
		in := &meshapi.DescribeAssociationRunsInput{}
		for {
			runs, err := c.mesh.DescribeAssociationRuns(ctx, in)
			if err != nil {
				return err
			}
			for _, one := range runs.Associations {
				next[one.AssociationId] = one.NextTime
			}
			if in.NextToken = runs.NextToken; in.NextToken == "" {
				break
			}
		}
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("NAME", "DOCUMENT", "TARGETS", "SCHEDULE", "NEXT", "LAST", "STATUS", "ID")
		for _, one := range out.Associations {
			schedule := aws.ToString(one.ScheduleExpression)
			if schedule == "" {
				schedule = "once"
			}
			t.AppendRow([]any{cell(aws.ToString(one.AssociationName)), cell(aws.ToString(one.Name)), targetsText(one.InstanceId, one.Targets), cell(schedule),
				a.clock(next[aws.ToString(one.AssociationId)]), a.clock(one.LastExecutionDate), a.overviewText(one.Overview), aws.ToString(one.AssociationId)})
		}
		a.renderTable(w, t)
	})
}

// targetsText says which nodes an association is for.
func targetsText(instance *string, targets []types.Target) string {
	if instance != nil {
		return cell(*instance)
	}
	parts := make([]string, len(targets))
	for i, t := range targets {
		parts[i] = aws.ToString(t.Key) + "=" + strings.Join(t.Values, ",")
		if strings.EqualFold(aws.ToString(t.Key), "InstanceIds") {
			parts[i] = strings.Join(t.Values, ",")
			if slices.Contains(t.Values, "*") {
				parts[i] = "all"
			}
		}
	}
	return cell(strings.Join(parts, " and "))
}

// overviewText sums up how an association stands: Failed (2 Failed, 5 Success).
func (a *app) overviewText(o *types.AssociationOverview) string {
	if o == nil {
		return ""
	}
	parts := make([]string, 0, len(o.AssociationStatusAggregatedCount))
	for _, name := range slices.Sorted(maps.Keys(o.AssociationStatusAggregatedCount)) {
		parts = append(parts, fmt.Sprintf("%d %s", o.AssociationStatusAggregatedCount[name], name))
	}
	text := a.paintState(cell(aws.ToString(o.Status)))
	if len(parts) > 0 {
		text += " (" + cell(strings.Join(parts, ", ")) + ")"
	}
	return text
}

func (a *app) associationDelete(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.associationID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.DeleteAssociation(ctx, &ssm.DeleteAssociationInput{AssociationId: &id})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("deleted %s", id) })
}

func (a *app) associationRunOnce(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.associationID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.StartAssociationsOnce(ctx, &ssm.StartAssociationsOnceInput{AssociationIds: []string{id}})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("%s runs; `meshctl association executions %s` shows how it goes", id, id) })
}
