package executor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// AlwaysKept is how many bytes of an output are kept wherever the disk takes
	// them: what the API shows of most.
	AlwaysKept = 64 << 10
	// lookEvery is how many bytes an output grows between two looks at how much of
	// the disk is free.
	lookEvery = 256 << 10
)

// stream is one output of the script on its way into its file.
type stream struct {
	fd    int
	path  string
	limit int64
	// floor is how much of the disk must stay free; free asks for that.
	floor uint64
	free  func(dir string) (uint64, error)
	file  *os.File // made with the first byte
	size  int64
	// looked is the size at the last look at the disk.
	looked  int64
	ended   bool
	cut     string // why no more is kept
	failure error
}

// copy moves what is there; it never blocks and never stops reading: a full
// disk or limit must not stop the script.
func (s *stream) copy(buffer []byte) {
	n, err := unix.Read(s.fd, buffer)
	switch {
	case n > 0:
		s.keep(buffer[:n])
	case n == 0, err != unix.EAGAIN && err != unix.EINTR:
		unix.Close(s.fd)
		s.ended = true
	}
}

func (s *stream) keep(data []byte) {
	if s.cut != "" || s.failure != nil {
		return
	}
	if s.file == nil {
		if s.failure = s.open(); s.failure != nil {
			return
		}
	}
	if s.cut != "" {
		return
	}
	limit, why := s.limit, fmt.Sprintf("only the first %d bytes are kept", s.limit)
	if s.crowded(int64(len(data))) {
		limit = min(limit, max(s.size, AlwaysKept))
		why = fmt.Sprintf("only the first %d bytes are kept, because less than %d KiB of this node's disk are free", limit, s.stop()>>10)
	}
	whole := s.size+int64(len(data)) <= limit
	if !whole {
		data = data[:limit-s.size]
	}
	n, err := s.file.Write(data)
	s.size += int64(n)
	switch {
	case err != nil:
		s.failure = err
		s.end(fmt.Sprintf("only the first %d bytes are kept: %v", s.size, err))
	case !whole:
		s.end(why)
	}
}

// stop is how little of the disk may be free for more to be kept: above the floor by
// what others may write between two looks.
func (s *stream) stop() uint64 { return s.floor + s.floor/4 + lookEvery }

// crowded reports whether more than AlwaysKept would take of the disk what must
// stay free.
func (s *stream) crowded(more int64) bool {
	if s.floor == 0 || s.size+more <= AlwaysKept || s.looked > 0 && s.size-s.looked < lookEvery {
		return false
	}
	free, err := s.free(filepath.Dir(s.path))
	s.looked = max(s.size, 1)
	return err == nil && free < s.stop()
}

// end puts a mark behind what is kept. On a full disk it takes the place of the
// last bytes, as far as the file system lets it.
func (s *stream) end(why string) {
	s.cut = why
	mark := "\n--- output truncated: " + why + " ---\n"
	if s.failure != nil {
		if s.size < int64(len(mark)) || s.file.Truncate(s.size-int64(len(mark))) != nil {
			return
		}
		_, _ = s.file.WriteString(mark) // the failure is told anyway
		return
	}
	_, s.failure = s.file.WriteString(mark)
}

// open opens the file, behind what earlier runs of the step have written.
func (s *stream) open() error {
	file, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	s.file, s.size = file, min(info.Size(), s.limit)
	if info.Size() > s.limit {
		s.cut = fmt.Sprintf("only the first %d bytes are kept", s.limit)
	}
	return nil
}

func (s *stream) close() {
	if !s.ended {
		unix.Close(s.fd)
		s.ended = true
	}
	if s.file != nil {
		if err := s.file.Close(); err != nil && s.failure == nil {
			s.failure = err
		}
	}
}
