package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/internal/failpoint"
)

// jobID is what a job's id may look like: it names a directory.
var jobID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$`)

// refuse says why a job that is not known yet is not accepted, "" when it is.
func refuse(job *peer.Job, nodeID string, now time.Time) string {
	switch {
	case !jobID.MatchString(job.CommandID):
		return fmt.Sprintf("%q is no job id", job.CommandID)
	case job.NodeID != nodeID:
		return fmt.Sprintf("the job is for node %s, this is %s", job.NodeID, nodeID)
	case !job.ExpiresAt.After(now):
		return fmt.Sprintf("the command expired at %s, by the clock of %s", job.ExpiresAt.UTC().Format(time.RFC3339), nodeID)
	}
	return lateStart(job, now)
}

// lateStart says that a job's time to start is over, "" when it is not.
func lateStart(job *peer.Job, now time.Time) string {
	if now.Before(job.StartUntil) {
		return ""
	}
	return fmt.Sprintf("not started, because it had to start before %s and the node's clock says %s",
		job.StartUntil.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// Accept takes jobs on, once each: an answer without Refused means that the node
// has the job durably and answers for it. A refused job will never run here. On
// an error it is not known which of the jobs were taken; asking again tells.
//
// All jobs of a call, and of calls at the same time, share one fsync. A job that
// can begin at once has its start journaled with it.
func (w *Worker) Accept(ctx context.Context, jobs []peer.Job) ([]peer.JobAnswer, error) {
	leave, err := w.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	answers := make([]peer.JobAnswer, len(jobs))
	if err := w.writeAccepted(jobs, answers, w.reserve(jobs, answers)); err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.JobsAccepted)
	w.outbox.hurry() // whoever gives us jobs can take our reports
	for i := range answers {
		if answers[i].Known {
			if err := w.decided(ctx, jobs[i].CommandID); err != nil {
				return nil, err
			}
			if w.journal.Entry(jobs[i].CommandID) == nil {
				return nil, fmt.Errorf("accept job %s: its acceptance under way elsewhere failed; send it again", jobs[i].CommandID)
			}
		}
	}
	return answers, nil
}

// acceptance is a job that is being accepted.
type acceptance struct {
	index int // in the request
	begun bool
}

// reserve answers what can be answered at once and reserves the rest, so that no
// other call accepts the same.
func (w *Worker) reserve(jobs []peer.Job, answers []peer.JobAnswer) []acceptance {
	now := w.config.Now()
	unfit := ""
	if w.config.Unfit != nil {
		unfit = w.config.Unfit()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var accepted []acceptance
	// Whoever came before and waits, or may begin too, goes first.
	room := w.config.MaxRunning - len(w.running) - len(w.queue) - len(w.accepting)
	if w.reboots.holds() {
		room = 0
	}
	for i := range jobs {
		id := jobs[i].CommandID
		answers[i].CommandID = id
		if w.journal.Entry(id) != nil || w.accepting[id] != nil {
			answers[i].Known = true
			continue
		}
		if answers[i].Refused = refuse(&jobs[i], w.config.NodeID, now); answers[i].Refused != "" {
			answers[i].TooLate = lateStart(&jobs[i], now) != ""
			continue
		}
		if answers[i].Refused = unfit; unfit != "" {
			continue
		}
		w.accepting[id] = make(chan struct{})
		accepted = append(accepted, acceptance{index: i, begun: room > 0})
		room--
	}
	return accepted
}

// writeAccepted journals acceptances and lets the jobs begin or wait.
func (w *Worker) writeAccepted(jobs []peer.Job, answers []peer.JobAnswer, accepted []acceptance) error {
	if len(accepted) == 0 {
		return nil
	}
	now := w.config.Now().UTC()
	var records []executor.Record
	var err error
	for _, a := range accepted {
		job := &jobs[a.index]
		var data json.RawMessage
		if data, err = json.Marshal(job); err != nil {
			err = fmt.Errorf("%w: %w", executor.ErrJournalWrite, err) // its document is no JSON
			break
		}
		records = append(records, executor.Record{Kind: executor.RecordAccepted, JobID: job.CommandID, At: now, Job: data, ExpiresAt: job.ExpiresAt})
		if a.begun {
			records = append(records, w.runner.Starting(job.CommandID))
		}
	}
	if err == nil {
		err = w.journal.Append(records...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range accepted {
		id := jobs[a.index].CommandID
		close(w.accepting[id])
		delete(w.accepting, id)
		switch {
		case errors.Is(err, executor.ErrJournalWrite):
			answers[a.index].Refused = "the node cannot keep the job: " + err.Error()
		case err == nil && a.begun:
			w.launch(id, true)
		case err == nil && !a.begun:
			w.queue = append(w.queue, id)
		}
	}
	w.fill()
	if err != nil && !errors.Is(err, executor.ErrJournalWrite) {
		return fmt.Errorf("accept jobs: %w", err)
	}
	return nil
}

// decided waits until it is known whether a job is accepted.
func (w *Worker) decided(ctx context.Context, id string) error {
	w.mu.Lock()
	deciding := w.accepting[id]
	w.mu.Unlock()
	if deciding == nil {
		return nil
	}
	select {
	case <-deciding:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Cancel ends jobs: one that waits at once, one that runs by killing its
// processes, one that has ended not at all. When it returns nil, the wish is
// durable.
func (w *Worker) Cancel(ctx context.Context, ids []string) error {
	leave, err := w.enter()
	if err != nil {
		return err
	}
	defer leave()
	for _, id := range ids {
		if err := w.decided(ctx, id); err != nil {
			return err
		}
		if err := w.cancelJob(id); err != nil {
			return fmt.Errorf("cancel job %s: %w", id, err)
		}
	}
	return nil
}

func (w *Worker) cancelJob(id string) error {
	entry := w.journal.Entry(id)
	if entry == nil || entry.Finished() {
		return nil
	}
	if !entry.Cancelling {
		err := w.journal.Append(executor.Record{Kind: executor.RecordCancelling, JobID: id, At: w.config.Now().UTC()})
		if entry = w.journal.Entry(id); entry == nil || entry.Finished() {
			return nil // it ended first
		}
		if err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if running := w.running[id]; running != nil {
		running.cancel()
		return nil
	}
	if i := slices.Index(w.queue, id); i >= 0 {
		// It waits: its turn is now, and it ends as cancelled.
		w.queue = slices.Delete(w.queue, i, i+1)
		w.launch(id, false)
	}
	return nil
}

// States says which jobs this node has never accepted, and reports the others
// anew: whoever asks may have missed what was acknowledged to another.
func (w *Worker) States(ctx context.Context, ids []string) (unknown []string, err error) {
	for _, id := range ids {
		if err := w.decided(ctx, id); err != nil {
			return nil, err
		}
		entry := w.journal.Entry(id)
		if entry == nil {
			unknown = append(unknown, id)
			continue
		}
		w.outbox.again(entry)
	}
	w.outbox.hurry()
	return unknown, nil
}
