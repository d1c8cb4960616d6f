package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

// flowKey names a flow by the guest's end and the other as the guest sees it.
type flowKey struct {
	proto    uint8
	from, to netip.AddrPort
}

// back is the key of what comes back for a flow to real.
func (k flowKey) back(real netip.Addr) flowKey {
	return flowKey{k.proto, netip.AddrPortFrom(real, k.to.Port()), k.from}
}

// decider is asked about flows that leave. Its methods may block, and are called on goroutines of their own.
type decider interface {
	// connect decides about a TCP connection and, if it is allowed, connects to the host. The error
	// says how the guest is told.
	connect(to netip.AddrPort) (*Conn, error)
	// datagrams decides about a flow of UDP or, with a port of 0, of ICMP echo requests; nil: denied.
	datagrams(icmp bool, to netip.AddrPort) *datagramFlow
}

// datagrams is the state of a flow of UDP or ICMP.
type datagrams struct {
	key     flowKey
	flow    *datagramFlow // nil: denied, or not decided yet
	decided bool
	waiting [][]byte // frames, until it is
	last    time.Time
}

// Bounds of the inspector's tables.
const (
	mostDials   = 1024             // connections that are being made at once; a SYN beyond waits for its retransmission
	mostAsked   = 256              // flows of datagrams that are being decided about at once
	mostFlows   = 8192             // flows of datagrams
	mostWaiting = 8                // frames of a flow that is not decided yet
	mostHeld    = 4 << 20          // bytes of frames that wait for a decision
	flowIdle    = 60 * time.Second // how long a flow of datagrams lives without one
)

// inspector looks at the frames from the guest, and at those to it.
type inspector struct {
	net         netip.Prefix // the guest's
	gateway     netip.Addr
	dns         netip.Addr // its port 53 is the gateway's own
	guest, gate io.Writer
	decider     decider

	mu      sync.Mutex
	dialing map[flowKey]bool
	ready   map[flowKey]*Conn // connected, not yet accepted
	flows   map[flowKey]*datagrams
	back    map[flowKey]*datagrams // by what comes back
	held    int                    // bytes of the frames that wait
	asked   int                    // flows of datagrams that are being decided about
	swept   time.Time
	closed  bool
}

func newInspector(n subnet.Network, d decider, guest, gate io.Writer) *inspector {
	return &inspector{
		net: n.CIDR(), gateway: n.Gateway(), dns: n.DNS(), guest: guest, gate: gate, decider: d,
		dialing: map[flowKey]bool{}, ready: map[flowKey]*Conn{},
		flows: map[flowKey]*datagrams{}, back: map[flowKey]*datagrams{},
	}
}

// write sends a frame of the inspector's own; as on a wire, it may be lost.
func (x *inspector) write(to io.Writer, frame []byte) { _, _ = to.Write(frame) }

// close ends what the tables hold.
func (x *inspector) close() {
	x.mu.Lock()
	x.closed = true
	ready := x.ready
	x.ready = map[flowKey]*Conn{}
	x.mu.Unlock()
	for _, c := range ready {
		c.abandon()
	}
	x.forget()
}

// fromGuest reports whether a frame of the guest's goes on to the gateway.
func (x *inspector) fromGuest(frame []byte) bool {
	if isARP(frame) {
		return true
	}
	p, ok := parseIP4(frame)
	if !ok || p.fragment || !x.net.Contains(p.src()) || p.src() == x.gateway || p.src() == x.dns {
		return false
	}
	switch p.proto {
	case ipTCP:
		return x.tcp(&p)
	case ipUDP:
		return x.udp(&p)
	case ipICMP:
		return x.icmp(&p)
	}
	return false
}

func (x *inspector) tcp(p *packet) bool {
	if len(p.body) < tcpMin {
		return false
	}
	if p.body[13]&(tcpSYN|tcpACK|tcpRST) != tcpSYN {
		return true
	}
	sport, dport := p.ports()
	key := flowKey{ipTCP, netip.AddrPortFrom(p.src(), sport), netip.AddrPortFrom(p.dst(), dport)}
	if key.to == netip.AddrPortFrom(x.dns, 53) {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ready[key] != nil {
		return true // its SYN again
	}
	if x.closed || x.dialing[key] || len(x.dialing) >= mostDials {
		return false
	}
	if syn := x.hold(p); syn != nil {
		x.dialing[key] = true
		go x.connect(key, syn)
	}
	return false
}

// hold returns a copy of a frame that is to wait, or nil: as on a wire, it is lost. The caller holds x.mu.
func (x *inspector) hold(p *packet) []byte {
	if x.held+len(p.frame) > mostHeld {
		return nil
	}
	x.held += len(p.frame)
	return append([]byte(nil), p.frame...)
}

// connect has the host connected to, and lets the guest's SYN go on.
func (x *inspector) connect(key flowKey, syn []byte) {
	c, err := x.decider.connect(key.to)
	x.mu.Lock()
	delete(x.dialing, key)
	x.held -= len(syn)
	closed := x.closed
	if err == nil {
		c.expire = time.AfterFunc(connectWait, func() { x.take(key).abandon() })
		if !closed {
			x.ready[key] = c
		}
	}
	x.mu.Unlock()
	switch p, _ := parseIP4(syn); {
	case err == nil && closed:
		c.abandon()
	case err == nil:
		x.write(x.gate, syn)
	case errors.Is(err, errBusy): // its retransmission comes
	default:
		if code, refused := unreachable(err); !refused {
			x.write(x.guest, p.unreachable(code))
			return
		}
		x.write(x.guest, p.reset())
	}
}

// take returns the connection that was announced for an accepted one, or nil.
func (x *inspector) take(key flowKey) *Conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.ready[key]
	delete(x.ready, key)
	return c
}

func (x *inspector) udp(p *packet) bool {
	if len(p.body) < udpLen {
		return false
	}
	sport, dport := p.ports()
	to := netip.AddrPortFrom(p.dst(), dport)
	if to == netip.AddrPortFrom(x.dns, 53) {
		return true
	}
	return x.datagram(p, flowKey{ipUDP, netip.AddrPortFrom(p.src(), sport), to})
}

const icmpEcho, icmpEchoReply = 8, 0

func (x *inspector) icmp(p *packet) bool {
	if len(p.body) < icmpLen || p.body[0] != icmpEcho {
		return false // errors and replies: nothing reaches the guest that they could answer
	}
	id := binary.BigEndian.Uint16(p.body[4:])
	return x.datagram(p, flowKey{ipICMP, netip.AddrPortFrom(p.src(), id), netip.AddrPortFrom(p.dst(), 0)})
}

// datagram decides about a flow when its first datagram comes, beside the pump.
func (x *inspector) datagram(p *packet, key flowKey) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.flows[key]
	if d == nil {
		x.sweep()
		if x.closed || len(x.flows) >= mostFlows || x.asked >= mostAsked {
			return false
		}
		d = &datagrams{key: key}
		x.flows[key] = d
		x.asked++
		go x.decide(d)
	}
	d.last = time.Now()
	if !d.decided {
		if len(d.waiting) < mostWaiting {
			if frame := x.hold(p); frame != nil {
				d.waiting = append(d.waiting, frame)
			}
		}
		return false
	}
	return x.pass(p, d)
}

// decide asks for a flow, and lets what has waited go on.
func (x *inspector) decide(d *datagrams) {
	flow := x.decider.datagrams(d.key.proto == ipICMP, d.key.to)
	x.mu.Lock()
	d.decided, d.flow = true, flow
	x.asked--
	waiting := d.waiting
	d.waiting = nil
	for _, frame := range waiting {
		x.held -= len(frame)
	}
	if x.flows[d.key] != d { // forgotten meanwhile
		x.mu.Unlock()
		if flow != nil {
			flow.close()
		}
		return
	}
	if flow != nil {
		x.back[d.key.back(flow.real)] = d
	}
	var on [][]byte
	for _, frame := range waiting {
		if p, ok := parseIP4(frame); ok && x.pass(&p, d) {
			on = append(on, frame)
		}
	}
	x.mu.Unlock()
	for _, frame := range on {
		x.write(x.gate, frame)
	}
}

// pass reports whether a datagram goes on, with the address that it goes to. The caller holds x.mu.
func (x *inspector) pass(p *packet, d *datagrams) bool {
	to := d.key.to.Addr()
	if d.flow == nil {
		if !to.IsMulticast() && to != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			x.write(x.guest, p.unreachable(icmpProhibited))
		}
		return false
	}
	d.flow.out.Add(int64(len(p.body) - headerLen(d.key.proto)))
	if d.flow.real != to {
		p.rewrite(true, d.flow.real)
	}
	return true
}

func headerLen(proto uint8) int {
	if proto == ipUDP {
		return udpLen
	}
	return icmpLen
}

// sweep ends flows that are idle. The caller holds x.mu.
func (x *inspector) sweep() {
	now := time.Now()
	if now.Sub(x.swept) < time.Second {
		return
	}
	x.swept = now
	for _, d := range x.flows {
		if now.Sub(d.last) > flowIdle {
			x.end(d)
		}
	}
}

// end forgets a flow. The caller holds x.mu.
func (x *inspector) end(d *datagrams) {
	delete(x.flows, d.key)
	if d.flow == nil {
		return
	}
	// Two names may lead to one address: what comes back is the later flow's.
	if back := d.key.back(d.flow.real); x.back[back] == d {
		delete(x.back, back)
	}
	d.flow.close()
}

// forget has every flow of datagrams decided anew.
func (x *inspector) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, d := range x.flows {
		x.end(d)
	}
}

// toGuest looks at a frame that the gateway sends to the guest: it counts what a flow of datagrams gets
// back, and gives it the address that the guest knows. ICMP errors pass if they are about such a flow.
func (x *inspector) toGuest(frame []byte) bool {
	if isARP(frame) {
		return true
	}
	p, ok := parseIP4(frame)
	if !ok || p.fragment {
		return ok // the gateway's own IPv6 is dropped
	}
	var key flowKey
	switch {
	case p.proto == ipUDP && len(p.body) >= udpLen:
		sport, dport := p.ports()
		key = flowKey{ipUDP, netip.AddrPortFrom(p.src(), sport), netip.AddrPortFrom(p.dst(), dport)}
	case p.proto == ipICMP && len(p.body) >= icmpLen && p.body[0] == icmpEchoReply:
		key = flowKey{ipICMP, netip.AddrPortFrom(p.src(), 0), netip.AddrPortFrom(p.dst(), binary.BigEndian.Uint16(p.body[4:]))}
	case p.proto == ipICMP:
		return x.icmpError(&p)
	default:
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.back[key]
	if d == nil {
		return true
	}
	d.last = time.Now()
	d.flow.in.Add(int64(len(p.body) - headerLen(p.proto)))
	if seen := d.key.to.Addr(); seen != p.src() {
		p.rewrite(false, seen)
	}
	return true
}

// icmpError rewrites an ICMP error about a flow of datagrams, and the packet that it quotes, to the addresses that the
// guest knows. It reports whether the error goes on.
func (x *inspector) icmpError(p *packet) bool {
	q, ok := p.quoted()
	if !ok {
		return false
	}
	key := flowKey{proto: q.proto}
	switch sport, dport := q.ports(); {
	case q.proto == ipUDP:
		key.from, key.to = netip.AddrPortFrom(q.dst(), dport), netip.AddrPortFrom(q.src(), sport)
	case q.proto == ipICMP && q.body[0] == icmpEcho:
		key.from, key.to = netip.AddrPortFrom(q.dst(), 0), netip.AddrPortFrom(q.src(), binary.BigEndian.Uint16(q.body[4:]))
	default:
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.back[key]
	if d == nil {
		return false
	}
	seen := d.key.to.Addr()
	from := x.gateway // the guest knows no other router
	if p.src() == q.dst() {
		from = seen
	}
	q.rewrite(true, seen)
	p.rewrite(false, from)
	setICMPSum(p.body)
	return true
}
