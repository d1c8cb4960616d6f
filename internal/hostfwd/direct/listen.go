package direct

import (
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// backlog is the maximum number of connections waiting to be accepted; the kernel reduces it to
// net.core.somaxconn.
const backlog = 4096

// maxLoops is the maximum number of loops of a handler.
const maxLoops = 4

// tcpListener is an open TCP forward. Loops accept under the read lock, so that a descriptor
// is never closed, and its number reused, during an accept.
type tcpListener struct {
	h         *Handler
	id        int32
	fwd       hostfwd.Forward
	usage     usage
	lanes     [maxLoops]lane
	acceptors [maxLoops]acceptor
	// congestion is the congestion control to restore on connections from other hosts; "" if it was
	// not changed.
	congestion string
	source     bool // clients' addresses are kept where possible

	mu sync.RWMutex
	fd int // -1: closed
}

func (h *Handler) openTCP(f hostfwd.Forward) (hostfwd.Listener, error) {
	fd, err := listen(&f)
	if err != nil {
		return nil, err
	}
	ln := &tcpListener{h: h, fwd: f, fd: fd, congestion: useReno(fd), source: h.keepsSource(f.GuestIP)}
	if f.HostIP.IsLoopback() {
		ln.congestion = "" // no other host can connect
	}
	for i := range ln.acceptors {
		ln.acceptors[i] = acceptor{task: task{lane: &ln.lanes[i]}, ln: ln}
	}
	h.quota.take(&ln.usage, 1)
	h.quota.forwards.Add(1)
	h.mu.Lock()
	h.lastID++
	ln.id = h.lastID
	h.listeners[ln.id] = ln
	h.mu.Unlock()
	for _, l := range h.loops {
		if err := l.addListener(ln); err != nil {
			_ = ln.Close()
			return nil, err
		}
	}
	if h.cfg.Dial == nil {
		h.tcp.of(f.GuestIP).warm()
	}
	return ln, nil
}

// Forward returns the forward with its actual port.
func (ln *tcpListener) Forward() hostfwd.Forward { return ln.fwd }

// Close stops listening. Open connections continue, unless the configuration says otherwise.
func (ln *tcpListener) Close() error {
	h := ln.h
	h.mu.Lock()
	delete(h.listeners, ln.id)
	h.mu.Unlock()
	ln.mu.Lock()
	open := ln.fd >= 0
	if open {
		closeFD(ln.fd)
		ln.fd = -1
	}
	ln.mu.Unlock()
	if !open {
		return nil
	}
	h.quota.take(&ln.usage, -1)
	h.quota.forwards.Add(-1)
	if h.cfg.EndConnections {
		for _, l := range h.loops {
			l.do(func() { l.end(ln) })
		}
	}
	return nil
}

// end resets the connections of a forward.
func (l *loop) end(ln *tcpListener) {
	for c := range l.conns {
		if c.ln == ln {
			c.reset(l)
		}
	}
}

// accept accepts one connection. from is set only if it is needed.
func (ln *tcpListener) accept(from *sockaddr) (int, unix.Errno) {
	ln.mu.RLock()
	defer ln.mu.RUnlock()
	if ln.fd < 0 {
		return -1, unix.EAGAIN
	}
	if ln.congestion == "" && ln.h.cfg.Dial == nil && !ln.source {
		return accept(ln.fd, nil)
	}
	fd, e := accept(ln.fd, from)
	if e == 0 && ln.congestion != "" {
		restoreCongestion(fd, from, ln.congestion)
	}
	return fd, e
}

// listen opens the host side of f and sets its port.
func listen(f *hostfwd.Forward) (int, error) {
	fd, port, err := hostfwd.Bind(*f, unix.SOCK_NONBLOCK)
	if err == nil && f.Proto.Network() == "tcp" {
		tuneTCP(fd)
		if err = unix.Listen(fd, backlog); err != nil {
			closeFD(fd)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("listen on %s %s: %w", f.Proto, netip.AddrPortFrom(f.HostIP, f.HostPort), err)
	}
	f.HostPort = port
	return fd, nil
}
