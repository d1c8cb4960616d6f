package slirpapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// Config configures a [Handler].
type Config struct {
	Path    string        // of the API socket
	Network netip.Prefix  // the namespace's IPv4 network; invalid: guests are not checked against it
	Timeout time.Duration // for one request; 0: 10 s
}

// Handler is the [hostfwd.Handler] named "slirp4netns": it supports IPv4 only, preserves the
// client's source address, and reaches only programs that listen on the guest address.
type Handler struct {
	client  Client
	network netip.Prefix

	mu   sync.Mutex
	life int // counts starts of slirp4netns: ids of an earlier one are invalid now
	open map[*listener]struct{}
}

// NewHandler returns a Handler. It does not connect yet.
func NewHandler(c Config) *Handler {
	return &Handler{
		client:  Client{Path: c.Path, Timeout: c.Timeout},
		network: c.Network, open: map[*listener]struct{}{},
	}
}

// Name returns "slirp4netns".
func (h *Handler) Name() string { return "slirp4netns" }

// Check rejects IPv6, and guests that slirp4netns does not reach, with a [fault.Unsupported]
// error that names the handlers that can do it.
func (h *Handler) Check(f hostfwd.Forward) error {
	g := f.GuestIP
	switch {
	case f.Proto == hostfwd.TCP6 || f.Proto == hostfwd.UDP6 || f.HostIP.Is6():
		return unsupported("can't listen on IPv6")
	case g.Is6():
		return unsupported("can't forward to IPv6 addresses")
	case g.IsLoopback():
		return unsupported("can't reach the namespace's own %s", g)
	case g.IsValid() && h.network.IsValid() && !h.network.Contains(g):
		return fault.Errorf(fault.Usage, "", "guest address %s is outside the network %s", g, h.network)
	}
	return nil
}

// Open adds f. If slirp4netns refuses, the error gives the reason if [hostfwd.Diagnose]
// finds one, and is a [*RefusedError] otherwise.
func (h *Handler) Open(ctx context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	if f.HostPort != 0 {
		return h.add(ctx, f)
	}
	// Another program may take a free port before it is used.
	const tries = 16
	var err error
	for range tries {
		if f.HostPort, err = hostfwd.FreePort(f); err != nil {
			return nil, err
		}
		var l hostfwd.Listener
		if l, err = h.add(ctx, f); err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

func (h *Handler) add(ctx context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	h.mu.Lock()
	l := &listener{h: h, f: f, life: h.life}
	h.mu.Unlock()
	var err error
	sent := f
	sent.Proto = hostfwd.Proto(f.Proto.Network())
	if f.GuestIP == noGuest {
		sent.GuestIP = netip.Addr{}
	}
	l.id, err = h.client.Add(ctx, sent)
	if err != nil {
		return nil, h.explain(ctx, f, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == l.life {
		h.open[l] = struct{}{}
	}
	return l, nil
}

// explain finds the reason of a refusal: slirp4netns has the same text for all.
func (h *Handler) explain(ctx context.Context, f hostfwd.Forward, err error) error {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	if why := hostfwd.Diagnose(f); why != nil {
		return why
	}
	// slirp4netns may lack a privilege that we have: its sandbox drops capabilities.
	if start := hostfwd.UnprivilegedPortStart(); int(f.HostPort) < start {
		return hostfwd.PrivilegedPort(f, start)
	}
	if _, pid, lerr := h.client.list(ctx); lerr == nil {
		if full := filesExhausted(pid); full != nil {
			return full
		}
	}
	return err
}

// Reset tells h that slirp4netns has exited and all its forwards are closed. Call it before the
// next slirp4netns starts, and [hostfwd.Manager.Reopen] after that: the old ids would remove
// other forwards of the new slirp4netns.
func (h *Handler) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life++
	clear(h.open)
}

// Close removes every forward. Connections continue until slirp4netns exits. It is no error if
// slirp4netns has exited already.
func (h *Handler) Close() error {
	h.mu.Lock()
	all := slices.Collect(maps.Keys(h.open))
	h.mu.Unlock()
	for _, l := range all {
		if err := l.Close(); err != nil {
			return err // the others would time out too
		}
	}
	return nil
}

type listener struct {
	h    *Handler
	f    hostfwd.Forward
	id   int // in slirp4netns
	life int
}

func (l *listener) Forward() hostfwd.Forward { return l.f }

func (l *listener) Close() error {
	h := l.h
	h.mu.Lock()
	current := h.life == l.life
	h.mu.Unlock()
	if !current {
		return nil
	}
	if err := remove(context.Background(), &h.client, l.id); err != nil && !gone(err) {
		return err
	}
	h.mu.Lock()
	delete(h.open, l)
	h.mu.Unlock()
	return nil
}

// remove removes an id; it is no error if the id no longer exists.
func remove(ctx context.Context, c *Client, id int) error {
	err := c.Remove(ctx, id)
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	list, lerr := c.List(ctx)
	if lerr != nil || slices.ContainsFunc(list, func(st hostfwd.Status) bool { return st.ID == id }) {
		return err
	}
	return nil
}

// gone reports whether err means that nothing listens on the API socket any more.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// Warnings returns warnings about limits of slirp4netns that affect the new forwards fresh. list
// has all forwards. barsLoopback is --disable-host-loopback.
func Warnings(list, fresh []hostfwd.Status, barsLoopback bool) []string {
	var out []string
	for _, st := range fresh {
		// UDP forwards of slirp4netns then never answer clients on the host's own loopback (upstream issue 316).
		local := !st.HostIP.IsValid() || st.HostIP.IsUnspecified() || st.HostIP.IsLoopback()
		if barsLoopback && local && st.Proto.Network() == "udp" {
			out = append(out, fmt.Sprintf("forward %s will not answer clients on this host's 127.0.0.1 while the namespace may not reach the host's loopback; "+
				"use --port-handler direct or rootlesskit, or --allow-host-loopback", st.Forward))
			break
		}
	}
	if w := sameGuestWarning(list, fresh); w != "" {
		out = append(out, w)
	}
	return out
}

// sameGuestWarning returns a warning if two forwards lead to the same guest port: libslirp identifies a
// connection by the client's address and port and the guest's, and confuses two that differ only in
// the host port.
func sameGuestWarning(list, fresh []hostfwd.Status) string {
	type guest struct {
		network string
		at      netip.AddrPort
	}
	of := func(f hostfwd.Forward) guest {
		return guest{f.Proto.Network(), netip.AddrPortFrom(f.GuestIP, f.GuestPort)}
	}
	first := map[guest]hostfwd.Status{}
	for _, st := range list {
		if _, ok := first[of(st.Forward)]; !ok {
			first[of(st.Forward)] = st
		}
	}
	for _, st := range fresh {
		other, ok := first[of(st.Forward)]
		if !ok || other.ID == st.ID {
			continue
		}
		clash := "connections from one client port through both hang"
		if st.Proto.Network() == "udp" {
			clash = "only clients of the one used last get answers"
		}
		return fmt.Sprintf("forward %s leads to the same port inside as forward %d (%s), which slirp4netns confuses: %s; "+
			"use --port-handler direct or rootlesskit", st.Forward, other.ID, other.Forward, clash)
	}
	return ""
}
