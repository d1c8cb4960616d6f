package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are the system calls that forbid knows.
var forbidden = map[string]uint32{
	"unshare": unix.SYS_UNSHARE, "setns": unix.SYS_SETNS, "pidfd_open": unix.SYS_PIDFD_OPEN,
	"pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "seccomp": unix.SYS_SECCOMP,
	"mount": unix.SYS_MOUNT, "memfd_create": unix.SYS_MEMFD_CREATE,
}

// forbid CALL[,CALL...] PROGRAM ARG... runs a program under a seccomp filter that returns EPERM for these
// system calls, as container engines do; "kill" as a CALL makes it kill instead, as systemd does; "enosys"
// makes it answer like a kernel without them.
func forbid(args []string) int {
	action := uint32(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for _, name := range strings.Split(args[0], ",") {
		switch name {
		case "kill":
			action = unix.SECCOMP_RET_KILL_PROCESS
			continue
		case "enosys":
			action = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
			continue
		}
		nr, ok := forbidden[name]
		if !ok {
			return failed("forbid: no system call %q", name)
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	}
	for i := range filter {
		if filter[i].Code == unix.BPF_RET|unix.BPF_K {
			filter[i].K = action
		}
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	path, err := exec.LookPath(args[1])
	if err != nil {
		return failed("forbid: %v", err)
	}
	runtime.LockOSThread()
	if os.Geteuid() != 0 { // with no_new_privs, a set-user-ID newuidmap works for root only
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return failed("forbid: %v", err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return failed("forbid: seccomp: %v", errno)
	}
	return failed("forbid: %v", syscall.Exec(path, args[1:], os.Environ()))
}
