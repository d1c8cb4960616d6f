package direct

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// The maximum number of concurrent calls in a loop: normally, and when descriptors are scarce.
const (
	mostDials  = 32
	fewerDials = 4
)

// caller waits for a call that may block: of [Config].Dial, or of [Source].Add.
type caller interface {
	job
	wants() bool // still waiting
	// call returns the socket. It is called by a goroutine.
	call(ctx context.Context) (fd int, err error)
	// dialed receives the result, also if it is no longer wanted.
	dialed(l *loop, fd int, err error)
}

// dialQueue schedules a loop's calls. A forward may have as many calls running as
// are still free, so that a guest that never answers doesn't use all of them.
type dialQueue struct {
	lanes []*lane // with callers waiting, in turn
	calls int
}

// call queues c for a dial.
func (l *loop) call(c caller) {
	n := c.base().lane
	n.asking = append(n.asking, c)
	if !n.queued {
		n.queued = true
		l.dials.lanes = append(l.dials.lanes, n)
	}
	l.dialNext()
}

func (l *loop) dialNext() {
	d := &l.dials
	most := max(l.h.quota.some(mostDials), fewerDials)
	for tries := len(d.lanes); tries > 0 && d.calls < most; tries-- {
		n := d.lanes[0]
		d.lanes = d.lanes[1:]
		if n.calls < most-d.calls {
			l.dialOne(n)
		}
		if n.queued = len(n.asking) > 0; n.queued {
			d.lanes = append(d.lanes, n)
		}
	}
}

// dialOne starts the call of the first caller in the lane that still wants it.
func (l *loop) dialOne(n *lane) {
	for len(n.asking) > 0 {
		c := n.asking[0]
		n.asking[0] = nil
		n.asking = n.asking[1:]
		if !c.wants() {
			continue
		}
		n.calls++
		l.dials.calls++
		l.h.dialing.Go(func() {
			fd, err := c.call(l.h.dialCtx)
			done := func() {
				n.calls--
				l.dials.calls--
				c.dialed(l, fd, err)
				l.dialNext()
			}
			if !l.post(done) && err == nil {
				closeFD(fd)
			}
		})
		return
	}
}

// refused handles a forward with nothing listening at its destination; it is logged once.
func (l *loop) refused(u *usage, f *hostfwd.Forward) {
	if !u.refused.Swap(true) {
		l.h.log("nothing listens on %s/%s inside, where %s goes", netip.AddrPortFrom(f.GuestIP, f.GuestPort), f.Proto.Network(), f)
	}
}

// failed logs why a connection to the guest could not be made.
func (l *loop) failed(u *usage, f *hostfwd.Forward, err error) {
	if errors.Is(err, unix.ECONNREFUSED) {
		l.refused(u, f)
		return
	}
	l.complain("connect to %s inside: %v", netip.AddrPortFrom(f.GuestIP, f.GuestPort), err)
}
