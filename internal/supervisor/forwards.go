package supervisor

import (
	"context"
	"fmt"
	"slices"

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
	s.handler = h
	s.fwd = hostfwd.NewManager(h, hostfwd.Config{Guest: s.net.Guest()})
	s.atEnd(func() { s.fwd.Close() })
	var fs []hostfwd.Forward
	for _, spec := range s.req.Options.Publish {
		fs = append(fs, spec.Forwards()...)
	}
	if w := slirpapi.LoopbackWarning(fs); w != "" && !s.req.Options.AllowHostLoopback && h.Name() == "slirp4netns" {
		s.log.Warn(w)
	}
	if len(fs) > 0 {
		if _, err := s.fwd.Add(ctx, fs); err != nil {
			return err
		}
	}
	if s.req.Options.PublishAuto {
		return s.followPorts(ctx)
	}
	return nil
}

// followPorts forwards what programs inside listen on, from now until the end.
func (s *supervisor) followPorts(ctx context.Context) error {
	a, err := s.guestAgent()
	if err != nil {
		return err
	}
	scan, err := autoports.NewScanner(a.PID())
	if err != nil {
		return fmt.Errorf("--publish auto: %w", err)
	}
	f := autoports.New(autoports.Config{
		Manager: s.fwd, Scan: scan, Check: s.handler.Check, Log: s.log.Warnf,
		Exclude: func(port uint16) bool {
			return slices.ContainsFunc(s.req.Options.AutoExclude, func(r options.PortRange) bool { return r.Contains(port) })
		},
	})
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
		scan.Close()
	})
	return nil
}

// reopenForwards puts back what died with slirp4netns.
func (s *supervisor) reopenForwards(ctx context.Context) error {
	if _, ok := s.handler.(*slirpapi.Handler); !ok {
		return nil
	}
	return s.fwd.Reopen(ctx)
}
