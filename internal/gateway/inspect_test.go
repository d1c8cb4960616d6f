package gateway

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// wire is an end of a wire: what was written to it can be read frame by frame.
type wire chan []byte

func (w wire) Write(b []byte) (int, error) {
	w <- append([]byte(nil), b...)
	return len(b), nil
}

// next returns the next frame that was written.
func (w wire) next(t *testing.T) packet {
	t.Helper()
	select {
	case f := <-w:
		return checkSums(t, f)
	case <-time.After(time.Minute):
		t.Fatal("no frame comes")
	}
	return packet{}
}

func (w wire) empty(t *testing.T) {
	t.Helper()
	if len(w) != 0 {
		t.Errorf("a frame was written: %x", <-w)
	}
}

// fakeDecider decides as the test wants it, and when.
type fakeDecider struct {
	mu     sync.Mutex
	asked  []netip.AddrPort
	refuse bool
	err    error
	real   netip.Addr    // of datagrams; invalid: where they go anyway
	wait   chan struct{} // if not nil, a decision waits for it
	done   atomic.Int32  // connections that have ended
	closed atomic.Int32  // flows that have
	conns  []*Conn
}

func (d *fakeDecider) ask(to netip.AddrPort) {
	d.mu.Lock()
	d.asked = append(d.asked, to)
	d.mu.Unlock()
	if d.wait != nil {
		<-d.wait
	}
}

func (d *fakeDecider) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asked)
}

func (d *fakeDecider) connect(to netip.AddrPort) (*Conn, error) {
	d.ask(to)
	if d.err != nil || d.refuse {
		return nil, or2(d.err, errDenied)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Conn{
		Host: &net.TCPConn{}, Allowed: func() bool { return true },
		Done: func(int64, int64, error) { d.done.Add(1) },
	}
	d.conns = append(d.conns, c)
	return c, nil
}

func or2(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (d *fakeDecider) datagrams(_ bool, to netip.AddrPort) *datagramFlow {
	d.ask(to)
	if d.refuse {
		return nil
	}
	real := d.real
	if !real.IsValid() {
		real = to.Addr()
	}
	return &datagramFlow{real: real, record: func(egress.Record) { d.closed.Add(1) }}
}

func testInspector(testing.TB) (x *inspector, d *fakeDecider, guest, gate wire) {
	d, guest, gate = &fakeDecider{}, make(wire, 64), make(wire, 64)
	return newInspector(subnet.Default(), d, guest, gate), d, guest, gate
}

func waitUntil(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not come true: %s", what)
		}
	}
}

func TestDropped(t *testing.T) {
	udp := build{proto: ipUDP, ports: [2]uint16{1000, 53}, dst: tDNS}
	x, d, guest, gate := testInspector(t)
	if !x.fromGuest(udp.frame()) {
		t.Fatal("a query is dropped: this test would prove nothing")
	}
	vary := func(change func(*build)) []byte { b := udp; change(&b); return b.frame() }
	for name, frame := range map[string][]byte{
		"IPv6":                vary(func(b *build) { b.etype = 0x86dd }),
		"VLAN":                vary(func(b *build) { b.etype = 0x8100 }),
		"provider VLAN":       vary(func(b *build) { b.etype = 0x88a8 }),
		"length of 802.3":     vary(func(b *build) { b.etype = 100 }),
		"MPLS":                vary(func(b *build) { b.etype = 0x8847 }),
		"PPPoE":               vary(func(b *build) { b.etype = 0x8864 }),
		"first fragment":      vary(func(b *build) { b.frag = 0x2000 }),
		"second fragment":     vary(func(b *build) { b.frag = 1 }),
		"nothing":             {},
		"13 bytes":            udp.frame()[:13],
		"header alone":        udp.frame()[:etherLen],
		"short IP":            udp.frame()[:etherLen+19],
		"UDP of 7 bytes":      vary(func(b *build) { b.edit = shorten(7) }),
		"source elsewhere":    vary(func(b *build) { b.src = "198.51.100.7" }),
		"source loopback":     vary(func(b *build) { b.src = "127.0.0.1" }),
		"source 0":            vary(func(b *build) { b.src = "0.0.0.0" }),
		"source the gateway":  vary(func(b *build) { b.src = tGateway }),
		"source the DNS":      vary(func(b *build) { b.src = tDNS }),
		"TCP of 19 bytes":     build{proto: ipTCP, dst: tDNS, ports: [2]uint16{1, 53}, edit: shorten(19)}.frame(),
		"ICMP of 7 bytes":     build{proto: ipICMP, edit: shorten(7)}.frame(),
		"echo reply":          build{proto: ipICMP, edit: icmpType(0)}.frame(),
		"destination unreach": build{proto: ipICMP, edit: icmpType(3)}.frame(),
		"redirect":            build{proto: ipICMP, edit: icmpType(5)}.frame(),
		"router advert":       build{proto: ipICMP, edit: icmpType(9)}.frame(),
		"timestamp":           build{proto: ipICMP, edit: icmpType(13)}.frame(),
		"IGMP":                build{proto: 2}.frame(),
		"IP in IP":            build{proto: 4}.frame(),
		"IPv6 in IP":          build{proto: 41}.frame(),
		"GRE":                 build{proto: 47}.frame(),
		"ESP":                 build{proto: 50}.frame(),
		"SCTP":                build{proto: 132}.frame(),
		"UDP-Lite":            build{proto: 136}.frame(),
		"raw":                 build{proto: 255}.frame(),
	} {
		if x.fromGuest(frame) {
			t.Errorf("%s passes", name)
		}
	}
	if n := d.count(); n != 0 {
		t.Errorf("%d decisions were asked for", n)
	}
	guest.empty(t)
	gate.empty(t)
}

// shorten cuts what the IP header says off after n bytes of body.
func shorten(n int) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[etherLen+2:], uint16(ip4Min+n))
		return b
	}
}

func icmpType(typ byte) func([]byte) []byte {
	return func(b []byte) []byte { b[etherLen+ip4Min] = typ; return b }
}

var (
	syn    = build{proto: ipTCP, ports: [2]uint16{1000, 443}, flags: tcpSYN}
	synKey = flowKey{ipTCP, netip.MustParseAddrPort(tGuest + ":1000"), netip.MustParseAddrPort(tHost + ":443")}
)

func TestSYNWaits(t *testing.T) {
	x, d, guest, gate := testInspector(t)
	d.wait = make(chan struct{})
	for range 3 { // its retransmissions too
		if x.fromGuest(syn.frame()) {
			t.Fatal("the SYN passes at once")
		}
	}
	waitUntil(t, "it is asked for", func() bool { return d.count() == 1 })
	gate.empty(t)
	close(d.wait)
	if p := gate.next(t); p.body[13] != tcpSYN {
		t.Errorf("%x", p.frame)
	}
	if !x.fromGuest(syn.frame()) {
		t.Error("a retransmission is dropped, though the host is connected to")
	}
	if d.count() != 1 {
		t.Errorf("asked %d times", d.count())
	}
	if x.take(flowKey{ipTCP, synKey.from, netip.MustParseAddrPort(tHost + ":80")}) != nil {
		t.Error("another port of the host's was announced")
	}
	if x.take(synKey) == nil || x.take(synKey) != nil {
		t.Error("the connection is not there exactly once")
	}
	guest.empty(t)
	gate.empty(t)
}

func TestSYNRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		icmp int // its code; -1: a reset
	}{
		{errDenied, -1},
		{syscall.ECONNREFUSED, -1},
		{syscall.ENETUNREACH, icmpNet},
		{syscall.EHOSTUNREACH, icmpHost},
		{syscall.ETIMEDOUT, icmpHost},
		{&net.DNSError{IsNotFound: true}, -1},
	} {
		x, d, guest, gate := testInspector(t)
		d.err = c.err
		x.fromGuest(syn.frame())
		p := guest.next(t)
		if c.icmp < 0 && (p.proto != ipTCP || p.body[13] != tcpRST|tcpACK) || c.icmp >= 0 && (p.proto != ipICMP || p.body[0] != 3 || int(p.body[1]) != c.icmp) {
			t.Errorf("%v: %x", c.err, p.frame)
		}
		gate.empty(t)
		if x.take(synKey) != nil {
			t.Errorf("%v: announced", c.err)
		}
	}
	// What can't be had just now is tried again: nothing is said.
	x, d, guest, gate := testInspector(t)
	d.err = errBusy
	x.fromGuest(syn.frame())
	waitUntil(t, "the dial has ended", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.dialing) == 0 })
	guest.empty(t)
	gate.empty(t)
}

// Segments that begin no connection pass, to the gateway's kernel and no further.
func TestSegments(t *testing.T) {
	x, d, _, _ := testInspector(t)
	for flags, want := range map[uint8]bool{
		tcpSYN: false, tcpSYN | tcpFIN: false, tcpSYN | 8: false,
		tcpACK: true, tcpRST: true, tcpFIN: true, 0: true, tcpSYN | tcpACK: true, tcpSYN | tcpRST: true,
	} {
		b := syn
		b.flags, b.ports[0] = flags, uint16(flags)+1
		if x.fromGuest(b.frame()) != want {
			t.Errorf("flags %#x: %v", flags, !want)
		}
	}
	waitUntil(t, "three are asked for", func() bool { return d.count() == 3 })
	dns := build{proto: ipTCP, dst: tDNS, ports: [2]uint16{5, 53}, flags: tcpSYN}
	if !x.fromGuest(dns.frame()) || d.count() != 3 {
		t.Error("DNS over TCP waits")
	}
}

func TestDialsAreBounded(t *testing.T) {
	x, d, _, _ := testInspector(t)
	d.wait, d.refuse, d.err = make(chan struct{}), true, errBusy
	for i := range mostDials + 100 {
		b := syn
		b.ports[0] = uint16(i + 1)
		if x.fromGuest(b.frame()) {
			t.Fatal("it passes")
		}
	}
	x.mu.Lock()
	n := len(x.dialing)
	x.mu.Unlock()
	if n != mostDials {
		t.Errorf("%d dials", n)
	}
	close(d.wait)
	waitUntil(t, "all have ended", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.dialing) == 0 })
	if d.count() != mostDials {
		t.Errorf("%d were asked for", d.count())
	}
}

// What is connected when the inspector closes, or later, is let go.
func TestConnectedAfterClose(t *testing.T) {
	x, d, _, gate := testInspector(t)
	x.fromGuest(syn.frame())
	gate.next(t)
	d.wait = make(chan struct{})
	late := syn
	late.ports[0] = 2000
	x.fromGuest(late.frame())
	waitUntil(t, "the second is asked for", func() bool { return d.count() == 2 })
	x.close()
	if d.done.Load() != 1 {
		t.Error("the first is kept")
	}
	close(d.wait)
	waitUntil(t, "the second is let go", func() bool { return d.done.Load() == 2 })
	if x.fromGuest(syn.frame()) || d.count() != 2 {
		t.Error("a SYN is heeded after the end")
	}
	gate.empty(t)
}
