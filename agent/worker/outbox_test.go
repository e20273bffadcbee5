package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

func TestReportsAreSentUntilTheyAreTaken(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	var failures atomic.Int32
	m.refuse = func([]peer.JobReport) error { failures.Add(1); return errors.New("no leader") }
	w := open(t, testConfig(dir, m))
	accept(t, w, newJob("job", shell("a", "echo out")))
	eventually(t, "reports fail", func() bool { return failures.Load() >= 3 })
	w.Close()
	// The next worker still has them.
	m = newMesh()
	w = open(t, testConfig(dir, m))
	r := m.end(t, "job")
	if r.Status != "Success" || r.Plugins[0].Stdout != "out\n" || r.Sequence != 2 {
		t.Errorf("%+v", r)
	}
	eventually(t, "it is acknowledged", func() bool { return !w.journal.Entry("job").Unreported() })
	w.Close()
	// And the next has not.
	m = newMesh()
	w = open(t, testConfig(dir, m))
	accept(t, w, newJob("other", shell("a", "true")))
	m.end(t, "other")
	if reports := m.of("job"); len(reports) != 0 {
		t.Errorf("reported again: %+v", reports)
	}
	// Until somebody asks.
	unknown, err := w.States(context.Background(), []string{"job", "never"})
	if err != nil || len(unknown) != 1 || unknown[0] != "never" {
		t.Errorf("unknown %q, %v", unknown, err)
	}
	if r := m.end(t, "job"); r.Sequence != 2 || r.Status != "Success" {
		t.Errorf("%+v", r)
	}
}

func TestReportsOfProgress(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	w := open(t, testConfig(dir, m))
	accept(t, w, newJob("job", shell("a", "echo a"), shell("b", until(dir+"/go")), shell("c", "true")))
	eventually(t, "progress is reported", func() bool {
		for _, r := range m.of("job") {
			if len(r.Plugins) == 3 && r.Plugins[0].Status == "Success" && r.Plugins[1].Status == "InProgress" && r.Plugins[2].Status == "Pending" && r.Plugins[2].ResponseCode == -1 {
				return r.Status == "InProgress" && r.FinishedAt.IsZero()
			}
		}
		return false
	})
	if err := w.Cancel(context.Background(), []string{"job"}); err != nil {
		t.Fatal(err)
	}
	m.end(t, "job")
	last := uint64(0)
	for _, r := range m.of("job") {
		if r.Sequence <= last {
			t.Errorf("sequence %d after %d", r.Sequence, last)
		}
		last = r.Sequence
	}
}

// A report that the mesh cannot take does not hold up the others.
func TestOneBadReportAlone(t *testing.T) {
	m := newMesh()
	m.refuse = func(reports []peer.JobReport) error {
		for _, r := range reports {
			if r.CommandID == "bad" {
				return &peer.Refusal{Kind: peer.RefusedInput, Message: "no"}
			}
		}
		return nil
	}
	w := open(t, testConfig(t.TempDir(), m))
	accept(t, w, newJob("bad", shell("a", "true")), newJob("good", shell("a", "true")), newJob("fine", shell("a", "true")))
	m.end(t, "good")
	m.end(t, "fine")
}

func TestFitReport(t *testing.T) {
	one := peer.JobReport{CommandID: "x", Plugins: []raftstore.PluginResult{{Name: "a", Stdout: strings.Repeat("€", 24000), Stderr: strings.Repeat("\x00", 8000)}}}
	if size := fitReport(&one, maxReport); size > maxReport || utf8.RuneCountInString(one.Plugins[0].Stdout) != 24000 {
		t.Errorf("one step: %d bytes, %d characters", size, utf8.RuneCountInString(one.Plugins[0].Stdout))
	}
	many := peer.JobReport{CommandID: "x"}
	for i := range 60 {
		many.Plugins = append(many.Plugins, raftstore.PluginResult{Name: fmt.Sprint(i), Stdout: strings.Repeat("\x01", 24000), Stderr: "short"})
	}
	if size := fitReport(&many, maxReport); size > maxReport || size != encodedSize(&many) || many.Plugins[59].Stderr != "short" || many.Plugins[59].Stdout == "" {
		t.Errorf("many steps: %d bytes", size)
	}
}

func TestBatch(t *testing.T) {
	for _, c := range []struct {
		sizes []int
		want  int
	}{{nil, 0}, {[]int{500}, 1}, {[]int{40, 40, 40}, 2}, {[]int{10, 500}, 1}, {[]int{10, 10}, 2}} {
		if got := batch(c.sizes, 100); got != c.want {
			t.Errorf("%v: %d", c.sizes, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: firstBackoff, 2: 2 * firstBackoff, 5: 16 * firstBackoff, 12: maxBackoff, 1000: maxBackoff} {
		low, high := backoff(failures, 0), backoff(failures, 0.999)
		if low != want/2 || high <= want || high > want+want/2 {
			t.Errorf("%d failures: %s to %s", failures, low, high)
		}
	}
}

func TestReportOf(t *testing.T) {
	at := time.Now()
	entry := &executor.Entry{JobID: "j", StartedAt: at, Running: true, Step: 1, Sequence: 3, Steps: []executor.StepResult{{Name: "a", Status: "Success", ResponseCode: 0, Stdout: "x", StdoutBytes: 1, Reason: "cut"}}}
	r := reportOf(entry, []executor.Task{{Name: "a"}, {Name: "b"}})
	if r.Status != "InProgress" || r.Sequence != 3 || len(r.Plugins) != 2 || r.Plugins[0].Stdout != "x" || r.Plugins[0].Reason != "cut" || r.Plugins[1].Status != "InProgress" || r.Plugins[1].ResponseCode != -1 {
		t.Errorf("%+v", r)
	}
	said := *entry
	said.Steps = []executor.StepResult{{Name: "a", Status: "Failed", Stderr: "why\n", Reason: "why"}}
	if r := reportOf(&said, nil); r.Plugins[0].Reason != "" {
		t.Errorf("the reason is told twice: %+v", r.Plugins[0])
	}
	done := *entry
	done.Running, done.Status, done.StatusDetails, done.Reason, done.FinishedAt = false, "TimedOut", "ExecutionTimedOut", "why", at
	if r := reportOf(&done, []executor.Task{{Name: "a"}, {Name: "b"}}); r.Status != "TimedOut" || r.StatusDetails != "ExecutionTimedOut" || r.Reason != "why" || len(r.Plugins) != 1 || r.FinishedAt != at {
		t.Errorf("%+v", r)
	}
}
