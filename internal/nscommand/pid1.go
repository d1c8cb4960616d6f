package nscommand

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// BelowInit runs this program anew as the child of this process, which is PID 1 (of a container, say)
// and so the one that everybody's orphans come to: it only reaps, passes signals on, and ends as the
// child does. keep are the descriptors above 2 that are the child's alone.
func BelowInit(keep []int) (status int, err error) {
	runtime.LockOSThread()
	in := &initProcess{setup: initSetup{KeepFDs: keep}}
	in.catchSignals()
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		// The keyboard's signals are the child's, and not passed on to it once more.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	}
	if pgrp, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil && pgrp == unix.Getpgrp() {
		attr.Sys.Foreground = true
	}
	if in.pid, err = syscall.ForkExec("/proc/self/exe", os.Args, attr); err != nil {
		return StatusFailed, fmt.Errorf("start slirpctl below PID 1: %w", err)
	}
	in.leaveCommand()
	return in.watch(), nil
}
