package rootlesskit

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/lowlevelmsgutil"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/msg"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// request asks the child half for a socket that is connected to f's destination. RootlessKit's own
// function for this discards the child's error message.
func request(c *net.UnixConn, f hostfwd.Forward, client netip.AddrPort) (fd int, err error) {
	_, err = lowlevelmsgutil.MarshalToWriter(c, &msg.Request{
		Type: msg.RequestTypeConnect, Proto: string(f.Proto), IP: f.GuestIP.String(), Port: int(f.GuestPort),
		SourceIP: client.Addr().String(), SourcePort: int(client.Port()),
	})
	if err != nil {
		return -1, noErrno(err)
	}
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(data, oob)
	if err != nil {
		return -1, noErrno(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return -1, err
	}
	for _, m := range msgs {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			if err := check(fds[0], f); err != nil {
				unix.Close(fds[0])
				return -1, err
			}
			return fds[0], nil
		}
	}
	return -1, refusal(data[:n])
}

// check rejects anything but a socket for f: a process inside that controls the child half could send any file.
// It also makes the socket non-blocking again, which RootlessKit made blocking.
func check(fd int, f hostfwd.Forward) error {
	domain, typ := unix.AF_INET, unix.SOCK_STREAM
	if f.GuestIP.Is6() {
		domain = unix.AF_INET6
	}
	if f.Proto.Network() == "udp" {
		typ = unix.SOCK_DGRAM
	}
	d, err1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	t, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err1 != nil || err2 != nil || d != domain || t != typ {
		return errors.New("the helper in the namespace returned something other than the requested socket")
	}
	return unix.SetNonblock(fd, true)
}

// refusal turns a reply without a socket into an error.
func refusal(reply []byte) error {
	var rep msg.Reply
	if _, err := lowlevelmsgutil.UnmarshalFromReader(bytes.NewReader(reply), &rep); err != nil || rep.Error == "" {
		return errors.New("the helper in the namespace returned no socket")
	}
	// The reply is only text, which ends with the system's error as printed by Go.
	for _, errno := range []unix.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ETIMEDOUT, unix.EADDRNOTAVAIL, unix.EMFILE} {
		if strings.HasSuffix(rep.Error, errno.Error()) {
			return errno
		}
	}
	return errors.New(rep.Error)
}

// noErrno hides the errno of a failure to reach the child half, which says nothing about the guest.
func noErrno(err error) error { return fmt.Errorf("the helper in the namespace: %v", err) }
