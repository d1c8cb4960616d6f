package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
)

// Restarts of slirp4netns: the first restartFree in a row come without a pause, the next ones after a
// growing pause, and after restartLimit of them, about 15 seconds, the supervisor gives up. A
// slirp4netns that ran for healthyAfter resets the count.
const (
	restartLimit = 12
	restartFree  = 2
	healthyAfter = 5 * time.Second
	restartPause = 50 * time.Millisecond
	restartMost  = 2 * time.Second
)

// pauseBefore returns the pause before the restart that follows n deaths in a row.
func pauseBefore(n int) time.Duration {
	if n <= restartFree {
		return 0
	}
	return min(restartPause<<(n-restartFree-1), restartMost)
}

// slirpEnded decides what to do when slirp4netns has ended. If it ended because the target did, targetDone or
// commandDone reports that.
func (w *watcher) slirpEnded() {
	exit := w.proc.Exit()
	if w.tgt.Gone() {
		return
	}
	if w.req.Options.Restart == options.RestartNever {
		w.networkLost(fmt.Errorf("%w: slirp4netns ended (%s) and --restart=never", ErrNetworkLost, exit))
		return
	}
	if time.Since(w.slirpStarted) > healthyAfter {
		w.failures = 0
	}
	w.log.Warnf("slirp4netns ended (%s): starting it again", exit)
	w.setStatus(instance.Restarting)
	w.startAgain(exit, "")
}

// startAgain restarts slirp4netns after a pause, or gives up. exit is how it ended; logged is the shortage that was
// logged last.
func (w *watcher) startAgain(exit, logged string) {
	w.failures++
	if w.failures > restartLimit {
		w.networkLost(fmt.Errorf("%w: slirp4netns died %d times in a row, the last time with %s", ErrNetworkLost, w.failures, exit))
		return
	}
	w.after(pauseBefore(w.failures), func() {
		w.do(w.restart, func(err error) { w.restarted(err, exit, logged) })
	})
}

// restarted handles the result of a restart.
func (w *watcher) restarted(err error, exit, logged string) {
	switch {
	case err == nil:
		w.slirpDone = w.proc.Done()
	case w.tgt.Gone(), w.ctx.Err() != nil:
	case isShortage(err):
		w.failures--
		if logged != err.Error() {
			w.log.Warnf("start slirp4netns again: %v; trying until it works", err)
		}
		w.after(shortagePause, func() { w.startAgain(exit, err.Error()) })
	default:
		w.log.Errorf("start slirp4netns again: %v", err)
		w.startAgain(err.Error(), logged)
	}
}

func (w *watcher) networkLost(err error) {
	switch {
	case w.cmd != nil:
		w.lost = err
		w.log.Error(err)
		w.mu.Lock()
		w.state.Error = err.Error()
		w.mu.Unlock()
		w.takeDown("ending the command: it has no network any more")
	case w.env.Session:
		// No caller waits for the exit status: keep running, so that `list` shows the error.
		w.lost = err
		w.log.Error(err)
		w.markDead(err)
	default:
		w.over, w.err = true, err
	}
}

// restart starts slirp4netns on the same namespace and reopens the forwards. It makes one attempt.
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
		s.log.Errorf("reopen forwards: %v", err)
	}
	s.mu.Lock()
	s.state.Restarts++
	s.mu.Unlock()
	s.setStatus(instance.Running)
	s.log.Infof("slirp4netns runs again (pid %d)", s.proc.PID())
	return nil
}

// detectAgain runs the detection again if the binary was replaced: the new one may have other
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

// fileStamp distinguishes a file from another one that replaced it at the same path.
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

// markDead records in the state that the network is lost. The instance keeps running until its target ends
// or it is taken down.
func (s *supervisor) markDead(why error) {
	s.fwd.Close()
	s.mu.Lock()
	s.state.Error = why.Error()
	s.mu.Unlock()
	s.setStatus(instance.Dead)
}

// shortagePause is the time between two starts of slirp4netns during a shortage.
const shortagePause = 250 * time.Millisecond

// isShortage reports whether a start failed because a resource is short that may become available again:
// descriptors, memory, processes, a source address. It does not count as a death of slirp4netns.
func isShortage(err error) bool {
	var start *launcher.StartError
	switch {
	case errors.Is(err, launcher.ErrNoSource):
		return true
	case errors.As(err, &start):
		return slices.Contains([]launcher.StartProblem{launcher.FileLimit, launcher.MemoryLimit, launcher.ProcessLimit}, start.Problem)
	}
	return fault.IsShortage(err) || errors.Is(err, unix.EAGAIN)
}
