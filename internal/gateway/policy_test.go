package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// service accepts connections on 127.0.0.1 and counts them; each gets "hello" and what it sends.
type service struct {
	port uint16
	mu   sync.Mutex
	n    int
	got  []string
}

func newService(t *testing.T) *service {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &service{port: netip.MustParseAddrPort(l.Addr().String()).Port()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.n++
			s.mu.Unlock()
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "hello")
				b, _ := io.ReadAll(c)
				s.mu.Lock()
				s.got = append(s.got, string(b))
				s.mu.Unlock()
			}()
		}
	}()
	return s
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// resolve makes the names of this process those of a server of the test's: every name has these addresses.
func resolve(t *testing.T, addrs ...string) {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			for _, a := range addrs {
				ip := netip.MustParseAddr(a)
				h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
				switch {
				case ip.Is4() && m.Questions[0].Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
				case ip.Is6() && m.Questions[0].Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
				}
			}
			if b, err := m.Pack(); err == nil {
				_, _ = udp.WriteTo(b, from)
			}
		}
	}()
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", udp.LocalAddr().String())
	}}
	t.Cleanup(func() { udp.Close(); net.DefaultResolver = old })
}

func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	return "127.0.0.1"
}

// TestRebinding: a permitted name's answers lead to no address of the host's, or of its networks.
func TestRebinding(t *testing.T) {
	s := newService(t)
	port := strconv.Itoa(int(s.port))
	name := func(p *Policy) netip.AddrPort { return netip.AddrPortFrom(p.names.addr("www.example"), s.port) }
	for _, addr := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.2.2", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"198.18.0.1", "192.0.0.2", "224.0.0.1", "255.255.255.255", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
		"fe80::1", "fd00::2", "2002:7f00:1::", "ff02::1", ownAddress(t),
	} {
		resolve(t, addr)
		for _, rules := range [][]string{{"www.example:" + port}, {"*:" + port}, {"*:" + port, "*.example:" + port}} {
			p, rec := testPolicy(t, egress.Enforce, rules...)
			if c, err := p.connect(name(p)); !errors.Is(err, errDenied) {
				t.Errorf("%s, %q: %v, %v", addr, rules, c, err)
			}
			ip := netip.MustParseAddr(addr).Unmap()
			if r := rec.last(); r.Verdict != egress.Denied || r.Reason != egress.SpecialAddr || r.Name != "www.example" || r.IP != ip.String() {
				t.Errorf("%s: recorded %+v", addr, r)
			}
			udp, rec := testPolicy(t, egress.Enforce, "www.example:"+port+"/udp", "www.example/icmp")
			for _, icmp := range []bool{false, true} {
				to := name(udp)
				if icmp {
					to = netip.AddrPortFrom(to.Addr(), 0)
				}
				if udp.datagrams(icmp, to) != nil {
					t.Errorf("%s: datagrams pass", addr)
				}
				if r := rec.last(); netip.MustParseAddr(addr).Is4() && (r.Verdict != egress.Denied || r.Reason != egress.SpecialAddr || r.IP != ip.String()) {
					t.Errorf("%s: recorded %+v", addr, r)
				}
			}
		}
	}
	if n := s.count(); n != 0 {
		t.Fatalf("%d connections came", n)
	}
	// With a rule for the address it works: else the test would prove nothing. Among several, the permitted one.
	resolve(t, "::1", "127.0.0.2", "127.0.0.1")
	p, _ := testPolicy(t, egress.Enforce, "www.example:"+port, "127.0.0.1:"+port)
	c, err := p.connect(name(p))
	if err != nil || c.Host.RemoteAddr().String() != "127.0.0.1:"+port {
		t.Fatal(c, err)
	}
	if !c.Allowed() {
		t.Error("not allowed any more")
	}
	must(t, p.Set.Replace())
	if c.Allowed() {
		t.Error("allowed by rules that are gone")
	}
	c.Host.Close()
	// One that is denied as an address stays so.
	p, rec := testPolicy(t, egress.Enforce, "www.example:"+port, "127.0.0.0/8:"+port, "!127.0.0.1")
	resolve(t, "127.0.0.1")
	if _, err := p.connect(name(p)); !errors.Is(err, errDenied) {
		t.Error(err)
	}
	if r := rec.last(); r.Verdict != egress.Denied || r.Rule != "deny 127.0.0.1" || r.Reason != "" {
		t.Errorf("recorded %+v", r)
	}
	// What means something else in the gateway gets no datagrams there, whatever is allowed.
	for _, addr := range []string{"127.0.0.1", "192.0.0.2", "192.0.0.3", "10.0.2.2", "10.0.2.3", "224.0.0.1", "0.0.0.0"} {
		resolve(t, addr)
		p, rec := testPolicy(t, egress.Enforce, "*:*/udp", "0.0.0.0/0:*/udp")
		if p.datagrams(false, name(p)) != nil || rec.last().Verdict != egress.Denied || rec.last().Reason != localAddr {
			t.Errorf("%s: recorded %+v", addr, rec.last())
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNobodysAddresses: some lead nowhere whatever is allowed, in either mode.
func TestNobodysAddresses(t *testing.T) {
	s := newService(t)
	for _, mode := range []egress.Mode{egress.Enforce, egress.Log} {
		p, rec := testPolicy(t, mode, "0.0.0.0/0:*", "0.0.0.0/0:*/udp", "0.0.0.0/0/icmp", "*:*", "*:*/udp", "*/icmp")
		for _, addr := range []string{
			"127.0.0.1", "127.1.2.3", "0.0.0.0", "224.0.0.1", "10.0.2.2", "10.0.2.3", "10.0.2.1", "10.0.2.100", "10.0.2.255",
			"192.0.0.2", "192.0.0.3", "192.0.0.100", "198.18.0.99",
		} {
			if mode == egress.Log && addr == "198.18.0.99" {
				continue
			}
			a := netip.AddrPortFrom(netip.MustParseAddr(addr), s.port)
			if c, err := p.connect(a); !errors.Is(err, errDenied) {
				t.Errorf("%s, TCP to %s: %v, %v", mode, addr, c, err)
			}
			if r := rec.last(); r.Verdict != egress.Denied || r.IP != addr && r.IP != "" {
				t.Errorf("%s: recorded %+v", addr, r)
			}
			if p.datagrams(false, a) != nil || p.datagrams(true, netip.AddrPortFrom(a.Addr(), 0)) != nil {
				t.Errorf("%s, datagrams to %s pass", mode, addr)
			}
		}
	}
	if n := s.count(); n != 0 {
		t.Fatalf("%d connections came", n)
	}
	// With --allow-host-loopback the gateway is the host's 127.0.0.1, for a rule that says so.
	p, _ := testPolicy(t, egress.Enforce, "*:*", "www.example:*")
	p.Loopback = true
	to := netip.AddrPortFrom(subnet.Default().Gateway(), s.port)
	if _, err := p.connect(to); !errors.Is(err, errDenied) {
		t.Error(err)
	}
	p, _ = testPolicy(t, egress.Enforce, "10.0.2.2:*", "10.0.2.2:*/udp")
	p.Loopback = true
	c, err := p.connect(to)
	must(t, err)
	c.Host.Close()
	if f := p.datagrams(false, to); f == nil || f.real != HostNetwork().Gateway() {
		t.Errorf("%+v", f)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := newService(t)
	p, _ := testPolicy(t, egress.Enforce, "127.0.0.0/8:*", "10.0.2.2:*")
	p.Loopback = true
	p.conns.Store(p.most)
	to := netip.AddrPortFrom(subnet.Default().Gateway(), s.port)
	if _, err := p.connect(to); !errors.Is(err, errBusy) {
		t.Fatal(err)
	}
	p.conns.Store(p.most - 1)
	c, err := p.connect(to)
	must(t, err)
	c.Host.Close()
	c.Done(0, 0, nil)
	if n := p.conns.Load(); n != p.most-1 {
		t.Errorf("%d are counted", n)
	}
}

func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	o, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { c.Close(); o.Close() })
	return c.(*net.TCPConn), o.(*net.TCPConn)
}

// joinTo joins the guest's end to a permitted connection to s by the name www.example.
func joinTo(t *testing.T, s *service, change func(*Policy, *Conn)) (r *relay, guest *net.TCPConn, rec *records) {
	t.Helper()
	resolve(t, "127.0.0.1")
	port := strconv.Itoa(int(s.port))
	p, rec := testPolicy(t, egress.Enforce, "www.example:"+port, "127.0.0.1:"+port)
	c, err := p.connect(netip.AddrPortFrom(p.names.addr("www.example"), s.port))
	must(t, err)
	x, _, _, _ := testInspector(t)
	x.decider = connected{c}
	x.connect(synKey, syn.frame())
	guest, inner := tcpPair(t)
	r = newRelay(nil)
	change(p, c)
	r.join(&joint{inner, x.take(synKey)})
	return r, guest, rec
}

// connected is a decider that has a connection.
type connected struct{ c *Conn }

func (d connected) connect(netip.AddrPort) (*Conn, error)      { return d.c, nil }
func (connected) datagrams(bool, netip.AddrPort) *datagramFlow { return nil }

func TestRelay(t *testing.T) {
	s := newService(t)
	r, guest, rec := joinTo(t, s, func(*Policy, *Conn) {})
	_, _ = io.WriteString(guest, "from the guest")
	must(t, guest.CloseWrite())
	if b, err := io.ReadAll(guest); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	r.joined.Wait()
	if x := rec.last(); x.Verdict != egress.Allowed || x.BytesIn != 5 || x.BytesOut != 14 || x.IP != "127.0.0.1" || x.Name != "www.example" {
		t.Errorf("%+v", x)
	}
}

// TestRelayRulesChanged: a rule that goes while the host is connected to, or later, takes the connection with it.
func TestRelayRulesChanged(t *testing.T) {
	s := newService(t)
	r, guest, _ := joinTo(t, s, func(p *Policy, _ *Conn) { must(t, p.Set.Replace()) })
	_, werr := io.WriteString(guest, "too late")
	if b, err := io.ReadAll(guest); len(b) > 0 || errors.Join(werr, err) == nil {
		t.Errorf("after the rule had gone: %q, %v", b, err)
	}
	r.joined.Wait()

	var p *Policy
	r, guest, _ = joinTo(t, s, func(q *Policy, _ *Conn) { p = q })
	if _, err := io.ReadFull(guest, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	must(t, p.Set.Replace())
	r.recheck()
	if b, err := io.ReadAll(guest); len(b) > 0 || err == nil {
		t.Errorf("after recheck: %q, %v", b, err)
	}
	r.joined.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(strings.Join(s.got, ""), "too late") {
		t.Errorf("the host got %q", s.got)
	}
}

// TestRelayCheck: nothing reaches the host before the name is known to be the one that was asked for.
func TestRelayCheck(t *testing.T) {
	s := newService(t)
	for _, name := range []string{"www.example", "evil.example"} {
		r, guest, rec := joinTo(t, s, func(p *Policy, c *Conn) { c.Check = p.passHead(checkFor("www.example", 443)) })
		hello := clientHello(t, name)
		_, _ = guest.Write(hello)
		_ = guest.CloseWrite()
		_, err := io.ReadAll(guest)
		r.joined.Wait()
		x := rec.last()
		if good := name == "www.example"; good != (err == nil) || good != (x.Verdict == egress.Allowed) || !good && x.BytesOut != 0 {
			t.Errorf("%s: %v, %+v", name, err, x)
		}
	}
	waitUntil(t, "both connections have ended", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.got) == 2 })
	s.mu.Lock()
	if got := strings.Join(s.got, ""); strings.Contains(got, "evil") {
		t.Errorf("the host got %q", got)
	}
	s.mu.Unlock()
	// A check that never ends goes with the relay.
	r, guest, _ := joinTo(t, s, func(p *Policy, c *Conn) { c.Check = p.passHead(checkFor("www.example", 443)) })
	_, _ = guest.Write(bytes.Repeat([]byte{22}, 1))
	r.mu.Lock()
	for j := range r.open {
		j.reset()
	}
	r.mu.Unlock()
	r.joined.Wait()
}
