package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A step that has steps of its own runs them as an inner job, in its directory and
// with a journal there, so that each of them runs at most once as well.

// beginInner accepts the inner job of a step that runs for the first time. data is
// what the journal is to keep of it. The error is for the step's result.
func beginInner(x *Execution, data json.RawMessage) (*Journal, error) {
	journal, _, err := openInner(x)
	if err != nil {
		return nil, err
	}
	if err := journal.Append(Record{Kind: RecordAccepted, JobID: x.JobID, At: x.Now().UTC(), Job: data, ExpiresAt: x.ExpiresAt}); err != nil {
		journal.Close()
		return nil, fmt.Errorf("the step is not run, because that could not be journaled: %w", err)
	}
	return journal, nil
}

// openInner opens the journal of a step's inner job. The entry is nil where the
// inner job was never accepted.
func openInner(x *Execution) (*Journal, *Entry, error) {
	journal, err := OpenJournal(JournalConfig{Path: filepath.Join(x.Dir, "journal"), Log: x.runner.Log})
	if err != nil {
		return nil, nil, err
	}
	return journal, journal.Entry(x.JobID), nil
}

// mayBeginInner reports whether a step that was started and has no inner job may
// begin it now.
func mayBeginInner(x *Execution) bool { return x.RunDir == x.Dir && x.mayBegin() }

// neverBegun is the outcome of a step that was started and has no inner job.
func neverBegun(x *Execution) Outcome {
	reason := "interrupted: meshd ended before the step was begun; nothing of it ran and it is not run again"
	if x.displaced {
		reason = interruptedDisplaced
	}
	result := failedStep(x, reason)
	result.ResponseCode = -1
	return Outcome{Result: result, Interrupted: true}
}

// runInner takes a step's inner job to its end, from wherever it is. below has what
// differs from the runner of the step.
func runInner(ctx context.Context, x *Execution, journal *Journal, tasks []Task, below *Runner) (*Entry, error) {
	outer := x.runner
	below.Journal, below.Processes, below.Plugins, below.Dir, below.Facts = journal, x.Processes, outer.Plugins, x.Dir, outer.Facts
	below.Platform, below.Nested, below.Log, below.Now, below.Changed = outer.Platform, outer.Nested, outer.Log, x.Now, func(string) {}
	below.StartUntil = func(json.RawMessage) time.Time { return x.StartUntil }
	below.depth, below.downloads, below.job = outer.depth+2, x.Downloads, x.job
	err := below.Run(ctx, x.Cancelled, x.JobID, tasks, false)
	return journal.Entry(x.JobID), err
}

// innerResult is the result of a step whose inner job has ended, but for its code
// and outputs. started counts for an inner job of which nothing was started.
func innerResult(x *Execution, entry *Entry, started time.Time) StepResult {
	if entry.Started() {
		started = entry.StartedAt
	}
	result := StepResult{
		Name: x.Name, Status: entry.Status, StatusDetails: entry.StatusDetails, StartedAt: started, FinishedAt: x.Now().UTC(), Reason: entry.Reason,
	}
	for _, step := range entry.Steps {
		if len(step.Report) > 0 {
			result.Report = step.Report // the last to look knows best
		}
	}
	return result
}

// innerOutputs gives a result the joined outputs of the steps in entry.
func innerOutputs(x *Execution, entry *Entry, result *StepResult) error {
	cut, err := joinOutputs(x, entry)
	switch {
	case err != nil:
		result.Reason = strings.TrimPrefix(result.Reason+"; its output could not be kept: "+err.Error(), "; ")
	case cut != "":
		result.Reason = strings.TrimPrefix(result.Reason+"; its output was truncated: "+cut, "; ")
	}
	return addOutputs(result, x.Dir)
}

// joinOutputs makes the step's outputs of those of the inner job's steps, in order,
// within the limits of any output. cut says why not all is there.
func joinOutputs(x *Execution, entry *Entry) (cut string, err error) {
	limit := x.Processes.outputLimit(x.JobID)
	for _, name := range []string{"stdout", "stderr"} {
		partial := filepath.Join(x.Dir, name+".new")
		if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		out := &joinedOutput{stream: stream{path: partial, limit: limit, floor: x.Processes.config.FreeSpace, free: FreeBytes, ended: true}}
		for i, step := range entry.Steps {
			text := step.Stdout
			if name == "stderr" {
				text = step.Stderr
			}
			if err = out.add(filepath.Join(StepDir(x.Dir, x.JobID, i, step.Name), name), text); err != nil {
				break
			}
		}
		out.close()
		if err == nil {
			err = out.failure
		}
		if err == nil && out.file != nil {
			err = os.Rename(partial, filepath.Join(x.Dir, name))
		}
		if err != nil {
			return "", err
		}
		if out.cut != "" && cut == "" {
			cut = name + ": " + out.cut
		}
	}
	return cut, nil
}

type joinedOutput struct {
	stream
	last byte
}

// add adds a file, or where there is none, text. Each begins on a line of its own.
func (o *joinedOutput) add(path, text string) error {
	var from io.Reader = strings.NewReader(text)
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		from = file
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	buffer := make([]byte, 64<<10)
	for first := true; o.cut == "" && o.failure == nil; {
		n, err := from.Read(buffer)
		if n > 0 {
			if first && o.size > 0 && o.last != '\n' {
				o.keep([]byte{'\n'})
			}
			first, o.last = false, buffer[n-1]
			o.keep(buffer[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
