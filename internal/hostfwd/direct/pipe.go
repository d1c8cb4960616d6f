package direct

import "golang.org/x/sys/unix"

// pipeSize is the largest size an unprivileged user may request, bytes (fs.pipe-max-size). When
// the user's quota of pipe memory is used up (fs.pipe-user-pages-soft), pipes stay smaller.
const pipeSize = 1 << 20

const (
	// sparePipes is the number of empty pipes that a loop keeps for reuse.
	sparePipes = 4
	// mostPipes bounds, together with pipeSize, what all pipes of a loop can hold. Further
	// directions are copied in pieces.
	mostPipes = 32
)

// pipe holds bytes that splice(2) moved out of one socket and not yet into the other.
type pipe struct {
	r, w int
	n    int // bytes in it
}

// pipe returns an empty pipe, or nil if the limit is reached.
func (l *loop) pipe() *pipe {
	if n := len(l.pipes); n > 0 {
		p := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return p
	}
	q := &l.h.quota
	if l.pipeCount >= q.some(mostPipes) {
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	l.pipeCount++
	q.used.Add(2)
	return &pipe{r: fds[0], w: fds[1]}
}

// release returns a pipe to the loop; one that still holds bytes is closed.
func (l *loop) release(p *pipe) {
	if p.n == 0 && len(l.pipes) < sparePipes {
		l.pipes = append(l.pipes, p)
		return
	}
	l.discard(p)
}

func (l *loop) discard(p *pipe) {
	closeFD(p.r)
	closeFD(p.w)
	l.pipeCount--
	l.h.quota.used.Add(-2)
}
