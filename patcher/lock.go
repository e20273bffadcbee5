package patcher

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a lock is looked at that another program holds. Shorter:
// the run begins sooner after it; each look is a few system calls.
const lockPoll = 200 * time.Millisecond

// holder is a process that holds a lock.
type holder struct {
	Pid     int    // 0: it cannot be seen from here
	Command string // its command line
}

func (h holder) String() string {
	if h.Pid == 0 {
		return "a process that cannot be seen from here"
	}
	return fmt.Sprintf("%s (pid %d)", h.Command, h.Pid)
}

// lockHolder tells who holds the lock on a file, by fcntl or flock. What cannot be
// found out, as by others than root, counts as free.
func lockHolder(path string) (holder, bool) {
	file, err := os.Open(path)
	if err != nil {
		return holder{}, false
	}
	defer file.Close()
	// The kernel's answer is in terms of the file itself, which /proc/locks, by device
	// and inode, is not on every file system.
	asked := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &asked); err == nil && asked.Type != unix.F_UNLCK {
		return nameHolder(max(0, int(asked.Pid))), true
	}
	info, err := file.Stat()
	if err != nil {
		return holder{}, false
	}
	status, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return holder{}, false
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return holder{}, false
	}
	defer locks.Close()
	device := fmt.Sprintf("%02x:%02x", unix.Major(uint64(status.Dev)), unix.Minor(uint64(status.Dev)))
	if pid, held := findLock(locks, device, status.Ino); held {
		return nameHolder(pid), true
	}
	return holder{}, false
}

// findLock searches /proc/locks for a lock on a file:
//
//	1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
//
// Lines with an arrow are of those who wait.
func findLock(locks io.Reader, device string, inode uint64) (pid int, held bool) {
	wanted := device + ":" + strconv.FormatUint(inode, 10)
	for scanner := bufio.NewScanner(locks); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 6 || fields[1] == "->" || fields[5] != wanted {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err != nil || pid < 0 {
			pid = 0
		}
		return pid, true
	}
	return 0, false
}

func nameHolder(pid int) holder {
	if pid <= 0 {
		return holder{}
	}
	h := holder{Pid: pid, Command: "a process"}
	directory := filepath.Join("/proc", strconv.Itoa(pid))
	if line, err := os.ReadFile(filepath.Join(directory, "cmdline")); err == nil && len(line) > 0 {
		text := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		if runes := []rune(text); len(runes) > 120 {
			text = string(runes[:120]) + "…"
		}
		h.Command = text
	} else if name, err := os.ReadFile(filepath.Join(directory, "comm")); err == nil {
		h.Command = strings.TrimSpace(string(name))
	}
	return h
}

// anyLock returns the first of the files that is locked.
func anyLock(paths []string) (path string, who holder, held bool) {
	for _, path := range paths {
		if who, held := lockHolder(path); held {
			return path, who, true
		}
	}
	return "", holder{}, false
}

// waitForLocks returns when none of the files is locked, and wraps ErrBusy when one
// still is after wait.
func waitForLocks(ctx context.Context, paths []string, wait time.Duration, log io.Writer) error {
	path, who, held := anyLock(paths)
	if !held {
		return nil
	}
	if wait > 0 {
		fmt.Fprintf(log, "Waiting for %s, which %s holds.\n", path, who)
	}
	began := time.Now()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for time.Since(began) < wait {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, which %s holds: %w", path, who, context.Cause(ctx))
		case <-poll.C:
		}
		if path, who, held = anyLock(paths); !held {
			return nil
		}
	}
	return busy(path, who, time.Since(began))
}

func busy(path string, who holder, waited time.Duration) error {
	if waited < time.Second {
		return fmt.Errorf("%w: %s holds %s", ErrBusy, who, path)
	}
	return fmt.Errorf("%w: %s holds %s, still after %s", ErrBusy, who, path, waited.Round(time.Second))
}
