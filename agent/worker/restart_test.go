package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

// until makes a script wait for a file.
func until(path string) string { return "until [ -e " + path + " ]; do sleep 0.01; done" }

func TestKilledWorkerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	mark, release := filepath.Join(dir, "mark"), filepath.Join(dir, "go")
	send, kill := startWorker(t, dir)
	var jobs []peer.Job
	for i := range 7 { // five run, two wait
		jobs = append(jobs, newJob(fmt.Sprint("job", i), shell("a", "echo x >> "+mark, until(release), "echo out", fmt.Sprint("exit ", i)), shell("b", "echo y >> "+mark)))
	}
	send(jobs...)
	eventually(t, "five run", func() bool { return ran(mark) == 5 })
	kill()
	m := newMesh()
	w := open(t, testConfig(dir, m))
	os.WriteFile(release, nil, 0o600)
	for i := range jobs {
		r := m.end(t, fmt.Sprint("job", i))
		if len(r.Plugins) != 2 || r.Plugins[0].ResponseCode != i || r.Plugins[0].Stdout != "out\n" || r.Plugins[1].Status != "Success" || r.Reason != "" {
			t.Errorf("job%d: %+v", i, r)
		}
	}
	if ran(mark) != 14 {
		t.Errorf("%d steps ran", ran(mark))
	}
	for _, a := range accept(t, w, jobs...) {
		if !a.Known {
			t.Errorf("%+v", a)
		}
	}
}

func TestScriptThatEndedWithoutWorker(t *testing.T) {
	dir := t.TempDir()
	mark, release := filepath.Join(dir, "mark"), filepath.Join(dir, "go")
	send, kill := startWorker(t, dir)
	send(newJob("job", shell("a", "echo x >> "+mark, until(release), "exit 9")))
	eventually(t, "it runs", func() bool { return ran(mark) == 1 })
	kill()
	os.WriteFile(release, nil, 0o600)
	status := filepath.Join(executor.StepDir(jobsDir(dir), "job", 0, "a"), "status")
	eventually(t, "its end is on disk", func() bool {
		data, _ := os.ReadFile(status)
		return strings.Contains(string(data), `"Exit"`)
	})
	m := newMesh()
	open(t, testConfig(dir, m))
	if r := m.end(t, "job"); r.Plugins[0].ResponseCode != 9 || ran(mark) != 1 {
		t.Errorf("%+v, ran %d", r, ran(mark))
	}
}

func TestRestartInOneProcess(t *testing.T) {
	dir := t.TempDir()
	mark, release := filepath.Join(dir, "mark"), filepath.Join(dir, "go")
	m := newMesh()
	w := open(t, testConfig(dir, m))
	accept(t, w, newJob("job", shell("a", "echo x >> "+mark, until(release), "exit 9")))
	eventually(t, "it runs", func() bool { return ran(mark) == 1 })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = open(t, testConfig(dir, m))
	if err := w.Cancel(context.Background(), []string{"job"}); err != nil {
		t.Fatal(err)
	}
	if r := m.end(t, "job"); r.Status != "Cancelled" || ran(mark) != 1 {
		t.Errorf("%+v", r)
	}
}

// deaf is a plugin that does not hear a cancel.
type deaf struct{ begun, end chan struct{} }

func (d deaf) Run(context.Context, *executor.Execution) (executor.Outcome, error) {
	close(d.begun)
	<-d.end
	return executor.Outcome{Result: executor.StepResult{Status: "Success", StatusDetails: "Success"}}, nil
}

func (d deaf) Resume(ctx context.Context, x *executor.Execution) (executor.Outcome, error) {
	return d.Run(ctx, x)
}

// When Cancel returns, the wish is in the journal's file, though the job runs on.
func TestCancelIsDurableWhenAnswered(t *testing.T) {
	plugin := deaf{make(chan struct{}), make(chan struct{})}
	m := newMesh()
	config := testConfig(t.TempDir(), m)
	config.Plugins = map[string]executor.Plugin{"aws:runShellScript": plugin}
	w := open(t, config)
	accept(t, w, newJob("job", shell("a", "true")))
	<-plugin.begun
	if err := w.Cancel(context.Background(), []string{"job"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(config.Dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := executor.OpenJournal(executor.JournalConfig{Path: copied, Log: config.Log})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if entry := j.Entry("job"); entry == nil || !entry.Cancelling || entry.Finished() {
		t.Error("the journal's file does not have the wish to cancel, or has the end")
	}
	close(plugin.end)
	m.end(t, "job")
}

// journalOf writes a journal as a worker that died left it.
func journalOf(t *testing.T, dir string, records ...executor.Record) {
	t.Helper()
	j, err := executor.OpenJournal(executor.JournalConfig{Path: filepath.Join(dir, "journal"), Log: testConfig(dir, newMesh()).Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(records...); err != nil {
		t.Fatal(err)
	}
	j.Close()
}

func accepted(job peer.Job) executor.Record {
	data, _ := json.Marshal(job)
	return executor.Record{Kind: executor.RecordAccepted, JobID: job.CommandID, At: time.Now(), Job: data, ExpiresAt: job.ExpiresAt}
}

// starting is the record that a runner which has died left of its first step, with the
// job's directory below dir.
func starting(t *testing.T, dir, boot string) executor.Record {
	t.Helper()
	config := testConfig(dir, newMesh())
	processes, err := executor.OpenProcesses(executor.ProcessConfig{Log: config.Log})
	if err != nil {
		t.Fatal(err)
	}
	defer processes.Close()
	r := &executor.Runner{Processes: processes, Dir: dir, Now: time.Now}
	record := r.Starting("job")
	record.BootID = boot
	return record
}

// A step was about to start, and no shim has claimed it: on the same boot it did not
// run, and runs now if it still may; on another boot, and where its directory is gone
// or on another mount, nobody knows.
func TestStartingWithoutProcess(t *testing.T) {
	boot, err := executor.BootID()
	if err != nil {
		t.Fatal(err)
	}
	const before, anew, gone = "before the script was started", "machine was started anew", "whether it ran is not known"
	earlier := executor.StepResult{Name: "a", Status: "Success", StatusDetails: "Success", StartedAt: time.Now()}
	for name, c := range map[string]struct {
		boot    string
		change  func(*peer.Job)
		records []executor.Record // after the start of the first step
		damage  func(dir string) error
		mount   string // what the place of the start begins with
		reason  string // "" where it runs
		ran     int
	}{
		"same boot":     {boot: boot, ran: 2},
		"another boot":  {boot: "another", reason: anew},
		"files deleted": {boot: boot, damage: os.RemoveAll, reason: gone},
		"files deleted and made again": {boot: boot, damage: func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "job"), 0o700))
		}, reason: gone},
		"mounted anew":    {boot: boot, mount: "9", reason: gone},
		"too late":        {boot: boot, change: func(j *peer.Job) { j.StartUntil = time.Now() }, reason: before},
		"expired":         {boot: boot, change: func(j *peer.Job) { j.ExpiresAt = time.Now() }, reason: before},
		"to be cancelled": {boot: boot, records: []executor.Record{{Kind: executor.RecordCancelling, JobID: "job"}}, reason: "cancelled before the script was started"},
		"too late for the first step, not for the second": {boot: boot, change: func(j *peer.Job) { j.StartUntil = time.Now() }, ran: 1, records: []executor.Record{
			{Kind: executor.RecordStep, JobID: "job", Results: []executor.StepResult{earlier}},
			{Kind: executor.RecordStarting, JobID: "job", Step: 1, BootID: boot},
		}},
	} {
		dir := t.TempDir()
		mark := filepath.Join(dir, "mark")
		job := newJob("job", shell("a", "echo x >> "+mark), shell("b", "echo x >> "+mark))
		if c.change != nil {
			c.change(&job)
		}
		start := starting(t, jobsDir(dir), c.boot)
		start.Place = c.mount + start.Place
		for i := range c.records {
			c.records[i].Place = start.Place
		}
		journalOf(t, dir, append([]executor.Record{accepted(job), start}, c.records...)...)
		if c.damage != nil {
			if err := c.damage(jobsDir(dir)); err != nil {
				t.Fatal(err)
			}
		}
		m := newMesh()
		w := open(t, testConfig(dir, m))
		r := m.end(t, "job")
		w.Close()
		open(t, testConfig(dir, m)) // nothing is run by it
		if status := map[bool]string{true: "Success", false: "Failed"}[c.reason == ""]; r.Status != status && (name != "to be cancelled" || r.Status != "Cancelled") ||
			!strings.Contains(r.Reason, c.reason) || len(r.Plugins) != 2 || ran(mark) != c.ran {
			t.Errorf("%s: %+v, ran %d", name, r, ran(mark))
		}
	}
}

func TestAcceptedIsRunAfterRestartOnce(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "mark")
	late := newJob("late", shell("a", "echo x >> "+mark))
	late.StartUntil = time.Now().Add(-time.Minute)
	cancelled := newJob("cancelled", shell("a", "echo x >> "+mark))
	journalOf(t, dir, accepted(newJob("job", shell("a", "echo x >> "+mark))), accepted(late), accepted(cancelled), executor.Record{Kind: executor.RecordCancelling, JobID: "cancelled", At: time.Now()})
	m := newMesh()
	w := open(t, testConfig(dir, m))
	if r := m.end(t, "job"); r.Status != "Success" {
		t.Errorf("%+v", r)
	}
	if r := m.end(t, "late"); r.StatusDetails != "DeliveryTimedOut" {
		t.Errorf("%+v", r)
	}
	if r := m.end(t, "cancelled"); r.Status != "Cancelled" {
		t.Errorf("%+v", r)
	}
	w.Close()
	open(t, testConfig(dir, m))
	if ran(mark) != 1 {
		t.Errorf("ran %d times", ran(mark))
	}
}

// A step has ended, the next has not started: the job goes on with that.
func TestBetweenSteps(t *testing.T) {
	boot, _ := executor.BootID()
	dir := t.TempDir()
	mark := filepath.Join(dir, "mark")
	journalOf(t, dir, accepted(newJob("job", shell("a", "echo a >> "+mark), shell("b", "echo b >> "+mark))),
		executor.Record{Kind: executor.RecordStarting, JobID: "job", At: time.Now(), BootID: boot},
		executor.Record{Kind: executor.RecordStep, JobID: "job", Results: []executor.StepResult{{Name: "a", Status: "Success", StatusDetails: "Success"}}})
	m := newMesh()
	open(t, testConfig(dir, m))
	if r := m.end(t, "job"); r.Status != "Success" || len(r.Plugins) != 2 || ran(mark) != 1 {
		t.Errorf("%+v, ran %d", r, ran(mark))
	}
}

func TestDamagedJournalRunsNothing(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "mark")
	for _, id := range []string{"a", "b"} {
		journalOf(t, dir, accepted(newJob(id, shell("a", "echo x >> "+mark))))
	}
	path := filepath.Join(dir, "journal")
	data, _ := os.ReadFile(path)
	data[len(data)/3] ^= 1
	os.WriteFile(path, data, 0o600)
	if _, err := Open(testConfig(dir, newMesh())); err == nil || !strings.Contains(err.Error(), "damaged") || ran(mark) != 0 {
		t.Errorf("opened: %v, ran %d", err, ran(mark))
	}
}
