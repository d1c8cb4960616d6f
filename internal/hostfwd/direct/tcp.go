package direct

import "golang.org/x/sys/unix"

const (
	// bulkFrom is the size of a move, bytes, from which splice(2) is cheaper than copying.
	bulkFrom = 16 << 10
	// turn bounds how many moves one direction makes before others have theirs.
	turn = 16
	// growFrom is how much a direction carries in bulk, bytes, before its buffers are grown.
	growFrom = 1 << 20
)

// conn is one forwarded TCP connection.
type conn struct {
	side   [2]half // the client's and the guest's
	dir    [2]flow // dir[i] carries from side[i] to the other
	ln     *tcpListener
	queued bool // is in loop.again
	closed bool
}

const (
	client = 0
	guest  = 1
)

// half is one socket of a connection.
type half struct {
	c    *conn
	fd   int // -1: none yet
	slot int32
	side uint8

	up       bool // connected
	readable bool // read has not said EAGAIN since the last event
	writable bool
	ending   bool // the peer has ended or failed: read on until that shows
	muted    bool // epoll does not report bytes to read
	broken   bool // a write failed; what it sent before may still be read
}

// flow is one direction of a connection.
type flow struct {
	pend   []byte // read and not yet written
	pipe   *pipe  // spliced in and not yet out; nil when empty
	bulk   bool
	moved  int  // bytes spliced, up to growFrom
	eof    bool // the source has sent FIN
	failed bool // the source was reset
	done   bool // the end was passed on
}

// open takes a fresh connection.
func (l *loop) open(ln *tcpListener, fd int) {
	c := &conn{ln: ln}
	c.side[client] = half{c: c, fd: fd, side: client, up: true, writable: true, slot: -1}
	c.side[guest] = half{c: c, fd: -1, side: guest, slot: -1}
	l.conns[c] = struct{}{}
	c.dial(l, false)
}

const tcpEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// dial connects to the guest. again says that it was tried before and no socket was ready.
func (c *conn) dial(l *loop, again bool) {
	fd, err := l.h.tcpPool(c.ln.fwd.GuestIP).get(l, again)
	if err == errEmpty {
		l.starved = append(l.starved, c)
		return
	}
	if err != nil {
		c.reset(l)
		return
	}
	g := &c.side[guest]
	g.fd = fd
	to := newSockaddr(c.ln.fwd.GuestIP, c.ln.fwd.GuestPort)
	if e := connect(fd, &to); e != 0 && e != unix.EINPROGRESS {
		if e != unix.ECONNREFUSED {
			l.complain("direct: connect to %s:%d: %v", c.ln.fwd.GuestIP, c.ln.fwd.GuestPort, e)
		}
		c.reset(l)
		return
	}
	for i := range c.side {
		h := &c.side[i]
		var e unix.Errno
		if h.slot, e = l.add(h.fd, tcpEvents, h); e != 0 {
			l.complain("direct: epoll_ctl: %v", e)
			c.reset(l)
			return
		}
	}
}

func (h *half) ready(l *loop, ev uint32) {
	if ev&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if d := &h.c.dir[h.side]; h.readable && (d.pipe != nil || d.pend != nil) {
			h.mute(l, true) // more to read, while what was read can't be written
		}
		h.readable = true
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		h.ending = true
	}
	if ev&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		h.writable, h.up = true, true
	}
	h.c.run(l)
}

// mute keeps a fast sender from waking the loop for every piece while the other side is full,
// which would cost as much as carrying it. Unmuting reports what came meanwhile.
func (h *half) mute(l *loop, on bool) {
	if h.muted == on {
		return
	}
	h.muted = on
	events := uint32(tcpEvents)
	if on {
		events &^= unix.EPOLLIN
	}
	epollCtl(l.ep, unix.EPOLL_CTL_MOD, h.fd, events, h.slot, l.slots[h.slot].gen)
}

// run carries what can be carried, both ways, and ends the connection when it is over.
func (c *conn) run(l *loop) {
	more := c.carry(l, client)
	if !c.closed {
		more = c.carry(l, guest) || more
	}
	switch {
	case c.closed:
	case c.dir[client].done && c.dir[guest].done:
		c.close(l)
	case more && !c.queued:
		c.queued = true
		l.again = append(l.again, c)
	}
}

// carry moves bytes from side i to the other until one of them can't go on; true says that
// only the turn is over.
func (c *conn) carry(l *loop, i int) (more bool) {
	src, dst, d := &c.side[i], &c.side[1-i], &c.dir[i]
	for range turn {
		if !c.flush(l, dst, d) {
			return false
		}
		if d.eof || d.failed {
			c.end(l, i)
			return false
		}
		if !src.readable || !dst.up || d.done {
			return false
		}
		c.fetch(l, src, dst, d)
		if c.closed {
			return false
		}
	}
	return true
}

// fetch takes a piece from src and, if it is small, passes it on.
func (c *conn) fetch(l *loop, src, dst *half, d *flow) {
	if d.bulk {
		if d.pipe = l.pipe(); d.pipe == nil {
			d.bulk = false
		}
	}
	if d.bulk {
		n, e := splice(src.fd, d.pipe.w, pipeSize)
		if n > 0 {
			d.pipe.n = n
			d.bulk = n >= bulkFrom
			if d.moved < growFrom {
				if d.moved += n; d.moved >= growFrom {
					growTCP(src.fd, dst.fd)
				}
			}
			return
		}
		l.release(d.pipe)
		d.pipe = nil
		src.failedRead(l, d, e)
		return
	}
	if l.piece == nil {
		l.piece = make([]byte, pieceSize)
	}
	n, e := read(src.fd, l.piece)
	if n <= 0 || e != 0 {
		src.failedRead(l, d, e)
		return
	}
	d.bulk = n >= bulkFrom
	if n < len(l.piece) && !src.ending && !src.muted {
		src.readable = false // the rest, if it comes, is an event
	}
	p := l.piece[:n]
	if dst.broken {
		return
	}
	if dst.writable {
		sent, e := send(dst.fd, p)
		switch {
		case e == unix.EAGAIN:
			dst.writable = false
		case e != 0:
			dst.broken = true
			return
		default:
			p = p[sent:]
		}
	}
	if len(p) > 0 {
		d.pend = append(d.pend[:0], p...)
	}
}

// failedRead notes why a read from h gave nothing.
func (h *half) failedRead(l *loop, d *flow, e unix.Errno) {
	switch {
	case e == unix.EAGAIN:
		h.readable = false
		h.mute(l, false)
	case e == 0 && !h.broken:
		d.eof = true
	default:
		d.failed = true
	}
}

// flush writes what was taken from the source before; false says that some of it is left.
func (c *conn) flush(l *loop, dst *half, d *flow) bool {
	for len(d.pend) > 0 || d.pipe != nil {
		if dst.broken {
			c.drop(l, d)
			break
		}
		if !dst.writable {
			return false
		}
		var n int
		var e unix.Errno
		if d.pipe != nil {
			n, e = splice(d.pipe.r, dst.fd, d.pipe.n)
		} else {
			n, e = send(dst.fd, d.pend)
		}
		switch {
		case e == unix.EAGAIN:
			dst.writable = false
		case e != 0:
			dst.broken = true
		case d.pipe != nil:
			if d.pipe.n -= n; d.pipe.n <= 0 {
				l.release(d.pipe)
				d.pipe = nil
			}
		default:
			if d.pend = d.pend[n:]; len(d.pend) == 0 {
				d.pend = nil
			}
		}
	}
	return true
}

// drop forgets what can't be delivered.
func (c *conn) drop(l *loop, d *flow) {
	d.pend = nil
	if d.pipe != nil {
		l.release(d.pipe)
		d.pipe = nil
	}
}

// end passes on that side i has ended.
func (c *conn) end(l *loop, i int) {
	d := &c.dir[i]
	if d.failed {
		c.reset(l)
		return
	}
	dst := &c.side[1-i]
	if d.done || !dst.up {
		return // a socket that still connects can't be shut down
	}
	d.done = true
	if !c.dir[1-i].done {
		shutdownWrite(dst.fd)
	}
}

// reset ends both sides with a reset.
func (c *conn) reset(l *loop) {
	for i := range c.side {
		if fd := c.side[i].fd; fd >= 0 {
			resetOnClose(fd)
		}
	}
	c.close(l)
}

func (c *conn) close(l *loop) {
	if c.closed {
		return
	}
	c.closed = true
	for i := range c.side {
		h := &c.side[i]
		if h.slot >= 0 {
			l.remove(h.slot)
		}
		if h.fd >= 0 {
			closeFD(h.fd)
		}
		c.drop(l, &c.dir[i])
	}
	delete(l.conns, c)
	if len(l.paused) > 0 {
		l.resume()
	}
}
