package hostfwd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
)

func set(t *testing.T, m *Manager, specs ...string) []Status {
	t.Helper()
	list, err := m.Set(t.Context(), forwards(t, specs...))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSetChangesOnlyWhatDiffers(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	mustAdd(t, m, "8080:80", "8081:81", "82")
	h.takeLog()
	wantLines(t, set(t, m, "82", "0.0.0.0:8080:10.0.2.100:80/tcp", "9090:90"),
		"3 0.0.0.0:40001:10.0.2.100:82/tcp", "1 0.0.0.0:8080:10.0.2.100:80/tcp", "4 0.0.0.0:9090:10.0.2.100:90/tcp")
	wantLog(t, h, "+9090", "-8081") // new ones first; forwards that remain are not touched
	wantLines(t, set(t, m, "82", "8080:80", "9090:90"),
		"3 0.0.0.0:40001:10.0.2.100:82/tcp", "1 0.0.0.0:8080:10.0.2.100:80/tcp", "4 0.0.0.0:9090:10.0.2.100:90/tcp")
	wantLog(t, h)
	// The picked port, given as a number, remains too, and so does the other one when added as a free port.
	wantLines(t, set(t, m, "40001:82", "82"), "3 0.0.0.0:40001:10.0.2.100:82/tcp", "5 0.0.0.0:40002:10.0.2.100:82/tcp")
	h.takeLog()
	set(t, m)
	if n := len(m.List()); n != 0 || len(m.taken) != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestSetSwapsCollidingPorts(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	mustAdd(t, m, "127.0.0.1:80:80", "127.0.0.2:80:80", "8080:80", "9090:90")
	h.takeLog()
	wantLines(t, set(t, m, "9090:90", "80:80", "8080:81", "7070:70"),
		"4 0.0.0.0:9090:10.0.2.100:90/tcp", "6 0.0.0.0:80:10.0.2.100:80/tcp",
		"7 0.0.0.0:8080:10.0.2.100:81/tcp", "5 0.0.0.0:7070:10.0.2.100:70/tcp")
	wantLog(t, h, "+7070", "-80", "-80", "-8080", "+80", "+8080")
	wantLines(t, m.List(), "4 0.0.0.0:9090:10.0.2.100:90/tcp", "5 0.0.0.0:7070:10.0.2.100:70/tcp",
		"6 0.0.0.0:80:10.0.2.100:80/tcp", "7 0.0.0.0:8080:10.0.2.100:81/tcp")
}

func TestSetFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		specs []string
		bad   uint16
		index int
		log   []string
	}{
		{"free port", []string{"7070:70", "7071:71"}, 7071, 1, []string{"+7070", "-7070"}},
		{
			"colliding port",
			[]string{"7070:70", "8080:81", "8081:82"},
			0, 2,
			[]string{"+7070", "-8080", "-8081", "+8080", "-8080", "+8080", "+8081", "-7070"},
		},
		{"conflict in the list", []string{"7070:70", "7070:71"}, 0, 1, nil},
		{"check", []string{"7070:70", "7071:666"}, 0, 1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newFake()
			m := newTestManager(t, h)
			before := mustAdd(t, m, "8080:80", "8081:81")
			h.takeLog()
			h.refuse = func(f Forward) error {
				if f.GuestPort == 82 || f.HostPort == tt.bad {
					return portInUse(f, Process{}, holdsOpen)
				}
				return nil
			}
			_, err := m.Set(t.Context(), forwards(t, tt.specs...))
			wantAddError(t, err, tt.index, nil)
			wantLog(t, h, tt.log...)
			wantLines(t, m.List(), lines(before)...)
			h.refuse = nil
			set(t, m, "7070:70", "8080:81") // the host ports are recorded correctly: these are free
		})
	}
}

func TestSetCannotRestore(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	mustAdd(t, m, "8080:80", "9090:90")
	h.refuse = refusePort(8080)
	_, err := m.Set(t.Context(), forwards(t, "8080:81"))
	if err == nil || !strings.Contains(err.Error(), "forward 1 (0.0.0.0:8080:10.0.2.100:80/tcp) is down: ") || strings.Count(err.Error(), "is down") != 1 {
		t.Fatalf("got %v", err)
	}
	wantAddError(t, err, 0, inUse)
	const down = "1 0.0.0.0:8080:10.0.2.100:80/tcp: 0.0.0.0:8080/tcp is in use by nginx (pid 7)"
	wantLines(t, m.List(), down, "2 0.0.0.0:9090:10.0.2.100:90/tcp")
	wantLines(t, m.Down(), down)
	h.refuse = nil
	// Requesting it again reopens it with its id.
	wantLines(t, set(t, m, "8080:80"), "1 0.0.0.0:8080:10.0.2.100:80/tcp")
	wantLines(t, m.Down())
}

func TestReload(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	mustAdd(t, m, "8080:80", "8081:10.0.2.7:81", "82")
	if err := m.Reload(t.Context(), ip("10.88.0.5")); err != nil {
		t.Fatal(err)
	}
	want := []string{"1 0.0.0.0:8080:10.88.0.5:80/tcp", "2 0.0.0.0:8081:10.0.2.7:81/tcp", "3 0.0.0.0:40001:10.88.0.5:82/tcp"}
	wantLines(t, m.List(), want...)
	wantLines(t, mustAdd(t, m, "83:83"), "4 0.0.0.0:83:10.88.0.5:83/tcp")
	if m.Guest() != ip("10.88.0.5") {
		t.Error(m.Guest())
	}
	h.takeLog()
	if err := m.Reload(t.Context(), ip("")); err != nil {
		t.Fatal(err)
	}
	wantLines(t, m.List(), append(want, "4 0.0.0.0:83:10.88.0.5:83/tcp")...)
	wantLog(t, h, "-8080", "+8080", "-8081", "+8081", "-40001", "+40001", "-83", "+83")
}

func TestReloadFails(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	before := mustAdd(t, m, "8080:80", "8081:81", "8082:82")
	boom := errors.New("boom")
	h.refuse = func(f Forward) error {
		if f.HostPort == 8081 && f.GuestIP == ip("10.0.2.9") {
			return boom
		}
		return nil
	}
	wantAddError(t, m.Reload(t.Context(), ip("10.0.2.9")), 1, boom)
	wantLines(t, m.List(), lines(before)...)
	if got := h.guests(); !slices.Equal(got, []string{"0.0.0.0:8080:10.0.2.100:80/tcp", "0.0.0.0:8081:10.0.2.100:81/tcp", "0.0.0.0:8082:10.0.2.100:82/tcp"}) {
		t.Errorf("listening: %q", got)
	}
	if m.Guest() != ip("10.0.2.100") {
		t.Error(m.Guest())
	}
	if err := m.Reload(t.Context(), ip("0.0.0.0")); err == nil {
		t.Error("0.0.0.0 as guest, and no error")
	}
}

func TestReopen(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	before := mustAdd(t, m, "8080:80", "81", "8082:82")
	h.loseAll()
	h.refuse = refusePort(8082)
	if err := m.Reopen(t.Context()); !errors.Is(err, inUse) || !strings.HasPrefix(err.Error(), "forward 3 ") || strings.Count(err.Error(), "is down") != 1 {
		t.Fatalf("got %v", err)
	}
	wantLines(t, m.List(), append(lines(before[:2]), lines(before[2:])[0]+": 0.0.0.0:8082/tcp is in use by nginx (pid 7)")...)
	// It is still known: its port is reserved, it can be removed, and it can be reopened.
	_, err := m.Add(t.Context(), forwards(t, "8082:1"))
	wantAddError(t, err, 0, inUse)
	h.refuse = nil
	if err := m.Reopen(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLines(t, m.List(), lines(before)...)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Reopen(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantLines(t, m.List(), lines(before)...) // rejected before any change
}

func TestRemoveKeepsWhatCannotBeClosed(t *testing.T) {
	h := newFake()
	m := newTestManager(t, h)
	mustAdd(t, m, "8080:80", "8081:81")
	boom := errors.New("boom")
	h.closeErr = func(f Forward) error {
		if f.HostPort == 8080 {
			return boom
		}
		return nil
	}
	if err := m.Remove(t.Context(), []int{1, 2}); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	wantLines(t, m.List(), "1 0.0.0.0:8080:10.0.2.100:80/tcp")
}

func TestMatch(t *testing.T) {
	m := newTestManager(t, newFake())
	list := mustAdd(t, m, "8080:80", "127.0.0.1:8081:80", "80:10.0.2.7:80/tcp4", "53:53/tcp,udp", "[::1]:8080:80")
	for _, tt := range []struct {
		spec string
		want []int
	}{
		{"80", []int{1, 2, 3, 6}},
		{"8080:80", []int{1, 6}},
		{"0.0.0.0:8080:80", []int{1}},
		{"[::1]:8080:80", []int{6}},
		{"127.0.0.1::80", []int{2}},
		{":10.0.2.7:80", []int{3}},
		{"53:53/udp", []int{5}},
		{"53:53/tcp,udp", []int{4, 5}},
		{"53:53/udp4", nil},
		{"8080-8081:80-81", nil},
		{"1:80", nil},
	} {
		s, err := ParseSpec(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Match(list, s)
		if !slices.Equal(got, tt.want) || errors.Is(err, fault.NotFound) != (tt.want == nil) {
			t.Errorf("%s: got %v, %v; want %v", tt.spec, got, err, tt.want)
		}
	}
}
