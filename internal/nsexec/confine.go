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
	root, fstype *byte
	rootFlags    uintptr
	caps         uint64
	uid, gid     uintptr
	joined       bool
	filter       unix.SockFprog

	slash, dot, proc       *byte
	uidMap, gidMap, option *byte
	buf                    [64]byte
	hdr                    unix.CapUserHeader
	data                   [2]unix.CapUserData
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

func (c *Confine) prepare() (*confinement, error) {
	if c == nil {
		return nil, nil
	}
	p := &confinement{caps: c.Caps, hdr: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}}
	texts := map[**byte]string{
		&p.slash: "/", &p.dot: ".", &p.proc: "/proc", &p.uidMap: "/proc/self/uid_map", &p.gidMap: "/proc/self/gid_map",
	}
	switch c.Root {
	case "/":
	case "":
		texts[&p.root], texts[&p.fstype], texts[&p.option] = "none", "tmpfs", "mode=555,size=4k,nr_inodes=1"
		p.rootFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	default:
		texts[&p.root] = c.Root
		p.rootFlags = unix.MS_BIND
	}
	for to, text := range texts {
		var err error
		if *to, err = syscall.BytePtrFromString(text); err != nil {
			return nil, err
		}
	}
	if p.root != nil {
		p.filter = filter()
	}
	return p, nil
}

func (p *confinement) ownMounts() bool { return p != nil && p.root != nil }

// findIDs finds the first ids that the user namespace maps, usually root's.
//
//go:norace
//go:nosplit
func (p *confinement) findIDs() {
	p.uid, p.joined = p.firstID(p.uidMap)
	if p.joined {
		p.gid, p.joined = p.firstID(p.gidMap)
	}
}

// firstID reads the first number of an id map (user_namespaces(7)); ok is false if it is empty.
//
//go:norace
//go:nosplit
func (p *confinement) firstID(file *byte) (id uintptr, ok bool) {
	fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(file)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return 0, false
	}
	n, _, _ := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&p.buf)), uintptr(len(p.buf)))
	syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	for i := 0; i < int(n) && i < len(p.buf); i++ {
		switch b := p.buf[i]; {
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
func (p *confinement) become() (step, syscall.Errno) {
	if p.root != nil {
		if e := p.changeRoot(); e != 0 {
			return stepPivot, e
		}
	}
	syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	if p.joined {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, p.gid, p.gid, p.gid); e != 0 {
			return stepSetgid, e
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, p.uid, p.uid, p.uid); e != 0 {
			return stepSetuid, e
		}
		notDumpable() // the change of ids may have reset it to fs.suid_dumpable
	}
	for c := uintptr(0); c < 64; c++ {
		if p.caps&(1<<c) == 0 {
			syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0) // fails for unknown ones
		}
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&p.hdr)), uintptr(unsafe.Pointer(&p.data[0])), 0); e != 0 {
		return stepCaps, e
	}
	p.data[0].Permitted &= uint32(p.caps)
	p.data[1].Permitted &= uint32(p.caps >> 32)
	for i := 0; i < len(p.data); i++ {
		p.data[i].Effective, p.data[i].Inheritable = p.data[i].Permitted, p.data[i].Permitted
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&p.hdr)), uintptr(unsafe.Pointer(&p.data[0])), 0); e != 0 {
		return stepCaps, e
	}
	// Ambient capabilities survive the exec of a program that isn't root in the namespace.
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	for c := uintptr(0); c < 64; c++ {
		if p.data[c/32].Permitted&(1<<(c%32)) != 0 {
			syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0, 0)
		}
	}
	return 0, 0
}

// changeRoot makes root the only mount of the mount namespace, which is a copy of the caller's. It mounts root
// over /proc, which exists everywhere, and makes that the root directory (pivot_root(2)).
//
//go:norace
//go:nosplit
func (p *confinement) changeRoot() syscall.Errno {
	if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, 0, uintptr(unsafe.Pointer(p.slash)), 0, unix.MS_REC|unix.MS_PRIVATE, 0, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(p.root)), uintptr(unsafe.Pointer(p.proc)),
		uintptr(unsafe.Pointer(p.fstype)), p.rootFlags, uintptr(unsafe.Pointer(p.option)), 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(p.proc)), 0, 0); e != 0 {
		return e
	}
	dot := uintptr(unsafe.Pointer(p.dot))
	if _, _, e := syscall.RawSyscall(unix.SYS_PIVOT_ROOT, dot, dot, 0); e != 0 {
		// An initial ramfs can't be pivoted away from, only hidden.
		_, _, e = syscall.RawSyscall(unix.SYS_CHROOT, dot, 0, 0)
		return e
	}
	_, _, e := syscall.RawSyscall(unix.SYS_UMOUNT2, dot, unix.MNT_DETACH, 0)
	return e
}

// last sets the restrictions under which the other steps would fail.
//
//go:norace
//go:nosplit
func (p *confinement) last() (step, syscall.Errno) {
	if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return stepNoNewPrivs, e
	}
	if p.filter.Len > 0 {
		// Errors are ignored: the filter is defense in depth, and the kernel may have no seccomp.
		syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p.filter)))
	}
	return 0, 0
}
