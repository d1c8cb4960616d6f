package nsexec

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sessionPlan is what monitor and command need in addition to a plan.
type sessionPlan struct {
	*plan
	paths      []*byte
	ctl        int // the monitor's socket to the parent
	tty        int // -1: none
	foreground bool

	cgroups []int
	users   []int
	spaces  []space
	newPID  bool // one of spaces is a PID namespace
	root    int  // -1: as set by setns

	uid, gid            uintptr
	keepIDs, keepGroups bool
	bounding, permitted uint64
	noNewPrivs          bool
	sockets             unix.SockFprog // Len 0: none

	ownMounts   bool
	resolvConf  []byte
	checkResolv bool // only if /etc/resolv.conf is this file:
	major       uint32
	minor       uint32
	ino         uint64

	cwd    int // AT_FDCWD
	stat   unix.Statx_t
	action sigaction
	number int32
	status int32
}

type space struct {
	fd   int
	typ  uintptr
	done bool
}

// sigaction is the kernel's struct sigaction; only the handler is used.
type sigaction struct {
	handler uintptr
	rest    [3]uintptr
}

// monitor is the main function of the child that stays outside, as leader of the command's session.
//
//go:noinline
//go:norace
//go:nosplit
func monitor(p *sessionPlan) {
	s, errno := lead(p)
	pid := uintptr(0)
	if errno == 0 {
		s = stepClone
		pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	}
	if errno != 0 {
		p.send(p.report, uint32(s), uint32(errno))
		exit(127)
	}
	if pid == 0 {
		command(p)
	}
	const ctl, tty = 0, 1
	syscall.RawSyscall(unix.SYS_DUP3, uintptr(p.ctl), ctl, 0)
	keep := uintptr(1)
	if p.tty >= 0 {
		syscall.RawSyscall(unix.SYS_DUP3, uintptr(p.tty), tty, 0)
		keep = 2
	}
	closeFrom(keep)
	for {
		n, _, _ := syscall.RawSyscall(unix.SYS_READ, ctl, uintptr(unsafe.Pointer(&p.msg[0])), 8)
		if n != 8 { // the parent has closed the socket
			reap(p)
			exit(0)
		}
		leader := *(*int32)(unsafe.Pointer(&p.msg[0]))
		flags := *(*uint32)(unsafe.Pointer(&p.msg[4]))
		if p.tty >= 0 {
			p.number = leader
			if flags&inForeground == 0 {
				p.number = int32(p.parent)
			}
			syscall.RawSyscall(unix.SYS_IOCTL, tty, unix.TIOCSPGRP, uintptr(unsafe.Pointer(&p.number)))
		}
		if flags&sendCont != 0 {
			syscall.RawSyscall(unix.SYS_KILL, uintptr(-leader), uintptr(unix.SIGCONT), 0)
		}
		for { // the first child ends early if it has forked the command into the PID namespace
			r, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&p.status)), unix.WUNTRACED, 0, 0, 0)
			if e != 0 {
				exit(127)
			}
			if int32(r) == leader {
				break
			}
		}
		// Don't exit after the last event: that would hang up the terminal and lose unread output.
		p.send(ctl, uint32(p.status), 0)
	}
}

//go:norace
//go:nosplit
func lead(p *sessionPlan) (step, syscall.Errno) {
	if s, e := dieWithParent(p.plan); e != 0 {
		return s, e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); e != 0 {
		return stepSession, e
	}
	if p.tty >= 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(p.tty), unix.TIOCSCTTY, 0); e != 0 {
			return stepSession, e
		}
	}
	// Its memory is a copy of ours, which processes inside must not read even if they have our
	// ids.
	if s, e := undumpable(); e != 0 {
		return s, e
	}
	pid, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	p.parent = int(pid)
	return 0, 0
}

//go:norace
//go:nosplit
func undumpable() (step, syscall.Errno) {
	_, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
	return stepUndumpable, e
}

//go:norace
//go:nosplit
func reap(p *sessionPlan) {
	for {
		if _, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&p.status)), 0, 0, 0, 0); e != 0 {
			return
		}
	}
}

//go:norace
//go:nosplit
func closeFrom(first uintptr) {
	if _, _, e := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, first, ^uintptr(0)>>1, 0); e == 0 {
		return
	}
	for fd := first; fd < 4096; fd++ { // before Linux 5.9
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
}

// command is the main function of the child that becomes the command.
//
//go:noinline
//go:norace
//go:nosplit
func command(p *sessionPlan) {
	s, errno := join(p)
	if errno == 0 {
		s, errno = group(p)
	}
	if errno == 0 {
		s, errno = identity(p)
	}
	if errno == 0 && p.ownMounts {
		s, errno = mounts(p)
	}
	if errno == 0 {
		s, errno = confine(p)
	}
	if errno == 0 {
		s, errno = files(p.plan)
	}
	if errno == 0 {
		syscall.RawSyscall(unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&p.rlimit)), 0)
		defaultSignals(p)
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.oldMask)), 0, 8, 0, 0)
		s, errno = stepExec, execute(p)
	}
	p.send(p.report, uint32(s), uint32(errno))
	exit(127)
}

// join enters the namespaces. Each is entered as soon as that is permitted: from outside, or from one of
// the user namespaces that lead to the command's.
//
//go:norace
//go:nosplit
func join(p *sessionPlan) (step, syscall.Errno) {
	// Cgroups first: after entering a cgroup namespace, others can't be joined.
	for i := 0; i < len(p.cgroups); i++ {
		_, _, e := syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.cgroups[i]), uintptr(unsafe.Pointer(&zero[0])), 1)
		if e != 0 && e != unix.EACCES && e != unix.EPERM && e != unix.ENOENT {
			return stepCgroup, e
		}
	}
	// Without keyrings (ENOSYS, or forbidden by a filter) there is no session keyring to protect.
	if _, _, e := syscall.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); e != 0 && e != unix.ENOSYS && e != unix.EPERM {
		return stepKeyring, e
	}
	dropped := dropGroups() == 0
	user := 0
	for {
		left := false
		for i := 0; i < len(p.spaces); i++ {
			ns := &p.spaces[i]
			if ns.done {
				continue
			}
			_, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(ns.fd), ns.typ, 0)
			if e != 0 && (e != unix.EPERM || user == len(p.users)) {
				if ns.typ == unix.CLONE_NEWNET {
					return stepJoinNet, e
				}
				return stepJoin, e
			}
			ns.done = e == 0
			left = left || !ns.done
		}
		if user == len(p.users) {
			break
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.users[user]), unix.CLONE_NEWUSER, 0); e != 0 {
			return stepJoinUser, e
		}
		user++
		if user == len(p.users) && !left {
			break
		}
	}
	if !dropped {
		if e := dropGroups(); e != 0 && !p.keepGroups {
			return stepSetgroups, e
		}
	}
	return undumpable()
}

//go:norace
//go:nosplit
func dropGroups() syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	return e
}

// group forks the process that is in the PID namespace too, reports its PID, and gives it a process
// group of its own.
//
//go:norace
//go:nosplit
func group(p *sessionPlan) (step, syscall.Errno) {
	if p.newPID {
		pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if e != 0 {
			return stepClone, e
		}
		if pid != 0 {
			p.send(p.report, uint32(stepRuns), uint32(pid))
			exit(0)
		}
		p.parent = 0 // the monitor, as seen from the PID namespace
	} else {
		pid, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
		p.send(p.report, uint32(stepRuns), uint32(pid))
	}
	if s, e := dieWithParent(p.plan); e != 0 {
		return s, e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETPGID, 0, 0, 0); e != 0 {
		return stepSession, e
	}
	if p.tty >= 0 && p.foreground {
		pid, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
		p.number = int32(pid)
		syscall.RawSyscall(unix.SYS_IOCTL, uintptr(p.tty), unix.TIOCSPGRP, uintptr(unsafe.Pointer(&p.number)))
	}
	return 0, 0
}

// identity sets the root directory and the ids.
//
//go:norace
//go:nosplit
func identity(p *sessionPlan) (step, syscall.Errno) {
	if p.root >= 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_FCHDIR, uintptr(p.root), 0, 0); e != 0 {
			return stepRoot, e
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_CHROOT, uintptr(unsafe.Pointer(&dot[0])), 0, 0); e != 0 {
			return stepRoot, e
		}
	}
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0, 0)
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, p.gid, p.gid, p.gid); e != 0 && !(p.keepIDs && mapped(unix.SYS_GETEGID)) {
		return stepSetgid, e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, p.uid, p.uid, p.uid); e != 0 && !(p.keepIDs && mapped(unix.SYS_GETEUID)) {
		return stepSetuid, e
	}
	if s, e := undumpable(); e != 0 { // the change of ids may have reset it
		return s, e
	}
	return effective(p, ^uint64(0))
}

var zero = [1]byte{'0'} // writing it to cgroup.procs joins the cgroup (cgroups(7))

var dot = [2]byte{'.', 0}

// mapped reports whether the caller's id is mapped in the user namespace.
//
//go:norace
//go:nosplit
func mapped(getid uintptr) bool {
	const overflow = 65534 // the default of /proc/sys/kernel/overflowuid
	id, _, _ := syscall.RawSyscall(getid, 0, 0, 0)
	return id != overflow
}

// effective removes permitted capabilities that are not in limit, and makes the rest effective.
//
//go:norace
//go:nosplit
func effective(p *sessionPlan, limit uint64) (step, syscall.Errno) {
	if _, _, e := syscall.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&p.capHdr)), uintptr(unsafe.Pointer(&p.capData[0])), 0); e != 0 {
		return stepCaps, e
	}
	p.capData[0].Permitted &= uint32(limit)
	p.capData[1].Permitted &= uint32(limit >> 32)
	for i := 0; i < 2; i++ {
		p.capData[i].Effective = p.capData[i].Permitted
		p.capData[i].Inheritable = 0
	}
	_, _, e := syscall.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&p.capHdr)), uintptr(unsafe.Pointer(&p.capData[0])), 0)
	return stepCaps, e
}

// confine drops the capabilities that the target lacks, and changes to the command's directory.
//
//go:norace
//go:nosplit
func confine(p *sessionPlan) (step, syscall.Errno) {
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	for c := uintptr(0); c < 64; c++ {
		if p.bounding&(1<<c) != 0 {
			continue
		}
		has, _, e := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, c, 0)
		if e != 0 {
			break // past the last capability
		}
		if has == 0 {
			continue
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); e != 0 {
			return stepBounding, e
		}
	}
	if p.sockets.Len > 0 { // while the capability for it is there
		if _, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p.sockets))); e != 0 {
			return stepSeccomp, e
		}
	}
	if s, e := effective(p, p.permitted); e != 0 {
		return s, e
	}
	if p.noNewPrivs {
		if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
			return stepNoNewPrivs, e
		}
	}
	if s, e := dieWithParent(p.plan); e != 0 { // cleared by a change of credentials
		return s, e
	}
	e := unix.ENOENT
	if p.dir != nil {
		_, _, e = syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(p.dir)), 0, 0)
	}
	if e != 0 {
		syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(&slash[0])), 0, 0)
	}
	return undumpable()
}

var slash = [2]byte{'/', 0}

// defaultSignals removes the Go runtime's handlers before signals are unblocked.
//
//go:norace
//go:nosplit
func defaultSignals(p *sessionPlan) {
	for sig := uintptr(1); sig <= 64; sig++ {
		_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&p.action)), 8, 0, 0)
		if e != 0 || p.action.handler <= 1 { // SIG_DFL, SIG_IGN
			continue
		}
		p.action = sigaction{}
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&p.action)), 0, 8, 0, 0)
	}
}

// execute tries the paths in order. A file that can't be executed is reported only if no other path
// works; directories and inaccessible paths are skipped.
//
//go:norace
//go:nosplit
func execute(p *sessionPlan) syscall.Errno {
	result := unix.ENOENT
	for i := 0; i < len(p.paths); i++ {
		path := uintptr(unsafe.Pointer(p.paths[i]))
		_, _, e := syscall.RawSyscall(unix.SYS_EXECVE, path, uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0])))
		switch e {
		case unix.ENOENT, unix.ENOTDIR:
		case unix.EACCES:
			if p.statPath(p.paths[i]) != 0 && len(p.paths) > 1 {
				continue
			}
			if p.stat.Mode&unix.S_IFMT == unix.S_IFDIR {
				if len(p.paths) > 1 {
					continue
				}
				e = unix.EISDIR
			}
			result = e
		default:
			return e
		}
	}
	return result
}

//go:norace
//go:nosplit
func (p *sessionPlan) statPath(path *byte) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_STATX, uintptr(p.cwd), uintptr(unsafe.Pointer(path)), 0, unix.STATX_TYPE|unix.STATX_INO, uintptr(unsafe.Pointer(&p.stat)), 0)
	return e
}
