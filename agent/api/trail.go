package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxTrail is how long the local audit file grows, in bytes, before it becomes the
// old one (name and ".1"), which replaces the one before it. Larger looks further
// back and costs twice as much disk.
const maxTrail = 8 << 20

// trail is the local audit file of reads and denials: one JSON object a line.
// What changes the store is audited there, in the change's own transaction. It is
// a record for people and not a promise: a line is not synced, and one that
// cannot be written is dropped, with a word in the log.
type trail struct {
	path  string
	limit int64
	log   *slog.Logger

	mu     sync.Mutex
	failed bool // guarded by mu: the log has been told
}

// trailEntry is a line.
type trailEntry struct {
	Time      time.Time
	RequestID string
	Operation string `json:",omitempty"`
	Caller    string `json:",omitempty"`
	SourceIP  string `json:",omitempty"`
	// Outcome is "ok" or the error's name.
	Outcome string
}

const outcomeOK = "ok"

func (t *trail) note(e trailEntry) {
	if t.path == "" {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		err = t.append(append(line, '\n'))
		if err == nil {
			t.failed = false
			return
		}
		if t.failed {
			return
		}
		t.failed = true
	}
	t.log.Warn("write the local audit file", "error", err)
}

// append opens the file anew for each line, so that it can be moved away at any
// time and the face holds nothing that must be closed. mu is held.
func (t *trail) append(line []byte) error {
	info, err := os.Stat(t.path)
	switch {
	case err == nil && info.Size()+int64(len(line)) > t.limit:
		if err := os.Rename(t.path, t.path+".1"); err != nil {
			return fmt.Errorf("put the full file aside: %w", err)
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	file, err := os.OpenFile(t.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(line)
	return errors.Join(err, file.Close())
}
