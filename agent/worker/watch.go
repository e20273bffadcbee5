package worker

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher tells of writes into directories, by one inotify descriptor that is
// opened when it is first needed.
type watcher struct {
	mu     sync.Mutex
	file   *os.File
	watch  map[int32]map[chan struct{}]bool
	closed bool
	done   chan struct{} // closed when the reading goroutine has ended
}

func newWatcher() *watcher {
	return &watcher{watch: make(map[int32]map[chan struct{}]bool)}
}

// subscribe returns a channel that gets a value after files in dir were written,
// and a function that ends it. It fails where the kernel has no more watches, or
// the directory is not there: then the caller looks from time to time.
func (w *watcher) subscribe(dir string) (<-chan struct{}, func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, nil, ErrClosed
	}
	if w.file == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, nil, err
		}
		w.file = os.NewFile(uintptr(fd), "inotify")
		w.done = make(chan struct{})
		go w.read(w.file)
	}
	id, err := w.add(dir)
	if err != nil {
		return nil, nil, err
	}
	written := make(chan struct{}, 1)
	if w.watch[id] == nil {
		w.watch[id] = make(map[chan struct{}]bool)
	}
	w.watch[id][written] = true
	return written, func() { w.unsubscribe(id, written) }, nil
}

func (w *watcher) add(dir string) (id int32, err error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := conn.Control(func(fd uintptr) {
		var n int
		n, err = unix.InotifyAddWatch(int(fd), dir, unix.IN_MODIFY|unix.IN_CREATE)
		id = int32(n)
	})
	if controlErr != nil {
		return 0, controlErr
	}
	return id, err
}

func (w *watcher) unsubscribe(id int32, written chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watch[id], written)
	if len(w.watch[id]) > 0 {
		return
	}
	delete(w.watch, id)
	if w.closed {
		return
	}
	if conn, err := w.file.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(id)) }) // gone with its directory, perhaps
	}
}

// read passes events on until the file is closed.
func (w *watcher) read(file *os.File) {
	defer close(w.done)
	buffer := make([]byte, 16<<10)
	for {
		n, err := file.Read(buffer)
		if err != nil {
			return
		}
		w.mu.Lock()
		for data := buffer[:n]; len(data) >= unix.SizeofInotifyEvent; {
			id := int32(binary.NativeEndian.Uint32(data))
			length := int(binary.NativeEndian.Uint32(data[12:]))
			for written := range w.watch[id] {
				select {
				case written <- struct{}{}:
				default:
				}
			}
			data = data[min(unix.SizeofInotifyEvent+length, len(data)):]
		}
		w.mu.Unlock()
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	w.closed = true
	file := w.file
	w.mu.Unlock()
	if file != nil {
		file.Close()
		<-w.done
	}
}
