package worker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/internal/failpoint"
)

const (
	// coalesceTime is how long a report of progress waits for the next change. A
	// job that ends sooner is reported once.
	coalesceTime = 200 * time.Millisecond
	// Pauses after failed calls double from the first to the longest, and vary by
	// half, so that nodes do not come back all at once.
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 15 * time.Second
	// reportTimeout bounds one call.
	reportTimeout = 30 * time.Second
)

// outbox tells the mesh what became of jobs. What it must tell is in the
// journal; here is only when. The journal's acknowledged records are noted, not
// synced: one that is lost makes a report come twice, which harms nobody.
type outbox struct {
	worker *Worker
	wake   chan struct{} // capacity 1: look again

	mu       sync.Mutex
	due      map[string]*dueReport
	failures int       // calls in a row that failed
	notUntil time.Time // the end of the pause after them
}

// dueReport is a job whose state the mesh must be told.
type dueReport struct {
	order uint64
	// at is when to tell it.
	at time.Time
	// failures are those of calls that had this report; others go first.
	failures int
	// asked is set when somebody wants it again: sent also when acknowledged.
	asked bool
}

func newOutbox(w *Worker) *outbox {
	return &outbox{worker: w, wake: make(chan struct{}, 1), due: make(map[string]*dueReport)}
}

// changed notes that a job has a new state.
func (o *outbox) changed(entry *executor.Entry) {
	if !entry.Unreported() {
		return
	}
	at := time.Now()
	if !entry.Finished() {
		at = at.Add(coalesceTime)
	}
	o.mu.Lock()
	due := o.due[entry.JobID]
	if due == nil {
		due = &dueReport{order: entry.Order, at: at}
		o.due[entry.JobID] = due
	}
	if at.Before(due.at) {
		due.at = at
	}
	o.mu.Unlock()
	o.look()
}

// again has a job reported even if its state was acknowledged.
func (o *outbox) again(entry *executor.Entry) {
	if entry.Sequence == 0 {
		return // it waits; its first report comes when it begins
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	due := o.due[entry.JobID]
	if due == nil {
		due = &dueReport{order: entry.Order}
		o.due[entry.JobID] = due
	}
	due.at, due.asked = time.Now(), true
}

// hurry ends a pause: the mesh was just heard.
func (o *outbox) hurry() {
	o.mu.Lock()
	waits := len(o.due) > 0
	o.failures, o.notUntil = 0, time.Time{}
	o.mu.Unlock()
	if waits {
		o.look()
	}
}

func (o *outbox) look() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run sends reports until the worker stops.
func (o *outbox) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-o.worker.ctx.Done():
			return
		case <-o.wake:
		case <-timer.C:
		}
		for o.send() {
			if o.worker.ctx.Err() != nil {
				return
			}
		}
		if wait, any := o.wait(time.Now()); any {
			timer.Reset(wait)
		}
	}
}

// wait returns how long nothing is to be done, and whether anything is.
func (o *outbox) wait(now time.Time) (time.Duration, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var next time.Time
	for _, due := range o.due {
		if next.IsZero() || due.at.Before(next) {
			next = due.at
		}
	}
	if next.IsZero() {
		return 0, false
	}
	if next.Before(o.notUntil) {
		next = o.notUntil
	}
	return max(next.Sub(now), 0), true
}

// ready returns the jobs to report now, those that never failed first, then in
// the order in which they were accepted.
func (o *outbox) ready(now time.Time) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Before(o.notUntil) {
		return nil
	}
	ids := slices.Collect(maps.Keys(o.due))
	ids = slices.DeleteFunc(ids, func(id string) bool { return o.due[id].at.After(now) })
	slices.SortFunc(ids, func(a, b string) int {
		x, y := o.due[a], o.due[b]
		if x.failures != y.failures {
			return x.failures - y.failures
		}
		return int(x.order) - int(y.order)
	})
	return ids
}

// send makes one call with what is ready and fits; false when there was nothing
// or the call failed.
func (o *outbox) send() bool {
	ids := o.ready(time.Now())
	var reports []peer.JobReport
	var sizes []int
	total := 0
	for _, id := range ids {
		report, ok := o.report(id)
		if !ok {
			continue
		}
		size := fitReport(&report, maxReport)
		reports, sizes = append(reports, report), append(sizes, size)
		if total += size; total > maxReportBatch || o.refusedBefore(id) {
			break
		}
	}
	if len(reports) == 0 {
		return false
	}
	reports = reports[:batch(sizes, maxReportBatch)]
	failpoint.Hit(failpoint.ReportUnsent)
	ctx, cancel := context.WithTimeout(o.worker.ctx, reportTimeout)
	unknown, err := o.worker.config.Report(ctx, reports)
	cancel()
	if o.worker.ctx.Err() != nil {
		return false
	}
	if err != nil {
		o.failed(reports, err)
		return false
	}
	failpoint.Hit(failpoint.ReportSent)
	if len(unknown) > 0 {
		o.worker.config.Log.Warn("the mesh does not know jobs that this node reports", "jobs", unknown)
	}
	o.acknowledged(reports)
	return true
}

// report builds the report of a job that is due; false, and it is due no more,
// when there is nothing to tell.
func (o *outbox) report(id string) (peer.JobReport, bool) {
	entry := o.worker.journal.Entry(id)
	o.mu.Lock()
	due := o.due[id]
	wanted := entry != nil && due != nil && (due.asked || entry.Unreported())
	if !wanted {
		delete(o.due, id)
	}
	o.mu.Unlock()
	if !wanted {
		return peer.JobReport{}, false
	}
	var tasks []executor.Task
	if !entry.Finished() {
		var job peer.Job
		if err := json.Unmarshal(entry.Job, &job); err == nil {
			tasks, _ = o.worker.documents.prepare(&job) // a document that does not parse has no steps to name
		}
	}
	return reportOf(entry, tasks), true
}

// refusedBefore: a report that was in a call that the mesh refused as malformed
// goes alone from then on, so that it does not hold up others.
func (o *outbox) refusedBefore(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	due := o.due[id]
	return due != nil && due.failures > 0
}

// failed plans the next attempt.
func (o *outbox) failed(reports []peer.JobReport, err error) {
	var refusal *peer.Refusal
	o.mu.Lock()
	defer o.mu.Unlock()
	if errors.As(err, &refusal) && refusal.Kind == peer.RefusedInput {
		for _, r := range reports {
			if due := o.due[r.CommandID]; due != nil {
				due.failures++
			}
		}
	}
	o.failures++
	pause := backoff(o.failures, rand.Float64())
	o.notUntil = time.Now().Add(pause)
	o.worker.config.Log.Info("reports were not taken; they are sent again", "jobs", len(reports), "in", pause, "error", err)
}

// backoff is the pause after a number of failures in a row; random is in [0, 1).
func backoff(failures int, random float64) time.Duration {
	pause := firstBackoff << min(failures-1, 16)
	pause = min(pause, maxBackoff)
	return pause/2 + time.Duration(random*float64(pause))
}

// acknowledged notes what the mesh has now.
func (o *outbox) acknowledged(reports []peer.JobReport) {
	records := make([]executor.Record, 0, len(reports))
	for _, r := range reports {
		records = append(records, executor.Record{Kind: executor.RecordAcknowledged, JobID: r.CommandID, Sequence: r.Sequence})
	}
	o.worker.journal.Note(records...)
	failpoint.Hit(failpoint.ReportNoted)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures, o.notUntil = 0, time.Time{}
	for _, r := range reports {
		entry := o.worker.journal.Entry(r.CommandID)
		due := o.due[r.CommandID]
		switch {
		case due == nil:
		case entry == nil || !entry.Unreported():
			delete(o.due, r.CommandID)
		default:
			due.asked, due.failures = false, 0 // it changed while it was sent
		}
	}
	o.worker.reboots.look()
}
