package enter

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// job is a running command. This process behaves as the command to the caller's shell.
type job struct {
	*nsexec.Running
	term     *terminal   // nil: none of its files is a terminal
	keyboard func() bool // reports whether signals from the keyboard reach this process
}

// run starts s, passes signals on to the command, stops and continues together with it, and returns its
// status: its exit code, or 128+N for signal N.
func run(s *nsexec.Session, keyboard func() bool, tty bool) (status int, err error) {
	t, files, eager, err := openTerminal(s.Files, tty)
	if err != nil {
		return 0, err
	}
	s.Files = files
	if t != nil {
		defer t.close()
		s.TTY = t.slave
		s.Foreground = eager && t.take()
	}
	r, err := s.Start()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if t != nil {
		defer t.drain()
		if err := t.start(); err != nil {
			return 0, err
		}
	}
	return (&job{r, t, keyboard}).wait(s.Foreground)
}

// wait handles signals and the command's stops until it ends.
func (j *job) wait(foreground bool) (status int, err error) {
	signals := make(chan os.Signal, 32)
	nscommand.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT)
	defer signal.Stop(signals)
	if err := j.Continue(foreground, false); err != nil {
		return 0, err
	}
	type next struct {
		nsexec.Event
		err error
	}
	events := make(chan next, 1)
	wait := func() {
		ev, err := j.Next()
		events <- next{ev, err}
	}
	go wait()
	for {
		select {
		case ev := <-events:
			if ev.err != nil || !ev.Stopped {
				return ev.Status, ev.err
			}
			if err := j.Continue(j.stopped(syscall.Signal(ev.Status))); err != nil {
				return 0, err
			}
			go wait()
		case sig := <-signals:
			j.pass(sig.(syscall.Signal))
		}
	}
}

// pass passes a signal on. A signal from the keyboard goes to the whole process group.
func (j *job) pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGWINCH:
		if j.term != nil {
			j.term.resize() // the kernel sends the command SIGWINCH
			return
		}
	case syscall.SIGCONT: // after a stop of this process only
		if j.term != nil {
			j.term.retake()
		}
		return
	case syscall.SIGTSTP:
		j.Signal(sig, true)
		return
	}
	group := (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && j.keyboard != nil && j.keyboard()
	j.Signal(sig, group)
}

// stopped stops this process because the command was stopped, so that the caller's shell shows its prompt. It
// returns when this process is continued: whether the command has the terminal then, and whether to send
// it SIGCONT.
func (j *job) stopped(by syscall.Signal) (foreground, cont bool) {
	wants := by == syscall.SIGTTIN || by == syscall.SIGTTOU // the terminal
	if wants && j.term != nil && j.term.take() {
		return true, true
	}
	had := j.term != nil && j.term.raw != nil
	if j.term != nil {
		j.term.flush()
		j.term.release()
	}
	self := by
	if by == syscall.SIGSTOP {
		self = syscall.SIGTSTP // the kernel ignores it if no shell could continue this process
	}
	stopped := suspend(self)
	if j.term != nil && (had || wants) {
		foreground = j.term.take()
	}
	// If this process can't be stopped, the command is continued, unless it was stopped by SIGSTOP.
	return foreground || wants && !stopped, stopped || by != syscall.SIGSTOP
}

// suspend stops this process by sig and returns when it is continued. It returns false if the kernel
// does not stop it, because no shell could continue it (setpgid(2), "orphaned").
func suspend(sig syscall.Signal) bool {
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, syscall.SIGCONT)
	defer signal.Stop(cont)
	nscommand.StopSelf(sig)
	select {
	case <-cont:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}
