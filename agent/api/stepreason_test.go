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
	bad := raftstore.PluginResult{Name: "bad", Status: "Failed", StatusDetails: "Failed", FinishedAt: at}
	for name, c := range map[string]struct {
		plugins []raftstore.PluginResult
		ended   bool
		step    string
		told    bool
	}{
		"the only step":            {[]raftstore.PluginResult{good}, true, "good", true},
		"the step that failed":     {[]raftstore.PluginResult{good, bad}, true, "bad", true},
		"the step that did not":    {[]raftstore.PluginResult{good, bad}, true, "good", false},
		"while its machine starts": {[]raftstore.PluginResult{bad, {Name: "next", Status: "InProgress"}}, false, "bad", false},
	} {
		i := raftstore.Invocation{Status: "Failed", StatusDetails: "Failed", Plugins: c.plugins, Reason: "why"}
		if c.ended {
			i.FinishedAt = at
		}
		got := describeStep(raftstore.Command{}, &ssm.SendCommandInput{}, i, c.step)
		if (*got.StandardErrorContent == "why") != c.told {
			t.Errorf("%s: %q", name, *got.StandardErrorContent)
		}
	}
}
