package direct

import (
	"strings"

	"golang.org/x/sys/unix"
)

// unpace gives a socket reno in the place of BBR, for peers on this machine: BBR sends no faster
// than the bottleneck it has measured, by a timer, and memory has none. `make bench` on a host with BBR
// shows the difference. It has to be done before there is a connection, because a socket that
// BBR once had stays paced (bbr_init in net/ipv4/tcp_bbr.c sets sk_pacing_status). Reno is the one
// that everybody may choose (tcp(7), tcp_allowed_congestion_control).
//
// It returns the algorithm there was before, or "" if nothing was changed.
func unpace(fd int) string { return replace(fd, "bbr") }

// replace gives a socket reno in the place of an algorithm whose name begins so.
func replace(fd int, prefix string) string {
	was, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil || !strings.HasPrefix(was, prefix) {
		return ""
	}
	if unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") != nil {
		return ""
	}
	return was
}

// pace takes unpace back for an accepted connection, unless its client is on this machine.
func pace(fd int, client *sockaddr, congestion string) {
	ip := client.ip()
	if ip.IsLoopback() {
		return
	}
	if own, e := getsockname(fd); e == 0 && own.ip() == ip {
		return
	}
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
}
