package probe

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/gateway"
)

// Child must be the first call in main: in a child that a check has started it runs the trial,
// prints the [Trial] as JSON and exits; otherwise it returns at once.
func Child() {
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	runtime.LockOSThread()
	time.AfterFunc(2*checkTimeout, func() { os.Exit(1) }) // in case the parent has exited
	var trial Trial
	switch ChildKind(os.Args[1]) {
	case Rootless, Privileged:
		trial = tryAll()
	case UserOnly:
	case waiting:
		wait()
	case callsKind:
		childCalls()
		unix.Exit(0)
	default:
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(trial); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	unix.Exit(0) // os.Exit would take a second under the race detector
}

// tryAll runs in new network and mount namespaces, which it may change.
func tryAll() Trial {
	var t Trial
	t.TunOpen, t.TunAttach, t.TunSecond = tryTun()
	if err := gateway.TryRules(); err != nil {
		t.Redirect = err.Error()
	}
	t.Netem = tryNetem()
	t.SandboxStep, t.Sandbox = trySandbox()
	t.Seccomp = trySeccomp()
	return t
}

// tryTun makes a tap in the child's own network namespace, and beside it the second one of an egress gateway. They go
// away with their descriptors.
func tryTun() (open, attach, second unix.Errno) {
	open, attach, fd := tryTap("probe0")
	if open != 0 || attach != 0 {
		return open, attach, 0
	}
	defer unix.Close(fd)
	open, second, fd = tryTap("probe1")
	if open == 0 && second == 0 {
		unix.Close(fd)
	}
	return 0, 0, max(open, second)
}

func tryTap(name string) (open, attach unix.Errno, fd int) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err), 0, -1
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return 0, errnoOf(err), -1
	}
	return 0, 0, fd
}

// tryNetem asks for a queue of kind netem on lo, without its options: a kernel that has it, or can load it, answers
// EINVAL, another one ENOENT (tc(8): "Specified qdisc kind is unknown").
func tryNetem() unix.Errno {
	const loopback, tcaKind = 1, 1
	kind := []byte("netem\x00\x00\x00") // padded to four bytes
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+20+4+len(kind)))
	request = binary.NativeEndian.AppendUint16(request, unix.RTM_NEWQDISC)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	for _, word := range []uint32{0, 0, 0, loopback, 0, math.MaxUint32 /* at the root */, 0} { // number and port; struct tcmsg
		request = binary.NativeEndian.AppendUint32(request, word)
	}
	request = binary.NativeEndian.AppendUint16(request, uint16(4+len("netem\x00")))
	request = append(binary.NativeEndian.AppendUint16(request, tcaKind), kind...)

	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return errnoOf(err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return errnoOf(err)
	}
	if n < unix.NLMSG_HDRLEN+4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])))
}

// trySandbox does the steps of slirp4netns's --enable-sandbox that hosts are known to forbid:
// private mounts, a tmpfs on /tmp, /etc and /run bound into it, pivot_root, with the same order
// and flags.
func trySandbox() (step string, errno unix.Errno) {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	root := "/tmp"
	bind := func(dir string) func() error {
		return func() error {
			to := filepath.Join(root, dir)
			if err := unix.Mkdir(to, 0o755); err != nil {
				return err
			}
			return unix.Mount(dir, to, "", unix.MS_BIND|unix.MS_REC, "")
		}
	}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS) }},
		{"make the mounts private", func() error { return unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "") }},
		{"mount a tmpfs on /tmp", func() error { return unix.Mount("tmpfs", root, "tmpfs", flags, "size=1k") }},
		{"bind /etc", bind("/etc")},
		{"bind /run", bind("/run")},
		{"make a directory", func() error { return unix.Mkdir(filepath.Join(root, "old"), 0o755) }},
		{"pivot_root", func() error { return unix.PivotRoot(root, filepath.Join(root, "old")) }},
		{"enter the new root", func() error { return unix.Chdir("/") }},
		{"unmount the old root", func() error { return unix.Unmount("/old", unix.MNT_DETACH) }},
	} {
		if err := s.do(); err != nil {
			return s.name, errnoOf(err)
		}
	}
	return "", 0
}

// trySeccomp installs a filter that allows everything, for this thread, as --enable-seccomp
// installs a real one.
func trySeccomp() unix.Errno {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return errnoOf(err)
	}
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	return errno
}
