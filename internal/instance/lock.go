package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var errLocked = errors.New("locked")

// tryLock takes an exclusive lock on f, or returns errLocked.
func tryLock(f *os.File) error {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errLocked
	}
	return err
}

// locked reports whether another open file description holds the lock of the file at path, without taking it.
func locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return testLock(f)
}

func testLock(f *os.File) (held bool, err error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return false, err
	}
	return lk.Type != unix.F_UNLCK, nil
}

func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}

// lockBase takes BASE/.lock, which is only held for milliseconds; ctx bounds the wait.
func (b Base) lockBase(ctx context.Context) (unlock func(), err error) {
	f, err := openLock(filepath.Join(b.dir, ".lock"))
	if err != nil {
		return nil, writeError(err)
	}
	pause := time.Millisecond
	for {
		err := tryLock(f)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, errLocked) {
			f.Close()
			return nil, fmt.Errorf("lock state directory: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock state directory %s: %w", b.dir, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 20*time.Millisecond)
		}
	}
}

// newLock creates and takes the lock of an instance.
func newLock(path string) (*os.File, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err = tryLock(f); err == nil {
		err = writeHolder(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// lockDir opens a directory and takes a shared lock on it (flock(2)).
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// writeHolder records in the lock file which process holds it: F_OFD_GETLK does not return a PID (fcntl(2)).
func writeHolder(f *os.File) error {
	id := Identify("supervisor", os.Getpid())
	_, err := f.WriteAt(fmt.Appendf(nil, "%d %d %d\n", id.PID, id.Start, ownPIDNamespace()), 0)
	return err
}

// readHolder reads what writeHolder wrote; the PID is 0 if the file has other contents.
func readHolder(dir string) ProcessState {
	data, err := readSmall(filepath.Join(dir, lockFile))
	if err != nil {
		return ProcessState{}
	}
	return parseHolder(data)
}

func parseHolder(data []byte) ProcessState {
	line, _, _ := bytes.Cut(data, []byte{'\n'})
	f := bytes.Fields(line)
	if len(f) != 2 && len(f) != 3 { // older versions wrote two
		return ProcessState{}
	}
	pid, err1 := strconv.Atoi(string(f[0]))
	start, err2 := strconv.ParseUint(string(f[1]), 10, 64)
	if err1 != nil || err2 != nil || pid <= 0 {
		return ProcessState{}
	}
	p := ProcessState{Role: "supervisor", PID: pid, Start: start}
	if len(f) == 3 {
		p.namespace, _ = strconv.ParseUint(string(f[2]), 10, 64)
	}
	return p
}

// End records the instance's status in the lock file, for those who wait for its end.
func (i *Instance) End(status int) error {
	end, err := i.lock.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = i.lock.WriteAt(fmt.Appendf(nil, "ended %d\n", status), end)
	}
	return err
}

// readEnd reads what End wrote.
func readEnd(lock *os.File) (status int, ok bool) {
	data, err := io.ReadAll(io.LimitReader(lock, 1<<10))
	if err != nil {
		return 0, false
	}
	_, line, _ := strings.Cut(string(data), "\n")
	n, err := fmt.Sscanf(line, "ended %d\n", &status)
	return status, n == 1 && err == nil
}
