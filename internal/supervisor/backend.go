package supervisor

import (
	"context"
	"time"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// serve opens the control socket.
func (s *supervisor) serve() error {
	srv, err := control.Serve(s.inst.Path(instance.ControlSocket), backend{s})
	if err != nil {
		return err
	}
	s.atEnd(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		srv.Close(ctx)
	})
	return nil
}

// requestDown asks the instance to stop, and gives COMMAND grace between SIGTERM and SIGKILL. It may be called more
// than once, for an earlier end.
func (s *supervisor) requestDown(grace time.Duration) {
	s.mu.Lock()
	s.grace = grace
	s.mu.Unlock()
	s.downOnce.Do(func() { close(s.down) })
	wake(s.hurry)
}

// backend is the supervisor as the control socket sees it.
type backend struct{ s *supervisor }

func (b backend) State() instance.State {
	st := b.s.State()
	b.s.mu.Lock()
	p := b.s.proc
	b.s.mu.Unlock()
	if st.State == instance.Running && p.Stopped() {
		st.State = instance.Stopped
	}
	return st
}

func (b backend) Forwards() *hostfwd.Manager { return b.s.fwd }
func (b backend) Down(grace time.Duration)   { b.s.requestDown(grace) }

func (b backend) Traffic() (instance.Traffic, error) {
	pid := b.s.tgt.PID
	if pid == 0 { // a netns path: use the helper, which runs in it
		a, err := b.s.guestAgent()
		if err != nil {
			return instance.Traffic{}, err
		}
		pid = a.PID()
	}
	return instance.ReadTraffic(pid, b.s.req.Options.TapName)
}
