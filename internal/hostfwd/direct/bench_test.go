package direct

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// BenchmarkOpen opens and closes 1,000 forwards in each iteration.
func BenchmarkOpen(b *testing.B) {
	h := newHandler(b, newNetns(b))
	f := hostfwd.Forward{Proto: hostfwd.TCP, HostIP: netip.MustParseAddr("127.0.0.1"), GuestIP: guestIP, GuestPort: 80}
	for b.Loop() {
		open := make([]hostfwd.Listener, 1000)
		for i := range open {
			ln, err := h.Open(context.Background(), f)
			if err != nil {
				b.Fatal(err)
			}
			open[i] = ln
		}
		for _, ln := range open {
			ln.Close()
		}
	}
}

// BenchmarkConnections connects, sends four bytes, reads them back and closes.
func BenchmarkConnections(b *testing.B) {
	for name, clients := range map[string]int{"1": 1, "16": 16} {
		b.Run(name, func(b *testing.B) { connections(b, clients, 0) })
	}
}

// BenchmarkLoops compares numbers of loops: connections of 64 clients, and 8 streams. `make bench-cpus` runs it.
func BenchmarkLoops(b *testing.B) {
	for loops := 1; loops <= maxLoops; loops++ {
		b.Run(fmt.Sprint("connections/", loops), func(b *testing.B) { connections(b, 64, loops) })
		b.Run(fmt.Sprint("streams/", loops), func(b *testing.B) { streams(b, 8, loops) })
	}
}

func connections(b *testing.B, clients, loops int) {
	ns := newNetns(b)
	guest := ns.listen(b, "10.0.2.100:0")
	echo(guest)
	ln := open(b, newHandler(b, ns, func(c *Config) { c.Loops = loops }), hostfwd.TCP, guest.Addr())
	concurrently(b, clients, func(left *atomic.Int64) (err error) {
		for err == nil && left.Add(-1) >= 0 {
			err = fourBytes(hostAddr(ln))
		}
		return err
	})
}

// streams sends 128 KiB in each iteration, to the guest, which returns it.
func streams(b *testing.B, n, loops int) {
	ns := newNetns(b)
	guest := ns.listen(b, "10.0.2.100:0")
	echo(guest)
	ln := open(b, newHandler(b, ns, func(c *Config) { c.Loops = loops }), hostfwd.TCP, guest.Addr())
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	concurrently(b, n, func(left *atomic.Int64) error {
		c, err := net.Dial("tcp", hostAddr(ln))
		if err != nil {
			return err
		}
		defer c.Close()
		buf := make([]byte, len(p))
		for left.Add(-1) >= 0 {
			if _, err := c.Write(p); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				return err
			}
		}
		return nil
	})
}

// concurrently runs n copies of f, which do b.N iterations together.
func concurrently(b *testing.B, n int, f func(left *atomic.Int64) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error)
	b.ResetTimer()
	for range n {
		go func() { done <- f(&left) }()
	}
	for range n {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func fourBytes(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	// A reset leaves no port in TIME_WAIT, so that a long run has enough ports.
	_ = c.(*net.TCPConn).SetLinger(0)
	p := []byte("ping")
	if _, err := c.Write(p); err != nil {
		return err
	}
	_, err = io.ReadFull(c, p)
	return err
}

// BenchmarkRoundTrip sends one byte there and back, with and without a forward.
func BenchmarkRoundTrip(b *testing.B) {
	ns := newNetns(b)
	guest := ns.listen(b, "10.0.2.100:0")
	echo(guest)
	h := newHandler(b, ns)
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer host.Close()
	echo(host)
	for name, addr := range map[string]string{
		"loopback": host.Addr().String(),
		"forward":  hostAddr(open(b, h, hostfwd.TCP, guest.Addr())),
	} {
		b.Run(name, func(b *testing.B) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			p := []byte("x")
			for b.Loop() {
				if _, err := c.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkThroughput sends 128 KiB in each iteration, one way.
func BenchmarkThroughput(b *testing.B) {
	for _, way := range []string{"in", "out"} {
		b.Run(way, func(b *testing.B) {
			ns := newNetns(b)
			guest := ns.listen(b, "10.0.2.100:0")
			h := newHandler(b, ns)
			c, err := net.Dial("tcp", hostAddr(open(b, h, hostfwd.TCP, guest.Addr())))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			g, err := guest.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer g.Close()
			from, to := c, g
			if way == "out" {
				from, to = g, c
			}
			p := make([]byte, 128<<10)
			b.SetBytes(int64(len(p)))
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := from.Write(p); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, len(p))
			for range b.N {
				if _, err := io.ReadFull(to, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
