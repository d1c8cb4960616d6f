package hostfwd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
)

func TestAddListRemove(t *testing.T) {
	h := newFake()
	changes := 0
	m := NewManager(h, Config{Guest: ip("10.0.2.100"), OnChange: func() { changes++ }})
	wantLines(t, mustAdd(t, m, "8080-8081:80-81", "[::1]:53:10.0.2.7:53/udp", "8080:80/tcp6"),
		"1 0.0.0.0:8080:10.0.2.100:80/tcp", "2 0.0.0.0:8081:10.0.2.100:81/tcp",
		"3 [::1]:53:10.0.2.7:53/udp", "4 [::]:8080:10.0.2.100:80/tcp6")
	var nf *NotFoundError
	if err := m.Remove(t.Context(), []int{1, 9}); !errors.As(err, &nf) || nf.ID != 9 {
		t.Fatalf("removing an unknown id: %v", err)
	}
	if n := len(m.List()); n != 4 {
		t.Fatalf("%d are left after a refused removal", n)
	}
	if err := m.Remove(t.Context(), []int{3, 1, 3}); err != nil {
		t.Fatal(err)
	}
	wantLines(t, m.List(), "2 0.0.0.0:8081:10.0.2.100:81/tcp", "4 [::]:8080:10.0.2.100:80/tcp6")
	wantLines(t, mustAdd(t, m, "8080:80"), "5 0.0.0.0:8080:10.0.2.100:80/tcp")
	if changes != 3 {
		t.Errorf("OnChange was called %d times, want 3", changes)
	}
	if err := m.Close(); err != nil || len(m.List()) != 0 || len(h.open) != 0 {
		t.Errorf("after Close: %v, %v, %v", err, m.List(), h.open)
	}
	if _, err := m.Add(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after Close: %v", err)
	}
}

func TestAddAllOrNothing(t *testing.T) {
	h := newFake()
	h.refuse = refusePort(8082)
	m := newTestManager(t, h)
	_, err := m.Add(t.Context(), forwards(t, "0:1", "8080:80", "8082:82", "8083:83"))
	wantAddError(t, err, 2, inUse)
	if want := "forward 8082:82/tcp: 0.0.0.0:8082/tcp is in use by nginx (pid 7)"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if len(h.open) != 0 || len(m.List()) != 0 || len(m.taken) != 0 {
		t.Errorf("left: %v, %v, %v", h.guests(), m.List(), m.taken)
	}
	h.refuse = nil
	wantLines(t, mustAdd(t, m, "8080:80"), "1 0.0.0.0:8080:10.0.2.100:80/tcp")
}

func TestAddRollbackFails(t *testing.T) {
	h := newFake()
	h.refuse = refusePort(8082)
	boom := errors.New("boom")
	h.closeErr = func(Forward) error { return boom }
	_, err := newTestManager(t, h).Add(t.Context(), forwards(t, "8080:80", "8082:82"))
	wantAddError(t, err, 1, boom)
	if !strings.Contains(err.Error(), "could not be taken back") {
		t.Error(err)
	}
}

func TestAddChecksFirst(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  Forward
		want string
	}{
		{"handler", Forward{Proto: TCP, HostPort: 1, GuestPort: 666}, "port 666"},
		{"no proto", Forward{HostPort: 1, GuestPort: 1}, "proto"},
		{"proto", Forward{Proto: "sctp", HostPort: 1, GuestPort: 1}, "proto"},
		{"guest port", Forward{Proto: TCP, HostPort: 1}, "guest port"},
		{"family", Forward{Proto: TCP6, HostIP: ip("127.0.0.1"), HostPort: 1, GuestPort: 1}, "does not fit"},
		{"unspecified", Forward{Proto: TCP, HostPort: 1, GuestIP: ip("0.0.0.0"), GuestPort: 1}, "is not a valid destination"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newFake()
			m := NewManager(h, Config{Guest: ip("10.0.2.100")})
			_, err := m.Add(t.Context(), []Forward{{Proto: TCP, HostPort: 9, GuestPort: 9}, tt.bad})
			wantAddError(t, err, 1, nil)
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			wantLog(t, h) // nothing was opened
		})
	}
	h := newFake()
	m := NewManager(h, Config{})
	if _, err := m.Add(t.Context(), forwards(t, "1:1")); err == nil {
		t.Error("no guest address, and no error")
	}
	if _, err := m.Add(t.Context(), forwards(t, "1:127.0.0.1:1", "2:[fd00::5]:2")); err != nil {
		t.Error("loopback and the other family:", err)
	}
}

func TestConflicts(t *testing.T) {
	for _, tt := range []struct {
		have, want string
		conflict   bool
	}{
		{"80:80", "80:81", true},
		{"0.0.0.0:80:80", "127.0.0.1:80:80", true},
		{"127.0.0.1:80:80", "80:80", true},
		{"127.0.0.1:80:80", "127.0.0.2:80:80", false},
		{"80:80", "80:80/udp", false},
		{"80:80", "80:80/tcp4", true},
		{"80:80", "80:80/tcp6", false},
		{"[::1]:80:80", "[::]:80:80", true},
		{"[::1]:80:80", "127.0.0.1:80:80", false},
		{"[fe80::1%a]:80:80", "[fe80::1%b]:80:80", false},
		// [::] has the IPv4 port too.
		{"[::]:80:80", "80:80", true},
		{"80:80", "[::]:80:80", true},
		{"127.0.0.1:80:80", "[::]:80:80", true},
		{"[::]:53:53/udp", "127.0.0.1:53:53/udp", true},
		{"[::]:80:80/tcp6", "80:80", false},
		{"80:80", "[::]:80:80/tcp6", false},
		{"[::]:80:80", "80:80/udp", false},
	} {
		t.Run(tt.have+" "+tt.want, func(t *testing.T) {
			for _, together := range []bool{true, false} {
				h := newFake()
				m := newTestManager(t, h)
				var err error
				if together {
					_, err = m.Add(t.Context(), forwards(t, tt.have, tt.want))
				} else {
					mustAdd(t, m, tt.have)
					_, err = m.Add(t.Context(), forwards(t, tt.want))
				}
				if got := errors.Is(err, fault.Conflict); got != tt.conflict || got != errors.Is(err, inUse) {
					t.Errorf("together %v: %v", together, err)
				}
				if with := map[bool]string{true: "requested twice", false: "forwarded by 1 "}[together]; err != nil && !strings.Contains(err.Error(), with) {
					t.Errorf("%v, want %q", err, with)
				}
			}
		})
	}
}

func TestPortZero(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	list := mustAdd(t, m, "0:53/tcp,udp", "80", "80")
	if list[0].HostPort == 0 || list[0].HostPort != list[1].HostPort {
		t.Errorf("tcp and udp of one spec: %q", lines(list))
	}
	if list[2].HostPort == list[3].HostPort || list[2].HostPort == 0 {
		t.Errorf("two specs: %q", lines(list))
	}
	// The first pick is taken for udp: both get another one.
	h.refuse = func(f Forward) error {
		if f.Proto == UDP && f.HostPort%2 == 1 {
			return portInUse(f, Process{}, holdsOpen)
		}
		return nil
	}
	h.next = 50000
	list = mustAdd(t, m, "0:54/tcp,udp")
	if list[0].HostPort != 50002 || list[1].HostPort != 50002 {
		t.Errorf("got %q", lines(list))
	}
	// No number is free for both: each gets its own.
	h.refuse = func(f Forward) error {
		if (f.Proto == UDP) == (f.HostPort%2 == 0) {
			return portInUse(f, Process{}, holdsOpen)
		}
		return nil
	}
	h.next = 60001
	list, err := m.Add(t.Context(), forwards(t, "0:55/udp"))
	if err != nil {
		t.Fatal("a free port for one:", err)
	}
	if list[0].HostPort == 0 {
		t.Errorf("got %q", lines(list))
	}
	// An error of another kind ends the attempts.
	boom := errors.New("boom")
	tries := 0
	h.refuse = func(Forward) error { tries++; return boom }
	_, err = m.Add(t.Context(), forwards(t, "0:56/tcp,udp"))
	wantAddError(t, err, 0, boom)
	if tries != 1 {
		t.Errorf("%d tries", tries)
	}
}

func TestPortZeroAvoidsTheBatch(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	list := mustAdd(t, m, "80", "40001:81") // the fake's first pick would be 40001
	if list[0].HostPort == 40001 || list[1].HostPort != 40001 || list[0].ID != 1 {
		t.Errorf("got %q", lines(list))
	}
}

func TestAddCancelled(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	h.refuse = func(f Forward) error {
		if f.HostPort == 2 {
			cancel()
		}
		return nil
	}
	_, err := m.Add(ctx, forwards(t, "1:1", "2:2", "3:3"))
	if !errors.Is(err, context.Canceled) || len(h.open) != 0 || len(m.taken) != 0 {
		t.Errorf("got %v; open %v", err, h.guests())
	}
}

func TestConcurrentUse(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for k := range 20 {
				port := 1000 + i*20 + k
				list, err := m.Add(context.Background(), forwards(t, fmt.Sprintf("%d:80/tcp,udp", port)))
				if err != nil {
					t.Error(err)
					return
				}
				for _, s := range m.List() {
					if s.ID == 0 || s.HostPort == 0 {
						t.Errorf("half a forward: %v", s)
					}
				}
				if k%2 == 0 {
					if err := m.Remove(context.Background(), []int{list[0].ID, list[1].ID}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := m.Reload(context.Background(), ip("10.0.2.101")); err != nil {
				t.Error(err)
			}
			if err := m.Reopen(context.Background()); err != nil {
				t.Error(err)
			}
			m.Down()
			m.Guest()
		}
	})
	wg.Wait()
	list := m.List()
	if len(list) != 16*20 {
		t.Errorf("%d forwards, want 320", len(list))
	}
	for i := 1; i < len(list); i++ {
		if list[i-1].ID >= list[i].ID {
			t.Fatal("not by id")
		}
	}
}

// Adding, listing, setting and removing take n log n time: with a quadratic step, 10,000
// forwards would take minutes and exceed the test's own limit.
func TestTenThousand(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	mustAdd(t, m, "20000-24999:1001-6000/tcp,udp")
	var fs []Forward
	for i := range 10000 { // one port, many addresses
		fs = append(fs, Forward{Proto: TCP, HostIP: netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), HostPort: 80, GuestPort: 80})
	}
	if _, err := m.Set(t.Context(), fs); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Set(t.Context(), forwards(t, "80:80")); err != nil { // collides with all
		t.Fatal(err)
	}
	if n := len(m.List()); n != 1 || len(h.open) != 1 {
		t.Fatalf("%d forwards, %d open", n, len(h.open))
	}
}

func BenchmarkList1000(b *testing.B) {
	m := NewManager(newFake(), Config{Guest: ip("10.0.2.100")})
	s, _ := ParseSpec("20000-20999:1001-2000")
	if _, err := m.Add(b.Context(), s.Forwards()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m.List()
	}
}
