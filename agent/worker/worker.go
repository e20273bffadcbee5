package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/internal/failpoint"
)

// ShimCommand is the first argument with which meshd starts itself as a shim.
const ShimCommand = executor.ShimCommand

// ShimMain is a shim's main function; args are those behind ShimCommand. A
// program that opens a Worker calls it before it does anything else.
func ShimMain(args []string) int { return executor.ShimMain(args) }

// ErrClosed is returned by calls after Close.
var ErrClosed = errors.New("this node is stopping")

// Config is what a worker needs to know.
type Config struct {
	// Dir is the directory of the journal and of all jobs' files; the caller makes
	// sure that one process uses it.
	Dir    string
	NodeID string
	// Served: a leader has called this node before, so its journal must be there.
	Served bool
	Executor
	Environment Environment
	Reboot      Reboot
	// Report hands reports to the mesh and returns when they are committed; unknown
	// lists commands that the mesh does not know. It is called by one goroutine.
	Report func(ctx context.Context, reports []peer.JobReport) (unknown []string, err error)
	// Unfit says why this node takes no more jobs at the moment, "" when it does; nil
	// never.
	Unfit func() string
	Log   *slog.Logger
	Now   func() time.Time
}

// Executor are the settings of how jobs are run. Zero values mean the defaults.
type Executor struct {
	// MaxRunning is how many jobs run at once; others wait. Default 5. Higher: a
	// burst of commands loads the machine more; lower: one long job holds up others.
	MaxRunning int
	// OutputLimit is how many bytes of a step's stdout, and of its stderr, are
	// kept. Default 64 MiB.
	OutputLimit int64
	// OutputRetention is how long a finished job's files stay. Default 30 days.
	OutputRetention time.Duration
	// OutputSpace is how many bytes of the disk the files of all jobs may take;
	// beyond it the oldest go earlier. Running steps share half of it. Default 2 GiB.
	OutputSpace int64
	// FreeSpace is how many bytes of the disk outputs leave free: where less is, steps
	// keep little. A step that begins where less than one and a half times of it is
	// makes the oldest outputs go. Default 0.
	FreeSpace int64
	// Shim is the command line that starts a shim. Default: this program itself
	// with ShimCommand.
	Shim []string
	// SpareShim keeps one shim started ahead, so that a job starts about 4 ms (of
	// CPU) sooner, for about 3 MiB of memory. For a daemon; not where many workers
	// share a process.
	SpareShim bool
	// BootIDFile has what names the boot of the machine. Default: the kernel's.
	BootIDFile string
	// PowerShell is the program of aws:runPowerShellScript. Default: from the PATH.
	PowerShell string
	// Plugins are the actions that this node can execute beyond executor.Plugins.
	Plugins map[string]executor.Plugin
}

// Environment is what scripts are told of the node besides its id.
type Environment struct {
	Region          string
	PlatformName    string
	PlatformVersion string
}

const (
	defaultMaxRunning      = 5
	defaultOutputLimit     = 64 << 20
	defaultOutputRetention = 30 * 24 * time.Hour
	defaultOutputSpace     = 2 << 30
)

// Worker runs this node's jobs. Open starts it, Close ends it; scripts that run
// go on without it, and the next Open finds them.
type Worker struct {
	config    Config
	journal   *executor.Journal
	runner    *executor.Runner
	outbox    *outbox
	reboots   *rebooter
	watcher   *watcher
	usage     *usage
	documents documents
	// crowded has a value when the sweep is to make room; sweeping is held by one
	// sweep at a time.
	crowded  chan struct{}
	sweeping sync.Mutex

	// ctx ends when Close begins; loops are all goroutines of the worker.
	ctx   context.Context
	stop  context.CancelFunc
	loops sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running map[string]*runningJob
	queue   []string // accepted, not begun, in order
	// accepting has the jobs whose acceptance is being written; the channel closes
	// when it is decided.
	accepting map[string]chan struct{}
	// pulse closes, and is replaced, whenever any job changes.
	pulse chan struct{}
}

// runningJob is a job that has a goroutine.
type runningJob struct {
	cancelled context.Context
	cancel    context.CancelFunc
}

// Open reads the journal, finds the scripts that still run, goes on with what
// was accepted, and reports what the mesh does not know yet.
func Open(config Config) (*Worker, error) {
	if config.MaxRunning <= 0 {
		config.MaxRunning = defaultMaxRunning
	}
	if config.OutputLimit <= 0 {
		config.OutputLimit = defaultOutputLimit
	}
	if config.OutputRetention <= 0 {
		config.OutputRetention = defaultOutputRetention
	}
	if config.OutputSpace <= 0 {
		config.OutputSpace = defaultOutputSpace
	}
	config.Reboot = config.Reboot.complete()
	if config.Served {
		if err := findJobs(config); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(jobsDir(config.Dir), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the jobs: %w", err)
	}
	journal, err := executor.OpenJournal(executor.JournalConfig{Path: filepath.Join(config.Dir, "journal"), Log: config.Log})
	if err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.WorkerOpened)
	w := &Worker{
		config:    config,
		journal:   journal,
		watcher:   newWatcher(),
		usage:     newUsage(config),
		crowded:   make(chan struct{}, 1),
		running:   make(map[string]*runningJob),
		accepting: make(map[string]chan struct{}),
		pulse:     make(chan struct{}),
	}
	processes, err := executor.OpenProcesses(executor.ProcessConfig{
		Shim: config.Shim, Spare: config.SpareShim, OutputLimit: config.OutputLimit, Room: w.room, FreeSpace: uint64(config.FreeSpace),
		BootIDFile: config.BootIDFile, Log: config.Log,
	})
	if err != nil {
		journal.Close()
		return nil, err
	}
	plugins := executor.Plugins(config.PowerShell)
	plugins[executor.ActionRunPatchBaseline] = patchBaseline{script: plugins["aws:runShellScript"], dir: filepath.Join(config.Dir, "patch"), bootIDFile: config.BootIDFile}
	for action, plugin := range config.Plugins {
		plugins[action] = plugin
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.outbox = newOutbox(w)
	w.runner = &executor.Runner{
		Journal:   journal,
		Processes: processes,
		Plugins:   plugins,
		Dir:       jobsDir(config.Dir),
		Facts: executor.Facts{
			NodeID: config.NodeID, Region: config.Environment.Region,
			PlatformName: config.Environment.PlatformName, PlatformVersion: config.Environment.PlatformVersion,
		},
		Platform:   platform,
		Nested:     nested,
		StartUntil: startUntil,
		Log:        config.Log,
		Now:        config.Now,
		Changed:    w.changed,
	}
	w.reboots = newRebooter(w)
	if config.Reboot.Command != "" {
		w.runner.Rebooter = w.reboots
	}
	w.recover()
	failpoint.Hit(failpoint.WorkerRecovered)
	w.loops.Go(w.outbox.run)
	w.loops.Go(w.sweepLoop)
	w.loops.Go(w.reboots.run)
	return w, nil
}

func jobsDir(dir string) string { return filepath.Join(dir, "files") }

// recover goes on where the journal ends. Jobs that had begun are seen to first,
// whatever the limit; their scripts run already.
func (w *Worker) recover() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, entry := range w.journal.Entries() {
		switch {
		case entry.Finished():
			if entry.Unreported() {
				w.outbox.changed(entry)
			}
		case entry.Started(), entry.Cancelling:
			w.outbox.changed(entry)
			if entry.Rebooting && entry.BootID == w.runner.Processes.BootID() {
				w.reboots.join(entry.JobID) // before any other job begins
			}
			w.launch(entry.JobID, false)
		default:
			w.queue = append(w.queue, entry.JobID)
		}
	}
	w.fill()
}

// Close stops the worker and leaves running scripts alone. It is idempotent.
func (w *Worker) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.loops.Wait()
	w.watcher.close()
	w.runner.Processes.Close()
	if err := w.journal.Close(); err != nil {
		return fmt.Errorf("close the job journal: %w", err)
	}
	return nil
}

// enter begins a call that may begin jobs; Close waits for leave.
func (w *Worker) enter() (leave func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrClosed
	}
	w.loops.Add(1)
	return w.loops.Done, nil
}

// changed is called after each durable change of a job.
func (w *Worker) changed(jobID string) {
	entry := w.journal.Entry(jobID)
	if entry == nil {
		return
	}
	w.outbox.changed(entry)
	w.mu.Lock()
	close(w.pulse)
	w.pulse = make(chan struct{})
	w.mu.Unlock()
}

// fill begins waiting jobs while there is room. It is called with mu held.
func (w *Worker) fill() {
	for len(w.queue) > 0 && len(w.running) < w.config.MaxRunning && !w.closed && !w.reboots.holds() {
		id := w.queue[0]
		w.queue = w.queue[1:]
		w.launch(id, false)
	}
}

// launch gives a job its goroutine; begun says that Accept has journaled its
// start. It is called with mu held.
func (w *Worker) launch(id string, begun bool) {
	cancelled, cancel := context.WithCancel(context.Background())
	if entry := w.journal.Entry(id); entry != nil {
		if entry.Cancelling {
			cancel()
		}
		if entry.Started() && !begun {
			w.usage.resume(id)
		}
	}
	w.running[id] = &runningJob{cancelled: cancelled, cancel: cancel}
	w.loops.Go(func() {
		defer cancel()
		err := w.runJob(cancelled, id, begun)
		if err != nil && !errors.Is(err, executor.ErrDetached) {
			w.config.Log.Error("a job cannot go on", "job", id, "error", err)
		}
		w.reboots.leave(id)
		if err == nil {
			w.hasEnded(id)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.running, id)
		w.reboots.look()
		w.fill()
	})
}

// runJob takes a job to its end.
func (w *Worker) runJob(cancelled context.Context, id string, begun bool) error {
	entry := w.journal.Entry(id)
	if entry == nil || entry.Finished() {
		return nil
	}
	var job peer.Job
	if err := json.Unmarshal(entry.Job, &job); err != nil {
		return w.runner.End(w.ctx, id, "Failed", "Failed", "the job in this node's journal cannot be read: "+err.Error())
	}
	if !entry.Started() {
		if cancelled.Err() != nil {
			return w.runner.End(w.ctx, id, "Cancelled", "Cancelled", "cancelled before it started")
		}
		if late := lateStart(&job, w.config.Now()); late != "" {
			return w.runner.End(w.ctx, id, "TimedOut", "DeliveryTimedOut", late)
		}
	}
	tasks, err := w.documents.prepare(&job)
	if err != nil {
		return w.runner.End(w.ctx, id, "Failed", "Failed", err.Error())
	}
	return w.runner.Run(w.ctx, cancelled, id, tasks, begun)
}
