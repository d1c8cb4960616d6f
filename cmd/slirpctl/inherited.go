package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// inheritedFDs returns the descriptors above 2 that are not close-on-exec. They come from the caller: Go opens
// files close-on-exec.
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
