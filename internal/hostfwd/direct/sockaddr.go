package direct

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is a socket address in the kernel's layout. Two addresses are equal if raw is equal:
// unused bytes are zero.
type sockaddr struct {
	raw [unix.SizeofSockaddrInet6]byte
	n   uint32
}

// newSockaddr returns an address, which has no zone.
func newSockaddr(ip netip.Addr, port uint16) sockaddr {
	var a sockaddr
	if ip.Is4() {
		binary.NativeEndian.PutUint16(a.raw[:], unix.AF_INET)
		b := ip.As4()
		copy(a.raw[4:], b[:])
		a.n = unix.SizeofSockaddrInet4
	} else {
		binary.NativeEndian.PutUint16(a.raw[:], unix.AF_INET6)
		b := ip.As16()
		copy(a.raw[8:], b[:])
		a.n = unix.SizeofSockaddrInet6
	}
	binary.BigEndian.PutUint16(a.raw[2:], port)
	return a
}

func (a *sockaddr) port() uint16 { return binary.BigEndian.Uint16(a.raw[2:]) }

// ip returns the address without its zone; an IPv4-mapped address is returned as IPv4.
func (a *sockaddr) ip() netip.Addr {
	if binary.NativeEndian.Uint16(a.raw[:]) == unix.AF_INET {
		return netip.AddrFrom4([4]byte(a.raw[4:]))
	}
	return netip.AddrFrom16([16]byte(a.raw[8:])).Unmap()
}

func (a *sockaddr) addrPort() netip.AddrPort { return netip.AddrPortFrom(a.ip(), a.port()) }

func bind(fd int, a *sockaddr) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.n))
	return e
}

func getsockname(fd int) (sockaddr, unix.Errno) {
	a := sockaddr{n: unix.SizeofSockaddrInet6}
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(unsafe.Pointer(&a.n)))
	return a, e
}
