package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// statusFile is the name of the file in a step's directory that says how far
// its process is. It is a row of frames, each a [status]; whoever holds its lock
// (flock) may write. The shim holds the lock from its first act to its end, so
// the lock tells whether a shim is there, whatever became of process ids; and
// whoever gets the lock decides for good: a shim that finds the step given up
// starts nothing.
const statusFile = "status"

// status is one frame of the status file.
type status struct {
	// Shim is in the first frame of a shim: it will start the script next.
	Shim *processID `json:",omitempty"`
	// Script is the script's main process, leader of its session and group.
	Script *processID `json:",omitempty"`
	// BootID is in the frame with Shim: ids of processes mean something only then.
	BootID string `json:",omitempty"`
	// Exit is the last frame of a shim.
	Exit *processExit `json:",omitempty"`
	// Abandoned is written by meshd: the step ended in this way, and no shim may
	// start it any more.
	Abandoned string `json:",omitempty"`
}

// Reasons why a shim killed its script.
const (
	killedTimeout = "timeout"
	killedExpired = "expired"
	killedCancel  = "cancel"
)

// processExit is how a script ended.
type processExit struct {
	// Code is the exit code; 128 + Signal when a signal ended it.
	Code   int
	Signal int `json:",omitempty"`
	// Killed is why the shim killed it, empty when it did not.
	Killed     string `json:",omitempty"`
	StartedAt  time.Time
	FinishedAt time.Time
	// Failure is set when the script could not be started: nothing ran.
	Failure string `json:",omitempty"`
	// Refused is set, with Failure, when the step is another shim's or was given up.
	Refused bool `json:",omitempty"`
	// OutputFailure is why output could not be kept, where that happened.
	OutputFailure string `json:",omitempty"`
	// OutputCut is why not all of an output was kept, where all went well.
	OutputCut string `json:",omitempty"`
}

// statusLog is an open status file.
type statusLog struct {
	file   *os.File
	size   int64
	frames uint64
	// status is the sum of the frames.
	status
}

// openStatus opens a step's status file, makes it when it is missing, takes its
// lock if it is free and reads it.
func openStatus(dir string) (log *statusLog, locked bool, err error) {
	file, err := os.OpenFile(filepath.Join(dir, statusFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open the step's status: %w", err)
	}
	log = &statusLog{file: file}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && err != unix.EWOULDBLOCK {
		file.Close()
		return nil, false, fmt.Errorf("lock the step's status: %w", err)
	}
	locked = err == nil
	data, err := os.ReadFile(file.Name())
	if err != nil {
		file.Close()
		return nil, false, fmt.Errorf("read the step's status: %w", err)
	}
	log.parse(data)
	return log, locked, nil
}

// unclaimed reports whether no shim has claimed a step and meshd has not given it
// up. It takes no lock, which a shim must find free.
func unclaimed(dir string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, statusFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("read the step's status: %w", err)
	}
	var log statusLog
	log.parse(data)
	return log.frames == 0, nil
}

// parse reads frames as far as they are sound. What follows is torn: the file
// need not be synced, since what it says matters beyond this boot only with its
// last frame.
func (l *statusLog) parse(data []byte) {
	good, frames, _, _ := scanFrames(data, func(payload []byte) error {
		var s status
		if err := json.Unmarshal(payload, &s); err != nil {
			return err
		}
		l.add(s)
		return nil
	})
	l.size, l.frames = int64(good), frames
}

func (l *statusLog) add(s status) {
	if s.Shim != nil {
		l.Shim, l.BootID = s.Shim, s.BootID
	}
	if s.Script != nil {
		l.Script = s.Script
	}
	if s.Exit != nil {
		l.Exit = s.Exit
	}
	if s.Abandoned != "" {
		l.Abandoned = s.Abandoned
	}
}

// write adds a frame; only the holder of the lock may.
func (l *statusLog) write(s status) error {
	payload, err := json.Marshal(s)
	if err != nil {
		return err
	}
	frame := appendFrame(nil, l.frames+1, payload)
	if _, err := l.file.WriteAt(frame, l.size); err != nil {
		return fmt.Errorf("write the step's status: %w", err)
	}
	l.size += int64(len(frame))
	l.frames++
	l.add(s)
	return nil
}

// sync makes the file durable, with the directories that lead to it: depth of
// them, and that of all jobs.
func (l *statusLog) sync(depth int) error {
	dir := filepath.Dir(l.file.Name())
	// The outputs first: the result is read from them.
	for _, name := range []string{"stdout", "stderr"} {
		if err := syncFile(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	for range depth + 1 {
		if err := (osDisk{}).syncDir(dir); err != nil {
			return err
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// close lets go of the lock.
func (l *statusLog) close() { l.file.Close() }

func decodeExit(payload []byte) (processExit, error) {
	var exit processExit
	if err := json.Unmarshal(payload, &exit); err != nil {
		return processExit{}, fmt.Errorf("read how a script ended: %w", err)
	}
	return exit, nil
}
