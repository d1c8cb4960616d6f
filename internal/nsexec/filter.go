package nsexec

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// refused are the system calls that a confined program does not need and a tracer could abuse.
var refused = []uint32{
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL,
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
	unix.SYS_EXECVE,
	// other namespaces and files
	unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_CLONE3, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT, unix.SYS_MOUNT, unix.SYS_UMOUNT2,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_FSMOUNT,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT,
	// the caller's keyrings and its System V and POSIX IPC objects
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_MSGGET, unix.SYS_MSGCTL, unix.SYS_MSGSND, unix.SYS_MSGRCV,
	unix.SYS_SEMGET, unix.SYS_SEMCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
	// kernel interfaces that often had vulnerabilities
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// Offsets in struct seccomp_data (seccomp(2)); dataArg0 is the low half of the argument on a little-endian CPU.
const dataNr, dataArch, dataArg0 = 0, 4, 16

const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	above  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	set    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	answer = unix.BPF_RET | unix.BPF_K
	x32    = 0x40000000 // __X32_SYSCALL_BIT
)

var allow = unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW}

func refuse(e unix.Errno) unix.SockFilter {
	return unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(e)}
}

// filter returns a seccomp filter under which the refused system calls fail with EPERM, and clone(2) too unless it
// creates a thread. It is empty on architectures where it was not tested.
func filter() unix.SockFprog {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return unix.SockFprog{}
	}
	// Each comparison skips the return after it, so that no jump is too long.
	prog := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: arch, Jt: 1},
		refuse(unix.EPERM),
		{Code: load, K: dataNr},
		{Code: above, K: x32, Jf: 1},
		refuse(unix.EPERM),
	}
	for _, nr := range refused {
		errno := unix.EPERM
		if nr == unix.SYS_CLONE3 {
			errno = unix.ENOSYS // callers fall back to clone
		}
		prog = append(prog, unix.SockFilter{Code: equal, K: nr, Jf: 1}, refuse(errno))
	}
	prog = append(prog,
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE, Jf: 3},
		unix.SockFilter{Code: load, K: dataArg0},
		unix.SockFilter{Code: set, K: unix.CLONE_THREAD, Jt: 1},
		refuse(unix.EPERM),
		allow,
	)
	return unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
}
