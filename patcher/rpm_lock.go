package patcher

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// rpmLocks are the files that rpm locks while it changes its database, in the places
// where distributions have it.
var rpmLocks = []string{"/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock"}

// waitForDatabase returns when no program changes the packages: none has rpm's lock, and
// none that lives is named by the pid file. After Setup.LockWait it wraps ErrBusy.
func (h rpmHost) waitForDatabase(ctx context.Context, pidFile string) error {
	path, who, held := h.holder(pidFile)
	if !held {
		return nil
	}
	if h.setup.LockWait > 0 {
		fmt.Fprintf(h.setup.Log, "Waiting for %s, which %s holds.\n", path, who)
	}
	began := time.Now()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for time.Since(began) < h.setup.LockWait {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, which %s holds: %w", path, who, context.Cause(ctx))
		case <-poll.C:
		}
		if path, who, held = h.holder(pidFile); !held {
			return nil
		}
	}
	return busy(path, who, time.Since(began))
}

// holder tells which program changes the packages, and by which lock.
func (h rpmHost) holder(pidFile string) (path string, who holder, held bool) {
	for _, path := range rpmLocks {
		if who, held := lockHolder(h.file(path)); held {
			return path, who, true
		}
	}
	if who, held := pidFileHolder(h.file(pidFile)); pidFile != "" && held {
		return pidFile, who, true
	}
	return "", holder{}, false
}

// pidFileHolder tells who holds a lock of the kind that dnf, yum and libzypp have: a
// file with the number of a process. It is free when that process is gone.
func pidFileHolder(path string) (holder, bool) {
	data, err := os.ReadFile(path)
	if err != nil || len(data) > 64 {
		return holder{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return holder{}, false
	}
	if err := syscall.Kill(pid, 0); err == syscall.ESRCH {
		return holder{}, false
	}
	return nameHolder(pid), true
}
