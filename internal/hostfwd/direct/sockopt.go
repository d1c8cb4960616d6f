package direct

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// bulkBuffer is how much a socket may buffer of a bulk stream, bytes: the more, the fewer
// wake-ups of the loop per byte.
const bulkBuffer = 4 << 20

// udpBuffer is requested on both sides of UDP, bytes; net.core.rmem_max and wmem_max limit it.
// It holds bursts that arrive while the loop carries something else.
const udpBuffer = 4 << 20

// tuneTCP sets the options of both sides of a connection. An accepted socket inherits them from
// its listener. Buffer sizes are left to the kernel until the connection turns out to be bulk.
func tuneTCP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// growTCP enlarges the buffers of the two ends of a bulk direction.
func growTCP(src, dst int) {
	// Requesting so much before a wake-up makes the kernel raise buffer and window up to half of
	// tcp_rmem's limit, which SO_RCVBUF can't do for an unprivileged user, and lets it raise them
	// further (tcp_set_rcvlowat in net/ipv4/tcp.c).
	_ = unix.SetsockoptInt(src, unix.SOL_SOCKET, unix.SO_RCVLOWAT, bulkBuffer)
	_ = unix.SetsockoptInt(src, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
	// SO_SNDBUF fixes the size, so a lower limit would be a step back.
	if sendLimit() >= bulkBuffer {
		_ = unix.SetsockoptInt(dst, unix.SOL_SOCKET, unix.SO_SNDBUF, bulkBuffer)
	}
}

// sendLimit returns net.core.wmem_max, bytes; 0 if it can't be read.
var sendLimit = sync.OnceValue(func() int {
	b, err := os.ReadFile("/proc/sys/net/core/wmem_max")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
})

func tuneUDP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, udpBuffer)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

// resetOnClose makes close(2) send a reset.
func resetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// pendingError returns why a socket failed.
func pendingError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	return unix.Errno(n)
}
