package nsexec

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confine says what is left to a program that works in a namespace of somebody else, who may be able to
// trace it there. Besides what the fields say: no supplementary groups, where that can be had; the
// first user and group id that the joined user namespace has, instead of the caller's; no_new_privs;
// and a filter against the system calls by which a tracer could make use of the program's
// namespaces, session keyring and lack of a filter of its own.
type Confine struct {
	// Root becomes the root directory, in a mount namespace that has nothing else: "" is an empty,
	// read-only one. "/" leaves the caller's, and the filter out: for a program that starts others.
	Root string
	// Caps are the capabilities, as 1<<CAP_…, that stay.
	Caps uint64
}

// confinement is a Confine laid out before the fork.
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

// RootError says why a start failed for [Confine.Root], nil if it is for something else: no mount namespace could
// be had or changed, or the program needs files to run.
func RootError(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	switch {
	case e.Step == stepNames[stepPivot], e.Step == stepNames[stepUnshare]:
		return err
	case e.Step == stepNames[stepExec] && errors.Is(e, syscall.ENOENT):
		return errors.New("this slirpctl is linked dynamically, built with cgo: CGO_ENABLED=0 or make build makes one that needs no files")
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

// findIDs finds the first ids that the user namespace has: root's, but in the oddest ones.
//
//go:norace
//go:nosplit
func (p *confinement) findIDs() {
	p.uid, p.joined = p.firstID(p.uidMap)
	if p.joined {
		p.gid, p.joined = p.firstID(p.gidMap)
	}
}

// firstID reads the first number of an id map (user_namespaces(7)); false where it is empty.
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

// become gives up all but what was left: files, ids, capabilities, in this order, because each needs
// what the next takes away.
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
		notDumpable() // fs.suid_dumpable may have said otherwise
	}
	for c := uintptr(0); c < 64; c++ {
		if p.caps&(1<<c) == 0 {
			syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0) // those that there are
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
	// The ambient ones survive the exec of who isn't root in there.
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	for c := uintptr(0); c < 64; c++ {
		if p.data[c/32].Permitted&(1<<(c%32)) != 0 {
			syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0, 0)
		}
	}
	return 0, 0
}

// changeRoot leaves nothing in the mount namespace, which is a copy by now, but root. It is mounted
// over /proc, which is everywhere, and then put into the place of everything (pivot_root(2)).
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
		// The initial ramfs can't be left, only hidden.
		_, _, e = syscall.RawSyscall(unix.SYS_CHROOT, dot, 0, 0)
		return e
	}
	_, _, e := syscall.RawSyscall(unix.SYS_UMOUNT2, dot, unix.MNT_DETACH, 0)
	return e
}

// last does what the steps before would fail under.
//
//go:norace
//go:nosplit
func (p *confinement) last() (step, syscall.Errno) {
	if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return stepNoNewPrivs, e
	}
	if p.filter.Len > 0 {
		// No failure: the filter is the last of several walls, and a kernel may have none.
		syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p.filter)))
	}
	return 0, 0
}
