package supervisor

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrNetworkLost means that slirp4netns died and was not, or could not be, restarted.
var ErrNetworkLost = errors.New("the network was lost")

// watcher keeps an instance up until an event ends it. One goroutine calls its methods, so none of them may block:
// [watcher.do] runs slow work in another goroutine, which reports when it is done.
type watcher struct {
	*supervisor
	ctx     context.Context // of the work
	work    sync.WaitGroup
	reports chan func() // called by the deciding goroutine when some work is done

	// Events; nil if an event can't happen or has been handled.
	commandDone, commandStopped, targetDone, hungUp, asked, slirpDone <-chan struct{}

	termed    bool // COMMAND was sent SIGTERM
	failures  int  // restarts since slirp4netns last ran for healthyAfter
	reviving  bool // an attempt to reopen failed forwards is scheduled
	agentDue  bool // a restart of the helper is scheduled
	over      bool // the instance stops, with status and err
	status    int
	err, lost error // lost: why the network is lost, reported when the instance stops
}

// watch keeps the instance up until an event ends it, and returns COMMAND's status.
func (s *supervisor) watch(ctx context.Context, signals <-chan os.Signal) (int, error) {
	t, err := s.tgt.Watch(s.env.ExitFD)
	if err != nil {
		return 0, err
	}
	s.atEnd(t.Stop)
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{
		supervisor: s, ctx: ctx, reports: make(chan func()),
		targetDone: t.Target, hungUp: t.HungUp, asked: s.down, slirpDone: s.proc.Done(),
	}
	defer func() {
		cancel()
		w.work.Wait()
	}()
	if s.resolv.f != nil {
		w.work.Go(func() { s.followResolvConf(ctx) })
	}
	if s.cmd != nil {
		w.commandDone, w.commandStopped = s.cmd.Done(), s.cmd.Stopped()
		defer takeTerminal()
	}
	w.awaitReady()
	for !w.over {
		w.next(signals)
	}
	if !w.reported && w.err == nil {
		if w.cmd != nil && !w.env.Session { // the caller gets COMMAND's status
			w.log.Warn(w.notReady())
			return w.status, nil
		}
		return 0, w.notReady()
	}
	return w.status, w.err
}

// next waits for the next event and handles it.
func (w *watcher) next(signals <-chan os.Signal) {
	select {
	case <-w.commandDone:
		w.commandEnded()
	case <-w.targetDone:
		w.targetEnded()
	case <-w.commandStopped:
		if !w.env.Session {
			w.stopAlong()
		}
	case <-w.hungUp:
		w.hungUp = nil
		w.takeDown("the exit descriptor hung up")
	case <-w.asked:
		w.asked = nil
		w.takeDown("asked to end")
	case <-w.hurry:
		if w.termed {
			w.killIn()
		}
	case <-w.ctx.Done():
		w.over, w.err = true, context.Cause(w.ctx)
	case sig := <-signals:
		w.signalled(sig)
	case <-w.slirpDone:
		w.slirpDone = nil
		w.slirpEnded()
	case <-w.forwardFailed:
		w.reviveForwards()
	case <-w.agentEnded:
		w.reviveAgent()
	case report := <-w.reports:
		report()
	}
}

// do runs work in another goroutine, then calls then with its result in the deciding one.
func (w *watcher) do(work func(context.Context) error, then func(error)) {
	w.work.Go(func() {
		err := work(w.ctx)
		w.report(func() { then(err) })
	})
}

// after calls then in the deciding goroutine when d has passed.
func (w *watcher) after(d time.Duration, then func()) {
	w.work.Go(func() {
		select {
		case <-time.After(d):
			w.report(then)
		case <-w.ctx.Done():
		}
	})
}

func (w *watcher) report(then func()) {
	select {
	case w.reports <- then:
	case <-w.ctx.Done():
	}
}

// end makes watch return status, and lost as the error.
func (w *watcher) end(status int) { w.over, w.status, w.err = true, status, w.lost }

func (w *watcher) commandEnded() {
	status := w.cmd.Status()
	w.exited = &status
	w.log.Infof("command ended with status %d", status)
	w.end(status)
}

func (w *watcher) targetEnded() {
	if w.cmd != nil {
		<-w.commandDone // the same event, reported by the other channel first
		w.commandEnded()
		return
	}
	w.log.Info("the target has ended")
	w.end(0)
}

// takeDown stops the instance: directly, or with COMMAND by ending that.
func (w *watcher) takeDown(why string) {
	w.log.Info(why)
	if w.cmd == nil {
		w.end(0)
		return
	}
	if !w.termed {
		w.termed = true
		_ = w.cmd.Signal(syscall.SIGTERM)
		_ = w.cmd.Signal(syscall.SIGCONT)
	}
	w.killIn()
}

// killIn kills COMMAND after the grace that was asked for, unless an earlier request does.
func (w *watcher) killIn() {
	w.mu.Lock()
	grace := w.grace
	at := time.Now().Add(grace)
	earlier := w.killsAt.IsZero() || at.Before(w.killsAt)
	if earlier {
		w.killsAt = at
	}
	w.mu.Unlock()
	if !earlier {
		return
	}
	w.saveState()
	if grace == 0 {
		_ = w.cmd.Signal(syscall.SIGKILL)
		return
	}
	w.after(grace, func() {
		w.log.Warn("the command did not exit on SIGTERM: killing it")
		_ = w.cmd.Signal(syscall.SIGKILL)
	})
}

func (w *watcher) signalled(sig os.Signal) {
	switch {
	case w.cmd != nil:
		w.forward(sig)
	case sig != syscall.SIGCONT && sig != syscall.SIGWINCH:
		w.log.Infof("ended by signal: %s", sig)
		w.end(0)
	}
}

// forward passes a signal on to COMMAND, unless it came from the keyboard: then the terminal has
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
