package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// inheritedFDs returns the descriptors above 2 that a program started now would inherit. What
// this program opens itself is close-on-exec, so they are what the caller handed on.
func inheritedFDs() []int {
	var fds []int
	des, _ := os.ReadDir("/proc/self/fd")
	for _, de := range des {
		fd, err := strconv.Atoi(de.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

func closeOnExec(fds []int) {
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
}
