package gateway

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// connectWait is how long a connection to the host waits for the guest's end of it, which is one
// frame away.
const connectWait = 10 * time.Second

// Conn is a connection to the host that was made for the guest.
type Conn struct {
	Host *net.TCPConn
	// Check, if not nil, looks at what the guest sends first, and passes it on. With an error the connection is reset.
	Check func(guest io.Reader, host io.Writer) (passed int64, err error)
	// Allowed is asked again when the rules have changed.
	Allowed func() bool
	// Done is called once when it is over, with the bytes that came in and went out.
	Done func(in, out int64, err error)

	expire *time.Timer
}

// abandon ends a connection that nobody took. It does nothing for nil.
func (c *Conn) abandon() {
	if c != nil {
		c.expire.Stop()
		reset(c.Host)
		c.Done(0, 0, nil)
	}
}

// relay takes the guest's connections and joins each to the one that was made for it.
type relay struct {
	ln        *net.TCPListener
	announced func(flowKey) *Conn
	joined    sync.WaitGroup

	mu     sync.Mutex
	open   map[*joint]struct{}
	closed bool
}

// joint is a pair of joined connections.
type joint struct {
	guest *net.TCPConn
	*Conn
}

func newRelay(ln *net.TCPListener) *relay { return &relay{ln: ln, open: map[*joint]struct{}{}} }

func (r *relay) run() {
	defer r.joined.Wait()
	for {
		c, err := r.ln.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // descriptors are short; the kernel keeps what waits
			continue
		}
		to, err := originalDst(c)
		if err != nil {
			reset(c)
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		conn := r.announced(flowKey{ipTCP, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), to})
		if conn == nil {
			reset(c)
			continue
		}
		conn.expire.Stop()
		r.join(&joint{c, conn})
	}
}

func (r *relay) join(j *joint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !j.Allowed() { // the rules may have changed since the host was connected to
		reset(j.guest)
		j.abandon()
		return
	}
	r.open[j] = struct{}{}
	r.joined.Go(func() {
		in, out, err := j.carry()
		r.mu.Lock()
		delete(r.open, j)
		r.mu.Unlock()
		j.Done(in, out, err)
	})
}

// carry carries bytes between the guest and the host until both have ended.
func (j *joint) carry() (in, out int64, err error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		n, cerr := io.Copy(j.guest, j.Host)
		in = n
		j.end(j.guest, cerr)
	})
	if j.Check != nil {
		out, err = j.Check(j.guest, j.Host)
	}
	if err == nil {
		var n int64
		n, cerr := io.Copy(j.Host, j.guest)
		out += n
		j.end(j.Host, cerr)
	} else {
		j.reset()
	}
	wg.Wait()
	j.guest.Close()
	j.Host.Close()
	return in, out, err
}

// end passes the end of what the other side sent on to one side.
func (j *joint) end(to *net.TCPConn, err error) {
	if err != nil {
		j.reset()
		return
	}
	_ = to.CloseWrite()
}

func (j *joint) reset() {
	reset(j.guest)
	reset(j.Host)
}

// recheck resets connections that are no longer allowed.
func (r *relay) recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for j := range r.open {
		if !j.Allowed() {
			j.reset()
		}
	}
}

func (r *relay) close() {
	r.ln.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for j := range r.open {
		j.reset()
	}
}

// reset closes a connection with a reset.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// originalDst returns where the guest meant to connect to, before the redirect.
func originalDst(c *net.TCPConn) (netip.AddrPort, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var req *unix.IPv6Mreq // the kernel's sockaddr_in fits
	cerr := rc.Control(func(fd uintptr) {
		const soOriginalDst = 80 // linux/netfilter_ipv4.h
		req, err = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, soOriginalDst)
	})
	if err = errors.Join(cerr, err); err != nil {
		return netip.AddrPort{}, err
	}
	b := req.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
}

// unreachable says how the guest is told that the host can't be connected to: by an ICMP message of
// that code or, with refused, a reset.
func unreachable(err error) (code uint8, refused bool) {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return icmpNet, false
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return icmpHost, false
	}
	return 0, true
}
