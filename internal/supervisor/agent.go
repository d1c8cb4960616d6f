package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slirpctl/slirpctl/internal/crashpoint"
	"github.com/slirpctl/slirpctl/internal/guest"
	"github.com/slirpctl/slirpctl/internal/hostfwd/rootlesskit"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/options"
)

// guestAgent returns the helper inside the namespaces, and starts it if needed. If it dies repeatedly it is
// started after a pause, as slirp4netns is ([pauseBefore]); during the pause the error is a [*pausedError].
func (s *supervisor) guestAgent() (*guest.Agent, error) {
	s.agents.Lock()
	defer s.agents.Unlock()
	if s.agent != nil {
		return s.agent, nil
	}
	if s.stopping.Load() {
		return nil, guest.ErrEnded
	}
	if left := time.Until(s.agentNext); left > 0 {
		return nil, &pausedError{left}
	}
	if s.agentDeaths > 0 {
		s.log.Warn("the helper in the namespace has ended: starting it again")
	}
	o := &s.req.Options
	cfg := guest.Config{
		Label: s.inst.Dir(), Netns: s.tgt.Netns, Userns: s.entry, Log: s.instLog.Foreign("guest", nil),
	}
	if o.PortHandler == options.HandlerRootlessKit {
		cfg.Tools = o.SourceIPTransparent
		cfg.Dir = s.inst.Path(instance.RootlessKitDir)
		if err := rootlesskit.MakeDir(cfg.Dir); err != nil {
			return nil, err
		}
	}
	a, err := guest.Start(cfg)
	if err != nil {
		return nil, err
	}
	if s.agentDeaths == 0 {
		if a.Exposed != nil {
			s.log.Warnf("the helper in the namespace can see this host's files: %v", a.Exposed)
		}
		s.atEnd(s.closeAgent)
	}
	s.agent = a
	crashpoint.Here("helper started")
	started := time.Now()
	go func() {
		<-a.Done()
		s.agentDied(started)
	}()
	return a, nil
}

// pausedError is the [guest.ErrEnded] returned during the pause before the helper is started again.
type pausedError struct{ left time.Duration }

func (e *pausedError) Error() string {
	return fmt.Sprintf("%v repeatedly; next start in %.1f s", guest.ErrEnded, e.left.Seconds())
}
func (e *pausedError) Unwrap() error { return guest.ErrEnded }

// agentDied lets guestAgent start another helper.
func (s *supervisor) agentDied(started time.Time) {
	s.agents.Lock()
	defer s.agents.Unlock()
	s.agent = nil
	if time.Since(started) > healthyAfter {
		s.agentDeaths = 0
	}
	s.agentDeaths++
	s.agentNext = time.Now().Add(pauseBefore(s.agentDeaths))
	wake(s.agentEnded)
}

func (s *supervisor) closeAgent() {
	s.agents.Lock()
	defer s.agents.Unlock()
	if s.agent != nil {
		s.agent.Close()
	}
}

// reviver is a handler that can restart its part in the namespace.
type reviver interface{ Revive(context.Context) error }

// reviveAgent restarts a helper that died, if forwards depend on it. Otherwise the next caller of guestAgent starts it.
func (w *watcher) reviveAgent() {
	if _, other := w.handler.(*slirpapi.Handler); !other && !w.agentDue {
		w.startAgent()
	}
}

func (w *watcher) startAgent() {
	w.agentDue = false
	if w.tgt.Gone() {
		return
	}
	start := func(context.Context) error {
		_, err := w.guestAgent()
		return err
	}
	if h, ok := w.handler.(reviver); ok {
		start = h.Revive
	}
	w.do(start, func(err error) {
		var paused *pausedError
		switch {
		case errors.As(err, &paused):
			w.agentDue = true
			w.after(paused.left, w.startAgent)
		case err != nil && !errors.Is(err, guest.ErrEnded):
			w.log.Errorf("the helper in the namespace: %v", err)
		}
	})
}
