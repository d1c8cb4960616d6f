package slirpapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

func TestRealClient(t *testing.T) {
	s := startReal(t)
	c := &Client{Path: s.path}
	port := freePort(t)
	f := hostfwd.Forward{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: uint16(port), GuestIP: netip.MustParseAddr("10.0.2.7"), GuestPort: 80}
	if id, err := c.Add(t.Context(), f); err != nil || id != 1 {
		t.Fatal(id, err)
	}
	if !listens(f) {
		t.Error("nobody listens")
	}
	got, err := c.List(t.Context())
	if err != nil || !slices.Equal(got, []hostfwd.Status{{ID: 1, Forward: f}}) {
		t.Errorf("got %v, %v; want %v", got, err, f)
	}
	if _, err := c.Add(t.Context(), f); !isRefused(err) {
		t.Errorf("a port twice: %v", err)
	}
	if err := c.Remove(t.Context(), 77); !isRefused(err) {
		t.Errorf("an unknown id: %v", err)
	}
	if err := c.Remove(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("slirp4netns: %v", err)
	}
	if _, err := c.List(t.Context()); !isUnreachable(err) || !gone(err) {
		t.Errorf("after its end: %v", err)
	}
}

// None of these may reach slirp4netns: at its end, its log has no add request.
func TestRealNeverSent(t *testing.T) {
	s := startReal(t)
	foreign := &Foreign{Client: Client{Path: s.path}, Network: network}
	if err := foreign.Remove(t.Context(), []int{-1}, nil); !errors.Is(err, fault.NotFound) {
		t.Errorf("id -1: %v", err)
	}
	for _, f := range []hostfwd.Forward{
		{HostPort: 20000, GuestPort: 80},
		{Proto: "sctp", HostPort: 20000, GuestPort: 80},
		{Proto: "tcp", HostIP: netip.IPv6LinkLocalAllNodes(), HostPort: 20000, GuestPort: 80},
		{Proto: "tcp", HostPort: 20000, GuestIP: netip.IPv6Unspecified(), GuestPort: 80},
		{Proto: "tcp", HostPort: 20000, GuestIP: netip.MustParseAddr("224.0.0.1"), GuestPort: 80},
		{Proto: "tcp", HostPort: 20000, GuestIP: netip.MustParseAddr("0.0.0.0"), GuestPort: 80},
		{Proto: "tcp", HostPort: 20000, GuestIP: netip.MustParseAddr("192.168.1.1"), GuestPort: 80},
		{Proto: "tcp", HostPort: 20000, GuestIP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80},
		{Proto: "tcp6", HostPort: 20000, GuestPort: 80},
		{Proto: "tcp", HostPort: 20000},
	} {
		if _, err := foreign.Add(t.Context(), []hostfwd.Forward{f}); err == nil {
			t.Errorf("%v: no error", f)
		}
	}
	if err := s.stop(); err != nil {
		t.Errorf("slirp4netns: %v", err)
	}
	if strings.Contains(s.log.String(), "add_hostfwd") || strings.Contains(s.log.String(), "remove_hostfwd") {
		t.Errorf("it got a request:\n%s", s.log.String())
	}
}

func TestRealHandler(t *testing.T) {
	s := startReal(t)
	h, m := s.newManager(t)
	port := freePort(t)
	list, err := m.Add(t.Context(), forwards(t, fmt.Sprintf("127.0.0.1:%d:80/tcp,udp", port), "127.0.0.1:0:53/tcp,udp"))
	if err != nil {
		t.Fatal(err)
	}
	if list[2].HostPort == 0 || list[2].HostPort != list[3].HostPort {
		t.Errorf("port 0: %v", list)
	}
	for i, st := range list {
		if st.ID != i+1 || (st.Proto == hostfwd.TCP && !listens(st.Forward)) {
			t.Errorf("%v", st)
		}
	}
	before := entryLines(t, s.path)

	// slirp4netns dies and is restarted: same ids, same ports. slirp4netns's own ids differ.
	if err := m.Remove(t.Context(), []int{1}); err != nil {
		t.Fatal(err)
	}
	want := m.List()
	s.kill()
	h.Reset()
	s.start(t)
	if err := m.Remove(t.Context(), []int{2}); err != nil { // removed already
		t.Error(err)
	}
	if err := m.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.List(); !slices.Equal(got, want[1:]) {
		t.Errorf("got %v, want %v", got, want[1:])
	}
	if got := entryLines(t, s.path); len(got) != 2 || len(before) != 4 {
		t.Errorf("before %q, after %q", before, got)
	}
	if !listens(list[2].Forward) {
		t.Error("port 0 does not listen again")
	}
	if err := m.Remove(t.Context(), []int{3}); err != nil || listens(list[2].Forward) {
		t.Errorf("removed: %v, listens %v", err, listens(list[2].Forward))
	}
	s.kill()
	if err := m.Remove(t.Context(), []int{4}); err != nil { // without slirp4netns, it is closed already
		t.Error(err)
	}
}

func TestRealReasons(t *testing.T) {
	s := startReal(t)
	_, m := s.newManager(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := netip.MustParseAddrPort(l.Addr().String()).Port()
	port := freePort(t)

	_, err = m.Add(t.Context(), forwards(t, fmt.Sprintf("%d-%d:1-2", port, port+1), fmt.Sprintf("127.0.0.1:%d:80", taken)))
	var ae *hostfwd.AddError
	if !asErr(err, &ae) || ae.Index != 2 || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("in use: %v", err)
	}
	if got := entryLines(t, s.path); len(got) != 0 {
		t.Errorf("left of the batch: %q", got)
	}
	if _, err := m.Add(t.Context(), forwards(t, fmt.Sprintf("192.0.2.1:%d:80", port))); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("not local: %v", err)
	}
	for _, spec := range []string{"[::1]:8080:80", "8080:80/udp6", "8080:[fd00::5]:80", "8080:127.0.0.1:80"} {
		_, err := m.Add(t.Context(), forwards(t, spec))
		if !errors.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "rootlesskit and direct can") {
			t.Errorf("%s: %v", spec, err)
		}
	}
	// A port of the same slirp4netns: the error names that process.
	if _, err := m.Add(t.Context(), forwards(t, fmt.Sprintf("127.0.0.1:%d:80", port))); err != nil {
		t.Fatal(err)
	}
	_, other := s.newManager(t)
	if _, err := other.Add(t.Context(), forwards(t, fmt.Sprintf("%d:80", port))); err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf("by slirp4netns (pid %d)", s.cmd.Process.Pid)) {
		t.Errorf("its own port: %v", err)
	}
}

// If slirp4netns has few descriptors left, the error names its limit.
func TestRealOpenFileLimit(t *testing.T) {
	s := startReal(t)
	_, m := s.newManager(t)
	s.raiseFiles(t, 24)
	_, err := m.Add(t.Context(), forwards(t, ownLoopback()+":20000-20039:1-40"))
	if err == nil || !strings.Contains(err.Error(), "the limit is 24") {
		t.Fatalf("40 forwards with 24 files: %v", err)
	}
	if got := entryLines(t, s.path); len(got) != 0 {
		t.Errorf("left of the batch: %q", got)
	}
}

func TestRealForeign(t *testing.T) {
	s := startReal(t, "--cidr=10.9.0.0/16")
	f := &Foreign{Client: Client{Path: s.path}, Network: network}
	ctx := t.Context()
	port := freePort(t)
	spec := func(format string, add int) string { return fmt.Sprintf(format, port+add) }

	list, err := f.Add(ctx, forwards(t, spec("127.0.0.1:%d:80", 0), spec("127.0.0.1:%d:10.9.3.3:81/udp", 1), "127.0.0.1::82"))
	if err != nil {
		t.Fatal(err)
	}
	if list[0].GuestIP != netip.MustParseAddr("10.9.0.100") || list[0].ID != 1 || list[2].ID != 3 {
		t.Errorf("got %v", list)
	}
	if got, err := f.List(ctx); err != nil || !slices.Equal(got, list) {
		t.Errorf("list %v, %v; want %v", got, err, list)
	}
	if _, err := f.Add(ctx, forwards(t, "8080:10.0.2.100:80")); err == nil || !strings.Contains(err.Error(), "outside the network 10.9.0.0/16") {
		t.Errorf("guest outside: %v", err)
	}
	if _, err := f.Add(ctx, forwards(t, spec("%d:1", 5), spec("%d:2", 0))); err == nil {
		t.Error("a conflict, and no error")
	}
	var nf *hostfwd.NotFoundError
	if err := f.Remove(ctx, []int{1, 9}, nil); !asErr(err, &nf) {
		t.Errorf("unknown id: %v", err)
	}
	udp, _ := hostfwd.ParseSpec("81/udp")
	none, _ := hostfwd.ParseSpec("99")
	if err := f.Remove(ctx, []int{1}, []hostfwd.Spec{udp, none}); !errors.Is(err, fault.NotFound) {
		t.Errorf("unknown spec: %v", err)
	}
	if got, _ := f.List(ctx); !slices.Equal(got, list) {
		t.Errorf("after refusals: %v", got)
	}
	if err := f.Remove(ctx, nil, []hostfwd.Spec{udp}); err != nil {
		t.Fatal(err)
	}
	// 1 remains, 3 remains as a free port, one is new on another port, and the rest is removed.
	after, err := f.Set(ctx, forwards(t, spec("127.0.0.1:%d:80", 0), "127.0.0.1::82", spec("127.0.0.1:%d:83", 3)))
	if err != nil || after[0] != list[0] || after[1] != list[2] || after[2].ID != 4 {
		t.Errorf("set: %v, %v", after, err)
	}
	if after, err = f.Set(ctx, forwards(t, spec("%d:80", 0))); err != nil || len(after) != 1 || after[0].ID != 5 {
		t.Errorf("set: %v, %v", after, err)
	}
	if got, _ := f.List(ctx); !slices.Equal(got, after) {
		t.Errorf("got %v, want %v", got, after)
	}
	if err := f.Remove(ctx, []int{5}, nil); err != nil {
		t.Error(err)
	}
}

// A forward that another client added with odd values is listed as what it does, and can be removed.
func TestRealForeignOddPorts(t *testing.T) {
	s := startReal(t)
	port := uint16(freePort(t))
	odd := 65536 + int(port) // binds port
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, `{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"guest_port":80.5}}`, odd)
	reply, _ := io.ReadAll(conn)
	conn.Close()
	if !strings.Contains(string(reply), "return") {
		t.Fatalf("%s", reply)
	}
	f := &Foreign{Client: Client{Path: s.path}, Network: network}
	list, err := f.List(t.Context())
	if err != nil || len(list) != 1 || list[0].HostPort != port || list[0].GuestPort != 80 || !listens(list[0].Forward) {
		t.Fatalf("got %v, %v", list, err)
	}
	spec, _ := hostfwd.ParseSpec(fmt.Sprintf("%d:80", port))
	if err := f.Remove(t.Context(), nil, []hostfwd.Spec{spec}); err != nil {
		t.Error(err)
	}
}

func TestReal1100(t *testing.T) {
	s := startReal(t)
	s.raiseFiles(t, 4096)
	_, m := s.newManager(t)
	if _, err := m.Add(t.Context(), forwards(t, ownLoopback()+":20000-21099:1-1100")); err != nil {
		t.Fatal(err)
	}
	f := &Foreign{Client: Client{Path: s.path}, Network: network}
	list, err := f.List(t.Context())
	if err != nil || len(list) != 1100 || list[1099].ID != 1100 || list[1099].HostPort != 21099 {
		t.Fatalf("%d listed, %v", len(list), err)
	}
}

func BenchmarkAdd1000(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := startReal(b)
		s.raiseFiles(b, 4096)
		_, m := s.newManager(b)
		fs := forwards(b, ownLoopback()+":20000-20999:1-1000")
		b.StartTimer()
		if _, err := m.Add(b.Context(), fs); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.stop()
		b.StartTimer()
	}
}

func BenchmarkList1000(b *testing.B) {
	s := startReal(b)
	s.raiseFiles(b, 4096)
	_, m := s.newManager(b)
	if _, err := m.Add(b.Context(), forwards(b, ownLoopback()+":20000-20999:1-1000")); err != nil {
		b.Fatal(err)
	}
	f := &Foreign{Client: Client{Path: s.path}, Network: network}
	for b.Loop() {
		if _, err := f.List(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
