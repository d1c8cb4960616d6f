package nsexec

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// families are the address families of which a socket is bound to a network namespace, or to files.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET}

// CheckStdio refuses a standard stream that is a socket of the caller's network, or of none: what a program
// without a way out is given must not be one.
func CheckStdio(stdio [3]*os.File) error {
	for fd, f := range stdio {
		if f == nil {
			continue
		}
		domain, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err == nil && domain != unix.AF_UNIX {
			return fault.New(fault.Usage, fmt.Sprintf("descriptor %d is a socket of the host's network, which egress rules don't reach", fd), "give COMMAND a pipe or a file")
		}
	}
	return nil
}

// LimitSockets keeps the calling process, all its threads and all that they start from sockets that no
// network namespace confines (AF_VSOCK, Bluetooth, …), also made through io_uring. It takes CAP_SYS_ADMIN
// in the process's user namespace. On processors that the filter was not tried on it is an error.
func LimitSockets() error {
	prog, err := socketFilter()
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// socketFilter answers socket(2) and socketpair(2) of other families as a kernel without them does, and
// io_uring_setup(2), and what makes sockets in other ways, as one that doesn't know it.
func socketFilter() (unix.SockFprog, error) {
	type abi struct{ arch, socket, socketpair, socketcall uint32 }
	abis := map[string][]abi{
		"amd64": {{unix.AUDIT_ARCH_X86_64, 41, 53, 0}, {unix.AUDIT_ARCH_I386, 359, 360, 102}},
		"arm64": {{unix.AUDIT_ARCH_AARCH64, 198, 199, 0}, {unix.AUDIT_ARCH_ARM, 281, 288, 102}},
	}[runtime.GOARCH]
	if abis == nil {
		return unix.SockFprog{}, fmt.Errorf("seccomp: not on %s", runtime.GOARCH)
	}
	var prog []unix.SockFilter
	for _, a := range abis {
		body := []unix.SockFilter{
			{Code: load, K: dataNr},
			{Code: equal, K: 425, Jf: 1}, // io_uring_setup, everywhere
			refuse(unix.ENOSYS),
		}
		if a.arch == unix.AUDIT_ARCH_X86_64 {
			body = append(body, unix.SockFilter{Code: above, K: x32, Jf: 1}, refuse(unix.ENOSYS))
		}
		if a.socketcall != 0 {
			body = append(body, unix.SockFilter{Code: equal, K: a.socketcall, Jf: 1}, refuse(unix.ENOSYS))
		}
		body = append(body,
			unix.SockFilter{Code: equal, K: a.socket, Jt: 2},
			unix.SockFilter{Code: equal, K: a.socketpair, Jt: 1},
			allow,
			unix.SockFilter{Code: load, K: dataArg0})
		for _, f := range families {
			body = append(body, unix.SockFilter{Code: equal, K: f, Jf: 1}, allow)
		}
		body = append(body, refuse(unix.EAFNOSUPPORT))
		prog = append(prog, unix.SockFilter{Code: load, K: dataArch}, unix.SockFilter{Code: equal, K: a.arch, Jf: uint8(len(body))})
		prog = append(prog, body...)
	}
	prog = append(prog, refuse(unix.ENOSYS)) // no other
	return unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}, nil
}
