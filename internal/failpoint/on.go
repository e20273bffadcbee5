//go:build failpoint

package failpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled tells whether this program has failpoints.
const Enabled = true

// look is how often a paused goroutine looks whether it may go on.
const look = 5 * time.Millisecond

// passed counts how often this process came by points that are armed for later.
var passed struct {
	sync.Mutex
	times map[Point]int
}

// Hit is called where the process is at the point.
func Hit(p Point) {
	dir := os.Getenv(Env)
	if dir == "" {
		return
	}
	file := filepath.Join(dir, string(p))
	content, err := os.ReadFile(file)
	if err != nil {
		return
	}
	what := strings.TrimSpace(string(content))
	if after, err := strconv.Atoi(what); err == nil && count(p) < after {
		return
	}
	// Of many that come by at once, one is hit.
	if os.Rename(file, file+".hit") != nil {
		return
	}
	if what == "pause" {
		for {
			if _, err := os.Stat(file + ".hit"); errors.Is(err, fs.ErrNotExist) {
				return
			}
			time.Sleep(look)
		}
	}
	for {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

func count(p Point) int {
	passed.Lock()
	defer passed.Unlock()
	if passed.times == nil {
		passed.times = map[Point]int{}
	}
	passed.times[p]++
	return passed.times[p]
}
