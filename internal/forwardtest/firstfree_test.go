package forwardtest

import (
	"fmt"
	"net"
	"strconv"
	"testing"
)

// testFirstFree: a range of host ports for one guest port uses the first free one.
func testFirstFree(t *testing.T, g *guest) {
	port := g.listen("tcp4", "0.0.0.0:0", "echo")
	first := freeRange(t, 3)
	l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(first))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spec := fmt.Sprintf("127.0.0.1:%d-%d:%d", first, first+2, port)
	rows := append(g.w.add(g.name, spec), g.w.add(g.name, spec)...)
	for i, r := range rows {
		if r.HostPort != first+1+i || r.GuestPort != port {
			t.Errorf("%+v", rows)
		}
		if err := echo(dial(t, local(r.HostPort)), "x"); err != nil {
			t.Error(err)
		}
	}
	g.w.refused(5, fmt.Sprintf("no host port of %d-%d is free", first, first+2), "forward", "add", g.name, spec)
	if set := g.w.rows("forward", "set", g.name, spec, spec); len(set) != 2 || set[0].ID != rows[0].ID || set[1].ID != rows[1].ID {
		t.Errorf("set what is there already: %+v, was %+v", set, rows)
	}
	g.remove(spec) // finds both
	if n := len(g.ids()); n != 0 {
		t.Errorf("%d forwards are left", n)
	}
}

// testWhoIsInTheWay: a port in use by a connection, or on the other address family, is explained.
func testWhoIsInTheWay(t *testing.T, g *guest) {
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}).Dial("tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	g.w.refused(5, "is in use by a connection of "+comm(t)+" (pid ", "forward", "add", g.name, fmt.Sprintf("%d:80", client.LocalAddr().(*net.TCPAddr).Port))
	six, err := net.Listen("tcp6", "[::]:0") // for IPv6 only
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	port := six.Addr().(*net.TCPAddr).Port
	spec := fmt.Sprintf("0.0.0.0:%d:80", port)
	if r := g.w.run("forward", "add", g.name, spec); r.code != 0 { // a handler that uses both families
		g.w.refused(5, fmt.Sprintf("0.0.0.0:%d/tcp is in use by %s (pid ", port, comm(t)), "forward", "add", g.name, spec)
	}
}
