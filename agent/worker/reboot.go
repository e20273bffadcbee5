package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/executor"
)

// Reboot are the settings of how the machine is started anew for documents that
// ask for it. Zero values mean the defaults.
type Reboot struct {
	// Command is what does it, for /bin/sh. Empty: this node does not reboot, and
	// steps that ask for it fail.
	Command string
	// Grace is how long other documents that run may go on before the machine goes
	// down; then they are interrupted. Default 5 minutes.
	Grace time.Duration
	// Timeout is how long the machine may take to go down, for each attempt. Default
	// 5 minutes.
	Timeout time.Duration
}

func (r Reboot) complete() Reboot {
	if r.Grace <= 0 {
		r.Grace = defaultRebootGrace
	}
	if r.Timeout <= 0 {
		r.Timeout = defaultRebootTimeout
	}
	return r
}

const (
	defaultRebootGrace   = 5 * time.Minute
	defaultRebootTimeout = 5 * time.Minute
	// rebootAttempts is how often a reboot is tried for one wish, over all restarts
	// of meshd on one boot of the machine.
	rebootAttempts = 3
	// rebootReport is how long a reboot waits for the mesh to hear of it.
	rebootReport = 10 * time.Second
	// rebootPause is how long after a command that failed the next attempt comes.
	rebootPause = 10 * time.Second
)

// rebooter starts the machine anew, once for all jobs that ask for it at a time.
// While any waits, no other job begins. Its fields are the worker's, under mu.
type rebooter struct {
	worker *Worker
	wake   chan struct{} // capacity 1: look again
	// waiting are the jobs that ask for it, and where they hear that it will not be.
	waiting map[string]chan string
	// since is when the first of them asked, ready when no other job held it up any
	// more, tried when the command last was begun; zero before.
	since, ready, tried time.Time
	// failure is why the last attempt failed, "" when its command did not fail.
	failure string
}

func newRebooter(w *Worker) *rebooter {
	return &rebooter{worker: w, wake: make(chan struct{}, 1), waiting: make(map[string]chan string)}
}

// join notes that a job asks for a reboot. It is called with mu held.
func (b *rebooter) join(jobID string) <-chan string {
	if b.waiting[jobID] == nil {
		b.waiting[jobID] = make(chan string, 1)
	}
	if b.since.IsZero() {
		b.since = time.Now()
	}
	b.look()
	return b.waiting[jobID]
}

// leave notes that a job does not ask any more.
func (b *rebooter) leave(jobID string) {
	b.worker.mu.Lock()
	defer b.worker.mu.Unlock()
	if b.waiting[jobID] != nil {
		delete(b.waiting, jobID)
		b.look()
	}
}

// holds reports whether jobs that have not begun must wait. It is called with mu
// held.
func (b *rebooter) holds() bool { return !b.since.IsZero() }

func (b *rebooter) look() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Prepare is what the runner of a job calls; see executor.Rebooter.
func (b *rebooter) Prepare(jobID string) (withdraw func()) {
	b.worker.mu.Lock()
	defer b.worker.mu.Unlock()
	b.join(jobID)
	return func() { b.leave(jobID) }
}

// Reboot is what the runner of a job calls; see executor.Rebooter.
func (b *rebooter) Reboot(ctx, cancelled context.Context, jobID string) (string, error) {
	entry := b.worker.journal.Entry(jobID)
	if entry == nil {
		return "", nil
	}
	b.worker.mu.Lock()
	refused := b.join(jobID)
	b.worker.mu.Unlock()
	defer b.leave(jobID)
	expired := time.NewTimer(entry.ExpiresAt.Sub(b.worker.config.Now()))
	defer expired.Stop()
	select {
	case refusal := <-refused:
		return refusal, nil
	case <-cancelled.Done():
		return "", nil
	case <-expired.C:
		return "", nil
	case <-ctx.Done():
		return "", executor.ErrDetached
	}
}

// rebootCourse is what is known when it is decided how a reboot goes on. Times
// are those since something was, negative when it was not yet.
type rebootCourse struct {
	waiting    int // jobs that ask for it
	coming     int // jobs whose wish is being written, or has just been given up
	others     int // other jobs that run
	unreported int // waiting jobs of which the mesh does not know that they wait
	attempts   int // that were made for the job with the most
	failed     bool
	asked      time.Duration
	ready      time.Duration
	tried      time.Duration
}

type rebootAction int

const (
	rebootWait    rebootAction = iota
	rebootRelease              // nobody asks any more: others may begin
	rebootReady                // other jobs hold it up no more
	rebootTry
	rebootRefuse
)

// next decides; in is when to look again where nothing else happens.
func (c rebootCourse) next(s Reboot) (action rebootAction, in time.Duration) {
	pause := s.Timeout
	if c.failed {
		pause = min(pause, rebootPause)
	}
	switch {
	case c.tried >= 0 && c.tried < pause:
		return rebootWait, pause - c.tried // it may go down at any moment
	case c.waiting == 0 && c.coming > 0:
		return rebootWait, s.Grace // they tell
	case c.waiting == 0:
		return rebootRelease, 0
	case c.ready < 0 && c.others > 0 && c.asked < s.Grace:
		return rebootWait, s.Grace - c.asked
	case c.ready < 0:
		return rebootReady, 0
	case c.attempts >= rebootAttempts:
		return rebootRefuse, 0
	case c.unreported > 0 && c.ready < rebootReport:
		return rebootWait, rebootReport - c.ready
	}
	return rebootTry, 0
}

// run brings reboots about until the worker stops.
func (b *rebooter) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-b.worker.ctx.Done():
			return
		case <-b.wake:
		case <-timer.C:
		}
		for b.worker.ctx.Err() == nil {
			action, in := b.course(time.Now()).next(b.worker.config.Reboot)
			if action == rebootWait {
				timer.Reset(in)
				break
			}
			if !b.act(action) {
				break
			}
		}
	}
}

func (b *rebooter) course(now time.Time) rebootCourse {
	w := b.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return -1
		}
		return now.Sub(t)
	}
	c := rebootCourse{others: len(w.accepting), failed: b.failure != "", asked: since(b.since), ready: since(b.ready), tried: since(b.tried)}
	for id := range w.running {
		if b.waiting[id] == nil {
			c.others++
		}
	}
	for id := range b.waiting {
		entry := w.journal.Entry(id)
		if entry == nil || !entry.Rebooting {
			c.coming++
			continue
		}
		c.waiting++
		c.attempts = max(c.attempts, entry.Attempts)
		if entry.Unreported() {
			c.unreported++
		}
	}
	return c
}

// act does what was decided; false when there is nothing more to do for now.
func (b *rebooter) act(action rebootAction) bool {
	w := b.worker
	switch action {
	case rebootReady:
		w.mu.Lock()
		b.ready = time.Now()
		ids := b.ids()
		w.mu.Unlock()
		for _, id := range ids {
			if entry := w.journal.Entry(id); entry != nil {
				w.outbox.again(entry)
			}
		}
		w.outbox.hurry()
		return true
	case rebootTry:
		b.try()
		return true
	case rebootRefuse:
		w.mu.Lock()
		refusal := fmt.Sprintf("the machine did not go down within %s of the reboot command, %d times", w.config.Reboot.Timeout, rebootAttempts)
		if b.failure != "" {
			refusal = fmt.Sprintf("the machine could not be started anew, %d times: %s", rebootAttempts, b.failure)
		}
		for id, refused := range b.waiting {
			refused <- refusal
			delete(b.waiting, id)
		}
		w.mu.Unlock()
		w.config.Log.Error("the machine is not started anew", "reason", refusal)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(b.waiting) == 0 && b.holds() {
		b.since, b.ready, b.tried, b.failure = time.Time{}, time.Time{}, time.Time{}, ""
		w.fill()
	}
	return false
}

// ids is called with mu held.
func (b *rebooter) ids() []string {
	ids := make([]string, 0, len(b.waiting))
	for id := range b.waiting {
		ids = append(ids, id)
	}
	return ids
}

// try makes one attempt, once it is durable that it is made.
func (b *rebooter) try() {
	w := b.worker
	w.mu.Lock()
	ids := b.ids()
	w.mu.Unlock()
	var err error
	journaled := false
	for _, id := range ids {
		entry := w.journal.Entry(id)
		if entry == nil || !entry.Rebooting {
			continue // it has just been cancelled
		}
		failed := w.journal.Append(executor.Record{Kind: executor.RecordRebooting, JobID: id, At: w.config.Now().UTC(), Step: entry.Step, Attempt: entry.Attempts + 1})
		if entry = w.journal.Entry(id); failed == nil {
			journaled = true
		} else if entry != nil && entry.Rebooting {
			err = failed
		}
	}
	if err == nil && journaled {
		w.config.Log.Warn("the machine is started anew, because documents ask for it", "jobs", ids, "command", w.config.Reboot.Command)
		w.mu.Lock()
		b.tried, b.failure = time.Now(), ""
		w.mu.Unlock()
		err = w.rebootMachine()
	}
	if err == nil || w.ctx.Err() != nil {
		return
	}
	w.config.Log.Error("the machine could not be started anew", "error", err)
	w.mu.Lock()
	b.tried, b.failure = time.Now(), err.Error()
	w.mu.Unlock()
}

// maxRebootOutput is how much of what the command says is told, in bytes.
const maxRebootOutput = 1000

// rebootMachine runs the reboot command to its end, to the limit, or until the
// worker stops: then the command goes on.
func (w *Worker) rebootMachine() error {
	output, err := os.OpenFile(filepath.Join(w.config.Dir, "reboot.output"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("run the reboot command: %w", err)
	}
	defer output.Close()
	cmd := exec.Command("/bin/sh", "-c", w.config.Reboot.Command)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", output, output
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the reboot command: %w", err)
	}
	ended := make(chan error, 1)
	limit := time.AfterFunc(w.config.Reboot.Timeout, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	go func() { // ends with the command, which ends at its limit at the latest
		err := cmd.Wait()
		limit.Stop()
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-w.ctx.Done():
		return nil
	}
	if err == nil {
		return nil
	}
	said := make([]byte, maxRebootOutput)
	n, _ := output.ReadAt(said, 0)
	return fmt.Errorf("the reboot command: %w: %s", err, strings.ToValidUTF8(string(bytes.TrimSpace(said[:n])), "\uFFFD"))
}
