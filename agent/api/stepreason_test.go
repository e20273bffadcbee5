package api

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

// The reason of an invocation stands with the steps that it may tell of.
func TestReasonOfSteps(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	good := raftstore.PluginResult{Name: "good", Status: "Success", StatusDetails: "Success", FinishedAt: at}
	refused := raftstore.PluginResult{Name: "refused", Status: "Failed", StatusDetails: "Failed", FinishedAt: at, Stderr: "why\n"}
	late := raftstore.PluginResult{Name: "late", Status: "TimedOut", StatusDetails: "ExecutionTimedOut", FinishedAt: at, Reason: "late"}
	silent := raftstore.PluginResult{Name: "silent", Status: "Failed", StatusDetails: "Failed", FinishedAt: at, Reason: "why"}
	bad := raftstore.PluginResult{Name: "bad", Status: "Failed", StatusDetails: "Failed", FinishedAt: at}
	for name, c := range map[string]struct {
		plugins []raftstore.PluginResult
		ended   bool
		step    string
		want    string
	}{
		"the only step":            {[]raftstore.PluginResult{good}, true, "good", "why"},
		"the step that failed":     {[]raftstore.PluginResult{good, bad}, true, "bad", "why"},
		"the step that did not":    {[]raftstore.PluginResult{good, bad}, true, "good", ""},
		"another gave the reason":  {[]raftstore.PluginResult{bad, refused}, true, "bad", ""},
		"another has the reason":   {[]raftstore.PluginResult{bad, silent}, true, "bad", ""},
		"it gave the reason":       {[]raftstore.PluginResult{bad, refused}, true, "refused", "why\n"},
		"it has the reason":        {[]raftstore.PluginResult{bad, silent}, true, "silent", "why"},
		"a reason of its own":      {[]raftstore.PluginResult{late, refused}, true, "late", "late"},
		"while its machine starts": {[]raftstore.PluginResult{bad, {Name: "next", Status: "InProgress"}}, false, "bad", ""},
	} {
		i := raftstore.Invocation{Status: "Failed", StatusDetails: "Failed", Plugins: c.plugins, Reason: "why"}
		if c.ended {
			i.FinishedAt = at
		}
		got := describeStep(raftstore.Command{}, &ssm.SendCommandInput{}, i, c.step)
		if *got.StandardErrorContent != c.want {
			t.Errorf("%s: %q instead of %q", name, *got.StandardErrorContent, c.want)
		}
	}
}
