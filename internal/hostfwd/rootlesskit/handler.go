// Package rootlesskit is the port handler that works as RootlessKit does: the child half of
// RootlessKit's builtin driver makes every connection inside, with its --source-ip-transparent.
// It exists so that what works with RootlessKit works the same here.
//
// The host side is that of package direct: RootlessKit's own stops for good when descriptors run
// out, and limits neither connections nor the clients of UDP. Each connection requests its socket
// from the child half, on a UNIX socket in a directory of the instance. The child half runs in a
// process inside the namespace that the caller provides; if that exits, the next connection or
// forward, or [Handler.Revive], starts another one.
package rootlesskit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/msg"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/opaque"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/hostfwd/direct"
)

// Config configures a [Handler].
type Config struct {
	// Dir holds the driver's socket and FIFO, and nothing else. [MakeDir] makes it, in a directory that
	// no other user may enter.
	Dir string
	// RunChild starts the child half in the namespace with these settings. done is closed when
	// the process that runs it has exited.
	RunChild func(ctx context.Context, opaque map[string]string) (done <-chan struct{}, err error)
	// SourceIPTransparent preserves the client's address for TCP.
	SourceIPTransparent bool
	Log                 func(format string, args ...any) // as in [direct.Config]
}

var errTransparent = fault.New(fault.Unsupported, "--source-ip-transparent needs nft or iptables, usable inside the namespace",
	"install nftables (or iptables) and iproute2, or use --port-handler slirp4netns, which keeps the address by itself")

// Handler implements [hostfwd.Handler]. Nothing runs before the first Open. Closing a forward closes
// its connections, as in RootlessKit.
type Handler struct {
	*direct.Handler
	cfg Config

	mu        sync.Mutex
	life      int // number of child halves started so far
	childDone <-chan struct{}
	backend   string // of the transparent mode
}

var _ hostfwd.Handler = (*Handler)(nil)

// New returns a handler.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg}
	h.Handler = direct.New(direct.Config{Name: "rootlesskit", Dial: h.dial, EndConnections: true, Log: cfg.Log})
	return h
}

// Open listens for f.
func (h *Handler) Open(ctx context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	if _, err := h.start(ctx, 0); err != nil {
		return nil, err
	}
	return h.Handler.Open(ctx, f)
}

// BackendKey is the detail of the driver's that says how clients' addresses are kept.
const BackendKey = "sourceIPTransparentBackend"

// Extra returns the driver's details beyond its name and protocols; nil before the first forward.
func (h *Handler) Extra() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == 0 || !h.cfg.SourceIPTransparent {
		return nil
	}
	return map[string]string{BackendKey: h.backend}
}

// The files below [Config].Dir: the child half's socket, and the FIFO on which it reports that it listens.
const (
	socketName = ".bp.sock"
	fifoName   = ".bp-ready.pipe"
)

func (h *Handler) socket() string { return filepath.Join(h.cfg.Dir, socketName) }

// Revive restarts the child half if it has exited; without forwards it does nothing.
func (h *Handler) Revive(ctx context.Context) error {
	h.mu.Lock()
	started := h.life > 0
	h.mu.Unlock()
	if !started {
		return nil
	}
	_, err := h.start(ctx, 0)
	return err
}

// start starts the child half unless one runs; dead is one that doesn't listen, or 0. life identifies the one that runs.
func (h *Handler) start(ctx context.Context, dead int) (life int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life > 0 && h.life != dead {
		select {
		case <-h.childDone:
		default:
			return h.life, nil
		}
	}
	err = h.startChild(ctx)
	return h.life, err
}

func (h *Handler) startChild(ctx context.Context) error {
	settings := map[string]string{opaque.SocketPath: h.socket(), opaque.ChildReadyPipePath: filepath.Join(h.cfg.Dir, fifoName)}
	if h.cfg.SourceIPTransparent {
		settings[opaque.SourceIPTransparent] = "true"
		settings[opaque.SourceIPTransparentBackend] = "auto"
	}
	_ = os.Remove(settings[opaque.SocketPath])
	// The child opens the FIFO for writing, which waits for a reader, and closes it just before it
	// listens.
	fifo, err := makeFIFO(h.cfg.Dir, settings[opaque.ChildReadyPipePath])
	if err != nil {
		return fmt.Errorf("rootlesskit driver: %w", err)
	}
	defer fifo.Close()
	done, err := h.cfg.RunChild(ctx, settings)
	if err == nil {
		err = h.waitListening(ctx, done)
	}
	if err == nil && h.cfg.SourceIPTransparent {
		err = h.askBackend(ctx)
	}
	if err != nil {
		return fmt.Errorf("rootlesskit driver: %w", err)
	}
	h.childDone = done
	h.life++
	return nil
}

// waitListening waits until the child half answers on its socket, which takes about a
// millisecond.
func (h *Handler) waitListening(ctx context.Context, done <-chan struct{}) error {
	for {
		c, err := h.connect(ctx)
		if err == nil {
			return c.Close()
		}
		select {
		case <-done:
			return errors.New("the helper in the namespace has exited")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// MakeDir makes [Config].Dir unless it exists. The child half, which makes its socket there, may have
// another user id than this process.
func MakeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o733)
}

// makeFIFO makes a new FIFO and opens its reading end. Anyone who may write to dir could put a link in its place.
func makeFIFO(dir, path string) (*os.File, error) {
	if err := MakeDir(dir); err != nil { // it may have been removed
		return nil, err
	}
	_ = os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, err
	}
	fifo, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := fifo.Stat()
	if err == nil && info.Mode().Type() != os.ModeNamedPipe {
		err = errors.New("not the FIFO that was created")
	}
	if err == nil {
		err = fifo.Chmod(0o622)
	}
	if err != nil {
		fifo.Close()
		return nil, err
	}
	return fifo, nil
}

// askBackend asks the child half how it preserves addresses.
func (h *Handler) askBackend(ctx context.Context) error {
	c, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	rep, err := msg.Initiate(c)
	if err != nil {
		return err
	}
	if rep.SourceIPTransparentBackend == "" {
		return errTransparent
	}
	h.backend = rep.SourceIPTransparentBackend
	return nil
}

// connect connects to the child half; it follows no symbolic link in place of the socket.
func (h *Handler) connect(ctx context.Context) (*net.UnixConn, error) {
	fd, err := unix.Open(h.socket(), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// dial implements [direct.Dialer].
func (h *Handler) dial(ctx context.Context, f hostfwd.Forward, client netip.AddrPort) (int, error) {
	life, err := h.start(ctx, 0)
	if err != nil {
		return -1, err
	}
	c, err := h.connect(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		if _, err = h.start(ctx, life); err == nil {
			c, err = h.connect(ctx)
		}
	}
	if err != nil {
		return -1, noErrno(err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	fd, err := request(c, f, client)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fd, err
}
