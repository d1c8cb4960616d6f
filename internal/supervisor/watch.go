package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/target"
)

// ErrNetworkLost: slirp4netns died and was not, or could not be, started again.
var ErrNetworkLost = errors.New("the network was lost")

// watch keeps the instance up until something ends it. It never waits for anything but the next
// event: slirp4netns is healed in a goroutine of its own.
func (s *supervisor) watch(ctx context.Context, signals <-chan os.Signal) (int, error) {
	w, err := s.tgt.Watch(s.env.ExitFD)
	if err != nil {
		return 0, err
	}
	s.atEnd(w.Stop)
	ctx, cancel := context.WithCancel(ctx)
	s.background.Go(func() { s.reviveForwards(ctx) })
	if s.resolv.f != nil {
		s.background.Go(func() { s.followResolvConf(ctx) })
	}
	var healed chan error // not nil while slirp4netns is being started again
	defer func() {
		cancel()
		if healed != nil {
			<-healed
		}
		s.background.Wait()
	}()
	var commandDone, commandStopped <-chan struct{}
	if s.cmd != nil {
		commandDone, commandStopped = s.cmd.Done(), s.cmd.Stopped()
		defer takeTerminal()
	}
	var kill <-chan time.Time // COMMAND's grace is over
	downReq, hungUp, slirpDone := s.down, w.HungUp, s.proc.Done()
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
			return 0, lost
		case <-commandStopped:
			if !s.env.Session {
				s.stopAlong()
			}
		case <-hungUp:
			hungUp = nil
			if takeDown("the exit descriptor hung up") {
				return 0, lost
			}
		case <-downReq:
			downReq = nil
			if takeDown("asked to end") {
				return 0, lost
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
			return 0, lost
		case <-kill:
			s.log.Warn("the command did not end on TERM: killing it")
			_ = s.cmd.Signal(syscall.SIGKILL)
		case <-slirpDone:
			slirpDone = nil
			healed = make(chan error, 1)
			go func() { healed <- s.heal(ctx) }()
		case err := <-healed:
			healed = nil
			switch {
			case err == nil:
				slirpDone = s.proc.Done()
			case errors.Is(err, target.ErrGone):
				// w.Target or commandDone tells, if they have not yet.
			case s.cmd != nil:
				lost = err
				s.log.Error(lost)
				takeDown("ending the command: it has no network any more")
			case s.env.Session:
				// Nobody waits for this process's status: stay, and show what happened.
				lost = err
				s.log.Error(lost)
				s.markDead(lost)
			default:
				return 0, err
			}
		}
	}
}

// forward hands a signal on to COMMAND, unless it came from the keyboard: then the terminal has
// sent it to COMMAND too, which is in the same process group.
func (s *supervisor) forward(sig os.Signal) {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH:
		if s.env.Terminal != nil && s.env.Terminal() {
			return
		}
	case syscall.SIGCONT, syscall.SIGTTIN:
		return
	}
	_ = s.cmd.Signal(sig.(syscall.Signal))
}

// How often slirp4netns is started again: the first deaths in a row cost nothing, the next ones a
// growing pause, and after restartLimit of them, which takes a quarter of a minute, there is no
// point in going on. One that ran for healthyAfter starts the count anew.
const (
	restartLimit = 12
	restartFree  = 2
	healthyAfter = 5 * time.Second
	restartPause = 50 * time.Millisecond
	restartMost  = 2 * time.Second
)

// pauseBefore returns the pause before slirp4netns is started again after n deaths in a row.
func pauseBefore(n int) time.Duration {
	if n <= restartFree {
		return 0
	}
	return min(restartPause<<(n-restartFree-1), restartMost)
}

// heal starts slirp4netns again on the same namespace and puts the forwards back. It gives up
// with [ErrNetworkLost], and with [target.ErrGone] where the target's end is the reason.
func (s *supervisor) heal(ctx context.Context) error {
	exit := s.proc.Exit()
	if s.tgt.Gone() {
		return target.ErrGone
	}
	if s.req.Options.Restart == options.RestartNever {
		return fmt.Errorf("%w: slirp4netns ended (%s) and --restart=never", ErrNetworkLost, exit)
	}
	if time.Since(s.slirpStarted) > healthyAfter {
		s.failures = 0
	}
	s.log.Warnf("slirp4netns ended (%s): starting it again", exit)
	s.setStatus(instance.Restarting)
	said := ""
	for {
		s.failures++
		if s.failures > restartLimit {
			return fmt.Errorf("%w: slirp4netns died %d times in a row, the last time with %s", ErrNetworkLost, s.failures, exit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pauseBefore(s.failures)):
		}
		err := s.restart(ctx)
		if err == nil {
			return nil
		}
		if s.tgt.Gone() {
			return target.ErrGone
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if isShortage(err) {
			s.failures--
			if said != err.Error() {
				said = err.Error()
				s.log.Warnf("start slirp4netns again: %v; trying until it works", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(shortagePause):
			}
			continue
		}
		s.log.Errorf("start slirp4netns again: %v", err)
		exit = err.Error()
	}
}

func (s *supervisor) restart(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, s.req.Options.Timeout, errTimeout)
	defer cancel()
	if err := s.detectAgain(limited); err != nil {
		return err
	}
	s.forgetForwards()
	if err := s.startSlirp(limited); err != nil {
		return err
	}
	if err := s.reopenForwards(limited); err != nil {
		s.log.Errorf("put forwards back: %v", err)
	}
	s.mu.Lock()
	s.state.Restarts++
	s.mu.Unlock()
	s.setStatus(instance.Running)
	s.log.Infof("slirp4netns runs again (pid %d)", s.proc.PID())
	return nil
}

// detectAgain looks at the binary again if it was replaced since: the new one may know other
// options.
func (s *supervisor) detectAgain(ctx context.Context) error {
	stamp := binaryStamp(s.bin.Path)
	if stamp == s.binStamp {
		return nil
	}
	bin, err := launcher.Detect(ctx, s.bin.Path)
	if err != nil {
		return err
	}
	sec, err := launcher.Decide(&s.req.Options, bin)
	if err != nil {
		return err
	}
	s.log.Warnf("%s was replaced: version %s was started, it is %s now", bin.Path, s.bin.Version.Version, bin.Version.Version)
	for _, why := range sec.Why {
		s.log.Warn(why)
	}
	s.bin, s.security, s.binStamp = bin, sec, stamp
	s.mu.Lock()
	s.state.Slirp.Version = bin.Version.Version
	s.state.Sandbox, s.state.Seccomp = sec.Sandbox, sec.Seccomp
	s.mu.Unlock()
	return nil
}

// fileStamp tells one file at a path from another that replaced it.
type fileStamp struct {
	dev, ino     uint64
	size         int64
	sec, nanosec int64
}

func binaryStamp(path string) fileStamp {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return fileStamp{}
	}
	return fileStamp{uint64(st.Dev), st.Ino, st.Size, int64(st.Ctim.Sec), int64(st.Ctim.Nsec)}
}

// markDead shows that the network is lost, for as long as the target lives and nobody takes the
// instance down.
func (s *supervisor) markDead(why error) {
	s.fwd.Close()
	s.mu.Lock()
	s.state.Error = why.Error()
	s.mu.Unlock()
	s.setStatus(instance.Dead)
}
