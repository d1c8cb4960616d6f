package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// handler opens everything but host port 22, and nothing in earnest.
type handler struct{}

func (handler) Name() string                { return "fake" }
func (handler) Check(hostfwd.Forward) error { return nil }
func (handler) Close() error                { return nil }
func (handler) Open(_ context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	if f.HostPort == 22 {
		return nil, &fault.Error{Kind: fault.Conflict, Msg: "in use", Help: "take another", Err: syscall.EADDRINUSE}
	}
	return listener(f), nil
}

type listener hostfwd.Forward

func (l listener) Forward() hostfwd.Forward { return hostfwd.Forward(l) }
func (listener) Close() error               { return nil }

type backend struct {
	m    *hostfwd.Manager
	down chan struct{}
	path string // of the socket
}

func (b backend) State() instance.State {
	return instance.State{Name: "web", SupervisorPID: os.Getpid()}
}
func (b backend) Forwards() *hostfwd.Manager         { return b.m }
func (b backend) PortDriverExtra() map[string]string { return nil }
func (b backend) Down(time.Duration)                 { close(b.down) }
func (b backend) Traffic() (instance.Traffic, error) { return instance.Traffic{}, nil }

func (backend) Egress() *Egress { return nil }

func serve(t *testing.T) (*Client, backend) {
	t.Helper()
	b := backend{
		m:    hostfwd.NewManager(handler{}, hostfwd.Config{Guest: netip.MustParseAddr("10.0.2.100")}),
		down: make(chan struct{}),
	}
	b.path = serveBackend(t, b)
	return NewClient(b.path), b
}

func serveBackend(t *testing.T, b Backend) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	path = dir + "/control.sock"
	s, err := Serve(path, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Close(ctx)
		os.RemoveAll(dir)
	})
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; nobody else may use it", fi, err)
	}
	return path
}

func forwards(t *testing.T, specs ...string) (fs []hostfwd.Forward) {
	t.Helper()
	for _, text := range specs {
		s, err := hostfwd.ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, s.Forwards()...)
	}
	return fs
}

func TestForwards(t *testing.T) {
	c, _ := serve(t)
	ctx := t.Context()
	check := func(what string, got []hostfwd.Status, err error, want string) {
		t.Helper()
		text := ""
		for _, st := range got {
			text += fmt.Sprintf("%d=%s ", st.ID, st.Forward)
		}
		if err != nil || text != want {
			t.Errorf("%s: %s, %v; want %s", what, text, err, want)
		}
	}
	got, err := c.Add(ctx, forwards(t, "80:80", "[::1]:53:9.9.9.9:53/udp6"))
	check("add", got, err, "1=0.0.0.0:80:10.0.2.100:80/tcp 2=[::1]:53:9.9.9.9:53/udp6 ")
	got, err = c.List(ctx)
	check("list", got, err, "1=0.0.0.0:80:10.0.2.100:80/tcp 2=[::1]:53:9.9.9.9:53/udp6 ")
	got, err = c.Set(ctx, forwards(t, "80:80", "81:81"))
	check("set", got, err, "1=0.0.0.0:80:10.0.2.100:80/tcp 3=0.0.0.0:81:10.0.2.100:81/tcp ")
	got, err = c.Reload(ctx, netip.MustParseAddr("10.0.2.7"))
	check("reload", got, err, "1=0.0.0.0:80:10.0.2.7:80/tcp 3=0.0.0.0:81:10.0.2.7:81/tcp ")
	got, err = c.Reload(ctx, netip.Addr{})
	check("reload", got, err, "1=0.0.0.0:80:10.0.2.7:80/tcp 3=0.0.0.0:81:10.0.2.7:81/tcp ")
	if err := c.Remove(ctx, []int{1}); err != nil {
		t.Error(err)
	}
	st, err := c.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	check("state", st.Ports, nil, "3=0.0.0.0:81:10.0.2.7:81/tcp ")
}

// TestErrors: a failure travels with its hint, its exit code and its place in the batch.
func TestErrors(t *testing.T) {
	c, _ := serve(t)
	_, err := c.Add(t.Context(), forwards(t, "80:80", "22:22"))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("add: %v", err)
	}
	if e.Hint() != "take another" || e.Kind != fault.Conflict || e.Index == nil || *e.Index != 1 {
		t.Errorf("add: %+v", e)
	}
	if got, err := c.List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("after a batch that failed: %v, %v", got, err)
	}
	if err := c.Remove(t.Context(), []int{7}); !errors.As(err, &e) || e.Index != nil || e.Message != "there is no forward 7" {
		t.Errorf("remove: %v", err)
	}
}

// TestSilence: who doesn't answer ends in the caller's deadline, and who is not there at once.
func TestSilence(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/silent")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := NewClient(dir + "/silent").List(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
	if _, err := NewClient(dir + "/none").List(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody is there: %v", err)
	}
}

func TestDownRequest(t *testing.T) {
	c, b := serve(t)
	if err := c.Down(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	<-b.down
}
