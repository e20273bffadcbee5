package executor

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// disk is what the journal asks of the file system. Tests put one in its place
// that fails, fills up, or forgets what was not synced.
type disk interface {
	// open opens a file for reading and writing and makes it when it is missing.
	open(path string) (diskFile, error)
	rename(from, to string) error
	remove(path string) error
	syncDir(path string) error
}

type diskFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	// Sync makes the content and the length durable.
	Sync() error
	Size() (int64, error)
	Close() error
}

type osDisk struct{}

type osFile struct{ *os.File }

func (osDisk) open(path string) (diskFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{file}, nil
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (osDisk) syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Sync is fdatasync: it leaves out only times, which the journal does not need.
func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readAll returns the whole content of a file.
func readAll(f diskFile) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, fmt.Errorf("read %d bytes: %w", size, err)
	}
	return data, nil
}
