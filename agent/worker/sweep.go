package worker

import (
	"os"
	"path/filepath"
	"time"

	"fleetmesh/executor"
)

const (
	// sweepInterval is how often all files are looked through for old ones;
	// roomInterval how often it is asked whether the disk has its room.
	sweepInterval = time.Hour
	roomInterval  = time.Minute
)

// sweepLoop removes what is older than its retention, and the oldest where room
// is short.
func (w *Worker) sweepLoop() {
	ticker := time.NewTicker(roomInterval)
	defer ticker.Stop()
	var swept time.Time
	for {
		if now := w.config.Now(); w.crowds() || now.Sub(swept) >= sweepInterval || now.Before(swept) {
			swept = now
			w.sweep(now, w.config.FreeSpace)
		}
		select {
		case <-ticker.C:
		case <-w.crowded:
		case <-w.ctx.Done():
			return
		}
	}
}

// lack is how many bytes of the disk are missing to what is wanted free.
func (w *Worker) lack(want int64) int64 {
	free, err := executor.FreeBytes(w.config.Dir)
	if err != nil || free >= uint64(want) {
		return 0
	}
	return want - int64(free)
}

// room returns the limit of each output of a job's next step, and makes the room
// for it: old outputs go only when something new needs it. Of the disk that is by
// half more than FreeSpace, where the step would stop.
func (w *Worker) room(id string) int64 {
	limit := w.usage.begin(id)
	if want := w.config.FreeSpace + w.config.FreeSpace/2; w.usage.over() || w.lack(want) > 0 {
		w.sweep(w.config.Now(), want)
	}
	return limit
}

// crowds reports whether outputs take more room than they may.
func (w *Worker) crowds() bool { return w.usage.over() || w.lack(w.config.FreeSpace) > 0 }

// hasEnded takes note of what a job has left on the disk.
func (w *Worker) hasEnded(id string) {
	w.usage.end(id)
	if !w.crowds() {
		return
	}
	select {
	case w.crowded <- struct{}{}:
	default:
	}
}

// pins says whether a job's files must stay: it has not ended, or the mesh does
// not know of its end yet.
func pins(entry *executor.Entry) bool { return !entry.Finished() || entry.Unreported() }

// sweep removes the files of old jobs, then forgets the ids for which nothing is
// left to keep. free is how many bytes of the disk it is to leave free. Directories
// of jobs that the journal does not know go by their own age.
func (w *Worker) sweep(now time.Time, free int64) {
	w.sweeping.Lock()
	defer w.sweeping.Unlock()
	dirs, err := os.ReadDir(jobsDir(w.config.Dir))
	if err != nil {
		w.config.Log.Error("old outputs cannot be removed", "error", err)
		return
	}
	jobs := make([]jobFiles, 0, len(dirs))
	there := make(map[string]bool, len(dirs))
	var pinned int64
	for _, dir := range dirs {
		job := jobFiles{id: dir.Name(), bytes: w.usage.of(dir.Name())}
		if entry := w.journal.Entry(job.id); entry != nil {
			job.pinned, job.endedAt = pins(entry), entry.FinishedAt
			if job.pinned && entry.Finished() {
				pinned += job.bytes
			}
		} else if info, err := dir.Info(); err == nil {
			job.endedAt = info.ModTime()
		} else {
			job.pinned = true
		}
		jobs, there[job.id] = append(jobs, job), true
	}
	w.usage.mu.Lock()
	w.usage.pinned = pinned
	rules := roomRules{retention: w.config.OutputRetention, space: w.config.OutputSpace, reserved: w.usage.reservations(), lack: w.lack(free)}
	w.usage.mu.Unlock()
	removed := outdated(jobs, now, rules)
	for _, id := range removed {
		if err := os.RemoveAll(filepath.Join(jobsDir(w.config.Dir), id)); err != nil {
			w.config.Log.Error("old outputs cannot be removed", "job", id, "error", err)
			continue
		}
		w.usage.forget(id)
		delete(there, id)
	}
	if len(removed) > 0 {
		w.config.Log.Info("removed the oldest outputs", "jobs", len(removed))
	}
	w.journal.Forget(now, func(entry *executor.Entry) bool {
		return !there[entry.JobID] && (entry.Started() || now.Sub(entry.FinishedAt) >= w.config.OutputRetention)
	})
}
