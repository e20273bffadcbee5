package worker

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/executor"
	"fleetmesh/patcher"
)

// TestListsOfPatches: where a list may come from, and what is said of those that
// cannot be had.
func TestListsOfPatches(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("plain")) }))
	defer plain.Close()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/list":
			_, _ = w.Write([]byte("patches: []\n"))
		case "/moved":
			http.Redirect(w, r, "/list", http.StatusFound)
		case "/away":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		case "/large":
			_, _ = w.Write(make([]byte, maxList+1))
		case "/empty":
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte("patches: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := patchBaseline{transport: server.Client().Transport}
	for _, c := range []struct {
		name, address, refused string
		plugin                 patchBaseline
	}{
		{"a server", server.URL + "/list", "", trusting},
		{"moved", server.URL + "/moved", "", trusting},
		{"a file", "file://" + file, "", trusting},
		{"no file", "file:///nowhere/list", "cannot be read on this node", trusting},
		{"away from TLS", server.URL + "/away", "it leads to " + plain.URL, trusting},
		{"not there", server.URL + "/nothing", "404", trusting},
		{"large", server.URL + "/large", "more than 1048576 bytes", trusting},
		{"empty", server.URL + "/empty", "is empty", trusting},
		{"S3", "s3://bucket/key", "this mesh has no S3", trusting},
		{"a stranger", server.URL + "/list", "certificate", patchBaseline{transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}},
	} {
		content, err := c.plugin.fetch(context.Background(), c.address)
		switch {
		case c.refused == "" && (err != nil || string(content) != "patches: []\n"):
			t.Errorf("%s: %q, %v", c.name, content, err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s is answered with %v, want %q", c.name, err, c.refused)
		}
	}
}

// TestARunThatLeavesNoReport: the mesh is told that it knows nothing now.
func TestARunThatLeavesNoReport(t *testing.T) {
	x := &executor.Execution{RunDir: t.TempDir(), Now: time.Now}
	order := `{"Operation":"Install","Baseline":{"BaselineId":"pb-1"}}`
	if err := os.WriteFile(filepath.Join(x.RunDir, patchOrderFile), []byte(order), 0o600); err != nil {
		t.Fatal(err)
	}
	outcome, err := patchBaseline{}.conclude(x, executor.Outcome{Result: executor.StepResult{Status: "Failed", Reason: "the power went"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := patcher.DecodeReport(outcome.Result.Report)
	if err != nil {
		t.Fatal(err)
	}
	if report.Operation != "Install" || report.BaselineId != "pb-1" || report.EndedAt.IsZero() || len(report.Patches) > 0 || !strings.Contains(report.Problem, "the power went") {
		t.Errorf("the report is %+v", report)
	}
}
