package worker

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
)

// properties is one of a list of properties of schema 1.2.
type properties map[string]any

func lines(script ...string) properties { return properties{"runCommand": script} }

// listJob is a job of a document of schema 1.2 with one plugin.
func listJob(id string, list ...properties) peer.Job {
	job := newJob(id)
	job.Document, _ = json.Marshal(map[string]any{
		"schemaVersion": "1.2", "runtimeConfig": map[string]any{"aws:runShellScript": map[string]any{"properties": list}},
	})
	return job
}

// Several properties of a plugin are one step, with the worst end of them.
func TestPropertyList(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	for _, c := range []struct {
		name           string
		list           []properties
		status         string
		code           int
		stdout, stderr string
	}{
		{"all well", []properties{lines("printf one"), lines("echo two"), lines("echo three")}, "Success", 0, "one\ntwo\nthree\n", ""},
		{"one fails", []properties{lines("echo one"), lines("echo two; echo trouble >&2; exit 7"), lines("echo three; exit 3")}, "Failed", 7, "one\ntwo\nthree\n", "trouble\n"},
		{"failed is worse than timed out", []properties{lines("exit 137"), lines("exit 5")}, "Failed", 5, "", ""},
		{"timed out is worse than success", []properties{lines("true"), lines("kill -9 $$")}, "TimedOut", 137, "", ""},
		{"ends with success", []properties{lines("echo one; exit 168"), lines("echo two")}, "Success", 168, "one\nPlugin with name aws:runShellScript and id 1.aws:runShellScript skipped due to prior step with an exit condition", ""},
		{"an id of its own", []properties{lines("exit 169"), {"id": "mine", "runCommand": []string{"echo two"}}}, "Failed", 169, "Plugin with name aws:runShellScript and id mine skipped due to prior step with an exit condition", ""},
		{"cannot reboot", []properties{lines("exit 194"), lines("echo two")}, "Failed", 194, "two\n", ""},
	} {
		id := strings.ReplaceAll(c.name, " ", "-")
		accept(t, w, listJob(id, c.list...))
		end := m.end(t, id)
		if len(end.Plugins) != 1 {
			t.Fatalf("%s: %d plugins: %+v", c.name, len(end.Plugins), end)
		}
		p := end.Plugins[0]
		if p.Name != "aws:runShellScript" || p.Status != c.status || end.Status != c.status || p.ResponseCode != c.code || p.Stdout != c.stdout || p.Stderr != c.stderr {
			t.Errorf("%s: %+v", c.name, end)
		}
		if data, _ := os.ReadFile(filepath.Join(jobsDir(w.config.Dir), id, "0.awsrunShellScript", "stdout")); string(data) != c.stdout {
			t.Errorf("%s: the whole output is %q", c.name, data)
		}
	}
}

// meshd stops while an entry runs: its end is found, those before do not run again,
// and those that follow run once. When the machine dies with it, it is interrupted.
func TestPropertyListOverARestart(t *testing.T) {
	for _, died := range []bool{false, true} {
		m := newMachine(t)
		dir := t.TempDir()
		gate, mark := filepath.Join(dir, "gate"), filepath.Join(dir, "mark")
		w := open(t, m.config)
		accept(t, w, listJob("job",
			lines("echo a | tee -a "+mark),
			lines("echo b | tee -a "+mark, "while [ ! -e "+gate+" ]; do sleep 0.01; done", "exit 3"),
			lines("echo c | tee -a "+mark)))
		eventually(t, "the second entry runs", func() bool { return ran(mark) == 2 })
		if r := m.mesh.of("job"); len(r) > 0 && len(r[len(r)-1].Plugins) != 1 {
			t.Errorf("on the way: %+v", r)
		}
		w.Close()
		os.WriteFile(gate, nil, 0o600)
		if died {
			entry := filepath.Join(jobsDir(m.config.Dir), "job", "0.awsrunShellScript", "job", "1.1awsrunShellScript")
			eventually(t, "what the entry has printed is kept", func() bool {
				printed, _ := os.ReadFile(filepath.Join(entry, "stdout"))
				return string(printed) == "b\n" && os.Remove(filepath.Join(entry, "status")) == nil
			})
			m.booted(t, 2)
		}
		open(t, m.config)
		end := m.mesh.end(t, "job")
		data, _ := os.ReadFile(mark)
		want, code := "a\nb\nc\n", 3
		if died {
			want, code = "a\nb\n", -1
		}
		if string(data) != want || end.Status != "Failed" || len(end.Plugins) != 1 || end.Plugins[0].Stdout != want || end.Plugins[0].ResponseCode != code ||
			strings.HasPrefix(end.Reason, "interrupted: ") != died {
			t.Errorf("died %v: ran %q: %+v", died, data, end)
		}
	}
}

// Entries that ask for boots run again after them, and the others do not.
func TestPropertyListReboots(t *testing.T) {
	m := newMachine(t)
	mark := filepath.Join(t.TempDir(), "mark")
	job := listJob("job",
		lines("echo a$MESHD_REBOOTS | tee -a "+mark),
		lines("echo b$MESHD_REBOOTS | tee -a "+mark, "[ $MESHD_REBOOTS = 2 ] || exit 194"),
		lines("echo c$MESHD_REBOOTS | tee -a "+mark, "[ $MESHD_REBOOTS = 1 ] || exit 194"),
		lines("echo d$MESHD_REBOOTS | tee -a "+mark, "exit 4"))
	m.reboots(t, 1, job)
	if r := m.mesh.of("job"); len(r) == 0 || r[len(r)-1].Reason != "rebooting: the step aws:runShellScript asked for the machine to be started anew" || r[len(r)-1].Plugins[0].Status != "InProgress" {
		t.Errorf("before the machine went down the mesh was told %+v", r)
	}
	m.reboots(t, 2)
	m.reboots(t, 3)
	open(t, m.config)
	end := m.mesh.end(t, "job")
	data, _ := os.ReadFile(mark)
	const want = "a0\nb0\nb1\nb2\nc0\nc1\nd0\n"
	if string(data) != want || end.Status != "Failed" || len(end.Plugins) != 1 || end.Plugins[0].Stdout != want || end.Plugins[0].ResponseCode != 4 {
		t.Errorf("ran %q: %+v", data, end)
	}
	m.called(t, 3)
}

// What an entry wrote before the boot that never came is kept.
func TestPropertyListWithoutItsReboot(t *testing.T) {
	m := newMachine(t)
	m.config.Reboot = Reboot{Command: "exit 3", Timeout: 50 * time.Millisecond}
	w := open(t, m.config)
	accept(t, w, listJob("job", lines("echo a"), lines("echo b; exit 194"), lines("echo c")))
	if end := m.mesh.end(t, "job"); end.Status != "Failed" || end.Plugins[0].ResponseCode != 194 || end.Plugins[0].Stdout != "a\nb\n" {
		t.Errorf("%+v", end)
	}
}

func TestCancelPropertyList(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	mark := filepath.Join(t.TempDir(), "mark")
	accept(t, w, listJob("job", lines("echo a"), lines("echo b >> "+mark, "sleep 1000"), lines("echo c")))
	eventually(t, "the second entry runs", func() bool { return ran(mark) == 1 })
	if err := w.Cancel(context.Background(), []string{"job"}); err != nil {
		t.Fatal(err)
	}
	if end := m.end(t, "job"); end.Status != "Cancelled" || len(end.Plugins) != 1 || end.Plugins[0].ResponseCode != 137 || end.Plugins[0].Stdout != "a\n" {
		t.Errorf("%+v", end)
	}
}

// What ends the list ends the document, and what only fails does not.
func TestPropertyListEndsTheDocument(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	for code, next := range map[string]string{
		"169": "Plugin with name aws:softwareInventory and id aws:softwareInventory skipped due to prior step with an exit condition", "1": "",
	} {
		job := newJob("job-" + code)
		job.Document = json.RawMessage(`{"schemaVersion":"1.2","runtimeConfig":{
			"aws:runShellScript":{"properties":[{"runCommand":["true"]},{"runCommand":["exit ` + code + `"]},{"runCommand":["echo last"]}]},
			"aws:softwareInventory":{"properties":{}}}}`)
		accept(t, w, job)
		if end := m.end(t, job.CommandID); end.Status != "Failed" || len(end.Plugins) != 2 || end.Plugins[1].Stdout != next {
			t.Errorf("%s: %+v", code, end)
		}
	}
}
