package executor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNextMove(t *testing.T) {
	ok := StepResult{Name: "a", Status: statusSuccess}
	failed := StepResult{Name: "a", Status: statusFailed}
	ended := StepResult{Name: "a", Status: statusFailed, EndsDocument: true}
	plain := []Task{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	finally := []Task{{Name: "a"}, {Name: "b", Inputs: map[string]any{"finallyStep": true}}, {Name: "c", Inputs: map[string]any{"finallyStep": "true"}}}
	for _, c := range []struct {
		name               string
		tasks              []Task
		results            []StepResult
		cancelled, expired bool
		move               move
		status             string
		code               int
	}{
		{"first", plain, nil, false, false, moveRun, "", 0},
		{"a failure does not stop the next", plain, []StepResult{failed}, false, false, moveRun, "", 0},
		{"all done", plain, []StepResult{ok, ok, ok}, true, true, moveFinish, "", 0},
		{"an end skips", plain, []StepResult{ended}, false, false, moveResult, statusSuccess, 0},
		{"finallyStep counts on the last only", finally, []StepResult{ended}, false, false, moveResult, statusSuccess, 0},
		{"finallyStep runs", finally, []StepResult{ended, ok}, false, false, moveRun, "", 0},
		{"cancelled", finally, []StepResult{ended, ok}, true, false, moveResult, statusCancelled, -1},
		{"expired", plain, []StepResult{ok}, false, true, moveResult, statusTimedOut, -1},
		{"precondition", []Task{{Name: "a", Skip: "not this platform"}}, nil, false, false, moveResult, statusSuccess, 0},
		{"refused", []Task{{Name: "a", Refuse: "unrecognized precondition"}}, nil, false, false, moveResult, statusFailed, 1},
		{"no steps", nil, nil, false, false, moveFinish, "", 0},
	} {
		move, result := nextMove(c.tasks, c.results, c.cancelled, c.expired)
		if move != c.move || result.Status != c.status || result.ResponseCode != c.code {
			t.Errorf("%s: %v %+v", c.name, move, result)
		}
	}
}

func TestControl(t *testing.T) {
	outcome := func(status string) Outcome { return Outcome{Result: StepResult{Status: status, ResponseCode: 7}} }
	for _, c := range []struct {
		inputs map[string]any
		status string
		want   string
		code   int
		ends   bool
	}{
		{nil, statusFailed, statusFailed, 7, false},
		{map[string]any{"onFailure": "exit"}, statusFailed, statusFailed, 7, true},
		{map[string]any{"onFailure": "successAndExit"}, statusFailed, statusSuccess, 168, true},
		{map[string]any{"onFailure": "exit"}, statusTimedOut, statusTimedOut, 7, false},
		{map[string]any{"onFailure": "exit"}, statusCancelled, statusCancelled, 7, false},
		{map[string]any{"onSuccess": "exit"}, statusSuccess, statusSuccess, 7, true},
		{map[string]any{"onSuccess": "exit"}, statusFailed, statusFailed, 7, false},
	} {
		r := control(Task{Inputs: c.inputs}, outcome(c.status))
		if r.Status != c.want || r.ResponseCode != c.code || r.EndsDocument != c.ends {
			t.Errorf("%v after %s: %+v", c.inputs, c.status, r)
		}
	}
}

func TestAggregate(t *testing.T) {
	step := func(status, reason string) StepResult {
		return StepResult{Status: status, StatusDetails: status, Reason: reason}
	}
	for _, c := range []struct {
		results []StepResult
		status  string
		reason  string
	}{
		{nil, statusSuccess, ""},
		{[]StepResult{step(statusSuccess, ""), step(statusSuccess, "")}, statusSuccess, ""},
		{[]StepResult{step(statusTimedOut, "late"), step(statusFailed, "bad"), step(statusCancelled, "no")}, statusFailed, "bad"},
		{[]StepResult{step(statusCancelled, "no"), step(statusTimedOut, "late")}, statusTimedOut, "late"},
		{[]StepResult{step(statusSuccess, ""), step(statusCancelled, "no")}, statusCancelled, "no"},
	} {
		if status, details, reason := aggregate(c.results); status != c.status || details != c.status || reason != c.reason {
			t.Errorf("%+v: %s %s %q", c.results, status, details, reason)
		}
	}
}

func TestConcludeScript(t *testing.T) {
	for _, c := range []struct {
		exit      processExit
		cancelled bool
		status    string
		details   string
		ends      bool
	}{
		{processExit{}, false, statusSuccess, statusSuccess, false},
		{processExit{Code: 3}, false, statusFailed, statusFailed, false},
		{processExit{Code: 3}, true, statusFailed, statusFailed, false},
		{processExit{Code: 168}, false, statusSuccess, statusSuccess, true},
		{processExit{Code: 169}, false, statusFailed, statusFailed, true},
		{processExit{Code: 194}, false, statusFailed, statusFailed, false},
		{processExit{Code: 137, Signal: 9, Killed: killedTimeout}, false, statusTimedOut, detailsExecutionTimedOut, false},
		{processExit{Code: 137, Signal: 9, Killed: killedExpired}, false, statusTimedOut, detailsExecutionTimedOut, false},
		{processExit{Code: 137, Signal: 9, Killed: killedCancel}, true, statusCancelled, statusCancelled, false},
		{processExit{Code: 137, Signal: 9, Killed: killedCancel}, false, statusFailed, statusFailed, false},
		{processExit{Code: 137}, false, statusTimedOut, detailsExecutionTimedOut, false},
		{processExit{Code: 137}, true, statusCancelled, statusCancelled, false},
		{processExit{Code: 143, Signal: 15}, false, statusFailed, statusFailed, false},
		{processExit{Code: 1, Failure: "no shell"}, false, statusFailed, statusFailed, false},
	} {
		o := concludeScript("x", c.exit, c.cancelled)
		if o.Result.Status != c.status || o.Result.StatusDetails != c.details || o.EndsDocument != c.ends || o.Result.ResponseCode != c.exit.Code {
			t.Errorf("%+v: %+v", c.exit, o)
		}
	}
}

func TestScriptText(t *testing.T) {
	for _, c := range []struct {
		input any
		want  string
		bad   bool
	}{
		{"echo a", "echo a\n", false},
		{[]any{"echo a", "", "echo b"}, "echo a\n\necho b\n", false},
		{[]string{"a"}, "a\n", false},
		{[]any{"a", 1}, "", true},
		{nil, "", true},
		{map[string]any{}, "", true},
	} {
		if got, err := scriptText(c.input); got != c.want || (err != nil) != c.bad {
			t.Errorf("%v: %q %v", c.input, got, err)
		}
	}
}

func TestWorkingDirectory(t *testing.T) {
	downloads := t.TempDir()
	os.Mkdir(filepath.Join(downloads, "repo"), 0o700)
	for _, c := range []struct {
		input any
		want  string
	}{
		{nil, "/"}, {"", "/"}, {"/nowhere", "/nowhere"}, {"repo", filepath.Join(downloads, "repo")}, {"other", "/"}, {"../..", "/"}, {3, "/"},
	} {
		if got := workingDirectory(c.input, downloads); got != c.want {
			t.Errorf("%v: %s", c.input, got)
		}
	}
}

func TestScriptEnvironment(t *testing.T) {
	env := scriptEnvironment([]string{"A=1", "NOTIFY_SOCKET=/run/x", "AWS_SSM_INSTANCE_ID=wrong", "B=1"}, []string{"A=2", "SSM_x=a=b", "bad\x00=1", "=", "nothing"}, "id", Facts{NodeID: "mi-1", Region: "mesh-1"})
	slices.Sort(env)
	want := []string{"A=2", "AWS_SSM_INSTANCE_ID=mi-1", "AWS_SSM_PLATFORM_NAME=", "AWS_SSM_PLATFORM_VERSION=", "AWS_SSM_REGION_NAME=mesh-1", "B=1", "PATH=" + defaultPath, "SSM_COMMAND_ID=id", "SSM_x=a=b"}
	if !slices.Equal(env, want) {
		t.Errorf("environment %q", env)
	}
}

func TestFirstCharacters(t *testing.T) {
	for _, c := range []struct {
		in    string
		count int
		want  string
	}{
		{"hello", 3, "hel"}, {"hé€😀!", 4, "hé€😀"}, {"a\xffb", 9, "a\ufffdb"}, {"a\xe2\x82", 9, "a\ufffd\ufffd"}, {"", 5, ""}, {"a\x00b", 3, "a\x00b"},
	} {
		got := firstCharacters([]byte(c.in), c.count)
		if got != c.want || !utf8.ValidString(got) {
			t.Errorf("%q: %q", c.in, got)
		}
	}
	path := filepath.Join(t.TempDir(), "stdout")
	os.WriteFile(path, []byte(strings.Repeat("€", 30000)), 0o600)
	if text, size, err := excerpt(path, StdoutCharacters); err != nil || size != 90000 || text != strings.Repeat("€", 24000-20)+"--output truncated--" {
		t.Errorf("excerpt of %d bytes: %d characters, %v", size, utf8.RuneCountInString(text), err)
	}
	os.WriteFile(path, []byte(strings.Repeat("€", 24000)), 0o600)
	if text, _, err := excerpt(path, StdoutCharacters); err != nil || text != strings.Repeat("€", 24000) {
		t.Errorf("an output that is just shown whole: %d characters, %v", utf8.RuneCountInString(text), err)
	}
}

func TestTruncate(t *testing.T) {
	for _, c := range []struct {
		in    string
		count int
		want  string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"€€€", 3, "€€€"},
		{strings.Repeat("€", 31), 30, strings.Repeat("€", 10) + TruncatedMark},
		{strings.Repeat("a", 21), 20, TruncatedMark}, {strings.Repeat("a", 21), 3, "--o"}, {"a", 0, ""},
		{Truncate(strings.Repeat("a", 50), 40), 30, "aaaaaaaaaa" + TruncatedMark},
	} {
		if got := Truncate(c.in, c.count); got != c.want {
			t.Errorf("%d of %q: %q, want %q", c.count, c.in, got, c.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	line := "12 (a) b (c)) S 1 12 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2"
	stat, err := parseStat([]byte(line))
	if err != nil || stat != (processStat{State: 'S', Group: 12, Session: 7, Start: 4242}) {
		t.Errorf("%+v %v", stat, err)
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 x S", "1 (x) S a b c d e f g h i j k l m n o p q r s t u v"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q parsed", bad)
		}
	}
	self, err := processIDOf(os.Getpid())
	if err != nil || !self.alive() || (processID{PID: self.PID, Start: self.Start + 1}).alive() {
		t.Errorf("self %+v %v", self, err)
	}
}

func TestStepDirStaysInItsJob(t *testing.T) {
	for name, want := range map[string]string{"runShellScript": "/jobs/id/0.runShellScript", "aws:runShellScript": "/jobs/id/0.awsrunShellScript", "../../etc": "/jobs/id/0.etc", "": "/jobs/id/0."} {
		if got := StepDir("/jobs", "id", 0, name); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}
