package instance

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Restore puts the instance's directory and lock back if somebody removed them, so that it is
// found again and its name is not given away. It reports whether anything was missing. The
// error is [ErrInUse] if the name has been given away already.
func (i *Instance) Restore(ctx context.Context) (restored bool, err error) {
	if _, err := OpenBase(i.base.dir); err != nil {
		return false, err
	}
	unlock, err := i.base.lockBase(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	there, err := os.Lstat(i.Path(lockFile))
	if err == nil {
		have, serr := i.lock.Stat()
		if serr == nil && os.SameFile(have, there) {
			return false, nil
		}
		if held, herr := alive(i.Dir()); held || herr != nil {
			return false, fmt.Errorf("%q: %w", i.name, errors.Join(ErrInUse, herr))
		}
		err = os.Remove(i.Path(lockFile))
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return false, err
	}
	if err := os.Mkdir(i.Dir(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return false, err
	}
	f, err := newLock(i.Path(lockFile))
	if err != nil {
		return false, err
	}
	i.lock.Close()
	i.lock = f
	return true, nil
}

// Watch calls removed, from another goroutine, when files of the instance were removed or renamed,
// until stop is called. After the directory itself was replaced another Watch is needed.
func (i *Instance) Watch(removed func()) (stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	const mask = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, i.Dir(), mask); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", i.Dir(), err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			removed()
		}
	}()
	return func() { f.Close(); <-done }, nil
}
