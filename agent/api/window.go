package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

// Quotas of Systems Manager, which the settings of a mesh may change.
const (
	MaxWindows       = 50
	MaxWindowTasks   = 20
	MaxWindowTargets = 100
)

const windowIDPrefix = "mw-"

// requestHash is what two requests with one client token must agree in. in has no
// token.
func requestHash(in any) (string, error) {
	canonical, err := awsjson.Marshal(in)
	if err != nil {
		return "", fmt.Errorf("encode the request: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// newHexID draws an id of a prefix and 17 hexadecimal digits.
func newHexID(prefix string) (string, error) {
	digits := make([]byte, 9)
	if _, err := rand.Read(digits); err != nil {
		return "", fmt.Errorf("draw an id: %w", err)
	}
	return prefix + hex.EncodeToString(digits)[:17], nil
}

func (c *call) createMaintenanceWindow(in *ssm.CreateMaintenanceWindowInput) (*ssm.CreateMaintenanceWindowOutput, error) {
	asked := *in
	asked.ClientToken = nil
	request, err := requestHash(&asked)
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientToken)
	if token != "" {
		made, err := raftstore.GetWindowByToken(c, token)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
		case err != nil:
			return nil, err
		case made.Request != request:
			return nil, refuse(codeIdempotency, "The ClientToken was used for the maintenance window %s with other parameters.", made.ID)
		default:
			return &ssm.CreateMaintenanceWindowOutput{WindowId: &made.ID}, nil
		}
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := checkWindowTags(tags); err != nil {
		return nil, err
	}
	w := raftstore.Window{
		Name: aws.ToString(in.Name), Description: aws.ToString(in.Description), Schedule: aws.ToString(in.Schedule),
		ScheduleTimezone: aws.ToString(in.ScheduleTimezone), ScheduleOffset: int(aws.ToInt32(in.ScheduleOffset)),
		StartDate: aws.ToString(in.StartDate), EndDate: aws.ToString(in.EndDate),
		Duration: int(aws.ToInt32(in.Duration)), Cutoff: int(in.Cutoff), AllowUnassociatedTargets: in.AllowUnassociatedTargets,
		Enabled: true, CreatedAt: c.now, ModifiedAt: c.now, ScheduledAt: c.now, OpensAfter: c.now,
		Caller: c.who.name, Tags: tags, ClientToken: token, Request: request,
	}
	if err := checkWindow(&w); err != nil {
		return nil, err
	}
	if raftstore.CountWindows(c) >= c.face.cfg.Windows {
		return nil, refuse(codeResourceLimit, "The mesh keeps at most %d maintenance windows (setting window-limit): delete one that is not in use.", c.face.cfg.Windows)
	}
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	if w.ID, err = newHexID(windowIDPrefix); err != nil {
		return nil, err
	}
	c.txn.PutWindow(w)
	c.txn.PutWindowState(raftstore.WindowState{WindowID: w.ID, HandledUntil: c.now, Epoch: mesh.Epoch})
	c.resource = w.ID
	return &ssm.CreateMaintenanceWindowOutput{WindowId: &w.ID}, nil
}

// checkWindow refuses a window that would never do what it says.
func checkWindow(w *raftstore.Window) error {
	if w.Cutoff >= w.Duration {
		return refuse(codeValidation, "The cutoff, %d hours, must be less than the duration, %d hours.", w.Cutoff, w.Duration)
	}
	if _, err := w.Timetable(); err != nil {
		return refuse(codeValidation, "%s", err)
	}
	return nil
}

// checkWindowTags refuses tags that a window cannot have, and such as the leader
// would not understand.
func checkWindowTags(tags map[string]string) error {
	if missed, given := tags[raftstore.WindowTagMissed]; given && missed != "run" && missed != "skip" {
		return refuse(codeValidation, "The tag %s is run or skip, not %q.", raftstore.WindowTagMissed, missed)
	}
	if resume, given := tags[raftstore.WindowTagResume]; given && resume != "true" && resume != "false" {
		return refuse(codeValidation, "The tag %s is true or false, not %q.", raftstore.WindowTagResume, resume)
	}
	return checkTagKeys(tags, "maintenance window")
}

func (c *call) findWindow(id string) (raftstore.Window, error) {
	w, err := raftstore.GetWindow(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return w, refuse(codeDoesNotExist, "Maintenance window %s doesn't exist. DescribeMaintenanceWindows shows those that there are.", id)
	}
	return w, err
}

// taggedWindow returns a window for tags.
func (c *call) taggedWindow(id string) (*tagged, error) {
	w, err := raftstore.GetWindow(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidResource, "The resource ID isn't valid: there is no maintenance window %s.", id)
	}
	if err != nil {
		return nil, err
	}
	return &tagged{id: w.ID, tags: w.Tags, check: checkWindowTags, put: func(tags map[string]string) {
		w.Tags = tags
		c.txn.PutWindow(w)
	}}, nil
}

// required refuses a request with Replace that leaves out what creating requires.
func required(members map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !members[name] {
			return refuse(codeValidation, "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null; with Replace all that is required to create is required.", name)
		}
	}
	return nil
}

func (c *call) updateMaintenanceWindow(in *ssm.UpdateMaintenanceWindowInput) (*ssm.UpdateMaintenanceWindowOutput, error) {
	was, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	w := was
	if aws.ToBool(in.Replace) {
		if err := required(map[string]bool{
			"name": in.Name != nil, "schedule": in.Schedule != nil, "duration": in.Duration != nil, "cutoff": in.Cutoff != nil,
			"allowUnassociatedTargets": in.AllowUnassociatedTargets != nil,
		}); err != nil {
			return nil, err
		}
		w.Description, w.ScheduleTimezone, w.ScheduleOffset, w.StartDate, w.EndDate = "", "", 0, "", ""
	}
	set(&w.Name, in.Name)
	set(&w.Description, in.Description)
	set(&w.Schedule, in.Schedule)
	set(&w.ScheduleTimezone, in.ScheduleTimezone)
	set(&w.StartDate, in.StartDate)
	set(&w.EndDate, in.EndDate)
	set(&w.AllowUnassociatedTargets, in.AllowUnassociatedTargets)
	set(&w.Enabled, in.Enabled)
	setNumber(&w.ScheduleOffset, in.ScheduleOffset)
	setNumber(&w.Duration, in.Duration)
	setNumber(&w.Cutoff, in.Cutoff)
	w.ModifiedAt = c.now
	anew := w.Schedule != was.Schedule || w.ScheduleTimezone != was.ScheduleTimezone || w.ScheduleOffset != was.ScheduleOffset || w.StartDate != was.StartDate
	if anew {
		w.ScheduledAt = c.now
	}
	if anew || w.EndDate != was.EndDate || w.Enabled && !was.Enabled {
		w.OpensAfter = c.now // what would have been is no opening that was missed
	}
	if err := checkWindow(&w); err != nil {
		return nil, err
	}
	c.txn.PutWindow(w)
	c.resource = w.ID
	return &ssm.UpdateMaintenanceWindowOutput{
		WindowId: &w.ID, Name: &w.Name, Description: optional(w.Description), Schedule: &w.Schedule, ScheduleTimezone: optional(w.ScheduleTimezone),
		ScheduleOffset: optionalNumber(w.ScheduleOffset), StartDate: optional(w.StartDate), EndDate: optional(w.EndDate),
		Duration: aws.Int32(int32(w.Duration)), Cutoff: int32(w.Cutoff), AllowUnassociatedTargets: w.AllowUnassociatedTargets, Enabled: w.Enabled,
	}, nil
}

// set takes over a member that is given.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

func setNumber(to *int, given *int32) {
	if given != nil {
		*to = int(*given)
	}
}

// optionalNumber makes 0 an absent number.
func optionalNumber(n int) *int32 {
	if n == 0 {
		return nil
	}
	return aws.Int32(int32(n))
}

func (c *call) deleteMaintenanceWindow(in *ssm.DeleteMaintenanceWindowInput) (*ssm.DeleteMaintenanceWindowOutput, error) {
	w, err := raftstore.GetWindow(c, *in.WindowId)
	if errors.Is(err, raftstore.ErrNotFound) {
		return &ssm.DeleteMaintenanceWindowOutput{WindowId: in.WindowId}, nil // as in Systems Manager
	}
	if err != nil {
		return nil, err
	}
	if err := c.txn.DeleteWindow(c, w); err != nil {
		return nil, err
	}
	c.resource = w.ID
	return &ssm.DeleteMaintenanceWindowOutput{WindowId: &w.ID}, nil
}

// openingText is how a moment of a window's schedule is told: in the window's zone.
func openingText(t time.Time) string { return t.Format(time.RFC3339) }

// nextOpening is when a window opens next, nil for never.
func (c *call) nextOpening(w *raftstore.Window) (*string, error) {
	if !w.Enabled {
		return nil, nil
	}
	timetable, err := w.Timetable()
	if err != nil {
		return nil, fmt.Errorf("read the schedule of window %s: %w", w.ID, err)
	}
	next, ok := timetable.Next(c.now)
	if !ok {
		return nil, nil
	}
	return aws.String(openingText(next)), nil
}

func (c *call) getMaintenanceWindow(in *ssm.GetMaintenanceWindowInput) (*ssm.GetMaintenanceWindowOutput, error) {
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	next, err := c.nextOpening(&w)
	if err != nil {
		return nil, err
	}
	return &ssm.GetMaintenanceWindowOutput{
		WindowId: &w.ID, Name: &w.Name, Description: optional(w.Description), Schedule: &w.Schedule, ScheduleTimezone: optional(w.ScheduleTimezone),
		ScheduleOffset: optionalNumber(w.ScheduleOffset), StartDate: optional(w.StartDate), EndDate: optional(w.EndDate),
		Duration: aws.Int32(int32(w.Duration)), Cutoff: int32(w.Cutoff), AllowUnassociatedTargets: w.AllowUnassociatedTargets, Enabled: w.Enabled,
		CreatedDate: &w.CreatedAt, ModifiedDate: &w.ModifiedAt, NextExecutionTime: next,
	}, nil
}

// windowFilters reads filters by key.
func windowFilters(filters []types.MaintenanceWindowFilter, keys ...string) (map[string][]string, error) {
	converted := make([]types.PatchOrchestratorFilter, len(filters))
	for i, f := range filters {
		converted[i] = types.PatchOrchestratorFilter(f)
	}
	return orchestratorFilters(converted, keys...)
}

func (c *call) describeMaintenanceWindows(in *ssm.DescribeMaintenanceWindowsInput) (*ssm.DescribeMaintenanceWindowsOutput, error) {
	filters, err := windowFilters(in.Filters, "Name", "Enabled")
	if err != nil {
		return nil, err
	}
	for _, v := range filters["Enabled"] {
		if !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
			return nil, refuse(codeValidation, "The filter Enabled is true or false, not %q.", v)
		}
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowsOutput{WindowIdentities: []types.MaintenanceWindowIdentity{}}
	next := ""
	var failed error
	err = raftstore.ScanWindows(c, start, func(w raftstore.Window) bool {
		if !fits(filters["Name"], func(v string) bool { return v == w.Name }) ||
			!fits(filters["Enabled"], func(v string) bool { return strings.EqualFold(v, fmt.Sprint(w.Enabled)) }) {
			return true
		}
		if len(out.WindowIdentities) == pageSize(in.MaxResults) {
			next = w.ID
			return false
		}
		var opening *string
		opening, failed = c.nextOpening(&w)
		out.WindowIdentities = append(out.WindowIdentities, types.MaintenanceWindowIdentity{
			WindowId: &w.ID, Name: &w.Name, Description: optional(w.Description), Enabled: w.Enabled, Duration: aws.Int32(int32(w.Duration)), Cutoff: int32(w.Cutoff),
			Schedule: &w.Schedule, ScheduleTimezone: optional(w.ScheduleTimezone), ScheduleOffset: optionalNumber(w.ScheduleOffset),
			StartDate: optional(w.StartDate), EndDate: optional(w.EndDate), NextExecutionTime: opening,
		})
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}
