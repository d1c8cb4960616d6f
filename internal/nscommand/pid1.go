package nscommand

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// BelowInit runs this program again as a child of this process, which is PID 1, for example of a container,
// and so adopts all orphans. This process only reaps children, passes signals on, and exits with the child's
// status. keep are descriptors above 2 for the child, which this process closes.
func BelowInit(keep []int) (status int, err error) {
	runtime.LockOSThread()
	p := &initProcess{setup: initSetup{KeepFDs: keep}}
	p.catchSignals()
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		// The terminal sends signals from the keyboard to the child directly; don't pass them on.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	}
	if pgrp, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil && pgrp == unix.Getpgrp() {
		attr.Sys.Foreground = true
	}
	if p.pid, err = syscall.ForkExec("/proc/self/exe", os.Args, attr); err != nil {
		return StatusFailed, fmt.Errorf("start slirpctl below PID 1: %w", err)
	}
	p.leaveCommand()
	return p.watch(), nil
}
