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
	p.sysctl = &sysctl{value: []byte(value), keep: []byte(keep)}
	if p.sysctl.path, err = syscall.BytePtrFromString(filepath.Join("/proc/sys", name)); err != nil {
		return "", err
	}
	r, w, err := os.Pipe()
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
	reap(pid)
	if err != nil || len(msg) < 8 {
		return "", fmt.Errorf("sysctl %s: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	old = strings.TrimSpace(string(msg[8:]))
	switch s, errno := parse(msg); {
	case errno == 0:
		return old, nil
	case s == stepOpen || s == stepRead || s == stepWrite:
		return old, &fs.PathError{Op: stepNames[s], Path: filepath.Join("/proc/sys", name), Err: errno}
	default:
		return old, &Error{stepNames[s], errno}
	}
}

//go:norace
//go:nosplit
func (c *sysctl) set(p *plan) {
	fd := p.do5(stepOpen, unix.SYS_OPENAT, cwd, at(c.path), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0)
	c.n = p.do(stepRead, unix.SYS_READ, fd, uintptr(unsafe.Pointer(&c.old)), uintptr(len(c.old)))
	p.try(unix.SYS_CLOSE, fd, 0, 0)
	if p.errno != 0 || len(c.value) == 0 || c.is(c.value) || len(c.keep) > 0 && c.is(c.keep) {
		return
	}
	fd = p.do5(stepOpen, unix.SYS_OPENAT, cwd, at(c.path), unix.O_WRONLY|unix.O_CLOEXEC, 0, 0)
	p.do(stepWrite, unix.SYS_WRITE, fd, at(&c.value[0]), uintptr(len(c.value)))
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
