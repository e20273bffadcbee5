package executor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// stream is one output of the script on its way into its file.
type stream struct {
	fd      int
	path    string
	limit   int64
	file    *os.File // made with the first byte
	size    int64
	cut     bool
	ended   bool
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
	if s.cut || s.failure != nil {
		return
	}
	if s.file == nil {
		if s.failure = s.open(); s.failure != nil {
			return
		}
	}
	if s.cut {
		return
	}
	if s.size+int64(len(data)) > s.limit {
		data = data[:s.limit-s.size]
		s.cut = true
	}
	n, err := s.file.Write(data)
	s.size += int64(n)
	if err == nil && s.cut {
		_, err = fmt.Fprintf(s.file, "\n--- output truncated: only the first %d bytes are kept ---\n", s.limit)
	}
	s.failure = err
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
	s.file, s.size, s.cut = file, min(info.Size(), s.limit), info.Size() > s.limit
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
