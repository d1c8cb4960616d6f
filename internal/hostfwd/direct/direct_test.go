package direct

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// testTimeout bounds waits that should be short; it is not a measurement.
const testTimeout = time.Minute

// newHandler returns a handler into ns; at the end of the test it is closed, and must leave
// nothing behind.
func newHandler(t testing.TB, ns *testNetns, change ...func(*Config)) *Handler {
	t.Helper()
	cfg := Config{Sockets: ns, Log: t.Logf}
	for _, f := range change {
		f(&cfg)
	}
	h := New(cfg)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		noneLeft(t)
	})
	return h
}

// noneLeft fails if a goroutine of this package's loops or pools remains. Close waits for them,
// but the scheduler may list one that is about to end.
func noneLeft(t testing.TB) {
	t.Helper()
	eventually(t, "no goroutine of a loop or a pool is left", func() bool {
		buf := make([]byte, 1<<20)
		all := string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(all, "(*loop).run") && !strings.Contains(all, "(*pool).fill")
	})
}

// open opens a forward for proto from a free port of 127.0.0.1 to guest's address.
func open(t testing.TB, h *Handler, proto hostfwd.Proto, guest net.Addr) hostfwd.Listener {
	t.Helper()
	return openAt(t, h, proto, "127.0.0.1", guest)
}

func openAt(t testing.TB, h *Handler, proto hostfwd.Proto, host string, guest net.Addr) hostfwd.Listener {
	t.Helper()
	to := netip.MustParseAddrPort(guest.String())
	ln, err := h.Open(context.Background(), hostfwd.Forward{
		Proto: proto, HostIP: netip.MustParseAddr(host), GuestIP: to.Addr(), GuestPort: to.Port(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// hostAddr returns the address for clients of ln.
func hostAddr(ln hostfwd.Listener) string {
	f := ln.Forward()
	return netip.AddrPortFrom(f.HostIP, f.HostPort).String()
}

func dial(t testing.TB, ln hostfwd.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", hostAddr(ln), testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	deadline(t, c)
	return c.(*net.TCPConn)
}

func deadline(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func TestNothingBeforeFirstForward(t *testing.T) {
	ns := newNetns(t)
	before := openFDs(t)
	h := newHandler(t, ns)
	if more := newFDs(t, before); len(more) > 0 {
		t.Errorf("New opened descriptors: %v", more)
	}
	if n := ns.asked.Load(); n != 0 {
		t.Errorf("New asked for sockets %d times", n)
	}
	if h.Name() != "direct" {
		t.Errorf("Name() = %q", h.Name())
	}
}

// TestCloseLeavesNothing has connections, sessions, full pipes and waiting sockets in every
// state, closes the handler, and compares descriptors.
func TestCloseLeavesNothing(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	udp := ns.listenUDP(t, "10.0.2.100:0")
	_ = udpEcho(udp)
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := guest.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	// The runtime keeps its own poll descriptors from the first connection on.
	before := openFDs(t)

	h := New(Config{Sockets: ns, Log: t.Logf})
	tcp := open(t, h, hostfwd.TCP, guest.Addr())
	dgram := open(t, h, hostfwd.UDP, udp.LocalAddr())
	var mine []net.Conn
	for i := range 4 {
		c, err := net.Dial("tcp", hostAddr(tcp))
		if err != nil {
			t.Fatal(err)
		}
		mine = append(mine, c, <-accepted)
		if i%2 == 0 { // fill all buffers: the guest does not read
			_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			_, _ = c.Write(make([]byte, 64<<20))
		}
	}
	u, err := net.Dial("udp", hostAddr(dgram))
	if err != nil {
		t.Fatal(err)
	}
	mine = append(mine, u)
	deadline(t, u)
	fmt.Fprint(u, "x")
	if _, err := u.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	noneLeft(t)
	for _, c := range mine {
		c.Close()
	}
	eventually(t, "no new descriptor is open", func() bool { return len(newFDs(t, before)) == 0 })
	if _, err := h.Open(context.Background(), tcp.Forward()); err != ErrClosed {
		t.Errorf("Open after Close: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
