package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// nightly is a window that opens at two in Berlin.
func nightly() *ssm.CreateMaintenanceWindowInput {
	return &ssm.CreateMaintenanceWindowInput{
		Name: aws.String("nightly"), Schedule: aws.String("cron(0 2 * * ? *)"), ScheduleTimezone: aws.String("Europe/Berlin"),
		Duration: aws.Int32(4), Cutoff: 1, Description: aws.String("what for"),
	}
}

func createWindow(t *testing.T, c *ssm.Client, in *ssm.CreateMaintenanceWindowInput) string {
	t.Helper()
	out, err := c.CreateMaintenanceWindow(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.WindowId
}

func registerTarget(t *testing.T, c *ssm.Client, window string, targets ...types.Target) string {
	t.Helper()
	out, err := c.RegisterTargetWithMaintenanceWindow(t.Context(), &ssm.RegisterTargetWithMaintenanceWindowInput{
		WindowId: &window, ResourceType: types.MaintenanceWindowResourceTypeInstance, Targets: targets, OwnerInformation: aws.String("the site"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return *out.WindowTargetId
}

func byRole(role string) types.Target {
	return types.Target{Key: aws.String("tag:role"), Values: []string{role}}
}

func atTargets(ids ...string) []types.Target {
	return []types.Target{{Key: aws.String("WindowTargetIds"), Values: ids}}
}

func shellTask(window string, targets []types.Target) *ssm.RegisterTaskWithMaintenanceWindowInput {
	return &ssm.RegisterTaskWithMaintenanceWindowInput{
		WindowId: &window, TaskArn: aws.String(shellDocument), TaskType: types.MaintenanceWindowTaskTypeRunCommand, Targets: targets,
		MaxConcurrency: aws.String("2"), MaxErrors: aws.String("1"),
		TaskInvocationParameters: &types.MaintenanceWindowTaskInvocationParameters{RunCommand: &types.MaintenanceWindowRunCommandParameters{Parameters: shell("true")}},
	}
}

func TestMaintenanceWindows(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	id := createWindow(t, c, nightly())
	if !strings.HasPrefix(id, "mw-") || len(id) != 20 {
		t.Errorf("id %q", id)
	}
	got, err := c.GetMaintenanceWindow(t.Context(), &ssm.GetMaintenanceWindowInput{WindowId: &id})
	if err != nil {
		t.Fatal(err)
	}
	next, err := time.Parse(time.RFC3339, aws.ToString(got.NextExecutionTime))
	if err != nil || !next.After(b.clock.now()) || next.After(b.clock.now().Add(26*time.Hour)) || next.Hour() != 2 {
		t.Errorf("opens next %q, %v", aws.ToString(got.NextExecutionTime), err)
	}
	if !got.Enabled || *got.Duration != 4 || got.Cutoff != 1 || *got.Description != "what for" || got.AllowUnassociatedTargets || got.ScheduleOffset != nil || got.CreatedDate == nil {
		t.Errorf("got %+v", got)
	}
	updated, err := c.UpdateMaintenanceWindow(t.Context(), &ssm.UpdateMaintenanceWindowInput{WindowId: &id, Enabled: aws.Bool(false), Cutoff: aws.Int32(0)})
	if err != nil || updated.Enabled || updated.Cutoff != 0 || *updated.Description != "what for" || *updated.ScheduleTimezone != "Europe/Berlin" {
		t.Errorf("what is not given stays: %+v, %v", updated, err)
	}
	if got, err = c.GetMaintenanceWindow(t.Context(), &ssm.GetMaintenanceWindowInput{WindowId: &id}); err != nil || got.NextExecutionTime != nil {
		t.Errorf("a disabled window opens %v, %v", got.NextExecutionTime, err)
	}
	_, err = c.UpdateMaintenanceWindow(t.Context(), &ssm.UpdateMaintenanceWindowInput{WindowId: &id, Replace: aws.Bool(true), Name: aws.String("other")})
	wantCode(t, err, codeValidation, "Member must not be null")
	replaced, err := c.UpdateMaintenanceWindow(t.Context(), &ssm.UpdateMaintenanceWindowInput{
		WindowId: &id, Replace: aws.Bool(true), Name: aws.String("other"), Schedule: aws.String("rate(1 day)"), Duration: aws.Int32(2), Cutoff: aws.Int32(1), AllowUnassociatedTargets: aws.Bool(true),
	})
	if err != nil || replaced.Description != nil || replaced.ScheduleTimezone != nil || *replaced.Name != "other" || !replaced.AllowUnassociatedTargets || replaced.Enabled {
		t.Errorf("what is not given is emptied: %+v, %v", replaced, err)
	}
	for range 2 {
		if out, err := c.DeleteMaintenanceWindow(t.Context(), &ssm.DeleteMaintenanceWindowInput{WindowId: &id}); err != nil || *out.WindowId != id {
			t.Errorf("delete, and again: %+v, %v", out, err)
		}
	}
	_, err = c.GetMaintenanceWindow(t.Context(), &ssm.GetMaintenanceWindowInput{WindowId: &id})
	wantCode(t, err, codeDoesNotExist, id)
}

func TestWindowsThatAreRefused(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	for name, test := range map[string]struct {
		change func(*ssm.CreateMaintenanceWindowInput)
		says   string
	}{
		"a schedule": {func(in *ssm.CreateMaintenanceWindowInput) { in.Schedule = aws.String("cron(0 25 * * ? *)") }, "character 8"},
		"too often":  {func(in *ssm.CreateMaintenanceWindowInput) { in.Schedule = aws.String("rate(4 minutes)") }, "5 minutes"},
		"a zone":     {func(in *ssm.CreateMaintenanceWindowInput) { in.ScheduleTimezone = aws.String("Europe/Wien") }, "IANA"},
		"an offset":  {func(in *ssm.CreateMaintenanceWindowInput) { in.ScheduleOffset = aws.Int32(7) }, "scheduleOffset"},
		"an offset of a rate": {func(in *ssm.CreateMaintenanceWindowInput) {
			in.Schedule, in.ScheduleOffset = aws.String("rate(1 day)"), aws.Int32(1)
		}, "only cron"},
		"a date": {func(in *ssm.CreateMaintenanceWindowInput) { in.StartDate = aws.String("tomorrow") }, "ISO-8601"},
		"an end before a start": {func(in *ssm.CreateMaintenanceWindowInput) {
			in.StartDate, in.EndDate = aws.String("2027-02-01"), aws.String("2027-01-01")
		}, "end date"},
		"a cutoff":   {func(in *ssm.CreateMaintenanceWindowInput) { in.Cutoff = 4 }, "less than the duration"},
		"a duration": {func(in *ssm.CreateMaintenanceWindowInput) { in.Duration = aws.Int32(25) }, "duration"},
		"a tag": {func(in *ssm.CreateMaintenanceWindowInput) {
			in.Tags = []types.Tag{{Key: aws.String("mesh:missed"), Value: aws.String("maybe")}}
		}, "run or skip"},
	} {
		in := nightly()
		test.change(in)
		_, err := c.CreateMaintenanceWindow(t.Context(), in)
		wantCode(t, err, codeValidation, test.says)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestWindowTokens(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	in := nightly()
	in.ClientToken = aws.String("one")
	id := createWindow(t, c, in)
	if again := createWindow(t, c, in); again != id {
		t.Errorf("the same token made %s and %s", id, again)
	}
	in.Cutoff = 2
	_, err := c.CreateMaintenanceWindow(t.Context(), in)
	wantCode(t, err, codeIdempotency, id)
	target := &ssm.RegisterTargetWithMaintenanceWindowInput{WindowId: &id, ResourceType: types.MaintenanceWindowResourceTypeInstance, Targets: []types.Target{byRole("web")}, ClientToken: aws.String("one")}
	first, err := c.RegisterTargetWithMaintenanceWindow(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.RegisterTargetWithMaintenanceWindow(t.Context(), target); err != nil || *again.WindowTargetId != *first.WindowTargetId {
		t.Errorf("the same token: %+v, %v", again, err)
	}
	target.Targets = []types.Target{byRole("db")}
	_, err = c.RegisterTargetWithMaintenanceWindow(t.Context(), target)
	wantCode(t, err, codeIdempotency, *first.WindowTargetId)
	task := shellTask(id, atTargets(*first.WindowTargetId))
	task.ClientToken = aws.String("one")
	made, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), task); err != nil || *again.WindowTaskId != *made.WindowTaskId {
		t.Errorf("the same token: %+v, %v", again, err)
	}
	task.MaxErrors = aws.String("2")
	_, err = c.RegisterTaskWithMaintenanceWindow(t.Context(), task)
	wantCode(t, err, codeIdempotency, *made.WindowTaskId)
}

func TestWindowQuotas(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	b.leader.cfg.Windows, b.leader.cfg.WindowTasks, b.leader.cfg.WindowTargets = 1, 1, 2
	id := createWindow(t, c, nightly())
	_, err := c.CreateMaintenanceWindow(t.Context(), nightly())
	wantCode(t, err, codeResourceLimit, "window-limit")
	target := registerTarget(t, c, id, byRole("web"))
	registerTarget(t, c, id, byRole("db"))
	_, err = c.RegisterTargetWithMaintenanceWindow(t.Context(), &ssm.RegisterTargetWithMaintenanceWindowInput{WindowId: &id, ResourceType: types.MaintenanceWindowResourceTypeInstance, Targets: []types.Target{byRole("x")}})
	wantCode(t, err, codeResourceLimit, "window-target-limit")
	if _, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), shellTask(id, atTargets(target))); err != nil {
		t.Fatal(err)
	}
	_, err = c.RegisterTaskWithMaintenanceWindow(t.Context(), shellTask(id, atTargets(target)))
	wantCode(t, err, codeResourceLimit, "window-task-limit")
	// What an opening freezes has to fit into one transaction.
	b.leader.cfg.WindowTasks = 20
	long := shellTask(id, atTargets(target))
	long.TaskInvocationParameters.RunCommand.Parameters = shell(strings.Repeat("x", 60<<10))
	for n := 0; ; n++ {
		long.ClientToken = nil // the SDK leaves the one of its last call
		if _, err = c.RegisterTaskWithMaintenanceWindow(t.Context(), long); err != nil || n == 3 {
			break
		}
	}
	wantCode(t, err, codeResourceLimit, "Put long scripts into documents")
}

func TestWindowTargetsAndTasks(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	id := createWindow(t, c, nightly())
	for _, test := range []struct {
		kind    types.MaintenanceWindowResourceType
		targets []types.Target
		code    string
		says    string
	}{
		{types.MaintenanceWindowResourceTypeResourceGroup, []types.Target{{Key: aws.String("resource-groups:Name"), Values: []string{"g"}}}, codeValidation, "no resource groups"},
		{types.MaintenanceWindowResourceTypeInstance, []types.Target{{Key: aws.String("resource-groups:Name"), Values: []string{"g"}}}, codeInvalidTarget, "no resource groups"},
		{types.MaintenanceWindowResourceTypeInstance, []types.Target{}, codeValidation, "at least one key"},
		{types.MaintenanceWindowResourceTypeInstance, []types.Target{{Key: aws.String("InstanceIds"), Values: []string{"mi-0000000000000000f"}}}, codeInvalidInstance, "mi-0000000000000000f"},
		{types.MaintenanceWindowResourceTypeInstance, []types.Target{{Key: aws.String(raftstore.TargetUnsuccessful), Values: []string{"x"}}}, codeInvalidTarget, "mesh:resume"},
	} {
		_, err := c.RegisterTargetWithMaintenanceWindow(t.Context(), &ssm.RegisterTargetWithMaintenanceWindowInput{WindowId: &id, ResourceType: test.kind, Targets: test.targets})
		wantCode(t, err, test.code, test.says)
	}
	target := registerTarget(t, c, id, byRole("web"))
	other := registerTarget(t, c, id, types.Target{Key: aws.String("InstanceIds"), Values: []string{memberID}})
	updated, err := c.UpdateMaintenanceWindowTarget(t.Context(), &ssm.UpdateMaintenanceWindowTargetInput{WindowId: &id, WindowTargetId: &target, Name: aws.String("all-web")})
	if err != nil || *updated.Name != "all-web" || *updated.OwnerInformation != "the site" || *updated.Targets[0].Key != "tag:role" {
		t.Errorf("%+v, %v", updated, err)
	}
	if updated, err = c.UpdateMaintenanceWindowTarget(t.Context(), &ssm.UpdateMaintenanceWindowTargetInput{WindowId: &id, WindowTargetId: &target, Replace: aws.Bool(true), Targets: []types.Target{byRole("web")}}); err != nil || updated.Name != nil || updated.OwnerInformation != nil {
		t.Errorf("%+v, %v", updated, err)
	}
	listed, err := c.DescribeMaintenanceWindowTargets(t.Context(), &ssm.DescribeMaintenanceWindowTargetsInput{WindowId: &id, Filters: []types.MaintenanceWindowFilter{{Key: aws.String("OwnerInformation"), Values: []string{"the site"}}}})
	if err != nil || len(listed.Targets) != 1 || *listed.Targets[0].WindowTargetId != other || listed.Targets[0].ResourceType != types.MaintenanceWindowResourceTypeInstance {
		t.Errorf("%+v, %v", listed, err)
	}

	for name, test := range map[string]struct {
		change func(*ssm.RegisterTaskWithMaintenanceWindowInput)
		code   string
		says   string
	}{
		"Lambda": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.TaskType = types.MaintenanceWindowTaskTypeLambda
		}, codeFeatureNotAvailable, "no Lambda"},
		"Step Functions": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.TaskType = types.MaintenanceWindowTaskTypeStepFunctions
		}, codeFeatureNotAvailable, "no Step Functions"},
		"no targets": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) { in.Targets = nil }, codeValidation, "has targets"},
		"no rate":    {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) { in.MaxErrors = nil }, codeValidation, "require MaxConcurrency and MaxErrors"},
		"a strange target": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.Targets = atTargets("11111111-2222-4333-8444-555555555555")
		}, codeDoesNotExist, "has no target"},
		"a tag": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) { in.Targets = []types.Target{byRole("web")} }, codeValidation, "WindowTargetIds"},
		"a stranger": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.Targets = []types.Target{{Key: aws.String("InstanceIds"), Values: []string{leaderID}}}
		}, codeValidation, "no unassociated targets"},
		"a document": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) { in.TaskArn = aws.String("none") }, codeDoesNotExist, "none"},
		"TARGET_ID": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.TaskInvocationParameters.RunCommand.Parameters = shell("echo {{ TARGET_ID }}")
		}, codeValidation, "TARGET_ID"},
		"S3": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.TaskInvocationParameters.RunCommand.OutputS3BucketName = aws.String("bucket")
		}, "InvalidOutputFolder", ""},
		"others' parameters": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.TaskInvocationParameters.Automation = &types.MaintenanceWindowAutomationParameters{}
		}, codeValidation, "AUTOMATION"},
		"an automation's rate": {func(in *ssm.RegisterTaskWithMaintenanceWindowInput) {
			in.TaskType, in.Targets, in.TaskInvocationParameters = types.MaintenanceWindowTaskTypeAutomation, nil, nil
		}, codeValidation, "Maintenance window tasks without targets don't support MaxConcurrency values"},
	} {
		in := shellTask(id, atTargets(target))
		test.change(in)
		_, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), in)
		wantCode(t, err, test.code, test.says)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	registered := []types.Target{{Key: aws.String("InstanceIds"), Values: []string{memberID}}}
	if _, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), shellTask(id, registered)); err != nil {
		t.Errorf("a node that is registered: %v", err)
	}
	made, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), shellTask(id, atTargets(target)))
	if err != nil {
		t.Fatal(err)
	}
	automation, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), &ssm.RegisterTaskWithMaintenanceWindowInput{WindowId: &id, TaskArn: aws.String("book"), TaskType: types.MaintenanceWindowTaskTypeAutomation})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := c.GetMaintenanceWindowTask(t.Context(), &ssm.GetMaintenanceWindowTaskInput{WindowId: &id, WindowTaskId: automation.WindowTaskId})
	if err != nil || *shown.MaxConcurrency != "1" || *shown.MaxErrors != "1" || shown.TaskType != types.MaintenanceWindowTaskTypeAutomation {
		t.Errorf("%+v, %v", shown, err)
	}
	task, err := c.UpdateMaintenanceWindowTask(t.Context(), &ssm.UpdateMaintenanceWindowTaskInput{WindowId: &id, WindowTaskId: made.WindowTaskId, Priority: aws.Int32(0), CutoffBehavior: types.MaintenanceWindowTaskCutoffBehaviorCancelTask})
	if err != nil || task.Priority != 0 || *task.MaxErrors != "1" || task.TaskInvocationParameters.RunCommand.Parameters["commands"][0] != "true" {
		t.Errorf("%+v, %v", task, err)
	}
	tasks, err := c.DescribeMaintenanceWindowTasks(t.Context(), &ssm.DescribeMaintenanceWindowTasksInput{WindowId: &id, Filters: []types.MaintenanceWindowFilter{{Key: aws.String("Priority"), Values: []string{"0"}}}})
	if err != nil || len(tasks.Tasks) != 1 || *tasks.Tasks[0].WindowTaskId != *made.WindowTaskId || tasks.Tasks[0].CutoffBehavior != types.MaintenanceWindowTaskCutoffBehaviorCancelTask {
		t.Errorf("%+v, %v", tasks, err)
	}
	_, err = c.DeregisterTargetFromMaintenanceWindow(t.Context(), &ssm.DeregisterTargetFromMaintenanceWindowInput{WindowId: &id, WindowTargetId: &target, Safe: aws.Bool(true)})
	wantCode(t, err, codeTargetInUse, *made.WindowTaskId)
	if _, err = c.DeregisterTaskFromMaintenanceWindow(t.Context(), &ssm.DeregisterTaskFromMaintenanceWindowInput{WindowId: &id, WindowTaskId: made.WindowTaskId}); err != nil {
		t.Error(err)
	}
	for range 2 {
		_, err = c.DeregisterTargetFromMaintenanceWindow(t.Context(), &ssm.DeregisterTargetFromMaintenanceWindowInput{WindowId: &id, WindowTargetId: &target, Safe: aws.Bool(true)})
	}
	wantCode(t, err, codeDoesNotExist, target)
	_, err = c.DescribeMaintenanceWindowTasks(t.Context(), &ssm.DescribeMaintenanceWindowTasksInput{WindowId: &id, Filters: []types.MaintenanceWindowFilter{{Key: aws.String("Colour"), Values: []string{"0"}}}})
	wantCode(t, err, codeValidation, "Colour")
}

// Whatever is registered or deregistered changes the window's record: an opening is
// claimed with all of it or not at all.
func TestWhatIsRegisteredChangesTheWindow(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	id := createWindow(t, c, nightly())
	var last uint64
	changed := func(what string) {
		t.Helper()
		b.read(func(r raftstore.Reader) error {
			w, err := raftstore.GetWindow(r, id)
			if w.ModifyIndex == last {
				t.Errorf("%s leaves the window's record as it was", what)
			}
			last = w.ModifyIndex
			return err
		})
	}
	changed("creating")
	target := registerTarget(t, c, id, byRole("web"))
	changed("a target")
	task, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), shellTask(id, atTargets(target)))
	changed("a task")
	if err == nil {
		_, err = c.UpdateMaintenanceWindowTask(t.Context(), &ssm.UpdateMaintenanceWindowTaskInput{WindowId: &id, WindowTaskId: task.WindowTaskId, Priority: aws.Int32(5)})
		changed("another priority")
	}
	if err == nil {
		_, err = c.UpdateMaintenanceWindowTarget(t.Context(), &ssm.UpdateMaintenanceWindowTargetInput{WindowId: &id, WindowTargetId: &target, Name: aws.String("name")})
		changed("another name of a target")
	}
	if err == nil {
		_, err = c.DeregisterTaskFromMaintenanceWindow(t.Context(), &ssm.DeregisterTaskFromMaintenanceWindowInput{WindowId: &id, WindowTaskId: task.WindowTaskId})
		changed("a task that goes")
	}
	if err == nil {
		_, err = c.DeregisterTargetFromMaintenanceWindow(t.Context(), &ssm.DeregisterTargetFromMaintenanceWindowInput{WindowId: &id, WindowTargetId: &target})
		changed("a target that goes")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What a window does at its openings begins anew when its schedule changes or it is
// enabled, and with nothing else.
func TestWhatIsNoOpening(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	id := createWindow(t, c, nightly())
	var was raftstore.Window
	look := func() (w raftstore.Window) {
		b.read(func(r raftstore.Reader) (err error) {
			w, err = raftstore.GetWindow(r, id)
			return err
		})
		return w
	}
	was = look()
	for _, test := range []struct {
		in           ssm.UpdateMaintenanceWindowInput
		anew, opened bool
	}{
		{ssm.UpdateMaintenanceWindowInput{Name: aws.String("other"), Duration: aws.Int32(5)}, false, false},
		{ssm.UpdateMaintenanceWindowInput{Schedule: aws.String(was.Schedule)}, false, false},
		{ssm.UpdateMaintenanceWindowInput{Enabled: aws.Bool(false)}, false, false},
		{ssm.UpdateMaintenanceWindowInput{Enabled: aws.Bool(true)}, false, true},
		{ssm.UpdateMaintenanceWindowInput{EndDate: aws.String("2199-01-01")}, false, true},
		{ssm.UpdateMaintenanceWindowInput{ScheduleTimezone: aws.String("Asia/Tokyo")}, true, true},
		{ssm.UpdateMaintenanceWindowInput{ScheduleOffset: aws.Int32(2)}, true, true},
	} {
		b.clock.move(time.Second)
		test.in.WindowId = &id
		if _, err := c.UpdateMaintenanceWindow(t.Context(), &test.in); err != nil {
			t.Fatal(err)
		}
		is := look()
		if is.ScheduledAt.Equal(was.ScheduledAt) == test.anew || is.OpensAfter.Equal(was.OpensAfter) == test.opened {
			t.Errorf("%+v: scheduled %s and %s, opens after %s and %s", test.in, was.ScheduledAt, is.ScheduledAt, was.OpensAfter, is.OpensAfter)
		}
		was = is
	}
}

func TestWindowLists(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	names := map[string]string{}
	for n := range 12 {
		in := nightly()
		in.Name = aws.String(fmt.Sprintf("window-%d", n%6))
		in.Schedule = aws.String(fmt.Sprintf("cron(%d 3 * * ? *)", n))
		names[createWindow(t, c, in)] = *in.Name
	}
	found := map[string]bool{}
	pages := ssm.NewDescribeMaintenanceWindowsPaginator(c, &ssm.DescribeMaintenanceWindowsInput{MaxResults: aws.Int32(10)})
	for turns := 0; pages.HasMorePages(); turns++ {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := []int{10, 2}[turns]; len(page.WindowIdentities) != want {
			t.Errorf("page %d has %d", turns, len(page.WindowIdentities))
		}
		for _, w := range page.WindowIdentities {
			found[*w.WindowId] = true
			if w.NextExecutionTime == nil {
				t.Errorf("%s never opens", *w.Name)
			}
		}
	}
	if len(found) != 12 {
		t.Errorf("%d windows", len(found))
	}
	some, err := c.DescribeMaintenanceWindows(t.Context(), &ssm.DescribeMaintenanceWindowsInput{Filters: []types.MaintenanceWindowFilter{
		{Key: aws.String("Name"), Values: []string{"window-1", "window-2"}}, {Key: aws.String("Enabled"), Values: []string{"True"}},
	}})
	if err != nil || len(some.WindowIdentities) != 4 {
		t.Errorf("%+v, %v", some, err)
	}
	var last time.Time
	total := 0
	openings := ssm.NewDescribeMaintenanceWindowSchedulePaginator(c, &ssm.DescribeMaintenanceWindowScheduleInput{MaxResults: aws.Int32(7), Filters: []types.PatchOrchestratorFilter{
		{Key: aws.String("ScheduledBefore"), Values: []string{b.clock.now().Add(48 * time.Hour).UTC().Format(time.RFC3339)}},
	}})
	for openings.HasMorePages() {
		page, err := openings.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.clock.move(time.Minute) // between pages
		for _, o := range page.ScheduledWindowExecutions {
			at, err := time.Parse(time.RFC3339, *o.ExecutionTime)
			if err != nil || at.Before(last) || names[*o.WindowId] != *o.Name {
				t.Errorf("%+v after %s: %v", o, last, err)
			}
			last = at
			total++
		}
	}
	if total < 23 || total > 25 {
		t.Errorf("%d openings of 12 windows in two days", total)
	}
	for id := range names {
		out, err := c.DescribeMaintenanceWindowSchedule(t.Context(), &ssm.DescribeMaintenanceWindowScheduleInput{WindowId: &id, MaxResults: aws.Int32(1000)})
		if err != nil || len(out.ScheduledWindowExecutions) != foreseen || out.NextToken != nil {
			t.Errorf("%d openings of one window, %v", len(out.ScheduledWindowExecutions), err)
		}
		break
	}
}

func TestWindowsForTarget(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	web, db, own := nightly(), nightly(), nightly()
	web.Name, db.Name, own.Name, own.AllowUnassociatedTargets = aws.String("web"), aws.String("dbs"), aws.String("own"), true
	webID, dbID, ownID := createWindow(t, c, web), createWindow(t, c, db), createWindow(t, c, own)
	registerTarget(t, c, webID, byRole("web"))
	registerTarget(t, c, dbID, byRole("db"))
	if _, err := c.RegisterTaskWithMaintenanceWindow(t.Context(), shellTask(ownID, []types.Target{{Key: aws.String("InstanceIds"), Values: []string{memberID}}})); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		target types.Target
		want   int
	}{
		{types.Target{Key: aws.String("InstanceIds"), Values: []string{memberID}}, 2}, // by its tag, and by a task
		{types.Target{Key: aws.String("InstanceIds"), Values: []string{leaderID}}, 0},
		{byRole("db"), 1},
	} {
		out, err := c.DescribeMaintenanceWindowsForTarget(t.Context(), &ssm.DescribeMaintenanceWindowsForTargetInput{ResourceType: types.MaintenanceWindowResourceTypeInstance, Targets: []types.Target{test.target}})
		if err != nil || len(out.WindowIdentities) != test.want {
			t.Errorf("%v: %+v, %v", test.target, out, err)
		}
	}
}

func TestWindowTags(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	id := createWindow(t, c, nightly())
	tag := func(key, value string) error {
		_, err := c.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceType: types.ResourceTypeForTaggingMaintenanceWindow, ResourceId: &id, Tags: []types.Tag{{Key: &key, Value: &value}}})
		return err
	}
	wantCode(t, tag("mesh:resume", "yes"), codeValidation, "true or false")
	if err := tag("mesh:resume", "true"); err != nil {
		t.Fatal(err)
	}
	out, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingMaintenanceWindow, ResourceId: &id})
	if err != nil || len(out.TagList) != 1 || *out.TagList[0].Value != "true" {
		t.Errorf("%+v, %v", out, err)
	}
	id = "mw-0000000000000000f"
	wantCode(t, tag("a", "b"), codeInvalidResource, "")
}

func TestWindowExecutions(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	window := createWindow(t, c, nightly())
	at := b.clock.now().UTC().Truncate(time.Second)
	const run, task, invocation = "21111111-2222-5333-8444-555555555555", "31111111-2222-5333-8444-555555555555", "41111111-2222-5333-8444-555555555555"
	x := raftstore.WindowExecution{ID: run, WindowID: window, ScheduledAt: at, StartedAt: at, CutoffAt: at.Add(time.Hour), ClosesAt: at.Add(time.Hour), Status: "IN_PROGRESS", Epoch: 1}
	missed := raftstore.WindowExecution{ID: "51111111-2222-5333-8444-555555555555", WindowID: window, ScheduledAt: at.Add(-24 * time.Hour), StartedAt: at.Add(-24 * time.Hour), EndedAt: at, Status: "TIMED_OUT", StatusDetails: "missed", Missed: true, Epoch: 1}
	definition, err := json.Marshal(map[string]any{"TaskArn": shellDocument, "TaskType": "RUN_COMMAND", "Priority": 3, "MaxConcurrency": "1", "MaxErrors": "2", "Targets": []any{map[string]any{"Key": "WindowTargetIds", "Values": []string{task}}}})
	if err != nil {
		t.Fatal(err)
	}
	var txn raftstore.Txn
	txn.ClaimOpening(x)
	txn.ClaimOpening(missed)
	txn.PutNewWindowPlan(raftstore.WindowPlan{ExecutionID: run, Tasks: []raftstore.WindowPlanTask{{ID: task, TaskID: "t", Definition: definition}}})
	txn.PutWindowTaskExecution(raftstore.WindowTaskExecution{ExecutionID: run, ID: task, TaskID: "t", Status: "IN_PROGRESS", StartedAt: at})
	txn.PutWindowInvocation(raftstore.WindowInvocation{ExecutionID: run, TaskID: task, ID: invocation, WindowTargetID: task, OwnerInformation: "the site", CommandID: "c1", Parameters: "{}", Status: "IN_PROGRESS", StartedAt: at})
	b.apply(txn)

	list, err := c.DescribeMaintenanceWindowExecutions(t.Context(), &ssm.DescribeMaintenanceWindowExecutionsInput{WindowId: &window})
	if err != nil || len(list.WindowExecutions) != 2 || *list.WindowExecutions[0].WindowExecutionId != run || *list.WindowExecutions[1].StatusDetails != "missed" || list.WindowExecutions[0].EndTime != nil {
		t.Fatalf("the newest first: %+v, %v", list, err)
	}
	list, err = c.DescribeMaintenanceWindowExecutions(t.Context(), &ssm.DescribeMaintenanceWindowExecutionsInput{WindowId: &window, Filters: []types.MaintenanceWindowFilter{{Key: aws.String("ExecutedBefore"), Values: []string{at.Format(time.RFC3339)}}}})
	if err != nil || len(list.WindowExecutions) != 1 || list.WindowExecutions[0].Status != types.MaintenanceWindowExecutionStatusTimedOut {
		t.Errorf("%+v, %v", list, err)
	}
	whole, err := c.GetMaintenanceWindowExecution(t.Context(), &ssm.GetMaintenanceWindowExecutionInput{WindowExecutionId: aws.String(run)})
	if err != nil || len(whole.TaskIds) != 1 || whole.TaskIds[0] != task || whole.Status != types.MaintenanceWindowExecutionStatusInProgress {
		t.Errorf("%+v, %v", whole, err)
	}
	tasks, err := c.DescribeMaintenanceWindowExecutionTasks(t.Context(), &ssm.DescribeMaintenanceWindowExecutionTasksInput{WindowExecutionId: aws.String(run), Filters: []types.MaintenanceWindowFilter{{Key: aws.String("STATUS"), Values: []string{"IN_PROGRESS"}}}})
	if err != nil || len(tasks.WindowExecutionTaskIdentities) != 1 || *tasks.WindowExecutionTaskIdentities[0].TaskArn != shellDocument {
		t.Errorf("%+v, %v", tasks, err)
	}
	one, err := c.GetMaintenanceWindowExecutionTask(t.Context(), &ssm.GetMaintenanceWindowExecutionTaskInput{WindowExecutionId: aws.String(run), TaskId: aws.String(task)})
	if err != nil || one.Priority != 3 || *one.MaxErrors != "2" || one.Type != types.MaintenanceWindowTaskTypeRunCommand {
		t.Errorf("%+v, %v", one, err)
	}
	invocations, err := c.DescribeMaintenanceWindowExecutionTaskInvocations(t.Context(), &ssm.DescribeMaintenanceWindowExecutionTaskInvocationsInput{WindowExecutionId: aws.String(run), TaskId: aws.String(task)})
	if err != nil || len(invocations.WindowExecutionTaskInvocationIdentities) != 1 || *invocations.WindowExecutionTaskInvocationIdentities[0].ExecutionId != "c1" {
		t.Errorf("%+v, %v", invocations, err)
	}
	i, err := c.GetMaintenanceWindowExecutionTaskInvocation(t.Context(), &ssm.GetMaintenanceWindowExecutionTaskInvocationInput{WindowExecutionId: aws.String(run), TaskId: aws.String(task), InvocationId: aws.String(invocation)})
	if err != nil || *i.OwnerInformation != "the site" || *i.WindowTargetId != task || *i.Parameters != "{}" {
		t.Errorf("%+v, %v", i, err)
	}
	for range 2 {
		if _, err := c.CancelMaintenanceWindowExecution(t.Context(), &ssm.CancelMaintenanceWindowExecutionInput{WindowExecutionId: aws.String(run)}); err != nil {
			t.Fatal(err)
		}
	}
	if whole, err = c.GetMaintenanceWindowExecution(t.Context(), &ssm.GetMaintenanceWindowExecutionInput{WindowExecutionId: aws.String(run)}); err != nil || whole.Status != types.MaintenanceWindowExecutionStatusCancelling {
		t.Errorf("%+v, %v", whole, err)
	}
	if _, err := c.CancelMaintenanceWindowExecution(t.Context(), &ssm.CancelMaintenanceWindowExecutionInput{WindowExecutionId: &missed.ID}); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
	_, err = c.CancelMaintenanceWindowExecution(t.Context(), &ssm.CancelMaintenanceWindowExecutionInput{WindowExecutionId: aws.String("61111111-2222-5333-8444-555555555555")})
	wantCode(t, err, codeDoesNotExist, "61111111")
	_, err = c.GetMaintenanceWindowExecutionTask(t.Context(), &ssm.GetMaintenanceWindowExecutionTaskInput{WindowExecutionId: aws.String(run), TaskId: aws.String(run)})
	wantCode(t, err, codeDoesNotExist, "has no task")
}
