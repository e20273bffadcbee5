package executor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// probe is a plugin that does what a test says.
type probe struct {
	run     func(x *Execution) (Outcome, error)
	resume  func(x *Execution) (Outcome, error)
	ran     []string
	resumed []string
}

func (p *probe) Run(_ context.Context, x *Execution) (Outcome, error) {
	p.ran = append(p.ran, x.Name)
	return p.run(x)
}

func (p *probe) Resume(_ context.Context, x *Execution) (Outcome, error) {
	p.resumed = append(p.resumed, x.Name)
	return p.resume(x)
}

func success(x *Execution) (Outcome, error) {
	return Outcome{Result: StepResult{Name: x.Name, Status: statusSuccess, StatusDetails: statusSuccess, FinishedAt: epoch}}, nil
}

func newRunner(t *testing.T, d *memoryDisk, p *probe) *Runner {
	t.Helper()
	j, err := OpenJournal(JournalConfig{Path: "dir/journal", Log: quiet(), disk: d})
	if err != nil {
		t.Fatal(err)
	}
	processes, err := OpenProcesses(ProcessConfig{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(processes.Close)
	return &Runner{
		Journal: j, Processes: processes, Plugins: map[string]Plugin{"probe": p}, Dir: t.TempDir(),
		Log: quiet(), Now: func() time.Time { return epoch }, Changed: func(string) {},
	}
}

var twoSteps = []Task{{Name: "a", Action: "probe"}, {Name: "b", Action: "probe"}}

func TestEachStageIsDurableBeforeTheNext(t *testing.T) {
	d := newMemoryDisk()
	p := &probe{}
	r := newRunner(t, d, p)
	told := 0
	p.run = func(x *Execution) (Outcome, error) {
		// What a power cut now would leave.
		after := newMemoryDisk()
		after.files["dir/journal"] = &memoryFile{disk: after, content: d.files["dir/journal"].durable}
		entry := openTest(t, after).Entry("j")
		if !entry.Running || stepToRun(entry) != x.Name {
			t.Errorf("step %s runs while the journal has %+v", x.Name, entry)
		}
		outcome, _ := success(x)
		outcome.Journaled = func() {
			if entry := r.Journal.Entry("j"); entry.Steps[len(entry.Steps)-1].Name != x.Name {
				t.Errorf("step %s is told durable with %+v", x.Name, entry)
			}
			told++
		}
		return outcome, nil
	}
	d.syncs = 0
	mustAppend(t, r.Journal, accept("j"), r.Starting("j"))
	if err := r.Run(context.Background(), context.Background(), "j", twoSteps, true); err != nil {
		t.Fatal(err)
	}
	entry := r.Journal.Entry("j")
	if entry.Status != statusSuccess || len(entry.Steps) != 2 || told != 2 || strings.Join(p.ran, "") != "ab" {
		t.Fatalf("%+v, told %d", entry, told)
	}
	if d.syncs != 3 {
		t.Errorf("%d fsyncs for a job of two steps", d.syncs)
	}
}

// stepToRun names the step that the journal says is starting.
func stepToRun(entry *Entry) string { return twoSteps[entry.Step].Name }

func TestStepIsNotRunWhenItsStartCannotBeJournaled(t *testing.T) {
	d := newMemoryDisk()
	p := &probe{run: success}
	r := newRunner(t, d, p)
	mustAppend(t, r.Journal, accept("j"))
	writes := 0
	d.fail = func(op string) error {
		if op == "write" {
			if writes++; writes <= 3 { // both starts, and the end at first
				return unix.ENOSPC
			}
		}
		return nil
	}
	if err := r.Run(context.Background(), context.Background(), "j", twoSteps, false); err != nil {
		t.Fatal(err)
	}
	entry := r.Journal.Entry("j")
	if entry.Status != statusFailed || !strings.Contains(entry.Reason, "journaled") || len(p.ran) != 0 || entry.Steps[0].ResponseCode != -1 {
		t.Fatalf("%+v, ran %q", entry, p.ran)
	}
}

func TestEndIsToldLater(t *testing.T) {
	p := &probe{run: func(*Execution) (Outcome, error) { return Outcome{}, errors.New("disk trouble") }, resume: success}
	r := newRunner(t, newMemoryDisk(), p)
	mustAppend(t, r.Journal, accept("j"))
	if err := r.Run(context.Background(), context.Background(), "j", twoSteps[:1], false); err != nil {
		t.Fatal(err)
	}
	if r.Journal.Entry("j").Status != statusSuccess || len(p.ran) != 1 || len(p.resumed) != 1 {
		t.Fatalf("ran %q, resumed %q", p.ran, p.resumed)
	}
}

func TestFoundStepIsResumedNeverRun(t *testing.T) {
	p := &probe{run: success, resume: success}
	r := newRunner(t, newMemoryDisk(), p)
	start := r.Starting("j")
	start.Step = 1
	mustAppend(t, r.Journal, accept("j"), start)
	tasks := []Task{{Name: "skipped", Skip: "not here"}, twoSteps[0], twoSteps[1]}
	if err := r.Run(context.Background(), context.Background(), "j", tasks, false); err != nil {
		t.Fatal(err)
	}
	entry := r.Journal.Entry("j")
	if len(entry.Steps) != 3 || strings.Join(p.resumed, "") != "a" || strings.Join(p.ran, "") != "b" {
		t.Fatalf("%+v, ran %q, resumed %q", entry, p.ran, p.resumed)
	}
}

func TestInterruptedStepEndsTheJob(t *testing.T) {
	p := &probe{resume: func(x *Execution) (Outcome, error) {
		return Outcome{Result: StepResult{Name: x.Name, Status: statusFailed, StatusDetails: statusFailed, ResponseCode: -1, Reason: "interrupted: so"}, Interrupted: true}, nil
	}}
	r := newRunner(t, newMemoryDisk(), p)
	mustAppend(t, r.Journal, accept("j"), r.Starting("j"))
	if err := r.Run(context.Background(), context.Background(), "j", twoSteps, false); err != nil {
		t.Fatal(err)
	}
	entry := r.Journal.Entry("j")
	if entry.Status != statusFailed || entry.Reason != "interrupted: so" || len(entry.Steps) != 2 || len(p.ran) != 0 {
		t.Fatalf("%+v, ran %q", entry, p.ran)
	}
}

func TestDetachedJobStays(t *testing.T) {
	p := &probe{run: func(*Execution) (Outcome, error) { return Outcome{}, ErrDetached }}
	r := newRunner(t, newMemoryDisk(), p)
	mustAppend(t, r.Journal, accept("j"))
	if err := r.Run(context.Background(), context.Background(), "j", twoSteps, false); !errors.Is(err, ErrDetached) {
		t.Fatal(err)
	}
	if entry := r.Journal.Entry("j"); entry.Finished() || !entry.Running {
		t.Fatalf("%+v", entry)
	}
}
