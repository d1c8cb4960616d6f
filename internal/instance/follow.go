package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/dirwatch"
	"github.com/slirpctl/slirpctl/internal/fault"
)

// CopyEgressLog copies the log of what left the namespace to w. With follow it also copies new lines until the instance
// stops or ctx is done; neither is an error. Error: [ErrNotFound] if the instance has stopped.
func (e Entry) CopyEgressLog(ctx context.Context, w io.Writer, follow bool) error {
	if _, err := os.Lstat(filepath.Join(e.Dir, EgressLogFile)); errors.Is(err, os.ErrNotExist) && e.Alive() {
		return fault.New(fault.Unsupported, fmt.Sprintf("%q has no egress log", e.Name), "start it with --egress log, or with --allow")
	}
	f, err := e.open(EgressLogFile)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.follow(ctx, follow, func(bool) error {
		if _, err := rewind(f); err != nil {
			return err
		}
		_, err := io.Copy(w, f)
		return err
	})
}

// open opens a log. Error: [ErrNotFound] if it does not exist.
func (e Entry) open(name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(e.Dir, name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", e.Name, ErrNotFound)
	}
	return f, err
}

// follow calls step, which reads what is new in a log: once or, if on is set, whenever the instance's directory
// changes, until the instance stops or ctx is done. last is set in the last call.
func (e Entry) follow(ctx context.Context, on bool, step func(last bool) error) error {
	if !on {
		return step(true)
	}
	watch := dirwatch.New()
	defer watch.Close()
	_ = watch.Set(e.Dir) // if it fails, as on a kernel without dnotify, the ticker is enough
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	ended, stop := e.watchEnd()
	defer stop()
	for last := false; ; {
		if err := step(last); err != nil || last {
			return err
		}
		select {
		case <-watch.C:
		case <-ticker.C:
		case <-ended:
			last = true
		case <-ctx.Done():
			last = true
		}
	}
}

// rewind seeks to the beginning of a file that was truncated, and reports whether it was.
func rewind(f *os.File) (bool, error) {
	fi, err := f.Stat()
	if err != nil {
		return false, err
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at <= fi.Size() {
		return false, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return true, err
}

// endInterval is the time between two looks at the lock of an instance in another PID namespace.
const endInterval = 200 * time.Millisecond

// watchEnd returns a channel that is closed when the supervisor has exited or stop is called.
func (e Entry) watchEnd() (ended <-chan struct{}, stop func()) {
	c := make(chan struct{})
	holder := e.Holder
	if holder.PID == 0 && e.State != nil && len(e.State.Processes) > 0 {
		holder = e.State.Processes[0] // the lock is unreadable
	}
	fd, err := unix.PidfdOpen(holder.PID, 0)
	if err != nil || !holder.Alive() || !e.Alive() { // then the PID may be another process's
		if err == nil {
			unix.Close(fd)
		}
		stopped := make(chan struct{})
		go func() {
			defer close(c)
			for e.Alive() {
				select {
				case <-stopped:
					return
				case <-time.After(endInterval):
				}
			}
		}()
		return c, sync.OnceFunc(func() { close(stopped) })
	}
	_ = unix.SetNonblock(fd, true) // for the runtime's poller
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	go func() {
		defer close(c)
		if conn, err := pidfd.SyscallConn(); err == nil {
			_ = conn.Read(readable)
		}
	}()
	return c, func() { pidfd.Close() }
}

func readable(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}
