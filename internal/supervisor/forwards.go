package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/hostfwd/autoports"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/options"
)

// startForwards makes the handler and opens the forwards of --publish.
func (s *supervisor) startForwards(ctx context.Context) error {
	h, err := s.newHandler(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.handler = h
	s.fwd = hostfwd.NewManager(h, hostfwd.Config{Guest: s.net.Guest(), OnChange: s.forwardsChanged})
	s.mu.Unlock()
	s.atEnd(func() { s.fwd.Close() })
	var fs []hostfwd.Forward
	for _, spec := range s.req.Options.Publish {
		fs = append(fs, spec.Forwards()...)
	}
	if len(fs) > 0 {
		if _, err := s.fwd.Add(ctx, fs); err != nil {
			return err
		}
	}
	if s.req.Options.PublishAuto.On() {
		return s.followPorts(ctx)
	}
	return nil
}

// forwardsChanged updates the state file, for readers that can't ask the supervisor.
func (s *supervisor) forwardsChanged() {
	s.logNewForwards()
	if someFailed(s.fwd.List()) {
		wake(s.forwardFailed)
	}
	if s.ready.Load() && !s.stopping.Load() {
		s.saveState()
	}
}

// followPorts forwards the ports that programs in the namespace listen on, until the instance stops.
func (s *supervisor) followPorts(ctx context.Context) error {
	a, err := s.guestAgent()
	if err != nil {
		return err
	}
	fd, err := a.Netlink(ctx, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("--publish auto: %w", err)
	}
	diag := hostfwd.NewSockDiag(fd)
	s.atEnd(diag.Close)
	o := &s.req.Options
	f := autoports.New(autoports.Config{
		Manager: s.fwd, HostIP: o.PublishAuto.HostIP, Guest6: s.guest6, Check: s.handler.Check, Log: s.log.Warnf,
		Sockets: func() ([]hostfwd.Socket, error) {
			sockets, err := diag.Listening()
			if errors.Is(err, hostfwd.ErrNoUDPDiag) {
				err = nil // logged below
			}
			return sockets, err
		},
		Exclude: func(port uint16) bool {
			return slices.ContainsFunc(o.AutoExclude, func(r options.PortRange) bool { return r.Contains(port) })
		},
		Refuse: func(port uint16) error {
			if o.PublishAuto.Ports.Contains(port) {
				return nil
			}
			return fmt.Errorf("only the ports %s are published automatically; to publish this one: -p %d:%d", o.PublishAuto.Ports, port, port)
		},
		Max: o.PublishAuto.Max,
	})
	if _, err := diag.Listening(); errors.Is(err, hostfwd.ErrNoUDPDiag) {
		s.log.Warnf("--publish auto follows TCP only: %v", err)
	}
	if err := f.Look(ctx); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(run)
	}()
	s.atEnd(func() {
		stop()
		<-ended
	})
	return nil
}

// forgetForwards tells the handler that the forwards in slirp4netns ended with it.
func (s *supervisor) forgetForwards() {
	if h, ok := s.handler.(*slirpapi.Handler); ok {
		h.Reset()
	}
}

// reopenForwards reopens the forwards that ended with slirp4netns. The listening sockets of the other
// handlers belong to the supervisor and stay open.
func (s *supervisor) reopenForwards(ctx context.Context) error {
	if s.sources != nil {
		return s.sources.Renew()
	}
	if _, ok := s.handler.(*slirpapi.Handler); !ok {
		return nil
	}
	return s.fwd.Reopen(ctx)
}

// reviveInterval is the time between attempts to reopen failed forwards, for example when another
// process took the host port while slirp4netns was down.
const reviveInterval = 500 * time.Millisecond

// reviveForwards reopens failed forwards after reviveInterval, until all of them listen.
func (w *watcher) reviveForwards() {
	if w.reviving || !someFailed(w.fwd.List()) {
		return
	}
	w.reviving = true
	w.after(reviveInterval, func() {
		w.do(w.fwd.Revive, func(err error) {
			w.reviving = false
			if err == nil {
				w.log.Info("all forwards listen again")
			}
			w.reviveForwards()
		})
	})
}

func someFailed(list []hostfwd.Status) bool {
	return slices.ContainsFunc(list, func(st hostfwd.Status) bool { return st.Failed != "" })
}

// logNewForwards logs what a user may not expect of new forwards. The Manager calls it from one
// goroutine at a time.
func (s *supervisor) logNewForwards() {
	var fresh []hostfwd.Status
	list := s.fwd.List()
	for _, st := range list {
		if st.ID > s.logged.lastID {
			s.logged.lastID = st.ID
			fresh = append(fresh, st)
		}
	}
	o := &s.req.Options
	if o.PortHandler == options.HandlerSlirp4netns {
		for _, w := range slirpapi.Warnings(list, fresh, !o.AllowHostLoopback) {
			s.log.Warn(w)
		}
		return // this handler keeps source addresses
	}
	for _, st := range fresh {
		f := st.Forward
		if s.logged.source || f.HostIP.IsLoopback() || (o.SourceIPTransparent && (s.sources != nil || f.Proto.Network() == "tcp")) {
			continue
		}
		s.logged.source = true
		s.log.Infof("the port handler %s does not keep source addresses: programs inside see clients of %s as %s; "+
			"--source-ip-transparent keeps them (rootlesskit: for TCP), and so does --port-handler slirp4netns", o.PortHandler, f, f.GuestIP)
	}
}
