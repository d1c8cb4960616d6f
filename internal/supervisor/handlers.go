package supervisor

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/slirpctl/slirpctl/internal/guest"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/hostfwd/direct"
	"github.com/slirpctl/slirpctl/internal/hostfwd/rootlesskit"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// newHandler makes the port handler of --port-handler. No handler does anything before the first
// forward.
func (s *supervisor) newHandler(ctx context.Context) (hostfwd.Handler, error) {
	o := &s.req.Options
	switch o.PortHandler {
	case options.HandlerSlirp4netns:
		if st := s.State(); st.APISocket == "" {
			return nil, &launcher.MissingFeatureError{Feature: launcher.APISocket, Since: launcher.APISocket.Since(), Wanted: "--port-handler slirp4netns", Have: s.bin.Version.Version}
		}
		return slirpapi.NewHandler(slirpapi.Config{Path: s.inst.Path(instance.APISocket), Network: s.net.CIDR()}), nil
	case options.HandlerDirect:
		cfg := direct.Config{Sockets: agentSockets{s, new(sync.Once)}, Log: s.warnWhileUp}
		if o.SourceIPTransparent {
			if err := s.keepSources(ctx); err != nil {
				return nil, err
			}
			cfg.Source = s.sources
		}
		return direct.New(cfg), nil
	case options.HandlerRootlessKit:
		return rootlesskit.New(rootlesskit.Config{
			Dir: s.inst.Path(instance.RootlessKitDir), RunChild: s.runChildDriver,
			SourceIPTransparent: o.SourceIPTransparent, Log: s.warnWhileUp,
		}), nil
	}
	return nil, fmt.Errorf("port handler %q is not known", o.PortHandler)
}

// keepSources prepares the namespace for connections with the addresses of clients.
func (s *supervisor) keepSources(ctx context.Context) error {
	a, err := s.guestAgent()
	if err != nil {
		return err
	}
	cfg := guest.TransparencyConfig{
		Netns: s.tgt.Netns, Userns: s.entry, Guest: []netip.Addr{s.net.Guest()}, Own: []netip.Prefix{s.net.CIDR()},
		Log: func(err error) { s.warnWhileUp("--source-ip-transparent: %v", err) },
	}
	if s.guest6.IsValid() {
		cfg.Guest, cfg.Own = append(cfg.Guest, s.guest6), append(cfg.Own, subnet.CIDR6())
	}
	if s.sources, err = guest.NewTransparency(ctx, a, cfg); err != nil {
		return err
	}
	if s.cmd == nil { // COMMAND's namespace ends with it
		s.atEnd(s.sources.Close)
	}
	return nil
}

// agentSockets makes the direct handler's sockets through the helper in the namespace.
type agentSockets struct {
	s     *supervisor
	reuse *sync.Once
}

func (a agentSockets) Sockets(ctx context.Context, family, typ, n int) (fds []int, err error) {
	g, err := a.s.guestAgent()
	if err == nil {
		a.reuse.Do(a.s.reusePorts)
		fds, err = g.Sockets(ctx, family, typ, n)
	}
	if err != nil && a.s.stopping.Load() {
		err = direct.ErrClosed // while stopping, the helper may end first
	}
	return fds, err
}

func (s *supervisor) runChildDriver(ctx context.Context, opaque map[string]string) (<-chan struct{}, error) {
	g, err := s.guestAgent()
	if err != nil {
		return nil, err
	}
	s.reusePorts()
	return g.Done(), g.RunChildDriver(ctx, opaque)
}

// PortDriverExtra implements [control.Backend].
func (b backend) PortDriverExtra() map[string]string {
	if h, ok := b.s.handler.(*rootlesskit.Handler); ok {
		return h.Extra()
	}
	if b.s.sources != nil {
		return map[string]string{rootlesskit.BackendKey: "rules"}
	}
	return nil
}

// warnWhileUp logs a warning unless the instance is stopping, when failures are expected.
func (s *supervisor) warnWhileUp(format string, args ...any) {
	if !s.stopping.Load() {
		s.log.Warnf(format, args...)
	}
}
