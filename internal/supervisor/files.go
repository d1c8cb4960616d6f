package supervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd/rootlesskit"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// settle is how long after a removal the files are looked at: who removes one removes more.
const settle = 50 * time.Millisecond

// guardFiles puts the instance's files back when somebody, such as a cleaner of temporary
// directories, removes them: without its lock the instance would be taken for dead, without its
// sockets it could not be spoken to. It returns when ctx ends.
func (s *supervisor) guardFiles(ctx context.Context) {
	events := make(chan struct{}, 1)
	note := func() {
		select {
		case events <- struct{}{}:
		default:
		}
	}
	var stop func()
	watch := func() {
		if stop != nil {
			stop()
		}
		var err error
		if stop, err = s.inst.Watch(note); err != nil {
			s.log.Warn(err)
			stop = nil
		}
		if s.filesMissing() { // before the watch began
			note()
		}
	}
	watch()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		if !s.filesMissing() {
			continue
		}
		err := s.restoreFiles(ctx)
		switch {
		case errors.Is(err, instance.ErrInUse):
			s.log.Errorf("the state directory was removed, and another instance has the name now: %v", err)
			s.requestDown()
			return
		case err != nil:
			s.log.Errorf("put the state directory back: %v", err)
		}
		watch()
	}
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

func (s *supervisor) filesMissing() bool {
	return s.inst.Displaced() || missing(s.inst.Path(instance.ControlSocket)) || missing(s.inst.Path(instance.LogFile)) ||
		missing(s.inst.Path("state.json")) || s.apiSocketMissing() || s.driverSocketMissing()
}

func (s *supervisor) apiSocketMissing() bool {
	_, needed := s.handler.(*slirpapi.Handler)
	s.mu.Lock()
	running := s.state.State == instance.Running
	s.mu.Unlock()
	return needed && running && missing(s.inst.Path(instance.APISocket))
}

func (s *supervisor) driverSocketMissing() bool {
	h, ok := s.handler.(*rootlesskit.Handler)
	return ok && h.Started() && missing(filepath.Join(s.inst.Path(instance.RootlessKitDir), rootlesskit.SocketName))
}

func (s *supervisor) restoreFiles(ctx context.Context) error {
	if _, err := s.inst.Restore(ctx); err != nil {
		return err
	}
	if missing(s.inst.Path(instance.LogFile)) {
		if err := s.instLog.Renew(s.inst, s.env.Session); err != nil { // a detached one's stderr is the log
			return err
		}
	}
	s.log.Warn("files of the instance were removed: putting them back")
	if missing(s.inst.Path(instance.ControlSocket)) {
		if err := s.serve(); err != nil {
			return err
		}
	}
	s.saveState()
	if s.driverSocketMissing() {
		s.agents.Lock()
		a := s.agent
		s.agents.Unlock()
		a.Kill() // the next one makes it anew
	}
	if s.apiSocketMissing() {
		// Nobody can speak to this slirp4netns any more.
		s.mu.Lock()
		p := s.proc
		s.mu.Unlock()
		_ = p.Signal(syscall.SIGKILL)
	}
	return nil
}
