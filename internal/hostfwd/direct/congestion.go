package direct

import (
	"strings"

	"golang.org/x/sys/unix"
)

// useReno replaces BBR by reno on a socket, for peers on the same host: BBR's timer limits the rate
// to the bottleneck it has measured, and local memory has none. `make bench` on a host with BBR
// shows the difference. The socket must not be connected yet, because once it has used BBR, pacing
// stays on (bbr_init in net/ipv4/tcp_bbr.c sets sk_pacing_status). Reno is the algorithm that
// every user may select (tcp(7), tcp_allowed_congestion_control).
//
// It returns the previous algorithm, or "" if nothing was changed.
func useReno(fd int) string { return replaceCongestion(fd, "bbr") }

// replaceCongestion sets reno on a socket whose algorithm's name starts with prefix.
func replaceCongestion(fd int, prefix string) string {
	was, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil || !strings.HasPrefix(was, prefix) {
		return ""
	}
	if unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") != nil {
		return ""
	}
	return was
}

// restoreCongestion undoes useReno on an accepted connection, unless its client is on the same host.
func restoreCongestion(fd int, client *sockaddr, congestion string) {
	ip := client.ip()
	if ip.IsLoopback() {
		return
	}
	if own, e := getsockname(fd); e == 0 && own.ip() == ip {
		return
	}
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
}
