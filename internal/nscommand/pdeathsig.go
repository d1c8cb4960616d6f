package nscommand

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent binds what this goroutine executes from now on to the life of the parent. What was
// set before this program began is not enough: the parent-death signal belongs to a thread
// (prctl(2)), the Go runtime moves goroutines between threads, and the one that calls execve(2) is
// the one that stays. A change of credentials clears it, so it comes after those.
func dieWithParent(parent int) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_PDEATHSIG): %w", err)
	}
	if os.Getppid() != parent { // it died before the line above
		return fmt.Errorf("the supervisor is gone: %w", unix.ESRCH)
	}
	return nil
}
