package direct

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Source makes a namespace in which connections can come from their clients' addresses. Its methods may be called
// concurrently; only Keeps must not block.
type Source interface {
	// Mark is the mark (SO_MARK) of sockets that have a client's address.
	Mark() int
	// Local reports whether an address is the namespace's own; others get no client's address.
	Local(guest netip.Addr) bool
	// Keeps reports whether connections from client to guest, which is local, can have its address.
	Keeps(guest, client netip.Addr) bool
	// Add makes answers of UDP from guest to client return to the client's socket inside. Remove undoes that.
	Add(guest, client netip.AddrPort) error
	Remove(guest, client netip.AddrPort)
}

func (h *Handler) keepsSource(guest netip.Addr) bool {
	return h.cfg.Source != nil && h.cfg.Source.Local(guest)
}

// bindClient gives a socket of the namespace a client's address, and its port unless other is set. A port that is
// taken, because the client uses it for two forwards, is replaced by another one.
func bindClient(fd, mark int, client netip.AddrPort, tcp, other bool) error {
	level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT // ip(7)
	if client.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		return err
	}
	at := newSockaddr(client.Addr(), client.Port())
	if !other {
		if tcp { // connect(2) decides
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}
		if e := bind(fd, &at); e != unix.EADDRINUSE {
			return orNil(e)
		}
	}
	if tcp {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	at = newSockaddr(client.Addr(), 0)
	return orNil(bind(fd, &at))
}

func orNil(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
