package forwardtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// freeRange returns the first of n free host ports, below the ephemeral range.
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

// testRemove: open connections continue, or end at once with rootlesskit; new ones are
// refused.
func testRemove(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	f := g.forward("127.0.0.1", port, "tcp")
	c := dial(t, local(f.HostPort))
	if err := echo(c, "before"); err != nil {
		t.Fatal(err)
	}
	g.remove(strconv.Itoa(f.ID))
	if handlerOf(g) == "rootlesskit" {
		// RootlessKit closes them asynchronously when the forward is removed.
		eventually(t, func() error {
			switch err := echo(c, "after"); {
			case err == nil:
				return errors.New("the open connection goes on")
			case os.IsTimeout(err):
				t.Fatalf("the open connection hangs: %v", err)
			}
			return nil
		})
	} else if err := echo(c, "after"); err != nil {
		t.Errorf("the open connection: %v", err)
	}
	if c, err := net.Dial("tcp", local(f.HostPort)); err == nil {
		c.Close()
		t.Error("the port still takes connections")
	}
	g.w.refused(4, fmt.Sprintf("there is no forward %d", f.ID), "forward", "remove", g.name, strconv.Itoa(f.ID))

	// By spec, all or none.
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

// taken occupies a host port for the duration of the test.
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

// comm returns this process's name, as others see it.
func comm(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// testSet: forwards that remain are not touched, and a failure changes nothing.
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
	const elsewhere = "10.0.2.101"
	g.tell("run ip addr add %s/24 dev tap0", elsewhere)
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	otherPort := g.listen("tcp4", elsewhere+":0", "echo") // not on the guest address
	f := g.forward("127.0.0.1", port, "tcp")
	other := g.forward("127.0.0.1", otherPort, "tcp")
	check := func(guest string, args ...string) {
		t.Helper()
		f.GuestIP, other.GuestIP = guest, guest
		rows := g.w.rows(append([]string{"forward", "reload", g.name}, args...)...)
		if len(rows) != 2 || rows[0] != f || rows[1] != other {
			t.Errorf("reload %s: %+v, want %+v and %+v", args, rows, f, other)
		}
		if err := echo(dial(t, local(f.HostPort)), "x"); err != nil {
			t.Errorf("reload %s: %v", args, err)
		}
	}
	check("10.0.2.100")
	check(elsewhere, "--guest-ip", elsewhere)
	if err := echo(dial(t, local(other.HostPort)), "x"); err != nil {
		t.Errorf("the new address: %v", err)
	}
	check("10.0.2.100", "--guest-ip", "10.0.2.100")
	g.w.refused(2, "not an IP address", "forward", "reload", g.name, "--guest-ip", "nonsense")
	g.w.refused(2, "guest address", "forward", "reload", g.name, "--guest-ip", "0.0.0.0")
	g.tell("run ip addr del %s/24 dev tap0", elsewhere)
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
