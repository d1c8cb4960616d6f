package hostfwd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// fakeHandler opens no sockets. It refuses host ports that are taken, and those that refuse rejects.
type fakeHandler struct {
	mu       sync.Mutex
	open     map[string]*fakeListener // by host side
	next     uint16                   // for port 0
	log      []string                 // "+8080", "-8080"
	refuse   func(Forward) error
	closeErr func(Forward) error
}

func newFake() *fakeHandler { return &fakeHandler{open: map[string]*fakeListener{}, next: 40000} }

type fakeListener struct {
	h *fakeHandler
	f Forward
}

func side(f Forward) string { return fmt.Sprintf("%s %s:%d", f.Proto.Network(), f.HostIP, f.HostPort) }

func (h *fakeHandler) Name() string { return "fake" }

func (h *fakeHandler) Check(f Forward) error {
	if f.GuestPort == 666 {
		return errors.New("the fake handler can't do port 666")
	}
	return nil
}

func (h *fakeHandler) Open(ctx context.Context, f Forward) (Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for f.HostPort == 0 {
		h.next++
		f.HostPort = h.next
		if h.open[side(f)] != nil {
			f.HostPort = 0
		}
	}
	if h.refuse != nil {
		if err := h.refuse(f); err != nil {
			return nil, err
		}
	}
	if h.open[side(f)] != nil {
		return nil, portInUse(f, Process{}, holdsOpen)
	}
	l := &fakeListener{h, f}
	h.open[side(f)] = l
	h.log = append(h.log, fmt.Sprintf("+%d", f.HostPort))
	return l, nil
}

func (h *fakeHandler) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.open)
	return nil
}

func (l *fakeListener) Forward() Forward { return l.f }

func (l *fakeListener) Close() error {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if l.h.closeErr != nil {
		if err := l.h.closeErr(l.f); err != nil {
			return err
		}
	}
	if l.h.open[side(l.f)] == l {
		delete(l.h.open, side(l.f))
	}
	l.h.log = append(l.h.log, fmt.Sprintf("-%d", l.f.HostPort))
	return nil
}

// takeLog returns the openings and closings since the last call.
func (h *fakeHandler) takeLog() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.log
	h.log = nil
	return log
}

// guests returns "host side > guest" of all listeners, sorted.
func (h *fakeHandler) guests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, l := range h.open {
		list = append(list, l.f.String())
	}
	slices.Sort(list)
	return list
}

// loseAll simulates the death of slirp4netns.
func (h *fakeHandler) loseAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.open)
}

func refusePort(port uint16) func(Forward) error {
	return func(f Forward) error {
		if f.HostPort == port {
			return portInUse(f, Process{7, "nginx"}, holdsOpen)
		}
		return nil
	}
}

func newTestManager(t *testing.T, h Handler) *Manager {
	t.Helper()
	return NewManager(h, Config{Guest: ip("10.0.2.100")})
}

func forwards(t *testing.T, specs ...string) []Forward {
	t.Helper()
	var fs []Forward
	for _, s := range specs {
		spec, err := ParseSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, spec.Forwards()...)
	}
	return fs
}

func mustAdd(t *testing.T, m *Manager, specs ...string) []Status {
	t.Helper()
	list, err := m.Add(context.Background(), forwards(t, specs...))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// lines formats statuses as "1 0.0.0.0:8080:10.0.2.100:80/tcp".
func lines(list []Status) []string {
	out := []string{}
	for _, s := range list {
		line := fmt.Sprintf("%d %s", s.ID, s.Forward)
		if s.Failed != "" {
			line += ": " + s.Failed
		}
		out = append(out, line)
	}
	return out
}

func wantLines(t *testing.T, got []Status, want ...string) {
	t.Helper()
	if g := lines(got); !slices.Equal(g, want) {
		t.Errorf("got  %q\nwant %q", g, want)
	}
}

func wantLog(t *testing.T, h *fakeHandler, want ...string) {
	t.Helper()
	if got := h.takeLog(); !slices.Equal(got, want) {
		t.Errorf("opened and closed %q, want %q", got, want)
	}
}

func wantAddError(t *testing.T, err error, index int, target error) {
	t.Helper()
	var ae *AddError
	if !errors.As(err, &ae) || ae.Index != index || (target != nil && !errors.Is(err, target)) {
		t.Fatalf("got error %v, want an AddError at %d, %v", err, index, target)
	}
}

var inUse = syscall.EADDRINUSE
