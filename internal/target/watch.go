package target

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Watch waits for what a supervisor has no other way to wait for, in one blocked poll(2) and
// without timers: the target's end, and the hang-up of a wrapper's exit descriptor.
type Watch struct {
	// Target is closed when the target is gone.
	Target <-chan struct{}
	// HungUp is closed when the exit descriptor hangs up.
	HungUp <-chan struct{}

	stop *os.File
	done chan struct{}
}

// Watch starts to watch t, and exitFD unless it is nil. Stop ends it.
func (t *Target) Watch(exitFD *os.File) (*Watch, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	gone, hungUp := make(chan struct{}), make(chan struct{})
	l := &loop{t: t, gone: gone}
	l.add(r, unix.POLLIN, nil)
	if err := l.addTarget(); err != nil {
		r.Close()
		w.Close()
		l.close()
		return nil, err
	}
	if exitFD != nil {
		at := len(l.fds)
		l.add(exitFD, 0, func() { // hang-up is always reported
			close(hungUp)
			l.fds[at].Fd = -1 // and would be again; the target is still of interest
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer l.close()
		defer r.Close()
		l.run()
	}()
	return &Watch{Target: gone, HungUp: hungUp, stop: w, done: done}, nil
}

// Stop ends the watch and waits for it.
func (w *Watch) Stop() {
	w.stop.Close()
	<-w.done
}

type loop struct {
	t     *Target
	gone  chan struct{}
	owned []*os.File // closed with the loop
	fds   []unix.PollFd
	acts  []func() // what to do when fds[i] is ready; nil: end
}

func (l *loop) add(f *os.File, events int16, act func()) {
	l.fds = append(l.fds, unix.PollFd{Fd: int32(f.Fd()), Events: events})
	l.acts = append(l.acts, act)
}

func (l *loop) close() {
	for _, f := range l.owned {
		f.Close()
	}
}

// addTarget watches the target's pidfd. A path has no such thing: its directory tells of a
// removal (inotify(7)), the table of mounts of an unmount (proc(5): /proc/PID/mounts is
// pollable); either makes us look at the path again.
func (l *loop) addTarget() error {
	if l.t.pidfd != nil {
		l.add(l.t.pidfd, unix.POLLIN, func() { close(l.gone) })
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	ino := os.NewFile(uintptr(fd), "inotify")
	l.owned = append(l.owned, ino)
	const mask = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_CREATE
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(l.t.NetnsPath), mask); err != nil {
		return fmt.Errorf("watch %s: %w", filepath.Dir(l.t.NetnsPath), err)
	}
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		return err
	}
	l.owned = append(l.owned, mounts)
	buf := make([]byte, 4096)
	look := func() {
		for {
			if n, err := unix.Read(fd, buf); n <= 0 || err != nil {
				break
			}
		}
		if l.t.Gone() {
			select {
			case <-l.gone:
			default:
				close(l.gone)
			}
		}
	}
	l.add(ino, unix.POLLIN, look)
	l.add(mounts, unix.POLLPRI, look)
	look() // it may have gone before the watch began
	return nil
}

func (l *loop) run() {
	for {
		n, err := unix.Poll(l.fds, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for i := range l.fds {
			if l.fds[i].Revents == 0 {
				continue
			}
			if l.acts[i] == nil {
				return
			}
			l.acts[i]()
			select {
			case <-l.gone:
				return
			default:
			}
		}
	}
}
