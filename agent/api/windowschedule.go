package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/schedule"
	"fleetmesh/raftstore"
)

const (
	// foreseen is how many openings of each window are told where no ScheduledBefore
	// ends them: clients that page to the end must come to one.
	foreseen = 100
	// maxForeseen bounds them in any case.
	maxForeseen = 10_000
	// maxSchedulePage bounds a page of openings, and of the windows of a target.
	maxSchedulePage = 1000
)

// opening is one of a window.
type opening struct {
	at     time.Time
	window *raftstore.Window
}

func (c *call) describeMaintenanceWindowSchedule(in *ssm.DescribeMaintenanceWindowScheduleInput) (*ssm.DescribeMaintenanceWindowScheduleOutput, error) {
	filters, err := orchestratorFilters(in.Filters, "ScheduledBefore", "ScheduledAfter")
	if err != nil {
		return nil, err
	}
	before, err := timeBounds(filters["ScheduledBefore"])
	if err != nil {
		return nil, err
	}
	after, err := timeBounds(filters["ScheduledAfter"])
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	// A page token has the moment from which the first page looked, so that all pages
	// are of one list, and the opening at which its own begins.
	from, first := c.now, ""
	if start != "" {
		text, rest, _ := strings.Cut(start, " ")
		if from, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, refuse(codeInvalidNextToken, "The specified token isn't valid.")
		}
		first = rest
	}
	windows, err := c.windowsFor(in.WindowId, in.Targets)
	if err != nil {
		return nil, err
	}
	var all []opening
	for _, w := range windows {
		if all, err = openings(all, w, from, before, after); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b opening) int { return strings.Compare(a.position(), b.position()) })
	out := &ssm.DescribeMaintenanceWindowScheduleOutput{ScheduledWindowExecutions: []types.ScheduledWindowExecution{}}
	next := ""
	for _, o := range all {
		if o.position() < first {
			continue
		}
		if len(out.ScheduledWindowExecutions) == min(pageSize(in.MaxResults), maxSchedulePage) {
			next = from.UTC().Format(time.RFC3339) + " " + o.position()
			break
		}
		out.ScheduledWindowExecutions = append(out.ScheduledWindowExecutions, types.ScheduledWindowExecution{
			WindowId: &o.window.ID, Name: &o.window.Name, ExecutionTime: aws.String(openingText(o.at)),
		})
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// position orders openings by time.
func (o opening) position() string { return o.at.UTC().Format(time.RFC3339) + " " + o.window.ID }

// openings appends those of a window after from and within all bounds.
func openings(to []opening, w *raftstore.Window, from time.Time, before, after []time.Time) ([]opening, error) {
	if !w.Enabled {
		return to, nil
	}
	timetable, err := w.Timetable()
	if err != nil {
		return to, fmt.Errorf("read the schedule of window %s: %w", w.ID, err)
	}
	for _, t := range after {
		if t.After(from) {
			from = t
		}
	}
	most := foreseen
	if len(before) > 0 {
		most = maxForeseen
	}
	for n := 0; n < most; n++ {
		at, ok := timetable.Next(from)
		if !ok || slices.ContainsFunc(before, func(t time.Time) bool { return !at.Before(t) }) {
			break
		}
		to = append(to, opening{at, w})
		from = at
	}
	return to, nil
}

// windowsFor are the windows that are meant: one, those of a target, or all.
func (c *call) windowsFor(id *string, targets []types.Target) ([]*raftstore.Window, error) {
	if id != nil {
		w, err := c.findWindow(*id)
		return []*raftstore.Window{&w}, err
	}
	asked, err := c.askedTargets(targets)
	if err != nil {
		return nil, err
	}
	var windows []*raftstore.Window
	var failed error
	err = raftstore.ScanWindows(c, "", func(w raftstore.Window) bool {
		concerned := len(targets) == 0
		if !concerned {
			concerned, failed = c.windowConcerns(w.ID, asked)
		}
		if concerned {
			windows = append(windows, &w)
		}
		return failed == nil
	})
	return windows, errors.Join(err, failed)
}

// asked is a target that somebody asks about: a node, or a tag.
type asked struct {
	node  *raftstore.Node
	key   string
	value string
}

// askedTargets reads which nodes and tags are asked about.
func (c *call) askedTargets(targets []types.Target) ([]asked, error) {
	var all []asked
	for _, t := range targets {
		key := aws.ToString(t.Key)
		switch {
		case strings.EqualFold(key, targetInstanceIDs):
			for _, id := range t.Values {
				node, err := raftstore.GetNode(c, id)
				if errors.Is(err, raftstore.ErrNotFound) {
					continue
				}
				if err != nil {
					return nil, err
				}
				all = append(all, asked{node: &node})
			}
		case strings.HasPrefix(key, targetTagPrefix), key == targetTagKey:
			for _, v := range t.Values {
				all = append(all, asked{key: key, value: v})
			}
		default:
			return nil, refuse(codeValidation, "The target key %q isn't valid: use InstanceIds, tag:KEY or tag-key.", key)
		}
	}
	return all, nil
}

// windowConcerns reports whether a window has a target or a task for any of what is
// asked about.
func (c *call) windowConcerns(windowID string, all []asked) (bool, error) {
	concerns := false
	var failed error
	err := raftstore.ScanWindowTargets(c, windowID, "", func(record raftstore.WindowTarget) bool {
		var is *ssm.RegisterTargetWithMaintenanceWindowInput
		if is, failed = windowTarget(record); failed != nil {
			return false
		}
		concerns = slices.ContainsFunc(all, func(a asked) bool { return a.among(is.Targets) })
		return !concerns
	})
	if err = errors.Join(err, failed); err != nil || concerns {
		return concerns, err
	}
	tasks, err := c.windowTasks(windowID)
	if err != nil {
		return false, err
	}
	for _, task := range tasks {
		named := task.targetValues(targetInstanceIDs)
		if slices.ContainsFunc(all, func(a asked) bool { return a.node != nil && slices.Contains(named, a.node.ID) }) {
			return true, nil
		}
	}
	return false, nil
}

// among reports whether it is among what targets choose: a node that they resolve
// to, or a tag that they name.
func (a asked) among(targets []types.Target) bool {
	for _, t := range targets {
		key := aws.ToString(t.Key)
		if a.node == nil {
			if key == a.key && slices.Contains(t.Values, a.value) {
				return true
			}
			continue
		}
		fitting := false
		switch tag, isTag := strings.CutPrefix(key, targetTagPrefix); {
		case strings.EqualFold(key, targetInstanceIDs):
			fitting = slices.Contains(t.Values, a.node.ID) || slices.Contains(t.Values, allNodes)
		case key == targetTagKey:
			fitting = slices.ContainsFunc(t.Values, func(k string) bool { _, has := a.node.Tags[k]; return has })
		case isTag:
			value, has := a.node.Tags[tag]
			fitting = has && slices.Contains(t.Values, value)
		}
		if !fitting {
			return false
		}
	}
	return a.node != nil && len(targets) > 0
}

func (c *call) describeMaintenanceWindowsForTarget(in *ssm.DescribeMaintenanceWindowsForTargetInput) (*ssm.DescribeMaintenanceWindowsForTargetOutput, error) {
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowsForTargetOutput{WindowIdentities: []types.MaintenanceWindowIdentityForTarget{}}
	if len(in.Targets) == 0 {
		return out, nil
	}
	windows, err := c.windowsFor(nil, in.Targets)
	if err != nil {
		return nil, err
	}
	next := ""
	for _, w := range windows {
		if w.ID < start {
			continue
		}
		if len(out.WindowIdentities) == min(pageSize(in.MaxResults), maxSchedulePage) {
			next = w.ID
			break
		}
		out.WindowIdentities = append(out.WindowIdentities, types.MaintenanceWindowIdentityForTarget{WindowId: &w.ID, Name: &w.Name})
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// timeBounds reads the values of a filter by time.
func timeBounds(values []string) ([]time.Time, error) {
	var bounds []time.Time
	for _, v := range values {
		t, err := schedule.Date(v)
		if err != nil {
			return nil, refuse(codeValidation, "%s", err)
		}
		bounds = append(bounds, t)
	}
	return bounds, nil
}
