// Package dirwatch reports changes in directories. It uses fcntl(2)'s F_NOTIFY instead of
// inotify(7): closing an inotify descriptor takes up to 30 ms, which would delay the end of an
// instance.
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

// Watch watches directories. It is not safe for concurrent use.
type Watch struct {
	// C receives a value after one or more changes, and sometimes without a change.
	C    chan os.Signal
	dirs []int
}

// New returns a watch without directories.
func New() *Watch {
	w := &Watch{C: make(chan os.Signal, 1)}
	signal.Notify(w.C, unix.SIGIO)
	return w
}

// Set replaces the watched directories. The error is about those that can't be watched; the others are.
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
