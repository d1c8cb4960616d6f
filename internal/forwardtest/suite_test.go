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
	"testing"
	"time"
)

// handlers are the values of --port-handler.
var handlers = []string{"rootlesskit", "slirp4netns", "direct"}

// TestHandlers is the one suite that every port handler has to pass, as root and as an ordinary
// user.
func TestHandlers(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		for _, h := range handlers {
			t.Run(h, func(t *testing.T) {
				// --allow-host-loopback: else slirp4netns answers no UDP client on 127.0.0.1.
				w := newWorld(t)
				g := w.up("g", "--port-handler", h, "--allow-host-loopback")
				for _, c := range []struct {
					name string
					test func(*testing.T, *guest)
				}{
					{"echo", testEcho},
					{"bulk", testBulk},
					{"half-close", testHalfClose},
					{"parallel", testParallel},
					{"range", testRange},
					{"remove", testRemove},
					{"port 0", testPortZero},
					{"rollback", testRollback},
					{"set", testSet},
					{"reload", testReload},
					{"nobody listens", testNobodyListens},
					{"refused ports", testRefusedPorts},
					{"IPv6 host side", testIPv6},
					{"loopback guest", testLoopbackGuest},
				} {
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

// local returns the address of a host port for clients on this host.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	return c.(*net.TCPConn)
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
	f := g.forward("127.0.0.1", port, "tcp")
	c := dial(t, local(f.HostPort))
	for _, text := range []string{"a", strings.Repeat("b", 100_000)} {
		if err := echo(c, text); err != nil {
			t.Error(err)
		}
	}
	port = g.listen("udp4", "0.0.0.0:0", "echo")
	f = g.forward("127.0.0.1", port, "udp")
	echoUDP(t, local(f.HostPort), "a")
	echoUDP(t, local(f.HostPort), strings.Repeat("b", 8000))
}

// testBulk sends 64 MiB in each direction at once.
func testBulk(t *testing.T, g *guest) {
	f := g.forward("127.0.0.1", g.listen("tcp4", "0.0.0.0:0", "exchange"), "tcp")
	c := dial(t, local(f.HostPort))
	// exchange checks nothing by itself: each side tells what it got.
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
	f := g.forward("127.0.0.1", g.listen("tcp4", "0.0.0.0:0", "late"), "tcp")
	c := dial(t, local(f.HostPort))
	fmt.Fprint(c, "all of it")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "all of it" {
		t.Errorf("client closes first: %q, %v", got, err)
	}

	f = g.forward("127.0.0.1", g.listen("tcp4", "0.0.0.0:0", "deaf"), "tcp")
	c = dial(t, local(f.HostPort))
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("server closes first: %q, %v", got, err)
	}
	fmt.Fprint(c, "still-talking")
	_ = c.CloseWrite()
	if got := g.tell("last"); got != "still-talking <nil>" {
		t.Errorf("after the server closed its side it got %q", got)
	}

	f = g.forward("127.0.0.1", g.listen("tcp4", "0.0.0.0:0", "reset"), "tcp")
	c = dial(t, local(f.HostPort))
	fmt.Fprint(c, "x")
	if _, err := io.ReadAll(c); os.IsTimeout(err) {
		t.Error("a reset inside does not end the client's connection")
	}
}

// testParallel has 200 connections open at once.
func testParallel(t *testing.T, g *guest) {
	f := g.forward("127.0.0.1", g.listen("tcp4", "0.0.0.0:0", "echo"), "tcp")
	var wg sync.WaitGroup
	errs := make([]error, 200)
	conns := make([]net.Conn, len(errs))
	// slirp4netns has a listen queue of one connection: of clients that come at the same
	// moment, most are put off for a second, then three, then seven, and so on.
	atOnce := make(chan struct{}, len(errs))
	if handlerOf(g) == "slirp4netns" {
		atOnce = make(chan struct{}, 1)
	}
	for i := range errs {
		wg.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			c, err := net.DialTimeout("tcp", local(f.HostPort), 3*patience)
			if err != nil {
				errs[i] = err
				return
			}
			conns[i] = c
			_ = c.SetDeadline(time.Now().Add(3 * patience))
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

// freeRange returns the first of n host ports that nobody has now, below the ephemeral ones.
func freeRange(t *testing.T, n int) int {
	t.Helper()
	for first := 20000 + os.Getpid()%1000; first+n < 32768; first += 100 {
		if rangeIsFree(first, n) {
			return first
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func rangeIsFree(first, n int) bool {
	for p := first; p < first+n; p++ {
		l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", p))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func testRange(t *testing.T, g *guest) {
	const n = 1000
	first := freeRange(t, n)
	spec := fmt.Sprintf("127.0.0.1:%d-%d:%d-%d", first, first+n-1, first, first+n-1)
	if rows := g.w.add(g.name, spec); len(rows) != n {
		t.Fatalf("%d forwards added", len(rows))
	}
	list := g.w.list(g.name)
	if len(list) != n {
		t.Fatalf("%d forwards listed", len(list))
	}
	for i, r := range list {
		if r.HostPort != first+i || r.GuestPort != first+i {
			t.Fatalf("forward %d of the range: %+v", i, r)
		}
	}
	for _, port := range []int{first, first + n/2, first + n - 1} {
		addr := fmt.Sprintf("0.0.0.0:%d", port)
		g.listen("tcp4", addr, "echo")
		if err := echo(dial(t, local(port)), "x"); err != nil {
			t.Errorf("port %d: %v", port, err)
		}
		g.close("tcp4", addr)
	}
	g.remove(spec)
	if ids := g.ids(); len(ids) > 0 {
		t.Errorf("%d forwards stay", len(ids))
	}
}

// testRemove: connections that are open go on, or end at once with rootlesskit; new ones are
// refused.
func testRemove(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	f := g.forward("127.0.0.1", port, "tcp")
	c := dial(t, local(f.HostPort))
	if err := echo(c, "before"); err != nil {
		t.Fatal(err)
	}
	g.remove(strconv.Itoa(f.ID))
	if err := echo(c, "after"); (err != nil) != (handlerOf(g) == "rootlesskit") || os.IsTimeout(err) {
		t.Errorf("the open connection: %v", err)
	}
	if c, err := net.Dial("tcp", local(f.HostPort)); err == nil {
		c.Close()
		t.Error("the port still takes connections")
	}
	g.w.refused(4, fmt.Sprintf("there is no forward %d", f.ID), "forward", "remove", g.name, strconv.Itoa(f.ID))

	// By spec; and all or nothing.
	spec := fmt.Sprintf("127.0.0.1:%d:%d", f.HostPort, port)
	g.w.add(g.name, spec)
	g.w.refused(4, ":1/tcp", "forward", "remove", g.name, spec, "0:1")
	if n := len(g.ids()); n != 1 {
		t.Errorf("%d forwards after a removal that failed", n)
	}
	g.remove(spec)
	if n := len(g.ids()); n != 0 {
		t.Errorf("%d forwards after a removal by spec", n)
	}
}

func testPortZero(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	rows := g.w.add(g.name, strconv.Itoa(port), fmt.Sprintf("127.0.0.1:0:%d/tcp,udp", port))
	for _, r := range rows {
		if r.HostPort == 0 || r.GuestPort != port {
			t.Fatalf("%+v", rows)
		}
		if r.Proto == "tcp" {
			if err := echo(dial(t, local(r.HostPort)), "x"); err != nil {
				t.Error(err)
			}
		}
	}
	if rows[0].HostIP != "0.0.0.0" || rows[1].HostPort != rows[2].HostPort {
		t.Errorf("%+v", rows)
	}
}

// taken occupies a port of the host for the duration of the test.
func taken(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func testRollback(t *testing.T, g *guest) {
	free := freeRange(t, 2)
	busy := taken(t)
	before := g.w.list(g.name)
	specs := []string{fmt.Sprintf("%d:80", free), fmt.Sprintf("%d:81", busy), fmt.Sprintf("%d:82", free+1)}
	args := append([]string{"forward", "add", g.name}, specs...)
	g.w.refused(5, fmt.Sprintf("port spec %q (2 of 3)", specs[1]), args...)
	g.w.refused(5, fmt.Sprintf("0.0.0.0:%d/tcp is in use by %s (pid %d)", busy, comm(t), os.Getpid()), args...)
	if after := g.w.list(g.name); len(after) != len(before) {
		t.Errorf("something of the batch stays: %+v", after)
	}
	if !rangeIsFree(free, 2) {
		t.Error("a port of the batch is still taken")
	}
	// The same port twice in one batch.
	g.w.refused(5, "(2 of 2)", "forward", "add", g.name, specs[0], specs[0])
}

// comm is this process's name, as others see it.
func comm(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// testSet: what stays is not touched, and a failure changes nothing.
func testSet(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	stays := g.forward("127.0.0.1", port, "tcp")
	goes := g.forward("127.0.0.1", port, "tcp")
	spec := fmt.Sprintf("127.0.0.1:%d:%d", stays.HostPort, port)
	c := dial(t, local(stays.HostPort))
	if err := echo(c, "x"); err != nil {
		t.Fatal(err)
	}
	g.w.refused(5, "(2 of 2)", "forward", "set", g.name, spec, fmt.Sprintf("%d:80", taken(t)))
	if n := len(g.ids()); n != 2 {
		t.Fatalf("%d forwards after a set that failed", n)
	}
	rows := g.w.rows("forward", "set", g.name, spec, fmt.Sprintf("127.0.0.1:0:%d", port))
	if len(rows) != 2 || rows[0].ID != stays.ID {
		t.Errorf("set: %+v, with %+v before", rows, stays)
	}
	if err := echo(c, "y"); err != nil {
		t.Errorf("a connection of the forward that stays: %v", err)
	}
	if rows = g.w.rows("forward", "set", g.name, spec); len(rows) != 1 || rows[0].ID != stays.ID {
		t.Errorf("set: %+v", rows)
	}
	if c, err := net.Dial("tcp", local(goes.HostPort)); err == nil {
		c.Close()
		t.Error("the port of a forward that went still takes connections")
	}
	if rows = g.w.rows("forward", "set", g.name); len(rows) != 0 {
		t.Errorf("set to nothing: %+v", rows)
	}
}

func testReload(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	f := g.forward("127.0.0.1", port, "tcp")
	if rows := g.w.rows("forward", "reload", g.name); len(rows) != 1 || rows[0] != f {
		t.Errorf("reload: %+v, with %+v before", rows, f)
	}
	if err := echo(dial(t, local(f.HostPort)), "x"); err != nil {
		t.Error(err)
	}
	moved := f
	moved.GuestIP = "10.0.2.101"
	if rows := g.w.rows("forward", "reload", g.name, "--guest-ip", moved.GuestIP); len(rows) != 1 || rows[0] != moved {
		t.Errorf("reload to a new address: %+v", rows)
	}
	if rows := g.w.rows("forward", "reload", g.name, "--guest-ip", f.GuestIP); len(rows) != 1 || rows[0] != f {
		t.Errorf("reload back: %+v", rows)
	}
	if err := echo(dial(t, local(f.HostPort)), "x"); err != nil {
		t.Error(err)
	}
	g.w.refused(2, "not an IP address", "forward", "reload", g.name, "--guest-ip", "nonsense")
}

// testNobodyListens: a closed port inside gives the client an end, not a wait.
func testNobodyListens(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	f := g.forward("127.0.0.1", port, "tcp")
	g.close("tcp4", "0.0.0.0:0")
	c, err := net.DialTimeout("tcp", local(f.HostPort), patience)
	if err != nil {
		if os.IsTimeout(err) {
			t.Error(err)
		}
		return // the end came even before
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n > 0 || os.IsTimeout(err) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func testRefusedPorts(t *testing.T, g *guest) {
	g.w.refused(3, "192.0.2.1 is not an address of this host", "forward", "add", g.name, "192.0.2.1:0:80")
	g.w.refused(2, "at most 65535", "forward", "add", g.name, "70000:80")
	g.w.refused(2, "the protocol must be", "forward", "add", g.name, "8080:80/sctp")
	g.w.refused(2, "after the", "forward", "add", g.name, "8080:80/")
	g.w.refused(2, "", "forward", "add", g.name, "--", "-5:80")
	g.w.refused(4, "no such instance", "forward", "add", "nobody", "8080:80")
	if os.Geteuid() != 0 && privileged(t) > 80 {
		g.w.refused(3, fmt.Sprintf("net.ipv4.ip_unprivileged_port_start, which is %d", privileged(t)), "forward", "add", g.name, "127.0.0.1:80:80")
	}
}

func privileged(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func handlerOf(g *guest) string { return filepath.Base(filepath.Dir(g.t.Name())) }

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

// testLoopbackGuest: a program on the namespace's own 127.0.0.1 is reached if that is asked for.
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
