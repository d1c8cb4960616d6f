package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stopAlong stops this process because COMMAND was stopped, as a shell expects of a job, and lets
// COMMAND go on when it goes on itself.
func (s *supervisor) stopAlong() {
	tty, foreground := openTerminal()
	if tty != nil {
		defer tty.Close()
	}
	// COMMAND, as a shell, may have given the terminal to a group of its own. It can't give it back:
	// its PID namespace has no name for ours.
	lent := tty != nil && foreground != unix.Getpgrp() && descends(foreground, s.cmd.PID())
	if lent {
		setForeground(tty, unix.Getpgrp())
	}
	stopSelf()
	if lent {
		if now, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP); err == nil && now == unix.Getpgrp() {
			setForeground(tty, foreground)
		}
	}
	_ = s.cmd.Signal(syscall.SIGCONT)
}

// stopSelf stops this process, as SIGTSTP does where nobody catches it: there has to be a shell
// that could continue it (setpgid(2), orphaned process groups). The Go runtime has no way back from
// catching it. It returns once the process goes on.
func stopSelf() {
	var byDefault, old [64]byte // as large as struct sigaction is anywhere
	sigaction := func(set, old *[64]byte) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	}
	// To this thread, so that it stops here.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sigaction(&byDefault, &old)
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP)
	sigaction(&old, nil)
}

// takeTerminal makes this process's group the terminal's foreground again, where that is one of
// COMMAND's that has gone.
func takeTerminal() {
	tty, foreground := openTerminal()
	if tty == nil {
		return
	}
	defer tty.Close()
	if foreground > 0 && unix.Kill(-foreground, 0) == unix.ESRCH {
		setForeground(tty, unix.Getpgrp())
	}
}

// openTerminal opens the controlling terminal, and returns its foreground process group too; nil if
// there is none.
func openTerminal() (tty *os.File, foreground int) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0
	}
	foreground, err = unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	if err != nil {
		tty.Close()
		return nil, 0
	}
	return tty, foreground
}

// setForeground also works from the background: with SIGTTOU blocked (tcsetpgrp(3)).
func setForeground(tty *os.File, pgrp int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ttou, old unix.Sigset_t
	ttou.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &ttou, &old) != nil {
		return
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	_ = unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPGRP, pgrp)
}

// descends reports whether a process is below another in the tree of processes.
func descends(pid, ancestor int) bool {
	for pid > 1 && pid != ancestor {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
		if len(f) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(string(f[1])); err != nil {
			return false
		}
	}
	return pid == ancestor
}
