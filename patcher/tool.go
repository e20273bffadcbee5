package patcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lineLimit is how many bytes of a line of output are kept.
	lineLimit = 4096
	// logLimit is how many bytes of one program's output go to the log; those who read
	// its lines get all.
	logLimit = 4 << 20
	// tailLines is how many of a program's last lines are kept to tell why it failed.
	tailLines = 60
	// stopGrace is how long a program that is asked to end may take; then it is killed.
	stopGrace = 2 * time.Second
	// pipeGrace is how long a program that has ended is waited for to let go of its
	// output: a daemon that a package started may keep it.
	pipeGrace = time.Second
)

// errLimit is wrapped where a program took longer than it may.
var errLimit = errors.New("it took too long and was ended")

// errOutput is wrapped where a reader of a program's output gave up.
var errOutput = errors.New("cannot read the output")

// tool is one run of a program of the package manager: without a terminal, in a
// session of its own, with LC_ALL=C.UTF-8.
type tool struct {
	// Root is the directory the program sees as its root; "" and "/" are the machine's.
	Root string
	Name string // searched for on the usual PATH, in Root
	Args []string
	Env  []string // added to the usual environment
	// Line gets each line of the output; of standard output alone where Stdout is nil.
	// It is not called at the same time.
	Line func(line string)
	// Stdout reads standard output as it comes, instead of Line; it is not logged.
	Stdout func(io.Reader) error
	// Log gets what Line gets, and standard error; nil: nobody.
	Log io.Writer
	// Whole: the program changes the machine, so it is not ended with ctx, only by Limit;
	// and when this process is killed it goes on, since its output goes to memory of its
	// own and not to a pipe that breaks. Stdout is not for it.
	Whole bool
	// Limit is how long it may take, 0: as long as it likes.
	Limit time.Duration
}

// outcome is how a program ended by itself.
type outcome struct {
	Code int
	// Tail has the last lines of its output.
	Tail []string
}

// lastWords is the end of what a program printed, as one sentence.
func (o outcome) lastWords() string {
	var words []string
	for _, line := range o.Tail[max(0, len(o.Tail)-5):] {
		if line = strings.TrimSpace(line); line != "" {
			words = append(words, line)
		}
	}
	if len(words) == 0 {
		return fmt.Sprintf("exit status %d", o.Code)
	}
	return strings.Join(words, "; ")
}

// run runs the program to its end. Its exit status is no error; that it could not
// be started or was ended is. With it all its children end, but those that have made
// themselves a session of their own.
func (t tool) run(ctx context.Context) (outcome, error) {
	var result outcome
	path, err := t.find()
	if err != nil {
		return result, err
	}
	if err := ctx.Err(); err != nil {
		return result, fmt.Errorf("run %s: %w", t.Name, err)
	}
	running := context.WithoutCancel(ctx)
	if !t.Whole {
		running = ctx
	}
	stop := func() {}
	if t.Limit > 0 {
		running, stop = context.WithTimeoutCause(running, t.Limit, errLimit)
	}
	defer stop()

	lines := &lineWriter{line: t.Line, log: t.Log}
	command := exec.CommandContext(running, path, t.Args...)
	command.Env = append(toolEnvironment(os.Environ()), t.Env...)
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if t.Root != "" && filepath.Clean(t.Root) != "/" {
		command.SysProcAttr.Chroot = t.Root
	}
	command.Stdout, command.Stderr = lines, lines
	var read chan error
	var pipe *os.File
	if t.Stdout != nil {
		reader, writer, err := os.Pipe()
		if err != nil {
			return result, fmt.Errorf("run %s: %w", t.Name, err)
		}
		command.Stdout, pipe = writer, reader
		defer reader.Close()
		defer writer.Close()
		read = make(chan error, 1)
		go func() {
			err := t.Stdout(reader)
			// What is not read any more must not block the program.
			io.Copy(io.Discard, reader)
			read <- err
		}()
	}
	ended := make(chan struct{})
	followed := make(chan struct{})
	if t.Whole {
		output, err := newOutput()
		if err != nil {
			return result, fmt.Errorf("run %s: %w", t.Name, err)
		}
		defer output.Close()
		command.Stdout, command.Stderr = output, output
		go func() {
			defer close(followed)
			follow(output, lines, ended)
		}()
	} else {
		close(followed)
	}
	command.Cancel = func() error {
		group := -command.Process.Pid
		go func() {
			select {
			case <-ended:
			case <-time.After(stopGrace):
				syscall.Kill(group, syscall.SIGKILL)
			}
		}()
		return syscall.Kill(group, syscall.SIGTERM)
	}
	command.WaitDelay = stopGrace + pipeGrace
	err = command.Start()
	if err == nil {
		err = command.Wait()
		if running.Err() != nil {
			// Children may have outlived their parent.
			syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		}
	}
	close(ended)
	<-followed
	if pipe != nil {
		command.Stdout.(*os.File).Close()
		pipe.SetReadDeadline(time.Now().Add(pipeGrace))
		if failed := <-read; failed != nil && err == nil {
			err = fmt.Errorf("%w: %w", errOutput, failed)
		}
	}
	lines.close()
	result.Tail = lines.tail
	if command.ProcessState != nil {
		result.Code = command.ProcessState.ExitCode()
	}
	var status *exec.ExitError
	switch {
	case running.Err() != nil:
		return result, fmt.Errorf("run %s: %w", t.Name, context.Cause(running))
	case errors.Is(err, exec.ErrWaitDelay):
		return result, nil // it has ended; a daemon that it left holds its output
	case errors.As(err, &status):
		if !status.Exited() {
			return result, fmt.Errorf("run %s: %w", t.Name, err)
		}
		return result, nil
	case err != nil:
		return result, fmt.Errorf("run %s: %w", t.Name, err)
	}
	return result, nil
}

// newOutput is a file in memory.
func newOutput() (*os.File, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make room for output: %w", err)
	}
	return os.NewFile(uintptr(fd), "output"), nil
}

const (
	// followEvery is how often a growing output is read. Shorter: lines come sooner, for
	// one system call each time.
	followEvery = 50 * time.Millisecond
	// freeEvery is how many bytes of output that were read are kept in memory.
	freeEvery = 1 << 20
)

// follow reads what programs write to a file until they have ended.
func follow(output *os.File, to io.Writer, ended <-chan struct{}) {
	buffer := make([]byte, 32<<10)
	var read, freed int64
	look := time.NewTicker(followEvery)
	defer look.Stop()
	for last := false; ; {
		n, err := output.ReadAt(buffer, read)
		if n > 0 {
			to.Write(buffer[:n])
			read += int64(n)
			if read-freed >= freeEvery {
				unix.Fallocate(int(output.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, freed, read-freed)
				freed = read
			}
			continue
		}
		if last || err != nil && err != io.EOF {
			return
		}
		select {
		case <-ended:
			last = true
		case <-look.C:
		}
	}
}

// toolPath is where package managers live.
var toolPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// find returns the program's path within Root.
func (t tool) find() (string, error) {
	if strings.HasPrefix(t.Name, "/") {
		return t.Name, nil
	}
	for _, dir := range toolPath {
		path := filepath.Join(dir, t.Name)
		info, err := os.Stat(filepath.Join("/", t.Root, path))
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", t.Name, exec.ErrNotFound)
}

// toolEnvironment is what a program gets of this process' environment: all but what
// would change its language or make it speak to systemd in our name.
func toolEnvironment(own []string) []string {
	kept := slices.DeleteFunc(slices.Clone(own), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		switch name {
		case "LANG", "LANGUAGE", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "DISPLAY", "PATH", "HOME", "TERM":
			return true
		}
		return strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "MESHD_")
	})
	return append(kept, "PATH="+strings.Join(toolPath, ":"), "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8")
}

// lineWriter makes lines of a program's output. What a carriage return overwrites
// (progress) is dropped.
type lineWriter struct {
	line func(string)
	log  io.Writer

	mu     sync.Mutex
	rest   []byte
	cut    bool // of the line in rest, what is beyond lineLimit is dropped
	logged int
	tail   []string
}

func (w *lineWriter) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	length := len(data)
	for len(data) > 0 {
		end := bytes.IndexAny(data, "\n\r")
		part, ends := data, false
		if end >= 0 {
			part, ends = data[:end], true
		}
		if room := lineLimit - len(w.rest); len(part) > room {
			part, w.cut = part[:room], true
		}
		w.rest = append(w.rest, part...)
		if !ends {
			break
		}
		if data[end] == '\n' {
			w.flush()
		} else if end+1 < len(data) && data[end+1] != '\n' {
			w.rest, w.cut = w.rest[:0], false
		}
		data = data[end+1:]
	}
	return length, nil
}

func (w *lineWriter) flush() {
	line := strings.ToValidUTF8(string(w.rest), "\uFFFD")
	if w.cut {
		line += " …"
	}
	w.rest, w.cut = w.rest[:0], false
	w.tail = append(w.tail, line)
	if len(w.tail) > tailLines {
		w.tail = slices.Delete(w.tail, 0, len(w.tail)-tailLines)
	}
	if w.line != nil {
		w.line(line)
	}
	if w.log == nil || w.logged > logLimit {
		return
	}
	w.logged += len(line) + 1
	if w.logged > logLimit {
		line = fmt.Sprintf("… more than %d MiB of output; the rest is left out", logLimit>>20)
	}
	fmt.Fprintln(w.log, line)
}

// close takes what is left for a line.
func (w *lineWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.flush()
	}
}
