package patcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHoldLock is no test: holdLock starts it as a process that holds a lock.
func TestHoldLock(t *testing.T) {
	path := os.Getenv("PATCHER_TEST_LOCK")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("PATCHER_TEST_FLOCK") != "" {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	} else {
		err = unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.Write([]byte("+"))
	io.Copy(io.Discard, os.Stdin)
	file.Close()
}

func TestTheHolderOfALockIsNamed(t *testing.T) {
	for _, kind := range []string{"fcntl", "flock"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "flock" {
				t.Setenv("PATCHER_TEST_FLOCK", "1")
			}
			path := filepath.Join(t.TempDir(), "lock")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if who, held := lockHolder(path); held {
				t.Fatalf("a free lock is held by %s", who)
			}
			pid, release := holdLock(t, path)
			who, held := lockHolder(path)
			if !held || who.Pid != pid || !strings.Contains(who.Command, "-test.run=^TestHoldLock$") {
				t.Errorf("the holder is %+v, %t; want pid %d", who, held, pid)
			}
			err := waitForLocks(t.Context(), []string{path}, 0, io.Discard)
			if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d) holds %s", pid, path)) {
				t.Errorf("without a wait: %v", err)
			}
			release()
			if err := waitForLocks(t.Context(), []string{path}, 0, io.Discard); err != nil {
				t.Errorf("after its end: %v", err)
			}
		})
	}
}

func TestLocksOfProc(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 411 fd:01:1312 0 EOF
2: FLOCK  ADVISORY  WRITE 77 fd:01:1313 0 EOF
2: -> FLOCK  ADVISORY  WRITE 78 fd:01:1313 0 EOF
3: OFDLCK ADVISORY  WRITE -1 fd:01:1314 0 EOF
garbage
`
	for _, c := range []struct {
		inode uint64
		pid   int
		held  bool
	}{{1312, 411, true}, {1313, 77, true}, {1314, 0, true}, {1315, 0, false}} {
		if pid, held := findLock(strings.NewReader(locks), "fd:01", c.inode); pid != c.pid || held != c.held {
			t.Errorf("inode %d: %d, %t", c.inode, pid, held)
		}
	}
}
