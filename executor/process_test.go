package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/test/leftover"
)

// bench is a place where scripts run.
type bench struct {
	*Processes
	dir string
}

func newBench(t *testing.T, config ProcessConfig) *bench {
	t.Helper()
	config.Log = quiet()
	p, err := OpenProcesses(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "jobs", "id", "0.step")
	t.Cleanup(func() { leftover.None(t, dir) })
	t.Cleanup(p.Close)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &bench{p, dir}
}

func (b *bench) order(script string) *shimOrder {
	return &shimOrder{Dir: b.dir, Script: script, Env: append(os.Environ(), "HERE="+b.dir), WorkingDir: "/", Timeout: time.Hour, Expiry: time.Hour}
}

func (b *bench) run(t *testing.T, order *shimOrder) ended {
	t.Helper()
	end, err := b.Processes.run(context.Background(), context.Background(), order)
	if err != nil {
		t.Fatal(err)
	}
	if end.journaled != nil {
		end.journaled()
	}
	return end
}

func (b *bench) output(name string) string {
	data, _ := os.ReadFile(filepath.Join(b.dir, name))
	return string(data)
}

func (b *bench) wait(t *testing.T, name string) string {
	t.Helper()
	eventually(t, name+" is there", func() bool { return strings.HasSuffix(b.output(name), "\n") })
	return strings.TrimSpace(b.output(name))
}

func gone(pid int) bool {
	stat, err := statOf(pid)
	return err != nil || stat.State == 'Z'
}

func TestScriptRuns(t *testing.T) {
	b := newBench(t, ProcessConfig{Spare: true})
	// The second half of the runs finds a spare.
	for i := range 2 {
		if i == 1 {
			eventually(t, "a spare is there", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.spare != nil
			})
		}
		os.RemoveAll(b.dir)
		os.MkdirAll(b.dir, 0o700)
		end := b.run(t, b.order("#!/bin/sh\necho out $HERE\necho err >&2\nif read x; then echo input; fi\numask\npwd\nexit 7\n"))
		if end.exit.Code != 7 || end.exit.Killed != "" || end.exit.FinishedAt.Before(end.exit.StartedAt) {
			t.Fatalf("%+v", end)
		}
		if got, want := b.output("stdout"), "out "+b.dir+"\n0022\n/\n"; got != want {
			t.Errorf("stdout %q, want %q", got, want)
		}
		if got := b.output("stderr"); got != "err\n" {
			t.Errorf("stderr %q", got)
		}
		for name, mode := range map[string]os.FileMode{"stdout": 0o600, "stderr": 0o600, statusFile: 0o600, scriptName: 0o700} {
			if info, err := os.Stat(filepath.Join(b.dir, name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v %v", name, info.Mode(), err)
			}
		}
	}
}

// TestShimIsUsedAgain: one script after another has the same shim, but for one
// whose shim was signalled: the signal may come late.
func TestShimIsUsedAgain(t *testing.T) {
	b := newBench(t, ProcessConfig{Spare: true})
	run := func(script string, cancelled context.Context) (output string, end ended) {
		t.Helper()
		os.RemoveAll(b.dir)
		os.MkdirAll(b.dir, 0o700)
		end, err := b.Processes.run(context.Background(), cancelled, b.order("echo $PPID\n"+script))
		if err != nil || end.journaled == nil {
			t.Fatalf("%+v, %v", end, err)
		}
		end.journaled()
		return b.wait(t, "stdout"), end
	}
	shim, _ := run("umask 077\nulimit -n 10\nexit 3\n", context.Background())
	for range 3 {
		again, end := run("umask\nulimit -n\nexit 4\n", context.Background())
		if !strings.HasPrefix(again, shim+"\n0022\n") || strings.HasSuffix(again, "\n10") || end.exit.Code != 4 || end.exit.Killed != "" {
			t.Errorf("the first shim was %s, then came %q, %+v", shim, again, end)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	stop := time.AfterFunc(patience, cancel)
	defer stop.Stop()
	go func() {
		defer cancel()
		for cancelled.Err() == nil && b.output("stdout") != shim+"\nhere\n" {
			time.Sleep(5 * time.Millisecond)
		}
	}()
	killed, end := run("echo here\nsleep 1000\n", cancelled)
	if killed != shim+"\nhere" || end.exit.Killed != killedCancel {
		t.Errorf("%q, %+v", killed, end)
	}
	if next, end := run("", context.Background()); next == shim || end.exit.Code != 0 {
		t.Errorf("a shim that was signalled was used again: %+v", end)
	}
}

// TestShimLetsGo: a shim that waits for its next order holds nothing of the last.
func TestShimLetsGo(t *testing.T) {
	b := newBench(t, ProcessConfig{Spare: true})
	b.run(t, b.order("true\n"))
	eventually(t, "the step's lock is free", func() bool {
		log, locked, err := openStatus(b.dir)
		if err == nil {
			log.close()
		}
		return err == nil && locked
	})
	b.mu.Lock()
	pid := b.spare.process.Pid
	b.mu.Unlock()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("%v, %v", links, err)
	}
	for _, link := range links {
		if to, _ := os.Readlink(link); strings.Contains(to, b.dir) {
			t.Errorf("the shim holds %s", to)
		}
	}
	b.Close()
	eventually(t, "the shim ends with meshd", func() bool { return gone(pid) })
}

func TestInterpreter(t *testing.T) {
	for script, want := range map[string]ended{
		"#!/bin/cat\nhello\n":       {exit: processExit{Code: 0}},
		"#!/no/such/interpreter\n":  {exit: processExit{Code: 127}},
		"true || exit 1\nexit 12\n": {exit: processExit{Code: 12}},
		"no-such-command-here\n":    {exit: processExit{Code: 127}},
		"kill -15 $$\n":             {exit: processExit{Code: 143, Signal: 15}},
		"\n":                        {},
	} {
		b := newBench(t, ProcessConfig{})
		end := b.run(t, b.order(script))
		if end.exit.Code != want.exit.Code || end.exit.Signal != want.exit.Signal || end.exit.Failure != "" {
			t.Errorf("%q: %+v", script, end.exit)
		}
		if strings.HasPrefix(script, "#!/bin/cat") && b.output("stdout") != script {
			t.Errorf("%q wrote %q", script, b.output("stdout"))
		}
	}
}

func TestScriptCannotStart(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	order := b.order("true\n")
	order.WorkingDir = "/no/such/place"
	if end := b.run(t, order); end.exit.Failure == "" || end.ran || !strings.Contains(end.exit.Failure, "/no/such/place") {
		t.Errorf("%+v", end)
	}
	b = newBench(t, ProcessConfig{Shim: []string{"/no/such/shim"}})
	if end := b.run(t, b.order("true\n")); end.exit.Failure == "" || end.ran {
		t.Errorf("%+v", end)
	}
	b = newBench(t, ProcessConfig{})
	os.RemoveAll(b.dir)
	if end := b.run(t, b.order("true\n")); end.exit.Failure == "" || end.ran {
		t.Errorf("%+v", end)
	}
}

// family writes the ids of a shell, a child and a grandchild.
const family = "(sh -c 'echo $$ > $HERE/grandchild; exec sleep 1000'; true) &\necho $! > $HERE/child\necho $$ > $HERE/parent\nwait\n"

func (b *bench) family(t *testing.T) (ids []int) {
	t.Helper()
	for _, name := range []string{"parent", "child", "grandchild"} {
		id, err := strconv.Atoi(b.wait(t, name))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func (b *bench) ensureGone(t *testing.T, ids []int) {
	t.Helper()
	for _, id := range ids {
		eventually(t, fmt.Sprint("process ", id, " is gone"), func() bool { return gone(id) })
	}
}

func TestTimeoutKillsTheWholeGroup(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	order := b.order(family)
	order.Timeout = 500 * time.Millisecond
	end := b.run(t, order)
	if end.exit.Killed != killedTimeout || end.exit.Code != 137 || end.exit.Signal != 9 {
		t.Fatalf("%+v", end)
	}
	b.ensureGone(t, b.family(t))

	b = newBench(t, ProcessConfig{})
	order = b.order("sleep 1000\n")
	order.Expiry = 0
	if end := b.run(t, order); end.exit.Killed != killedExpired {
		t.Fatalf("%+v", end)
	}
}

func TestCancelKillsTheWholeGroup(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	cancelled, cancel := context.WithCancel(context.Background())
	var ids []int
	done := make(chan struct{})
	go func() {
		defer close(done)
		ids = b.family(t)
		cancel()
	}()
	end, err := b.Processes.run(context.Background(), cancelled, b.order("trap '' TERM\n"+family))
	<-done
	if err != nil || end.exit.Killed != killedCancel || end.exit.Code != 137 {
		t.Fatalf("%+v %v", end, err)
	}
	end.journaled()
	b.ensureGone(t, ids)
}

func TestDaemonisedChildDoesNotBlock(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	end := b.run(t, b.order("sh -c 'echo $$ > $HERE/child; exec sleep 1000' &\necho started\n"))
	id, _ := strconv.Atoi(b.wait(t, "child"))
	if end.exit.Code != 0 || b.output("stdout") != "started\n" || gone(id) {
		t.Fatalf("%+v, child gone: %v", end, gone(id))
	}
	unix.Kill(id, unix.SIGKILL)
}

func TestOutputLimit(t *testing.T) {
	b := newBench(t, ProcessConfig{OutputLimit: 100000})
	end := b.run(t, b.order("head -c 3000000 /dev/zero | tr '\\0' x\nhead -c 100000 /dev/zero >&2\nexit 4\n"))
	if end.exit.Code != 4 {
		t.Fatalf("%+v", end)
	}
	out := b.output("stdout")
	if !strings.HasPrefix(out, strings.Repeat("x", 100000)+"\n--- output truncated") || len(out) > 100200 {
		t.Errorf("stdout has %d bytes, ends %q", len(out), out[max(0, len(out)-80):])
	}
	if len(b.output("stderr")) != 100000 {
		t.Errorf("stderr has %d bytes", len(b.output("stderr")))
	}
}

// detach starts a script and lets go of it when ready is there.
func (b *bench) detach(t *testing.T, script string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.wait(t, "ready")
		stop()
	}()
	_, err := b.Processes.run(ctx, context.Background(), b.order(script))
	<-done
	if !errors.Is(err, ErrDetached) {
		t.Fatalf("detached: %v", err)
	}
}

func (b *bench) resume(t *testing.T, bootID string) ended {
	t.Helper()
	end, err := b.Processes.resume(context.Background(), context.Background(), b.dir, bootID, nil)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

func TestResumeFindsARunningScript(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	b.detach(t, "echo x > $HERE/ready\nuntil [ -e $HERE/go ]; do sleep 0.01; done\nexit 5\n")
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := b.Processes.resume(ctx, context.Background(), b.dir, b.BootID(), nil); !errors.Is(err, ErrDetached) {
		t.Fatalf("detached again: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o600) })
	if end := b.resume(t, b.BootID()); end.exit.Code != 5 || end.interrupted != "" {
		t.Fatalf("%+v", end)
	}
	// Again, and also after a reboot: the exit is on disk.
	if end := b.resume(t, "another boot"); end.exit.Code != 5 || end.interrupted != "" {
		t.Fatalf("%+v", end)
	}
}

// The time limit holds while no meshd is there, too.
func TestTimeoutWithoutMeshd(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	order := b.order("echo x > $HERE/ready\n" + family)
	order.Timeout = 2 * time.Second
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		b.wait(t, "ready")
		stop()
	}()
	if _, err := b.Processes.run(ctx, context.Background(), order); !errors.Is(err, ErrDetached) {
		t.Fatalf("detached: %v", err)
	}
	eventually(t, "the exit is there", func() bool { return b.read(t).Exit != nil })
	if end := b.resume(t, b.BootID()); end.exit.Killed != killedTimeout {
		t.Fatalf("%+v", end)
	}
	b.ensureGone(t, b.family(t))
}

// A shutdown of the machine ends the shim with the script; nobody cancelled.
func TestShimToldToEndByOthers(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	go func() {
		b.wait(t, "ready")
		unix.Kill(b.read(t).Shim.PID, unix.SIGTERM)
	}()
	end := b.run(t, b.order("echo x > $HERE/ready\nsleep 1000\n"))
	x := &Execution{Name: "a", Dir: b.dir, Cancelled: context.Background(), Now: time.Now}
	outcome, err := scriptOutcome(x, end)
	if err != nil || outcome.Result.Status != statusFailed || outcome.Result.Reason != interruptedShutdown || !outcome.Interrupted {
		t.Fatalf("%+v %v", outcome, err)
	}
}

func TestResumeCancels(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	b.detach(t, "echo x > $HERE/ready\n"+family)
	ids := b.family(t)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	end, err := b.Processes.resume(context.Background(), cancelled, b.dir, b.BootID(), nil)
	if err != nil || end.exit.Killed != killedCancel {
		t.Fatalf("%+v %v", end, err)
	}
	b.ensureGone(t, ids)
}

func (b *bench) read(t *testing.T) status {
	t.Helper()
	var log statusLog
	data, err := os.ReadFile(filepath.Join(b.dir, statusFile))
	if err != nil {
		t.Fatal(err)
	}
	log.parse(data)
	return log.status
}

func TestShimKilled(t *testing.T) {
	for _, watched := range []bool{true, false} {
		b := newBench(t, ProcessConfig{})
		var end ended
		if watched {
			go func() {
				b.wait(t, "ready")
				b.family(t)
				unix.Kill(b.read(t).Shim.PID, unix.SIGKILL)
			}()
			end = b.run(t, b.order("echo x > $HERE/ready\n"+family))
		} else {
			b.detach(t, "echo x > $HERE/ready\n"+family)
			b.family(t)
			shim := b.read(t).Shim
			unix.Kill(shim.PID, unix.SIGKILL)
			eventually(t, "the shim is dead", func() bool { return !shim.alive() })
			end = b.resume(t, b.BootID())
		}
		if end.interrupted != interruptedKilled {
			t.Fatalf("watched %v: %+v", watched, end)
		}
		b.ensureGone(t, b.family(t))
		if end := b.resume(t, b.BootID()); end.interrupted != interruptedKilled {
			t.Fatalf("asked again: %+v", end)
		}
	}
}

// A process that has the number of the script, but is another, is left alone.
func TestReusedProcessIDIsLeftAlone(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	other := newBench(t, ProcessConfig{})
	other.detach(t, "echo x > $HERE/ready\nexec sleep 1000\n")
	stranger := *other.read(t).Script
	defer unix.Kill(-stranger.PID, unix.SIGKILL)
	log, locked, err := openStatus(b.dir)
	if err != nil || !locked {
		t.Fatal(locked, err)
	}
	reused := processID{PID: stranger.PID, Start: stranger.Start - 1}
	log.write(status{Shim: &reused, BootID: b.BootID()})
	log.write(status{Script: &reused})
	log.close()
	if end := b.resume(t, b.BootID()); end.interrupted != interruptedEnded || !end.ran {
		t.Fatalf("%+v", end)
	}
	if !stranger.alive() {
		t.Fatal("killed a stranger")
	}
	// The same number and start time, but on another boot: not even looked at.
	c := newBench(t, ProcessConfig{})
	log, _, _ = openStatus(c.dir)
	log.write(status{Shim: &stranger, BootID: "old boot"})
	log.write(status{Script: &stranger})
	log.close()
	if end := c.resume(t, "old boot"); end.interrupted != interruptedReboot {
		t.Fatalf("%+v", end)
	}
	if !stranger.alive() {
		t.Fatal("killed a stranger of another boot")
	}
}

// The shim died between starting the script and writing that down.
func TestOrphanIsFoundByItsCommandLine(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	b.detach(t, "echo x > $HERE/ready\n"+family)
	ids := b.family(t)
	state := b.read(t)
	unix.Kill(state.Shim.PID, unix.SIGKILL)
	eventually(t, "the shim is dead", func() bool { return !state.Shim.alive() })
	os.Remove(filepath.Join(b.dir, statusFile))
	log, _, _ := openStatus(b.dir)
	log.write(status{Shim: state.Shim, BootID: b.BootID()})
	log.close()
	if end := b.resume(t, b.BootID()); end.interrupted != interruptedKilled {
		t.Fatalf("%+v", end)
	}
	b.ensureGone(t, ids)
}

// A step that was given up is not started by a shim that comes late, and its
// outcome stays.
func TestLateShimStartsNothing(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	if end := b.resume(t, b.BootID()); end.interrupted != interruptedBefore || end.ran {
		t.Fatalf("%+v", end)
	}
	end := b.run(t, b.order("echo x > $HERE/ready\n"))
	if end.interrupted != interruptedBefore || end.ran {
		t.Fatalf("%+v", end)
	}
	// The shim that had claimed the step is dead, and nobody has given the step up yet.
	c := newBench(t, ProcessConfig{})
	log, _, err := openStatus(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	log.write(status{Shim: &processID{PID: 1, Start: 1}, BootID: c.BootID()})
	log.close()
	if end := c.run(t, c.order("echo x > $HERE/ready\n")); end.interrupted != interruptedEnded {
		t.Fatalf("%+v", end)
	}
	if b.output("ready") != "" || c.output("ready") != "" {
		t.Fatal("the script ran")
	}
}

// Of several shims with an order for the same step one runs it; whoever waits for
// another hears the same end.
func TestOneShimClaims(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	order := b.order("echo x >> $HERE/runs\nuntil [ -e $HERE/go ]; do sleep 0.01; done\nexit 5\n")
	type result struct {
		end ended
		err error
	}
	results := make(chan result)
	const shims = 5
	for i := range shims {
		go func() {
			var r result
			if i%2 == 0 {
				own := *order
				r.end, r.err = b.Processes.run(context.Background(), context.Background(), &own)
			} else {
				r.end, r.err = b.Processes.resume(context.Background(), context.Background(), b.dir, b.BootID(), func() *shimOrder { own := *order; return &own })
			}
			results <- r
		}()
	}
	eventually(t, "it runs", func() bool { return b.output("runs") != "" })
	os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o600)
	for range shims {
		r := <-results
		if r.err != nil || r.end.interrupted != "" || r.end.exit.Code != 5 || r.end.exit.Refused {
			t.Errorf("%+v, %v", r.end, r.err)
		}
		if r.end.journaled != nil {
			r.end.journaled()
		}
	}
	if runs := b.output("runs"); runs != "x\n" {
		t.Errorf("it ran %q", runs)
	}
}

// A step that no shim has claimed is begun where it may be; one that was claimed or
// given up is not.
func TestResumeBeginsWhatDidNotRun(t *testing.T) {
	dead := processID{PID: 1, Start: 1}
	for name, c := range map[string]struct {
		before []status
		ran    string
		end    string // how it is interrupted
	}{
		"nothing is there": {nil, "x\n", ""},
		"claimed":          {[]status{{Shim: &dead, BootID: "BOOT"}}, "", interruptedEnded},
		"given up":         {[]status{{Abandoned: interruptedBefore}}, "", interruptedBefore},
		"ended":            {[]status{{Shim: &dead, BootID: "BOOT"}, {Exit: &processExit{}}}, "", ""},
	} {
		b := newBench(t, ProcessConfig{})
		log, _, err := openStatus(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.before {
			if s.BootID != "" {
				s.BootID = b.BootID()
			}
			log.write(s)
		}
		log.close()
		end, err := b.Processes.resume(context.Background(), context.Background(), b.dir, b.BootID(), func() *shimOrder {
			return b.order("echo x >> $HERE/runs\n")
		})
		if err != nil || end.interrupted != c.end || b.output("runs") != c.ran {
			t.Errorf("%s: %+v, %v; ran %q", name, end, err, b.output("runs"))
		}
		if end.journaled != nil {
			end.journaled()
		}
	}
}

func TestMayBegin(t *testing.T) {
	p, err := OpenProcesses(ProcessConfig{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		change func(*Execution)
		want   bool
	}{
		"as it was started":   {func(*Execution) {}, true},
		"another boot":        {func(x *Execution) { x.BootID = "another" }, false},
		"cancelled":           {func(x *Execution) { x.Cancelled = cancelled }, false},
		"expired":             {func(x *Execution) { x.ExpiresAt = epoch }, false},
		"too late to start":   {func(x *Execution) { x.StartUntil = epoch }, false},
		"just in time":        {func(x *Execution) { x.StartUntil = epoch.Add(1) }, true},
		"the hour is not set": {func(x *Execution) { x.StartUntil = time.Time{} }, true},
	} {
		x := &Execution{BootID: p.BootID(), Cancelled: context.Background(), ExpiresAt: epoch.Add(time.Hour), Processes: p, Now: func() time.Time { return epoch }}
		c.change(x)
		if got := x.mayBegin(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestStatusFileIsTornAnywhere(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	b.run(t, b.order("exit 3\n"))
	whole, _ := os.ReadFile(filepath.Join(b.dir, statusFile))
	for cut := range len(whole) {
		var log statusLog
		log.parse(whole[:cut])
		if log.Exit != nil {
			t.Fatalf("cut at %d: an exit", cut)
		}
	}
	var log statusLog
	if log.parse(whole); log.Exit == nil || log.Exit.Code != 3 || log.Script == nil || log.Shim == nil {
		t.Fatalf("%+v", log.status)
	}
}

// Without a meshd to take over, the shim itself writes the end to disk.
func TestShimWritesTheEndAlone(t *testing.T) {
	b := newBench(t, ProcessConfig{})
	b.detach(t, "echo x > $HERE/ready\nuntil [ -e $HERE/go ]; do sleep 0.01; done\nexit 6\n")
	os.WriteFile(filepath.Join(b.dir, "go"), nil, 0o600)
	eventually(t, "the exit is there", func() bool { e := b.read(t).Exit; return e != nil && e.Code == 6 })
	shim := b.read(t).Shim
	eventually(t, "the shim has ended", func() bool { return !shim.alive() })
}
