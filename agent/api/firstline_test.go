package api

import (
	"testing"
	"time"

	"fleetmesh/raftstore"
)

// The line and the code that are shown for an invocation are those of the step that
// failed, where one has.
func TestFirstLine(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	step := func(status, stdout, stderr string, code int) raftstore.PluginResult {
		return raftstore.PluginResult{Status: status, Stdout: stdout, Stderr: stderr, ResponseCode: code, FinishedAt: at}
	}
	waiting := raftstore.PluginResult{Status: "Pending", ResponseCode: -1}
	for name, c := range map[string]struct {
		plugins []raftstore.PluginResult
		line    string
		code    int
	}{
		"none":                      {nil, "", -1},
		"not ended":                 {[]raftstore.PluginResult{waiting}, "", -1},
		"a success":                 {[]raftstore.PluginResult{step("Success", "\nout\r\nmore", "err", 0)}, "out", 0},
		"of errors only":            {[]raftstore.PluginResult{step("Success", "", "err", 0)}, "err", 0},
		"the second has output":     {[]raftstore.PluginResult{step("Success", "", "err", 0), step("Success", "out", "", 0)}, "out", 0},
		"the second failed":         {[]raftstore.PluginResult{step("Success", "fine", "", 0), step("Failed", "begins", "boom", 7), step("Success", "fine", "", 0)}, "boom", 7},
		"it failed without a sound": {[]raftstore.PluginResult{step("Success", "fine", "", 168), step("TimedOut", "", "", 137)}, "", 137},
		"it failed with output":     {[]raftstore.PluginResult{step("Failed", "begins", "", 2), waiting}, "begins", 2},
	} {
		if line, code := firstLine(c.plugins), invocationCode(c.plugins); line != c.line || code != c.code {
			t.Errorf("%s: %q, %d", name, line, code)
		}
	}
}
