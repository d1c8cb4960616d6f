package nsexec

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confine restricts a program in another user's namespace, where that user may be able to trace it.
// Besides the fields: no supplementary groups, if they can be dropped; the first user and group id of the
// joined user namespace, instead of the caller's; no_new_privs; and a seccomp filter for system calls
// with which a tracer could use the program's namespaces, its session keyring, and kernel
// interfaces that the tracer's own filter forbids.
type Confine struct {
	// Root becomes the root directory, in a mount namespace that has no other mounts; "" is an empty,
	// read-only directory. "/" keeps the caller's mounts and omits the filter, for a program that starts others.
	Root string
	// Caps are the capabilities to keep, as 1<<CAP_….
	Caps uint64
}

// confinement is a Confine prepared before the fork.
type confinement struct {
	root, fstype, option *byte
	rootFlags            uintptr
	caps                 uint64
	uid, gid             uintptr
	joined               bool
	filter               unix.SockFprog
	buf                  [64]byte
}

// RootError returns why [Confine.Root] made a start fail, or nil if err has another cause: the mount namespace could
// not be created or changed, or the program needs files to run.
func RootError(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	switch {
	case e.Step == stepNames[stepPivot], e.Step == stepNames[stepUnshare]:
		return err
	case e.Step == stepNames[stepExec] && errors.Is(e, syscall.ENOENT):
		return errors.New("this slirpctl was built with cgo and is linked dynamically: build it with CGO_ENABLED=0 or make build")
	}
	return nil
}

func (c *Confine) prepare() (p *confinement, err error) {
	if c == nil {
		return nil, nil
	}
	p = &confinement{caps: c.Caps}
	switch c.Root {
	case "/":
		return p, nil
	case "":
		p.root, p.fstype, p.option = cString("none"), tmpfs, cString("mode=555,size=4k,nr_inodes=1")
		p.rootFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	default:
		p.root, err = syscall.BytePtrFromString(c.Root)
		p.rootFlags = unix.MS_BIND
	}
	p.filter = filter()
	return p, err
}

func (c *confinement) ownMounts() bool { return c != nil && c.root != nil }

// findIDs finds the first ids that the user namespace maps, usually root's.
//
//go:norace
//go:nosplit
func (c *confinement) findIDs(p *plan) {
	c.uid, c.joined = c.firstID(p, uidMap)
	if c.joined {
		c.gid, c.joined = c.firstID(p, gidMap)
	}
}

// firstID reads the first number of an id map (user_namespaces(7)); ok is false if it is empty.
//
//go:norace
//go:nosplit
func (c *confinement) firstID(p *plan, file *byte) (id uintptr, ok bool) {
	fd, e := p.try5(unix.SYS_OPENAT, cwd, at(file), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0)
	if e != 0 {
		return 0, false
	}
	n, _ := p.try(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&c.buf)), uintptr(len(c.buf)))
	p.try(unix.SYS_CLOSE, fd, 0, 0)
	for i := 0; i < int(n) && i < len(c.buf); i++ {
		switch b := c.buf[i]; {
		case b >= '0' && b <= '9':
			id, ok = 10*id+uintptr(b-'0'), true
		case ok:
			return id, true
		}
	}
	return 0, false
}

// become changes the root directory, then the ids, then drops capabilities. Each step needs what the next one
// takes away.
//
//go:norace
//go:nosplit
func (c *confinement) become(p *plan) {
	if c.root != nil {
		c.changeRoot(p)
	}
	p.dropGroups()
	if c.joined {
		p.do(stepSetgid, unix.SYS_SETRESGID, c.gid, c.gid, c.gid)
		p.do(stepSetuid, unix.SYS_SETRESUID, c.uid, c.uid, c.uid)
		p.undumpable()
	}
	for n := uintptr(0); n < 64; n++ {
		if c.caps&(1<<n) == 0 {
			p.try(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0) // fails for unknown ones
		}
	}
	p.limitCaps(c.caps, true)
	// Ambient capabilities survive the exec of a program that isn't root in the namespace.
	p.try(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	for n := uintptr(0); n < 64; n++ {
		if p.capData[n/32].Permitted&(1<<(n%32)) != 0 {
			p.try(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n)
		}
	}
}

// changeRoot makes root the only mount of the mount namespace, which is a copy of the caller's. It mounts root
// over /proc, which exists everywhere, and makes that the root directory (pivot_root(2)).
//
//go:norace
//go:nosplit
func (c *confinement) changeRoot(p *plan) {
	p.do5(stepPivot, unix.SYS_MOUNT, 0, at(slash), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	p.do5(stepPivot, unix.SYS_MOUNT, at(c.root), at(proc), at(c.fstype), c.rootFlags, at(c.option))
	p.do(stepPivot, unix.SYS_CHDIR, at(proc), 0, 0)
	if _, e := p.try(unix.SYS_PIVOT_ROOT, at(dot), at(dot), 0); e != 0 {
		// An initial ramfs can't be pivoted away from, only hidden.
		p.do(stepPivot, unix.SYS_CHROOT, at(dot), 0, 0)
		return
	}
	p.do(stepPivot, unix.SYS_UMOUNT2, at(dot), unix.MNT_DETACH, 0)
}

// last sets the restrictions under which the other steps would fail.
//
//go:norace
//go:nosplit
func (c *confinement) last(p *plan) {
	p.do(stepNoNewPrivs, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	if c.filter.Len > 0 {
		// Errors are ignored: the filter is defense in depth, and the kernel may have no seccomp.
		p.try(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&c.filter)))
	}
}
