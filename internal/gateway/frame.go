package gateway

import (
	"encoding/binary"
	"net/netip"
)

// Lengths of headers, bytes.
const (
	etherLen  = 14
	ip4Min    = 20
	tcpMin    = 20
	udpLen    = 8
	icmpLen   = 8
	frameMost = etherLen + 65535
)

// What a frame carries (Ethernet types and IP protocols).
const (
	etherIP4 = 0x0800
	etherARP = 0x0806

	ipICMP = 1
	ipTCP  = 6
	ipUDP  = 17
)

// TCP flags.
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// packet is an IPv4 packet within a frame, whose headers were checked: every slice of it is as
// long as its headers say.
type packet struct {
	frame    []byte // whole
	ip       []byte // the IP header with its options
	body     []byte // what the IP header says follows
	proto    uint8
	fragment bool // one of several, the first too
}

func isARP(frame []byte) bool { return isEther(frame, etherARP) }

// isEther reports whether a frame is complete enough to be of a type, and is of it.
func isEther(frame []byte, typ uint16) bool {
	return len(frame) >= etherLen && binary.BigEndian.Uint16(frame[12:]) == typ
}

// parseIP4 reads a frame with an IPv4 packet. It is false for other frames, and where the headers contradict the length.
func parseIP4(frame []byte) (p packet, ok bool) {
	if !isEther(frame, etherIP4) {
		return p, false
	}
	b := frame[etherLen:]
	if len(b) < ip4Min || b[0]>>4 != 4 {
		return p, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ip4Min || total < header || total > len(b) {
		return p, false
	}
	p = packet{frame: frame, ip: b[:header], body: b[header:total], proto: b[9]}
	p.fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0
	return p, true
}

func (p *packet) src() netip.Addr { return netip.AddrFrom4([4]byte(p.ip[12:16])) }
func (p *packet) dst() netip.Addr { return netip.AddrFrom4([4]byte(p.ip[16:20])) }

// ports returns the ports of TCP and UDP; the body must have four bytes.
func (p *packet) ports() (src, dst uint16) {
	return binary.BigEndian.Uint16(p.body), binary.BigEndian.Uint16(p.body[2:])
}

// sum adds up 16-bit words (RFC 1071).
func sum(b []byte, s uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// setIP4Sum writes the checksum of an IPv4 header.
func setIP4Sum(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], fold(sum(ip, 0)))
}

// setBodySum writes the checksum at offset at of a TCP or UDP body, with the pseudo header.
func setBodySum(ip, body []byte, proto uint8, at int) {
	body[at], body[at+1] = 0, 0
	s := sum(ip[12:20], uint32(proto)+uint32(len(body)))
	v := fold(sum(body, s))
	if v == 0 && proto == ipUDP {
		v = 0xffff
	}
	binary.BigEndian.PutUint16(body[at:], v)
}

// rewrite exchanges the destination (dst true) or source address of a TCP or UDP packet in place and
// mends the checksums (RFC 1624).
func (p *packet) rewrite(dst bool, to netip.Addr) {
	at := 12
	if dst {
		at = 16
	}
	a := to.As4()
	old := [4]byte(p.ip[at : at+4])
	copy(p.ip[at:], a[:])
	setIP4Sum(p.ip)
	sumAt := -1
	switch {
	case p.proto == ipTCP && len(p.body) >= tcpMin:
		sumAt = 16
	case p.proto == ipUDP && len(p.body) >= udpLen && (p.body[6] != 0 || p.body[7] != 0):
		sumAt = 6
	}
	if sumAt < 0 {
		return
	}
	s := uint32(^binary.BigEndian.Uint16(p.body[sumAt:]))
	for i := 0; i < 4; i += 2 {
		s += uint32(^binary.BigEndian.Uint16(old[i:])) & 0xffff
		s += uint32(binary.BigEndian.Uint16(a[i:]))
	}
	v := fold(s)
	if v == 0 && p.proto == ipUDP {
		v = 0xffff
	}
	binary.BigEndian.PutUint16(p.body[sumAt:], v)
}

// answer lays out a frame that goes back to where p came from, with room for size bytes of body.
func (p *packet) answer(proto uint8, size int) (frame, ip, body []byte) {
	frame = make([]byte, etherLen+ip4Min+size)
	copy(frame[0:6], p.frame[6:12])
	copy(frame[6:12], p.frame[0:6])
	binary.BigEndian.PutUint16(frame[12:], etherIP4)
	ip, body = frame[etherLen:etherLen+ip4Min], frame[etherLen+ip4Min:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(ip4Min+size))
	copy(ip[12:16], p.ip[16:20])
	copy(ip[16:20], p.ip[12:16])
	setIP4Sum(ip)
	return frame, ip, body
}

// reset is the answer to a TCP segment that no connection takes (RFC 9293, 3.5.2).
func (p *packet) reset() []byte {
	seg := p.body
	frame, ip, body := p.answer(ipTCP, tcpMin)
	copy(body[0:2], seg[2:4])
	copy(body[2:4], seg[0:2])
	flags := seg[13]
	body[12], body[13] = tcpMin/4<<4, tcpRST
	if flags&tcpACK != 0 {
		copy(body[4:8], seg[8:12])
	} else {
		n := uint32(len(seg) - min(len(seg), int(seg[12]>>4)*4))
		if flags&tcpSYN != 0 {
			n++
		}
		if flags&tcpFIN != 0 {
			n++
		}
		binary.BigEndian.PutUint32(body[8:], binary.BigEndian.Uint32(seg[4:])+n)
		body[13] |= tcpACK
	}
	setBodySum(ip, body, ipTCP, 16)
	return frame
}

// Codes of an ICMP destination unreachable (RFC 792, RFC 1812).
const (
	icmpNet        = 0
	icmpHost       = 1
	icmpProhibited = 13 // communication administratively prohibited
)

// unreachable is the ICMP message that says so, with the beginning of the packet in it.
func (p *packet) unreachable(code uint8) []byte {
	quoted := append(append([]byte(nil), p.ip...), p.body[:min(len(p.body), 8)]...)
	frame, _, body := p.answer(ipICMP, icmpLen+len(quoted))
	body[0], body[1] = 3, code
	copy(body[icmpLen:], quoted)
	setICMPSum(body)
	return frame
}

// quoted returns the packet that an ICMP error is about, of whose body at least 8 bytes are there (RFC 792). It is false
// for other messages.
func (p *packet) quoted() (q packet, ok bool) {
	const unreachable, exceeded, badHeader = 3, 11, 12
	if len(p.body) < icmpLen+ip4Min || p.body[0] != unreachable && p.body[0] != exceeded && p.body[0] != badHeader {
		return q, false
	}
	b := p.body[icmpLen:]
	header := int(b[0]&15) * 4
	if b[0]>>4 != 4 || header < ip4Min || len(b) < header+8 {
		return q, false
	}
	return packet{ip: b[:header], body: b[header:], proto: b[9]}, true
}

func setICMPSum(body []byte) {
	body[2], body[3] = 0, 0
	binary.BigEndian.PutUint16(body[2:], fold(sum(body, 0)))
}
