package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Policy decides for a gateway by the rules of a set.
type Policy struct {
	Set *egress.Set
	// Narrow, if not nil, must allow as well.
	Narrow *egress.Set
	Mode   egress.Mode // Log or Enforce
	Record func(egress.Record)
	// Network is the guest's; with Loopback its gateway stands for the host's 127.0.0.1.
	Network  subnet.Network
	Loopback bool
	// Upstream, if not nil, is the proxy that connections go through, by name. It resolves names, and so decides
	// which addresses they lead to.
	Upstream *url.URL
	// Source is the source address of the host's connections; if it is invalid, the kernel chooses.
	Source netip.Addr

	names *names // in Enforce mode those that addresses of fakeNet stand for, else those that answers told
	own   ownAddrs
	conns atomic.Int64
	most  int64        // of conns
	heads atomic.Int64 // bytes
}

// NewPolicy returns a policy; the other fields are to be set before it is used.
func NewPolicy(set *egress.Set, mode egress.Mode, n subnet.Network, record func(egress.Record)) *Policy {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		files.Cur = 1024
	}
	return &Policy{Set: set, Mode: mode, Network: n, Record: record, names: newNames(), most: connLimit(files.Cur)}
}

// Bounds of a gateway's connections, of all together. A SYN beyond waits for its retransmission.
const (
	mostConns = 16384
	// fdsOfConn is how many descriptors one takes: two sockets, and two pipes to splice through. A third more is left to
	// everything else.
	fdsOfConn = 6
	mostHeads = 8 << 20 // bytes of what guests sent first, while it is looked at
)

// connLimit is how many connections a process with so many descriptors may have.
func connLimit(descriptors uint64) int64 {
	return int64(min(mostConns, descriptors/(fdsOfConn+fdsOfConn/3)))
}

// errDenied is the error for a connection that no rule allows: the guest gets a reset. errBusy is the error for one that
// the guest should try again.
var (
	errDenied = errors.New("denied")
	errBusy   = errors.New("too many connections")
)

// addrDenied is errDenied for an address that a name leads to.
type addrDenied struct {
	egress.Flow
	egress.Verdict
}

func (*addrDenied) Error() string { return errDenied.Error() }
func (*addrDenied) Unwrap() error { return errDenied }

// flow names what a connection or datagram of the guest's goes to. refused is why it goes nowhere, whatever the
// rules say.
func (p *Policy) flow(proto egress.Proto, to netip.AddrPort) (f egress.Flow, refused string) {
	a := to.Addr()
	f = egress.Flow{Proto: proto, Addr: a, Port: to.Port()}
	switch {
	case a == p.Network.Gateway():
		if !p.Loopback {
			return f, "it is the host's loopback, which only --allow-host-loopback opens"
		}
	case p.isLocal(a):
		return f, localAddr
	case p.Mode == egress.Enforce && fakeNet.Contains(a):
		f.Name, f.Addr = p.names.name(a), netip.Addr{}
		if f.Name == "" {
			return f, "the address stands for no name"
		}
	case p.Mode == egress.Log:
		f.Name = p.names.name(a)
	}
	return f, ""
}

const localAddr = "nobody has this address"

// isLocal reports whether an address means something else in the gateway than on the host.
func (p *Policy) isLocal(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || p.Network.CIDR().Contains(a) || HostNetwork().CIDR().Contains(a)
}

// Decide says whether a flow may pass.
func (p *Policy) Decide(f egress.Flow) egress.Verdict {
	f.Own = f.Addr.IsValid() && p.own.has(f.Addr)
	v := p.decide(p.Set, f)
	if v.Allowed && p.Narrow != nil {
		v = p.decide(p.Narrow, f)
	}
	return v
}

func (p *Policy) decide(set *egress.Set, f egress.Flow) egress.Verdict {
	v := set.Flow(f)
	if p.Mode == egress.Log && !v.Allowed && f.Name != "" && f.Addr.IsValid() {
		// Here a name is a guess; a rule for the address would do as well.
		f.Name = ""
		if byAddr := set.Flow(f); byAddr.Allowed {
			return byAddr
		}
	}
	return v
}

// lookUp says whether a name may be looked up.
func (p *Policy) lookUp(name string) egress.Verdict {
	v := p.Set.Name(name)
	if v.Allowed && p.Narrow != nil {
		v = p.Narrow.Name(name)
	}
	return v
}

// judge decides about a flow and begins its record.
func (p *Policy) judge(proto egress.Proto, to netip.AddrPort) (f egress.Flow, v egress.Verdict, rec egress.Record, passes bool) {
	now := time.Now()
	f, refused := p.flow(proto, to)
	if refused != "" {
		rec = egress.NewRecord(egress.Enforce, f, egress.Verdict{Reason: refused}, now)
		return f, v, rec, false
	}
	v = p.Decide(f)
	return f, v, egress.NewRecord(p.Mode, f, v, now), v.Allowed || p.Mode == egress.Log
}

// connect implements decider.
func (p *Policy) connect(to netip.AddrPort) (*Conn, error) {
	f, v, rec, passes := p.judge(egress.TCP, to)
	if !passes {
		p.Record(rec)
		return nil, errDenied
	}
	if p.conns.Add(1) > p.most {
		p.conns.Add(-1)
		return nil, errBusy
	}
	c, err := p.dial(f)
	if err != nil {
		p.conns.Add(-1)
		if fault.IsShortage(err) {
			return nil, errBusy
		}
		rec.Reason = dialError(err)
		var denied *addrDenied
		if errors.As(err, &denied) {
			rec = egress.NewRecord(p.Mode, denied.Flow, denied.Verdict, rec.Time)
		}
		rec.End(0, 0, time.Now())
		p.Record(rec)
		return nil, err
	}
	conn := &Conn{
		Host: c,
		Done: func(in, out int64, err error) {
			p.conns.Add(-1)
			if err != nil {
				rec.Verdict, rec.Reason = egress.Denied, err.Error()
			}
			rec.End(in, out, time.Now())
			p.Record(rec)
		},
	}
	if f.Name != "" && p.Mode == egress.Enforce {
		if p.Upstream == nil {
			f.Addr = c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			rec.IP = f.Addr.String()
		}
		if v.Rule != nil && !v.Rule.Rule.Unchecked {
			conn.Check = p.passHead(checkFor(f.Name, f.Port))
		}
	}
	conn.Allowed = func() bool { return p.Mode == egress.Log || p.Decide(f).Allowed }
	return conn, nil
}

// dialError is what the record says about a failure to connect.
func dialError(err error) string {
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dns):
		return dns.Err
	}
	return err.Error()
}

// dialTimeout is that of Linux's own connect(2), nearly (tcp(7), tcp_syn_retries).
const dialTimeout = 2 * time.Minute

// dial connects to where a flow goes. Of a name, every address that is tried must be allowed.
func (p *Policy) dial(f egress.Flow) (*net.TCPConn, error) {
	host := f.Addr.String()
	if f.Addr == p.Network.Gateway() {
		host = "127.0.0.1"
	}
	d := net.Dialer{Timeout: dialTimeout}
	if p.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	if !f.Addr.IsValid() {
		host = f.Name + "."
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			g := f
			g.Addr = ap.Addr().Unmap()
			if v := p.Decide(g); !v.Allowed {
				return &addrDenied{g, v}
			}
			return nil
		}
	}
	if p.Upstream != nil && host != "127.0.0.1" {
		d.ControlContext = nil
		return dialThrough(context.Background(), &d, p.Upstream, net.JoinHostPort(strings.TrimSuffix(host, "."), strconv.Itoa(int(f.Port))))
	}
	c, err := d.DialContext(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(int(f.Port))))
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// datagrams implements decider.
func (p *Policy) datagrams(icmp bool, to netip.AddrPort) *datagramFlow {
	proto := egress.UDP
	if icmp {
		proto = egress.ICMP
	}
	f, _, rec, passes := p.judge(proto, to)
	real := f.Addr
	switch {
	case to.Addr() == p.Network.Gateway():
		real = HostNetwork().Gateway()
	case passes && !real.IsValid():
		var denied *addrDenied
		switch real, denied = p.resolve(f); {
		case denied != nil:
			rec = egress.NewRecord(p.Mode, denied.Flow, denied.Verdict, rec.Time)
		case real.IsValid():
			rec.IP = real.String()
		default:
			rec.Reason = "the name has no IPv4 address"
		}
	}
	if !passes || !real.IsValid() {
		p.Record(rec)
		return nil
	}
	return &datagramFlow{real: real, record: p.Record, rec: rec}
}

// resolve returns an IPv4 address of a name that the rules allow, for slirp4netns to carry datagrams there. It is
// invalid if the name has none. If the rules deny all of its addresses, denied is the first of them.
func (p *Policy) resolve(f egress.Flow) (a netip.Addr, denied *addrDenied) {
	ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", f.Name+".")
	if err != nil {
		return a, nil
	}
	for _, a := range addrs {
		f.Addr = a.Unmap()
		v := p.Decide(f)
		if v.Allowed && p.isLocal(f.Addr) {
			v = egress.Verdict{Reason: localAddr}
		}
		if v.Allowed {
			return f.Addr, nil
		}
		if denied == nil {
			denied = &addrDenied{f, v}
		}
	}
	return a, denied
}

// datagramFlow is an allowed flow of UDP or ICMP: it counts, and its record is written when it ends.
type datagramFlow struct {
	real    netip.Addr // where it goes
	in, out atomic.Int64
	record  func(egress.Record)
	rec     egress.Record
}

func (d *datagramFlow) close() {
	d.rec.End(d.in.Load(), d.out.Load(), time.Now())
	d.record(d.rec)
}

// ownAddrs are the host's own addresses, looked at again when they are older than a second.
type ownAddrs struct {
	mu   sync.Mutex
	at   time.Time
	have map[netip.Addr]bool
}

func (o *ownAddrs) has(a netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.have == nil || now.Sub(o.at) > time.Second {
		o.at, o.have = now, map[netip.Addr]bool{}
		addrs, _ := net.InterfaceAddrs()
		for _, x := range addrs {
			if n, ok := x.(*net.IPNet); ok {
				if own, ok := netip.AddrFromSlice(n.IP); ok {
					o.have[own.Unmap()] = true
				}
			}
		}
	}
	return o.have[a]
}

// checkFor returns what makes sure that a connection to the port of a name is about that name: the
// server name of TLS on 443, the host of HTTP on 80; nil for other ports.
func checkFor(name string, port uint16) func(io.Reader) ([]byte, error) {
	var find func(*recorder) (string, error)
	var what string
	switch port {
	case 443:
		find, what = serverName, "TLS server name"
	case 80:
		find, what = requestHost, "HTTP host"
	default:
		return nil
	}
	return func(guest io.Reader) ([]byte, error) {
		r := &recorder{r: guest}
		got, err := find(r)
		if errors.Is(err, errManyHeads) {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("no %s where %s was asked for", what, name)
		}
		if canonical, err := egress.CanonicalName(got); err != nil || canonical != name {
			return nil, fmt.Errorf("the %s is %.100q, %s was asked for", what, got, name)
		}
		return r.data, nil
	}
}

var errManyHeads = errors.New("too many connections wait for their first bytes")

// passHead returns what passes on what check has read, if it finds nothing wrong.
func (p *Policy) passHead(check func(io.Reader) ([]byte, error)) func(io.Reader, io.Writer) (int64, error) {
	if check == nil {
		return nil
	}
	return func(guest io.Reader, host io.Writer) (int64, error) {
		m := &metered{r: guest, total: &p.heads}
		defer func() { p.heads.Add(-m.n) }()
		head, err := check(m)
		if err != nil {
			return 0, err
		}
		n, _ := host.Write(head) // a failure shows in the other direction too, and is not a denial
		return int64(n), nil
	}
}

// metered counts what is read through it in total, which it bounds.
type metered struct {
	r     io.Reader
	n     int64
	total *atomic.Int64
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	if m.total.Add(int64(n)) > mostHeads {
		return 0, errManyHeads
	}
	return n, err
}
