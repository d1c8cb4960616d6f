package direct

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// echo answers every connection with what it receives. It does not use splice(2), whose pipes Go
// would keep open for a while.
func echo(ln net.Listener) {
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(onlyWriter{c}, c)
			}()
		}
	}()
}

func accept1(t testing.TB, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	_ = ln.SetDeadline(time.Now().Add(testTimeout))
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	deadline(t, c)
	return c
}

// say sends text and expects it back.
func say(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q: %q, %v", text, got, err)
	}
}

func TestTCPEcho(t *testing.T) {
	for _, tt := range []struct {
		proto       hostfwd.Proto
		host, guest string
	}{
		{hostfwd.TCP, "127.0.0.1", "10.0.2.100:0"},
		{hostfwd.TCP4, "127.0.0.1", "127.0.0.1:0"},
		{hostfwd.TCP, "::1", "10.0.2.100:0"},
		{hostfwd.TCP6, "::1", "[::1]:0"},
		{hostfwd.TCP, "127.0.0.1", "[::1]:0"},
	} {
		t.Run(fmt.Sprintf("%s %s to %s", tt.proto, tt.host, tt.guest), func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listen(t, tt.guest)
			echo(guest)
			h := newHandler(t, ns)
			ln := openAt(t, h, tt.proto, tt.host, guest.Addr())
			if ln.Forward().HostPort == 0 {
				t.Fatal("no port picked")
			}
			c := dial(t, ln)
			for i := range 100 {
				say(t, c, fmt.Sprintf("message %d", i))
			}
		})
	}
}

// TestSixtyFourMiB sends random bytes both ways concurrently and compares checksums.
func TestSixtyFourMiB(t *testing.T) {
	const size = 64 << 20
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	c := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
	g := accept1(t, guest)

	var wg sync.WaitGroup
	transfer := func(from, to *net.TCPConn, seed byte) {
		var sent, got [32]byte
		wg.Go(func() {
			sum := sha256.New()
			src := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
			if _, err := io.Copy(onlyWriter{from}, io.TeeReader(src, sum)); err != nil {
				t.Error(err)
			}
			_ = from.CloseWrite()
			sum.Sum(sent[:0])
		})
		wg.Go(func() {
			sum := sha256.New()
			if n, err := io.Copy(sum, to); n != size || err != nil {
				t.Errorf("got %d bytes, %v", n, err)
			}
			sum.Sum(got[:0])
		})
		t.Cleanup(func() {
			if sent != got {
				t.Error("checksums differ")
			}
		})
	}
	transfer(c, g, 1)
	transfer(g, c, 2)
	wg.Wait()
}

type onlyWriter struct{ io.Writer }

// TestMixedSizes alternates between small pieces and bulk, with pauses in which all bytes must
// arrive.
func TestMixedSizes(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	c := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
	g := accept1(t, guest)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{1, 40000, 1, 5 << 20, 3, 16 << 10, 65536, 65537, 1 << 20, 1, 12 << 20, 100} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		from, to := c, g
		if i%2 == 1 {
			from, to = g, c
		}
		go func() { _, _ = from.Write(data) }()
		got := make([]byte, size)
		if _, err := io.ReadFull(to, got); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: changed on the way", size)
		}
	}
}

// TestSlowAccept opens more connections than the guest's backlog holds, all of which send
// something before the guest accepts the first.
func TestSlowAccept(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	var conns []net.Conn
	for range 50 {
		c := dial(t, ln)
		if _, err := io.WriteString(c, "early"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	echo(guest)
	for _, c := range conns {
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoHundredConnections(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			c, err := net.Dial("tcp", hostAddr(ln))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			deadline(t, c)
			data := bytes.Repeat([]byte{byte(i)}, 100<<10)
			go func() {
				_, _ = c.Write(data)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			if got, err := io.ReadAll(c); !bytes.Equal(got, data) || err != nil {
				t.Errorf("connection %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestThousandPorts(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	h := newHandler(t, ns)
	var open1000 []hostfwd.Listener
	for range 1000 {
		open1000 = append(open1000, open(t, h, hostfwd.TCP, guest.Addr()))
	}
	for i := 0; i < 1000; i += 37 {
		c := dial(t, open1000[i])
		say(t, c, "here")
		c.Close()
	}
	if n := len(h.loops); n > maxLoops {
		t.Errorf("%d loops", n)
	}
	for _, ln := range open1000 {
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.listeners); n != 0 {
		t.Errorf("%d listeners left", n)
	}
}

func TestRemoveWithOpenConnections(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	c := dial(t, ln)
	say(t, c, "before")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	say(t, c, "after")
	if c, err := net.Dial("tcp", hostAddr(ln)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial a removed forward: %v, %v", c, err)
	}
	// The port is free at once, though a connection through it is open.
	f := ln.Forward()
	again, err := h.Open(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	say(t, dial(t, again), "again")
	if err := ln.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	say(t, dial(t, again), "not touched by the second Close")
}

func TestCloseEndsConnections(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	c := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
	g := accept1(t, guest)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, g} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	ns := newNetns(t)
	h := newHandler(t, ns)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := netip.MustParseAddrPort(taken.Addr().String())
	for _, ip := range []string{"127.0.0.1", "0.0.0.0"} {
		_, err := h.Open(context.Background(), hostfwd.Forward{
			Proto:  hostfwd.TCP,
			HostIP: netip.MustParseAddr(ip), HostPort: at.Port(), GuestIP: guestIP, GuestPort: 80,
		})
		if !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s: %v", ip, err)
		}
	}
	_, err = h.Open(context.Background(), hostfwd.Forward{
		Proto:  hostfwd.TCP,
		HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 0, GuestIP: guestIP, GuestPort: 80,
	})
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("foreign address: %v", err)
	}
}

// TestFamilies checks on which of the host's loopback addresses a forward answers.
func TestFamilies(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	h := newHandler(t, ns)
	for _, tt := range []struct {
		proto  hostfwd.Proto
		host   string
		v4, v6 bool
	}{
		{hostfwd.TCP, "0.0.0.0", true, false},
		{hostfwd.TCP4, "0.0.0.0", true, false},
		{hostfwd.TCP6, "::", false, true},
		{hostfwd.TCP, "::", true, true},
	} {
		ln := openAt(t, h, tt.proto, tt.host, guest.Addr())
		for ip, want := range map[string]bool{"127.0.0.1": tt.v4, "::1": tt.v6} {
			c, err := net.Dial("tcp", net.JoinHostPort(ip, fmt.Sprint(ln.Forward().HostPort)))
			if (err == nil) != want {
				t.Errorf("%s on %s: dial %s: %v", tt.proto, tt.host, ip, err)
			}
			if err == nil {
				deadline(t, c)
				say(t, c, "hello")
				c.Close()
			}
		}
		ln.Close()
	}
}
