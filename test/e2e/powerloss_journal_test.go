//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fleetmesh/executor"
)

// openJournal does as the worker does; a missing directory is made.
func openJournal(dir string) (*executor.Journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, "jobs"), 0o700); err != nil {
		return nil, err
	}
	return executor.OpenJournal(executor.JournalConfig{Path: filepath.Join(dir, "jobs", "journal"), CompactAt: 24 << 10, Log: quietLog()})
}

// jobLife is what a node writes of one job, step by step, each synced.
func jobLife(id string) [][]executor.Record {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	result := executor.StepResult{Name: "one", Status: "Success", StatusDetails: "Success", Stdout: strings.Repeat("output ", 100), FinishedAt: at}
	return [][]executor.Record{
		{{Kind: executor.RecordAccepted, JobID: id, At: at, Job: json.RawMessage(`{"id":"` + id + `"}`), ExpiresAt: at.Add(time.Hour)}},
		{{Kind: executor.RecordStarting, JobID: id, At: at, BootID: "boot"}},
		{{Kind: executor.RecordStep, JobID: id, At: at, Results: []executor.StepResult{result}}, {Kind: executor.RecordStarting, JobID: id, At: at, Step: 1, BootID: "boot"}},
		{{Kind: executor.RecordCancelling, JobID: id, At: at}},
		{{Kind: executor.RecordFinished, JobID: id, At: at, Results: []executor.StepResult{result}, Status: "Success", StatusDetails: "Success"}},
	}
}

// stageOf is how far a job's entry is in jobLife, -1 for a job that is not there.
func stageOf(e *executor.Entry) int {
	switch {
	case e == nil:
		return -1
	case e.Finished():
		return 4
	case e.Cancelling:
		return 3
	case len(e.Steps) == 1:
		return 2
	case e.Started():
		return 1
	}
	return 0
}

const journalJobs = 25

// journalChild is a node's journal at work: jobs beside each other, reports that
// are acknowledged, compactions, and a restart.
func journalChild(dir string, note func(string, ...any)) error {
	var journal *executor.Journal
	run := func(round int) error {
		errs := make([]error, 3)
		var wg sync.WaitGroup
		for w := range errs {
			wg.Go(func() {
				for i := range journalJobs {
					id := fmt.Sprintf("%d-%d-%d", round, w, i)
					for stage, records := range jobLife(id) {
						note("try %s %d\n", id, stage)
						if errs[w] = journal.Append(records...); errs[w] != nil {
							return
						}
						note("ack %s %d\n", id, stage)
					}
					if i%2 == 0 {
						journal.Note(executor.Record{Kind: executor.RecordAcknowledged, JobID: id, Sequence: journal.Entry(id).Sequence})
					}
				}
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	for round := range 2 {
		var err error
		if journal, err = openJournal(dir); err != nil {
			return err
		}
		note("! open\n")
		if err := run(round); err != nil {
			return err
		}
		if round == 0 {
			if err := journal.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestPowerLossOfTheJournal: whenever the power goes, the journal opens and knows
// of each job what was acknowledged, or the step that was under way; so no step
// that was "starting" can start again.
func TestPowerLossOfTheJournal(t *testing.T) {
	traceChild(t, "journal").try(t, *cuts, func(_ context.Context, c cut, dir string) error {
		acked, tried := map[string]int{}, map[string]int{}
		for _, note := range c.notes {
			var id string
			var stage int
			if _, err := fmt.Sscanf(note, "ack %s %d", &id, &stage); err == nil {
				acked[id] = stage
			} else if _, err := fmt.Sscanf(note, "try %s %d", &id, &stage); err == nil {
				tried[id] = stage
			} else if note != "! open" {
				return fmt.Errorf("a strange note %q", note)
			}
		}
		journal, err := openJournal(dir)
		if err != nil {
			return err
		}
		defer journal.Close()
		var errs []error
		for id, stage := range acked {
			if got := stageOf(journal.Entry(id)); got < stage {
				errs = append(errs, fmt.Errorf("job %s is at %d, acknowledged was %d", id, got, stage))
			}
		}
		for _, entry := range journal.Entries() {
			stage, known := tried[entry.JobID]
			if got := stageOf(entry); !known || got > stage {
				errs = append(errs, fmt.Errorf("job %s is at %d, tried was %d", entry.JobID, got, stage))
			}
			if entry.Acknowledged > entry.Sequence {
				errs = append(errs, fmt.Errorf("job %s: the mesh has report %d of %d", entry.JobID, entry.Acknowledged, entry.Sequence))
			}
		}
		// It goes on.
		for _, records := range jobLife("after") {
			errs = append(errs, journal.Append(records...))
		}
		return errors.Join(errs...)
	})
}
