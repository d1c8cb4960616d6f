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

// child is the main function of the child. See the package comment for the protocol.
//
//go:noinline
//go:norace
//go:nosplit
func child(p *plan) {
	s, errno := enter(p)
	if p.sysctl != nil {
		if errno == 0 {
			s, errno = p.sysctl.set()
		}
		p.end(s, errno)
	}
	if p.tap != nil {
		if errno == 0 {
			s, errno = p.tap.make(p)
		}
		p.end(s, errno)
	}
	if errno == 0 {
		s, errno = become(p)
	}
	if errno == 0 {
		s, errno = files(p)
	}
	if errno == 0 && p.confine != nil {
		s, errno = p.confine.last()
	}
	if errno == 0 {
		syscall.RawSyscall(unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&p.rlimit)), 0)
		// Restore the caller's signal mask; the exec resets handlers.
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
			uintptr(unsafe.Pointer(&p.oldMask)), 0, 8, 0, 0)
		s = stepExec
		dir, flags := ^uintptr(99), uintptr(0) // AT_FDCWD
		if p.self >= 0 {
			dir, flags = uintptr(p.self), unix.AT_EMPTY_PATH
		}
		_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, dir, uintptr(unsafe.Pointer(p.path)),
			uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envv[0])), flags, 0)
	}
	p.end(s, errno)
}

// end reports a failure, or the result of [sysctl.set], and exits.
//
//go:norace
//go:nosplit
func (p *plan) end(s step, errno syscall.Errno) {
	p.send(p.report, uint32(s), uint32(errno))
	if p.sysctl != nil && errno == 0 {
		syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.report), uintptr(unsafe.Pointer(&p.sysctl.old[0])), p.sysctl.n)
	}
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
func enter(p *plan) (step, syscall.Errno) {
	if p.setsid {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); e != 0 {
			return stepSession, e
		}
	} else if p.setpgid {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETPGID, 0, 0, 0); e != 0 {
			return stepSession, e
		}
	}
	if p.joinUser >= 0 || p.joinNet >= 0 {
		notDumpable()
	}
	if p.confine != nil {
		// Works for root. Others may not do it here; become tries again inside.
		syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	}
	if p.joinUser >= 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.joinUser), unix.CLONE_NEWUSER, 0); e != 0 {
			return stepJoinUser, e
		}
		if p.confine != nil {
			p.confine.findIDs()
		}
	}
	if p.joinNet >= 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(p.joinNet), unix.CLONE_NEWNET, 0); e != 0 {
			return stepJoinNet, e
		}
	}
	if p.unshare != 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_UNSHARE, uintptr(p.unshare), 0, 0); e != 0 {
			return stepUnshare, e
		}
	}
	if p.askMap >= 0 {
		// Also while waiting for the maps. If the parent died before this, the read returns end of file.
		syscall.RawSyscall(unix.SYS_CLOSE, uintptr(p.maps), 0, 0)
		if s, e := dieWithParent(p); e != 0 {
			return s, e
		}
		syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.askMap), uintptr(unsafe.Pointer(&p.byte1)), 1)
		n, _, e := syscall.RawSyscall(unix.SYS_READ, uintptr(p.askMap), uintptr(unsafe.Pointer(&p.byte1)), 1)
		if n != 1 {
			if e == 0 {
				e = unix.EPIPE
			}
			return stepMapped, e
		}
	}
	return 0, 0
}

// become sets the program's ids, capabilities, root and working directory.
//
//go:norace
//go:nosplit
func become(p *plan) (step, syscall.Errno) {
	if p.confine != nil {
		if s, e := p.confine.become(); e != 0 {
			return s, e
		}
	}
	if p.become {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); e != 0 {
			return stepSetgid, e
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); e != 0 {
			return stepSetuid, e
		}
	}
	// After the last change of credentials, which clears the signal (prctl(2)).
	if s, e := dieWithParent(p); e != 0 {
		return s, e
	}
	if p.proc != nil {
		if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(p.proc)), uintptr(unsafe.Pointer(p.procDir)), uintptr(unsafe.Pointer(p.proc)),
			unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0, 0); e != 0 {
			return stepProc, e
		}
	}
	if p.dir != nil {
		if _, _, e := syscall.RawSyscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(p.dir)), 0, 0); e != 0 {
			return stepChdir, e
		}
	}
	return 0, 0
}

// notDumpable protects this process from tracing by processes with CAP_SYS_PTRACE in the namespace that is about to
// be entered, or with the same user id. It does not affect the parent.
//
//go:norace
//go:nosplit
func notDumpable() {
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
}

// dieWithParent sets the parent-death signal.
//
//go:norace
//go:nosplit
func dieWithParent(p *plan) (step, syscall.Errno) {
	if p.pdeathsig == 0 {
		return 0, 0
	}
	if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, p.pdeathsig, 0, 0, 0, 0); e != 0 {
		return stepPdeathsig, e
	}
	// The parent may have died before that. In a new PID namespace both are 0.
	if ppid, _, _ := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); int(ppid) != p.parent {
		return stepPdeathsig, unix.ESRCH
	}
	return 0, 0
}

// files moves the descriptors to their numbers: first all above the target numbers, then down.
//
//go:norace
//go:nosplit
func files(p *plan) (step, syscall.Errno) {
	n := len(p.fds)
	r, _, e := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p.report), unix.F_DUPFD_CLOEXEC, uintptr(n))
	if e != 0 {
		return stepFiles, e
	}
	p.report = int(r)
	for i := 0; i < n; i++ {
		if p.fds[i] < 0 {
			continue
		}
		r, _, e := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p.fds[i]), unix.F_DUPFD_CLOEXEC, uintptr(n))
		if e != 0 {
			return stepFiles, e
		}
		p.fds[i] = int(r)
	}
	for i := 0; i < n; i++ {
		if p.fds[i] < 0 {
			if !p.keeps(i) {
				syscall.RawSyscall(unix.SYS_CLOSE, uintptr(i), 0, 0)
			}
			continue
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_DUP3, uintptr(p.fds[i]), uintptr(i), 0); e != 0 {
			return stepFiles, e
		}
	}
	const closeRangeCloexec = 4 // CLOSE_RANGE_CLOEXEC, Linux 5.11
	_, _, e = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, uintptr(n), ^uintptr(0)>>1, closeRangeCloexec)
	if e != 0 {
		for fd := n; fd < 4096; fd++ { // older kernels
			syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
	}
	for i := 0; i < len(p.keep); i++ {
		syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p.keep[i]), unix.F_SETFD, 0)
	}
	return 0, 0
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
