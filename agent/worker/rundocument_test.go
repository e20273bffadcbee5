package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

func runs(name, kind, path string, parameters any) step {
	return step{Name: name, Action: "aws:runDocument", Inputs: map[string]any{"documentType": kind, "documentPath": path, "documentParameters": parameters}}
}

// withParameter is a document with one String parameter, greeting.
func withParameter(steps ...step) json.RawMessage {
	data, _ := json.Marshal(map[string]any{
		"schemaVersion": "2.2", "mainSteps": steps,
		"parameters": map[string]any{"greeting": map[string]any{"type": "String", "default": "none"}},
	})
	return data
}

// nesting gives a job the documents that its steps name.
func nesting(job peer.Job, documents map[string]json.RawMessage) peer.Job {
	job.Nested = make(map[string]raftstore.NestedDocument)
	for name, content := range documents {
		job.Nested[name] = raftstore.NestedDocument{Name: name + ":1", Content: content}
		if content == nil {
			job.Nested[name] = raftstore.NestedDocument{Name: name, Problem: "there is no document " + name}
		}
	}
	return job
}

func TestRunDocument(t *testing.T) {
	m := newMesh()
	dir := t.TempDir()
	w := open(t, testConfig(dir, m))
	say := shell("say", "echo {{ greeting }} $SSM_COMMAND_ID")
	documents := map[string]json.RawMessage{
		"Child":   withParameter(say, shell("bad", "echo trouble >&2", "exit 7"), step{Name: "last", Action: "aws:runShellScript", Inputs: map[string]any{"runCommand": "printf end"}}),
		"Deep":    withParameter(runs("below", "SSMDocument", "Good", map[string]any{"greeting": "deep {{ greeting }}"}), shell("after", "echo after")),
		"Good":    withParameter(say),
		"Ends":    withParameter(shell("a", "exit 168"), shell("b", "echo not here")),
		"Reboots": withParameter(shell("a", "exit 194")),
		"Odd":     json.RawMessage(`{"schemaVersion":"9"}`),
		"None":    nil,
	}
	for _, c := range []struct {
		name           string
		step           step
		status         string
		code           int
		stdout, stderr string
		reason         string
	}{
		{"map", runs("x", "SSMDocument", "Good", map[string]any{"greeting": "hello", "unknown": 1}), "Success", 0, "hello ID\n", "", ""},
		{"text", runs("x", "SSMDocument", "Good", `{"greeting": "a \"quoted\" word"}`), "Success", 0, "a quoted word ID\n", "", ""},
		{"yaml", runs("x", "SSMDocument", "Good", "greeting: hello"), "Success", 0, "hello ID\n", "", ""},
		{"none", runs("x", "SSMDocument", "Good", nil), "Success", 0, "none ID\n", "", ""},
		{"fails", runs("x", "SSMDocument", "Child", nil), "Failed", 1, "none ID\nend", "trouble\n", `step "bad" of Child`},
		{"deep", runs("x", "SSMDocument", "Deep", map[string]any{"greeting": "hello"}), "Success", 0, "deep hello ID\nafter\n", "", ""},
		{"ends itself only", runs("x", "SSMDocument", "Ends", nil), "Success", 0, "Plugin with name aws:runShellScript and id b skipped due to prior step with an exit condition", "", ""},
		{"reboots", runs("x", "SSMDocument", "Reboots", nil), "Failed", 1, "", "", "in a document that aws:runDocument runs"},
		{"no document", runs("x", "SSMDocument", "Odd", nil), "Failed", 1, "", "*", "cannot be run"},
		{"not there", runs("x", "SSMDocument", "None", nil), "Failed", 1, "", "*", "there is no document None"},
		{"did not come", runs("x", "SSMDocument", "Unknown", nil), "Failed", 1, "", "*", "did not come with the command"},
		{"no file", runs("x", "LocalPath", "nothing.json", nil), "Failed", 1, "", "*", "no such file"},
		{"out of the downloads", runs("x", "LocalPath", "../../journal", nil), "Failed", 1, "", "*", "leads out"},
		{"no path", runs("x", "SSMDocument", "", nil), "Failed", 1, "", "*", "documentPath"},
	} {
		id := "job-" + strings.ReplaceAll(c.name, " ", "-")
		accept(t, w, nesting(newJob(id, c.step, shell("next", "echo next")), documents))
		end := m.end(t, id)
		p := end.Plugins[0]
		if c.stderr == "*" {
			c.stderr = p.Stderr
		}
		if p.Status != c.status || p.ResponseCode != c.code || p.Stdout != strings.ReplaceAll(c.stdout, "ID", id) || p.Stderr != c.stderr || !strings.Contains(end.Reason+p.Stderr, c.reason) {
			t.Errorf("%s: %+v, %q", c.name, p, end.Reason)
		}
		if end.Status != c.status || end.Plugins[1].Stdout != "next\n" {
			t.Errorf("%s: %+v", c.name, end)
		}
	}
}

func TestRunLocalDocument(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	yaml := "schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:runShellScript\n  inputs:\n    workingDirectory: sub\n    runCommand: [pwd]\n- name: b\n  action: aws:runDocument\n  inputs: {documentType: SSMDocument, documentPath: Good}\n"
	accept(t, w, newJob("job",
		shell("fetch", "mkdir -p ../../files/job/downloads/sub 2>/dev/null; d="+jobsDir(w.config.Dir)+"/job/downloads; mkdir -p $d/sub; cat > $d/sub/doc.yaml <<'END'\n"+yaml+"END"),
		runs("x", "LocalPath", "sub/doc.yaml", nil)))
	end := m.end(t, "job")
	if p := end.Plugins[1]; p.Status != "Failed" || p.Stdout != filepath.Join(jobsDir(w.config.Dir), "job/downloads/sub")+"\n" || !strings.Contains(p.Stderr, "did not come with the command") {
		t.Errorf("%+v", end)
	}
}

// meshd stops while a step of the child runs: its end is found, and the steps that
// follow run once. On another boot it is interrupted.
func TestRunDocumentOverARestart(t *testing.T) {
	for _, reboot := range []bool{false, true} {
		m := newMachine(t)
		dir := t.TempDir()
		gate, mark := filepath.Join(dir, "gate"), filepath.Join(dir, "mark")
		child := withParameter(
			shell("a", "echo a >> "+mark),
			shell("b", "echo b >> "+mark, "while [ ! -e "+gate+" ]; do sleep 0.01; done", "exit 3"),
			shell("c", "echo c >> "+mark))
		w := open(t, m.config)
		accept(t, w, nesting(newJob("job", runs("x", "SSMDocument", "Child", nil), shell("next", "echo next >> "+mark)), map[string]json.RawMessage{"Child": child}))
		eventually(t, "the second step runs", func() bool { return ran(mark) == 2 })
		w.Close()
		os.WriteFile(gate, nil, 0o600)
		if reboot {
			// As the machine's end would have it: nobody saw the end of the step.
			eventually(t, "the step's process ends", func() bool {
				return os.Remove(filepath.Join(jobsDir(m.config.Dir), "job", "0.x", "job", "1.b", "status")) == nil
			})
			m.booted(t, 2)
		}
		open(t, m.config)
		end := m.mesh.end(t, "job")
		data, _ := os.ReadFile(mark)
		want := "a\nb\nc\nnext\n"
		if reboot {
			want = "a\nb\n"
		}
		if string(data) != want || end.Status != "Failed" || strings.HasPrefix(end.Reason, "interrupted: ") != reboot {
			t.Errorf("reboot %v: ran %q: %+v", reboot, data, end)
		}
	}
}

// meshd died before anything of a document in a document was begun: it runs now,
// unless it is too late, or another boot.
func TestRunDocumentNotBegun(t *testing.T) {
	boot, err := executor.BootID()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		boot string
		late bool
		// inner are the records of the child's journal; nil: it has none.
		inner []executor.RecordKind
		ran   int
	}{
		"not accepted":                 {boot: boot, ran: 2},
		"not accepted, too late":       {boot: boot, late: true},
		"not accepted, another boot":   {boot: "another"},
		"accepted":                     {boot: boot, inner: []executor.RecordKind{executor.RecordAccepted}, ran: 2},
		"about to start":               {boot: boot, inner: []executor.RecordKind{executor.RecordAccepted, executor.RecordStarting}, ran: 2},
		"about to start, too late":     {boot: boot, late: true, inner: []executor.RecordKind{executor.RecordAccepted, executor.RecordStarting}},
		"about to start, another boot": {boot: "another", inner: []executor.RecordKind{executor.RecordAccepted, executor.RecordStarting}},
	} {
		dir := t.TempDir()
		mark := filepath.Join(dir, "mark")
		child := withParameter(shell("a", "echo a >> "+mark), shell("b", "echo b >> "+mark))
		job := nesting(newJob("job", runs("x", "SSMDocument", "Child", nil)), map[string]json.RawMessage{"Child": child})
		if c.late {
			job.StartUntil = time.Now()
		}
		journalOf(t, dir, accepted(job), starting(t, jobsDir(dir), c.boot))
		if c.inner != nil {
			inner := executor.StepDir(jobsDir(dir), "job", 0, "x")
			if err := os.MkdirAll(inner, 0o700); err != nil {
				t.Fatal(err)
			}
			data, _ := json.Marshal(map[string]any{"Document": "Child:1", "Content": string(child)})
			var records []executor.Record
			for _, kind := range c.inner {
				r := starting(t, inner, c.boot)
				if kind == executor.RecordAccepted {
					r = executor.Record{Kind: kind, JobID: "job", At: time.Now(), Job: data, ExpiresAt: job.ExpiresAt}
				}
				records = append(records, r)
			}
			journalOf(t, inner, records...)
		}
		m := newMesh()
		open(t, testConfig(dir, m))
		end := m.end(t, "job")
		if ran(mark) != c.ran || (end.Status == "Success") != (c.ran > 0) || strings.HasPrefix(end.Reason, "interrupted: ") != (c.ran == 0) {
			t.Errorf("%s: ran %d: %+v", name, ran(mark), end)
		}
	}
}

func TestRunDocumentDepth(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	documents := map[string]json.RawMessage{}
	for i := range 4 {
		documents[fmt.Sprint("D", i)] = withParameter(runs("x", "SSMDocument", fmt.Sprint("D", i+1), nil))
	}
	documents["D4"] = withParameter(shell("a", "echo too deep"))
	accept(t, w, nesting(newJob("job", runs("x", "SSMDocument", "D1", nil)), documents), nesting(newJob("fits", runs("x", "SSMDocument", "D2", nil)), documents))
	if end := m.end(t, "job"); end.Status != "Failed" || !strings.Contains(end.Plugins[0].Stderr, "Maximum depth for document execution exceeded") {
		t.Errorf("%+v", end)
	}
	if end := m.end(t, "fits"); end.Status != "Success" {
		t.Errorf("%+v", end)
	}
}

func TestMissingPlugin(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	accept(t, w, newJob("job", step{Name: "x", Action: "aws:configurePackage", Inputs: map[string]any{"name": "n", "action": "Install"}}, shell("next", "echo next")))
	if end := m.end(t, "job"); end.Status != "Failed" || !strings.Contains(end.Plugins[0].Stderr, "the plugin aws:configurePackage is not in this version") || end.Plugins[1].Stdout != "next\n" {
		t.Errorf("%+v", end)
	}
}
