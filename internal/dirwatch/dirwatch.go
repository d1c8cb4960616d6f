// Package dirwatch tells when something changes in a directory. It uses fcntl(2)'s F_NOTIFY instead of
// inotify(7): to close an inotify descriptor takes the kernel up to 30 ms, which the end of an instance
// would wait for.
package dirwatch

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

const changes = 0x80000000 | // DN_MULTISHOT
	0x02 | 0x04 | 0x08 | 0x10 // DN_MODIFY, DN_CREATE, DN_DELETE, DN_RENAME

// Watch watches directories. It belongs to one goroutine.
type Watch struct {
	// C receives after a change, of which it may stand for several, and perhaps without one.
	C    chan os.Signal
	dirs []int
}

// New returns a watch of no directory.
func New() *Watch {
	w := &Watch{C: make(chan os.Signal, 1)}
	signal.Notify(w.C, unix.SIGIO)
	return w
}

// Set watches dirs, and no longer those before. The error is about those that can't be watched.
func (w *Watch) Set(dirs ...string) error {
	before := w.dirs
	w.dirs = nil
	var errs []error
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			w.dirs = append(w.dirs, fd)
			_, err = unix.FcntlInt(uintptr(fd), unix.F_NOTIFY, changes)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
		}
	}
	closeAll(before)
	return errors.Join(errs...)
}

// Close ends the watch.
func (w *Watch) Close() {
	signal.Stop(w.C)
	closeAll(w.dirs)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
