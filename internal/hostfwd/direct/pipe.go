package direct

import "golang.org/x/sys/unix"

// pipeSize is the most an ordinary user may ask for, bytes (fs.pipe-max-size). When the
// user's share of pipe memory is used up (fs.pipe-user-pages-soft), pipes stay smaller.
const pipeSize = 1 << 20

const (
	// sparePipes is how many empty pipes a loop keeps for the next direction that needs one.
	sparePipes = 4
	// mostPipes bounds what all pipes of a loop can hold, together with pipeSize. Directions beyond
	// them are copied in pieces.
	mostPipes = 32
)

// pipe carries what splice(2) moved out of one socket and not yet into the other.
type pipe struct {
	r, w int
	n    int // bytes in it
}

// pipe returns an empty pipe, or nil if there are enough.
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

// release takes a pipe back; one that still holds bytes is closed.
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
