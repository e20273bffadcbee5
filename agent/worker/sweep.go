package worker

import (
	"os"
	"path/filepath"
	"time"

	"fleetmesh/executor"
)

// sweepLoop removes what is older than its retention, once an hour.
func (w *Worker) sweepLoop() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		w.sweep(w.config.Now())
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
			return
		}
	}
}

// keepsFiles says whether a job's files must stay: it has not ended, or not
// longer ago than the retention, or the mesh does not know of its end yet.
func keepsFiles(entry *executor.Entry, now time.Time, retention time.Duration) bool {
	return !entry.Finished() || entry.Unreported() || now.Sub(entry.FinishedAt) < retention
}

// sweep removes the files of old jobs, then forgets the ids for which nothing is
// left to keep. Directories of jobs that the journal does not know go by their
// own age.
func (w *Worker) sweep(now time.Time) {
	dirs, err := os.ReadDir(jobsDir(w.config.Dir))
	if err != nil {
		w.config.Log.Error("old outputs cannot be removed", "error", err)
		return
	}
	for _, dir := range dirs {
		if entry := w.journal.Entry(dir.Name()); entry != nil {
			if keepsFiles(entry, now, w.config.OutputRetention) {
				continue
			}
		} else if info, err := dir.Info(); err != nil || now.Sub(info.ModTime()) < w.config.OutputRetention {
			continue
		}
		if err := os.RemoveAll(filepath.Join(jobsDir(w.config.Dir), dir.Name())); err != nil {
			w.config.Log.Error("old outputs cannot be removed", "job", dir.Name(), "error", err)
		}
	}
	w.journal.Forget(now, func(entry *executor.Entry) bool { return !keepsFiles(entry, now, w.config.OutputRetention) })
}
