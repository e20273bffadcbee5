package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/test/leftover"
)

// The test binary is also its own shim, and a worker in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case ShimCommand:
			os.Exit(ShimMain(os.Args[2:]))
		case "worker":
			os.Exit(workerMain(os.Args[2]))
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // a shim under the race detector would end a second late
	os.Exit(m.Run())
}

const (
	patience = 60 * time.Second
	nodeID   = "mi-0123456789abcdef0"
)

// workerMain opens a worker and accepts the jobs that come on stdin, a request a
// line, answering each on stdout.
func workerMain(dir string) int {
	w, err := Open(testConfig(dir, newMesh()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var jobs []peer.Job
		if err := json.Unmarshal(lines.Bytes(), &jobs); err != nil {
			return 1
		}
		answers, err := w.Accept(context.Background(), jobs)
		if err != nil {
			return 1
		}
		data, _ := json.Marshal(answers)
		fmt.Println(string(data))
	}
	return 0
}

// mesh takes reports, as a leader does.
type mesh struct {
	mu      sync.Mutex
	reports []peer.JobReport
	calls   int
	refuse  func([]peer.JobReport) error
	unknown []string
}

func newMesh() *mesh { return &mesh{} }

func (m *mesh) report(_ context.Context, reports []peer.JobReport) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.refuse != nil {
		if err := m.refuse(reports); err != nil {
			return nil, err
		}
	}
	m.reports = append(m.reports, reports...)
	return m.unknown, nil
}

// of returns the reports of a job.
func (m *mesh) of(id string) (reports []peer.JobReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.reports {
		if r.CommandID == id {
			reports = append(reports, r)
		}
	}
	return reports
}

// end waits for the terminal report of a job.
func (m *mesh) end(t *testing.T, id string) (end peer.JobReport) {
	t.Helper()
	eventually(t, "job "+id+" is reported as ended", func() bool {
		for _, r := range m.of(id) {
			if !r.FinishedAt.IsZero() {
				end = r
				return true
			}
		}
		return false
	})
	return end
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

func testConfig(dir string, m *mesh) Config {
	return Config{
		Dir: dir, NodeID: nodeID, Report: m.report, Now: time.Now,
		Log:         slog.New(slog.NewTextHandler(io.Discard, nil)),
		Environment: Environment{Region: "mesh-1", PlatformName: "Debian", PlatformVersion: "12"},
	}
}

func open(t *testing.T, config Config) *Worker {
	t.Helper()
	w, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leftover.None(t, config.Dir) }) // after the end of the worker
	t.Cleanup(func() { w.Close() })
	return w
}

type step struct {
	Name   string         `json:"name"`
	Action string         `json:"action"`
	Inputs map[string]any `json:"inputs"`
}

func shell(name string, lines ...string) step {
	return step{Name: name, Action: "aws:runShellScript", Inputs: map[string]any{"runCommand": lines}}
}

func document(steps ...step) json.RawMessage {
	data, err := json.Marshal(map[string]any{"schemaVersion": "2.2", "description": "test", "mainSteps": steps})
	if err != nil {
		panic(err)
	}
	return data
}

func newJob(id string, steps ...step) peer.Job {
	now := time.Now()
	return peer.Job{CommandID: id, NodeID: nodeID, DocumentName: "test", Document: document(steps...), StartUntil: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour)}
}

func accept(t *testing.T, w *Worker, jobs ...peer.Job) []peer.JobAnswer {
	t.Helper()
	answers, err := w.Accept(context.Background(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// ran counts the lines of a file, to which scripts add one each time they run.
func ran(path string) int {
	data, _ := os.ReadFile(path)
	return strings.Count(string(data), "\n")
}

func TestJobFromAcceptToReport(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	answers := accept(t, w, newJob("job-1", shell("hello", "echo hello $AWS_SSM_INSTANCE_ID $AWS_SSM_REGION_NAME $AWS_SSM_PLATFORM_NAME $AWS_SSM_PLATFORM_VERSION $SSM_COMMAND_ID", "echo bad >&2", "exit 3")))
	if len(answers) != 1 || answers[0] != (peer.JobAnswer{CommandID: "job-1"}) {
		t.Fatalf("answers %+v", answers)
	}
	end := m.end(t, "job-1")
	if end.Status != "Failed" || end.StatusDetails != "Failed" || len(end.Plugins) != 1 || end.StartedAt.IsZero() || end.FinishedAt.Before(end.StartedAt) {
		t.Fatalf("report %+v", end)
	}
	p := end.Plugins[0]
	want := "hello " + nodeID + " mesh-1 Debian 12 job-1\n"
	if p.Name != "hello" || p.ResponseCode != 3 || p.Stdout != want || p.StdoutBytes != int64(len(want)) || p.Stderr != "bad\n" || p.Status != "Failed" {
		t.Errorf("plugin %+v", p)
	}
	if answers := accept(t, w, newJob("job-1", shell("hello", "exit 0"))); !answers[0].Known || answers[0].Refused != "" {
		t.Errorf("again: %+v", answers)
	}
}

func TestStepsInOrder(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	accept(t, w,
		newJob("order", shell("a", "echo a"), shell("b", "exit 1"), shell("c", "echo c")),
		newJob("ends", shell("a", "exit 169"), shell("b", "echo b")),
		newJob("unknown", step{Name: "x", Action: "aws:refreshAssociation"}),
		newJob("empty-document"),
		peer.Job{CommandID: "bad", NodeID: nodeID, Document: json.RawMessage(`{"schemaVersion":"9"}`), StartUntil: time.Now().Add(time.Hour), ExpiresAt: time.Now().Add(time.Hour)},
	)
	statuses := func(r peer.JobReport) (s []string) {
		for _, p := range r.Plugins {
			s = append(s, fmt.Sprint(p.Name, " ", p.Status, " ", p.ResponseCode))
		}
		return s
	}
	order := m.end(t, "order")
	if got := statuses(order); order.Status != "Failed" || !slices.Equal(got, []string{"a Success 0", "b Failed 1", "c Success 0"}) || order.Plugins[2].Stdout != "c\n" {
		t.Errorf("order: %s %q", order.Status, got)
	}
	ends := m.end(t, "ends")
	if got := statuses(ends); ends.Status != "Failed" || !slices.Equal(got, []string{"a Failed 169", "b Success 0"}) || !strings.Contains(ends.Plugins[1].Stdout, "skipped") {
		t.Errorf("ends: %s %q", ends.Status, got)
	}
	if r := m.end(t, "unknown"); r.Status != "Failed" || !strings.Contains(r.Reason, "aws:refreshAssociation") {
		t.Errorf("unknown plugin: %+v", r)
	}
	if r := m.end(t, "bad"); r.Status != "Failed" || r.Reason == "" {
		t.Errorf("bad document: %+v", r)
	}
}

func TestRefuse(t *testing.T) {
	now := time.Now()
	good := newJob("id", shell("a", "true"))
	for name, change := range map[string]func(*peer.Job){
		"another node":  func(j *peer.Job) { j.NodeID = "mi-other" },
		"too late":      func(j *peer.Job) { j.StartUntil = now.Add(-time.Second) },
		"expired":       func(j *peer.Job) { j.ExpiresAt = now },
		"no id":         func(j *peer.Job) { j.CommandID = "" },
		"a path as id":  func(j *peer.Job) { j.CommandID = "../x" },
		"a dotted path": func(j *peer.Job) { j.CommandID = "." },
	} {
		j := good
		change(&j)
		if refuse(&j, nodeID, now) == "" {
			t.Errorf("%s: accepted", name)
		}
	}
	if s := refuse(&good, nodeID, now); s != "" {
		t.Error(s)
	}
}

// TestLateIsSaidToBeLate: the leader judges it by the clock that refused.
func TestLateIsSaidToBeLate(t *testing.T) {
	w := open(t, testConfig(t.TempDir(), newMesh()))
	late, foreign := newJob("late", shell("a", "true")), newJob("foreign", shell("a", "true"))
	late.StartUntil = time.Now().Add(-time.Second)
	foreign.NodeID = "mi-other"
	answers, err := w.Accept(t.Context(), []peer.Job{late, foreign})
	if err != nil {
		t.Fatal(err)
	}
	if answers[0].Refused == "" || !answers[0].TooLate {
		t.Errorf("a late job: %+v", answers[0])
	}
	if answers[1].Refused == "" || answers[1].TooLate {
		t.Errorf("another node's job: %+v", answers[1])
	}
}

func TestDuplicatesAreAcceptedOnce(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	w := open(t, testConfig(dir, m))
	mark := filepath.Join(dir, "mark")
	const ids, callers = 5, 8
	var fresh, known [ids]int
	var mu sync.Mutex
	var calls sync.WaitGroup
	for range callers {
		calls.Go(func() {
			var jobs []peer.Job
			for i := range ids {
				jobs = append(jobs, newJob(fmt.Sprint("job", i), shell("a", "echo x >> "+mark)))
			}
			answers := accept(t, w, append(jobs, jobs...)...)
			mu.Lock()
			defer mu.Unlock()
			for i, a := range answers {
				if a.Refused != "" {
					t.Errorf("refused: %s", a.Refused)
				}
				if a.Known {
					known[i%ids]++
				} else {
					fresh[i%ids]++
				}
			}
		})
	}
	calls.Wait()
	for i := range ids {
		if r := m.end(t, fmt.Sprint("job", i)); r.Status != "Success" || fresh[i] != 1 || known[i] != 2*callers-1 {
			t.Errorf("job%d: %s, fresh %d, known %d", i, r.Status, fresh[i], known[i])
		}
	}
	if ran(mark) != ids {
		t.Errorf("ran %d times", ran(mark))
	}
}

func TestQueueKeepsItsLimitAndOrder(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	config := testConfig(dir, m)
	config.MaxRunning = 2
	w := open(t, config)
	var jobs []peer.Job
	for i := range 6 {
		script := fmt.Sprintf("cd %s; echo %d >> starts; mkdir slot1 2>/dev/null && s=slot1 || { mkdir slot2 && s=slot2; } || echo >> toomany; sleep 0.05; rmdir $s", dir, i)
		jobs = append(jobs, newJob(fmt.Sprint("job", i), shell("a", script)))
	}
	accept(t, w, jobs...)
	for _, j := range jobs {
		if r := m.end(t, j.CommandID); r.Status != "Success" {
			t.Errorf("%+v", r)
		}
	}
	if ran(filepath.Join(dir, "toomany")) != 0 || ran(filepath.Join(dir, "starts")) != 6 {
		t.Error("more than two ran at once, or not all")
	}
}

func TestCancel(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	config := testConfig(dir, m)
	config.MaxRunning = 1
	w := open(t, config)
	mark := filepath.Join(dir, "mark")
	accept(t, w, newJob("runs", shell("a", "echo x >> "+mark, "sleep 1000"), shell("b", "echo x >> "+mark)), newJob("waits", shell("a", "echo x >> "+mark)))
	eventually(t, "the first runs", func() bool { return ran(mark) == 1 })
	if err := w.Cancel(context.Background(), []string{"waits", "never-heard-of"}); err != nil {
		t.Fatal(err)
	}
	if r := m.end(t, "waits"); r.Status != "Cancelled" {
		t.Errorf("queued: %+v", r)
	}
	if err := w.Cancel(context.Background(), []string{"runs"}); err != nil {
		t.Fatal(err)
	}
	r := m.end(t, "runs")
	if r.Status != "Cancelled" || len(r.Plugins) != 2 || r.Plugins[0].ResponseCode != 137 || r.Plugins[1].Status != "Cancelled" || r.Plugins[1].ResponseCode != -1 {
		t.Errorf("running: %+v", r)
	}
	if err := w.Cancel(context.Background(), []string{"runs"}); err != nil {
		t.Fatal(err)
	}
	if entry := w.journal.Entry("runs"); entry.Status != "Cancelled" || ran(mark) != 1 {
		t.Errorf("after the end: %+v", entry)
	}
}

func TestExpiryKills(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	j := newJob("job", shell("a", "sleep 1000"), shell("b", "true"))
	j.StartUntil = time.Now().Add(300 * time.Millisecond)
	j.ExpiresAt = time.Now().Add(600 * time.Millisecond)
	accept(t, w, j)
	r := m.end(t, "job")
	if r.Status != "TimedOut" || r.StatusDetails != "ExecutionTimedOut" || len(r.Plugins) != 2 || r.Plugins[1].ResponseCode != -1 {
		t.Errorf("%+v", r)
	}
}

func TestLateInTheQueueIsNotStarted(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	config := testConfig(dir, m)
	config.MaxRunning = 1
	w := open(t, config)
	mark := filepath.Join(dir, "mark")
	late := newJob("late", shell("a", "echo x >> "+mark))
	late.StartUntil = time.Now().Add(time.Second)
	accept(t, w, newJob("first", shell("a", "until [ -e "+mark+".go ]; do sleep 0.01; done")), late)
	eventually(t, "its time is over", func() bool { return time.Now().After(late.StartUntil) })
	os.WriteFile(mark+".go", nil, 0o600)
	if r := m.end(t, "late"); r.Status != "TimedOut" || r.StatusDetails != "DeliveryTimedOut" || ran(mark) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestDiskFull(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	w := open(t, testConfig(dir, m))
	mark := filepath.Join(dir, "mark")
	var full fullDisk
	restore := full.limit(t, w)
	answers := accept(t, w, newJob("job", shell("a", "echo x >> "+mark)))
	if !strings.Contains(answers[0].Refused, "keep") || answers[0].Known {
		t.Fatalf("answers %+v", answers)
	}
	restore()
	accept(t, w, newJob("other", shell("a", "true")))
	if r := m.end(t, "other"); r.Status != "Success" || ran(mark) != 0 || w.journal.Entry("job") != nil {
		t.Errorf("%+v, ran %d", r, ran(mark))
	}
}

func TestClosedWorkerRefuses(t *testing.T) {
	w := open(t, testConfig(t.TempDir(), newMesh()))
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Accept(context.Background(), []peer.Job{newJob("a")}); !errors.Is(err, ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if err := w.Cancel(context.Background(), []string{"a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("cancel: %v", err)
	}
}

// startWorker runs a worker in a process of its own.
func startWorker(t *testing.T, dir string) (send func(jobs ...peer.Job), kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "worker", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	kill = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(func() { leftover.None(t, dir) })
	t.Cleanup(kill)
	return func(jobs ...peer.Job) {
		data, _ := json.Marshal(jobs)
		if _, err := fmt.Fprintln(stdin, string(data)); err != nil || !lines.Scan() {
			t.Fatalf("the worker's process: %v %v", err, lines.Err())
		}
	}, kill
}
