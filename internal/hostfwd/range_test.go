package hostfwd

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// rangeManager does not check which ports of this host are taken.
func rangeManager(t *testing.T) (*Manager, *fakeHandler) {
	h := newFake()
	m := newTestManager(t, h)
	m.hostTaken = func(Forward) bool { return false }
	return m, h
}

// A range of host ports for one guest port uses the first free one: not used by this instance's
// forwards, the batch's other ports, or other programs.
func TestRange(t *testing.T) {
	m, h := rangeManager(t)
	h.refuse = refusePort(8001)
	wantLines(t, mustAdd(t, m, "8000-8010:80", "8000:81", "8000-8010:80"),
		"1 0.0.0.0:8002:10.0.2.100:80/tcp", "2 0.0.0.0:8000:10.0.2.100:81/tcp", "3 0.0.0.0:8003:10.0.2.100:80/tcp")
	wantLines(t, mustAdd(t, m, "127.9.0.1:8000-8010:80/tcp,udp"), "4 127.9.0.1:8004:10.0.2.100:80/tcp", "5 127.9.0.1:8004:10.0.2.100:80/udp")
	// The same number for both protocols, or else the first free one for each.
	wantLines(t, mustAdd(t, m, "8004-8005:90/tcp,udp"), "6 0.0.0.0:8005:10.0.2.100:90/tcp", "7 0.0.0.0:8005:10.0.2.100:90/udp")
	wantLines(t, mustAdd(t, m, "8005-8006:91", "8007-8009:91/udp", "8008-8008:92"), "8 0.0.0.0:8006:10.0.2.100:91/tcp", "9 0.0.0.0:8007:10.0.2.100:91/udp", "10 0.0.0.0:8008:10.0.2.100:92/tcp")
}

func TestRangeFull(t *testing.T) {
	m, h := rangeManager(t)
	mustAdd(t, m, "8000-8001:80", "8000-8001:80")
	h.takeLog()
	_, err := m.Add(t.Context(), forwards(t, "9000:90", "8000-8001:80"))
	wantAddError(t, err, 1, inUse)
	for _, want := range []string{"no host port of 8000-8001 is free", "already forwarded by 1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	wantLog(t, h, "+9000", "-9000") // all or nothing
	// An error other than a taken port ends the search.
	h.refuse = func(f Forward) error { return PrivilegedPort(f, 9000) }
	_, err = m.Add(t.Context(), forwards(t, "8500-8600:80"))
	if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), ":8500/") {
		t.Errorf("got %v", err)
	}
	for _, f := range []Forward{{Proto: TCP, HostPortEnd: 5, GuestPort: 80}, {Proto: TCP, HostPort: 6, HostPortEnd: 5, GuestPort: 80}} {
		if _, err := m.Add(t.Context(), []Forward{f}); !errors.Is(err, fault.Usage) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// Set with a range keeps a port within the range, and takes the port of a removed forward if no other is free.
func TestRangeSet(t *testing.T) {
	m, h := rangeManager(t)
	mustAdd(t, m, "8001:80", "8000-8001:80")
	h.takeLog()
	set := func(specs ...string) []Status {
		t.Helper()
		list, err := m.Set(t.Context(), forwards(t, specs...))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	wantLines(t, set("8000-8001:80", "8001-8002:80"), "2 0.0.0.0:8000:10.0.2.100:80/tcp", "1 0.0.0.0:8001:10.0.2.100:80/tcp")
	wantLog(t, h)
	wantLines(t, set("8000-8001:81", "8000-8001:81"), "3 0.0.0.0:8000:10.0.2.100:81/tcp", "4 0.0.0.0:8001:10.0.2.100:81/tcp")
	wantLines(t, set("8000-8001:81", "8001-8002:82"), "3 0.0.0.0:8000:10.0.2.100:81/tcp", "5 0.0.0.0:8001:10.0.2.100:82/tcp")
	// A port picked from a range does not match host port 0.
	wantLines(t, set("81"), "6 0.0.0.0:40001:10.0.2.100:81/tcp")
	if _, err := m.Set(t.Context(), forwards(t, "40001-40001:81", "40001-40001:82")); !errors.Is(err, inUse) {
		t.Errorf("a range that stays taken: %v", err)
	}
	wantLines(t, m.List(), "6 0.0.0.0:40001:10.0.2.100:81/tcp")
}

func TestRangeMatch(t *testing.T) {
	m, _ := rangeManager(t)
	list := mustAdd(t, m, "8000-8010:80", "8011:80", "8005:81")
	for spec, want := range map[string]int{"8000-8010:80": 1, "8005-8011:80": 1, "8000-8011:80": 2} {
		s, err := ParseSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := Match(list, s); err != nil || len(ids) != want {
			t.Errorf("%s: %v, %v; want %d", spec, ids, err, want)
		}
	}
}

// A real port that is taken is skipped.
func TestRangeOfThisHost(t *testing.T) {
	l, err := net.Listen("tcp4", "127.9.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := forwards(t, l.Addr().String()+":80")[0]
	if !portTaken(f) {
		t.Error("a listener's port counts as free")
	}
	l.Close()
	if portTaken(f) {
		t.Error("a closed listener's port counts as taken")
	}
}

// The number of forwards is bounded, for every method that adds some.
func TestMaxForwards(t *testing.T) {
	m, _ := rangeManager(t)
	for i := range 64 {
		mustAdd(t, m, fmt.Sprintf("127.0.%d.1:1-1023:1001-2023", i))
	}
	mustAdd(t, m, "127.1.0.1:1-63:1001-1063")
	_, err := m.Add(t.Context(), forwards(t, "127.9.0.2:80:80", "127.9.0.2:81:81"))
	wantAddError(t, err, 1, ErrTooMany)
	mustAdd(t, m, "127.9.0.2:80:80")
	_, err = m.Add(t.Context(), forwards(t, "127.9.0.3:80:80"))
	wantAddError(t, err, 0, ErrTooMany)
	_, err = m.Set(t.Context(), forwards(t, "127.9.0.1:1-64535:1001-65535/tcp,udp"))
	wantAddError(t, err, MaxForwards, ErrTooMany)
	if n := len(m.List()); n != MaxForwards {
		t.Errorf("%d forwards", n)
	}
}
