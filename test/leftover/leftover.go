// Package leftover lets tests see which processes they have left behind: scripts
// and shims go on without the program that has started them, that is their purpose.
package leftover

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long processes that are about to end may take for it on a busy
// machine; pause is between two looks.
const (
	patience = 30 * time.Second
	pause    = 10 * time.Millisecond
)

// None waits until no other process has to do with the directory. Those that stay
// make the test fail, and are killed.
func None(t testing.TB, dir string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		left := Of(dir)
		if len(left) == 0 {
			return
		}
		if time.Now().Before(deadline) && !t.Failed() {
			continue
		}
		for pid, command := range left {
			t.Errorf("process %d is left behind: %s", pid, command)
			// A script leads a group, with all that it has started.
			_ = errors.Join(syscall.Kill(-pid, syscall.SIGKILL), syscall.Kill(pid, syscall.SIGKILL)) // it may have ended by now
		}
		return
	}
}

// Of returns the command lines of all other processes that name the directory or a
// file in it in their arguments or environment, have one open, or work there.
func Of(dir string) map[int]string {
	left := map[int]string{}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil || pid == os.Getpid() || !concerns(process, dir) {
			continue
		}
		command, err := os.ReadFile(process + "/cmdline")
		if err == nil && len(command) > 0 { // else it has ended
			left[pid] = fmt.Sprintf("%q", strings.Split(strings.TrimRight(string(command), "\x00"), "\x00"))
		}
	}
	return left
}

func concerns(process, dir string) bool {
	for _, name := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(filepath.Join(process, name)) // strings, each ends with a zero
		if err == nil && (bytes.Contains(data, []byte(dir+"/")) || bytes.Contains(data, []byte(dir+"\x00"))) {
			return true
		}
	}
	links, _ := filepath.Glob(process + "/fd/*")
	for _, link := range append(links, process+"/cwd") {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to+"/", dir+"/") {
			return true
		}
	}
	return false
}
