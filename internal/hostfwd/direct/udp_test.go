package direct

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// udpEcho echoes every datagram and reports its source.
func udpEcho(pc *net.UDPConn) *sync.Map {
	var from sync.Map
	go func() {
		buf := make([]byte, 65536)
		for {
			n, a, err := pc.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				from.Store(a, true)
				_, _ = pc.WriteToUDPAddrPort(buf[:n], a)
			}
		}
	}()
	return &from
}

func dialUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	deadline(t, c)
	return c.(*net.UDPConn)
}

// sayUDP sends p and expects it back.
func sayUDP(t testing.TB, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 65536)
	n, err := c.Read(got)
	if err != nil || !bytes.Equal(got[:n], p) {
		t.Fatalf("echo of %d bytes: %d, %v", len(p), n, err)
	}
}

func TestUDPEcho(t *testing.T) {
	for _, tt := range []struct {
		proto             hostfwd.Proto
		host, dial, guest string
	}{
		{hostfwd.UDP, "127.0.0.1", "127.0.0.1", "10.0.2.100:0"},
		{hostfwd.UDP4, "0.0.0.0", "127.0.0.1", "10.0.2.100:0"},
		{hostfwd.UDP, "0.0.0.0", "127.0.0.5", "10.0.2.100:0"}, // the answer must come from .5
		{hostfwd.UDP, "::1", "::1", "10.0.2.100:0"},
		{hostfwd.UDP6, "::", "::1", "[::1]:0"},
		{hostfwd.UDP, "::", "127.0.0.5", "[::1]:0"},
		{hostfwd.UDP, "127.0.0.1", "127.0.0.1", "[::1]:0"},
	} {
		t.Run(fmt.Sprintf("%s %s to %s", tt.proto, tt.host, tt.guest), func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listenUDP(t, tt.guest)
			udpEcho(guest)
			h := newHandler(t, ns)
			ln := openAt(t, h, tt.proto, tt.host, guest.LocalAddr())
			c := dialUDP(t, net.JoinHostPort(tt.dial, fmt.Sprint(ln.Forward().HostPort)))
			for _, size := range []int{1, 0, 1400, 1, 9000, 65000, 3} {
				sayUDP(t, c, bytes.Repeat([]byte{byte(size)}, size))
			}
		})
	}
}

func TestUDP6Only(t *testing.T) {
	ns := newNetns(t)
	h := newHandler(t, ns)
	ln := openAt(t, h, hostfwd.UDP6, "::", &net.UDPAddr{IP: guestIP.AsSlice(), Port: 9})
	// The same port of IPv4 is free.
	other, err := h.Open(context.Background(), hostfwd.Forward{
		Proto: hostfwd.UDP4, HostIP: netip.IPv4Unspecified(),
		HostPort: ln.Forward().HostPort, GuestIP: guestIP, GuestPort: 9,
	})
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
}

func TestUDPPortTaken(t *testing.T) {
	ns := newNetns(t)
	h := newHandler(t, ns)
	ln := openAt(t, h, hostfwd.UDP, "127.0.0.1", &net.UDPAddr{IP: guestIP.AsSlice(), Port: 9})
	if _, err := h.Open(context.Background(), ln.Forward()); !errors.Is(err, unix.EADDRINUSE) {
		t.Fatalf("second Open of the same port: %v", err)
	}
}

// TestUDPBursts sends many datagrams of changing sizes from several clients at once, some with
// segmentation by the sender (UDP_SEGMENT), and expects each back, in order.
func TestUDPBursts(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listenUDP(t, "10.0.2.100:0")
	_ = guest.SetReadBuffer(4 << 20)
	udpEcho(guest)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.UDP, guest.LocalAddr())
	var wg sync.WaitGroup
	for id := range 4 {
		c := dialUDP(t, hostAddr(ln))
		_ = c.SetReadBuffer(4 << 20)
		wg.Go(func() {
			for round := range 20 {
				var sent [][]byte
				for i := range 16 {
					size := 1000
					if i%5 == 4 {
						size = 10 + i*round
					}
					p := bytes.Repeat([]byte{byte(id), byte(round), byte(i)}, size)
					sent = append(sent, p)
					if _, err := c.Write(p); err != nil {
						t.Error(err)
						return
					}
				}
				got := make([]byte, 65536)
				for i, p := range sent {
					n, err := c.Read(got)
					if err != nil || !bytes.Equal(got[:n], p) {
						t.Errorf("client %d round %d datagram %d: %d bytes, want %d, %v", id, round, i, n, len(p), err)
						return
					}
				}
			}
		})
	}
	wg.Wait()

	c := dialUDP(t, hostAddr(ln))
	raw, _ := c.SyscallConn()
	if err := raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 500)
	}); err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte("0123456789"), 1234)
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for buf := make([]byte, 65536); len(got) < len(p); {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > 500 {
			t.Fatalf("a datagram of %d bytes: boundaries lost", n)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, p) {
		t.Error("changed on the way")
	}
}

// TestUDPWithoutGSO runs as if the kernel or device couldn't segment datagrams.
func TestUDPWithoutGSO(t *testing.T) {
	b, err := newBatch()
	if err != nil {
		t.Fatal(err)
	}
	defer b.free()
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	from := dialUDP(t, to.LocalAddr().String())
	raw, _ := from.SyscallConn()
	const size = 100
	for i := range 3 {
		b.rx[i].n = 3 * size // as if joined by the kernel
		b.seg[i] = size
		for j := range 3 {
			copy(b.data(i)[j*size:], bytes.Repeat([]byte{byte(3*i + j)}, size))
		}
	}
	receive := func() {
		t.Helper()
		_ = to.SetReadDeadline(time.Now().Add(testTimeout))
		buf := make([]byte, 65536)
		for i := range 9 {
			n, _, err := to.ReadFrom(buf)
			if err != nil || n != size || buf[0] != byte(i) {
				t.Fatalf("datagram %d: %d bytes of %d, %v", i, n, buf[0], err)
			}
		}
	}
	for _, allowed := range []bool{true, false} {
		gso := allowed
		if err := raw.Control(func(fd uintptr) { b.send(int(fd), 0, 3, nil, nil, &gso) }); err != nil {
			t.Fatal(err)
		}
		receive()
		if gso != allowed {
			t.Errorf("gso became %v", gso)
		}
	}
	// A message that the kernel should have segmented is sent in pieces.
	if err := raw.Control(func(fd uintptr) {
		gso := true
		b.begin(int(fd), nil, nil, &gso)
		for i := range 3 {
			b.gather(b.data(i))
		}
		b.cutAt(size)
		b.sendCut(int(fd), 0)
		b.txs, b.iovs = 0, 0
	}); err != nil {
		t.Fatal(err)
	}
	receive()
}

func TestUDPSessionsExpire(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listenUDP(t, "10.0.2.100:0")
	from := udpEcho(guest)
	// Longer than one exchange takes on a busy machine: an answer to an expired session is lost.
	h := newHandler(t, ns, func(c *Config) { c.UDPIdle = 2 * time.Second })
	ln := open(t, h, hostfwd.UDP, guest.LocalAddr())
	c := dialUDP(t, hostAddr(ln))
	sayUDP(t, c, []byte("one"))
	eventually(t, "the idle session ended", func() bool { return sessions(h) == 0 })
	if ms := timeout(h); ms != -1 {
		t.Errorf("the loop would sleep for %d ms with no session", ms)
	}
	sayUDP(t, c, []byte("two"))
	n := 0
	from.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("the guest saw %d senders, want a new one after expiry", n)
	}
}

// TestUDPLateAnswer: an answer arrives no matter how long the client has been silent, as long as the
// session exists, and a client that keeps sending keeps it even if the guest is silent.
func TestUDPLateAnswer(t *testing.T) {
	if DefaultUDPIdle < 2*time.Minute {
		t.Errorf("sessions live for %s; RFC 4787 wants two minutes at least", DefaultUDPIdle)
	}
	ns := newNetns(t)
	guest := ns.listenUDP(t, "10.0.2.100:0")
	deadline(t, guest)
	const idle = 2 * time.Second
	h := newHandler(t, ns, func(c *Config) { c.UDPIdle = idle })
	ln := openAt(t, h, hostfwd.UDP, "0.0.0.0", guest.LocalAddr())
	// From a second address of the host, from which the answer must come too.
	c := dialUDP(t, fmt.Sprintf("127.0.0.2:%d", ln.Forward().HostPort))
	var from netip.AddrPort
	buf := make([]byte, 10)
	for start := time.Now(); time.Since(start) < idle+idle/2; time.Sleep(idle / 8) {
		if _, err := c.Write([]byte("keep")); err != nil {
			t.Fatal(err)
		}
		_, a, err := guest.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if from.IsValid() && a != from {
			t.Fatal("the session ended though the client went on")
		}
		from = a
	}
	time.Sleep(idle / 2)
	for _, p := range [][]byte{[]byte("late"), {}, []byte("!")} { // empty datagrams count
		if _, err := guest.WriteToUDPAddrPort(p, from); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], p) {
			t.Fatalf("answer %q: %q, %v", p, buf[:max(n, 0)], err)
		}
	}
}

func sessions(h *Handler) (n int) {
	for _, l := range h.loops {
		l.do(func() { n += l.udp.sessions })
	}
	return n
}

func timeout(h *Handler) (ms int) {
	h.loops[0].do(func() { ms = h.loops[0].timeout() })
	return ms
}

func TestUDPSessionsBounded(t *testing.T) {
	for _, most := range []int{1, 3} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listenUDP(t, "10.0.2.100:0")
			udpEcho(guest)
			h := newHandler(t, ns, func(c *Config) { c.UDPSessions = most })
			ln := open(t, h, hostfwd.UDP, guest.LocalAddr())
			for i := range 20 {
				sayUDP(t, dialUDP(t, hostAddr(ln)), []byte{byte(i)})
				if n := sessions(h); n > most*len(h.loops) {
					t.Fatalf("%d sessions, most is %d", n, most)
				}
			}
		})
	}
}

func TestUDPRemove(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listenUDP(t, "10.0.2.100:0")
	udpEcho(guest)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.UDP, guest.LocalAddr())
	other := open(t, h, hostfwd.UDP, guest.LocalAddr())
	kept := dialUDP(t, hostAddr(other))
	sayUDP(t, kept, []byte("kept"))
	sayUDP(t, dialUDP(t, hostAddr(ln)), []byte("x"))
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if n := sessions(h); n != 1 {
		t.Errorf("%d sessions left, want the other forward's", n)
	}
	sayUDP(t, kept, []byte("still"))
	again, err := h.Open(context.Background(), ln.Forward())
	if err != nil {
		t.Fatalf("port not free: %v", err)
	}
	again.Close()
	if err := ln.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestUDPGuestComesLater: a refused datagram must not end the session or the forward.
func TestUDPGuestComesLater(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listenUDP(t, "10.0.2.100:0")
	at := guest.LocalAddr()
	guest.Close()
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.UDP, at)
	c := dialUDP(t, hostAddr(ln))
	for range 5 {
		_, _ = c.Write([]byte("early"))
	}
	eventually(t, "the session exists", func() bool { return sessions(h) == 1 })
	udpEcho(ns.listenUDP(t, at.String()))
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	for got := make([]byte, 10); ; { // early ones may be delivered now
		n, err := c.Read(got)
		if err != nil {
			t.Fatal(err)
		}
		if string(got[:n]) == "late" {
			break
		}
	}
}

// TestUDPNoSockets: datagrams arrive before the namespace provides sockets, or it provides none.
func TestUDPNoSockets(t *testing.T) {
	ns := newNetns(t)
	ns.gate = make(chan struct{})
	guest := ns.listenUDP(t, "10.0.2.100:0")
	udpEcho(guest)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.UDP, guest.LocalAddr())
	c := dialUDP(t, hostAddr(ln))
	for i := range 3 {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the session waits", func() bool { return sessions(h) == 1 })
	close(ns.gate)
	for i := range 3 {
		got := make([]byte, 10)
		if n, err := c.Read(got); err != nil || n != 1 || got[0] != byte(i) {
			t.Fatalf("answer %d: %v, %v", i, got[:n], err)
		}
	}
}
