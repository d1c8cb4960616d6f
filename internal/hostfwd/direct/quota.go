package direct

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// reserve is the number of descriptors left to the rest of the process, which must be able to
	// restart slirp4netns and to serve requests; or a quarter of the limit, if that is less.
	reserve = 64
	// shareOfFree bounds one forward, if there are others, to this multiple of the free
	// descriptors: a single one gets seven eighths of all. A second one that floods gets seven
	// fifteenths, and so does the first in time; some are always left.
	shareOfFree = 7
	// spare is left for forwards without connections: enough for two connections.
	spare = 4
)

// The kernel's memory for bytes in transit is bounded by the sizes of buffers. The first freeConns
// connections keep the kernel's default sizes. The n-th connection beyond them gets memoryShare/n
// for its four buffers together, so N of them use at most memoryShare × ln(N/8), half a gigabyte at
// 50,000, no matter what their peers do and in which order they come and go: if n connections were open
// when one began, it is counted as the n-th.
//
// Up to soonConns, where this is more than the kernel's initial sizes, buffers are bounded only once a connection
// carries more than short exchanges: for those, the five system calls are a fifth of all.
const (
	freeConns   = 8
	soonConns   = 64
	memoryShare = 64 << 20
	leastBuffer = 4 << 10
	leastMSS    = 1448
	// The same for UDP sessions, whose receive buffer may fill.
	freeSessions   = 64
	sessionsMemory = 64 << 20
)

// quota counts the descriptors and connections of a handler.
type quota struct {
	others   int64 // descriptors of this process that aren't counted here
	most     atomic.Int64
	used     atomic.Int64
	forwards atomic.Int64 // open ones
	conns    atomic.Int64 // of TCP
}

// usage is what one forward uses.
type usage struct {
	fds     atomic.Int64
	refused atomic.Bool // nothing listened at the last attempt
}

// init counts the descriptors that the process has open now.
func (q *quota) init() {
	if dir, err := os.Open("/proc/self/fd"); err == nil {
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		q.others = int64(len(names)) - q.used.Load()
	}
	q.refresh()
}

// refresh rereads the limit, which other processes can change (prlimit(2)).
func (q *quota) refresh() {
	limit := int64(fileLimit())
	q.most.Store(max(limit-q.others-min(reserve, limit/4), 8))
}

func (q *quota) free() int64 { return q.most.Load() - q.used.Load() }

// admits reports whether a forward may have n more descriptors.
func (q *quota) admits(u *usage, n int64) bool {
	left := q.free() - n
	switch fds := u.fds.Load(); {
	case left < 0:
		return false
	case q.forwards.Load() < 2, fds <= 1: // the listener's
		return true
	default:
		return left >= spare && fds+n <= shareOfFree*left
	}
}

// take counts n more descriptors of u, fewer if n is negative.
func (q *quota) take(u *usage, n int64) {
	u.fds.Add(n)
	q.used.Add(n)
}

// some returns how many descriptors may be set aside ahead of need: wanted, or fewer when they are scarce.
func (q *quota) some(wanted int) int {
	return max(min(wanted, int(q.most.Load())/16, int(q.free())/4), 1)
}

// limitTCP bounds the buffers of a socket of the n-th connection. piece is how much of the connection's
// data may be held outside of them, bytes.
func limitTCP(n int64, fd int) (piece int) {
	each := int(memoryShare / n / 4)
	setBuffer(fd, unix.SO_RCVBUF, each)
	setBuffer(fd, unix.SO_SNDBUF, each)
	return min(pieceSize, max(each, leastBuffer))
}

// limitPeer keeps the kernel from giving the peer of a connecting socket a send buffer for ten
// segments of 64 KiB, as it does on a loopback device.
func limitPeer(n int64, fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, max(int(memoryShare/n/64), leastMSS))
}

func limitUDP(n int, fd int) {
	if n > freeSessions {
		setBuffer(fd, unix.SO_RCVBUF, sessionsMemory/n)
	}
}

// setBuffer sets a buffer's maximum size, including the kernel's overhead, for which the kernel
// doubles the value it is given.
func setBuffer(fd, which, size int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, which, size/2)
}
