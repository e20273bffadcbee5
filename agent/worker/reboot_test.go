package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

// machine is one that a worker's reboot command starts anew: it writes another
// boot id, and a line for each time that it is called.
type machine struct {
	config Config
	mesh   *mesh
	boot   string // the boot id's file
	calls  string // the calls' file
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{mesh: newMesh(), boot: filepath.Join(dir, "boot"), calls: filepath.Join(dir, "calls")}
	m.config = testConfig(filepath.Join(dir, "jobs"), m.mesh)
	m.config.BootIDFile = m.boot
	m.booted(t, 1)
	m.config.Reboot.Command = "echo called >> " + m.calls
	return m
}

// booted is what the machine's start does, the n-th time.
func (m *machine) booted(t *testing.T, n int) {
	t.Helper()
	if err := os.WriteFile(m.boot, []byte(fmt.Sprintf("boot-%d\n", n)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// called waits until the reboot command was called n times.
func (m *machine) called(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the reboot command is called %d times", n), func() bool { return ran(m.calls) >= n })
	if ran(m.calls) != n {
		t.Fatalf("the reboot command was called %d times, not %d", ran(m.calls), n)
	}
}

// reboots runs a worker until it has had its machine started anew, n times so far.
func (m *machine) reboots(t *testing.T, n int, jobs ...peer.Job) {
	t.Helper()
	w := open(t, m.config)
	accept(t, w, jobs...)
	m.called(t, n)
	w.Close()
	m.booted(t, n+1)
}

func TestRebootAndGoOn(t *testing.T) {
	m := newMachine(t)
	mark := filepath.Join(t.TempDir(), "mark")
	job := newJob("job",
		shell("before", "echo before >> "+mark),
		shell("kernel", "echo run $MESHD_REBOOTS", "echo kernel$MESHD_REBOOTS >> "+mark, "[ $MESHD_REBOOTS = 2 ] || exit 194"),
		shell("after", "echo after$MESHD_REBOOTS >> "+mark))
	m.reboots(t, 1, job)
	if r := m.mesh.of("job"); len(r) == 0 || !strings.HasPrefix(r[len(r)-1].Reason, "rebooting: the step kernel") || r[len(r)-1].Plugins[1].Status != "InProgress" {
		t.Errorf("before the machine went down the mesh was told %+v", r)
	}
	m.reboots(t, 2)
	open(t, m.config)
	end := m.mesh.end(t, "job")
	data, _ := os.ReadFile(mark)
	if end.Status != "Success" || string(data) != "before\nkernel0\nkernel1\nkernel2\nafter0\n" || end.Reason != "" {
		t.Errorf("%+v, ran %q", end, data)
	}
	if p := end.Plugins[1]; p.Stdout != "run 0\nrun 1\nrun 2\n" || p.ResponseCode != 0 {
		t.Errorf("%+v", p)
	}
	m.called(t, 2)
}

// meshd dies, and the machine does not: the wish stands, each attempt counts.
func TestRebootThatDoesNotCome(t *testing.T) {
	m := newMachine(t)
	job := newJob("job", shell("a", "exit 194"), shell("b", "echo b"))
	w := open(t, m.config)
	accept(t, w, job)
	m.called(t, 1)
	w.Close()
	w = open(t, m.config)
	m.called(t, 2)
	w.Close()
	m.config.Reboot.Timeout = 10 * time.Millisecond
	open(t, m.config)
	end := m.mesh.end(t, "job")
	m.called(t, 3)
	if end.Status != "Failed" || !strings.Contains(end.Reason, "did not go down") || end.Plugins[0].ResponseCode != 194 || end.Plugins[1].Stdout != "b\n" {
		t.Errorf("%+v", end)
	}
}

func TestRebootCommandFails(t *testing.T) {
	for name, command := range map[string]string{"exit": "echo no power; exit 3", "hangs": "echo no power; sleep 1000"} {
		m := newMachine(t)
		m.config.Reboot = Reboot{Command: "echo called >> " + m.calls + "; " + command, Timeout: 50 * time.Millisecond}
		w := open(t, m.config)
		accept(t, w, newJob("job", shell("a", "exit 194")), newJob("other", shell("a", "echo other")))
		end := m.mesh.end(t, "job")
		if end.Status != "Failed" || !strings.Contains(end.Reason, "no power") {
			t.Errorf("%s: %+v", name, end)
		}
		m.called(t, rebootAttempts)
		m.mesh.end(t, "other")
		accept(t, w, newJob("next", shell("a", "echo next")))
		m.mesh.end(t, "next") // nothing holds jobs any more
	}
}

func TestNoRebootCommand(t *testing.T) {
	m := newMachine(t)
	m.config.Reboot.Command = ""
	w := open(t, m.config)
	accept(t, w, newJob("job", shell("a", "echo x; exit 194")))
	if end := m.mesh.end(t, "job"); end.Status != "Failed" || !strings.Contains(end.Reason, "not possible here") || end.Plugins[0].ResponseCode != 194 || end.Plugins[0].Stdout != "x\n" {
		t.Errorf("%+v", end)
	}
}

// Other jobs: those that run are waited for, those that have not begun wait for
// the boot, also over a restart of meshd.
func TestRebootWaitsForOthers(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	gate, mark := filepath.Join(dir, "gate"), filepath.Join(dir, "mark")
	w := open(t, m.config)
	accept(t, w, newJob("running", shell("a", "while [ ! -e "+gate+" ]; do sleep 0.01; done", "echo running >> "+mark)))
	accept(t, w, newJob("job", shell("a", "[ $MESHD_REBOOTS = 1 ] || exit 194")), newJob("also", shell("a", "[ $MESHD_REBOOTS = 1 ] || exit 194")))
	held := func(id string) func() bool {
		return func() bool { e := w.journal.Entry(id); return e != nil && e.Rebooting }
	}
	eventually(t, "both wait", func() bool { return held("job")() && held("also")() })
	accept(t, w, newJob("new", shell("a", "echo new >> "+mark)))
	if ran(m.calls) != 0 || w.journal.Entry("new").Started() {
		t.Fatalf("%d calls while another job runs; the new job: %+v", ran(m.calls), w.journal.Entry("new"))
	}
	os.WriteFile(gate, nil, 0o600)
	m.called(t, 1)
	w.Close()
	w = open(t, m.config) // meshd comes back before the machine has gone down
	m.called(t, 2)
	if w.journal.Entry("new").Started() {
		t.Error("a job began between the reboot and the boot")
	}
	w.Close()
	m.booted(t, 2)
	open(t, m.config)
	for _, id := range []string{"running", "job", "also", "new"} {
		if end := m.mesh.end(t, id); end.Status != "Success" {
			t.Errorf("%+v", end)
		}
	}
	if data, _ := os.ReadFile(mark); string(data) != "running\nnew\n" {
		t.Errorf("%q", data)
	}
	m.called(t, 2)
}

func TestCancelWhileRebooting(t *testing.T) {
	for _, down := range []bool{false, true} {
		m := newMachine(t)
		w := open(t, m.config)
		accept(t, w, newJob("job", shell("a", "exit 194"), shell("b", "echo b")))
		m.called(t, 1)
		if down { // the wish to cancel comes, and the machine goes down before it is heeded
			w.Close()
			journalOf(t, m.config.Dir, executor.Record{Kind: executor.RecordCancelling, JobID: "job", At: time.Now()})
			m.booted(t, 2)
			open(t, m.config)
		} else if err := w.Cancel(context.Background(), []string{"job"}); err != nil {
			t.Fatal(err)
		}
		end := m.mesh.end(t, "job")
		if end.Status != "Cancelled" || len(end.Plugins) != 2 || end.Plugins[1].Status != "Cancelled" {
			t.Errorf("down %v: %+v", down, end)
		}
		m.called(t, 1)
	}
}

// The command expires while the machine is down.
func TestExpiryWhileRebooting(t *testing.T) {
	m := newMachine(t)
	m.reboots(t, 1, newJob("job", shell("a", "exit 194")))
	m.config.Now = func() time.Time { return time.Now().Add(3 * time.Hour) }
	open(t, m.config)
	if end := m.mesh.end(t, "job"); end.StatusDetails != "ExecutionTimedOut" || !strings.Contains(end.Reason, "expired") {
		t.Errorf("%+v", end)
	}
}

func TestRebootCourse(t *testing.T) {
	settings := Reboot{Command: "x", Grace: time.Minute, Timeout: 2 * time.Minute}
	const never = -1
	for _, c := range []struct {
		name   string
		course rebootCourse
		action rebootAction
		in     time.Duration
	}{
		{"nobody asks", rebootCourse{asked: never, ready: never, tried: never}, rebootRelease, 0},
		{"a wish is being written", rebootCourse{coming: 1, asked: 1, ready: never, tried: never}, rebootWait, time.Minute},
		{"one more is being written", rebootCourse{waiting: 1, coming: 1, asked: 1, ready: never, tried: never}, rebootReady, 0},
		{"others run", rebootCourse{waiting: 1, others: 2, asked: 20 * time.Second, ready: never, tried: never}, rebootWait, 40 * time.Second},
		{"others run too long", rebootCourse{waiting: 1, others: 2, asked: time.Minute, ready: never, tried: never}, rebootReady, 0},
		{"nobody else runs", rebootCourse{waiting: 1, ready: never, tried: never}, rebootReady, 0},
		{"the mesh is told", rebootCourse{waiting: 2, unreported: 1, asked: 5, ready: 4 * time.Second, tried: never}, rebootWait, 6 * time.Second},
		{"the mesh is not there", rebootCourse{waiting: 2, unreported: 1, asked: 5, ready: 10 * time.Second, tried: never}, rebootTry, 0},
		{"the mesh knows", rebootCourse{waiting: 2, ready: 0, tried: never}, rebootTry, 0},
		{"it goes down", rebootCourse{waiting: 1, attempts: 1, ready: 1, tried: time.Minute}, rebootWait, time.Minute},
		{"it goes down, cancelled or not", rebootCourse{ready: 1, tried: time.Minute}, rebootWait, time.Minute},
		{"it did not, and nobody asks", rebootCourse{ready: 1, tried: 2 * time.Minute}, rebootRelease, 0},
		{"again", rebootCourse{waiting: 1, attempts: 2, ready: 1, tried: 2 * time.Minute}, rebootTry, 0},
		{"not after three", rebootCourse{waiting: 1, attempts: 3, ready: 1, tried: 2 * time.Minute}, rebootRefuse, 0},
		{"not after three, found so", rebootCourse{waiting: 1, attempts: 3, ready: 1, tried: never}, rebootRefuse, 0},
		{"a pause after a failure", rebootCourse{waiting: 1, attempts: 1, failed: true, ready: 1, tried: 4 * time.Second}, rebootWait, 6 * time.Second},
	} {
		if action, in := c.course.next(settings); action != c.action || in != c.in {
			t.Errorf("%s: %v in %v", c.name, action, in)
		}
	}
}

// The document behind `meshctl run --reboot`: one boot after a success, none after
// anything else.
func TestRunAndReboot(t *testing.T) {
	script, _ := executor.BuiltInByName("Fleetmesh-RunShellScriptAndReboot")
	document, _ := executor.BuiltInByName("Fleetmesh-RunDocumentAndReboot")
	mark := filepath.Join(t.TempDir(), "mark")
	job := func(b executor.BuiltIn, parameters map[string][]string) peer.Job {
		job := newJob("job")
		job.Document, job.Parameters = b.Content, parameters
		return nesting(job, map[string]json.RawMessage{"Child:2": withParameter(shell("a", "echo {{ greeting }} >> "+mark))})
	}
	for name, c := range map[string]struct {
		job     peer.Job
		status  string
		reboots bool
	}{
		"script":       {job(script, map[string][]string{"commands": {"echo x >> " + mark}}), "Success", true},
		"ends early":   {job(script, map[string][]string{"commands": {"echo x >> " + mark, "exit 168"}}), "Success", true},
		"fails":        {job(script, map[string][]string{"commands": {"echo x >> " + mark, "exit 169"}}), "Failed", false},
		"takes long":   {job(script, map[string][]string{"commands": {"echo x >> " + mark, "kill -9 $$"}}), "TimedOut", false},
		"document":     {job(document, map[string][]string{"documentName": {"Child:2"}, "documentParameters": {`{"greeting": ["hello"]}`}}), "Success", true},
		"bad document": {job(document, map[string][]string{"documentName": {"None"}}), "Failed", false},
	} {
		os.Remove(mark)
		m := newMachine(t)
		if c.reboots {
			m.reboots(t, 1, c.job)
			open(t, m.config)
		} else {
			accept(t, open(t, m.config), c.job)
		}
		end := m.mesh.end(t, "job")
		said := map[bool]string{true: "The machine was started anew.\n", false: "The machine is not started anew"}[c.reboots]
		if end.Status != c.status || len(end.Plugins) != 2 || !strings.HasPrefix(end.Plugins[1].Stdout, said) || (ran(mark) != 1) != (name == "bad document") || (ran(m.calls) == 1) != c.reboots {
			t.Errorf("%s: ran %d, %d calls: %+v", name, ran(mark), ran(m.calls), end)
		}
	}
}
