package direct

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// Sockets provides sockets that were created inside the guest's network namespace.
type Sockets interface {
	// Sockets returns up to n new sockets (at least one, or an error) of family AF_INET or
	// AF_INET6 and type SOCK_STREAM or SOCK_DGRAM, non-blocking and close-on-exec. The caller
	// owns them; no other process may keep a copy, or the guest would not see them close. The error
	// is [ErrClosed], which is not logged, if their source is shutting down.
	Sockets(ctx context.Context, family, typ, n int) ([]int, error)
}

// Defaults of [Config].
const (
	// DefaultUDPIdle is the value that RFC 4787 recommends for address translators.
	DefaultUDPIdle     = 5 * time.Minute
	DefaultUDPSessions = 4096
)

// Dialer connects to the guest, where sockets created ahead of time can't be used. It may block, is
// called by several goroutines, and returns when ctx ends. The descriptor is non-blocking and owned by the caller.
type Dialer func(ctx context.Context, f hostfwd.Forward, client netip.AddrPort) (fd int, err error)

// Config configures a [Handler].
type Config struct {
	Name    string  // of the handler; "" means direct
	Sockets Sockets // used if Dial is nil
	Dial    Dialer
	// Source, if not nil, keeps clients' addresses; Dial must be nil.
	Source Source
	// EndConnections closes a forward's TCP connections along with it.
	EndConnections bool
	// Loops is the number of loops, at most 4; 0: one for every four processors.
	Loops int
	// Log receives what an operator should know: a namespace that provides no sockets, a full
	// descriptor table. Nil discards it.
	Log func(format string, args ...any)
	// UDPIdle is how long a client's UDP session lasts without a datagram in either direction; 0
	// means DefaultUDPIdle. It may last up to a quarter longer.
	UDPIdle time.Duration
	// UDPSessions is the maximum number of sessions of each loop; the one
	// idle longest is closed for a new one. 0 means DefaultUDPSessions or a quarter of
	// RLIMIT_NOFILE, whichever is less.
	UDPSessions int
}

// ErrClosed is returned by Open after Close.
var ErrClosed = errors.New("port handler is closed")

// Handler implements [hostfwd.Handler]. Nothing is started or opened before the first Open.
type Handler struct {
	cfg Config

	quota   quota
	openMu  sync.Mutex // guards starting and closing
	closed  bool
	loops   []*loop
	nextUDP int

	dialing sync.WaitGroup
	dialCtx context.Context
	hangUp  context.CancelFunc

	mu        sync.RWMutex // guards the two below; loops read them
	listeners map[int32]*tcpListener
	lastID    int32

	tcp, udp pools
}

var _ hostfwd.Handler = (*Handler)(nil)

// New returns a handler that connects through the sockets of cfg.Sockets.
func New(cfg Config) *Handler {
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if cfg.UDPIdle <= 0 {
		cfg.UDPIdle = DefaultUDPIdle
	}
	if cfg.UDPSessions <= 0 {
		cfg.UDPSessions = min(DefaultUDPSessions, max(1, fileLimit()/4))
	}
	if cfg.Name == "" {
		cfg.Name = "direct"
	}
	h := &Handler{cfg: cfg, listeners: make(map[int32]*tcpListener)}
	h.dialCtx, h.hangUp = context.WithCancel(context.Background())
	h.tcp, h.udp = newPools(h, unix.SOCK_STREAM), newPools(h, unix.SOCK_DGRAM)
	return h
}

// Name returns [Config].Name.
func (h *Handler) Name() string { return h.cfg.Name }

func (h *Handler) log(format string, args ...any) { h.cfg.Log(h.cfg.Name+": "+format, args...) }

// Check accepts every forward that the manager has resolved.
func (h *Handler) Check(hostfwd.Forward) error { return nil }

// Open listens for f. It wraps errors of the system (EADDRINUSE, EACCES, EADDRNOTAVAIL, EMFILE).
func (h *Handler) Open(ctx context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.openMu.Lock()
	defer h.openMu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	if f.Proto.Network() == "udp" {
		return h.openUDP(f)
	}
	return h.openTCP(f)
}

// start starts the loops, once. Another loop pays off only if processors remain beside the
// client's and the guest's, which share the work of every byte.
func (h *Handler) start() error {
	if h.loops != nil {
		return nil
	}
	n := h.cfg.Loops
	if n == 0 {
		n = (runtime.NumCPU() + 3) / 4
	}
	var loops []*loop
	for i := range min(n, maxLoops) {
		l, err := newLoop(h, i)
		if err != nil {
			for _, l := range loops {
				l.free()
			}
			return err
		}
		loops = append(loops, l)
	}
	h.loops = loops
	h.quota.init()
	for _, l := range loops {
		go l.run()
	}
	return nil
}

// Close stops listening, resets every connection, ends every UDP session and closes the
// sockets in the pools. It returns when all of that is done.
func (h *Handler) Close() error {
	h.openMu.Lock()
	defer h.openMu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	h.mu.RLock()
	open := slices.Collect(maps.Values(h.listeners))
	h.mu.RUnlock()
	for _, l := range open {
		_ = l.Close()
	}
	for _, p := range []*pool{h.tcp.v4, h.tcp.v6, h.udp.v4, h.udp.v6} {
		p.close()
	}
	h.hangUp()
	for _, l := range h.loops {
		l.stop()
	}
	h.dialing.Wait()
	return nil
}

func (h *Handler) listener(id int32) *tcpListener {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.listeners[id]
}
