package control

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// errRefused: the caller is not where callers have to be.
var errRefused = fault.New(0, "the control socket refuses this caller",
	"call it from where the instance was started: the same user namespace and network namespace")

func refused(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errRefused, fmt.Sprintf(format, a...))
}

// namespaces are those whose processes may use the socket. Who is inside the instance's network is in
// another one, whatever its user id; forwards and the instance's end are none of its business.
type namespaces struct {
	user   unix.Stat_t
	net    unix.Stat_t
	cookie int // of the network namespace; 0: the kernel gives none
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

// netnsCookie returns the name of the network namespace that a socket was made in; for an accepted one that is
// the caller's socket. 0: a kernel before Linux 5.14.
func netnsCookie(fd int) int {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return int(cookie)
}

// check says why the process at the other end of a connection may not use the socket, or nil. The process is the
// one that connected, held by a pidfd: before Linux 6.5 by one that is opened now, when the PID may
// be another's.
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
		return nil // root, whom an ordinary user may not look at; and none of a user's namespaces has root's id
	}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		pidfd, err = unix.PidfdOpen(int(cred.Pid), 0)
	}
	if err != nil {
		return refused("it can't be told which process it is: %v", err)
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
			return refused("it can't be told which %s namespace it is in: %v", full, err)
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

// sameNamespace compares a namespace of the process behind a pidfd. pid is its number here, 0 if it has none, in
// another PID namespace.
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
		// Only now is it certain that it was this process's.
		if alive := unix.PidfdSendSignal(pidfd, 0, nil, 0); err == nil && errors.Is(alive, unix.ESRCH) {
			err = alive
		}
	}
	return st.Dev == own.Dev && st.Ino == own.Ino, err
}

func peerUID(c *net.UnixConn) (uid uint32, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := rc.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}
