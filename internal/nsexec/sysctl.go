package nsexec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysctl is the work of a child that executes no program.
type sysctl struct {
	path        *byte
	value, keep []byte
	old         [256]byte
	n           uintptr // length of old
}

// Sysctl returns the value of a sysctl of a network namespace, named by its path below /proc/sys, and sets
// it to value, unless value is "" or the sysctl has the value keep. userns, if not nil, is joined first.
// If the sysctl doesn't exist, the error is [fs.ErrNotExist].
//
// No program is executed for it, so processes inside can't trace it.
func Sysctl(userns, netns *os.File, name, keep, value string) (old string, err error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("sysctl %q: not a name", name)
	}
	c := Cmd{Path: "-", Args: []string{"-"}, JoinUser: userns, JoinNet: netns}
	p, cleanup, err := c.prepare()
	if err != nil {
		return "", err
	}
	defer cleanup()
	p.askMap = -1
	p.sysctl = &sysctl{value: []byte(value), keep: []byte(keep)}
	if p.sysctl.path, err = syscall.BytePtrFromString(filepath.Join("/proc/sys", name)); err != nil {
		return "", err
	}
	r, w, err := pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	p.report = int(w.Fd())
	pid, err := fork(p)
	w.Close()
	if err != nil {
		return "", err
	}
	msg, err := io.ReadAll(r)
	if proc, perr := os.FindProcess(pid); perr == nil {
		_, _ = proc.Wait()
	}
	if err != nil || len(msg) < 8 {
		return "", fmt.Errorf("sysctl %s: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	s, errno := step(*(*uint32)(unsafe.Pointer(&msg[0]))), syscall.Errno(*(*uint32)(unsafe.Pointer(&msg[4])))
	old = strings.TrimSpace(string(msg[8:]))
	switch {
	case errno == 0:
		return old, nil
	case s == stepOpen || s == stepRead || s == stepWrite:
		return old, &fs.PathError{Op: stepNames[s], Path: filepath.Join("/proc/sys", name), Err: errno}
	}
	return old, &Error{stepNames[s], errno}
}

//go:norace
//go:nosplit
func (c *sysctl) set() (step, syscall.Errno) {
	path := uintptr(unsafe.Pointer(c.path))
	fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), path, unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return stepOpen, e
	}
	if c.n, _, e = syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&c.old)), uintptr(len(c.old))); e != 0 {
		return stepRead, e
	}
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	if len(c.value) == 0 || c.is(c.value) || len(c.keep) > 0 && c.is(c.keep) {
		return 0, 0
	}
	fd, _, e = syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), path, unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return stepOpen, e
	}
	if _, _, e = syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&c.value[0])), uintptr(len(c.value))); e != 0 {
		return stepWrite, e
	}
	return 0, 0
}

// is reports whether the value read, without its newline, is value.
//
//go:norace
//go:nosplit
func (c *sysctl) is(value []byte) bool {
	n := int(c.n)
	if n > 0 && n <= len(c.old) && c.old[n-1] == '\n' {
		n--
	}
	if n != len(value) {
		return false
	}
	for i := 0; i < n; i++ {
		if c.old[i] != value[i] {
			return false
		}
	}
	return true
}
