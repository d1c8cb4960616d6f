package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/options"
)

// ErrNetworkLost: slirp4netns died and was not, or could not be, started again.
var ErrNetworkLost = errors.New("the network was lost")

// watch keeps the instance up until something ends it.
func (s *supervisor) watch(ctx context.Context, signals <-chan os.Signal) (int, error) {
	w, err := s.tgt.Watch(s.env.ExitFD)
	if err != nil {
		return 0, err
	}
	s.atEnd(w.Stop)
	var commandDone <-chan struct{}
	if s.cmd != nil {
		commandDone = s.cmd.Done()
	}
	var kill <-chan time.Time // COMMAND's grace is over
	downReq, hungUp := s.down, w.HungUp
	var lost error
	takeDown := func(why string) (end bool) {
		s.log.Info(why)
		if s.cmd == nil {
			return true
		}
		if kill == nil {
			_ = s.cmd.Signal(syscall.SIGTERM)
			_ = s.cmd.Signal(syscall.SIGCONT)
			kill = time.After(commandGrace)
		}
		return false
	}
	for {
		slirpDone := s.proc.Done()
		if lost != nil {
			slirpDone = nil
		}
		select {
		case <-commandDone:
			s.log.Infof("command ended with status %d", s.cmd.Status())
			return s.cmd.Status(), lost
		case <-w.Target:
			if s.cmd != nil {
				// The same event as commandDone, seen first.
				<-commandDone
				return s.cmd.Status(), lost
			}
			s.log.Info("the target has ended")
			return 0, nil
		case <-hungUp:
			hungUp = nil
			if takeDown("the exit descriptor hung up") {
				return 0, nil
			}
		case <-downReq:
			downReq = nil
			if takeDown("asked to end") {
				return 0, nil
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case sig := <-signals:
			if s.cmd != nil {
				s.forward(sig)
				continue
			}
			if sig == syscall.SIGCONT || sig == syscall.SIGWINCH {
				continue
			}
			s.log.Infof("ended by signal: %s", sig)
			return 0, nil
		case <-kill:
			s.log.Warn("the command did not end on TERM: killing it")
			_ = s.cmd.Signal(syscall.SIGKILL)
		case <-slirpDone:
			if lost = s.heal(ctx, w.Target); lost == nil {
				continue
			}
			s.log.Error(lost)
			if s.cmd == nil {
				return 0, lost
			}
			takeDown("ending the command: it has no network any more")
		}
	}
}

// forward hands a signal on to COMMAND, unless it came from the keyboard: then the terminal has
// sent it to COMMAND too, which is in the same process group.
func (s *supervisor) forward(sig os.Signal) {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
		if s.env.Terminal != nil && s.env.Terminal() {
			return
		}
	case syscall.SIGCONT:
		return
	}
	_ = s.cmd.Signal(sig)
}

// How often slirp4netns is started again: at once, then with a growing pause; one that ran for
// healthyAfter starts the count anew.
const (
	restartLimit = 8
	healthyAfter = 30 * time.Second
	restartPause = 50 * time.Millisecond
	restartMost  = 2 * time.Second
)

// heal starts slirp4netns again on the same namespace and puts the forwards back. It gives up
// with [ErrNetworkLost], and returns nil where the target's end is the reason: the caller sees
// that itself.
func (s *supervisor) heal(ctx context.Context, targetGone <-chan struct{}) error {
	exit := s.proc.Exit()
	if s.tgt.Gone() {
		<-targetGone
		return nil
	}
	if s.req.Options.Restart == options.RestartNever {
		return fmt.Errorf("%w: slirp4netns ended (%s) and --restart=never", ErrNetworkLost, exit)
	}
	if time.Since(s.slirpStarted) > healthyAfter {
		s.failures = 0
	}
	s.log.Warnf("slirp4netns ended (%s): starting it again", exit)
	s.setStatus(instance.Restarting)
	pause := restartPause
	for {
		s.failures++
		if s.failures > restartLimit {
			return fmt.Errorf("%w: slirp4netns died %d times in a row, the last time with %s", ErrNetworkLost, s.failures, exit)
		}
		err := s.restart(ctx)
		if err == nil {
			return nil
		}
		s.log.Errorf("start slirp4netns again: %v", err)
		exit = err.Error()
		select {
		case <-targetGone:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.down:
			return fmt.Errorf("%w: %v", ErrNetworkLost, err)
		case <-time.After(pause):
			pause = min(2*pause, restartMost)
		}
	}
}

func (s *supervisor) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.req.Options.Timeout, errTimeout)
	defer cancel()
	if h, ok := s.handler.(*slirpapi.Handler); ok {
		h.Reset() // its ids mean nothing to the next one
	}
	if err := s.startSlirp(ctx); err != nil {
		return err
	}
	if err := s.reopenForwards(ctx); err != nil {
		s.log.Errorf("put forwards back: %v", err)
	}
	s.mu.Lock()
	s.state.Restarts++
	s.mu.Unlock()
	s.setStatus(instance.Running)
	s.log.Infof("slirp4netns runs again (pid %d)", s.proc.PID())
	return nil
}
