package executor

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// StepResult is the outcome of one step, in SSM's words for a plugin.
type StepResult struct {
	Name          string
	Status        string // Success, Failed, TimedOut or Cancelled
	StatusDetails string
	// ResponseCode is the exit code; -1 for a step that never started.
	ResponseCode int
	StartedAt    time.Time `json:",omitzero"`
	FinishedAt   time.Time
	// Stdout and Stderr are the first characters, valid UTF-8; the sizes are those
	// of the whole output in bytes.
	Stdout      string `json:",omitempty"`
	Stderr      string `json:",omitempty"`
	StdoutBytes int64  `json:",omitempty"`
	StderrBytes int64  `json:",omitempty"`
	// Reason is a sentence where the exit code does not tell.
	Reason string `json:",omitempty"`
	// Report is what the step found out for the mesh, in the plugin's own form; at most
	// MaxReport bytes.
	Report []byte `json:",omitempty"`
	// EndsDocument: the steps that follow are skipped.
	EndsDocument bool `json:",omitempty"`
}

// MaxReport bounds StepResult.Report, in bytes: it must fit into one entry of the
// store, with all else that is told of the job.
const MaxReport = 96 << 10

// RecordKind is what happened to a job. The values are on disk: never change one.
type RecordKind string

const (
	// RecordAccepted: the node has the job and answers for it from now on.
	RecordAccepted RecordKind = "accepted"
	// RecordStarting: a step is about to be executed. It is durable before
	// anything of the step runs, and never written twice for one step, unless the
	// step has asked for a boot of the machine and that has come.
	RecordStarting RecordKind = "starting"
	// RecordRebooting: the step that runs has ended its run with the wish that the
	// machine be started anew and the step be run again. It is durable before
	// anything reboots; once more, with the next Attempt, before each attempt.
	RecordRebooting RecordKind = "rebooting"
	// RecordStep: steps have ended.
	RecordStep RecordKind = "step"
	// RecordCancelling: the job is to be cancelled.
	RecordCancelling RecordKind = "cancelling"
	// RecordFinished: the job has ended; it may bring the last steps' results.
	RecordFinished RecordKind = "finished"
	// RecordAcknowledged: the mesh has committed the report with this sequence.
	RecordAcknowledged RecordKind = "acknowledged"
	// RecordForgotten: the job's id need not be kept any longer.
	RecordForgotten RecordKind = "forgotten"
	// recordEntry is a whole entry, as compaction writes it.
	recordEntry RecordKind = "entry"
)

// Record is one line of the journal.
type Record struct {
	Kind  RecordKind `json:"k"`
	JobID string     `json:"id"`
	At    time.Time  `json:"at,omitzero"`

	Job       json.RawMessage `json:"job,omitempty"`     // accepted
	ExpiresAt time.Time       `json:"expires,omitzero"`  // accepted
	Step      int             `json:"step,omitempty"`    // starting, rebooting: the step's index
	BootID    string          `json:"boot,omitempty"`    // starting
	Place     string          `json:"place,omitempty"`   // starting: which directory the job had then
	Attempt   int             `json:"attempt,omitempty"` // rebooting: 0 is the wish itself
	Results   []StepResult    `json:"results,omitempty"` // step, finished

	Status        string `json:"status,omitempty"` // finished
	StatusDetails string `json:"details,omitempty"`
	Reason        string `json:"reason,omitempty"`

	Sequence uint64 `json:"seq,omitempty"`   // acknowledged
	Entry    *Entry `json:"entry,omitempty"` // entry
}

// Entry is all that the journal knows of a job. It is never changed: a record
// makes a new one.
type Entry struct {
	JobID string
	// Order counts the accepted jobs: jobs wait in this order.
	Order      uint64
	Job        json.RawMessage `json:",omitempty"` // dropped once the end is acknowledged
	AcceptedAt time.Time
	// ExpiresAt: the id is kept at least until then.
	ExpiresAt time.Time
	StartedAt time.Time `json:",omitzero"`
	// Running is set while the step with index Step may be executing, on the boot
	// of the machine that BootID names, in the directory that Place names.
	Running    bool   `json:",omitempty"`
	Step       int    `json:",omitempty"`
	BootID     string `json:",omitempty"`
	Place      string `json:",omitempty"`
	Cancelling bool   `json:",omitempty"`
	// Rebooting is set while the step, Running, waits for another boot than BootID.
	// Reboots counts the boots that the step has asked for, Attempts how often the
	// one at hand was tried to be had.
	Rebooting bool `json:",omitempty"`
	Reboots   int  `json:",omitempty"`
	Attempts  int  `json:",omitempty"`
	// Steps are the results so far, in order.
	Steps         []StepResult `json:",omitempty"`
	Status        string       `json:",omitempty"` // empty until it has ended
	StatusDetails string       `json:",omitempty"`
	Reason        string       `json:",omitempty"`
	FinishedAt    time.Time    `json:",omitzero"`
	// Sequence counts the changes worth a report; Acknowledged is that of the
	// newest report that the mesh has committed.
	Sequence     uint64
	Acknowledged uint64
}

// Finished reports whether the job has ended.
func (e *Entry) Finished() bool { return e.Status != "" }

// Started reports whether any step may have been executed.
func (e *Entry) Started() bool { return !e.StartedAt.IsZero() }

// ran reports whether a step before the one at hand, or an earlier run of that, was
// executed.
func (e *Entry) ran() bool {
	return e.Reboots > 0 || slices.ContainsFunc(e.Steps, func(s StepResult) bool { return !s.StartedAt.IsZero() })
}

// Unreported reports whether the mesh does not yet know the newest state.
func (e *Entry) Unreported() bool { return e.Sequence > e.Acknowledged }

// apply returns what a record makes of a job's entry; nil is a job that the
// journal does not know. An error is a record that cannot be true.
func apply(e *Entry, r Record) (*Entry, error) {
	if (e == nil) != (r.Kind == RecordAccepted || r.Kind == recordEntry) {
		if e == nil {
			return nil, fmt.Errorf("record %q of job %q, which was never accepted", r.Kind, r.JobID)
		}
		return nil, fmt.Errorf("record %q of job %q, which is already known", r.Kind, r.JobID)
	}
	if e == nil {
		return newEntry(r)
	}
	next := *e
	if e.Finished() && r.Kind != RecordAcknowledged && r.Kind != RecordForgotten {
		return nil, fmt.Errorf("record %q of job %q, which has ended", r.Kind, r.JobID)
	}
	switch r.Kind {
	case RecordStarting:
		switch {
		case e.Rebooting && (r.Step != e.Step || r.BootID == e.BootID):
			return nil, fmt.Errorf("job %q: step %d starts while step %d waits for a boot", r.JobID, r.Step, e.Step)
		case e.Running && !e.Rebooting, r.Step < len(e.Steps):
			return nil, fmt.Errorf("job %q: step %d starts a second time", r.JobID, r.Step)
		}
		if !e.Rebooting {
			next.Reboots = 0
		}
		next.Rebooting, next.Attempts = false, 0
		next.Running, next.Step, next.BootID, next.Place = true, r.Step, r.BootID, r.Place
		if next.StartedAt.IsZero() {
			next.StartedAt = r.At
		}
		next.Sequence++
	case RecordStep:
		next.addResults(r.Results)
		next.Sequence++
	case RecordRebooting:
		if err := next.reboot(r); err != nil {
			return nil, err
		}
		if r.Attempt == 0 {
			next.Sequence++
		}
	case RecordCancelling:
		next.Cancelling = true
	case RecordFinished:
		if r.Status == "" {
			return nil, fmt.Errorf("job %q ends without a status", r.JobID)
		}
		next.addResults(r.Results)
		next.Running, next.Rebooting = false, false
		next.Status, next.StatusDetails, next.Reason = r.Status, r.StatusDetails, r.Reason
		next.FinishedAt = r.At
		next.Sequence++
	case RecordAcknowledged:
		next.Acknowledged = max(e.Acknowledged, min(r.Sequence, e.Sequence))
		if next.Finished() && !next.Unreported() {
			next.slim()
		}
	case RecordForgotten:
		if !e.Finished() {
			return nil, fmt.Errorf("job %q is forgotten before it has ended", r.JobID)
		}
		return nil, nil
	default:
		return nil, fmt.Errorf("record kind %q of job %q is not known to this version", r.Kind, r.JobID)
	}
	return &next, nil
}

func newEntry(r Record) (*Entry, error) {
	if r.Kind == RecordAccepted {
		if r.JobID == "" {
			return nil, fmt.Errorf("a job without an id")
		}
		return &Entry{JobID: r.JobID, Job: r.Job, AcceptedAt: r.At, ExpiresAt: r.ExpiresAt}, nil
	}
	if r.Entry == nil || r.Entry.JobID == "" || r.Entry.JobID != r.JobID {
		return nil, fmt.Errorf("an entry without its job, %q", r.JobID)
	}
	entry := *r.Entry
	return &entry, nil
}

// addResults never touches the array that the previous entry shares.
func (e *Entry) addResults(results []StepResult) {
	if len(results) == 0 {
		return
	}
	e.Steps = append(slices.Clip(e.Steps), results...)
	if e.Running && e.Step < len(e.Steps) {
		e.Running, e.Rebooting = false, false
	}
}

// reboot takes a step's wish for a boot, or an attempt to fulfil it. The step
// stays Running: a version that knows no reboots then takes a compacted entry for
// a step whose end it has to find, and finds its exit code.
func (e *Entry) reboot(r Record) error {
	switch {
	case !e.Running || r.Step != e.Step:
		return fmt.Errorf("job %q: step %d asks for a reboot and does not run", r.JobID, r.Step)
	case !e.Rebooting && r.Attempt == 0:
		e.Rebooting, e.Attempts = true, 0
		e.Reboots++
	case e.Rebooting && r.Attempt == e.Attempts+1:
		e.Attempts = r.Attempt
	default:
		return fmt.Errorf("job %q: attempt %d to reboot for step %d follows attempt %d", r.JobID, r.Attempt, r.Step, e.Attempts)
	}
	return nil
}

// slim drops what nobody will ask for again, once the mesh has the end of the
// job: its input, and the excerpts of outputs.
func (e *Entry) slim() {
	e.Job = nil
	e.Steps = slices.Clone(e.Steps)
	for i := range e.Steps {
		e.Steps[i].Stdout, e.Steps[i].Stderr = "", ""
	}
}
