package target

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/dirwatch"
)

// Watch waits in one poll(2), without timers, for the target's end and for the hang-up of a wrapper's exit
// descriptor.
type Watch struct {
	// Target is closed when the target is gone.
	Target <-chan struct{}
	// HungUp is closed when the exit descriptor hangs up.
	HungUp <-chan struct{}

	stop *os.File
	done chan struct{}
}

// Watch watches t, and exitFD unless it is nil, until Stop.
func (t *Target) Watch(exitFD *os.File) (*Watch, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	gone, hungUp, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}, {Fd: -1}, {Fd: -1}}
	wake, exit, target := &fds[0], &fds[1], &fds[2]
	cleanup := func() {}
	if exitFD != nil {
		exit.Fd = int32(exitFD.Fd()) // a hang-up is always reported
	}
	if t.pidfd != nil {
		target.Fd, target.Events = int32(t.pidfd.Fd()), unix.POLLIN
	} else {
		mounts, stop, err := t.watchPath(w)
		if err != nil {
			r.Close()
			w.Close()
			return nil, err
		}
		cleanup = stop
		target.Fd, target.Events = int32(mounts.Fd()), unix.POLLPRI
	}
	go func() {
		defer close(done)
		defer r.Close()
		defer cleanup()
		for {
			if t.Gone() {
				close(gone)
				return
			}
			switch _, err := unix.Poll(fds, -1); err {
			case nil:
			case unix.EINTR:
				continue
			default:
				return
			}
			if wake.Revents != 0 {
				if n, _ := r.Read(make([]byte, 64)); n == 0 {
					return
				}
			}
			if exit.Revents != 0 {
				close(hungUp)
				exit.Fd = -1 // report it once
			}
		}
	}()
	return &Watch{Target: gone, HungUp: hungUp, stop: w, done: done}, nil
}

// watchPath watches the path of a target without a process. After a change in its directory it writes a byte to wake;
// mounts is to be polled for an unmount (proc(5), /proc/PID/mounts).
func (t *Target) watchPath(wake *os.File) (mounts *os.File, stop func(), err error) {
	if mounts, err = os.Open("/proc/self/mounts"); err != nil {
		return nil, nil, err
	}
	dir, stopped := dirwatch.New(), make(chan struct{})
	_ = dir.Set(filepath.Dir(t.NetnsPath)) // if it fails, as on a kernel without dnotify, only unmounts are noticed
	go func() {
		defer mounts.Close()
		defer dir.Close()
		for {
			select {
			case <-dir.C:
				_, _ = wake.Write([]byte{0})
			case <-stopped:
				return
			}
		}
	}()
	return mounts, func() { close(stopped) }, nil
}

// Stop ends the watch and waits for it.
func (w *Watch) Stop() {
	w.stop.Close()
	<-w.done
}
