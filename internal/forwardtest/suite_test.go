package forwardtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// handlers are the values of --port-handler.
var handlers = []string{"rootlesskit", "slirp4netns", "direct"}

// TestHandlers is the suite that every port handler has to pass, as root and as an ordinary
// user.
func TestHandlers(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		const transparent = "direct transparent"
		suites := map[string][]string{ // over a gateway too; slirp4netns can't forward through one
			"rootlesskit over a gateway": {"--port-handler", "rootlesskit", "--egress", "log"},
			"direct over a gateway":      {"--port-handler", "direct", "--egress", "log"},
			transparent:                  {"--source-ip-transparent"},
		}
		for _, h := range handlers {
			suites[h] = []string{"--port-handler", h}
		}
		for name, args := range suites {
			t.Run(name, func(t *testing.T) {
				if name == transparent {
					needLAN(t)
				}
				// --allow-host-loopback: otherwise slirp4netns answers no UDP client on 127.0.0.1.
				w := newWorld(t)
				g := w.up("g", append(args, "--allow-host-loopback")...)
				g.host = "127.0.0.1"
				tests := []struct {
					name string
					test func(*testing.T, *guest)
				}{
					{"echo", testEcho},
					{"bulk", testBulk},
					{"half-close", testHalfClose},
					{"parallel", testParallel},
					{"nobody listens", testNobodyListens},
					{"range", testRange},
					{"first free", testFirstFree},
					{"in the way", testWhoIsInTheWay},
					{"remove", testRemove},
					{"port 0", testPortZero},
					{"rollback", testRollback},
					{"set", testSet},
					{"reload", testReload},
					{"refused ports", testRefusedPorts},
					{"IPv6 host side", testIPv6},
					{"loopback guest", testLoopbackGuest},
				}
				if name == transparent {
					g.host, tests = lan, tests[:5] // the others are about listening
				}
				for _, c := range tests {
					t.Run(c.name, func(t *testing.T) {
						w, g := *w, *g
						w.t, g.t, g.w = t, t, &w
						c.test(t, &g)
						if ids := g.ids(); len(ids) > 0 {
							g.remove(ids...)
						}
					})
				}
			})
		}
	})
}

// at returns the address of a host port for the suite's clients.
func (g *guest) at(port int) string { return net.JoinHostPort(g.host, strconv.Itoa(port)) }

// local returns the address of a host port for clients on this host.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * testTimeout))
	return c.(*net.TCPConn)
}

// checkListens fails if a host port accepts no connections. A connection may be reset at once,
// because no program listens inside.
func checkListens(t testing.TB, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, testTimeout)
	if err == nil {
		c.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// echo sends text and expects it back, on a connection that stays open.
func echo(c net.Conn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != text {
		return fmt.Errorf("sent %.40q, got %.40q", text, buf)
	}
	return nil
}

func echoUDP(t testing.TB, addr, text string) {
	t.Helper()
	eventually(t, func() error { // datagrams may be lost
		got, err := exchangeUDP(addr, text)
		if err == nil && got != text {
			t.Fatalf("sent %.40q, got %.40q", text, got)
		}
		return err
	})
}

func testEcho(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	f := g.forward(g.host, port, "tcp")
	c := dial(t, g.at(f.HostPort))
	for _, text := range []string{"a", strings.Repeat("b", 100_000)} {
		if err := echo(c, text); err != nil {
			t.Error(err)
		}
	}
	port = g.listen("udp4", "0.0.0.0:0", "echo")
	f = g.forward(g.host, port, "udp")
	echoUDP(t, g.at(f.HostPort), "a")
	echoUDP(t, g.at(f.HostPort), strings.Repeat("b", 8000))
}

// testBulk sends 64 MiB in each direction at once.
func testBulk(t *testing.T, g *guest) {
	f := g.forward(g.host, g.listen("tcp4", "0.0.0.0:0", "exchange"), "tcp")
	c := dial(t, g.at(f.HostPort))
	// exchange does not compare the hashes: each side returns the other's.
	ours, theirs := sha256.New(), sha256.New()
	if _, err := io.Copy(ours, bulkData(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(theirs, bulkData(1)); err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, bulkData(2))
		sent <- err
	}()
	if _, err := io.CopyN(got, c, bulk); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	view, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Sum(nil)) != string(theirs.Sum(nil)) {
		t.Error("what came out differs from what was sent inside")
	}
	if string(view) != string(ours.Sum(nil)) {
		t.Error("what arrived inside differs from what was sent")
	}
}

func testHalfClose(t *testing.T, g *guest) {
	f := g.forward(g.host, g.listen("tcp4", "0.0.0.0:0", "late"), "tcp")
	c := dial(t, g.at(f.HostPort))
	fmt.Fprint(c, "all of it")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "all of it" {
		t.Errorf("client closes first: %q, %v", got, err)
	}

	f = g.forward(g.host, g.listen("tcp4", "0.0.0.0:0", "deaf"), "tcp")
	c = dial(t, g.at(f.HostPort))
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("server closes first: %q, %v", got, err)
	}
	fmt.Fprint(c, "still-talking")
	_ = c.CloseWrite()
	if got := g.tell("last"); got != "still-talking <nil>" {
		t.Errorf("after the server closed its side it got %q", got)
	}

	f = g.forward(g.host, g.listen("tcp4", "0.0.0.0:0", "reset"), "tcp")
	c = dial(t, g.at(f.HostPort))
	fmt.Fprint(c, "x")
	if _, err := io.ReadAll(c); os.IsTimeout(err) {
		t.Error("a reset inside does not end the client's connection")
	}
}

// testParallel has 200 connections open at once.
func testParallel(t *testing.T, g *guest) {
	f := g.forward(g.host, g.listen("tcp4", "0.0.0.0:0", "echo"), "tcp")
	var wg sync.WaitGroup
	errs := make([]error, 200)
	conns := make([]net.Conn, len(errs))
	// slirp4netns has a listen queue of one connection: of clients that connect at the same
	// moment, most are delayed for a second, then three, then seven, and so on.
	atOnce := make(chan struct{}, len(errs))
	if handlerOf(g) == "slirp4netns" {
		atOnce = make(chan struct{}, 1)
	}
	for i := range errs {
		wg.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			c, err := net.DialTimeout("tcp", g.at(f.HostPort), 3*testTimeout)
			if err != nil {
				errs[i] = err
				return
			}
			conns[i] = c
			_ = c.SetDeadline(time.Now().Add(3 * testTimeout))
			errs[i] = echo(c, strings.Repeat(strconv.Itoa(i), 1000))
		})
	}
	wg.Wait()
	for i, c := range conns {
		if errs[i] == nil {
			errs[i] = echo(c, "again") // all are still open
		}
		if c != nil {
			c.Close()
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// testNobodyListens: a closed port inside ends the client's connection instead of making it wait.
func testNobodyListens(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	f := g.forward(g.host, port, "tcp")
	g.close("tcp4", "0.0.0.0:0")
	c, err := net.DialTimeout("tcp", g.at(f.HostPort), testTimeout)
	if err != nil {
		if os.IsTimeout(err) {
			t.Error(err)
		}
		return // closed even earlier
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	if n, err := c.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func handlerOf(g *guest) string {
	handler, _, _ := strings.Cut(filepath.Base(filepath.Dir(g.t.Name())), "_over_")
	return handler
}

func testIPv6(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	if handlerOf(g) == "slirp4netns" {
		g.w.refused(3, "the slirp4netns port handler can't listen on IPv6; rootlesskit and direct can", "forward", "add", g.name, fmt.Sprintf("[::1]:0:%d", port))
		return
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		lacking(t, "this host has no IPv6: %v", err)
	} else {
		l.Close()
	}
	f := g.forward("[::1]", port, "tcp")
	if err := echo(dial(t, fmt.Sprintf("[::1]:%d", f.HostPort)), "x"); err != nil {
		t.Error(err)
	}
	f = g.forward("[::1]", g.listen("udp4", "0.0.0.0:0", "echo"), "udp6")
	echoUDP(t, fmt.Sprintf("[::1]:%d", f.HostPort), "x")
}

// testLoopbackGuest: a program on the namespace's own 127.0.0.1 is reached if requested.
func testLoopbackGuest(t *testing.T, g *guest) {
	port := g.listen("tcp4", "127.0.0.1:0", "echo")
	spec := fmt.Sprintf("127.0.0.1:0:127.0.0.1:%d", port)
	if handlerOf(g) == "slirp4netns" {
		g.w.refused(3, "can't reach the namespace's own 127.0.0.1; rootlesskit and direct can", "forward", "add", g.name, spec)
		return
	}
	f := g.w.add(g.name, spec)[0]
	if err := echo(dial(t, local(f.HostPort)), "x"); err != nil {
		t.Error(err)
	}
}
