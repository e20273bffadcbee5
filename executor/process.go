package executor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processID names a process for all time on one machine: the number alone is
// used again, the number with its start time is not, until the next boot.
type processID struct {
	PID int
	// Start is when it started, in clock ticks since boot (/proc/PID/stat, 22).
	Start uint64
}

const kernelBootID = "/proc/sys/kernel/random/boot_id"

// BootID names this boot of the machine, as the kernel has it.
func BootID() (string, error) { return readBootID(kernelBootID) }

// readBootID reads what names this boot of the machine.
func readBootID(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if id == "" || len(id) > 100 {
		return "", fmt.Errorf("read the boot id: %s has %d characters, not 1 to 100", path, len(id))
	}
	return id, nil
}

// processStat is what this package needs of /proc/PID/stat.
type processStat struct {
	State   byte
	Group   int
	Session int
	Start   uint64
}

// parseStat reads a line of /proc/PID/stat. The second field is the program's
// name in parentheses and may hold anything, parentheses too.
func parseStat(data []byte) (processStat, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return processStat{}, fmt.Errorf("parse process state %q", data)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return processStat{}, fmt.Errorf("parse process state: %d fields", len(fields))
	}
	group, err1 := strconv.Atoi(fields[2])
	session, err2 := strconv.Atoi(fields[3])
	start, err3 := strconv.ParseUint(fields[19], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return processStat{}, fmt.Errorf("parse process state %q", data)
	}
	return processStat{State: fields[0][0], Group: group, Session: session, Start: start}, nil
}

func statOf(pid int) (processStat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processStat{}, err
	}
	return parseStat(data)
}

// processIDOf returns the full name of a process that is known to be there.
func processIDOf(pid int) (processID, error) {
	stat, err := statOf(pid)
	if err != nil {
		return processID{}, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	return processID{PID: pid, Start: stat.Start}, nil
}

// alive reports whether exactly this process is there and not a zombie.
func (p processID) alive() bool {
	stat, err := statOf(p.PID)
	return err == nil && stat.Start == p.Start && stat.State != 'Z' && stat.State != 'X'
}

// open returns a descriptor of exactly this process, non-blocking and readable
// when the process has ended; false when it is gone or the kernel has no such
// descriptors (before 5.10).
func (p processID) open() (*os.File, bool) {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, false
	}
	// The number cannot change hands any more; did it before?
	if !p.alive() {
		unix.Close(fd)
		return nil, false
	}
	return os.NewFile(uintptr(fd), "process "+strconv.Itoa(p.PID)), true
}

// killGroup kills the process group that exactly this process leads, and
// reports whether it was there.
func (p processID) killGroup() bool {
	handle, ok := p.open()
	if ok {
		defer handle.Close()
		// While the leader is stopped it cannot end and its number cannot be used
		// again, so what is checked next stays true until the kill.
		if err := unix.PidfdSendSignal(int(handle.Fd()), unix.SIGSTOP, nil, 0); err != nil {
			return false
		}
	}
	if stat, err := statOf(p.PID); err != nil || stat.Start != p.Start || stat.Group != p.PID {
		return false
	}
	return unix.Kill(-p.PID, unix.SIGKILL) == nil
}

// findSession returns the session leader whose command line names path, a file
// that only one step of one job has.
func findSession(path string) (processID, bool) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return processID{}, false
	}
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(line, []byte(path)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		if stat, err := statOf(pid); err == nil && stat.Session == pid && stat.Group == pid && pid != os.Getpid() {
			return processID{PID: pid, Start: stat.Start}, true
		}
	}
	return processID{}, false
}
