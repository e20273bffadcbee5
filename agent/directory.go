package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/internal/durable"
)

// ErrDirectoryComplete is returned by Init and Join for a directory that already
// holds a node; nothing was changed.
var ErrDirectoryComplete = errors.New("the directory already holds a node")

// ErrDirectoryInUse is returned while another process runs the directory's node.
var ErrDirectoryInUse = errors.New("the directory is in use by another process")

// ErrNoNode is returned by Open for a directory that holds no (complete) node.
var ErrNoNode = errors.New("the directory holds no node")

// directory is the layout of a node's directory; docs/storage.md describes every
// file. All of it is readable by its owner only.
type directory string

func (d directory) path(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

func (d directory) nodeKey() string     { return d.path("identity", "node.key") }
func (d directory) certificate() string { return d.path("identity", "node.crt") }
func (d directory) caFile() string      { return d.path("identity", "ca.crt") }
func (d directory) meshKey() string     { return d.path("identity", "mesh.key") }

// facts is what the node last told the mesh of itself.
func (d directory) facts() string { return d.path("identity", "facts.json") }

// identityFile is written last by init and join: a directory is complete when
// it is there.
func (d directory) identityFile() string { return d.path("identity", "identity.json") }
func (d directory) gossipKeys() string   { return d.path("gossip", "keys.json") }
func (d directory) gossip() string       { return d.path("gossip") }
func (d directory) gate() string         { return d.path("gate.json") }
func (d directory) store() string        { return d.path("store") }
func (d directory) jobs() string         { return d.path("jobs") }
func (d directory) auditFile() string    { return d.path("audit.log") }
func (d directory) admin() string        { return d.path("admin.yaml") }

// claim makes the directory for a new node and takes its lock; the returned
// function lets it go. A directory that holds a node is refused, unchanged.
func (d directory) claim() (unlock func(), err error) {
	complete, err := d.complete()
	if err != nil {
		return nil, err
	}
	if complete {
		return nil, fmt.Errorf("%w: %s; nothing was changed", ErrDirectoryComplete, string(d))
	}
	if err := durable.MakeDir(d.path("identity")); err != nil {
		return nil, fmt.Errorf("make the node's directory: %w", err)
	}
	if unlock, err = d.lock(); err != nil {
		return nil, err
	}
	// A run that was killed may have made directories without a sync.
	if err := errors.Join(durable.SyncDir(string(d)), durable.SyncDir(filepath.Dir(string(d)))); err != nil {
		unlock()
		return nil, fmt.Errorf("make the node's directory: %w", err)
	}
	return unlock, nil
}

// lockPatience is how long lock waits: a meshd that was just told to end gets the
// time to do so.
const lockPatience = 2 * time.Second

// lock makes sure that one process at a time works on the directory. The kernel
// lets go of it when the process ends, however it ends.
func (d directory) lock() (unlock func(), err error) {
	path := d.path("lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the node's directory: %w", err)
	}
	deadline := time.Now().Add(lockPatience)
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond) // flock has no event to wait for
	}
	if err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (%s is locked; stop that meshd first)", ErrDirectoryInUse, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// complete reports whether init or join has finished here.
func (d directory) complete() (bool, error) {
	complete, err := exists(d.identityFile())
	if err != nil {
		return false, fmt.Errorf("look for a node in %s: %w", string(d), err)
	}
	return complete, nil
}

// Init writes the mesh key before the node's key, and join never writes one before
// it is complete. So in a directory that is not complete the two files tell whose
// leftover it is, whenever that was interrupted.

// unfinishedInit reports whether an incomplete directory is that of an init.
func (d directory) unfinishedInit() (bool, error) {
	return exists(d.meshKey())
}

// unfinishedJoin reports whether an incomplete directory is that of a join.
func (d directory) unfinishedJoin() (bool, error) {
	key, err := exists(d.nodeKey())
	if err != nil || !key {
		return false, err
	}
	init, err := d.unfinishedInit()
	return !init, err
}

// clearUnfinishedInit removes what an init has left, the node's key first.
func (d directory) clearUnfinishedInit() error {
	if err := os.Remove(d.nodeKey()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(d.nodeKey())); err != nil {
		return err
	}
	for _, leftover := range []string{d.store(), d.gossip(), d.path("identity")} {
		if err := os.RemoveAll(leftover); err != nil {
			return err
		}
	}
	return nil // what comes back is cleared again: the new names are synced with it
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// goneStore is where a store goes that is being deleted.
func (d directory) goneStore() string { return d.store() + ".gone" }

// removeStore deletes the store, in one step before all its files: of a store that
// is deleted file by file, a power cut could leave a part, and that is damaged.
func (d directory) removeStore() error {
	gone := d.goneStore()
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(d.store(), gone); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := durable.SyncDir(string(d)); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return durable.WriteFile(path, append(data, '\n'))
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
