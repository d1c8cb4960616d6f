package nsexec

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tap is an interface to make in a network namespace: up, with an address and a default route.
type Tap struct {
	Name    string
	MTU     int
	MAC     net.HardwareAddr // empty: the kernel's choice
	Address netip.Prefix     // IPv4
	Gateway netip.Addr       // of the default route; invalid: none
}

// rtentry is the kernel's struct of that name (linux/route.h).
type rtentry struct {
	_               uintptr
	dst, gateway, _ unix.RawSockaddrInet4
	flags           uint16
	_               int16
	_, _            uintptr
	metric          int16
	dev             *byte
	_, _            uintptr
	_               uint16
}

// OpenTap makes a tap in a network namespace, brings it and the loopback interface up, and returns the
// descriptor that holds it, non-blocking: when it is closed, the interface goes. userns, if not nil,
// is entered first. Errors: [*os.PathError]; [*Error], whose Err is EBUSY where the name is taken.
func OpenTap(userns, netns *os.File, t Tap) (*os.File, error) {
	if !t.Address.Addr().Is4() {
		return nil, fmt.Errorf("tap %s: no IPv4 address", t.Name)
	}
	tap, err := open(userns, netns, "/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	socket, err := open(userns, netns, "", 0)
	if err == nil {
		err = t.set(tap, socket)
		unix.Close(socket)
	}
	if err != nil {
		unix.Close(tap)
		return nil, err
	}
	return os.NewFile(uintptr(tap), t.Name), nil
}

// set makes and configures the interface. socket is a socket of its network namespace.
func (t Tap) set(tap, socket int) error {
	up := func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING) }
	for _, s := range []struct {
		step    string
		fd      int
		request uint
		name    string
		set     func(*unix.Ifreq)
	}{
		{"ioctl(TUNSETIFF)", tap, unix.TUNSETIFF, t.Name, func(r *unix.Ifreq) { r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL) }},
		{"bring the loopback interface up", socket, unix.SIOCSIFFLAGS, "lo", up},
		{"set the MAC address", socket, unix.SIOCSIFHWADDR, t.Name, t.setMAC},
		{"set the MTU", socket, unix.SIOCSIFMTU, t.Name, func(r *unix.Ifreq) { r.SetUint32(uint32(t.MTU)) }},
		{"bring the interface up", socket, unix.SIOCSIFFLAGS, t.Name, up},
		{"set the address", socket, unix.SIOCSIFADDR, t.Name, func(r *unix.Ifreq) { _ = r.SetInet4Addr(t.Address.Addr().AsSlice()) }},
		{"set the address", socket, unix.SIOCSIFNETMASK, t.Name, func(r *unix.Ifreq) { _ = r.SetInet4Addr(net.CIDRMask(t.Address.Bits(), 32)) }},
	} {
		if s.request == unix.SIOCSIFHWADDR && len(t.MAC) == 0 {
			continue
		}
		r, err := unix.NewIfreq(s.name)
		if err == nil {
			s.set(r)
			err = unix.IoctlIfreq(s.fd, s.request, r)
		}
		if err != nil {
			return &Error{s.step, err}
		}
	}
	if !t.Gateway.Is4() {
		return nil
	}
	route := rtentry{
		dst: unix.RawSockaddrInet4{Family: unix.AF_INET}, gateway: unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: t.Gateway.As4()},
		flags: unix.RTF_UP | unix.RTF_GATEWAY, dev: cString(t.Name),
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route))); errno != 0 {
		return &Error{"add the default route", errno}
	}
	return nil
}

func (t Tap) setMAC(r *unix.Ifreq) {
	hw := (*unix.RawSockaddr)(unsafe.Add(unsafe.Pointer(r), unix.IFNAMSIZ))
	hw.Family = unix.ARPHRD_ETHER
	for i, b := range t.MAC {
		hw.Data[i] = int8(b)
	}
}
