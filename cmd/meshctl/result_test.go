package main

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

// TestShortStepNames: the output of a failed step is shown whatever its name is;
// GetCommandInvocation takes no name of less than four characters.
func TestShortStepNames(t *testing.T) {
	m := newFakeMesh(t)
	commandOn(m, meshapi.WatchCommandOutput{Status: "Failed", StatusDetails: "Failed", Resolved: true, TargetCount: 1, CompletedCount: 1, ErrorCount: 1, Done: true,
		Invocations: []meshapi.InvocationChange{change(web2, "web-2", "Failed", 9, "out")}})
	plugin := func(name string, status types.CommandPluginStatus, output string) types.CommandPlugin {
		return types.CommandPlugin{Name: &name, Status: status, StatusDetails: aws.String(string(status)), ResponseCode: 9, Output: &output}
	}
	m.always("ListCommandInvocations", &ssm.ListCommandInvocationsOutput{CommandInvocations: []types.CommandInvocation{{CommandId: aws.String(commandID), InstanceId: aws.String(web2), CommandPlugins: []types.CommandPlugin{
		plugin("get", types.CommandPluginStatusSuccess, "got"),
		plugin("run", types.CommandPluginStatusFailed, "out\n\n----------ERROR-------\nboom\n---Error truncated----"),
		plugin("end", types.CommandPluginStatusFailed, "\n----------ERROR-------\nlast\n"),
	}}}})
	m.refuse("GetCommandInvocation", "ValidationException", "Member must have length greater than or equal to 4")

	r := m.run("command", "show", commandID)
	want := "  step run: Failed, exit code 9\n  stderr:\n    boom\n    ---Error truncated----\n  stdout:\n    out\n" +
		"  step end: Failed, exit code 9\n  stderr:\n    last\n"
	if !strings.Contains(r.out, want) {
		t.Errorf("exit %d\n%s\n%s\nwant\n%s", r.code, r.out, r.err, want)
	}
	if !strings.Contains(r.out, "meshctl command output "+commandID) {
		t.Errorf("it does not say how to read the rest of an output that is cut:\n%s", r.out)
	}
}
