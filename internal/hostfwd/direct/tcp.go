package direct

import (
	"context"

	"golang.org/x/sys/unix"
)

const (
	// bulkFrom is the size of a move, bytes, from which splice(2) is cheaper than copying.
	bulkFrom = 16 << 10
	// turn bounds how many moves one direction makes before others have their turn, and turnBytes
	// how much it carries, bytes.
	turn      = 16
	turnBytes = 4 << 20
	// minMove is the fixed cost of a move, in bytes.
	minMove = 16 << 10
	// growFrom is how much a direction carries in bulk, bytes, before its buffers are enlarged.
	growFrom = 1 << 20
)

// conn is one forwarded TCP connection.
type conn struct {
	task
	side    [2]half // the client's and the guest's
	dir     [2]flow // dir[i] carries from side[i] to the other
	ln      *tcpListener
	from    *sockaddr // the client; nil if not needed
	other   bool      // the client's port is in use inside
	order   int64     // number of connections when it began, including it
	piece   int       // maximum size of a read, bytes
	limited bool      // buffers are bounded; see limitTCP
	closed  bool
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
	ending   bool // the peer has closed or failed: read until that shows
	failed   bool // it has failed: what can't be written at once is dropped
	muted    bool // epoll does not report readable bytes
	broken   bool // a write failed; bytes received before may still be read
}

// flow is one direction of a connection.
type flow struct {
	pend   []byte // read and not yet written
	pipe   *pipe  // spliced in and not yet out; nil when empty
	bulk   bool
	moved  int  // bytes spliced, up to growFrom
	eof    bool // the source has sent FIN
	failed bool // the source was reset
	done   bool // the end was forwarded
}

// open starts a new connection.
func (l *loop) open(ln *tcpListener, fd int, from *sockaddr) {
	h := l.h
	c := &conn{task: task{lane: &ln.lanes[l.index]}, ln: ln, order: h.quota.conns.Add(1)}
	h.quota.take(&ln.usage, 2)
	c.side[client] = half{c: c, fd: fd, side: client, up: true, writable: true, slot: -1}
	c.side[guest] = half{c: c, fd: -1, side: guest, slot: -1}
	l.conns[c] = struct{}{}
	if h.cfg.Dial != nil || ln.source && h.cfg.Source.Keeps(ln.fwd.GuestIP, from.ip()) {
		at := *from
		c.from = &at
	}
	if h.cfg.Dial != nil {
		l.call(c)
		return
	}
	c.dial(l, false)
}

const tcpEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// dial connects to the guest. again means that no socket was ready at an earlier attempt.
func (c *conn) dial(l *loop, again bool) {
	fd, err := l.h.tcp.of(c.ln.fwd.GuestIP).get(l, again)
	if err == errEmpty {
		l.starved = append(l.starved, c)
		return
	}
	if err != nil {
		c.reset(l)
		return
	}
	c.side[guest].fd = fd
	if c.order > soonConns { // before connecting, so that the guest sees the final window
		limitTCP(c.order, fd)
		limitPeer(c.order, fd)
	}
	if c.from != nil {
		if err := bindClient(fd, l.h.cfg.Source.Mark(), c.from.addrPort(), true, c.other); err != nil {
			l.complain("forward %s: the address of client %s: %v", c.ln.fwd, c.from.ip(), err)
			c.reset(l)
			return
		}
	}
	to := newSockaddr(c.ln.fwd.GuestIP, c.ln.fwd.GuestPort)
	switch e := connect(fd, &to); {
	case e == 0, e == unix.EINPROGRESS:
	case e == unix.EADDRNOTAVAIL && c.from != nil && !c.other: // the client uses its port for two forwards to the same
		closeFD(fd)
		c.side[guest].fd, c.other = -1, true
		c.dial(l, false)
		return
	default:
		l.failed(&c.ln.usage, &c.ln.fwd, e)
		c.reset(l)
		return
	}
	c.attach(l)
}

func (c *conn) wants() bool { return !c.closed }

func (c *conn) call(ctx context.Context) (int, error) {
	return c.ln.h.cfg.Dial(ctx, c.ln.fwd, c.from.addrPort())
}

// dialed receives the result of a call of [Config].Dial.
func (c *conn) dialed(l *loop, fd int, err error) {
	if c.closed {
		if err == nil {
			closeFD(fd)
		}
		return
	}
	if err != nil {
		l.failed(&c.ln.usage, &c.ln.fwd, err)
		c.reset(l)
		return
	}
	tuneTCP(fd)
	c.side[guest].fd = fd
	c.attach(l)
}

// attach starts carrying.
func (c *conn) attach(l *loop) {
	c.piece = pieceSize
	if c.order > soonConns {
		c.limit()
	}
	for i := range c.side {
		h := &c.side[i]
		var e unix.Errno
		if h.slot, e = l.add(h.fd, tcpEvents, h); e != 0 {
			l.complain("epoll_ctl: %v", e)
			c.reset(l)
			return
		}
	}
}

// limit bounds the connection's buffers, unless it is one of the first.
func (c *conn) limit() {
	if c.limited || c.order <= freeConns {
		return
	}
	c.limited = true
	for i := range c.side {
		c.piece = limitTCP(c.order, c.side[i].fd)
	}
}

func (h *half) ready(l *loop, ev uint32) {
	if !h.up && ev&unix.EPOLLERR != 0 {
		l.failed(&h.c.ln.usage, &h.c.ln.fwd, pendingError(h.fd))
		h.c.reset(l)
		return
	}
	if ev&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if d := &h.c.dir[h.side]; h.readable && (d.pipe != nil || d.pend != nil) {
			h.mute(l, true) // more to read, but earlier bytes can't be written yet
		}
		h.readable = true
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		h.ending = true
	}
	if ev&unix.EPOLLERR != 0 {
		h.failed = true
	}
	if ev&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if !h.up && h.c.ln.usage.refused.Load() {
			h.c.ln.usage.refused.Store(false)
		}
		h.writable, h.up = true, true
	}
	l.schedule(h.c)
}

// mute keeps a fast sender from waking the loop for every piece while the other side is full,
// which would cost as much as carrying it. Unmuting reports what arrived meanwhile.
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

// work carries what it can in both directions, and closes the connection when both have ended.
func (c *conn) work(l *loop) (cost int, more bool) {
	for i := range c.side {
		if c.closed {
			return cost, false
		}
		n, left := c.carry(l, i)
		cost += 1 + n>>16
		more = more || left
	}
	if c.dir[client].done && c.dir[guest].done {
		c.close(l)
	}
	return cost, more && !c.closed
}

// carry moves bytes from side i to the other until one of them blocks; more means that only
// the turn is over.
func (c *conn) carry(l *loop, i int) (bytes int, more bool) {
	src, dst, d := &c.side[i], &c.side[1-i], &c.dir[i]
	for range turn {
		if !c.flush(l, dst, d) || !dst.up && src.readable {
			if src.failed {
				c.reset(l) // a reset does not wait for the reader
			}
			return bytes, false
		}
		if d.eof || d.failed {
			c.end(l, i)
			return bytes, false
		}
		if !src.readable || !dst.up || d.done {
			return bytes, false
		}
		n := c.fetch(l, src, dst, d)
		if bytes += n + minMove; c.closed {
			return bytes, false
		}
		if bytes >= turnBytes {
			break
		}
	}
	return bytes, true
}

// fetch reads a piece from src and, if it is small, writes it to dst. It returns its size.
func (c *conn) fetch(l *loop, src, dst *half, d *flow) int {
	if d.bulk {
		c.limit()
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
				if d.moved += n; d.moved >= growFrom && !c.limited {
					growTCP(src.fd, dst.fd)
				}
			}
			return n
		}
		l.release(d.pipe)
		d.pipe = nil
		src.failedRead(l, d, e)
		return 0
	}
	if l.piece == nil {
		l.piece = make([]byte, pieceSize)
	}
	n, e := read(src.fd, l.piece[:c.piece])
	if n <= 0 || e != 0 {
		src.failedRead(l, d, e)
		return 0
	}
	d.bulk = n >= bulkFrom
	if n < c.piece && !src.ending && !src.muted {
		src.readable = false // more bytes raise an event
	}
	p := l.piece[:n]
	if dst.broken {
		return n
	}
	if dst.writable {
		sent, e := send(dst.fd, p)
		switch {
		case e == unix.EAGAIN:
			dst.writable = false
		case e != 0:
			dst.broken = true
			return n
		default:
			p = p[sent:]
		}
	}
	if len(p) > 0 {
		c.limit()
		d.pend = append(d.pend[:0], p...)
	}
	return n
}

// failedRead handles a read from h that returned no bytes.
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

// flush writes bytes read earlier; false means that some are left.
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

// drop discards bytes that can't be delivered.
func (c *conn) drop(l *loop, d *flow) {
	d.pend = nil
	if d.pipe != nil {
		l.release(d.pipe)
		d.pipe = nil
	}
}

// end forwards the end of side i.
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

// reset closes both sides with a reset.
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
	l.h.quota.conns.Add(-1)
	l.h.quota.take(&c.ln.usage, -2)
	l.freed()
}
