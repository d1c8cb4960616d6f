package gateway

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var datagram = build{proto: ipUDP, ports: [2]uint16{1000, 443}, data: "hello"}

func (x *inspector) counts() (flows, back int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.flows), len(x.back)
}

// settled reports whether all that was asked is decided.
func (x *inspector) settled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, d := range x.flows {
		if !d.decided {
			return false
		}
	}
	return len(x.dialing) == 0
}

func TestDatagramsWait(t *testing.T) {
	x, d, guest, gate := testInspector(t)
	d.wait = make(chan struct{})
	for range mostWaiting + 5 {
		if x.fromGuest(datagram.frame()) {
			t.Fatal("it passes undecided")
		}
	}
	gate.empty(t)
	close(d.wait)
	for range mostWaiting {
		gate.next(t)
	}
	if !x.fromGuest(datagram.frame()) {
		t.Error("it is dropped though allowed")
	}
	gate.empty(t)
	guest.empty(t)
	if d.count() != 1 {
		t.Errorf("asked %d times", d.count())
	}
	for range 2 {
		reply := build{proto: ipUDP, src: tHost, dst: tGuest, ports: [2]uint16{443, 1000}, data: "hi"}
		if !x.toGuest(reply.frame()) {
			t.Error("the answer is dropped")
		}
	}
	flow := x.flows[flowKey{ipUDP, netip.MustParseAddrPort(tGuest + ":1000"), netip.MustParseAddrPort(tHost + ":443")}].flow
	if in, out := flow.in.Load(), flow.out.Load(); in != 4 || out != 5*(mostWaiting+1) {
		t.Errorf("counted %d in, %d out", in, out)
	}
}

func TestDatagramsDenied(t *testing.T) {
	for _, b := range []build{datagram, {proto: ipICMP, ports: [2]uint16{7}, data: "ping"}} {
		x, d, guest, gate := testInspector(t)
		d.refuse = true
		x.fromGuest(b.frame())
		for range 2 {
			if p := guest.next(t); p.proto != ipICMP || p.body[0] != 3 || p.body[1] != icmpProhibited || p.src().String() != tHost {
				t.Errorf("%x", p.frame)
			}
			if x.fromGuest(b.frame()) {
				t.Error("it passes")
			}
		}
		gate.empty(t)
		if d.count() != 1 {
			t.Errorf("asked %d times", d.count())
		}
	}
	// Nobody answers to a group.
	for _, dst := range []string{"224.0.0.251", "255.255.255.255"} {
		x, d, guest, gate := testInspector(t)
		d.refuse = true
		b := datagram
		b.dst = dst
		x.fromGuest(b.frame())
		waitUntil(t, "it is decided", x.settled)
		if x.fromGuest(b.frame()) {
			t.Error("it passes")
		}
		guest.empty(t)
		gate.empty(t)
	}
}

// Where an address stands for a name, the guest sees that address alone.
func TestDatagramsRewritten(t *testing.T) {
	for _, b := range []build{
		{proto: ipUDP, dst: "198.18.0.1", ports: [2]uint16{1000, 443}, data: "hello"},
		{proto: ipICMP, dst: "198.18.0.1", ports: [2]uint16{77}, data: "ping!"},
	} {
		x, d, _, gate := testInspector(t)
		d.real = netip.MustParseAddr("203.0.113.5")
		x.fromGuest(b.frame())
		if p := gate.next(t); p.dst() != d.real || p.src().String() != tGuest {
			t.Errorf("goes from %s to %s", p.src(), p.dst())
		}
		frame := b.frame()
		if !x.fromGuest(frame) {
			t.Fatal("the second is dropped")
		}
		if p := checkSums(t, frame); p.dst() != d.real {
			t.Errorf("the second goes to %s", p.dst())
		}
		r := build{proto: b.proto, src: "203.0.113.5", dst: tGuest, ports: [2]uint16{443, 1000}, data: "answer"}
		if b.proto == ipICMP {
			r.ports, r.edit = b.ports, func(f []byte) []byte { f[etherLen+ip4Min] = icmpEchoReply; f[etherLen+ip4Min+2] += icmpEcho; return f }
		}
		back := r.frame()
		if !x.toGuest(back) {
			t.Fatal("the answer is dropped")
		}
		if p := checkSums(t, back); p.src().String() != "198.18.0.1" || p.dst().String() != tGuest {
			t.Errorf("comes from %s to %s", p.src(), p.dst())
		}
		// Others' are left alone.
		r.src = "203.0.113.6"
		other := r.frame()
		x.toGuest(other)
		if p := checkSums(t, other); p.src().String() != "203.0.113.6" {
			t.Errorf("another's comes from %s", p.src())
		}
	}
}

// TestICMPErrors: an error has the addresses that the guest knows, in what it quotes too. One about no flow is dropped.
func TestICMPErrors(t *testing.T) {
	const real, fake = "203.0.113.5", "198.18.0.1"
	for _, b := range []build{
		{proto: ipUDP, dst: fake, ports: [2]uint16{1000, 443}, data: "hello"},
		{proto: ipICMP, dst: fake, ports: [2]uint16{77}, data: "ping!"},
	} {
		x, d, _, gate := testInspector(t)
		d.real = netip.MustParseAddr(real)
		x.fromGuest(b.frame())
		sent := gate.next(t)
		for from, seen := range map[string]string{real: fake, "192.0.0.2": tGateway, "203.0.113.6": tGateway} {
			message := sent.unreachable(icmpHost)
			p, _ := parseIP4(message)
			p.rewrite(false, netip.MustParseAddr(from))
			for name, edit := range map[string]func(m []byte){
				"redirect":     func(m []byte) { m[etherLen+ip4Min] = 5 },
				"another port": func(m []byte) { m[etherLen+ip4Min+icmpLen+ip4Min+1]++; m[etherLen+ip4Min+icmpLen+ip4Min+5]++ },
				"another host": func(m []byte) { m[etherLen+ip4Min+icmpLen+19]++ },
				"TCP":          func(m []byte) { m[etherLen+ip4Min+icmpLen+9] = ipTCP },
				"IPv6":         func(m []byte) { m[etherLen+ip4Min+icmpLen] = 0x65 },
				"no header":    func(m []byte) { m[etherLen+ip4Min+icmpLen] = 0x44 },
				"cut":          func(m []byte) { m[etherLen+3]-- },
			} {
				bad := bytes.Clone(message)
				edit(bad)
				if x.toGuest(bad) {
					t.Errorf("%s passes", name)
				}
			}
			if !x.toGuest(message) {
				t.Fatalf("from %s: it is dropped", from)
			}
			p = checkSums(t, message)
			q, ok := p.quoted()
			if !ok || p.src().String() != seen || p.dst().String() != tGuest || bytes.Contains(message, d.real.AsSlice()) {
				t.Errorf("from %s: %x", from, message)
			}
			// Quoted is what the guest has sent.
			was, _ := parseIP4(b.frame())
			if !bytes.Equal(q.ip, was.ip) || !bytes.Equal(q.body, was.body[:8]) {
				t.Errorf("quoted %x %x, was %x %x", q.ip, q.body, was.ip, was.body)
			}
		}
	}
}

// Two names of one address: the end of one flow leaves the other its answers.
func TestDatagramsOfTwoNames(t *testing.T) {
	x, d, _, gate := testInspector(t)
	d.real = netip.MustParseAddr("203.0.113.5")
	for _, dst := range []string{"198.18.0.1", "198.18.0.2"} {
		b := datagram
		b.dst = dst
		x.fromGuest(b.frame())
		gate.next(t)
	}
	x.mu.Lock()
	first := flowKey{ipUDP, netip.MustParseAddrPort(tGuest + ":1000"), netip.MustParseAddrPort("198.18.0.1:443")}
	x.end(x.flows[first])
	x.mu.Unlock()
	back := build{proto: ipUDP, src: "203.0.113.5", dst: tGuest, ports: [2]uint16{443, 1000}}.frame()
	x.toGuest(back)
	if p := checkSums(t, back); p.src().String() != "198.18.0.2" {
		t.Errorf("comes from %s", p.src())
	}
	x.close()
	if flows, back := x.counts(); flows+back != 0 {
		t.Errorf("left: %d, %d", flows, back)
	}
}

func TestForgetDecidesAnew(t *testing.T) {
	x, d, guest, gate := testInspector(t)
	x.fromGuest(datagram.frame())
	gate.next(t)
	d.refuse = true
	x.forget()
	if d.closed.Load() != 1 {
		t.Error("the flow has no record")
	}
	if x.fromGuest(datagram.frame()) {
		t.Fatal("it passes by the old decision")
	}
	guest.next(t)
	// One whose decision was under way is forgotten too.
	x, d, guest, gate = testInspector(t)
	d.wait = make(chan struct{})
	x.fromGuest(datagram.frame())
	waitUntil(t, "it is asked for", func() bool { return d.count() == 1 })
	x.forget()
	close(d.wait)
	waitUntil(t, "what was decided is dropped", func() bool { return d.closed.Load() == 1 })
	gate.empty(t)
	guest.empty(t)
	if flows, back := x.counts(); flows+back != 0 {
		t.Errorf("left: %d, %d", flows, back)
	}
}

func TestFlowsAreBounded(t *testing.T) {
	x, d, _, _ := testInspector(t)
	send := func(i int) {
		b := datagram
		b.dst, b.ports[0] = fmt.Sprintf("192.0.2.%d", i%250), uint16(i)
		x.fromGuest(b.frame())
		if i%mostAsked == 0 {
			waitUntil(t, "all are decided", x.settled)
		}
	}
	x.guest, d.refuse = discard{}, true
	for i := range mostFlows + 100 {
		send(i)
	}
	if flows, _ := x.counts(); flows != mostFlows {
		t.Fatalf("%d flows", flows)
	}
	waitUntil(t, "all are decided", x.settled)
	// Idle ones make room.
	x.mu.Lock()
	for _, f := range x.flows {
		f.last = time.Now().Add(-2 * flowIdle)
	}
	x.swept = time.Time{}
	x.mu.Unlock()
	send(mostFlows + 1)
	if flows, _ := x.counts(); flows != 1 {
		t.Errorf("%d flows are left", flows)
	}
	waitUntil(t, "it is decided", x.settled)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
