package main

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

const (
	nightly       = "mw-0123456789abcdef0"
	webTarget     = "11111111-2222-4333-8444-555555555555"
	nightlyRun    = "21111111-2222-4333-8444-555555555555"
	nightlyTask   = "31111111-2222-4333-8444-555555555555"
	nightlyPatch  = "41111111-2222-4333-8444-555555555555"
	nightlySecond = "51111111-2222-4333-8444-555555555555"
)

// withWindows is a mesh with a window in use and one that is disabled.
func withWindows(t *testing.T) *fakeMesh {
	m := threeNodes(t)
	m.always("DescribeMaintenanceWindows", &ssm.DescribeMaintenanceWindowsOutput{WindowIdentities: []types.MaintenanceWindowIdentity{
		{WindowId: aws.String(nightly), Name: aws.String("nightly"), Enabled: true, Duration: aws.Int32(4), Cutoff: 1, Schedule: aws.String("cron(0 2 * * ? *)"),
			ScheduleTimezone: aws.String("Europe/Berlin"), NextExecutionTime: aws.String("2026-11-25T02:00:00+01:00")},
		{WindowId: aws.String("mw-0123456789abcdef1"), Name: aws.String("idle"), Duration: aws.Int32(1), Schedule: aws.String("rate(1 day)")},
	}})
	m.always("GetMaintenanceWindow", &ssm.GetMaintenanceWindowOutput{
		WindowId: aws.String(nightly), Name: aws.String("nightly"), Enabled: true, Duration: aws.Int32(4), Cutoff: 1, Schedule: aws.String("cron(0 2 * * ? *)"),
		ScheduleTimezone: aws.String("Europe/Berlin"), NextExecutionTime: aws.String("2026-11-25T02:00:00+01:00"),
	})
	m.always("ListTagsForResource", &ssm.ListTagsForResourceOutput{TagList: []types.Tag{{Key: aws.String("mesh:missed"), Value: aws.String("skip")}, {Key: aws.String("mesh:resume"), Value: aws.String("true")}}})
	m.always("DescribeMaintenanceWindowTargets", &ssm.DescribeMaintenanceWindowTargetsOutput{Targets: []types.MaintenanceWindowTarget{
		{WindowId: aws.String(nightly), WindowTargetId: aws.String(webTarget), Targets: []types.Target{{Key: aws.String("tag:role"), Values: []string{"web"}}}, OwnerInformation: aws.String("the site")},
	}})
	m.always("DescribeMaintenanceWindowTasks", &ssm.DescribeMaintenanceWindowTasksOutput{Tasks: []types.MaintenanceWindowTask{
		{WindowTaskId: aws.String(nightlyTask), TaskArn: aws.String("AWS-RunPatchBaseline"), Priority: 1, MaxConcurrency: aws.String("20%"), MaxErrors: aws.String("1"), Name: aws.String("patch"),
			Targets: []types.Target{{Key: aws.String("WindowTargetIds"), Values: []string{webTarget, "gone"}}}, CutoffBehavior: types.MaintenanceWindowTaskCutoffBehaviorCancelTask},
	}})
	m.always("DescribeMaintenanceWindowSchedule", &ssm.DescribeMaintenanceWindowScheduleOutput{ScheduledWindowExecutions: []types.ScheduledWindowExecution{
		{WindowId: aws.String(nightly), ExecutionTime: aws.String("2026-11-25T02:00:00+01:00")}, {WindowId: aws.String(nightly), ExecutionTime: aws.String("2026-11-26T02:00:00+01:00")},
	}})
	began := aws.Time(testNow.Add(-time.Hour))
	m.always("DescribeMaintenanceWindowExecutions", &ssm.DescribeMaintenanceWindowExecutionsOutput{WindowExecutions: []types.MaintenanceWindowExecution{
		{WindowExecutionId: aws.String(nightlyRun), Status: types.MaintenanceWindowExecutionStatusFailed, StartTime: began, EndTime: aws.Time(testNow)},
		{WindowExecutionId: aws.String(nightlySecond), Status: types.MaintenanceWindowExecutionStatusTimedOut, StatusDetails: aws.String("missed: no leader took it up before its cutoff"), StartTime: began, EndTime: began},
	}})
	m.always("GetMaintenanceWindowExecution", &ssm.GetMaintenanceWindowExecutionOutput{WindowExecutionId: aws.String(nightlyRun), Status: types.MaintenanceWindowExecutionStatusFailed, StartTime: began, EndTime: aws.Time(testNow)})
	m.always("DescribeMaintenanceWindowExecutionTasks", &ssm.DescribeMaintenanceWindowExecutionTasksOutput{WindowExecutionTaskIdentities: []types.MaintenanceWindowExecutionTaskIdentity{
		{TaskExecutionId: aws.String(nightlyPatch), TaskArn: aws.String("AWS-RunPatchBaseline"), Status: types.MaintenanceWindowExecutionStatusFailed, StatusDetails: aws.String("stopped after 2 errors: 1 target not begun")},
	}})
	m.always("DescribeMaintenanceWindowExecutionTaskInvocations", &ssm.DescribeMaintenanceWindowExecutionTaskInvocationsOutput{WindowExecutionTaskInvocationIdentities: []types.MaintenanceWindowExecutionTaskInvocationIdentity{
		{InvocationId: aws.String("i1"), ExecutionId: aws.String("c1"), Status: types.MaintenanceWindowExecutionStatusFailed, StatusDetails: aws.String("Failed")},
		{InvocationId: aws.String("i2"), Status: types.MaintenanceWindowExecutionStatusFailed, StatusDetails: aws.String("the target is not registered with the window any more")},
	}})
	m.always("ListCommandInvocations", &ssm.ListCommandInvocationsOutput{CommandInvocations: []types.CommandInvocation{
		{CommandId: aws.String("c1"), InstanceId: aws.String(web1), InstanceName: aws.String("web-1"), Status: types.CommandInvocationStatusFailed, StatusDetails: aws.String("Failed")},
		{CommandId: aws.String("c1"), InstanceId: aws.String(web2), InstanceName: aws.String("web-2"), Status: types.CommandInvocationStatusSuccess, StatusDetails: aws.String("Success")},
	}})
	return m
}

func TestWindows(t *testing.T) {
	m := withWindows(t)
	for name, line := range map[string]string{
		"window-list":            "window list",
		"window-list-json":       "window list -o json",
		"window-show":            "window show nightly",
		"window-executions":      "window executions " + nightly,
		"window-execution":       "window executions " + nightly + " " + nightlyRun,
		"window-schedule-window": "window schedule nightly --next 1",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, m.run(strings.Fields(line)...)) })
	}
}

func TestWindowRequests(t *testing.T) {
	m := withWindows(t)
	m.always("CreateMaintenanceWindow", &ssm.CreateMaintenanceWindowOutput{WindowId: aws.String(nightly)})
	m.always("UpdateMaintenanceWindow", &ssm.UpdateMaintenanceWindowOutput{WindowId: aws.String(nightly)})
	m.always("DeleteMaintenanceWindow", &ssm.DeleteMaintenanceWindowOutput{WindowId: aws.String(nightly)})
	m.always("RegisterTargetWithMaintenanceWindow", &ssm.RegisterTargetWithMaintenanceWindowOutput{WindowTargetId: aws.String(webTarget)})
	m.always("RegisterTaskWithMaintenanceWindow", &ssm.RegisterTaskWithMaintenanceWindowOutput{WindowTaskId: aws.String(nightlyTask)})
	m.always("DeregisterTargetFromMaintenanceWindow", &ssm.DeregisterTargetFromMaintenanceWindowOutput{})
	m.always("DeregisterTaskFromMaintenanceWindow", &ssm.DeregisterTaskFromMaintenanceWindowOutput{})
	m.always("CancelMaintenanceWindowExecution", &ssm.CancelMaintenanceWindowExecutionOutput{})
	for _, test := range []struct {
		line            []string
		operation, want string
	}{
		{[]string{"create", "nightly", "--schedule", "rate(1 day)", "--duration", "2", "--tag", "mesh:missed=skip"}, "CreateMaintenanceWindow", `"Cutoff":0,"Duration":2`},
		{[]string{"update", "nightly", "--cutoff", "0"}, "UpdateMaintenanceWindow", `{"Cutoff":0,"WindowId":"` + nightly + `"}`},
		{[]string{"enable", nightly}, "UpdateMaintenanceWindow", `{"Enabled":true,"WindowId":"` + nightly + `"}`},
		{[]string{"disable", nightly}, "UpdateMaintenanceWindow", `{"Enabled":false,"WindowId":"` + nightly + `"}`},
		{[]string{"delete", "nightly"}, "DeleteMaintenanceWindow", nightly},
		{[]string{"target", "add", "nightly", "--nodes", "web-1"}, "RegisterTargetWithMaintenanceWindow", `"Targets":[{"Key":"InstanceIds","Values":["` + web1 + `"]}]`},
		{[]string{"target", "remove", "nightly", webTarget}, "DeregisterTargetFromMaintenanceWindow", `"Safe":true`},
		{[]string{"task", "add", "nightly", "--priority", "0", "--cancel-at-cutoff", "--", "uptime"}, "RegisterTaskWithMaintenanceWindow", `"Targets":[{"Key":"WindowTargetIds","Values":["` + webTarget + `"]}],"TaskArn":"AWS-RunShellScript"`},
		{[]string{"task", "remove", "nightly", nightlyTask}, "DeregisterTaskFromMaintenanceWindow", nightlyTask},
		{[]string{"cancel", nightlyRun}, "CancelMaintenanceWindowExecution", nightlyRun},
	} {
		before := len(m.called(test.operation))
		r := m.run(append([]string{"window"}, test.line...)...)
		calls := m.called(test.operation)
		if r.code != exitDone || len(calls) != before+1 || !strings.Contains(calls[before].Body, test.want) {
			t.Errorf("%q: %+v\n%+v\nwant %s", test.line, r, calls, test.want)
		}
	}
	for _, test := range []struct {
		line []string
		exit int
		want string
	}{
		{[]string{"create", "x"}, exitUsage, "give --schedule and --duration"},
		{[]string{"target", "add", "nightly"}, exitUsage, "give --targets or --nodes"},
		{[]string{"task", "add", "nightly"}, exitUsage, "say what to run"},
		{[]string{"schedule", "nightly", "--expression", "rate(1 day)"}, exitUsage, "--expression goes with no WINDOW"},
		{[]string{"executions", "nightly", "--last", "0"}, exitUsage, "--last is 1 or more"},
	} {
		if r := m.run(append([]string{"window"}, test.line...)...); r.code != test.exit || !strings.Contains(r.err, test.want) {
			t.Errorf("%q: %+v, want %d, %q", test.line, r, test.exit, test.want)
		}
	}
	m.always("DescribeMaintenanceWindows", &ssm.DescribeMaintenanceWindowsOutput{})
	if r := m.run("window", "show", "nothing"); r.code != exitRefused || !strings.Contains(r.err, "no maintenance window has the id or name") {
		t.Errorf("an unknown name: %+v", r)
	}
}
