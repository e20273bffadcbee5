package patcher

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func shell(script string) tool { return tool{Name: "sh", Args: []string{"-c", script}} }

func TestToolGivesLines(t *testing.T) {
	var lines []string
	var log bytes.Buffer
	run := shell(`printf 'one\n\n10%%\r50%%\rdone\ncrlf\r\n'; echo err >&2; printf 'no end'; exit 7`)
	run.Line, run.Log = func(line string) { lines = append(lines, line) }, &log
	o, err := run.run(t.Context())
	if err != nil || o.Code != 7 {
		t.Fatalf("code %d, %v", o.Code, err)
	}
	slices.Sort(lines) // the two streams come in any order
	if want := []string{"", "crlf", "done", "err", "no end", "one"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
	if strings.Count(log.String(), "\n") != 6 || len(o.Tail) != 6 {
		t.Errorf("the log is %q, the tail %q", log.String(), o.Tail)
	}
}

func TestToolBoundsItsOutput(t *testing.T) {
	var log bytes.Buffer
	count := 0
	run := shell(fmt.Sprintf(`head -c %d /dev/zero | tr '\0' x; echo; yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -n 100000`, 10*lineLimit))
	run.Log, run.Line = &log, func(line string) {
		if count++; len(line) > lineLimit+10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	o, err := run.run(t.Context())
	if err != nil || o.Code != 0 || count != 100001 {
		t.Errorf("code %d, %v, %d lines", o.Code, err, count)
	}
	if log.Len() > logLimit+lineLimit || !strings.Contains(log.String(), "the rest is left out") || len(o.Tail) != tailLines {
		t.Errorf("%d bytes of log, %d lines of tail", log.Len(), len(o.Tail))
	}
}

func TestToolIsAlone(t *testing.T) {
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("LANGUAGE", "de")
	t.Setenv("NOTIFY_SOCKET", "/x")
	t.Setenv("MESHD_REBOOTS", "1")
	var lines []string
	run := shell(`echo $LC_ALL.$LANGUAGE.$NOTIFY_SOCKET.$MESHD_REBOOTS.$MORE; cat; (exec < /dev/tty) 2>/dev/null && echo terminal; ps -o sid= -p $$; echo $$`)
	run.Env, run.Line = []string{"MORE=yes"}, func(line string) { lines = append(lines, strings.TrimSpace(line)) }
	if _, err := run.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(lines) < 2 || lines[0] != "C.UTF-8....yes" || slices.Contains(lines, "terminal") {
		t.Errorf("it saw %q", lines)
	}
	if len(lines) == 3 && lines[1] != lines[2] {
		t.Errorf("it is %s in session %s", lines[2], lines[1])
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the process %d has not ended", pid)
}

func TestToolEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var child int
	run := shell(`trap '' TERM; sleep 1000 & echo $!; wait; wait`)
	run.Line = func(line string) {
		if pid, err := strconv.Atoi(line); err == nil {
			child = pid
			cancel()
		}
	}
	if _, err := run.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
	gone(t, child)
}

func TestToolThatChangesTheMachineIsNotEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file := filepath.Join(t.TempDir(), "go")
	run := shell(`echo begun; until [ -e ` + file + ` ]; do sleep 0.05; done; echo ended`)
	run.Whole = true
	var last string
	run.Line = func(line string) {
		if last = line; line == "begun" {
			cancel()
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	if o, err := run.run(ctx); err != nil || o.Code != 0 || last != "ended" {
		t.Errorf("code %d, %v, last line %q", o.Code, err, last)
	}
	if _, err := run.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one that has not begun: %v", err)
	}
	run = shell(`sleep 1000`)
	run.Whole, run.Limit = true, 50*time.Millisecond
	if _, err := run.run(t.Context()); !errors.Is(err, errLimit) {
		t.Errorf("beyond its limit: %v", err)
	}
}

// TestRunWholeTool is no test: it is started as a process that is killed.
func TestRunWholeTool(t *testing.T) {
	script := os.Getenv("PATCHER_TEST_WHOLE")
	if script == "" {
		return
	}
	run := shell(script)
	run.Whole, run.Line = true, func(line string) { os.Stdout.WriteString(line + "\n") }
	run.run(t.Context())
}

func TestToolThatChangesTheMachineOutlivesThisProcess(t *testing.T) {
	dir := t.TempDir()
	killer := exec.Command("/proc/self/exe", "-test.run=^TestRunWholeTool$")
	killer.Env = append(os.Environ(), namespaceVariable+"=whole",
		"PATCHER_TEST_WHOLE=echo $$; until [ -e "+dir+"/go ]; do sleep 0.05; done; i=0; while [ $i -lt 20000 ]; do echo line $i; echo line $i >&2; i=$((i+1)); done; touch "+dir+"/ended")
	out, err := killer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killer.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	killer.Process.Kill()
	killer.Wait()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if _, err := os.Stat(filepath.Join(dir, "ended")); err != nil {
		t.Error("the program was ended with the process that ran it")
	}
}

func TestToolDoesNotWaitForADaemon(t *testing.T) {
	t.Parallel()
	var daemon int
	run := shell(`setsid sleep 1000 & echo $!`)
	run.Line = func(line string) { daemon, _ = strconv.Atoi(line) }
	o, err := run.run(t.Context())
	if err != nil || o.Code != 0 {
		t.Errorf("code %d, %v", o.Code, err)
	}
	if daemon > 0 {
		syscall.Kill(daemon, syscall.SIGKILL)
	}
}

func TestToolStdoutIsRead(t *testing.T) {
	var out []byte
	var errs []string
	run := shell(`echo out; echo err >&2; exit 3`)
	run.Stdout = func(in io.Reader) (err error) {
		out, err = io.ReadAll(in)
		return err
	}
	run.Line = func(line string) { errs = append(errs, line) }
	if o, err := run.run(t.Context()); err != nil || o.Code != 3 || string(out) != "out\n" || !slices.Equal(errs, []string{"err"}) {
		t.Errorf("code %d, %v; read %q, %q", o.Code, err, out, errs)
	}
	broken := errors.New("broken")
	run = shell(`yes | head -c 1000000`)
	run.Stdout = func(io.Reader) error { return broken }
	if _, err := run.run(t.Context()); !errors.Is(err, broken) || !errors.Is(err, errOutput) {
		t.Errorf("a reader that gives up: %v", err)
	}
}

func TestToolIsFound(t *testing.T) {
	if _, err := (tool{Name: "no-such-program"}).run(t.Context()); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("run: %v", err)
	}
	if _, err := (tool{Name: "/no/such/program"}).run(t.Context()); err == nil {
		t.Error("what is not there was run")
	}
}
