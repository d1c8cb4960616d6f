package direct

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// A pool starts with few sockets and doubles, up to the maximum, each time it is empty.
const (
	poolStart  = 8
	poolMost   = 128
	refillTime = 10 * time.Second
)

// pool keeps sockets of one kind ready.
type pool struct {
	h           *Handler
	family, typ int

	mu      sync.Mutex
	free    []int
	want    int     // how many to keep ready
	filling bool    // a refill is running
	waiting []*loop // found it empty; woken when the refill ends
	err     error   // why the last refill failed; returned to its waiters
	closed  bool
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// pools are the sockets of one type.
type pools struct{ v4, v6 *pool }

func newPools(h *Handler, typ int) pools {
	return pools{
		v4: &pool{h: h, family: unix.AF_INET, typ: typ, want: poolStart},
		v6: &pool{h: h, family: unix.AF_INET6, typ: typ, want: poolStart},
	}
}

// of returns the sockets that can connect to guest.
func (p pools) of(guest netip.Addr) *pool {
	if guest.Is4() {
		return p.v4
	}
	return p.v6
}

// errEmpty says that a refill is running and l will be woken.
var errEmpty = errors.New("no socket ready")

// get takes a socket, which the caller has counted already. If there is none, l is woken when a
// refill has ended, with or without success; an error other than errEmpty is why a refill failed
// since l's previous call.
func (p *pool) get(l *loop, again bool) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		fd := p.free[n-1]
		p.free = p.free[:n-1]
		p.h.quota.used.Add(-1)
		if n-1 <= p.want/2 {
			p.fill()
		}
		return fd, nil
	}
	if again && p.err != nil && !p.filling {
		return -1, p.err
	}
	if p.closed {
		return -1, ErrClosed
	}
	p.want = min(2*p.want, poolMost)
	if !slices.Contains(p.waiting, l) {
		p.waiting = append(p.waiting, l)
	}
	p.fill()
	return -1, errEmpty
}

// warm fills the pool for the first time.
func (p *pool) warm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		p.fill()
	}
}

// fill starts a refill unless one runs. The caller holds p.mu.
func (p *pool) fill() {
	if p.filling || p.closed {
		return
	}
	p.filling = true
	ctx, cancel := context.WithTimeout(context.Background(), refillTime)
	p.cancel = cancel
	n := max(p.h.quota.some(p.want)-len(p.free), 1)
	p.h.quota.used.Add(int64(n)) // now, or clients could take what was left for forwards without connections
	p.done.Go(func() {
		fds, err := p.ask(ctx, n)
		cancel()
		p.tune(fds)
		p.h.quota.used.Add(int64(len(fds) - n))
		p.mu.Lock()
		p.free = append(p.free, fds...)
		p.filling = false
		failed := err != nil && p.err == nil && !p.closed && !errors.Is(err, ErrClosed)
		p.err = err
		waiting := p.waiting
		p.waiting = nil
		p.mu.Unlock()
		if failed {
			p.h.log("no socket in the guest's namespace: %v", err)
		}
		for _, l := range waiting {
			l.post(l.feed)
		}
	})
}

func (p *pool) tune(fds []int) {
	bbr := true // the same for all
	for _, fd := range fds {
		if p.typ == unix.SOCK_DGRAM {
			tuneUDP(fd)
			continue
		}
		tuneTCP(fd)
		bbr = bbr && useReno(fd) != "" // the guest is always on this host
	}
}

// ask requests up to n sockets; when descriptors are scarce, on either side, as many as are
// available.
func (p *pool) ask(ctx context.Context, n int) ([]int, error) {
	for {
		fds, err := p.h.cfg.Sockets.Sockets(ctx, p.family, p.typ, n)
		if err == nil && len(fds) == 0 {
			err = errors.New("no sockets given")
		}
		if err == nil || n == 1 || !fault.IsShortage(err) {
			return fds, err
		}
		n /= 2
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.free {
		closeFD(fd)
	}
	p.h.quota.used.Add(-int64(len(p.free)))
	p.free = nil
}
