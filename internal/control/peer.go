package control

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// errRefused means that the caller is in other namespaces than the supervisor.
var errRefused = fault.New(0, "the control socket refuses this caller",
	"call it from where the instance was started: the same user namespace and network namespace")

func refused(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errRefused, fmt.Sprintf(format, a...))
}

// namespaces are the namespaces whose processes may use the socket. Processes in the instance's network namespace
// may not, regardless of their user id: they must not change forwards or stop the instance.
type namespaces struct {
	user   unix.Stat_t
	net    unix.Stat_t
	cookie int // of the network namespace; 0: not supported by the kernel
}

func ownNamespaces() (n namespaces, err error) {
	if err := unix.Stat("/proc/self/ns/user", &n.user); err != nil {
		return n, fmt.Errorf("/proc/self/ns/user: %w", err)
	}
	if err := unix.Stat("/proc/self/ns/net", &n.net); err != nil {
		return n, fmt.Errorf("/proc/self/ns/net: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return n, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	n.cookie = netnsCookie(fd)
	return n, nil
}

// netnsCookie returns the cookie of the network namespace that a socket was created in; for an accepted socket, the
// namespace of the caller's socket. It is 0 before Linux 5.14.
func netnsCookie(fd int) int {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return int(cookie)
}

// check returns why the process at the other end of a connection may not use the socket, or nil. The process is
// identified by the pidfd of the connection (SO_PEERPIDFD); before Linux 6.5 by its PID, which may have been reused.
func (n namespaces) check(c *net.UnixConn) (err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) { err = n.checkSocket(int(fd)) })
	return errors.Join(cerr, err)
}

func (n namespaces) checkSocket(fd int) error {
	if n.cookie != 0 && netnsCookie(fd) != n.cookie {
		return refused("it is in another network namespace")
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt(SO_PEERCRED)", err)
	}
	if cred.Uid == 0 && os.Geteuid() != 0 {
		return nil // the real root, whose namespaces an ordinary user can't read; no user namespace of the user maps its id
	}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		pidfd, err = unix.PidfdOpen(int(cred.Pid), 0)
	}
	if err != nil {
		return refused("its process can't be determined: %v", err)
	}
	defer unix.Close(pidfd)
	for _, ns := range []struct {
		name string
		own  *unix.Stat_t
		get  uint
	}{{"user", &n.user, pidfdGetUserNamespace}, {"net", &n.net, pidfdGetNetNamespace}} {
		same, err := sameNamespace(pidfd, int(cred.Pid), ns.name, ns.get, ns.own)
		switch full := map[string]string{"user": "user", "net": "network"}[ns.name]; {
		case err != nil:
			return refused("its %s namespace can't be determined: %v", full, err)
		case !same:
			return refused("it is in another %s namespace", full)
		}
	}
	return nil
}

// ioctls of pidfds that open a namespace, since Linux 6.11 (linux/pidfd.h).
const (
	pidfdGetNetNamespace  = 0xff04
	pidfdGetUserNamespace = 0xff09
)

// sameNamespace reports whether a namespace of the process behind a pidfd is own. pid is the process's PID, 0 if it
// has none in this PID namespace.
func sameNamespace(pidfd, pid int, name string, get uint, own *unix.Stat_t) (bool, error) {
	var st unix.Stat_t
	fd, err := unix.IoctlRetInt(pidfd, get)
	switch {
	case err == nil:
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
	case !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL):
	case pid == 0:
		return false, errors.New("it is in another PID namespace, and this kernel is older than Linux 6.11")
	default:
		err = unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, name), &st)
		// If the process is still alive, the path was this process's.
		if alive := unix.PidfdSendSignal(pidfd, 0, nil, 0); err == nil && errors.Is(alive, unix.ESRCH) {
			err = alive
		}
	}
	return st.Dev == own.Dev && st.Ino == own.Ino, err
}
