package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
)

func output(t *testing.T, w *Worker, in peer.OutputRequest) *peer.OutputResponse {
	t.Helper()
	out, err := w.Output(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOutputIsFollowed(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	config := testConfig(dir, m)
	config.MaxRunning = 1
	w := open(t, config)
	// The second job waits: a follower may come before it starts.
	accept(t, w, newJob("first", shell("a", until(dir+"/go"))), newJob("job", shell("a", "for i in 1 2 3 4 5; do echo line $i; sleep 0.02; done; echo bad >&2")))
	followed := make(chan string)
	go func() {
		var all []byte
		for {
			out, err := w.Output(context.Background(), &peer.OutputRequest{CommandID: "job", Offset: int64(len(all)), Limit: 5, Wait: true})
			if err != nil {
				t.Error(err)
				break
			}
			if all = append(all, out.Data...); out.Ended {
				break
			}
		}
		followed <- string(all)
	}()
	os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
	if got, want := <-followed, "line 1\nline 2\nline 3\nline 4\nline 5\n"; got != want {
		t.Errorf("followed %q", got)
	}
	m.end(t, "job")
	if out := output(t, w, peer.OutputRequest{CommandID: "job", Plugin: "a", Stderr: true}); string(out.Data) != "bad\n" || !out.Ended || out.Size != 4 {
		t.Errorf("%+v", out)
	}
	if out := output(t, w, peer.OutputRequest{CommandID: "job", Offset: 100, Wait: true}); len(out.Data) != 0 || !out.Ended {
		t.Errorf("beyond the end: %+v", out)
	}
	if out := output(t, w, peer.OutputRequest{CommandID: "first", Wait: true}); len(out.Data) != 0 || !out.Ended {
		t.Errorf("nothing written: %+v", out)
	}
}

func TestOutputRefusals(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	w := open(t, testConfig(dir, m))
	accept(t, w, newJob("job", shell("a", "echo a"), shell("b", "echo b")))
	m.end(t, "job")
	for name, in := range map[string]peer.OutputRequest{
		"unknown job":     {CommandID: "../job"},
		"unknown step":    {CommandID: "job", Plugin: "c"},
		"which step":      {CommandID: "job"},
		"negative offset": {CommandID: "job", Plugin: "a", Offset: -1},
	} {
		var refusal *peer.Refusal
		if _, err := w.Output(context.Background(), &in); !errors.As(err, &refusal) || refusal.Kind != peer.RefusedInput {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out := output(t, w, peer.OutputRequest{CommandID: "job", Plugin: "b"}); string(out.Data) != "b\n" {
		t.Errorf("%+v", out)
	}
	os.RemoveAll(filepath.Join(jobsDir(dir), "job"))
	if _, err := w.Output(context.Background(), &peer.OutputRequest{CommandID: "job", Plugin: "b"}); err == nil || !strings.Contains(err.Error(), "no longer kept") {
		t.Errorf("removed: %v", err)
	}
}

// TestOutputOfAStepThatDidNotRun: until the mesh has the words of its result, the
// node tells them.
func TestOutputOfAStepThatDidNotRun(t *testing.T) {
	m := newMesh()
	m.refuse = func([]peer.JobReport) error { return errors.New("no leader") }
	w := open(t, testConfig(t.TempDir(), m))
	accept(t, w, newJob("job", step{Name: "join", Action: "aws:domainJoin", Inputs: map[string]any{"directoryId": "d"}}))
	eventually(t, "the job has ended", func() bool { return w.journal.Entry("job").Finished() })
	var all []byte
	for ended := false; !ended; {
		out := output(t, w, peer.OutputRequest{CommandID: "job", Stderr: true, Offset: int64(len(all)), Limit: 7, Wait: true})
		all, ended = append(all, out.Data...), out.Ended
	}
	if !strings.HasPrefix(string(all), "The step join was not run: ") || !strings.HasSuffix(string(all), ".\n") {
		t.Errorf("%q", all)
	}
	for _, in := range []peer.OutputRequest{{CommandID: "job"}, {CommandID: "job", Stderr: true, Offset: 1000}} {
		if out := output(t, w, in); len(out.Data) > 0 || !out.Ended {
			t.Errorf("%+v: %+v", in, out)
		}
	}
}

func TestOutputWaitEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	w := open(t, testConfig(dir, m))
	accept(t, w, newJob("job", shell("a", until(dir+"/go"))))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	out, err := w.Output(ctx, &peer.OutputRequest{CommandID: "job", Wait: true})
	if err != nil || out.Ended || len(out.Data) != 0 {
		t.Errorf("%+v %v", out, err)
	}
	os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
	m.end(t, "job") // scripts outlive their worker, and would the test
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	w := open(t, testConfig(dir, m))
	accept(t, w, newJob("old", shell("a", "echo a")), newJob("runs", shell("a", until(dir+"/go"))))
	m.end(t, "old")
	eventually(t, "it is acknowledged", func() bool { return !w.journal.Entry("old").Unreported() })
	there := func(id string) bool {
		_, err := os.Stat(filepath.Join(jobsDir(dir), id))
		return err == nil
	}
	eventually(t, "the other runs", func() bool { return there("runs") })
	w.sweep(time.Now().Add(29*24*time.Hour), 0)
	if !there("old") || w.journal.Entry("old") == nil {
		t.Error("removed too early")
	}
	w.sweep(time.Now().Add(31*24*time.Hour), 0)
	if there("old") || w.journal.Entry("old") != nil {
		t.Error("not removed")
	}
	if !there("runs") || w.journal.Entry("runs") == nil {
		t.Error("removed a running job")
	}
	os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
	m.end(t, "runs")
}
