package hostfwd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Diagnose returns why this host would refuse to listen for f, by briefly binding a socket to f's
// host address and port, in the network namespace and with the privileges of the calling
// process. It does not listen, so no client can connect. nil means that binding works. The
// error wraps the system's. With host port 0 it checks the address only.
func Diagnose(f Forward) error {
	_, err := trialBind(f)
	return err
}

// Explain replaces a system error about listening for f by what [Diagnose] finds out, if
// anything. Other errors, and those already explained, are returned unchanged.
func Explain(f Forward, err error) error {
	for _, e := range []error{syscall.EADDRINUSE, syscall.EACCES, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT} {
		if errors.Is(err, e) && fault.Hint(err) == "" {
			if why := Diagnose(f); why != nil {
				return why
			}
			if by, kind, ok := holderOf(f, true); ok && e == syscall.EADDRINUSE {
				return portInUse(f, by, kind) // the handler needs more than this address
			}
		}
	}
	return err
}

// FreePort returns a host port that is now free for f's protocol and host address. Another
// program may take it before it is used. The errors are those of [Diagnose].
func FreePort(f Forward) (uint16, error) {
	f.HostPort = 0
	return trialBind(f)
}

// portTaken reports whether another socket has f's host port, without looking for its owner.
func portTaken(f Forward) bool {
	fd, _, err := Bind(f, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

func trialBind(f Forward) (port uint16, err error) {
	if !f.HostIP.IsValid() {
		f.HostIP = unspecified(f.Proto == TCP6 || f.Proto == UDP6)
	}
	f.HostIP = f.HostIP.Unmap()
	fd, port, err := Bind(f, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return port, nil
	case errors.Is(err, syscall.EADDRINUSE):
		if f.HostPort == 0 {
			return 0, fmt.Errorf("no free port on %s: %w", bracketed(f.HostIP), err)
		}
		by, kind, _ := holderOf(f, false)
		return 0, portInUse(f, by, kind)
	case errors.Is(err, syscall.EACCES):
		return 0, PrivilegedPort(f, UnprivilegedPortStart())
	case errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EADDRNOTAVAIL) && f.HostIP.Is6() && !hostHasIPv6():
		return 0, noIPv6(f)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, errNoInterface):
		return 0, notLocal(f)
	}
	return 0, fmt.Errorf("listen on %s: %w", hostSide(f), err)
}

// dualStack reports whether listening for f uses the IPv4 port as well, as Go's net does
// on [::] unless the protocol says otherwise.
func (f Forward) dualStack() bool { return f.HostIP == netip.IPv6Unspecified() && len(f.Proto) == 3 }

var errNoInterface = errors.New("no such interface")

// Bind returns a new socket that is bound to f's host address and port as for listening, and the port, which was picked
// if f has none. HostIP must be set. flags, besides SOCK_CLOEXEC, are those of socket(2). The errors wrap the system's.
func Bind(f Forward, flags int) (_ int, port uint16, err error) {
	tcp, family := f.Proto.Network() == "tcp", unix.AF_INET
	typ := unix.SOCK_DGRAM
	if tcp {
		typ = unix.SOCK_STREAM
	}
	var at unix.Sockaddr
	if f.HostIP.Is4() {
		at = &unix.SockaddrInet4{Port: int(f.HostPort), Addr: f.HostIP.As4()}
	} else {
		zone, err := zoneID(f.HostIP.Zone())
		if err != nil {
			return -1, 0, err
		}
		family, at = unix.AF_INET6, &unix.SockaddrInet6{Port: int(f.HostPort), Addr: f.HostIP.As16(), ZoneId: zone}
	}
	fd, err := unix.Socket(family, typ|flags|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if tcp {
		// Connections in TIME_WAIT don't block the port; another listener still does. For UDP the option would let a
		// second socket bind the port.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return -1, 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if family == unix.AF_INET6 {
		only := 1
		if f.dualStack() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return -1, 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, at); err != nil {
		return -1, 0, os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, os.NewSyscallError("getsockname", err)
	}
	if four, ok := bound.(*unix.SockaddrInet4); ok {
		return fd, uint16(four.Port), nil
	}
	return fd, uint16(bound.(*unix.SockaddrInet6).Port), nil
}

func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", errNoInterface, zone)
	}
	return uint32(i.Index), nil
}

// hostHasIPv6 reports whether any interface has an IPv6 address.
func hostHasIPv6() bool {
	b, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	return err != nil && !errors.Is(err, os.ErrNotExist) || len(b) > 0
}
