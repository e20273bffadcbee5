package worker

import (
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDisk makes every write that lengthens a file beyond a few kilobytes fail,
// as a full disk does, by the process's limit of file sizes.
type fullDisk struct{}

func (fullDisk) limit(t *testing.T, w *Worker) (restore func()) {
	t.Helper()
	signal.Ignore(unix.SIGXFSZ)
	info, err := os.Stat(w.config.Dir + "/journal")
	if err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, nil, &old); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(info.Size()) + 20, Max: old.Max})
	return func() { set(old) }
}
