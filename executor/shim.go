package executor

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/internal/failpoint"
)

// A shim is a process of this same program between meshd and one script. It is
// started by meshd in a session of its own, reads what to do from descriptor 3
// and from then on needs nobody: it starts the script in another session and
// process group, keeps its outputs, its time limit and its exit status, whether
// meshd lives or not. It is the script's parent and reaps it last of all, so the
// group that it kills is the script's, always.

// ShimCommand is the first argument of a shim's process.
const ShimCommand = "shim"

const (
	// shimVersion is that of shimOrder. A shim is always of the version of the
	// meshd that starts it, also when the program's file is replaced meanwhile.
	shimVersion = 1
	// shimSocket is the descriptor of the connection with meshd.
	shimSocket = 3
	// drainTime is how long outputs are read on after the script's main process
	// has ended, when a child of it holds them open.
	drainTime = time.Second
	// takeoverTime is how long the shim waits for meshd to journal the exit; after
	// it, or when meshd is gone, the shim makes the status file durable itself.
	takeoverTime = 10 * time.Second
	scriptName   = "_script.sh"
	// scriptMark begins the name of each script's file: meshd finds an orphan by it.
	scriptMark = "_script."
)

// shimOrder is what meshd tells a shim to do. On the wire it is JSON behind its
// length in 4 bytes, little endian. A shim that has done one waits for the next.
type shimOrder struct {
	Version int
	// Dir is the run's directory; it is there.
	Dir string
	// Depth is how many directories lead to Dir, from that of all jobs on; default
	// 2: the job's and the step's.
	Depth int
	// OutputDir is where the outputs go, behind those of earlier runs; default Dir.
	OutputDir string
	// Script is the content of the script's file, whose name, default scriptName,
	// begins with scriptMark; Interpreter, where it is set, is the command line to
	// which the file's path is added.
	Script      string
	ScriptName  string
	Interpreter []string
	Env         []string
	WorkingDir  string
	// Timeout is the step's; Expiry how long the command still lives. The shorter
	// one counts, on a clock that is not set.
	Timeout time.Duration
	Expiry  time.Duration
	// OutputLimit is how many bytes of each output stream are kept.
	OutputLimit int64
	// FreeSpace is how many bytes of the disk must stay free: outputs that would take
	// them are not kept beyond AlwaysKept.
	FreeSpace uint64
	BootID    string
}

// ShimMain is the main function of a shim; args are those behind ShimCommand.
// It returns the process's exit status.
func ShimMain(args []string) int {
	socket := os.NewFile(shimSocket, "meshd")
	syscall.CloseOnExec(shimSocket)
	// What can be done ahead is done before the order comes: a spare has the time.
	s, err := newShim()
	if err != nil {
		return 1
	}
	for {
		order, err := readOrder(socket)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return 0 // a spare that is needed no more
			}
			fmt.Fprintln(os.Stderr, "meshd shim:", err, "(a shim is started by meshd only)")
			return 2
		}
		failpoint.Hit(failpoint.ShimUnclaimed)
		heard, err := s.claim(socket, order)
		if err != nil {
			// Nothing was started: meshd hears why, if it is there.
			now := time.Now().UTC()
			handOver(socket, processExit{Code: 1, StartedAt: now, FinishedAt: now, Failure: err.Error(), Refused: errors.Is(err, errNotOurs)})
			return 1
		}
		if !heard {
			return 0
		}
		// meshd is there and has the end in its journal: it may have another order.
	}
}

func readOrder(r io.Reader) (*shimOrder, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(length[:])
	if size > maxOrder {
		return nil, fmt.Errorf("an order of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, io.EOF // meshd ended while it wrote: nothing is to be done
	}
	var order shimOrder
	if err := json.Unmarshal(data, &order); err != nil {
		return nil, fmt.Errorf("read the order: %w", err)
	}
	if order.Version != shimVersion {
		return nil, fmt.Errorf("the order has version %d, this shim %d", order.Version, shimVersion)
	}
	return &order, nil
}

const maxOrder = 16 << 20

func writeOrder(w io.Writer, order *shimOrder) error {
	data, err := json.Marshal(order)
	if err != nil {
		return err
	}
	if len(data) > maxOrder {
		return fmt.Errorf("the script and its environment have %d bytes, more than %d", len(data), maxOrder)
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

var errNotOurs = errors.New("the step is another's, or was given up")

// claim claims the step, runs its script and says how it ended; heard is set when
// meshd has that in its journal. An error means that nothing was started.
func (s *shim) claim(socket *os.File, order *shimOrder) (heard bool, err error) {
	log, locked, err := openStatus(order.Dir)
	if err != nil {
		return false, err
	}
	defer log.close()
	if !locked || log.Shim != nil || log.Abandoned != "" || log.Exit != nil {
		return false, errNotOurs
	}
	if err := log.write(status{Shim: &s.self, BootID: order.BootID}); err != nil {
		return false, err
	}
	failpoint.Hit(failpoint.ShimClaimed)
	s.order, s.log = order, log
	exit := s.run()
	// The first frame has taken the file's first block, so a full disk does not
	// stop these; if all fails, meshd still hears it.
	written := log.write(status{Exit: &exit})
	failpoint.Hit(failpoint.ExitWritten)
	if heard = handOver(socket, exit); !heard && written == nil {
		failpoint.Hit(failpoint.ExitUnsynced)
		_ = log.sync(cmp.Or(s.order.Depth, 2)) // nobody is left to tell; unsynced it holds until the power goes
		failpoint.Hit(failpoint.ExitSynced)
	}
	return heard, nil
}

// handOver tells meshd how the script ended and returns true once meshd has
// that in its journal.
func handOver(socket *os.File, exit processExit) bool {
	payload, err := json.Marshal(exit)
	if err != nil {
		return false
	}
	message := appendFrame(nil, 1, payload)
	if err := unix.Sendto(shimSocket, message, unix.MSG_NOSIGNAL, nil); err != nil {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(socket.Fd()), Events: unix.POLLIN}}
	if n, err := poll(fds, time.Now().Add(takeoverTime)); err != nil || n == 0 {
		return false
	}
	var answer [1]byte
	n, err := unix.Read(int(socket.Fd()), answer[:])
	return err == nil && n == 1
}

// shim is the state of a running shim: one loop, no goroutines but the signals'.
type shim struct {
	self  processID
	order *shimOrder
	log   *statusLog
	wake  [2]int // a pipe: signals write, the loop reads
	// buffer is what outputs are copied through; made once, or each script's end would
	// be near a collection of garbage.
	buffer []byte
}

// newShim takes signals over; a cancel that comes before the script is kept.
func newShim() (*shim, error) {
	s := &shim{buffer: make([]byte, 64<<10)}
	var err error
	if s.self, err = processIDOf(os.Getpid()); err != nil {
		return nil, err
	}
	if err := unix.Pipe2(s.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGCHLD)
	go func() { // lives as long as the process
		for sig := range signals {
			mark := byte('c')
			if sig == unix.SIGCHLD {
				mark = 'w'
			}
			unix.Write(s.wake[1], []byte{mark})
		}
	}()
	return s, nil
}

// run runs the script from start to end.
func (s *shim) run() processExit {
	exit := processExit{StartedAt: time.Now().UTC()}
	var outputs [2]stream
	pid, err := s.start(&outputs)
	if err != nil {
		exit.Failure = err.Error()
		exit.Code = 1
		exit.FinishedAt = exit.StartedAt
		return exit
	}
	failpoint.Hit(failpoint.ScriptStarted)
	script, err := processIDOf(pid) // it is there: nobody else can reap it
	if err == nil {
		_ = s.log.write(status{Script: &script}) // without it, meshd finds an orphan by its command line
	}
	failpoint.Hit(failpoint.ScriptNoted)
	exit.Killed, exit.FinishedAt = s.watch(pid, &outputs)
	failpoint.Hit(failpoint.ScriptExited)

	var wait unix.WaitStatus
	for {
		if _, err = unix.Wait4(pid, &wait, 0, nil); err != unix.EINTR {
			break
		}
	}
	if wait.Signaled() {
		exit.Signal = int(wait.Signal())
		exit.Code = 128 + exit.Signal
	} else {
		exit.Code = wait.ExitStatus()
	}
	for i := range outputs {
		outputs[i].close()
		if outputs[i].failure != nil && exit.OutputFailure == "" {
			exit.OutputFailure = outputs[i].failure.Error()
		}
		if outputs[i].cut != "" && exit.OutputCut == "" {
			exit.OutputCut = filepath.Base(outputs[i].path) + ": " + outputs[i].cut
		}
	}
	failpoint.Hit(failpoint.ScriptReaped)
	return exit
}

// start writes the script's file and starts it. Only the shim writes that file:
// in a process that starts others at the same time, one of them could hold it
// open and make the kernel refuse to execute it.
func (s *shim) start(outputs *[2]stream) (pid int, err error) {
	path := filepath.Join(s.order.Dir, cmp.Or(s.order.ScriptName, scriptName))
	if err := os.WriteFile(path, []byte(s.order.Script), 0o700); err != nil {
		return 0, fmt.Errorf("write the script: %w", err)
	}
	if info, err := os.Stat(s.order.WorkingDir); err != nil || !info.IsDir() {
		return 0, fmt.Errorf("the working directory %s is not there", s.order.WorkingDir)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	var ends [2]int // the script's
	for i, name := range []string{"stdout", "stderr"} {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return 0, fmt.Errorf("make a pipe: %w", err)
		}
		unix.SetNonblock(pipe[0], true)
		outputs[i] = stream{fd: pipe[0], path: filepath.Join(cmp.Or(s.order.OutputDir, s.order.Dir), name), limit: s.order.OutputLimit, floor: s.order.FreeSpace, free: FreeBytes}
		ends[i] = pipe[1]
		defer unix.Close(pipe[1])
	}
	// What meshd's own unit sets for itself is not the script's.
	unix.Umask(0o022)
	restore := clearOOMAdjustment()
	defer restore()
	failpoint.Hit(failpoint.ScriptUnstarted)
	for _, argv := range commandLines(s.order, path) {
		pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
			Dir:   s.order.WorkingDir,
			Env:   s.order.Env,
			Files: []uintptr{null.Fd(), uintptr(ends[0]), uintptr(ends[1])},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
		if err == nil {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("start %s in %s: %w", cmp.Or(strings.Join(s.order.Interpreter, " "), "/bin/sh"), s.order.WorkingDir, err)
}

// commandLines are the ways to do what SSM's agent does by `sh -c FILE`, best
// first: a file with a #! line is executed, any other is read by sh. Doing so
// directly saves one process of two. Where the kernel refuses the #! line, the
// shell itself says so, as it would have.
func commandLines(order *shimOrder, path string) [][]string {
	if len(order.Interpreter) > 0 {
		return [][]string{append(slices.Clip(order.Interpreter), path)}
	}
	if strings.HasPrefix(order.Script, "#!") {
		return [][]string{{path}, {"/bin/sh", "-c", path}}
	}
	return [][]string{{"/bin/sh", path}}
}

// clearOOMAdjustment makes a child be born without meshd's protection from the
// kernel's memory killer; the returned function takes it back for the shim.
func clearOOMAdjustment() (restore func()) {
	const path = "/proc/self/oom_score_adj"
	old, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(old), "-") {
		return func() {}
	}
	if os.WriteFile(path, []byte("0"), 0) != nil {
		return func() {}
	}
	return func() { _ = os.WriteFile(path, old, 0) } // without it the shim is only less protected
}

// watch copies outputs, keeps the time limits and obeys a cancel until the
// script's main process has ended and its outputs are read. The process is not
// reaped here.
func (s *shim) watch(pid int, outputs *[2]stream) (killed string, finished time.Time) {
	limit, reason := s.order.Timeout, killedTimeout
	if s.order.Expiry < limit {
		limit, reason = s.order.Expiry, killedExpired
	}
	deadline := time.Now().Add(limit)
	kill := func(why string) {
		if killed == "" && finished.IsZero() {
			killed = why
			_ = unix.Kill(-pid, unix.SIGKILL) // ESRCH cannot be: the leader is not reaped
		}
	}
	var fds [3]unix.PollFd
	for {
		if finished.IsZero() && hasExited(pid) {
			finished = time.Now()
		}
		until := deadline
		switch {
		case !finished.IsZero():
			if outputs[0].ended && outputs[1].ended {
				return killed, finished.UTC()
			}
			until = finished.Add(drainTime)
			if !time.Now().Before(until) {
				return killed, finished.UTC()
			}
		case killed != "":
			until = time.Time{} // only the end is left to wait for
		case !time.Now().Before(deadline):
			kill(reason)
			continue
		}
		fds = [3]unix.PollFd{{Fd: int32(s.wake[0]), Events: unix.POLLIN}, {Fd: -1}, {Fd: -1}}
		for i := range outputs {
			if !outputs[i].ended {
				fds[1+i] = unix.PollFd{Fd: int32(outputs[i].fd), Events: unix.POLLIN}
			}
		}
		if _, err := poll(fds[:], until); err != nil {
			continue
		}
		if fds[0].Revents != 0 {
			n, _ := unix.Read(s.wake[0], s.buffer)
			if strings.Contains(string(s.buffer[:max(n, 0)]), "c") {
				kill(killedCancel)
			}
		}
		for i := range outputs {
			if fds[1+i].Revents != 0 {
				outputs[i].copy(s.buffer)
			}
		}
	}
}

// hasExited reports whether a child has ended, without reaping it.
func hasExited(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

// poll waits for a descriptor until a moment, forever for the zero one.
func poll(fds []unix.PollFd, until time.Time) (int, error) {
	for {
		timeout := -1
		if !until.IsZero() {
			left := min(max(time.Until(until), 0), time.Hour)
			timeout = int((left + time.Millisecond - 1) / time.Millisecond)
		}
		n, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		return n, err
	}
}
