package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/internal/failpoint"
)

// ErrDetached is returned when meshd stops before a step has ended: the step
// goes on, and the next meshd resumes it.
var ErrDetached = errors.New("meshd stops; the step goes on")

// ProcessConfig says how scripts are run.
type ProcessConfig struct {
	// Shim is the command line that starts a shim: a program that calls ShimMain.
	// Default: this very program, /proc/self/exe, with ShimCommand.
	Shim []string
	// Spare keeps one shim started ahead while nothing runs, so that a script
	// need not wait for a process of meshd's size to start (about 6 ms of CPU); a
	// shim that has done its work becomes the spare. It costs about 4 MiB of memory.
	Spare bool
	// OutputLimit is how many bytes of each output stream of a step are kept; what
	// comes after is dropped and marked. Default 64 MiB. Larger: one script can
	// fill the disk.
	OutputLimit int64
	// Room is asked before a step of a job begins; it bounds OutputLimit further by
	// what the outputs of all jobs may take. nil: it does not.
	Room func(jobID string) int64
	// FreeSpace is how many bytes of the disk outputs leave free, but for the first
	// AlwaysKept of each. Default 0.
	FreeSpace uint64
	// BootIDFile has what names the boot of the machine. Default: the kernel's, which
	// a container has in common with its host.
	BootIDFile string
	Log        *slog.Logger
}

// spareDelay is how long nothing must have run before the spare is renewed, so
// that this does not compete with a burst of jobs. Longer: a second command soon
// after the first starts cold.
const spareDelay = 300 * time.Millisecond

// firstSpareDelay is that before the first spare: the start of a node, and of a whole
// site at once, is busy enough.
const firstSpareDelay = 2 * time.Second

// Processes starts scripts behind shims, and finds again those that an earlier
// meshd has started.
type Processes struct {
	config ProcessConfig
	bootID string

	mu     sync.Mutex
	active int
	spare  *shimProcess
	timer  *time.Timer
	closed bool
}

// OpenProcesses prepares to run scripts.
func OpenProcesses(config ProcessConfig) (*Processes, error) {
	if len(config.Shim) == 0 {
		config.Shim = []string{"/proc/self/exe", ShimCommand}
	}
	if config.OutputLimit <= 0 {
		config.OutputLimit = 64 << 20
	}
	bootID, err := readBootID(cmp.Or(config.BootIDFile, kernelBootID))
	if err != nil {
		return nil, err
	}
	p := &Processes{config: config, bootID: bootID}
	p.mu.Lock()
	p.planSpare(firstSpareDelay)
	p.mu.Unlock()
	return p, nil
}

// outputLimit is that of a step of a job that begins now.
func (p *Processes) outputLimit(jobID string) int64 {
	if p.config.Room == nil {
		return p.config.OutputLimit
	}
	return min(p.config.OutputLimit, p.config.Room(jobID))
}

// BootID names the boot of the machine on which scripts run now.
func (p *Processes) BootID() string { return p.bootID }

// Close ends the spare shim. Scripts go on.
func (p *Processes) Close() {
	p.mu.Lock()
	p.closed = true
	spare := p.spare
	p.spare = nil
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	if spare != nil {
		spare.discard()
	}
}

// planSpare is called with mu held.
func (p *Processes) planSpare(delay time.Duration) {
	if !p.config.Spare || p.closed || p.spare != nil || p.active > 0 {
		return
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = time.AfterFunc(delay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed || p.spare != nil || p.active > 0 {
			return
		}
		spare, err := p.startShim()
		if err != nil {
			p.config.Log.Warn("no spare process could be started", "error", err)
			return
		}
		p.spare = spare
	})
}

// take returns a shim that waits for its order.
func (p *Processes) take() (*shimProcess, error) {
	p.mu.Lock()
	p.active++
	spare := p.spare
	p.spare = nil
	p.mu.Unlock()
	if spare != nil {
		if spare.waits() {
			return spare, nil
		}
		spare.discard()
	}
	return p.startShim()
}

// keep makes a shim that has done its work the spare; false when none is wanted.
func (p *Processes) keep(shim *shimProcess) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.config.Spare || p.closed || p.spare != nil {
		return false
	}
	p.spare = shim
	return true
}

func (p *Processes) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	p.planSpare(spareDelay)
}

// shimProcess is a shim that this process has started.
type shimProcess struct {
	process *os.Process
	socket  *os.File
}

func (p *Processes) startShim() (*shimProcess, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "shim's end")
	defer theirs.Close()
	// Non-blocking before NewFile: reads then obey deadlines.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	ours := os.NewFile(uintptr(pair[0]), "shim")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer null.Close()
	process, err := os.StartProcess(p.config.Shim[0], append([]string{"meshd"}, p.config.Shim[1:]...), &os.ProcAttr{
		Dir:   "/",
		Env:   os.Environ(),
		Files: []*os.File{null, null, null, theirs},
		Sys:   &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start a shim: %w", err)
	}
	return &shimProcess{process: process, socket: ours}, nil
}

// waits reports whether a spare is still there.
func (s *shimProcess) waits() bool {
	fds := []unix.PollFd{{Fd: int32(s.fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 0
}

func (s *shimProcess) fd() (fd uintptr) {
	if conn, err := s.socket.SyscallConn(); err == nil {
		_ = conn.Control(func(f uintptr) { fd = f })
	}
	return fd
}

// discard ends a shim that has no order: it sees the end of its input.
func (s *shimProcess) discard() {
	s.socket.Close()
	_, _ = s.process.Wait()
}

// ended is how a script's process ended: with Exit, or interrupted without
// anybody knowing its exit status.
type ended struct {
	exit        processExit
	interrupted string
	// ran is false when it is certain that the script was not started.
	ran bool
	// journaled, when not nil, must be called once the end is in the journal.
	journaled func()
}

// run starts a script and waits for its end. Before it is called, "starting"
// must be durable. When ctx ends it returns ErrDetached and the script goes on;
// when cancelled ends the script is killed. Where another shim has claimed the step
// already, that one's end is waited for.
func (p *Processes) run(ctx, cancelled context.Context, order *shimOrder) (ended, error) {
	order.Version, order.BootID, order.FreeSpace = shimVersion, p.bootID, p.config.FreeSpace
	order.OutputLimit = cmp.Or(order.OutputLimit, p.config.OutputLimit)
	failpoint.Hit(failpoint.ShimUnspawned)
	shim, err := p.take()
	defer p.release()
	if err != nil {
		now := time.Now().UTC()
		return ended{exit: processExit{Code: 1, Failure: err.Error(), StartedAt: now, FinishedAt: now}}, nil
	}
	failpoint.Hit(failpoint.ShimSpawned)
	if err := writeOrder(shim.socket, order); err != nil {
		p.config.Log.Warn("a shim did not take its order", "error", err)
		shim.discard()
		return p.resume(ctx, cancelled, order.Dir, p.bootID, nil)
	}
	failpoint.Hit(failpoint.ShimOrdered)
	stopCancel := context.AfterFunc(cancelled, func() { _ = shim.process.Signal(unix.SIGTERM) })
	stopDetach := context.AfterFunc(ctx, func() { _ = shim.socket.SetReadDeadline(time.Unix(1, 0)) })
	exit, err := readExit(shim.socket)
	// A signal that may still be under way must not meet another script.
	reusable := stopCancel()
	reusable = stopDetach() && reusable && exit.Failure == ""
	switch {
	case err == nil && exit.Refused:
		shim.discard()
		return p.resume(ctx, cancelled, order.Dir, p.bootID, nil)
	case err == nil:
		failpoint.Hit(failpoint.ExitReceived)
		return ended{exit: exit, ran: exit.Failure == "", journaled: func() {
			_, err := shim.socket.Write([]byte{1}) // a shim that does not hear it syncs
			failpoint.Hit(failpoint.ExitTold)
			if err != nil || !reusable || !p.keep(shim) {
				shim.discard()
			}
		}}, nil
	case ctx.Err() != nil:
		shim.socket.Close()
		_ = shim.process.Release()
		return ended{}, ErrDetached
	}
	shim.discard() // it is dead: its end of the socket is closed
	return p.resume(ctx, cancelled, order.Dir, p.bootID, nil)
}

// readExit reads the frame that a shim sends at the end.
func readExit(r io.Reader) (processExit, error) {
	buffer := make([]byte, 0, 1024)
	for {
		if _, payload, _, err := parseFrame(buffer); err == nil {
			return decodeExit(payload)
		}
		if len(buffer) == cap(buffer) {
			if len(buffer) > 64<<10 {
				return processExit{}, errBadFrame
			}
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := r.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if err != nil && n == 0 {
			return processExit{}, err
		}
	}
}

// interrupted begins each reason of a step that was interrupted.
const interrupted = "interrupted: "

// Sentences for steps whose end nobody saw.
const (
	interruptedReboot    = "interrupted: the machine was started anew while the script ran; its exit code is not known and it is not run again"
	interruptedShutdown  = "interrupted: the script was killed because its machine shut down, or somebody told its processes to end; it is not run again"
	interruptedBefore    = "interrupted: meshd, or the process that was to watch the script, ended before the script was started; it did not run and is not run again"
	interruptedDisplaced = "interrupted: the files of the job were deleted, or their file system was mounted anew, after the step was about to start; whether it ran is not known, and it is not run again"
	interruptedKilled    = "interrupted: the process that watched the script was killed; the script was killed too and is not run again"
	interruptedEnded     = "interrupted: the process that watched the script was killed; the script's exit code is not known and it is not run again"
)

// retryLock is how often a status file is looked at while a shim is just
// starting or ending; no event tells of that.
const retryLock = 20 * time.Millisecond

// resume finds the script of a step that was started earlier, waits for it if
// its shim is there, and ends what is left of it if not. A step that no shim has
// claimed did not run: begin, where it is not nil, makes the order to run it now. It
// must be nil on another boot than that on which the step was started, for what shims
// had written may be lost then. A shim with an order of an earlier meshd that comes
// late either claims the step first, and is waited for, or finds it claimed.
func (p *Processes) resume(ctx, cancelled context.Context, dir, bootID string, begin func() *shimOrder) (ended, error) {
	failpoint.Hit(failpoint.ResumeBegun)
	if begin != nil {
		unclaimed, err := unclaimed(dir)
		if err != nil {
			return ended{}, err
		}
		if unclaimed {
			p.config.Log.Info("a step that meshd was about to start when it ended is started now", "dir", dir)
			return p.run(ctx, cancelled, begin())
		}
	}
	for {
		log, locked, err := openStatus(dir)
		if err != nil {
			return ended{}, err
		}
		if locked {
			end, err := p.settle(log, bootID)
			log.close()
			return end, err
		}
		shim := log.Shim
		log.close()
		if err := p.await(ctx, cancelled, shim); err != nil {
			return ended{}, err
		}
	}
}

// await waits until a shim has ended, as far as can be told; it may return early.
func (p *Processes) await(ctx, cancelled context.Context, shim *processID) error {
	if shim != nil {
		if handle, ok := shim.open(); ok {
			return awaitProcess(ctx, cancelled, handle)
		}
		if cancelled.Err() != nil && shim.alive() {
			_ = unix.Kill(shim.PID, unix.SIGTERM) // only where the kernel has no process descriptors
		}
	}
	timer := time.NewTimer(retryLock)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ErrDetached
	}
}

func awaitProcess(ctx, cancelled context.Context, handle *os.File) error {
	defer handle.Close()
	conn, err := handle.SyscallConn()
	if err != nil {
		return err
	}
	stopCancel := context.AfterFunc(cancelled, func() {
		_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGTERM, nil, 0) })
	})
	defer stopCancel()
	stopDetach := context.AfterFunc(ctx, func() { handle.Close() })
	defer stopDetach()
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if ctx.Err() != nil {
		return ErrDetached
	}
	return err
}

// settle says how a step ended that has no shim any more, for good: the caller
// holds the lock, and a shim that comes late finds the step given up.
func (p *Processes) settle(log *statusLog, bootID string) (ended, error) {
	if log.Exit != nil {
		return ended{exit: *log.Exit, ran: log.Exit.Failure == ""}, nil
	}
	end := ended{interrupted: log.Abandoned, ran: log.Shim != nil}
	if end.interrupted != "" {
		return end, nil
	}
	switch {
	case bootID != p.bootID:
		end.interrupted, end.ran = interruptedReboot, true
	case log.Shim == nil:
		end.interrupted = interruptedBefore
	default:
		script := log.Script
		if script == nil {
			// The shim died between starting the script and writing that down.
			if found, ok := findSession(filepath.Join(filepath.Dir(log.file.Name()), scriptMark)); ok {
				script = &found
			}
		}
		end.interrupted = interruptedEnded
		if script != nil && log.BootID == p.bootID && script.killGroup() {
			end.interrupted = interruptedKilled
		}
	}
	if err := log.write(status{Abandoned: end.interrupted}); err != nil {
		return end, err
	}
	failpoint.Hit(failpoint.ResumeAbandoned)
	return end, nil
}
