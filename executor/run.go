package executor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Runner runs the steps of jobs, one after another, and journals each stage of
// it. It may run many jobs at once, each on its caller's goroutine.
type Runner struct {
	Journal   *Journal
	Processes *Processes
	Plugins   map[string]Plugin
	// Dir is the directory of all jobs.
	Dir   string
	Facts Facts
	// Rebooter starts the machine anew; where it is nil, no step may ask for that.
	Rebooter Rebooter
	// Platform is the node's, in SSM's words. Nested returns the documents that came
	// with a job, by what its steps name; nil: none. Both are for aws:runDocument.
	Platform string
	Nested   func(job json.RawMessage) map[string]Nested
	// StartUntil says when it is too late for a job to start; nil: when it expires.
	StartUntil func(job json.RawMessage) time.Time

	// Of a runner of a document that a step runs: depth is how many directories lead
	// from that of all jobs to Dir, nesting how many steps led here; downloads and
	// job are those of the job.
	depth     int
	nesting   int
	downloads string
	job       json.RawMessage
	Log       *slog.Logger
	Now       func() time.Time
	// Changed is called after each record of a job is durable.
	Changed func(jobID string)
}

// retryPause is how long the runner waits before it tries again what a full disk
// has stopped.
const retryPause = time.Second

// Starting is the record that must be durable before a job's first step is
// executed. Whoever appends it itself, with the acceptance, saves one fsync.
// The job's directory is made by it: where it is missing later, somebody deleted it.
func (r *Runner) Starting(jobID string) Record {
	return Record{Kind: RecordStarting, JobID: jobID, At: r.Now().UTC(), BootID: r.Processes.BootID(), Place: makePlace(filepath.Join(r.Dir, jobID))}
}

// Run takes an accepted job to its end. begun is set when this process has
// appended the record of Starting; a step that is found started otherwise is
// resumed, never begun again. The job goes on when ctx ends (ErrDetached);
// cancelled ends when it is to be cancelled, which must be durable before.
func (r *Runner) Run(ctx, cancelled context.Context, jobID string, tasks []Task, begun bool) error {
	run := &jobRun{Runner: r, id: jobID, tasks: tasks, cancelled: cancelled}
	for {
		entry := r.Journal.Entry(jobID)
		if entry == nil || entry.Finished() {
			return nil
		}
		results := append(entry.Steps[:len(entry.Steps):len(entry.Steps)], run.results...)
		index := len(results)
		if entry.Running && entry.Step >= len(tasks) {
			return run.end(ctx, Record{Kind: RecordFinished, JobID: jobID, Results: run.results, Status: statusFailed, StatusDetails: statusFailed,
				Reason: interrupted + "the document has fewer steps than when it was begun: another version of meshd has begun it"})
		}
		if entry.Rebooting && index <= entry.Step {
			if err := run.awaitReboot(ctx, entry); err != nil {
				return err
			}
			continue
		}
		if entry.Running && index <= entry.Step && !begun {
			// Found started: how it ended is asked before anything else. Steps before
			// it that had their result without execution get it again.
			for ; index < entry.Step; index++ {
				_, skipped := nextMove(tasks, results, false, false)
				run.add(skipped)
				results = append(results, skipped)
			}
			if err := run.execute(ctx, entry, index, true); err != nil {
				return err
			}
			continue
		}
		next, result := nextMove(tasks, results, cancelled.Err() != nil, !r.Now().Before(entry.ExpiresAt))
		switch next {
		case moveFinish:
			return run.finish(ctx, results, "")
		case moveResult:
			run.add(result)
		case moveRun:
			if !(begun && entry.Running && entry.Step == index) {
				if err := run.start(index); err != nil {
					run.add(StepResult{Name: tasks[index].Name, Status: statusFailed, StatusDetails: statusFailed, ResponseCode: -1, Reason: "not run, because that could not be journaled: " + err.Error()})
					continue
				}
				entry = r.Journal.Entry(jobID)
			}
			begun = false
			if err := run.execute(ctx, entry, index, false); err != nil {
				return err
			}
		}
	}
}

// jobRun is one job on its way.
type jobRun struct {
	*Runner
	id        string
	tasks     []Task
	cancelled context.Context
	// results are those not yet in the journal, journaled whom to tell when they
	// are.
	results   []StepResult
	journaled []func()
}

func (j *jobRun) add(result StepResult) {
	if result.FinishedAt.IsZero() {
		result.FinishedAt = j.Now().UTC()
	}
	j.results = append(j.results, result)
}

// start makes it durable that a step starts, together with the results of the
// steps before it.
func (j *jobRun) start(index int) error {
	starting := j.Starting(j.id)
	starting.Step = index
	records := []Record{starting}
	if len(j.results) > 0 {
		records = []Record{{Kind: RecordStep, JobID: j.id, At: starting.At, Results: j.results}, starting}
	}
	if err := j.Journal.Append(records...); err != nil {
		return err
	}
	j.durable()
	return nil
}

func (j *jobRun) durable() {
	j.results = nil
	j.Changed(j.id)
	for _, tell := range j.journaled {
		tell()
	}
	j.journaled = nil
}

// execute runs or resumes a step and keeps its result.
func (j *jobRun) execute(ctx context.Context, entry *Entry, index int, resume bool) error {
	task := j.tasks[index]
	x := &Execution{
		JobID:       j.id,
		Name:        task.Name,
		Inputs:      task.Inputs,
		Environment: scriptEnvironment(os.Environ(), stepEnvironment(task.Environment, slices.Concat(entry.Steps, j.results), entry.Reboots), j.id, j.Facts),
		Dir:         StepDir(j.Dir, j.id, index, task.Name),
		RunDir:      runDir(StepDir(j.Dir, j.id, index, task.Name), entry.Reboots),
		Downloads:   cmp.Or(j.downloads, filepath.Join(j.Dir, j.id, "downloads")),
		ExpiresAt:   entry.ExpiresAt,
		BootID:      entry.BootID,
		Cancelled:   j.cancelled,
		Processes:   j.Processes,
		Now:         j.Now,
	}
	outcome, err := j.outcome(ctx, x, task, resume)
	for err != nil {
		if errors.Is(err, ErrDetached) {
			return err
		}
		j.Log.Error("the end of a step cannot be told yet", "job", j.id, "step", task.Name, "error", err)
		if err := j.pause(ctx); err != nil {
			return err
		}
		outcome, err = j.outcome(ctx, x, task, true)
	}
	if outcome.Reboot {
		return j.askReboot(entry, index, outcome)
	}
	j.addOutcome(index, outcome)
	if !outcome.Interrupted {
		return nil
	}
	for _, rest := range j.tasks[index+1:] {
		j.add(StepResult{Name: rest.Name, Status: outcome.Result.Status, StatusDetails: outcome.Result.StatusDetails, ResponseCode: -1, Reason: "not run, because an earlier step was interrupted"})
	}
	return j.finish(ctx, append(entry.Steps[:len(entry.Steps):len(entry.Steps)], j.results...), outcome.Result.Reason)
}

// nested returns the documents that came with a step's job.
func (r *Runner) nested(x *Execution) map[string]Nested {
	if r.Nested == nil {
		return nil
	}
	return r.Nested(x.job)
}

// addOutcome keeps how a step has ended.
func (j *jobRun) addOutcome(index int, outcome Outcome) {
	if outcome.Journaled != nil {
		j.journaled = append(j.journaled, outcome.Journaled)
	}
	j.add(control(j.tasks[index], outcome))
}

func (j *jobRun) outcome(ctx context.Context, x *Execution, task Task, resume bool) (Outcome, error) {
	plugin, known := j.Plugins[task.Action]
	if len(task.Entries) > 0 {
		plugin, known = propertyList{entries: task.Entries}, true
	}
	if !known {
		return Outcome{Result: failedStep(x, fmt.Sprintf("this node has no plugin %q", task.Action))}, nil
	}
	x.runner, x.job, x.depth = j.Runner, j.job, j.depth+2
	if x.job == nil {
		x.job = j.Journal.Entry(j.id).Job
	}
	if entry := j.Journal.Entry(j.id); resume && j.StartUntil != nil && !entry.ran() {
		x.StartUntil = j.StartUntil(x.job)
	}
	if x.RunDir != x.Dir {
		x.depth++
	}
	if resume {
		same, err := samePlace(filepath.Join(j.Dir, j.id), j.Journal.Entry(j.id).Place)
		if err != nil {
			return Outcome{}, err
		}
		x.displaced = !same
	}
	if err := os.MkdirAll(x.RunDir, 0o700); err != nil {
		if resume {
			return Outcome{}, err
		}
		return Outcome{Result: failedStep(x, "the step's directory cannot be made: "+err.Error())}, nil
	}
	if resume {
		return plugin.Resume(ctx, x)
	}
	return plugin.Run(ctx, x)
}

// finish journals the end of the job; it does not give up while the disk is full.
func (j *jobRun) finish(ctx context.Context, results []StepResult, reason string) error {
	status, details, first := aggregate(results)
	if reason == "" {
		reason = first
	}
	return j.end(ctx, Record{Kind: RecordFinished, JobID: j.id, Results: j.results, Status: status, StatusDetails: details, Reason: reason})
}

func (j *jobRun) end(ctx context.Context, record Record) error {
	for told := false; ; told = true {
		record.At = j.Now().UTC()
		err := j.Journal.Append(record)
		if err == nil {
			j.durable()
			return nil
		}
		if !errors.Is(err, ErrJournalWrite) {
			return fmt.Errorf("journal the end of job %s: %w", j.id, err)
		}
		if !told {
			j.Log.Error("the end of a job cannot be journaled yet", "job", j.id, "error", err)
		}
		if err := j.pause(ctx); err != nil {
			return err
		}
	}
}

func (j *jobRun) pause(ctx context.Context) error {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ErrDetached
	}
}

// End journals the end of a job of which nothing runs: it never started, or its
// document cannot be run.
func (r *Runner) End(ctx context.Context, jobID, status, details, reason string) error {
	run := &jobRun{Runner: r, id: jobID}
	return run.end(ctx, Record{Kind: RecordFinished, JobID: jobID, Status: status, StatusDetails: details, Reason: reason})
}
