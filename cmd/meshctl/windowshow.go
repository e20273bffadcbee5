package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"
)

// windows are all that fit.
func (c *client) windows(ctx context.Context, filters ...types.MaintenanceWindowFilter) (*ssm.DescribeMaintenanceWindowsOutput, error) {
	out := &ssm.DescribeMaintenanceWindowsOutput{WindowIdentities: []types.MaintenanceWindowIdentity{}}
	pages := ssm.NewDescribeMaintenanceWindowsPaginator(c.ssm, &ssm.DescribeMaintenanceWindowsInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out.WindowIdentities = append(out.WindowIdentities, page.WindowIdentities...)
	}
	slices.SortStableFunc(out.WindowIdentities, func(a, b types.MaintenanceWindowIdentity) int {
		return strings.Compare(aws.ToString(a.Name), aws.ToString(b.Name))
	})
	return out, nil
}

// windowID finds a window by its name; an id is one already.
func (c *client) windowID(ctx context.Context, given string) (string, error) {
	if digits, is := strings.CutPrefix(given, "mw-"); is && len(digits) == 17 && strings.Trim(digits, "0123456789abcdef") == "" {
		return given, nil
	}
	all, err := c.windows(ctx, types.MaintenanceWindowFilter{Key: aws.String("Name"), Values: []string{given}})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, w := range all.WindowIdentities {
		if aws.ToString(w.Name) == given {
			ids = append(ids, aws.ToString(w.WindowId))
		}
	}
	switch len(ids) {
	case 0:
		return "", &outcome{exit: exitRefused, code: "DoesNotExistException", message: fmt.Sprintf("no maintenance window has the id or name %q", given), hint: "`meshctl window list` shows those that there are"}
	case 1:
		return ids[0], nil
	}
	return "", &outcome{exit: exitRefused, code: "ValidationException", message: fmt.Sprintf("%d maintenance windows are named %q: %s", len(ids), given, strings.Join(ids, ", ")), hint: "give the id"}
}

func (c *client) windowTargets(ctx context.Context, id string) ([]types.MaintenanceWindowTarget, error) {
	var all []types.MaintenanceWindowTarget
	pages := ssm.NewDescribeMaintenanceWindowTargetsPaginator(c.ssm, &ssm.DescribeMaintenanceWindowTargetsInput{WindowId: &id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Targets...)
	}
	return all, nil
}

func (c *client) windowTasks(ctx context.Context, id string) ([]types.MaintenanceWindowTask, error) {
	var all []types.MaintenanceWindowTask
	pages := ssm.NewDescribeMaintenanceWindowTasksPaginator(c.ssm, &ssm.DescribeMaintenanceWindowTasksInput{WindowId: &id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Tasks...)
	}
	slices.SortStableFunc(all, func(a, b types.MaintenanceWindowTask) int { return int(a.Priority) - int(b.Priority) })
	return all, nil
}

// opening shows the next opening, as it is told, in the user's time and in the window's.
func (a *app) opening(next *string, enabled bool) (local, own string) {
	switch t, err := time.Parse(time.RFC3339, aws.ToString(next)); {
	case !enabled:
		return "disabled", ""
	case next == nil:
		return "never", ""
	case err != nil:
		return cell(*next), ""
	default:
		return t.In(a.zone).Format("Mon 2006-01-02 15:04:05"), t.Format("Mon 15:04:05 -07:00")
	}
}

func (a *app) windowListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the maintenance windows, and when each opens next", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			out, err := c.windows(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				t := newTable("NAME", "OPENS NEXT (YOUR TIME)", "WINDOW'S TIME", "FOR", "SCHEDULE", "ID")
				for _, i := range out.WindowIdentities {
					local, own := a.opening(i.NextExecutionTime, i.Enabled)
					t.AppendRow([]any{cell(aws.ToString(i.Name)), local, own, fmt.Sprintf("%dh", aws.ToInt32(i.Duration)), cell(strings.TrimSpace(aws.ToString(i.Schedule) + " " + aws.ToString(i.ScheduleTimezone))), aws.ToString(i.WindowId)})
				}
				a.renderTable(w, t)
			})
		}}
}

// windowDetail is what `window show` shows.
type windowDetail struct {
	Window  *ssm.GetMaintenanceWindowOutput
	Tags    []types.Tag
	Targets []types.MaintenanceWindowTarget
	Tasks   []types.MaintenanceWindowTask
}

func (a *app) windowShow(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.windowID(ctx, given)
	if err != nil {
		return err
	}
	var d windowDetail
	if d.Window, err = c.ssm.GetMaintenanceWindow(ctx, &ssm.GetMaintenanceWindowInput{WindowId: &id}); err != nil {
		return err
	}
	if d.Targets, err = c.windowTargets(ctx, id); err != nil {
		return err
	}
	if d.Tasks, err = c.windowTasks(ctx, id); err != nil {
		return err
	}
	tags, err := c.ssm.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingMaintenanceWindow, ResourceId: &id})
	if err != nil {
		return err
	}
	d.Tags = tags.TagList
	return a.print(&d, func(w io.Writer) { a.renderWindow(w, &d) })
}

func (a *app) renderWindow(w io.Writer, d *windowDetail) {
	window := d.Window
	local, own := a.opening(window.NextExecutionTime, window.Enabled)
	if own != "" {
		local += " your time, " + own + " the window's"
	}
	offset := ""
	if window.ScheduleOffset != nil {
		offset = count(int(*window.ScheduleOffset), "day") + " after what cron says"
	}
	tags := map[string]string{}
	for _, t := range d.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	missed := "they run late while the duration allows"
	if tags["mesh:missed"] == "skip" {
		missed = "they are skipped"
	}
	unfinished := "it is left; the next opening begins anew"
	if tags["mesh:resume"] == "true" {
		unfinished = "the next opening takes it up, where it is left to do"
	}
	facts(w, "Name", cell(aws.ToString(window.Name)), "Id", cell(aws.ToString(window.WindowId)), "Description", paragraph(aws.ToString(window.Description), ""),
		"Schedule", cell(aws.ToString(window.Schedule)), "Zone", cell(aws.ToString(window.ScheduleTimezone)), "Offset", offset,
		"From", cell(aws.ToString(window.StartDate)), "Until", cell(aws.ToString(window.EndDate)), "Opens next", local,
		"Open for", fmt.Sprintf("%s, no new tasks in the last %d", count(int(aws.ToInt32(window.Duration)), "hour"), window.Cutoff),
		"Missed openings", missed, "Unfinished work", unfinished, "Unassociated targets", yesNo(window.AllowUnassociatedTargets), "Tags", tagList(tags))
	names := map[string]string{}
	if len(d.Targets) > 0 {
		fmt.Fprintln(w)
		t := newTable("TARGET", "NODES", "OWNER", "ID")
		for _, target := range d.Targets {
			names[aws.ToString(target.WindowTargetId)] = targetText(target.Targets)
			t.AppendRow([]any{cell(aws.ToString(target.Name)), targetText(target.Targets), cell(aws.ToString(target.OwnerInformation)), aws.ToString(target.WindowTargetId)})
		}
		a.renderTable(w, t)
	}
	if len(d.Tasks) > 0 {
		fmt.Fprintln(w)
		t := newTable("PRIORITY", "TASK", "WHERE", "AT A TIME", "ERRORS", "AT CUTOFF", "ID")
		for _, task := range d.Tasks {
			cutoff := "goes on"
			if task.CutoffBehavior == types.MaintenanceWindowTaskCutoffBehaviorCancelTask {
				cutoff = "is cancelled"
			}
			t.AppendRow([]any{task.Priority, taskName(task.Name, task.TaskArn), taskPlaces(task.Targets, names), aws.ToString(task.MaxConcurrency), aws.ToString(task.MaxErrors), cutoff, aws.ToString(task.WindowTaskId)})
		}
		a.renderTable(w, t)
	} else {
		a.note("it has no tasks: an opening of it fails; `meshctl window task add` adds one")
	}
}

func taskName(name, document *string) string {
	if aws.ToString(name) == "" {
		return cell(aws.ToString(document))
	}
	return cell(aws.ToString(name) + " (" + aws.ToString(document) + ")")
}

func targetText(targets []types.Target) string {
	parts := make([]string, len(targets))
	for i, t := range targets {
		parts[i] = cell(aws.ToString(t.Key) + "=" + strings.Join(t.Values, ","))
	}
	return strings.Join(parts, " and ")
}

// taskPlaces says where a task runs, with what its registered targets mean.
func taskPlaces(targets []types.Target, names map[string]string) string {
	var parts []string
	for _, t := range targets {
		for _, v := range t.Values {
			if aws.ToString(t.Key) == "WindowTargetIds" {
				if v = names[v]; v == "" {
					v = "(deregistered)"
				}
			}
			parts = append(parts, cell(v))
		}
	}
	return strings.Join(parts, ", then ")
}
