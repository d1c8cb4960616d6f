package guest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitIPv6 waits until the interface has a usable global address: it subscribes to changes
// (rtnetlink(7), RTMGRP_IPV6_IFADDR), then looks, then waits for the next change.
func waitIPv6(ifname string, timeout time.Duration) (string, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("netlink: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV6_IFADDR}); err != nil {
		return "", fmt.Errorf("netlink: %w", err)
	}
	buf := make([]byte, 8192)
	deadline := time.Now().Add(timeout)
	for {
		addr, err := usableIPv6(ifname)
		if err != nil || addr.IsValid() {
			return addr.String(), err
		}
		left := time.Until(deadline).Milliseconds()
		if left <= 0 {
			return "", fmt.Errorf("no usable IPv6 address on %s: %w", ifname, os.ErrDeadlineExceeded)
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(p, int(left)); n > 0 {
			_, _ = unix.Read(fd, buf)
		}
	}
}

// usableIPv6 returns the interface's global IPv6 address, or the zero one while it has none
// that is past duplicate address detection.
func usableIPv6(ifname string) (netip.Addr, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netip.Addr{}, err
	}
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_INET6)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("netlink: %w", err)
	}
	msgs, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("netlink: %w", err)
	}
	for _, m := range msgs {
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		msg := (*unix.IfAddrmsg)(unsafe.Pointer(&m.Data[0]))
		if int(msg.Index) != ifi.Index || msg.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		flags := uint32(msg.Flags)
		var addr netip.Addr
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			continue
		}
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.IFA_ADDRESS:
				addr, _ = netip.AddrFromSlice(a.Value)
			case unix.IFA_FLAGS:
				flags = binary.NativeEndian.Uint32(a.Value)
			}
		}
		if addr.IsValid() && flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			return addr, nil
		}
	}
	return netip.Addr{}, nil
}
