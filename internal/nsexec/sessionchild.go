package nsexec

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sessionPlan is what monitor and command need in addition to a plan.
type sessionPlan struct {
	*plan
	*Session
	paths []*byte
	ctl   int // the monitor's socket to the parent
	tty   int // -1: none

	cgroups []int
	users   []int
	spaces  []space
	newPID  bool // one of spaces is a PID namespace
	root    int  // -1: as set by setns

	sockets    unix.SockFprog // Len 0: none
	resolvConf []byte

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
	lead(p)
	pid := p.do(stepClone, unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if p.errno != 0 {
		p.end()
	}
	if pid == 0 {
		command(p)
	}
	const ctl, tty = 0, 1
	p.try(unix.SYS_DUP3, uintptr(p.ctl), ctl, 0)
	keep := uintptr(1)
	if p.tty >= 0 {
		p.try(unix.SYS_DUP3, uintptr(p.tty), tty, 0)
		keep = 2
	}
	closeFrom(p, keep)
	for {
		if n, _ := p.try(unix.SYS_READ, ctl, uintptr(unsafe.Pointer(&p.msg[0])), 8); n != 8 { // the parent has closed the socket
			for e := syscall.Errno(0); e == 0; {
				_, e = p.wait(0)
			}
			exit(0)
		}
		leader := *(*int32)(unsafe.Pointer(&p.msg[0]))
		flags := *(*uint32)(unsafe.Pointer(&p.msg[4]))
		if p.tty >= 0 && flags&inForeground != 0 {
			p.setForeground(tty, leader)
		} else if p.tty >= 0 {
			p.setForeground(tty, int32(p.parent))
		}
		if flags&sendCont != 0 {
			p.try(unix.SYS_KILL, uintptr(-leader), uintptr(unix.SIGCONT), 0)
		}
		for { // the first child ends early if it has forked the command into the PID namespace
			r, e := p.wait(unix.WUNTRACED)
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

// wait waits for a child, whose status becomes p.status.
//
//go:norace
//go:nosplit
func (p *sessionPlan) wait(options uintptr) (uintptr, syscall.Errno) {
	return p.try(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&p.status)), options)
}

//go:norace
//go:nosplit
func (p *sessionPlan) setForeground(tty uintptr, group int32) {
	p.number = group
	p.try(unix.SYS_IOCTL, tty, unix.TIOCSPGRP, uintptr(unsafe.Pointer(&p.number)))
}

//go:norace
//go:nosplit
func lead(p *sessionPlan) {
	p.dieWithParent()
	p.do(stepSession, unix.SYS_SETSID, 0, 0, 0)
	if p.tty >= 0 {
		p.do(stepSession, unix.SYS_IOCTL, uintptr(p.tty), unix.TIOCSCTTY, 0)
	}
	// Its memory is a copy of ours, which processes inside must not read even if they have our
	// ids.
	p.undumpable()
	pid, _ := p.try(unix.SYS_GETPID, 0, 0, 0)
	p.parent = int(pid)
}

//go:norace
//go:nosplit
func closeFrom(p *sessionPlan, first uintptr) {
	if _, e := p.try(unix.SYS_CLOSE_RANGE, first, ^uintptr(0)>>1, 0); e == 0 {
		return
	}
	for fd := first; fd < 4096; fd++ { // before Linux 5.9
		p.try(unix.SYS_CLOSE, fd, 0, 0)
	}
}

// command is the main function of the child that becomes the command.
//
//go:noinline
//go:norace
//go:nosplit
func command(p *sessionPlan) {
	join(p)
	group(p)
	identity(p)
	if p.OwnMounts {
		mounts(p)
	}
	confine(p)
	files(p.plan)
	defaultSignals(p)
	p.restore()
	p.fail(stepExec, execute(p))
	p.end()
}

// join enters the cgroups and the namespaces. Each namespace is entered as soon as that is permitted: from outside, or
// from one of the user namespaces that lead to the command's.
//
//go:norace
//go:nosplit
func join(p *sessionPlan) {
	// Cgroups first: after entering a cgroup namespace, others can't be joined.
	for i := 0; i < len(p.cgroups); i++ {
		_, e := p.try(unix.SYS_WRITE, uintptr(p.cgroups[i]), at(zero), 1) // joins it (cgroups(7))
		if e != unix.EACCES && e != unix.EPERM && e != unix.ENOENT {
			p.fail(stepCgroup, e)
		}
	}
	// Without keyrings (ENOSYS, or forbidden by a filter) there is no session keyring to protect.
	if _, e := p.try(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); e != unix.ENOSYS && e != unix.EPERM {
		p.fail(stepKeyring, e)
	}
	dropped := p.dropGroups() == 0
	for i := 0; i < len(p.users); i++ {
		joinSpaces(p, false)
		p.do(stepJoinUser, unix.SYS_SETNS, uintptr(p.users[i]), unix.CLONE_NEWUSER, 0)
	}
	joinSpaces(p, true)
	if !dropped {
		if e := p.dropGroups(); !p.KeepGroups {
			p.fail(stepSetgroups, e)
		}
	}
	p.undumpable()
}

// joinSpaces enters those of the other namespaces that it may enter; the last call must enter all.
//
//go:norace
//go:nosplit
func joinSpaces(p *sessionPlan, last bool) {
	for i := 0; i < len(p.spaces); i++ {
		ns := &p.spaces[i]
		if ns.done {
			continue
		}
		_, e := p.try(unix.SYS_SETNS, uintptr(ns.fd), ns.typ, 0)
		ns.done = e == 0
		switch {
		case e == unix.EPERM && !last:
		case ns.typ == unix.CLONE_NEWNET:
			p.fail(stepJoinNet, e)
		default:
			p.fail(stepJoin, e)
		}
	}
}

// group forks the process that is in the PID namespace too, reports its PID, and gives it a process
// group of its own.
//
//go:norace
//go:nosplit
func group(p *sessionPlan) {
	var pid uintptr
	if p.newPID {
		pid = p.do(stepClone, unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0)
	} else {
		pid, _ = p.try(unix.SYS_GETPID, 0, 0, 0)
	}
	if p.errno != 0 {
		return
	}
	if pid != 0 {
		p.send(p.report, uint32(stepRuns), uint32(pid))
	}
	if p.newPID {
		if pid != 0 {
			exit(0)
		}
		p.parent = 0 // the monitor, as seen from the PID namespace
	}
	p.dieWithParent()
	p.do(stepSession, unix.SYS_SETPGID, 0, 0, 0)
	if p.tty >= 0 && p.Foreground {
		pid, _ := p.try(unix.SYS_GETPID, 0, 0, 0)
		p.setForeground(uintptr(p.tty), int32(pid))
	}
}

// identity sets the root directory and the ids.
//
//go:norace
//go:nosplit
func identity(p *sessionPlan) {
	if p.root >= 0 {
		p.do(stepRoot, unix.SYS_FCHDIR, uintptr(p.root), 0, 0)
		p.do(stepRoot, unix.SYS_CHROOT, at(dot), 0, 0)
	}
	p.try(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0)
	if _, e := p.try(unix.SYS_SETRESGID, uintptr(p.GID), uintptr(p.GID), uintptr(p.GID)); !p.keepsID(unix.SYS_GETEGID) {
		p.fail(stepSetgid, e)
	}
	if _, e := p.try(unix.SYS_SETRESUID, uintptr(p.UID), uintptr(p.UID), uintptr(p.UID)); !p.keepsID(unix.SYS_GETEUID) {
		p.fail(stepSetuid, e)
	}
	p.undumpable()
	p.limitCaps(^uint64(0), false)
}

// keepsID reports whether the command may keep the caller's id, because it is mapped in the user namespace.
//
//go:norace
//go:nosplit
func (p *sessionPlan) keepsID(getid uintptr) bool {
	const overflow = 65534 // the default of /proc/sys/kernel/overflowuid
	id, _ := p.try(getid, 0, 0, 0)
	return p.KeepIDs && id != overflow
}

// confine drops the capabilities that the target lacks, and changes to the command's directory.
//
//go:norace
//go:nosplit
func confine(p *sessionPlan) {
	p.try(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	for c := uintptr(0); c < 64; c++ {
		if p.Bounding&(1<<c) != 0 {
			continue
		}
		has, e := p.try(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, c, 0)
		if e != 0 {
			break // past the last capability
		}
		if has != 0 {
			p.do(stepBounding, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0)
		}
	}
	if p.sockets.Len > 0 { // while the capability for it is there
		p.do(stepSeccomp, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p.sockets)))
	}
	p.limitCaps(p.Permitted, false)
	if p.NoNewPrivs {
		p.do(stepNoNewPrivs, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	}
	p.dieWithParent()
	e := unix.ENOENT
	if p.dir != nil {
		_, e = p.try(unix.SYS_CHDIR, at(p.dir), 0, 0)
	}
	if e != 0 && p.NeedDir {
		p.fail(stepChdir, e)
	}
	if e != 0 {
		p.try(unix.SYS_CHDIR, at(slash), 0, 0)
	}
	p.undumpable()
}

// defaultSignals removes the Go runtime's handlers before signals are unblocked.
//
//go:norace
//go:nosplit
func defaultSignals(p *sessionPlan) {
	for sig := uintptr(1); sig <= 64; sig++ {
		_, e := p.try5(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&p.action)), 8, 0)
		if e != 0 || p.action.handler <= 1 { // SIG_DFL, SIG_IGN
			continue
		}
		p.action = sigaction{}
		p.try5(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&p.action)), 0, 8, 0)
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
		_, e := p.try(unix.SYS_EXECVE, at(p.paths[i]), uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0])))
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
	_, e := p.try5(unix.SYS_STATX, cwd, at(path), 0, unix.STATX_TYPE|unix.STATX_INO, uintptr(unsafe.Pointer(&p.stat)))
	return e
}
