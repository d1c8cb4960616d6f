// Package peercred identifies the process at the other end of a UNIX socket. It exists because the control socket,
// its clients and the client of slirp4netns's API all need to know that process.
package peercred

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Get returns the credentials of the peer (unix(7), SO_PEERCRED): those of the process that called connect(2), or of
// the one that called listen(2). The PID is 0 if the process is not in the caller's PID namespace.
func Get(c *net.UnixConn) (cred *unix.Ucred, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := rc.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(cerr, os.NewSyscallError("getsockopt(SO_PEERCRED)", err)); err != nil {
		return nil, err
	}
	return cred, nil
}
