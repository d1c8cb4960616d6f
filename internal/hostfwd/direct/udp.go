package direct

import (
	"container/list"
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// maxPending is how many datagrams of a new session wait for its socket.
const maxPending = 16

// udpCost is the cost of a batch of datagrams in a lane's turn.
const udpCost = 8

// udpListener is an open UDP forward. After openUDP, only its loop accesses it.
type udpListener struct {
	task
	lane     lane
	h        *Handler
	l        *loop
	fwd      hostfwd.Forward
	usage    usage
	fd       int // -1: closed
	slot     int32
	to       sockaddr
	sessions map[sockaddr]*session
	order    *list.List // of *session, most recent first
	gso      bool       // towards clients
	source   bool       // clients' addresses are kept where possible
}

// session is one client of a UDP forward.
type session struct {
	task
	ln      *udpListener
	from    sockaddr
	local   [rxControl]byte // answers leave from where the client sent to
	localN  int
	fd      int // connected to the guest; -1: none yet
	slot    int32
	gso     bool // towards the guest
	seen    time.Time
	place   *list.Element
	bound   int            // the socket while Source.Add is called
	client  netip.AddrPort // that bound is bound to
	added   bool           // Source.Add has succeeded
	pending [][]byte
}

// udpState is the UDP part of a loop.
type udpState struct {
	batch     *batch
	used      bool // a session has ended; batch may hold memory
	now       time.Time
	check     time.Time // when to check for idle sessions
	sessions  int
	early     int          // sessions closed to make room
	top       *udpListener // has, or had, the most sessions
	waiting   []*session   // waiting for a socket in the namespace
	listeners map[*udpListener]struct{}
}

func (h *Handler) openUDP(f hostfwd.Forward) (hostfwd.Listener, error) {
	fd, err := listen(&f)
	if err != nil {
		return nil, err
	}
	tuneUDP(fd)
	if f.HostIP.IsUnspecified() {
		wantLocal(fd, f.HostIP)
	}
	l := h.loops[h.nextUDP%len(h.loops)]
	h.nextUDP++
	u := &udpListener{
		h: h, l: l, fwd: f, fd: fd, to: newSockaddr(f.GuestIP, f.GuestPort),
		sessions: make(map[sockaddr]*session), order: list.New(), gso: true, source: h.keepsSource(f.GuestIP),
	}
	u.task.lane = &u.lane
	l.do(func() {
		if l.udp.batch == nil {
			if l.udp.batch, err = newBatch(); err != nil {
				return
			}
		}
		var e unix.Errno
		if u.slot, e = l.add(fd, unix.EPOLLIN, u); e != 0 {
			err = e
			return
		}
		l.udp.listeners[u] = struct{}{}
		h.quota.take(&u.usage, 1)
		h.quota.forwards.Add(1)
	})
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	if h.cfg.Dial == nil {
		h.udp.of(f.GuestIP).warm()
	}
	return u, nil
}

// wantLocal makes the kernel report which of this host's addresses a datagram was sent to.
func wantLocal(fd int, ip netip.Addr) {
	if ip.Is4() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
}

// Forward returns the forward with its actual port.
func (u *udpListener) Forward() hostfwd.Forward { return u.fwd }

// Close stops listening and ends the forward's sessions.
func (u *udpListener) Close() error {
	u.l.do(func() { u.close(u.l) })
	return nil
}

func (u *udpListener) close(l *loop) {
	if u.fd < 0 {
		return
	}
	for _, s := range u.sessions {
		s.close(l)
	}
	l.remove(u.slot)
	closeFD(u.fd)
	u.fd = -1
	delete(l.udp.listeners, u)
	if l.udp.top == u {
		l.udp.top = nil
	}
	u.h.quota.take(&u.usage, -1)
	u.h.quota.forwards.Add(-1)
}

func (u *udpListener) ready(l *loop, _ uint32) { l.schedule(u) }

// work carries datagrams to the guest. Those beyond the batch make epoll report the listener again.
func (u *udpListener) work(l *loop) (cost int, more bool) {
	if u.fd < 0 {
		return 0, false
	}
	b := l.udp.batch
	n, e := b.receive(u.fd, true)
	if e != 0 {
		return 1, false
	}
	l.udp.now = time.Now()
	for i := 0; i < n; {
		j := b.sameSender(i, n)
		s := u.sessions[b.name[i]]
		if s == nil && l.roomForSession(u) {
			s = u.open(l, b.name[i])
			cost++
		}
		if s == nil || s.place == nil { // no socket for it
			i = j
			continue
		}
		s.localN = copy(s.local[:], b.local[j-1])
		s.touch(l)
		if s.fd >= 0 {
			b.send(s.fd, i, j, nil, nil, &s.gso)
		} else {
			s.enqueue(b, i, j)
		}
		i = j
	}
	return cost + udpCost, false
}

// open starts a session.
func (u *udpListener) open(l *loop, from sockaddr) *session {
	s := &session{task: task{lane: &u.lane}, ln: u, from: from, fd: -1, gso: true, seen: l.udp.now}
	s.place = u.order.PushFront(s)
	u.sessions[from] = s
	u.h.quota.take(&u.usage, 1)
	if l.udp.sessions++; l.udp.sessions == 1 {
		l.udp.check = l.udp.now.Add(l.checkEvery())
	}
	if l.udp.top == nil || u.order.Len() > l.udp.top.order.Len() {
		l.udp.top = u
	}
	if l.h.cfg.Dial != nil {
		l.call(s)
	} else {
		s.dial(l, false)
	}
	return s
}

// roomForSession reports whether u may have another session. At the limit, the session idle longest
// is closed: one of the forward that has the most or, if u has its share of the descriptors, one of
// u's own.
func (l *loop) roomForSession(u *udpListener) bool {
	q := &l.h.quota
	victim := u
	switch {
	case l.udp.sessions >= l.h.cfg.UDPSessions:
		victim = l.udp.most()
	case q.admits(&u.usage, 1):
		return true
	case u.order.Len() == 0:
		if q.free() >= 1 {
			return true
		}
		if victim = l.udp.most(); victim == nil || victim.order.Len() == 0 {
			l.complain("forward %s: no descriptor is free for another client", u.fwd)
			return false
		}
	}
	victim.order.Back().Value.(*session).close(l)
	l.udp.early++
	l.complain("forward %s: its client idle longest had to make room for another, because of the limit of sessions (%d) or of open files (%d); so far %d",
		victim.fwd, l.h.cfg.UDPSessions, fileLimit(), l.udp.early)
	return true
}

// most returns the listener that has the most sessions, or one that has at least the average.
func (u *udpState) most() *udpListener {
	if u.top == nil || u.top.order.Len()*len(u.listeners) < u.sessions {
		u.top = nil
		for ln := range u.listeners {
			if u.top == nil || ln.order.Len() > u.top.order.Len() {
				u.top = ln
			}
		}
	}
	return u.top
}

// dial gets a socket for s. again means that none was ready at an earlier attempt.
func (s *session) dial(l *loop, again bool) {
	fd, err := l.h.udp.of(s.ln.fwd.GuestIP).get(l, again)
	if err == errEmpty {
		l.udp.waiting = append(l.udp.waiting, s)
		return
	}
	if err != nil {
		s.close(l) // the client's next datagram tries again
		return
	}
	from := s.from.addrPort()
	keep := s.ln.source && l.h.cfg.Source.Keeps(s.ln.fwd.GuestIP, from.Addr())
	if keep {
		err = bindClient(fd, l.h.cfg.Source.Mark(), from, false, false)
	}
	if err == nil {
		err = orNil(connect(fd, &s.ln.to))
	}
	if err != nil {
		l.failed(&s.ln.usage, &s.ln.fwd, err)
		closeFD(fd)
		s.close(l)
		return
	}
	if !keep {
		s.attach(l, fd)
		return
	}
	at, _ := getsockname(fd)
	s.bound, s.client = fd, at.addrPort()
	l.call(s)
}

func (s *session) wants() bool { return s.place != nil }

func (s *session) call(ctx context.Context) (int, error) {
	cfg, f := &s.ln.h.cfg, &s.ln.fwd
	if cfg.Dial != nil {
		return cfg.Dial(ctx, *f, s.from.addrPort())
	}
	if err := cfg.Source.Add(netip.AddrPortFrom(f.GuestIP, f.GuestPort), s.client); err != nil {
		closeFD(s.bound)
		return -1, fmt.Errorf("keep the address of client %s: %w", s.client.Addr(), err)
	}
	return s.bound, nil
}

func (s *session) dialed(l *loop, fd int, err error) {
	s.added = err == nil && l.h.cfg.Source != nil
	switch {
	case err != nil && s.place == nil:
	case err != nil:
		l.failed(&s.ln.usage, &s.ln.fwd, err)
		s.close(l)
	case s.place == nil: // closed meanwhile
		closeFD(fd)
		s.unroute(l)
	default:
		if l.h.cfg.Dial != nil {
			tuneUDP(fd)
		}
		s.attach(l, fd)
	}
}

// unroute undoes Source.Add.
func (s *session) unroute(l *loop) {
	if s.added {
		s.added = false
		l.h.cfg.Source.Remove(netip.AddrPortFrom(s.ln.fwd.GuestIP, s.ln.fwd.GuestPort), s.client)
	}
}

// attach starts carrying over fd, beginning with the pending datagrams.
func (s *session) attach(l *loop, fd int) {
	limitUDP(l.udp.sessions, fd)
	slot, e := l.add(fd, unix.EPOLLIN, s)
	if e != 0 {
		l.complain("epoll_ctl: %v", e)
		closeFD(fd)
		s.close(l)
		return
	}
	s.fd, s.slot = fd, slot
	for _, p := range s.pending {
		_, _ = send(fd, p)
	}
	s.pending = nil
}

// enqueue keeps the first datagrams until there is a socket.
func (s *session) enqueue(b *batch, i, j int) {
	for ; i < j; i++ {
		for p := b.data(i); len(s.pending) < maxPending; {
			n := min(len(p), b.seg[i])
			s.pending = append(s.pending, append([]byte(nil), p[:n]...))
			if p = p[n:]; len(p) == 0 {
				break
			}
		}
	}
}

func (s *session) ready(l *loop, _ uint32) { l.schedule(s) }

// work carries answers to the client.
func (s *session) work(l *loop) (cost int, more bool) {
	if s.fd < 0 {
		return 0, false
	}
	b := l.udp.batch
	n, e := b.receive(s.fd, false)
	if e != 0 {
		if e == unix.ECONNREFUSED {
			l.refused(&s.ln.usage, &s.ln.fwd)
		}
		return 1, false
	}
	if s.ln.usage.refused.Load() {
		s.ln.usage.refused.Store(false)
	}
	l.udp.now = time.Now()
	s.touch(l)
	b.send(s.ln.fd, 0, n, &s.from, s.local[:s.localN], &s.ln.gso)
	return udpCost, false
}

func (s *session) touch(l *loop) {
	s.seen = l.udp.now
	s.ln.order.MoveToFront(s.place)
}

func (s *session) close(l *loop) {
	s.ln.order.Remove(s.place)
	delete(s.ln.sessions, s.from)
	if s.fd >= 0 {
		l.remove(s.slot)
		closeFD(s.fd)
		s.fd = -1
	}
	s.unroute(l)
	s.place, s.pending = nil, nil
	l.udp.sessions--
	l.udp.used = true
	l.h.quota.take(&s.ln.usage, -1)
	l.freed()
}

func (l *loop) checkEvery() time.Duration { return max(l.h.cfg.UDPIdle/4, time.Millisecond) }

// timeout returns when to check for idle sessions, in milliseconds; -1 if there are none.
func (u *udpState) timeout() int {
	if u.sessions == 0 {
		return -1
	}
	return int(max(u.check.Sub(u.now), 0)/time.Millisecond) + 1
}

func (l *loop) expireUDP() {
	u := &l.udp
	if u.sessions == 0 {
		if u.used {
			u.used = false
			u.batch.forget()
		}
		return
	}
	u.now = time.Now()
	if u.now.Before(u.check) {
		return
	}
	u.check = u.now.Add(l.checkEvery())
	for ln := range u.listeners {
		for e := ln.order.Back(); e != nil; e = ln.order.Back() {
			s := e.Value.(*session)
			if u.now.Sub(s.seen) < l.h.cfg.UDPIdle {
				break
			}
			s.close(l)
		}
	}
}

func (l *loop) closeUDP() {
	for u := range l.udp.listeners {
		u.close(l)
	}
	if l.udp.batch != nil {
		l.udp.batch.free()
	}
}
