package autoports

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

var guest = netip.MustParseAddr("10.0.2.100")

// manager keeps a list of forwards without opening anything.
type manager struct {
	list   []hostfwd.Status
	lastID int
	refuse func(hostfwd.Forward) error
	log    []string

	changes int // calls of Add and Remove
}

func (m *manager) List() []hostfwd.Status { return slices.Clone(m.list) }
func (m *manager) Guest() netip.Addr      { return guest }

func (m *manager) Add(_ context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	m.changes++
	var added []hostfwd.Status
	for i, f := range fs {
		if m.refuse != nil {
			if err := m.refuse(f); err != nil {
				return nil, &hostfwd.AddError{Index: i, Forward: f, Err: err}
			}
		}
		if !f.GuestIP.IsValid() {
			f.GuestIP = guest
		}
		added = append(added, hostfwd.Status{ID: m.lastID + i + 1, Forward: f})
	}
	m.lastID += len(added)
	m.list = append(m.list, added...)
	return added, nil
}

func (m *manager) Remove(_ context.Context, ids []int) error {
	m.changes++
	for _, id := range ids {
		if !slices.ContainsFunc(m.list, func(s hostfwd.Status) bool { return s.ID == id }) {
			return &hostfwd.NotFoundError{ID: id}
		}
	}
	m.list = slices.DeleteFunc(m.list, func(s hostfwd.Status) bool { return slices.Contains(ids, s.ID) })
	return nil
}

func (m *manager) String() string {
	var b strings.Builder
	for _, s := range m.list {
		fmt.Fprintf(&b, "%d=%s ", s.ID, s.Forward)
	}
	return strings.TrimSpace(b.String())
}

// inside has the sockets that listen inside, such as "tcp 0.0.0.0:80".
type inside []hostfwd.Socket

func (in *inside) set(lines ...string) {
	*in = nil
	for _, l := range lines {
		network, at, _ := strings.Cut(l, " ")
		*in = append(*in, hostfwd.Socket{Network: network, Local: netip.MustParseAddrPort(at)})
	}
}

// follow returns a Follower of in that adds its forwards to m.
func follow(m *manager, in *inside, hostIP string) *Follower {
	return New(Config{
		Manager: m, HostIP: netip.MustParseAddr(hostIP), Max: 1000,
		Sockets: func() ([]hostfwd.Socket, error) { return *in, nil },
		Check: func(f hostfwd.Forward) error {
			if f.GuestPort == 9 {
				return errors.New("can't")
			}
			return nil
		},
		Exclude: func(port uint16) bool { return port == 5000 },
		Refuse: func(port uint16) error {
			if port < 20 {
				return errors.New("privileged")
			}
			return nil
		},
		Log: func(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) },
	})
}

func TestFollow(t *testing.T) {
	m, in := &manager{}, &inside{}
	var refused error
	m.refuse = func(f hostfwd.Forward) error {
		if f.HostPort == 22 {
			return refused
		}
		return nil
	}
	f := follow(m, in, "0.0.0.0")
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
	in.set("tcp 0.0.0.0:80", "tcp 0.0.0.0:5000", "tcp 0.0.0.0:9", "udp 10.0.2.100:53", fmt.Sprintf("udp 0.0.0.0:%d", f.first))
	look("1=0.0.0.0:80:10.0.2.100:80/tcp 2=0.0.0.0:53:10.0.2.100:53/udp")
	look("1=0.0.0.0:80:10.0.2.100:80/tcp 2=0.0.0.0:53:10.0.2.100:53/udp")

	// The socket with the most addresses counts, in any order; a local one stays local.
	in.set("tcp 127.0.0.1:80")
	look("3=127.0.0.1:80:127.0.0.1:80/tcp")
	in.set("tcp 127.0.0.1:80", "tcp 172.17.0.1:80")
	look("4=0.0.0.0:80:172.17.0.1:80/tcp")
	in.set("tcp 172.17.0.1:80", "tcp 0.0.0.0:80", "tcp 127.0.0.1:80")
	look("5=0.0.0.0:80:10.0.2.100:80/tcp")

	// The user's forwards win, on the guest's side and on the host's.
	m.list = append(m.list, hostfwd.Status{ID: 100, Forward: hostfwd.Forward{Proto: hostfwd.TCP, HostPort: 8080, GuestIP: guest, GuestPort: 80}})
	look("100=8080:10.0.2.100:80/tcp")
	in.set("tcp 0.0.0.0:8080")
	look("100=8080:10.0.2.100:80/tcp")
	m.list = nil
	look("6=0.0.0.0:8080:10.0.2.100:8080/tcp")

	// Removed by the user: not forwarded again until the program stops and starts.
	m.list = nil
	look("")
	in.set()
	look("")
	in.set("tcp 0.0.0.0:8080", "tcp 0.0.0.0:8081")
	look("7=0.0.0.0:8080:10.0.2.100:8080/tcp 8=0.0.0.0:8081:10.0.2.100:8081/tcp")
	m.list = m.list[1:]
	in.set()
	look("")

	// Refused: logged once, tried again after a while; the others are forwarded.
	refused = errors.New("taken")
	for range 3 {
		in.set()
		look("")
		in.set("tcp 0.0.0.0:21", "tcp 0.0.0.0:22", "tcp 0.0.0.0:23", "tcp 0.0.0.0:19")
		for range retryAfter {
			if err := f.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	look("13=0.0.0.0:21:10.0.2.100:21/tcp 14=0.0.0.0:23:10.0.2.100:23/tcp")
	want := []string{"--publish auto: port 19/tcp is not forwarded: privileged", "--publish auto: port 22/tcp is not forwarded: taken"}
	if !slices.Equal(m.log, want) {
		t.Errorf("log: %q", m.log)
	}
	refused = nil
	for range retryAfter {
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look("13=0.0.0.0:21:10.0.2.100:21/tcp 14=0.0.0.0:23:10.0.2.100:23/tcp 15=0.0.0.0:22:10.0.2.100:22/tcp")
}

// A socket on the namespace's loopback only is forwarded from the host's, even if another
// address is configured.
func TestHostIP(t *testing.T) {
	for hostIP, want := range map[string]string{
		"127.0.0.1": "127.0.0.1 127.0.0.1", "0.0.0.0": "0.0.0.0 127.0.0.1", "192.0.2.1": "192.0.2.1 127.0.0.1", "::": ":: 127.0.0.1", "::1": "::1 ::1",
	} {
		m, in := &manager{}, &inside{}
		in.set("tcp 0.0.0.0:80", "tcp 127.0.0.1:81")
		if err := follow(m, in, hostIP).Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := m.list[0].HostIP.String() + " " + m.list[1].HostIP.String(); got != want {
			t.Errorf("%s: %s, want %s", hostIP, got, want)
		}
	}
}

// Hundreds of ports that open and close cause few changes, and a bounded log.
func TestAttackManyPorts(t *testing.T) {
	m, in := &manager{}, &inside{}
	f := follow(m, in, "127.0.0.1")
	var many, privileged []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf("tcp 0.0.0.0:%d", 20000+i))
		privileged = append(privileged, fmt.Sprintf("tcp 10.0.2.100:%d", 1+i%20), fmt.Sprintf("udp 10.0.2.100:%d", 1+i%20))
	}
	for range 3 {
		in.set(many...)
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(m.list) != f.cfg.Max {
			t.Errorf("%d forwards, want %d", len(m.list), f.cfg.Max)
		}
		in.set()
		if err := f.Look(t.Context()); err != nil || len(m.list) != 0 {
			t.Fatalf("%d forwards are left, %v", len(m.list), err)
		}
	}
	if m.changes != 6 {
		t.Errorf("%d changes, want 6", m.changes)
	}
	m.refuse = func(hostfwd.Forward) error { return errors.New("taken") }
	in.set(append(many, privileged...)...)
	for range 2 * retryAfter {
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.log) != maxLogged+2 {
		t.Errorf("%d lines in the log, want %d", len(m.log), maxLogged+2)
	}
}

// A long poll is followed by a long pause.
func TestRest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m, in := &manager{}, &inside{}
	f := follow(m, in, "127.0.0.1")
	var ends []time.Time
	f.cfg.Sockets = func() ([]hostfwd.Socket, error) {
		if len(ends) == 3 {
			cancel()
		}
		if n := len(ends); n > 0 {
			if pause := time.Since(ends[n-1]); pause < restFactor*interval/4 {
				t.Errorf("after a look of %s a pause of %s", interval/4, pause)
			}
		}
		time.Sleep(interval / 2)
		ends = append(ends, time.Now())
		return nil, nil
	}
	f.Run(ctx)
}
