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

// startForwards makes the handler and opens what --publish asks for.
func (s *supervisor) startForwards(ctx context.Context) error {
	h, err := s.newHandler()
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

// forwardsChanged keeps the state file true for those who can't ask the supervisor.
func (s *supervisor) forwardsChanged() {
	s.noteForwards()
	if someFailed(s.fwd.List()) {
		wake(s.forwardFailed)
	}
	if s.ready.Load() && !s.stopping.Load() {
		s.saveState()
	}
}

// followPorts forwards what programs inside listen on, from now until the end.
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
				err = nil // said below
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
			return fmt.Errorf("only the ports %s are, of themselves; -p %d:%d asks for this one", o.PublishAuto.Ports, port, port)
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

// forgetForwards tells the handler that what was open in slirp4netns died with it.
func (s *supervisor) forgetForwards() {
	if h, ok := s.handler.(*slirpapi.Handler); ok {
		h.Reset()
	}
}

// reopenForwards puts back what died with slirp4netns. The listening sockets of the other
// handlers are the supervisor's own and never closed.
func (s *supervisor) reopenForwards(ctx context.Context) error {
	if _, ok := s.handler.(*slirpapi.Handler); !ok {
		return nil
	}
	return s.fwd.Reopen(ctx)
}

// reviveEvery is the pause between attempts to open forwards that have failed, say because somebody
// else took the host port while slirp4netns was down.
const reviveEvery = 500 * time.Millisecond

// reviveForwards opens the forwards that have failed after a pause, until every one listens.
func (w *watcher) reviveForwards() {
	if w.reviving || !someFailed(w.fwd.List()) {
		return
	}
	w.reviving = true
	w.after(reviveEvery, func() {
		w.do(w.fwd.Revive, func(err error) {
			w.reviving = false
			if err == nil {
				w.log.Info("every forward listens again")
			}
			w.reviveForwards()
		})
	})
}

func someFailed(list []hostfwd.Status) bool {
	return slices.ContainsFunc(list, func(st hostfwd.Status) bool { return st.Failed != "" })
}

// noteForwards tells the log what a user may not expect of new forwards. It is called by one
// goroutine at a time, as the Manager's changes are made.
func (s *supervisor) noteForwards() {
	var fresh []hostfwd.Status
	list := s.fwd.List()
	for _, st := range list {
		if st.ID > s.noted.lastID {
			s.noted.lastID = st.ID
			fresh = append(fresh, st)
		}
	}
	o := &s.req.Options
	if o.PortHandler == options.HandlerSlirp4netns {
		for _, w := range slirpapi.Warnings(list, fresh, !o.AllowHostLoopback) {
			s.log.Warn(w)
		}
		return // keeps the source address
	}
	for _, st := range fresh {
		f := st.Forward
		if s.noted.source || f.HostIP.IsLoopback() || (o.SourceIPTransparent && f.Proto.Network() == "tcp") {
			continue
		}
		s.noted.source = true
		s.log.Infof("the port handler %s does not keep source addresses: programs inside see clients of %s as %s; "+
			"--port-handler slirp4netns keeps them, rootlesskit does for TCP with --source-ip-transparent", o.PortHandler, f, f.GuestIP)
	}
}
