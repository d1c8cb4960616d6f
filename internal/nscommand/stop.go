package nscommand

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StopSelf stops this process by a signal with its default action, which does nothing in an orphaned process
// group, where no shell could continue it (setpgid(2)). os/signal can't restore the default action, so
// rt_sigaction(2) is called directly. StopSelf returns when the process is continued.
func StopSelf(sig syscall.Signal) {
	var byDefault, old [4]uint64 // the kernel's struct sigaction
	action := func(set, old *[4]uint64) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	}
	// The signal goes to this thread, so that the process stops before Tgkill returns.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	action(&byDefault, &old)
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	action(&old, nil)
}

// Notify relays signals to c, except those that are ignored (nohup).
func Notify(c chan<- os.Signal, signals ...os.Signal) {
	for _, sig := range signals {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
}
