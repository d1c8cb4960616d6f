package direct

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// acceptPause is how long a loop that ran out of descriptors leaves a listener alone,
	// unless one of its connections ends sooner.
	acceptPause = 100 * time.Millisecond
	// acceptBatch bounds how many connections are taken before the open ones have their turn.
	acceptBatch = 64
	eventBatch  = 128
	// pieceSize is the most one plain read takes, bytes.
	pieceSize = 64 << 10
)

// source is a descriptor's owner in a loop.
type source interface {
	// ready is told what epoll saw, on the loop's goroutine.
	ready(l *loop, events uint32)
}

// slot is an entry of a loop's table. gen tells an event for a former owner from one for
// the present one; it is never 0, which marks the events of listeners.
type slot struct {
	src source
	gen int32
}

const wakeID = -1

// loop carries the bytes of its connections. Everything below mu belongs to its goroutine.
type loop struct {
	h      *Handler
	ep     int
	wakeFD int
	done   chan struct{}

	mu       sync.Mutex
	commands []func()
	woken    bool

	stopping   bool
	slots      []slot
	vacant     []int32
	conns      map[*conn]struct{}
	starved    []*conn        // wait for a socket in the namespace
	again      []*conn        // had more to carry than one turn allows
	paused     []*tcpListener // wait for a free descriptor
	pausedAt   time.Time
	complained time.Time
	pipes      []*pipe
	piece      []byte
	udp        udpState
	events     [eventBatch]unix.EpollEvent
}

func newLoop(h *Handler) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		closeFD(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{h: h, ep: ep, wakeFD: wake, done: make(chan struct{}), conns: make(map[*conn]struct{})}
	l.udp.init()
	if e := epollCtl(ep, unix.EPOLL_CTL_ADD, wake, unix.EPOLLIN|unix.EPOLLET, wakeID, 0); e != 0 {
		l.free()
		return nil, fmt.Errorf("epoll_ctl: %w", e)
	}
	return l, nil
}

func (l *loop) free() {
	closeFD(l.ep)
	closeFD(l.wakeFD)
}

// wake makes the loop look at its commands and at the pools.
func (l *loop) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked()
}

func (l *loop) wakeLocked() {
	if l.woken {
		return
	}
	l.woken = true
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1}
	_, _ = unix.Write(l.wakeFD, one[:])
}

// do runs f on the loop's goroutine and waits for it.
func (l *loop) do(f func()) {
	ran := make(chan struct{})
	l.mu.Lock()
	l.commands = append(l.commands, func() { f(); close(ran) })
	l.wakeLocked()
	l.mu.Unlock()
	select {
	case <-ran:
	case <-l.done:
	}
}

// stop ends everything the loop carries and the loop itself.
func (l *loop) stop() {
	l.do(func() { l.stopping = true })
	<-l.done
}

func (l *loop) run() {
	defer close(l.done)
	for !l.stopping {
		n, e := epollWait(l.ep, l.events[:], l.timeout())
		if e != 0 && e != unix.EINTR {
			l.h.cfg.Log("direct: epoll_wait: %v", e)
			break
		}
		for _, ev := range l.events[:max(n, 0)] {
			switch {
			case ev.Pad != 0:
				if s := l.slots[ev.Fd]; s.gen == ev.Pad && s.src != nil {
					s.src.ready(l, ev.Events)
				}
			case ev.Fd == wakeID:
				l.woke()
			default:
				if ln := l.h.listener(ev.Fd); ln != nil {
					l.accept(ln)
				}
			}
		}
		l.carryOn()
	}
	l.closeAll()
}

// timeout is how long the loop may sleep, milliseconds; -1 without end, which is the rule.
func (l *loop) timeout() int {
	if len(l.again) > 0 {
		return 0
	}
	ms := l.udp.timeout()
	if len(l.paused) > 0 {
		if p := int(acceptPause.Milliseconds()); ms < 0 || p < ms {
			ms = p
		}
	}
	return ms
}

// carryOn does what is due beside events.
func (l *loop) carryOn() {
	if len(l.again) > 0 {
		again := l.again
		l.again = nil
		for _, c := range again {
			c.queued = false
			if !c.closed {
				c.run(l)
			}
		}
	}
	if len(l.paused) > 0 && time.Since(l.pausedAt) >= acceptPause {
		l.resume()
	}
	l.expireUDP()
}

func (l *loop) woke() {
	var b [8]byte
	_, _ = read(l.wakeFD, b[:])
	l.mu.Lock()
	l.woken = false
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, f := range commands {
		f()
	}
	starved := l.starved
	l.starved = nil
	for _, c := range starved {
		if !c.closed {
			c.dial(l, true)
		}
	}
	l.feedUDP()
}

// add puts fd under src and returns the slot's number, to be given to remove.
func (l *loop) add(fd int, events uint32, src source) (int32, unix.Errno) {
	var id int32
	if n := len(l.vacant); n > 0 {
		id = l.vacant[n-1]
		l.vacant = l.vacant[:n-1]
	} else {
		id = int32(len(l.slots))
		l.slots = append(l.slots, slot{gen: 1})
	}
	s := &l.slots[id]
	if e := epollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, events, id, s.gen); e != 0 {
		l.vacant = append(l.vacant, id)
		return -1, e
	}
	s.src = src
	return id, 0
}

// remove forgets a slot whose descriptor is being closed, which takes it out of the epoll
// set.
func (l *loop) remove(id int32) {
	s := &l.slots[id]
	s.src = nil
	if s.gen++; s.gen <= 0 {
		s.gen = 1
	}
	l.vacant = append(l.vacant, id)
}

// addListener makes the loop one of those that accept for ln. It may be called from any
// goroutine.
func (l *loop) addListener(ln *tcpListener) error {
	ln.mu.RLock()
	defer ln.mu.RUnlock()
	if ln.fd < 0 {
		return nil
	}
	if e := epollCtl(l.ep, unix.EPOLL_CTL_ADD, ln.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, ln.id, 0); e != 0 {
		return fmt.Errorf("epoll_ctl: %w", e)
	}
	return nil
}

func (l *loop) accept(ln *tcpListener) {
	for range acceptBatch {
		fd, e := ln.accept()
		switch e {
		case 0:
			l.open(ln, fd)
		case unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.pause(ln, e)
			return
		default:
			return
		}
	}
}

// complain logs what may happen with every connection, once a second at most.
func (l *loop) complain(format string, args ...any) {
	if now := time.Now(); now.Sub(l.complained) >= time.Second {
		l.complained = now
		l.h.cfg.Log(format, args...)
	}
}

// pause stops asking about ln for a while: the connection that could not be accepted would
// be reported again at once, for ever.
func (l *loop) pause(ln *tcpListener, why unix.Errno) {
	ln.mu.RLock()
	if ln.fd >= 0 {
		epollCtl(l.ep, unix.EPOLL_CTL_DEL, ln.fd, 0, 0, 0)
	}
	ln.mu.RUnlock()
	if len(l.paused) == 0 {
		l.complain("direct: accept: %v; waiting for a connection to end", why)
		l.pausedAt = time.Now()
	}
	l.paused = append(l.paused, ln)
}

func (l *loop) resume() {
	paused := l.paused
	l.paused = nil
	for _, ln := range paused {
		if err := l.addListener(ln); err != nil {
			l.complain("direct: %v", err)
		}
	}
}

func (l *loop) closeAll() {
	for c := range l.conns {
		c.reset(l)
	}
	l.closeUDP()
	for _, p := range l.pipes {
		closeFD(p.r)
		closeFD(p.w)
	}
	l.free()
}
