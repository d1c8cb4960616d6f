package supervisor

import (
	"context"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
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
	if len(fs) == 0 {
		return nil
	}
	if w := slirpapi.LoopbackWarning(fs); w != "" && !s.req.Options.AllowHostLoopback && h.Name() == "slirp4netns" {
		s.log.Warn(w)
	}
	_, err = s.fwd.Add(ctx, fs)
	return err
}

// reopenForwards puts back what died with slirp4netns.
func (s *supervisor) reopenForwards(ctx context.Context) error {
	if _, ok := s.handler.(*slirpapi.Handler); !ok {
		return nil
	}
	return s.fwd.Reopen(ctx)
}
