package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// WaitIPv6 waits until the interface has a global IPv6 address that has passed duplicate address
// detection, and returns it. It subscribes to changes (rtnetlink(7), RTMGRP_IPV6_IFADDR), then checks
// after each change.
func (a *Agent) WaitIPv6(ctx context.Context, tap string) (netip.Addr, error) {
	changes, err := a.Netlink(ctx, unix.NETLINK_ROUTE)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(changes)
	query, err := a.Netlink(ctx, unix.NETLINK_ROUTE)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(query)
	if err := unix.Bind(changes, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV6_IFADDR}); err != nil {
		return netip.Addr{}, fmt.Errorf("netlink: %w", err)
	}
	buf := make([]byte, 8192)
	for {
		addr, err := usableIPv6(ctx, query, tap)
		if err != nil || addr.IsValid() {
			return addr, err
		}
		if err := readable(ctx, changes); err != nil {
			return netip.Addr{}, fmt.Errorf("no usable IPv6 address on %s: %w", tap, err)
		}
		_, _ = unix.Read(changes, buf)
	}
}

// readable waits until fd is readable.
func readable(ctx context.Context, fd int) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		slice := 100 * time.Millisecond // then check ctx
		if d, ok := ctx.Deadline(); ok {
			slice = min(slice, time.Until(d))
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(slice.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}

// usableIPv6 queries a NETLINK_ROUTE socket for the interface's global IPv6 address. It returns the zero
// address if none has passed duplicate address detection.
func usableIPv6(ctx context.Context, fd int, ifname string) (found netip.Addr, err error) {
	ifr, err := unix.NewIfreq(ifname)
	if err != nil {
		return found, fmt.Errorf("interface %q: %w", ifname, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return found, fmt.Errorf("interface %s: %w", ifname, err)
	}
	var req [unix.SizeofNlMsghdr + unix.SizeofIfAddrmsg]byte
	*(*unix.NlMsghdr)(unsafe.Pointer(&req)) = unix.NlMsghdr{
		Len: uint32(len(req)), Type: unix.RTM_GETADDR, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP,
	}
	req[unix.SizeofNlMsghdr] = unix.AF_INET6
	if err := unix.Sendto(fd, req[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return found, fmt.Errorf("netlink: %w", err)
	}
	buf := make([]byte, 32<<10)
	for {
		if err := readable(ctx, fd); err != nil {
			return found, err
		}
		n, err := unix.Read(fd, buf)
		if err != nil {
			return found, fmt.Errorf("netlink: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return found, fmt.Errorf("netlink: %w", err)
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return found, nil
			case unix.RTM_NEWADDR:
				if addr, ok := usable(m, ifr.Uint32()); ok {
					found = addr // continue, so that no part of the answer is left for the next request
				}
			}
		}
	}
}

// usable returns the address of an RTM_NEWADDR message; ok is false if it is not usable yet, or of another interface
// or scope.
func usable(m syscall.NetlinkMessage, index uint32) (addr netip.Addr, ok bool) {
	if len(m.Data) < unix.SizeofIfAddrmsg {
		return addr, false
	}
	msg := (*unix.IfAddrmsg)(unsafe.Pointer(&m.Data[0]))
	if msg.Index != index || msg.Scope != unix.RT_SCOPE_UNIVERSE {
		return addr, false
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return addr, false
	}
	flags := uint32(msg.Flags)
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.IFA_ADDRESS:
			addr, _ = netip.AddrFromSlice(a.Value)
		case a.Attr.Type == unix.IFA_FLAGS && len(a.Value) >= 4:
			flags = binary.NativeEndian.Uint32(a.Value)
		}
	}
	return addr, addr.IsValid() && flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}
