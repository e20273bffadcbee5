package executor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestAfterReboot(t *testing.T) {
	entry := &Entry{BootID: "old", Rebooting: true, Running: true}
	for _, c := range []struct {
		name               string
		boot               string
		cancelled, expired bool
		move               rebootMove
		status             string
	}{
		{"the machine has not gone down", "old", false, false, rebootAsk, ""},
		{"it was started anew", "new", false, false, rebootAgain, ""},
		{"cancelled before", "old", true, false, rebootOver, statusCancelled},
		{"cancelled while it was down", "new", true, true, rebootOver, statusCancelled},
		{"expired before", "old", false, true, rebootOver, statusTimedOut},
		{"expired while it was down", "new", false, true, rebootOver, statusTimedOut},
	} {
		move, result := afterReboot(entry, c.boot, c.cancelled, c.expired)
		if move != c.move || result.Status != c.status || (result.Reason == "") != (c.status == "") {
			t.Errorf("%s: %v %+v", c.name, move, result)
		}
	}
}

// The journal takes no step as started again but one that has asked for a boot,
// and that only on another boot.
func TestRebootRecords(t *testing.T) {
	start := func(step int, boot string) Record {
		return Record{Kind: RecordStarting, JobID: "j", Step: step, BootID: boot, At: epoch}
	}
	ask := func(step, attempt int) Record {
		return Record{Kind: RecordRebooting, JobID: "j", Step: step, Attempt: attempt, At: epoch}
	}
	end := Record{Kind: RecordStep, JobID: "j", Results: []StepResult{{Name: "a"}}, At: epoch}
	for name, c := range map[string]struct {
		records []Record
		sound   bool
		check   func(e *Entry) bool
	}{
		"asks":     {[]Record{start(0, "1"), ask(0, 0)}, true, func(e *Entry) bool { return e.Rebooting && e.Running && e.Reboots == 1 }},
		"attempts": {[]Record{start(0, "1"), ask(0, 0), ask(0, 1), ask(0, 2)}, true, func(e *Entry) bool { return e.Attempts == 2 && e.Reboots == 1 }},
		"again": {[]Record{start(0, "1"), ask(0, 0), ask(0, 1), start(0, "2")}, true, func(e *Entry) bool {
			return !e.Rebooting && e.Running && e.BootID == "2" && e.Attempts == 0 && e.Reboots == 1
		}},
		"twice":                   {[]Record{start(0, "1"), ask(0, 0), start(0, "2"), ask(0, 0), start(0, "3")}, true, func(e *Entry) bool { return e.Reboots == 2 }},
		"the next step counts":    {[]Record{start(0, "1"), ask(0, 0), start(0, "2"), end, start(1, "2")}, true, func(e *Entry) bool { return e.Reboots == 0 && e.Step == 1 }},
		"ends without it":         {[]Record{start(0, "1"), ask(0, 0), end}, true, func(e *Entry) bool { return !e.Rebooting && !e.Running }},
		"without having run":      {[]Record{ask(0, 0)}, false, nil},
		"for another step":        {[]Record{start(0, "1"), ask(1, 0)}, false, nil},
		"after its end":           {[]Record{start(0, "1"), end, ask(0, 0)}, false, nil},
		"on the same boot":        {[]Record{start(0, "1"), ask(0, 0), start(0, "1")}, false, nil},
		"another step on the way": {[]Record{start(0, "1"), ask(0, 0), start(1, "2")}, false, nil},
		"asked twice":             {[]Record{start(0, "1"), ask(0, 0), ask(0, 0)}, false, nil},
		"attempt without a wish":  {[]Record{start(0, "1"), ask(0, 1)}, false, nil},
		"attempt left out":        {[]Record{start(0, "1"), ask(0, 0), ask(0, 2)}, false, nil},
		"again without a boot":    {[]Record{start(0, "1"), start(0, "2")}, false, nil},
		"again twice":             {[]Record{start(0, "1"), ask(0, 0), start(0, "2"), start(0, "3")}, false, nil},
	} {
		entry, err := apply(nil, accept("j"))
		for _, r := range c.records {
			if err == nil {
				entry, err = apply(entry, r)
			}
		}
		if (err == nil) != c.sound || err == nil && !c.check(entry) {
			t.Errorf("%s: %+v, %v", name, entry, err)
		}
	}
}

// fakeMachine is a Rebooter whose machine goes down, or does not, as a test says.
type fakeMachine struct {
	asked  int
	reboot func() (string, error)
}

func (m *fakeMachine) Prepare(string) func() { return func() {} }

func (m *fakeMachine) Reboot(context.Context, context.Context, string) (string, error) {
	m.asked++
	return m.reboot()
}

func TestScriptThatAlwaysAsksForAReboot(t *testing.T) {
	p := &probe{run: func(x *Execution) (Outcome, error) {
		return Outcome{Result: StepResult{Name: x.Name, ResponseCode: exitReboot}, Reboot: true}, nil
	}}
	r := newRunner(t, newMemoryDisk(), p)
	m := &fakeMachine{}
	r.Rebooter = m
	m.reboot = func() (string, error) {
		r.Processes.bootID = fmt.Sprint("boot ", m.asked)
		return "", nil
	}
	mustAppend(t, r.Journal, accept("j"))
	if err := r.Run(context.Background(), context.Background(), "j", twoSteps[:1], false); err != nil {
		t.Fatal(err)
	}
	entry := r.Journal.Entry("j")
	if entry.Status != statusFailed || m.asked != maxReboots || len(p.ran) != maxReboots+1 || !strings.Contains(entry.Reason, "once more after 15 reboots") {
		t.Fatalf("%+v, asked %d times, ran %d times", entry, m.asked, len(p.ran))
	}
}

// However often meshd dies, with the machine or without it, and whatever is lost
// that was not synced: each run of a step that asks for a reboot is followed by a
// boot before the next, and no run comes twice.
func TestRebootsAtAnyCrash(t *testing.T) {
	steps := []Task{{Name: "a", Action: "probe"}, {Name: "b", Action: "probe"}, {Name: "c", Action: "probe"}}
	t.Run("steps", func(t *testing.T) { rebootAtAnyCrash(t, steps, false) })
	// The entries of a list have a journal of their own, of which nothing is lost here.
	t.Run("entries", func(t *testing.T) {
		rebootAtAnyCrash(t, []Task{{Name: "list", Action: "probe", Entries: steps}}, true)
	})
}

func rebootAtAnyCrash(t *testing.T, tasks []Task, ownJournal bool) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		d := newMemoryDisk()
		const wanted = 3 // boots that the second step asks for
		boot, dead := 0, false
		dir := t.TempDir() // of all lives: the same run is the same directory
		type run struct {
			step string
			boot int
			dir  string
		}
		var runs []run
		// A crash is at a write, before or after it is durable.
		left := 0
		crash := func(string) error {
			if left--; left < 0 {
				dead = true
				return context.Canceled // the journal is broken from here on: nothing more is written
			}
			return nil
		}
		var finished *Entry
		for life := 0; life < 60 && finished == nil; life++ {
			d.lose()
			dead, left = false, 1+random.IntN(8)
			j, err := OpenJournal(JournalConfig{Path: "dir/journal", Log: quiet(), disk: d})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if j.Entry("j") == nil {
				mustAppend(t, j, accept("j"))
			}
			p := &probe{}
			p.run = func(x *Execution) (Outcome, error) {
				if dead && !ownJournal {
					t.Fatalf("seed %d: step %s runs although its start is not durable", seed, x.Name)
				}
				runs = append(runs, run{x.Name, boot, x.RunDir})
				if random.IntN(4) == 0 {
					return Outcome{}, ErrDetached // meshd dies, and later finds how it ended
				}
				return endOf(x, wanted)
			}
			p.resume = func(x *Execution) (Outcome, error) { return endOf(x, wanted) }
			r := newRunnerOn(t, j, p)
			r.Dir = dir
			r.Processes.bootID = fmt.Sprint("boot ", boot)
			r.Rebooter = &fakeMachine{reboot: func() (string, error) {
				if e := j.Entry("j"); !e.Rebooting || e.BootID != r.Processes.bootID {
					t.Fatalf("seed %d: a reboot with %+v", seed, e)
				}
				if random.IntN(2) == 0 {
					boot += 1 + random.IntN(2)
				}
				return "", ErrDetached
			}}
			d.fail = crash
			err = r.Run(context.Background(), context.Background(), "j", tasks, false)
			d.fail = func(string) error { return nil }
			if entry := j.Entry("j"); err == nil && entry.Finished() {
				finished = entry
			}
			if random.IntN(4) == 0 {
				boot++ // a boot that nobody asked for
			}
		}
		if finished == nil {
			t.Fatalf("seed %d: the job never ends", seed)
		}
		seen := map[run]bool{}
		count := map[string]int{}
		for i, is := range runs {
			if key := (run{is.step, 0, is.dir}); seen[key] {
				t.Fatalf("seed %d: a run comes twice: %+v", seed, runs)
			} else {
				seen[key] = true
			}
			if i > 0 && runs[i-1].step == is.step && runs[i-1].boot == is.boot {
				t.Fatalf("seed %d: no boot between the runs: %+v", seed, runs)
			}
			count[is.step]++
		}
		if finished.Status != statusSuccess || (count["a"] != 1 || count["b"] != wanted+1 || count["c"] != 1) {
			t.Fatalf("seed %d: %+v after %+v", seed, finished, runs)
		}
	}
}

// endOf is how a run ends, whoever asks: step b asks for boots until it had enough.
func endOf(x *Execution, wanted int) (Outcome, error) {
	outcome, err := success(x)
	outcome.Reboot = x.Name == "b" && !strings.HasSuffix(x.RunDir, fmt.Sprintf("run.%d", wanted))
	return outcome, err
}

func newRunnerOn(t *testing.T, j *Journal, p *probe) *Runner {
	t.Helper()
	processes, err := OpenProcesses(ProcessConfig{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{
		Journal: j, Processes: processes, Plugins: map[string]Plugin{"probe": p}, Dir: t.TempDir(),
		Log: quiet(), Now: func() time.Time { return epoch }, Changed: func(string) {},
	}
}
