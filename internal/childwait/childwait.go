// Package childwait tells that a child process was stopped, by SIGSTOP or a debugger gone astray,
// which os/exec can't. It exists because a stopped process neither works nor ends: without this
// nobody would notice, or only by asking it something every other second.
package childwait

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrEnded: the child has ended and is there to be reaped.
var ErrEnded = errors.New("ended")

// Next waits until the child is stopped by a signal, which it returns, or has ended: then the
// error is [ErrEnded] and the child is left to be reaped (waitid(2), WNOWAIT), so that its PID
// stays its own. It holds a thread while it waits.
func Next(pid int) (syscall.Signal, error) {
	for {
		info, err := waitid(pid, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case info.code != cldStopped && info.code != cldTrapped:
			return 0, ErrEnded
		}
		// Only now is the event taken, and none if the child goes on or is dead by now.
		if info, err = waitid(pid, unix.WSTOPPED|unix.WNOHANG); err == nil && info.pid != 0 {
			return syscall.Signal(info.status), nil
		}
	}
}

// childInfo is the part of siginfo_t that waitid(2) fills in.
type childInfo struct {
	signo, errno, code int32
	_                  [unsafe.Sizeof(uintptr(0))/4 - 1]int32 // padding on 64 bits
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// CLD_TRAPPED and CLD_STOPPED (sigaction(2)).
const cldTrapped, cldStopped = 4, 5

func waitid(pid, options int) (childInfo, error) {
	var info childInfo
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(pid), uintptr(unsafe.Pointer(&info)), uintptr(options), 0, 0)
	if errno != 0 {
		return info, errno
	}
	return info, nil
}
