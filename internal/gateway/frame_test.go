package gateway

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// build describes a frame of the guest's as it should be; its fields break it.
type build struct {
	src, dst string
	proto    uint8
	ports    [2]uint16
	flags    uint8 // of TCP
	data     string
	options  []byte // of IPv4
	etype    uint16 // 0: IPv4
	frag     uint16 // flags and offset
	edit     func(frame []byte) []byte
}

const (
	tGuest   = "10.0.2.100"
	tGateway = "10.0.2.2"
	tDNS     = "10.0.2.3"
	tHost    = "192.0.2.1"
)

func (b build) frame() []byte {
	src, dst := netip.MustParseAddr(or(b.src, tGuest)).As4(), netip.MustParseAddr(or(b.dst, tHost)).As4()
	var body []byte
	sumAt := -1
	switch b.proto {
	case ipTCP:
		body = make([]byte, tcpMin)
		copy(body[4:], "\x00\x00\x10\x00\x00\x00\x20\x00") // sequence and acknowledgement
		body[12], body[13], sumAt = 5<<4, b.flags, 16
	case ipUDP:
		body, sumAt = make([]byte, udpLen), 6
	case ipICMP:
		body, sumAt = make([]byte, icmpLen), 2
		body[0] = icmpEcho
		binary.BigEndian.PutUint16(body[4:], b.ports[0])
	}
	if sumAt > 2 {
		binary.BigEndian.PutUint16(body, b.ports[0])
		binary.BigEndian.PutUint16(body[2:], b.ports[1])
	}
	body = append(body, b.data...)
	if b.proto == ipUDP {
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	}
	ip := []byte{byte(0x45 + len(b.options)/4), 0, 0, 0, 0, 1, 0, 0, 64, b.proto, 0, 0}
	ip = append(append(append(ip, src[:]...), dst[:]...), b.options...)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(body)))
	binary.BigEndian.PutUint16(ip[6:], b.frag)
	binary.BigEndian.PutUint16(ip[10:], ^plainSum(ip))
	if sumAt >= 0 {
		pseudo := pseudoHeader(ip, body, b.proto)
		if b.proto == ipICMP {
			pseudo = nil
		}
		binary.BigEndian.PutUint16(body[sumAt:], ^plainSum(append(pseudo, body...)))
	}
	etype := b.etype
	if etype == 0 {
		etype = etherIP4
	}
	frame := binary.BigEndian.AppendUint16([]byte("GWGWGWGUESTS"), etype)
	frame = append(append(frame, ip...), body...)
	if b.edit != nil {
		frame = b.edit(frame)
	}
	return frame
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func pseudoHeader(ip, body []byte, proto uint8) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte(nil), ip[12:20]...), 0, proto), uint16(len(body)))
}

// plainSum is the Internet checksum, not complemented, as RFC 1071 describes it and nothing more.
func plainSum(b []byte) uint16 {
	var s uint64
	for i, v := range b {
		s += uint64(v) << (8 * (1 - i%2))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// checkSums fails the test where a frame's checksums are wrong.
func checkSums(t *testing.T, frame []byte) packet {
	t.Helper()
	p, ok := parseIP4(frame)
	if !ok {
		t.Fatalf("no IPv4 packet: %x", frame)
	}
	if plainSum(p.ip) != 0xffff {
		t.Errorf("the IP checksum is wrong: %x", frame)
	}
	body := p.body
	switch {
	case p.proto == ipUDP && body[6] == 0 && body[7] == 0: // none
		return p
	case p.proto != ipICMP:
		body = append(pseudoHeader(p.ip, body, p.proto), body...)
	}
	if plainSum(body) != 0xffff {
		t.Errorf("the checksum of protocol %d is wrong: %x", p.proto, frame)
	}
	return p
}

func TestParseIP4Lies(t *testing.T) {
	good := build{proto: ipUDP, ports: [2]uint16{1, 2}, data: "data"}.frame()
	if p, ok := parseIP4(good); !ok || string(p.body[udpLen:]) != "data" || p.src().String() != tGuest || p.dst().String() != tHost || p.fragment {
		t.Fatalf("%+v, %v", p, ok)
	}
	padded := append(bytes.Clone(good), "padding of a short frame"...)
	if p, ok := parseIP4(padded); !ok || string(p.body[udpLen:]) != "data" {
		t.Errorf("padded: %+v, %v", p, ok)
	}
	for name, edit := range map[string]func(b []byte) []byte{
		"version 6":                func(b []byte) []byte { b[etherLen] = 0x65; return b },
		"header of 16 bytes":       func(b []byte) []byte { b[etherLen] = 0x44; return b },
		"header of 60 bytes":       func(b []byte) []byte { b[etherLen] = 0x4f; return b },
		"header longer than total": func(b []byte) []byte { b[etherLen], b[etherLen+3] = 0x46, 20; return b },
		"total of 0":               func(b []byte) []byte { b[etherLen+2], b[etherLen+3] = 0, 0; return b },
		"total beyond the frame":   func(b []byte) []byte { b[etherLen+3]++; return b },
		"total of 65535":           func(b []byte) []byte { b[etherLen+2], b[etherLen+3] = 0xff, 0xff; return b },
		"19 bytes":                 func(b []byte) []byte { return b[:etherLen+ip4Min-1] },
		"nothing":                  func(b []byte) []byte { return b[:etherLen] },
	} {
		if p, ok := parseIP4(edit(bytes.Clone(good))); ok {
			t.Errorf("%s: taken for %+v", name, p)
		}
	}
	for _, frag := range []uint16{0x2000, 1, 0x1fff, 0x3fff} {
		if p, ok := parseIP4(build{proto: ipUDP, frag: frag}.frame()); !ok || !p.fragment {
			t.Errorf("fragment %#x: %v, %+v", frag, ok, p)
		}
	}
	if p, ok := parseIP4(build{proto: ipUDP, frag: 0x4000}.frame()); !ok || p.fragment { // don't fragment
		t.Errorf("DF: %v, %+v", ok, p)
	}
}

func TestReset(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    uint8
		data     string
		flagsOut uint8
		seq, ack uint32
	}{
		{"SYN", tcpSYN, "", tcpRST | tcpACK, 0, 0x1001},
		{"SYN with data", tcpSYN, "abc", tcpRST | tcpACK, 0, 0x1004},
		{"FIN", tcpFIN, "", tcpRST | tcpACK, 0, 0x1001},
		{"ACK", tcpACK, "abc", tcpRST, 0x2000, 0},
	} {
		p, _ := parseIP4(build{proto: ipTCP, ports: [2]uint16{1234, 443}, flags: c.flags, data: c.data}.frame())
		r := checkSums(t, p.reset())
		src, dst := r.ports()
		seq, ack := binary.BigEndian.Uint32(r.body[4:]), binary.BigEndian.Uint32(r.body[8:])
		if r.src().String() != tHost || r.dst().String() != tGuest || src != 443 || dst != 1234 ||
			r.body[13] != c.flagsOut || seq != c.seq || ack != c.ack || len(r.body) != tcpMin {
			t.Errorf("%s: %x", c.name, r.frame)
		}
		if string(r.frame[:12]) != "GUESTSGWGWGW" {
			t.Errorf("%s: hardware addresses %q", c.name, r.frame[:12])
		}
	}
	// A segment that says that its header is longer than it is.
	p, _ := parseIP4(build{proto: ipTCP, flags: tcpSYN, edit: func(b []byte) []byte { b[etherLen+ip4Min+12] = 0xf0; return b }}.frame())
	checkSums(t, p.reset())
}

func TestUnreachable(t *testing.T) {
	for _, data := range []string{"", "x", "some longer text"} {
		f := build{proto: ipUDP, ports: [2]uint16{7, 53}, data: data, options: []byte{1, 1, 1, 0}}.frame()
		p, _ := parseIP4(f)
		r := checkSums(t, p.unreachable(icmpProhibited))
		if r.proto != unix.IPPROTO_ICMP || r.body[0] != 3 || r.body[1] != 13 || r.dst().String() != tGuest {
			t.Errorf("%x", r.frame)
		}
		if want := f[etherLen : etherLen+24+udpLen]; !bytes.Equal(r.body[icmpLen:], want) {
			t.Errorf("quoted %x, want %x", r.body[icmpLen:], want)
		}
	}
}

func TestRewrite(t *testing.T) {
	for _, b := range []build{
		{proto: ipTCP, ports: [2]uint16{1, 2}, flags: tcpACK, data: "odd"},
		{proto: ipUDP, ports: [2]uint16{1, 2}, data: "even"},
		{proto: ipUDP, ports: [2]uint16{1, 2}, edit: func(f []byte) []byte { f[etherLen+ip4Min+6], f[etherLen+ip4Min+7] = 0, 0; return f }},
		{proto: ipICMP, ports: [2]uint16{77}, data: "ping"},
	} {
		for _, to := range []string{"0.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.9", "0.0.255.255"} {
			a := netip.MustParseAddr(to)
			for _, dst := range []bool{true, false} {
				p, _ := parseIP4(b.frame())
				p.rewrite(dst, a)
				r := checkSums(t, p.frame)
				got, other := r.src(), r.dst()
				if dst {
					got, other = other, got
				}
				if got != a || other == a {
					t.Errorf("%s, %v: %s and %s", to, dst, got, other)
				}
			}
		}
	}
	// A checksum that comes out as 0 is sent as ffff over UDP (RFC 768).
	p, _ := parseIP4(build{proto: ipUDP}.frame())
	sum := uint32(binary.BigEndian.Uint16(p.body[6:]))
	p.rewrite(true, netip.AddrFrom4([4]byte{192, 0, byte((sum + 0x0201) >> 8 & 0xff), byte(sum + 1)}))
	checkSums(t, p.frame)
	if p.body[6] == 0 && p.body[7] == 0 {
		t.Error("the checksum has become none")
	}
}

// FuzzFrame: whatever comes from the guest, no more passes than what the package comment says.
func FuzzFrame(f *testing.F) {
	for _, proto := range []uint8{ipTCP, ipUDP, ipICMP, 47} {
		for _, flags := range []uint8{tcpSYN, tcpACK, tcpRST} {
			f.Add(build{proto: proto, ports: [2]uint16{1, 443}, flags: flags, data: "x"}.frame())
		}
		f.Add(build{proto: proto, dst: tDNS, ports: [2]uint16{1, 53}, frag: 0x2000}.frame())
	}
	f.Add(build{etype: etherARP}.frame())
	f.Fuzz(func(t *testing.T, frame []byte) {
		x, d, _, _ := testInspector(t)
		d.refuse = true
		passes := x.fromGuest(bytes.Clone(frame))
		back := bytes.Clone(frame)
		x.toGuest(back)
		for !x.settled() { // so that a frame always does the same
			runtime.Gosched()
		}
		x.close()
		if !passes {
			return
		}
		switch binary.BigEndian.Uint16(frame[12:]) {
		case etherARP:
			return
		case etherIP4:
		default:
			t.Fatalf("passes: %x", frame)
		}
		// Read anew, by hand.
		ip := frame[etherLen:]
		if ip[0]>>4 != 4 || ip[0]&15 < 5 || ip[6]&0x3f != 0 || ip[7] != 0 {
			t.Fatalf("passes: %x", frame)
		}
		src := netip.AddrFrom4([4]byte(ip[12:16]))
		if !netip.MustParsePrefix("10.0.2.0/24").Contains(src) || src.String() == tGateway || src.String() == tDNS {
			t.Fatalf("passes from %s", src)
		}
		body := ip[int(ip[0]&15)*4:]
		dst := netip.AddrFrom4([4]byte(ip[16:20]))
		dns := dst.String() == tDNS && binary.BigEndian.Uint16(body[2:]) == 53
		switch {
		case ip[9] == ipTCP && (body[13]&(tcpSYN|tcpACK|tcpRST) != tcpSYN || dns):
		case ip[9] == ipUDP && dns:
		default:
			t.Fatalf("passes undecided: %x", frame)
		}
	})
}
