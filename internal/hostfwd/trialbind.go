package hostfwd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

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
			if h, ok := holderOf(f, true); ok && e == syscall.EADDRINUSE {
				return portInUse(f, h.by, h.kind) // the handler needs more than this address
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
	_, err := bind(f.Proto.Network(), netip.AddrPortFrom(f.HostIP, f.HostPort), !f.dualStack())
	return errors.Is(err, syscall.EADDRINUSE)
}

func trialBind(f Forward) (port uint16, err error) {
	host := f.HostIP
	if !host.IsValid() {
		host = unspecified(f.Proto == TCP6 || f.Proto == UDP6)
	}
	f.HostIP = host.Unmap()
	port, err = bind(f.Proto.Network(), netip.AddrPortFrom(f.HostIP, f.HostPort), !f.dualStack())
	switch {
	case err == nil:
		return port, nil
	case errors.Is(err, syscall.EADDRINUSE):
		if f.HostPort == 0 {
			return 0, fmt.Errorf("no free port on %s: %w", bracketed(f.HostIP), err)
		}
		h, _ := holderOf(f, false)
		return 0, portInUse(f, h.by, h.kind)
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

// bind binds a socket as a listener would, and closes it.
func bind(network string, at netip.AddrPort, v6only bool) (port uint16, err error) {
	typ := syscall.SOCK_STREAM
	if network == "udp" {
		typ = syscall.SOCK_DGRAM
	}
	family := syscall.AF_INET
	if at.Addr().Is6() {
		family = syscall.AF_INET6
	}
	var sa syscall.Sockaddr = &syscall.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())}
	if family == syscall.AF_INET6 {
		zone, err := zoneID(at.Addr().Zone())
		if err != nil {
			return 0, err
		}
		sa = &syscall.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zone}
	}
	fd, err := syscall.Socket(family, typ|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	if network == "tcp" { // as every listener does, so that TIME_WAIT doesn't keep the port
		if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if family == syscall.AF_INET6 {
		only := 0
		if v6only {
			only = 1
		}
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, only); err != nil {
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := syscall.Bind(fd, sa); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch bound := bound.(type) {
	case *syscall.SockaddrInet4:
		return uint16(bound.Port), nil
	case *syscall.SockaddrInet6:
		return uint16(bound.Port), nil
	}
	return 0, fmt.Errorf("getsockname: unexpected %T", bound)
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
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
