package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fleetmesh/agent/meshapi"
)

// TestMain lets the test binary be meshctl, so that tests can start it as a
// process and send it signals.
func TestMain(m *testing.M) {
	if os.Getenv("MESHCTL_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process starts meshctl as a process of its own.
func (m *fakeMesh) process(ctx context.Context, arguments ...string) (cmd *exec.Cmd, out, err *bytes.Buffer) {
	self, lookErr := os.Executable()
	if lookErr != nil {
		m.t.Fatal(lookErr)
	}
	out, err = &bytes.Buffer{}, &bytes.Buffer{}
	cmd = exec.CommandContext(ctx, self, arguments...)
	cmd.Env = append(os.Environ(), "MESHCTL_TEST_MAIN=1", "HOME="+m.home, "MESHCTL_CONFIG=")
	cmd.Stdout, cmd.Stderr = out, err
	if startErr := cmd.Start(); startErr != nil {
		m.t.Fatal(startErr)
	}
	return cmd, out, err
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	var ended *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return ended.ExitCode()
}

// An interrupt ends meshctl, not the command, and says so.
func TestInterrupt(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		m := newFakeMesh(t)
		commandOn(m, success()...)
		watched, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		m.on("Mesh.WatchCommand", func([]byte) (any, error) {
			once.Do(func() { close(watched) })
			select {
			case <-release:
			case <-ctx.Done():
			}
			return &meshapi.WatchCommandOutput{}, nil
		})
		cmd, out, stderr := m.process(ctx, "run", "--targets", "all", "--", "sleep", "60")
		select {
		case <-watched:
		case <-ctx.Done():
			t.Fatalf("it does not watch: %s", stderr)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		code := exitOf(t, cmd.Wait())
		close(release)
		if code != exitInterrupted || out.Len() > 0 {
			t.Errorf("%v: exit %d, stdout %q", signal, code, out)
		}
		for _, want := range []string{"goes on in the mesh", "meshctl command wait " + commandID, "meshctl command cancel " + commandID} {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%v: no %q in %q", signal, want, stderr)
			}
		}
		if strings.Contains(stderr.String(), "\x1b") {
			t.Errorf("an escape code where there is no terminal: %q", stderr)
		}
		if len(m.called("CancelCommand")) != 0 {
			t.Error("the command was cancelled")
		}
	}
}

func TestInterruptBeforeTheAnswer(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	m := newFakeMesh(t)
	sent, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.on("SendCommand", func([]byte) (any, error) {
		once.Do(func() { close(sent) })
		select {
		case <-release:
		case <-ctx.Done():
		}
		return struct{}{}, nil
	})
	cmd, _, stderr := m.process(ctx, "run", "--targets", "all", "--", "true")
	select {
	case <-sent:
	case <-ctx.Done():
		t.Fatal("nothing was sent")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	code := exitOf(t, cmd.Wait())
	close(release)
	if code != exitInterrupted || !strings.Contains(stderr.String(), "`meshctl command list` tells whether it took the command") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// `eval "$(meshctl env)"` sets what it prints, in a real shell.
func TestEvalEnv(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal("these tests need a sh, as every node does: ", err)
	}
	m := newFakeMesh(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sh, "-ec", `eval "$("$1" env)"; printf '%s\n' "$AWS_ENDPOINT_URL_SSM" "$AWS_SECRET_ACCESS_KEY" "$AWS_DEFAULT_REGION"; cat "$AWS_CA_BUNDLE"`, "sh", self)
	cmd.Env = append(os.Environ(), "MESHCTL_TEST_MAIN=1", "HOME="+m.home, "MESHCTL_CONFIG=")
	out, err := cmd.Output()
	if want := m.server.URL + "\ns3cret/with+odd=chars\nus-east-1\n" + m.caPEM(); err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(want) {
		t.Errorf("%v, %q", err, out)
	}
}

func TestCompletionScriptsParse(t *testing.T) {
	m := newFakeMesh(t)
	for _, shell := range []string{"bash", "zsh", "fish", "pwsh"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // TestCompletion has seen that there is one
		}
		name := strings.Replace(shell, "pwsh", "powershell", 1)
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte(m.run("completion", name).out), 0o600); err != nil {
			t.Fatal(err)
		}
		arguments := []string{"-n", script}
		if shell == "pwsh" {
			arguments = []string{"-NoProfile", "-File", script}
		}
		if out, err := exec.Command(path, arguments...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}
