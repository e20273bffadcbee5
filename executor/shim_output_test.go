package executor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newStream is an output that writes to a file of its own; nothing reads a script.
func newStream(t *testing.T, limit int64, floor uint64, free func(string) (uint64, error)) *stream {
	t.Helper()
	s := &stream{path: filepath.Join(t.TempDir(), "stdout"), limit: limit, floor: floor, free: free, ended: true}
	t.Cleanup(s.close)
	return s
}

func (s *stream) content(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestStreamLeavesTheDiskFree(t *testing.T) {
	free := uint64(10 << 20)
	s := newStream(t, 1<<30, 4<<20, func(string) (uint64, error) { return free, nil })
	chunk := []byte(strings.Repeat("x", 64<<10))
	for range 1000 {
		before := s.size
		s.keep(chunk)
		free -= uint64(s.size - before)
	}
	if free < 5<<20 || free > 5376<<10 || s.failure != nil {
		t.Errorf("%d bytes are left free, want 5 MiB and little more; %v", free, s.failure)
	}
	if out := s.content(t); !strings.HasSuffix(out, "because less than 5376 KiB of this node's disk are free ---\n") || int64(strings.Count(out, "x")) != s.size {
		t.Errorf("ends %q", out[len(out)-120:])
	}
}

// What the API shows is kept also where little is free.
func TestStreamKeepsTheBeginning(t *testing.T) {
	s := newStream(t, 1<<30, 4<<20, func(string) (uint64, error) { return 0, nil })
	s.keep([]byte(strings.Repeat("a", 50_000)))
	s.keep([]byte(strings.Repeat("b", 50_000)))
	s.keep([]byte("c"))
	want := strings.Repeat("a", 50_000) + strings.Repeat("b", AlwaysKept-50_000) + "\n--- output truncated: only the first 65536 bytes are kept"
	if out := s.content(t); !strings.HasPrefix(out, want) || strings.Count(out, "truncated") != 1 {
		t.Errorf("%d bytes, ends %q", len(out), out[max(0, len(out)-150):])
	}
	if s.failure != nil || s.cut == "" {
		t.Errorf("failure %v, cut %q", s.failure, s.cut)
	}
	broken := newStream(t, 1<<30, 4<<20, func(string) (uint64, error) { return 0, errors.New("no such file system") })
	for range 10 {
		broken.keep([]byte(strings.Repeat("a", 50_000)))
	}
	if broken.cut != "" || broken.size != 500_000 {
		t.Errorf("where nothing can be asked: %d bytes, cut %q", broken.size, broken.cut)
	}
}

// On a disk that is full the mark takes the place of the last bytes.
func TestStreamOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := newStream(t, 1<<30, 0, nil)
	s.path = filepath.Join(dir, "stdout")
	for range 100 {
		s.keep([]byte(strings.Repeat("x", 64<<10)))
	}
	out := s.content(t)
	if !errors.Is(s.failure, unix.ENOSPC) || !strings.HasSuffix(out, "no space left on device ---\n") {
		t.Errorf("%v; %d bytes, ends %q", s.failure, len(out), out[max(0, len(out)-150):])
	}
	s.close()
	s.file = nil
}
