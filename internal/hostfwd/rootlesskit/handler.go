// Package rootlesskit is the port handler that carries bytes as RootlessKit does: with
// RootlessKit's own builtin driver, whose parent half listens here and whose child half makes
// every connection inside the namespace. It exists so that what works there works the same here.
//
// The driver's halves meet at a socket and a FIFO in a directory of the instance. The child half
// runs in a process inside the namespace that the caller provides; if that dies, the next
// forward, or [Handler.Revive], starts another one, and the parent half doesn't notice.
package rootlesskit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/parent"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// Config is what a [Handler] needs.
type Config struct {
	// Dir holds the driver's socket and FIFO, and nothing else. [MakeDir] makes it, in a directory that
	// nobody else may enter.
	Dir string
	// RunChild starts the child half in the namespace with these settings. done is closed when
	// the process that runs it has ended.
	RunChild func(ctx context.Context, opaque map[string]string) (done <-chan struct{}, err error)
	// SourceIPTransparent keeps the client's address for TCP.
	SourceIPTransparent bool
	Log                 io.Writer
}

// TransparentError: what --source-ip-transparent needs is missing in the namespace.
type TransparentError struct{}

func (*TransparentError) Error() string {
	return "--source-ip-transparent needs nft or iptables, usable inside the namespace"
}

// Hint says what to do about it.
func (*TransparentError) Hint() string {
	return "install nftables (or iptables) and iproute2, or use --port-handler slirp4netns, which keeps the address by itself"
}

// Handler implements [hostfwd.Handler]. Nothing runs before the first Open.
type Handler struct {
	cfg Config

	mu        sync.Mutex
	driver    port.ParentDriver
	quit      chan struct{}
	childDone <-chan struct{}
}

var _ hostfwd.Handler = (*Handler)(nil)

// New returns a handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg} }

// Name returns "rootlesskit".
func (h *Handler) Name() string { return "rootlesskit" }

// Check accepts everything: TCP and UDP, IPv4 and IPv6 on both sides.
func (h *Handler) Check(hostfwd.Forward) error { return nil }

// Open listens for f. RootlessKit knows no port 0, so a free one is found first and, if somebody
// else is quicker, another.
func (h *Handler) Open(ctx context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	if err := h.start(ctx); err != nil {
		return nil, err
	}
	tries := 1
	pick := f.HostPort == 0
	if pick {
		tries = 20
	}
	var err error
	for range tries {
		if pick {
			if f.HostPort, err = freePort(f); err != nil {
				return nil, err
			}
		}
		var st *port.Status
		st, err = h.driver.AddPort(ctx, port.Spec{
			Proto: string(f.Proto), ParentIP: f.HostIP.String(), ParentPort: int(f.HostPort),
			ChildIP: f.GuestIP.String(), ChildPort: int(f.GuestPort),
		})
		if err == nil {
			return &listener{h.driver, st.ID, f}, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

// Extra returns what the driver tells about itself beyond its name and protocols; nil before the
// first forward.
func (h *Handler) Extra() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.driver == nil {
		return nil
	}
	info, err := h.driver.Info(context.Background())
	if err != nil {
		return nil
	}
	return info.Extra
}

// start starts the driver's halves, or only the child half if it has died.
func (h *Handler) start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.driver == nil {
		return h.startBoth(ctx)
	}
	select {
	case <-h.childDone:
		return h.startChild(ctx)
	default:
		return nil
	}
}

// Revive starts the child half again if it has died; without forwards it does nothing.
func (h *Handler) Revive(ctx context.Context) error {
	h.mu.Lock()
	idle := h.driver == nil
	h.mu.Unlock()
	if idle {
		return nil
	}
	return h.start(ctx)
}

// SocketName is the file below [Config].Dir at which the halves meet: where connections come from.
const SocketName = ".bp.sock"

// Started reports whether the driver runs: from the first Open on.
func (h *Handler) Started() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.driver != nil
}

const (
	fifoName = ".bp-ready.pipe"
)

// MakeDir makes [Config].Dir unless it is there. The child half, which makes its socket in it, may have
// another user id than this process.
func MakeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o733)
}

func (h *Handler) startBoth(ctx context.Context) error {
	if err := MakeDir(h.cfg.Dir); err != nil {
		return fmt.Errorf("rootlesskit driver: %w", err)
	}
	fifo := filepath.Join(h.cfg.Dir, fifoName)
	d, err := parent.NewDriver(h.cfg.Log, h.cfg.Dir, h.cfg.SourceIPTransparent, "auto")
	if err != nil {
		return fmt.Errorf("rootlesskit driver: %w", err)
	}
	if err := os.Chmod(fifo, 0o622); err != nil {
		return fmt.Errorf("rootlesskit driver: %w", err)
	}
	quit, ready, failed := make(chan struct{}), make(chan struct{}, 1), make(chan error, 1)
	h.driver, h.quit = d, quit
	fail := func(err error) error {
		h.driver = nil
		close(quit)
		// Lets a driver go that still waits at the FIFO.
		if f, ferr := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); ferr == nil {
			f.Close()
		}
		return fmt.Errorf("rootlesskit driver: %w", err)
	}
	go func() { failed <- d.RunParentDriver(ready, quit, nil) }()
	if h.childDone, err = h.cfg.RunChild(ctx, d.OpaqueForChild()); err != nil {
		return fail(err)
	}
	select {
	case <-ready:
	case err := <-failed:
		return fail(err)
	case <-h.childDone:
		return fail(errors.New("the helper in the namespace has ended"))
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	if !h.cfg.SourceIPTransparent {
		return nil
	}
	info, err := d.Info(ctx)
	if err == nil && info.Extra["sourceIPTransparentBackend"] == "none" {
		err = &TransparentError{}
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// startChild brings a second child half to the place of the first.
func (h *Handler) startChild(ctx context.Context) error {
	if err := MakeDir(h.cfg.Dir); err != nil { // it may have been removed
		return err
	}
	_ = os.Remove(filepath.Join(h.cfg.Dir, SocketName))
	path := filepath.Join(h.cfg.Dir, fifoName)
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Chmod(path, 0o622); err != nil {
		return err
	}
	fifo, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer fifo.Close()
	done, err := h.cfg.RunChild(ctx, h.driver.OpaqueForChild())
	if err != nil {
		return err
	}
	h.childDone = done
	// The child closes the FIFO once it listens; until it has opened it, reading gives EOF too.
	return waitListening(ctx, filepath.Join(h.cfg.Dir, SocketName), done)
}

// Close ends the driver. Its listeners end with the forwards, its child with its process.
func (h *Handler) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.driver == nil {
		return nil
	}
	ports, err := h.driver.ListPorts(context.Background())
	for _, p := range ports {
		if rerr := h.driver.RemovePort(context.Background(), p.ID); err == nil {
			err = rerr
		}
	}
	close(h.quit)
	h.driver = nil
	return err
}

type listener struct {
	d  port.ParentDriver
	id int
	f  hostfwd.Forward
}

func (l *listener) Forward() hostfwd.Forward { return l.f }

// Close stops listening, and ends the forward's connections, as RootlessKit does.
func (l *listener) Close() error { return l.d.RemovePort(context.Background(), l.id) }

// freePort asks the kernel for a port that is free now.
func freePort(f hostfwd.Forward) (uint16, error) {
	addr := net.JoinHostPort(f.HostIP.String(), "0")
	if f.Proto.Network() == "udp" {
		c, err := net.ListenPacket(string(f.Proto), addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return netip.MustParseAddrPort(c.LocalAddr().String()).Port(), nil
	}
	l, err := net.Listen(string(f.Proto), addr)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return uint16(n), err
}
