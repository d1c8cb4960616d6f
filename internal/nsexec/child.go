package nsexec

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fork forks the process and runs the plan in the child. The child has only the calling thread, so
// it must not use the Go runtime: no allocation, no stack growth (nosplit), no signal handlers (all
// signals are blocked), only raw system calls.
func fork(p *plan) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.ForkLock.Lock()
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&p.allMask)), uintptr(unsafe.Pointer(&p.oldMask)), 8, 0, 0)
	r, errno := forkChild(p)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&p.oldMask)), 0, 8, 0, 0)
	syscall.ForkLock.Unlock()
	switch {
	case errno == 0:
		return int(r), nil
	case p.flags == 0 || errno == unix.EAGAIN || errno == unix.ENOMEM: // any fork would fail
		return 0, fmt.Errorf("fork: %w", errno)
	}
	return 0, &Error{StepClone, errno}
}

//go:noinline
//go:norace
//go:nosplit
func forkChild(p *plan) (uintptr, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|p.flags, 0, 0, 0, 0, 0)
	if errno != 0 || r != 0 {
		return r, errno
	}
	if p.session != nil {
		monitor(p.session)
	}
	child(p)
	return 0, 0 // not reached
}

// do makes a system call of the child, unless an earlier one has failed. If it fails, it is the step that is reported.
//
//go:norace
//go:nosplit
func (p *plan) do(s step, nr, a, b, c uintptr) uintptr { return p.do5(s, nr, a, b, c, 0, 0) }

// do5 is do with five arguments.
//
//go:norace
//go:nosplit
func (p *plan) do5(s step, nr, a, b, c, d, e uintptr) uintptr {
	r, errno := p.try5(nr, a, b, c, d, e)
	p.fail(s, errno)
	return r
}

// try is do for a system call whose failure is not one of the child.
//
//go:norace
//go:nosplit
func (p *plan) try(nr, a, b, c uintptr) (uintptr, syscall.Errno) { return p.try5(nr, a, b, c, 0, 0) }

// try5 is try with five arguments.
//
//go:norace
//go:nosplit
func (p *plan) try5(nr, a, b, c, d, e uintptr) (uintptr, syscall.Errno) {
	if p.errno != 0 {
		return 0, p.errno
	}
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, e, 0)
	return r, errno
}

// fail records a failed step, unless errno is 0 or an earlier one has failed.
//
//go:norace
//go:nosplit
func (p *plan) fail(s step, errno syscall.Errno) {
	if p.errno == 0 {
		p.failed, p.errno = s, errno
	}
}

// at returns the address of a string for a system call.
//
//go:norace
//go:nosplit
func at(s *byte) uintptr { return uintptr(unsafe.Pointer(s)) }

// cwd is AT_FDCWD.
const cwd = ^uintptr(99)

// child is the main function of the child. See the package comment for the protocol.
//
//go:noinline
//go:norace
//go:nosplit
func child(p *plan) {
	enter(p)
	if p.opening != nil {
		p.opening.handOver(p)
	}
	become(p)
	files(p)
	if p.confine != nil {
		p.confine.last(p)
	}
	p.restore()
	dir, flags := cwd, uintptr(0)
	if p.self >= 0 {
		dir, flags = uintptr(p.self), unix.AT_EMPTY_PATH
	}
	p.do5(stepExec, unix.SYS_EXECVEAT, dir, at(p.path), uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0])), flags)
	p.end()
}

// restore sets the limits and the signal mask of the program to those that this one was started with. The exec resets handlers.
//
//go:norace
//go:nosplit
func (p *plan) restore() {
	p.try(unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&p.rlimit)), 0)
	p.try5(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.oldMask)), 0, 8, 0)
}

// end reports a failure and exits.
//
//go:norace
//go:nosplit
func (p *plan) end() {
	p.send(p.report, uint32(p.failed), uint32(p.errno))
	exit(127)
}

// send writes a message of two numbers.
//
//go:norace
//go:nosplit
func (p *plan) send(fd int, a, b uint32) {
	*(*uint32)(unsafe.Pointer(&p.msg[0])) = a
	*(*uint32)(unsafe.Pointer(&p.msg[4])) = b
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p.msg[0])), 8)
}

//go:norace
//go:nosplit
func exit(status uintptr) {
	for {
		syscall.RawSyscall(unix.SYS_EXIT, status, 0, 0)
	}
}

// enter joins or creates the namespaces.
//
//go:norace
//go:nosplit
func enter(p *plan) {
	if p.setsid {
		p.do(stepSession, unix.SYS_SETSID, 0, 0, 0)
	} else if p.setpgid {
		p.do(stepSession, unix.SYS_SETPGID, 0, 0, 0)
	}
	if p.joinUser >= 0 || p.joinNet >= 0 {
		p.undumpable()
	}
	if p.confine != nil {
		// Works for root. Others may not do it here; become tries again inside.
		p.dropGroups()
	}
	if p.joinUser >= 0 {
		p.do(stepJoinUser, unix.SYS_SETNS, uintptr(p.joinUser), unix.CLONE_NEWUSER, 0)
		if p.confine != nil {
			p.confine.findIDs(p)
		}
	}
	if p.joinNet >= 0 {
		p.do(stepJoinNet, unix.SYS_SETNS, uintptr(p.joinNet), unix.CLONE_NEWNET, 0)
	}
	if p.unshare != 0 {
		p.do(stepUnshare, unix.SYS_UNSHARE, uintptr(p.unshare), 0, 0)
	}
	if p.askMap >= 0 {
		// Also while waiting for the maps. If the parent died before this, the read returns end of file.
		p.try(unix.SYS_CLOSE, uintptr(p.maps), 0, 0)
		p.dieWithParent()
		p.try(unix.SYS_WRITE, uintptr(p.askMap), uintptr(unsafe.Pointer(&p.byte1)), 1)
		if p.do(stepMapped, unix.SYS_READ, uintptr(p.askMap), uintptr(unsafe.Pointer(&p.byte1)), 1) != 1 {
			p.fail(stepMapped, unix.EPIPE)
		}
	}
}

// become sets the program's ids, capabilities, root and working directory.
//
//go:norace
//go:nosplit
func become(p *plan) {
	if p.confine != nil {
		p.confine.become(p)
	}
	if p.become {
		p.do(stepSetgid, unix.SYS_SETRESGID, 0, 0, 0)
		p.do(stepSetuid, unix.SYS_SETRESUID, 0, 0, 0)
	}
	// After the last change of credentials, which clears the signal (prctl(2)).
	p.dieWithParent()
	if p.newProc {
		p.do5(stepProc, unix.SYS_MOUNT, at(procfs), at(proc), at(procfs), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	}
	if p.dir != nil {
		p.do(stepChdir, unix.SYS_CHDIR, at(p.dir), 0, 0)
	}
}

// undumpable protects this process from tracing by processes with CAP_SYS_PTRACE in the namespace that is about to
// be entered, or with the same user id. It does not affect the parent. A change of ids may reset it to
// fs.suid_dumpable.
//
//go:norace
//go:nosplit
func (p *plan) undumpable() { p.do(stepUndumpable, unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0) }

//go:norace
//go:nosplit
func (p *plan) dropGroups() syscall.Errno {
	_, e := p.try(unix.SYS_SETGROUPS, 0, 0, 0)
	return e
}

// limitCaps removes permitted capabilities that are not in limit, and makes the rest effective, and inheritable
// if inherit.
//
//go:norace
//go:nosplit
func (p *plan) limitCaps(limit uint64, inherit bool) {
	p.do(stepCaps, unix.SYS_CAPGET, uintptr(unsafe.Pointer(&p.capHdr)), uintptr(unsafe.Pointer(&p.capData[0])), 0)
	p.capData[0].Permitted &= uint32(limit)
	p.capData[1].Permitted &= uint32(limit >> 32)
	for i := 0; i < len(p.capData); i++ {
		p.capData[i].Effective, p.capData[i].Inheritable = p.capData[i].Permitted, 0
		if inherit {
			p.capData[i].Inheritable = p.capData[i].Permitted
		}
	}
	p.do(stepCaps, unix.SYS_CAPSET, uintptr(unsafe.Pointer(&p.capHdr)), uintptr(unsafe.Pointer(&p.capData[0])), 0)
}

// dieWithParent sets the parent-death signal, which a change of credentials clears.
//
//go:norace
//go:nosplit
func (p *plan) dieWithParent() {
	if p.pdeathsig == 0 {
		return
	}
	p.do(stepPdeathsig, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, p.pdeathsig, 0)
	// The parent may have died before that. In a new PID namespace both are 0.
	if ppid, e := p.try(unix.SYS_GETPPID, 0, 0, 0); e == 0 && int(ppid) != p.parent {
		p.fail(stepPdeathsig, unix.ESRCH)
	}
}

// files moves the descriptors to their numbers: first all above the target numbers, then down.
//
//go:norace
//go:nosplit
func files(p *plan) {
	p.report = p.raised(p.report)
	for i := 0; i < len(p.fds); i++ {
		if p.fds[i] >= 0 {
			p.fds[i] = p.raised(p.fds[i])
		}
	}
	for i := 0; i < len(p.fds); i++ {
		if p.fds[i] >= 0 {
			p.do(stepFiles, unix.SYS_DUP3, uintptr(p.fds[i]), uintptr(i), 0)
		} else if !p.keeps(i) {
			p.try(unix.SYS_CLOSE, uintptr(i), 0, 0)
		}
	}
	const closeRangeCloexec = 4 // CLOSE_RANGE_CLOEXEC, Linux 5.11
	if _, e := p.try(unix.SYS_CLOSE_RANGE, uintptr(len(p.fds)), ^uintptr(0)>>1, closeRangeCloexec); e != 0 {
		for fd := len(p.fds); fd < 4096; fd++ { // older kernels
			p.try(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
	}
	for i := 0; i < len(p.keep); i++ {
		p.try(unix.SYS_FCNTL, uintptr(p.keep[i]), unix.F_SETFD, 0)
	}
}

// raised returns a copy of a descriptor above the target numbers; the descriptor itself if that fails.
//
//go:norace
//go:nosplit
func (p *plan) raised(fd int) int {
	r := p.do(stepFiles, unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, uintptr(len(p.fds)))
	if p.errno != 0 {
		return fd
	}
	return int(r)
}

//go:norace
//go:nosplit
func (p *plan) keeps(fd int) bool {
	for i := 0; i < len(p.keep); i++ {
		if p.keep[i] == fd {
			return true
		}
	}
	return false
}
