package worker

import (
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
)

// usage knows what the files of each job take of the disk.
type usage struct {
	dir   string // of all jobs
	space int64
	// limit is that of an output where there is room.
	limit int64
	slots int

	mu sync.Mutex
	// bytes are those of each job's files, as last measured; reserved is what a
	// running step may add to them.
	bytes    map[string]int64
	reserved map[string]int64
	// pinned is what the last sweep has found of ended jobs that must stay.
	pinned int64
}

func newUsage(config Config) *usage {
	return &usage{dir: jobsDir(config.Dir), space: config.OutputSpace, limit: config.OutputLimit, slots: config.MaxRunning, bytes: make(map[string]int64), reserved: make(map[string]int64)}
}

// begin returns the limit of each output of a job's next step, and reserves it.
func (u *usage) begin(id string) int64 {
	u.mu.Lock()
	_, began := u.reserved[id]
	u.mu.Unlock()
	own := int64(0) // of the first step
	if began {
		own = diskUse(filepath.Join(u.dir, id))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes[id] = own
	others := make([]int64, 0, len(u.reserved))
	for other, reserved := range u.reserved {
		if other != id {
			others = append(others, reserved+u.bytes[other])
		}
	}
	limit := min(u.limit, stepLimit(u.space, u.pinned, own, others, u.slots))
	u.reserved[id] = 2 * limit
	return limit
}

// resume reserves an equal share for a job that an earlier meshd has started.
func (u *usage) resume(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reserved[id] = min(2*u.limit, u.space/2/int64(u.slots))
}

// end gives back what a job has not used.
func (u *usage) end(id string) {
	own := diskUse(filepath.Join(u.dir, id))
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.reserved, id)
	if own > 0 {
		u.bytes[id] = own
	}
}

// over reports whether all jobs' files take more than they may.
func (u *usage) over() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	total := u.reservations()
	for _, bytes := range u.bytes {
		total += bytes
	}
	return total > u.space
}

// reservations is called with mu held.
func (u *usage) reservations() (total int64) {
	for _, reserved := range u.reserved {
		total += reserved
	}
	return total
}

// of returns what a job's files take; they are measured once.
func (u *usage) of(id string) int64 {
	u.mu.Lock()
	bytes, known := u.bytes[id]
	u.mu.Unlock()
	if known {
		return bytes
	}
	bytes = diskUse(filepath.Join(u.dir, id))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.bytes[id] = bytes
	return bytes
}

func (u *usage) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.bytes, id)
}

// diskUse is how many bytes of the disk a directory takes with all that is in it.
// What cannot be looked at is not counted.
func diskUse(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += stat.Blocks * 512
		}
		return nil
	})
	return bytes
}
