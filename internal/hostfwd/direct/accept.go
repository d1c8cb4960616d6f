package direct

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// acceptPause is how long a loop ignores a listener that has no descriptor for another
	// connection, unless an open connection ends sooner.
	acceptPause = 100 * time.Millisecond
	// acceptBatch bounds how many connections are accepted before the open ones have their turn.
	acceptBatch = 32
	acceptCost  = 2
)

// acceptor is a listener's job in a loop.
type acceptor struct {
	task
	ln    *tcpListener
	most  int   // connections to accept before epoll_wait says whether there are more
	round int64 // of the loop, when most connections were last accepted
	full  int64 // descriptors that the forward had when it reached its limit, which was logged; 0: not reached
}

// addListener adds ln to the listeners that the loop accepts for. It may be called from any
// goroutine.
func (l *loop) addListener(ln *tcpListener) error {
	ln.mu.RLock()
	defer ln.mu.RUnlock()
	if ln.fd < 0 {
		return nil
	}
	return orNil(epollCtl(l.ep, unix.EPOLL_CTL_ADD, ln.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, ln.id, 0))
}

// work accepts. Connections beyond the batch make epoll report the listener again. A batch is as large as what
// came last, and grows if more come in the next round, so that clients that come one by one cost no second accept each.
func (a *acceptor) work(l *loop) (cost int, more bool) {
	ln, q := a.ln, &l.h.quota
	if a.round+1 == l.round {
		a.most = min(2*a.most, acceptBatch)
	}
	a.most = max(a.most, 1)
	for i := range a.most {
		if !q.admits(&ln.usage, 2) {
			l.pause(a, nil)
			return cost, false
		}
		var from sockaddr
		fd, e := ln.accept(&from)
		cost += acceptCost
		switch e {
		case 0:
			if a.full != 0 && ln.usage.fds.Load() < a.full/4*3 {
				a.full = 0
			}
			l.open(ln, fd, &from)
		case unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.pause(a, e)
			return cost, false
		default:
			a.most = i
			return cost, false
		}
	}
	a.round = l.round
	return cost, false
}

// pause stops polling a listener for a while: epoll would report the connection that could not be
// accepted again at once. why is nil if the forward has its share of the descriptors.
func (l *loop) pause(a *acceptor, why error) {
	ln := a.ln
	ln.mu.RLock()
	open := ln.fd >= 0
	if open {
		epollCtl(l.ep, unix.EPOLL_CTL_DEL, ln.fd, 0, 0, 0)
	}
	ln.mu.RUnlock()
	if !open {
		return
	}
	if a.full == 0 {
		a.full = ln.usage.fds.Load()
		if why != nil {
			l.h.log("forward %s: accept: %v; new connections wait", ln.fwd, why)
		} else {
			l.h.log("forward %s has %d connections, as many as the limit of open files (%d) allows one forward: new ones wait",
				ln.fwd, (a.full-1)/2, fileLimit())
		}
	}
	if len(l.paused) == 0 {
		l.pausedAt = time.Now()
	}
	l.paused = append(l.paused, a)
}

// resume polls the n listeners again that have waited longest.
func (l *loop) resume(n int) {
	l.h.quota.refresh()
	n = min(n, len(l.paused))
	now := l.paused[:n:n]
	l.paused = l.paused[n:]
	l.pausedAt = time.Now()
	for _, a := range now {
		if err := l.addListener(a.ln); err != nil {
			l.complain("forward %s: epoll_ctl: %v", a.ln.fwd, err)
			l.paused = append(l.paused, a)
		}
	}
}

// freed tells the loop that descriptors were closed.
func (l *loop) freed() {
	if len(l.paused) > 0 {
		l.resume(1)
	}
}
