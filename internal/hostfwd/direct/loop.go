package direct

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	eventBatch = 512
	// pieceSize is the maximum size of one plain read, bytes.
	pieceSize = 64 << 10
	// complainEvery is the minimum time between two log lines about problems that can occur with
	// every connection.
	complainEvery = time.Second
)

// source is the owner of a descriptor in a loop.
type source interface {
	// ready receives epoll's events, on the loop's goroutine. It only records them: the work is
	// done in its forward's turn.
	ready(l *loop, events uint32)
}

// slot is an entry of a loop's table. gen distinguishes an event for a former owner from one for
// the current owner; it is never 0, which marks the events of listeners.
type slot struct {
	src source
	gen int32
}

const wakeID = -1

// loop carries the bytes of its connections. All fields below mu belong to its goroutine.
type loop struct {
	h      *Handler
	index  int // in h.loops
	ep     int
	wakeFD int
	done   chan struct{}

	mu       sync.Mutex
	commands []func()
	ended    bool // no more commands will run

	stopping   bool
	round      int64 // calls of epoll_wait
	slots      []slot
	vacant     []int32
	conns      map[*conn]struct{}
	starved    []*conn // waiting for a socket in the namespace
	busy       []*lane // with work
	spare      []*lane // the array of the previous round
	paused     []*acceptor
	pausedAt   time.Time
	complained time.Time
	dials      dialQueue
	pipes      []*pipe // empty
	pipeCount  int     // empty or not
	piece      []byte
	udp        udpState
	events     [eventBatch]unix.EpollEvent
}

func newLoop(h *Handler, index int) (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		closeFD(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{h: h, index: index, ep: ep, wakeFD: wake, done: make(chan struct{}), conns: make(map[*conn]struct{})}
	l.udp.listeners = make(map[*udpListener]struct{})
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

// post runs f on the loop's goroutine; false means that the loop has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.commands = append(l.commands, f)
	if len(l.commands) == 1 { // otherwise it has not read the event yet
		one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1}
		_, _ = unix.Write(l.wakeFD, one[:])
	}
	return true
}

// do runs f on the loop's goroutine and waits for it.
func (l *loop) do(f func()) {
	ran := make(chan struct{})
	if l.post(func() { f(); close(ran) }) {
		<-ran
	}
}

// stop closes everything the loop carries and ends the loop.
func (l *loop) stop() {
	l.do(func() { l.stopping = true })
	<-l.done
}

func (l *loop) run() {
	defer close(l.done)
	for !l.stopping {
		l.round++
		n, e := epollWait(l.ep, l.events[:], l.timeout())
		if e != 0 && e != unix.EINTR {
			l.h.log("epoll_wait: %v", e)
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
					l.schedule(&ln.acceptors[l.index])
				}
			}
		}
		l.serve()
		if len(l.paused) > 0 && time.Since(l.pausedAt) >= acceptPause {
			l.resume(len(l.paused))
		}
		l.expireUDP()
	}
	l.closeAll()
}

// timeout returns how long the loop may sleep, in milliseconds; normally -1, no limit.
func (l *loop) timeout() int {
	if len(l.busy) > 0 {
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

func (l *loop) woke() {
	var b [8]byte
	_, _ = read(l.wakeFD, b[:])
	l.mu.Lock()
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, f := range commands {
		f()
	}
}

// feed gives sockets in the namespace to the connections and sessions that wait for one.
func (l *loop) feed() {
	starved, waiting := l.starved, l.udp.waiting
	l.starved, l.udp.waiting = nil, nil
	for _, c := range starved {
		if !c.closed {
			c.dial(l, true)
		}
	}
	for _, s := range waiting {
		if s.place != nil {
			s.dial(l, true)
		}
	}
}

// add registers fd for src and returns the slot's number, for remove.
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

// remove frees the slot of a descriptor that is being closed, which removes it from the epoll
// set.
func (l *loop) remove(id int32) {
	s := &l.slots[id]
	s.src = nil
	if s.gen++; s.gen <= 0 {
		s.gen = 1
	}
	l.vacant = append(l.vacant, id)
}

// complain logs a problem that can occur with every connection, at most once a second.
func (l *loop) complain(format string, args ...any) {
	if now := time.Now(); now.Sub(l.complained) >= complainEvery {
		l.complained = now
		l.h.log(format, args...)
	}
}

func (l *loop) closeAll() {
	l.mu.Lock()
	l.ended = true
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for c := range l.conns {
		c.reset(l)
	}
	l.closeUDP()
	for _, f := range commands {
		f() // results for connections that have ended are closed
	}
	for _, p := range l.pipes {
		l.discard(p)
	}
	l.free()
}
