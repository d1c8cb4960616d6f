package supervisor

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// stopAlong stops this process because COMMAND was stopped, as a shell expects of a job, and continues
// COMMAND when this process is continued.
func (s *supervisor) stopAlong() {
	tty, foreground := openTerminal()
	if tty != nil {
		defer tty.Close()
	}
	// COMMAND, if it is a shell, may have made one of its own process groups the foreground group. It can't
	// undo that: its PID namespace has no number for ours.
	lent := tty != nil && foreground != unix.Getpgrp() && descends(foreground, s.cmd.PID())
	if lent {
		setForeground(tty, unix.Getpgrp())
	}
	nscommand.StopSelf(syscall.SIGTSTP)
	if lent {
		if now, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP); err == nil && now == unix.Getpgrp() {
			setForeground(tty, foreground)
		}
	}
	_ = s.cmd.Signal(syscall.SIGCONT)
}

// takeTerminal makes this process's group the terminal's foreground group again, if the present one
// was COMMAND's and no longer exists.
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

// openTerminal opens the controlling terminal and returns it with its foreground process group; nil
// if there is no terminal.
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

// setForeground sets the terminal's foreground process group. It blocks SIGTTOU, so that it also works from the
// background (tcsetpgrp(3)).
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

// descends reports whether a process is ancestor or one of its descendants.
func descends(pid, ancestor int) bool {
	for pid > 1 && pid != ancestor {
		s, err := procfs.ReadStat(pid)
		if err != nil {
			return false
		}
		pid = s.Parent
	}
	return pid == ancestor
}
