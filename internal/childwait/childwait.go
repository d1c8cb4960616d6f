// Package childwait tells that a child process was stopped, by SIGSTOP or a debugger gone astray,
// which os/exec can't. It exists because a stopped process neither works nor ends: without this
// nobody would notice, or only by asking it something every other second.
package childwait

import (
	"errors"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a child may be stopped before it is taken for hopeless and killed.
const (
	mostStops   = 3
	stopsWithin = 10 * time.Second
)

// Watch returns when the child has ended; it is left to be reaped (waitid(2), WNOWAIT), so that
// its PID stays its own. Until then it holds a thread. A child that is stopped is sent SIGCONT at
// once and, stopped again and again, SIGKILL; stopped, if not nil, is told which of the two.
func Watch(pid int, send func(syscall.Signal) error, stopped func(by syscall.Signal, killed bool)) {
	var since time.Time
	stops := 0
	for {
		by, ok := nextStop(pid)
		if !ok {
			return
		}
		if stops == 0 || time.Since(since) > stopsWithin {
			since, stops = time.Now(), 0
		}
		stops++
		kill := stops > mostStops
		if kill {
			_ = send(syscall.SIGKILL)
		} else {
			_ = send(syscall.SIGCONT)
		}
		if stopped != nil {
			stopped(by, kill)
		}
	}
}

// nextStop waits until the child is stopped by a signal, which it returns, or has ended.
func nextStop(pid int) (syscall.Signal, bool) {
	for {
		info, err := waitid(pid, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || info.code != cldStopped && info.code != cldTrapped:
			return 0, false
		}
		// Only now is the event taken, and none if the child goes on or is dead by now.
		if info, err = waitid(pid, unix.WSTOPPED|unix.WNOHANG); err == nil && info.pid != 0 {
			return syscall.Signal(info.status), true
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
