package direct

import "golang.org/x/sys/unix"

// udpBuffer is asked for on both sides of UDP, bytes; net.core.rmem_max and wmem_max cut it.
// A burst that arrives while the loop carries something else waits there.
const udpBuffer = 4 << 20

// tuneTCP sets what both sides of a connection need. An accepted socket has it from its
// listener. Buffer sizes are left to the kernel, which grows them further than an ordinary
// user may.
func tuneTCP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

func tuneUDP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, udpBuffer)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

// resetOnClose makes close(2) send a reset.
func resetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
