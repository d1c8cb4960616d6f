package enter

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// job is a command that runs, as the caller's shell shall see it.
type job struct {
	*nsexec.Running
	term     *terminal   // nil: none of its files is one
	keyboard func() bool // reports whether the keyboard's signals reach this process
}

// run starts s, passes signals on to the command, stops and goes on with it, and returns its status
// once it has ended: its exit code, or 128+N for signal N.
func run(s *nsexec.Session, keyboard func() bool) (status int, err error) {
	t, files, eager, err := openTerminal(s.Files)
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
	return (&job{r, t, keyboard}).see(s.Foreground)
}

// see sees the command through to its end.
func (j *job) see(foreground bool) (status int, err error) {
	signals := make(chan os.Signal, 32)
	for _, sig := range []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	defer signal.Stop(signals)
	if err := j.Go(foreground, false); err != nil {
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
			if err := j.Go(j.stopped(syscall.Signal(ev.Status))); err != nil {
				return 0, err
			}
			go wait()
		case sig := <-signals:
			j.pass(sig.(syscall.Signal))
		}
	}
}

// pass passes a signal on. What the keyboard sends goes to the whole process group.
func (j *job) pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGWINCH:
		if j.term != nil {
			j.term.resize() // which the kernel tells the command
			return
		}
	case syscall.SIGCONT: // after a stop that was not the command's
		if j.term != nil {
			j.term.again()
		}
		return
	case syscall.SIGTSTP:
		j.Signal(sig, true)
		return
	}
	group := (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && j.keyboard != nil && j.keyboard()
	j.Signal(sig, group)
}

// stopped does as a command does that was stopped, so that the caller's shell is told and shows its
// prompt, and returns once it goes on: whether the command has the terminal then, and whether it is
// to be sent SIGCONT.
func (j *job) stopped(by syscall.Signal) (foreground, goOn bool) {
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
		self = syscall.SIGTSTP // which the kernel ignores where nobody would go on with this process
	}
	stopped := suspend(self)
	if j.term != nil && (had || wants) {
		foreground = j.term.take()
	}
	// Where this process can't be stopped, the command isn't stopped from a keyboard either; but
	// by SIGSTOP it is.
	return foreground || wants && !stopped, stopped || by != syscall.SIGSTOP
}

// suspend stops this process by sig, and returns once it goes on. It reports false where the kernel
// doesn't stop it, because no shell is there to go on with it (setpgid(2), "orphaned").
func suspend(sig syscall.Signal) bool {
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, syscall.SIGCONT)
	defer signal.Stop(cont)
	// Package signal can't give SIGTSTP its default back.
	var handler, none [4]uint64 // the kernel's struct sigaction
	setAction(sig, &none, &handler)
	defer setAction(sig, &handler, nil)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), sig) // returns when it goes on
	select {
	case <-cont:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

func setAction(sig syscall.Signal, to, from *[4]uint64) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)), 8, 0, 0)
}
