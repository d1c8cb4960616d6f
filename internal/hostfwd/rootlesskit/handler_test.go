package rootlesskit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/child"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

const testTimeout = time.Minute

// world is a handler with RootlessKit's own child half, running in this process.
type world struct {
	*Handler
	dir string

	mu     sync.Mutex
	lines  []string
	starts int
	stop   chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "rk") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	w := &world{dir: dir}
	w.Handler = New(Config{Dir: dir, RunChild: w.run, Log: func(format string, args ...any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lines = append(w.lines, fmt.Sprintf(format, args...))
	}})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		w.end()
		os.RemoveAll(dir)
	})
	return w
}

func (w *world) run(_ context.Context, opaque map[string]string) (<-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starts++
	w.stop = make(chan struct{})
	go func(quit chan struct{}) { _ = child.NewDriver(io.Discard).RunChildDriver(opaque, quit, "") }(w.stop)
	return make(chan struct{}), nil // the process outlives the child half
}

// end ends the child half.
func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
}

func (w *world) forward(t *testing.T, proto hostfwd.Proto, host string, guest net.Addr) hostfwd.Listener {
	t.Helper()
	to := netip.MustParseAddrPort(guest.String())
	l, err := w.Open(t.Context(), hostfwd.Forward{Proto: proto, HostIP: netip.MustParseAddr(host), GuestIP: to.Addr(), GuestPort: to.Port()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l hostfwd.Listener) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(l.Forward().Proto.Network(), fmt.Sprintf("127.0.0.1:%d", l.Forward().HostPort), testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return c
}

func say(t *testing.T, c net.Conn) {
	t.Helper()
	got := make([]byte, 5)
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
}

func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l
}

func TestForward(t *testing.T) {
	w := newWorld(t)
	l := w.forward(t, hostfwd.TCP, "127.0.0.1", echo(t).Addr())
	c := dial(t, l)
	say(t, c)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	u := w.forward(t, hostfwd.UDP, "0.0.0.0", pc.LocalAddr())
	say(t, dial(t, u))
	say(t, dial(t, u))
	// As in RootlessKit, closing a forward closes its connections.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the forward's end: %v", err)
	}
}

// TestIPv4Only: an IPv4 address means IPv4 only.
func TestIPv4Only(t *testing.T) {
	w := newWorld(t)
	l := w.forward(t, hostfwd.TCP, "0.0.0.0", echo(t).Addr())
	if c, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", l.Forward().HostPort)); err == nil {
		c.Close()
		t.Error("0.0.0.0 answers on [::1]")
	}
	say(t, dial(t, l))
}

// TestChildHalfGone: the child half ends, as after a failed accept, but its process continues.
func TestChildHalfGone(t *testing.T) {
	w := newWorld(t)
	l := w.forward(t, hostfwd.TCP, "127.0.0.1", echo(t).Addr())
	c := dial(t, l)
	say(t, c)
	w.end()
	for range 3 {
		say(t, dial(t, l))
	}
	say(t, c)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.starts != 2 {
		t.Errorf("started %d times, want twice", w.starts)
	}
}

func TestNothingListens(t *testing.T) {
	w := newWorld(t)
	guest := echo(t)
	guest.Close()
	l := w.forward(t, hostfwd.TCP, "127.0.0.1", guest.Addr())
	for range 2 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.Forward().HostPort))
		if err == nil { // the reset may come before connect(2) has been reported
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) != 1 || !strings.HasPrefix(w.lines[0], "rootlesskit: nothing listens on "+guest.Addr().String()+"/tcp inside") {
		t.Errorf("the log says %q", w.lines)
	}
}

func TestRefusal(t *testing.T) {
	for text, want := range map[string]error{
		"dial tcp 10.0.2.100:80: connect: connection refused":              unix.ECONNREFUSED,
		"dial tcp 10.0.2.100:80: connect: cannot assign requested address": unix.EADDRNOTAVAIL,
		"dial tcp 10.0.2.9:80: connect: no route to host":                  unix.EHOSTUNREACH,
		"invalid IP: \"x\"": nil,
	} {
		data := fmt.Sprintf(`{"Error":%q}`, text)
		reply := append([]byte{byte(len(data)), 0, 0, 0}, data...)
		err := refusal(reply)
		if want == nil && err.Error() != text || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, odd := range [][]byte{nil, []byte("dummy"), {1, 0, 0, 0}, {2, 0, 0, 0, '{', '}'}} {
		if err := refusal(odd); err == nil {
			t.Errorf("%q: no error", odd)
		}
	}
}
