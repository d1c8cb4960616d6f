package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CopyLog copies the instance's log to w, with control characters escaped. With follow it goes on with what is added, until the
// instance ends or ctx does; neither is an error. Error: [ErrNotFound] if the instance has ended.
func (e Entry) CopyLog(ctx context.Context, w io.Writer, follow bool) error {
	p := &plainLines{w: w}
	return errors.Join(e.copyLog(ctx, p, follow), p.flush())
}

func (e Entry) copyLog(ctx context.Context, w io.Writer, follow bool) error {
	path := filepath.Join(e.Dir, LogFile)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%q: %w", e.Name, ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if !follow {
		_, err := io.Copy(w, f)
		return err
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, path, unix.IN_MODIFY); err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(wake)
	defer context.AfterFunc(ctx, func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })()
	supervisor := -1 // pidfd; unknown while the instance starts
	defer func() {
		if supervisor >= 0 {
			unix.Close(supervisor)
		}
	}()
	for buf := make([]byte, 4096); ; {
		patience := -1
		if supervisor < 0 {
			supervisor, patience = e.supervisorFD()
		}
		// Asked before the file is read: what was said until then is not missed.
		ended := patience < 0 && supervisor < 0 || readable(supervisor)
		if err := rewind(f); err != nil {
			return err
		}
		if _, err := io.Copy(w, f); err != nil || ended || ctx.Err() != nil {
			return err
		}
		fds := []unix.PollFd{
			{Fd: int32(watch), Events: unix.POLLIN},
			{Fd: int32(wake), Events: unix.POLLIN},
			{Fd: int32(supervisor), Events: unix.POLLIN}, // ignored while negative
		}
		if _, err := unix.Poll(fds, patience); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		for { // that something was added says the file itself
			if n, err := unix.Read(watch, buf); n <= 0 || err != nil {
				break
			}
		}
	}
}

// rewind goes back to the beginning of a file that was cut.
func rewind(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at <= fi.Size() {
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// supervisorFD returns a pidfd of the supervisor, or -1. With -1, wait says whether to ask again
// after so many milliseconds, or, if negative, that the instance has ended.
func (e Entry) supervisorFD() (fd, wait int) {
	if !e.Alive() {
		return -1, -1
	}
	st, err := readState(e.Dir, e.Name)
	if err != nil {
		return -1, 50 // it is starting
	}
	fd, err = unix.PidfdOpen(st.SupervisorPID, 0)
	if err != nil || !e.Alive() { // or the number may be another's by now
		if err == nil {
			unix.Close(fd)
		}
		return -1, -1
	}
	return fd, -1
}

func readable(fd int) bool {
	if fd < 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}
