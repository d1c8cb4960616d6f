package hostfwd

import (
	"io"
	"net/netip"
)

const stateUnconnected = 7 // TCP_CLOSE, which UDP uses as well

// Listening returns the addresses in one of /proc/PID/net/{tcp,tcp6,udp,udp6} that wait for
// anybody: TCP sockets that listen, or UDP sockets without a peer. network is "tcp" or "udp".
func Listening(r io.Reader, network string) []netip.AddrPort {
	want := uint8(stateListen)
	if network == "udp" {
		want = stateUnconnected
	}
	var out []netip.AddrPort
	for s := range parseProcNet(r) {
		if s.State == want && s.Local.Port() != 0 {
			out = append(out, netip.AddrPortFrom(s.Local.Addr().Unmap(), s.Local.Port()))
		}
	}
	return out
}
