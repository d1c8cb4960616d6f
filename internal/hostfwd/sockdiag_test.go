package hostfwd

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListening looks for its own sockets.
func TestListening(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Fatal(err)
	}
	d := NewSockDiag(fd)
	defer d.Close()
	has := func(network string, a net.Addr, v6only bool) bool {
		t.Helper()
		list, err := d.Listening()
		if err != nil {
			t.Fatal(err)
		}
		at := netip.MustParseAddrPort(a.String())
		return slices.ContainsFunc(list, func(s Socket) bool {
			return s.Network == network && s.Local == at && s.V6Only == v6only
		})
	}
	l4, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u4, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u4.Close()
	client, err := net.Dial("udp4", u4.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	l6, err := net.Listen("tcp6", "[::]:0") // for IPv6 only
	if err != nil {
		t.Fatal(err)
	}
	defer l6.Close()
	for _, w := range []struct {
		network string
		at      net.Addr
		v6only  bool
	}{{"tcp", l4.Addr(), false}, {"udp", u4.LocalAddr(), false}, {"tcp", l6.Addr(), true}} {
		if !has(w.network, w.at, w.v6only) {
			t.Errorf("%+v is not found", w)
		}
	}
	if has("udp", client.LocalAddr(), false) {
		t.Error("a socket with a peer is found")
	}
	l4.Close()
	if has("tcp", l4.Addr(), false) {
		t.Error("a listener is found after it was closed")
	}
}

// A dump without a handler in the kernel ends with an error number, not with an empty list.
func TestDumpError(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Fatal(err)
	}
	d := NewSockDiag(fd)
	defer d.Close()
	if out, err := d.askFamily(nil, unix.AF_INET, unix.IPPROTO_IGMP, anyState, 0); err == nil {
		t.Errorf("IGMP has the sockets %v", out)
	}
	if _, err := d.Listening(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestParseDiag(t *testing.T) {
	for _, data := range [][]byte{nil, make([]byte, diagMessageLen-1), make([]byte, diagMessageLen)} {
		if s, ok := parseDiag(data, "tcp"); ok {
			t.Errorf("%d zeroes: %+v", len(data), s)
		}
	}
	data := make([]byte, diagMessageLen+3)
	data[0], data[4], data[diagMessageLen] = unix.AF_INET6, 1, 200 // a truncated attribute
	if s, ok := parseDiag(data, "tcp"); !ok || s.V6Only || s.Local.Port() != 256 {
		t.Errorf("%+v, %t", s, ok)
	}
}

func TestBlocks(t *testing.T) {
	for _, tt := range []struct {
		at     string
		v6only bool
		spec   string
		want   bool
	}{
		{"127.0.0.1:8080", false, "127.0.0.1:8080:80", true},
		{"127.0.0.1:8080", false, "0.0.0.0:8080:80", true},
		{"127.0.0.1:8080", false, "127.0.0.2:8080:80", false},
		{"0.0.0.0:8080", false, "127.0.0.1:8080:80", true},
		{"[::]:8080", false, "127.0.0.1:8080:80", true},
		{"[::]:8080", true, "127.0.0.1:8080:80", false},
		{"[::]:8080", true, "[::1]:8080:80", true},
		{"127.0.0.1:8080", false, "[::]:8080:80", true},
		{"127.0.0.1:8080", false, "[::]:8080:80/tcp6", false},
		{"[::1]:8080", false, "[::]:8080:80/tcp6", true},
	} {
		s := Socket{Network: "tcp", Local: netip.MustParseAddrPort(tt.at), V6Only: tt.v6only}
		if got := s.blocks(forwards(t, tt.spec)[0]); got != tt.want {
			t.Errorf("%s, %s: got %v", tt.at, tt.spec, got)
		}
	}
}

// TestWhoHoldsThePort checks the description of every way in which a socket can occupy a port.
func TestWhoHoldsThePort(t *testing.T) {
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	bound := func(family int, sa unix.Sockaddr) int {
		t.Helper()
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if family == unix.AF_INET6 {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		}
		if err == nil {
			err = unix.Bind(fd, sa)
		}
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	port := func(fd int) uint16 {
		t.Helper()
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		if six, ok := sa.(*unix.SockaddrInet6); ok {
			return uint16(six.Port)
		}
		return uint16(sa.(*unix.SockaddrInet4).Port)
	}
	connected := func() int {
		t.Helper()
		fd := bound(unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: server.Addr().(*net.TCPAddr).Port}); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	by := " (pid "
	conn := connected()
	defer unix.Close(conn)
	ended := connected()
	endedPort := port(ended)
	other, err := server.Accept()
	if err == nil {
		defer other.Close()
		other, err = server.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(ended) // first, so that the client's side is in TIME_WAIT
	other.Close()
	six := bound(unix.AF_INET6, &unix.SockaddrInet6{})
	defer unix.Close(six)
	if err := unix.Listen(six, 1); err != nil {
		t.Fatal(err)
	}
	idle := bound(unix.AF_INET, &unix.SockaddrInet4{})
	defer unix.Close(idle)

	want := func(f Forward, text string) {
		t.Helper()
		if err := Explain(f, unix.EADDRINUSE); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", f, err, text)
		}
	}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "::"} {
		f := Forward{Proto: TCP, HostIP: ip(host), HostPort: port(conn), GuestPort: 80}
		want(f, "is in use by a connection of "+hostname(t)+by)
		f.HostPort = endedPort
		want(f, "is in use by a connection that has just ended")
		f.HostPort = port(six)
		want(f, "is in use by "+hostname(t)+by) // 0.0.0.0 too, if a handler uses both families
		f.HostPort = port(idle)
		want(f, "is in use by "+hostname(t)+by)
	}
}
