package autoports

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

var guest = netip.MustParseAddr("10.0.2.100")

// manager keeps forwards without opening anything.
type manager struct {
	list   []hostfwd.Status
	lastID int
	refuse func(hostfwd.Forward) error
	log    []string
}

func (m *manager) List() []hostfwd.Status { return slices.Clone(m.list) }
func (m *manager) Guest() netip.Addr      { return guest }

func (m *manager) Add(_ context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	f := fs[0]
	if m.refuse != nil {
		if err := m.refuse(f); err != nil {
			return nil, &hostfwd.AddError{Forward: f, Err: err}
		}
	}
	if !f.GuestIP.IsValid() {
		f.GuestIP = guest
	}
	m.lastID++
	m.list = append(m.list, hostfwd.Status{ID: m.lastID, Forward: f})
	return m.list[len(m.list)-1:], nil
}

func (m *manager) Remove(_ context.Context, ids []int) error {
	before := len(m.list)
	m.list = slices.DeleteFunc(m.list, func(s hostfwd.Status) bool { return s.ID == ids[0] })
	if len(m.list) == before {
		return &hostfwd.NotFoundError{ID: ids[0]}
	}
	return nil
}

func (m *manager) String() string {
	var b strings.Builder
	for _, s := range m.list {
		fmt.Fprintf(&b, "%d=%s ", s.ID, s.Forward)
	}
	return strings.TrimSpace(b.String())
}

// fakeTables are files that stand for /proc/PID/net.
func fakeTables(t *testing.T) (write func(name string, lines ...string), s *Scanner) {
	t.Helper()
	dir := t.TempDir()
	write = func(name string, lines ...string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+name, []byte("header\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"tcp", "udp"} {
		write(name)
	}
	s, err := newTables(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return write, s
}

func line(state, ip string, port int) string {
	b := netip.MustParseAddr(ip).As4()
	return fmt.Sprintf("0: %02X%02X%02X%02X:%04X 00000000:0000 %s 0:0 0:0 0 0 0 7", b[3], b[2], b[1], b[0], port, state)
}

func TestFollow(t *testing.T) {
	const listen, unconnected, connected = "0A", "07", "01"
	m := &manager{}
	write, scan := fakeTables(t)
	var refused error
	m.refuse = func(f hostfwd.Forward) error {
		if f.HostPort == 22 {
			return refused
		}
		return nil
	}
	f := New(Config{
		Manager: m, Scan: scan,
		Check: func(f hostfwd.Forward) error {
			if f.GuestPort == 9 {
				return errors.New("can't")
			}
			return nil
		},
		Exclude: func(port uint16) bool { return port == 5000 },
		Log:     func(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) },
	})
	look := func(want string) {
		t.Helper()
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := m.String(); got != want {
			t.Fatalf("forwards: %s, want %s", got, want)
		}
	}
	look("")
	write("tcp", line(listen, "0.0.0.0", 80), line(listen, "0.0.0.0", 5000), line(connected, "0.0.0.0", 81), line(listen, "0.0.0.0", 9))
	write("udp", line(unconnected, "10.0.2.100", 53), line(unconnected, "0.0.0.0", int(f.first)), line(connected, "0.0.0.0", 54))
	look("1=80:10.0.2.100:80/tcp 2=53:10.0.2.100:53/udp")
	look("1=80:10.0.2.100:80/tcp 2=53:10.0.2.100:53/udp")

	// What reaches most counts, in whatever order; what was local stays local.
	write("udp")
	write("tcp", line(listen, "127.0.0.1", 80))
	look("3=127.0.0.1:80:127.0.0.1:80/tcp")
	write("tcp", line(listen, "127.0.0.1", 80), line(listen, "172.17.0.1", 80))
	look("4=80:172.17.0.1:80/tcp")
	write("tcp", line(listen, "172.17.0.1", 80), line(listen, "0.0.0.0", 80), line(listen, "127.0.0.1", 80))
	look("5=80:10.0.2.100:80/tcp")

	// By hand wins, on the guest's side and on the host's.
	m.list = append(m.list, hostfwd.Status{ID: 100, Forward: hostfwd.Forward{Proto: hostfwd.TCP, HostPort: 8080, GuestIP: guest, GuestPort: 80}})
	look("100=8080:10.0.2.100:80/tcp")
	write("tcp", line(listen, "0.0.0.0", 8080))
	look("100=8080:10.0.2.100:80/tcp")
	m.list = nil
	look("6=8080:10.0.2.100:8080/tcp")

	// Removed by hand: not again until the program stops and starts.
	m.list = nil
	look("")
	write("tcp")
	look("")
	write("tcp", line(listen, "0.0.0.0", 8080))
	look("7=8080:10.0.2.100:8080/tcp")

	// Refused: said once, tried again after a while.
	refused = errors.New("taken")
	write("tcp", line(listen, "0.0.0.0", 22))
	for range patience {
		look("")
	}
	if want := []string{"--publish auto: port 22/tcp is not forwarded: taken"}; !slices.Equal(m.log, want) {
		t.Errorf("log: %q", m.log)
	}
	refused = nil
	look("8=22:10.0.2.100:22/tcp")
}

// TestScan looks for sockets of its own, in both ways.
func TestScan(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Fatal(err)
	}
	for name, diag := range map[string]int{"sock_diag": fd, "tables": -1} {
		t.Run(name, func(t *testing.T) {
			s, err := NewScanner(os.Getpid(), diag)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, asks := s.from.(*diagSocket)
			if diag >= 0 && !asks {
				const reason = "this kernel has no sock_diag(7) for TCP and UDP"
				if os.Getenv("CI") != "" {
					t.Fatal(reason)
				}
				t.Skip(reason)
			}
			list := func() []socket {
				t.Helper()
				list, err := s.scan()
				if err != nil {
					t.Fatal(err)
				}
				return list
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
			at := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
			want := socket{"tcp", at(l4.Addr()), false}
			for _, w := range []socket{want, {"udp", at(u4.LocalAddr()), false}, {"tcp", at(l6.Addr()), asks}} {
				if !slices.Contains(list(), w) {
					t.Errorf("%+v is not found", w)
				}
			}
			if slices.Contains(list(), socket{"udp", at(client.LocalAddr()), false}) {
				t.Error("a socket with a peer is found")
			}
			l4.Close()
			if slices.Contains(list(), want) {
				t.Errorf("%+v is found after it was closed", want)
			}
		})
	}
}

func TestParseDiag(t *testing.T) {
	for _, data := range [][]byte{nil, make([]byte, diagMessageLen-1), make([]byte, diagMessageLen)} {
		if s, ok := parseDiag(data, "tcp"); ok {
			t.Errorf("%d zeroes: %+v", len(data), s)
		}
	}
	data := make([]byte, diagMessageLen+3)
	data[0], data[4], data[diagMessageLen] = unix.AF_INET6, 1, 200 // an attribute that is cut off
	if s, ok := parseDiag(data, "tcp"); !ok || s.v6only || s.at.Port() != 256 {
		t.Errorf("%+v, %t", s, ok)
	}
}
