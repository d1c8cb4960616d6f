// Package supervisor runs one instance from its start to its end. It exists because somebody has
// to own what slirp4netns leaves open: slirp4netns does not end when its target does, is not
// started again when it dies, and forgets its forwards.
//
// One goroutine, that of [Run], decides what becomes of the instance: whether it ends, whether and when
// slirp4netns, the helper and forwards that failed are started again. The others wait for one thing each (the target,
// slirp4netns's exit, a request) or do one piece of work (one attempt to start something), and report to it. What
// they share is small and locked: the state, the books of the forwards, the helper. Whatever is made is put
// on a stack and unmade in reverse order, on failure as at the end.
//
//	who                     owns
//	supervisor              the instance's lock, state and log; the target's descriptors; the
//	                        exit pipe of slirp4netns; every listening socket; control.sock
//	slirp4netns             the tap; ends when the exit pipe hangs up
//	guest agent (optional)  nothing; ends when its socket hangs up
//	COMMAND (optional)      its namespaces; killed when the supervisor dies
package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/crashpoint"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/guest"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/privileges"
	"github.com/slirpctl/slirpctl/internal/subnet"
	"github.com/slirpctl/slirpctl/internal/target"
)

// commandGrace is how long COMMAND gets between TERM and KILL when the instance is taken down.
const commandGrace = 10 * time.Second

// Request says what to run.
type Request struct {
	Options options.Options
	// Base is the state directory.
	Base string
	// Exactly one of PID, Netns and Command is set. Userns goes with Netns.
	PID     int
	Netns   string
	Userns  string
	Command []string
	// Descriptor says that Netns is a path to a descriptor of who makes the request.
	Descriptor bool
	// Umask is COMMAND's; the supervisor's own must keep its files private and usable.
	Umask int
	// Container is noted in the state, for an OCI container's PID; nil otherwise.
	Container *instance.Container
	// DefaultName is used where Options.Name is "" and the target has no better one.
	DefaultName string
}

// Env is what the supervisor's surroundings provide.
type Env struct {
	Log *logrus.Logger
	// LogLevel is the least that goes into the instance's log; nil: info. LogJSON makes the log lines of JSON,
	// but for what a detached COMMAND writes.
	LogLevel *logrus.Level
	LogJSON  bool
	Stdio    [3]*os.File // for COMMAND
	// KeepFDs are descriptors above 2 that are handed on to COMMAND.
	KeepFDs []int
	// Session puts COMMAND into a session of its own (detached).
	Session bool
	// ExitFD ends the instance when it hangs up; nil: none.
	ExitFD *os.File
	// Ready is called once, when everything works. With an error everything is undone.
	Ready func(instance.State) error
	// Terminal says that signals from the keyboard reach COMMAND by themselves.
	Terminal func() bool
}

type supervisor struct {
	req Request
	env Env
	log *logrus.Entry

	inst     *instance.Instance
	instLog  *instance.Log
	net      subnet.Network
	tgt      *target.Target
	cmd      *nscommand.Command // nil without COMMAND
	resolv   resolvFile         // COMMAND's, if it has one
	bin      launcher.Binary
	binStamp fileStamp
	tuned    bool // once is enough, slirp4netns restarted or not
	// detected brings what slirp4netns can; nil until the instance has its directory.
	detected <-chan detection
	plan     launcher.Plan
	fwd      *hostfwd.Manager
	handler  hostfwd.Handler
	noted    struct { // what noteForwards has told
		lastID int
		source bool
	}

	// entry is the user namespace to enter on the way to the target's network namespace, nil if none.
	entry *os.File

	agents       sync.Mutex
	agent        *guest.Agent // nil until needed
	agentStarted time.Time    // zero once its end is counted
	agentDeaths  int          // in a row
	agentNext    time.Time    // no start before

	proc         *launcher.Process
	slirpStarted time.Time
	security     launcher.Security
	guest6       netip.Addr

	mu    sync.Mutex
	state instance.State

	saving sync.Mutex // one writer of the state file

	signals  chan os.Signal
	down     chan struct{} // a request to end
	downOnce sync.Once
	stopping atomic.Bool
	ready    atomic.Bool // the state file is there

	forwardFailed, agentEnded chan struct{} // see wake

	undoing sync.Mutex
	undo    []func()
}

// Run brings the instance up, keeps it up, and takes it down. It returns COMMAND's status, or 0
// where there is none. With an error nothing is left behind.
func Run(ctx context.Context, req Request, env Env) (status int, err error) {
	s := &supervisor{req: req, env: env, log: logrus.NewEntry(env.Log), down: make(chan struct{}), forwardFailed: make(chan struct{}, 1), agentEnded: make(chan struct{}, 1)}
	defer func() {
		s.stopping.Store(true)
		crashpoint.Here("stop")
		for f := s.lastUndo(); f != nil; f = s.lastUndo() {
			f()
			crashpoint.Here("undone")
		}
	}()
	signals := s.catchSignals()
	if err := s.bringUp(ctx, signals); err != nil {
		return 0, err
	}
	return s.watch(ctx, signals)
}

// wake tells the goroutine that decides that something has happened, unless it is about to look anyway.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *supervisor) atEnd(f func()) {
	s.undoing.Lock()
	defer s.undoing.Unlock()
	s.undo = append(s.undo, f)
}

func (s *supervisor) lastUndo() func() {
	s.undoing.Lock()
	defer s.undoing.Unlock()
	n := len(s.undo) - 1
	if n < 0 {
		return nil
	}
	f := s.undo[n]
	s.undo = s.undo[:n]
	return f
}

// catchSignals catches what ends or reaches an instance, except what the caller chose to
// ignore (nohup).
func (s *supervisor) catchSignals() chan os.Signal {
	sigs := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	if len(s.req.Command) > 0 {
		sigs = append(sigs, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT)
	}
	c := make(chan os.Signal, 32)
	for _, sig := range sigs {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	s.atEnd(func() { signal.Stop(c) })
	s.signals = c
	return c
}

// ErrInterrupted: a signal ended the start.
var ErrInterrupted = errors.New("interrupted before the network was ready")

// bringUp does everything up to ready. A signal or a request to end makes it fail.
func (s *supervisor) bringUp(ctx context.Context, signals <-chan os.Signal) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.req.Options.Timeout, errTimeout)
	defer cancel()
	inner, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	watched, stop := make(chan struct{}), make(chan struct{})
	// From here on a signal is COMMAND's, or watch's; one that came before has won.
	commit := sync.OnceValue(func() error {
		close(stop)
		<-watched
		return context.Cause(inner)
	})
	defer commit()
	go func() {
		defer close(watched)
		for {
			select {
			case sig := <-signals:
				if sig == syscall.SIGWINCH || sig == syscall.SIGCONT {
					continue
				}
				interrupt(ErrInterrupted)
			case <-s.down:
				interrupt(ErrInterrupted)
			case <-stop:
			}
			return
		}
	}()
	err = s.start(inner, commit)
	if err != nil && inner.Err() != nil {
		var start *launcher.StartError // says that it timed out, and more
		switch cause := context.Cause(inner); {
		case errors.Is(err, cause), cause == errTimeout && errors.As(err, &start):
		case err == context.Canceled, err == context.DeadlineExceeded:
			err = cause // which says it better
		default:
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return err
}

// errTimeout: the network was not ready in time.
var errTimeout error = &fault.Error{Kind: fault.Timeout, Msg: "not ready within --timeout", Err: context.DeadlineExceeded}

// start takes the steps up to ready, in this order. It calls commit before the first that others see.
func (s *supervisor) start(ctx context.Context, commit func() error) (err error) {
	s.net = s.req.Options.CIDR
	if s.plan, err = launcher.NewPlan(&s.req.Options); err != nil {
		return err
	}
	for _, step := range []struct {
		done string
		do   func() error
	}{
		{"detected", func() error { return s.prepareAndDetect(ctx) }},
		{"slirp4netns ready", func() error { return s.firstSlirp(ctx) }},
		{"forwards open", func() error { return s.startForwards(ctx) }},
		{"serving", s.serve},
		{"state written", s.writeFiles},
		{"released", func() error { return s.release(commit) }},
		{"reported", s.report},
	} {
		if err := step.do(); err != nil {
			return err
		}
		crashpoint.Here(step.done)
	}
	return nil
}

// prepareAndDetect makes the namespaces while slirp4netns is asked what it can.
func (s *supervisor) prepareAndDetect(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		if s.detected != nil {
			<-s.detected
		}
		return err
	}
	d := <-s.detected
	s.bin, s.binStamp = d.bin, binaryStamp(d.bin.Path)
	return d.err
}

func (s *supervisor) firstSlirp(ctx context.Context) error {
	if err := s.startSlirp(ctx); err != nil {
		return s.explainTaken(ctx, err)
	}
	s.setState()
	return nil
}

// writeFiles writes what others read.
func (s *supervisor) writeFiles() error {
	st := s.State()
	if err := s.inst.WriteState(&st); err != nil {
		return err
	}
	if err := s.writePIDFile(); err != nil {
		return err
	}
	s.ready.Store(true)
	return nil
}

// release lets COMMAND go. From here on it has what it had when it was started, and this process no more than it needs.
func (s *supervisor) release(commit func() error) error {
	if s.tgt.Gone() {
		return s.tgt.Ended("while the network was set up")
	}
	if err := commit(); err != nil {
		return err
	}
	if s.cmd != nil {
		// From here on this process stops when COMMAND has, and only then.
		signal.Notify(s.signals, syscall.SIGTSTP, syscall.SIGTTIN)
		if err := s.cmd.Release(); err != nil {
			return err
		}
	}
	// An ordinary user's newuidmap, and a slirp4netns with file capabilities, must go on working.
	if os.Geteuid() == 0 {
		if err := privileges.NoNewPrivs(); err != nil {
			s.log.Debug(err)
		}
	}
	return nil
}

// prepare pins the target and takes the name; COMMAND is a target that is made last, because
// its output may have to go to the instance's log.
func (s *supervisor) prepare(ctx context.Context) error {
	if len(s.req.Command) > 0 {
		if err := s.createInstance(ctx); err != nil {
			return err
		}
		return s.startCommand(ctx)
	}
	if err := s.openTarget(ctx); err != nil {
		return err
	}
	return s.createInstance(ctx)
}

type detection struct {
	bin launcher.Binary
	err error
}

// detect finds out what slirp4netns can, while the namespaces are being made.
func detect(ctx context.Context, cache launcher.Cache, path string) <-chan detection {
	c := make(chan detection, 1)
	go func() {
		bin, err := cache.Detect(ctx, path)
		c <- detection{bin, err}
	}()
	return c
}

func (s *supervisor) openTarget(ctx context.Context) (err error) {
	switch {
	case s.req.PID > 0:
		s.tgt, err = target.FromPID(ctx, s.req.PID, s.req.Options.WaitNetns)
	case s.req.Descriptor:
		s.tgt, err = target.FromDescriptor(s.req.Netns, s.req.Userns)
	default:
		s.tgt, err = target.FromNetns(s.req.Netns, s.req.Userns)
	}
	if err != nil {
		return err
	}
	crashpoint.Here("target open")
	return s.ownTarget()
}

// startCommand makes COMMAND's namespaces, with COMMAND held back.
func (s *supervisor) startCommand(ctx context.Context) (err error) {
	o := &s.req.Options
	cfg := nscommand.Config{
		Argv: s.req.Command, Env: commandEnv(s.inst.Name()), Stdio: s.env.Stdio, KeepFDs: s.env.KeepFDs,
		Setsid: s.env.Session, Umask: s.req.Umask,
		MapUsers: o.MapUsers, PIDNamespace: o.PIDNamespace,
		Hide: []string{filepath.Dir(s.inst.Dir())},
		Warn: func(text string) { s.log.Warn(text) },
	}
	if s.env.Session {
		cfg.Stdio = [3]*os.File{nil, s.instLog.Share(), s.instLog.Share()}
	}
	if cfg.ResolvConf, err = s.makeResolvConf(); err != nil {
		return err
	}
	if s.cmd, err = nscommand.Start(ctx, cfg); err != nil {
		return explainNamespaces(err)
	}
	s.atEnd(s.cmd.Kill)
	crashpoint.Here("command held")
	if s.tgt, err = target.FromPID(ctx, s.cmd.PID(), 0); err != nil {
		return err
	}
	return s.ownTarget()
}

// ownTarget finds the way into the target, and closes both at the end.
func (s *supervisor) ownTarget() (err error) {
	s.atEnd(func() { s.tgt.Close() })
	if s.entry, err = s.tgt.Entry(); s.entry != nil {
		s.atEnd(func() { s.entry.Close() })
	}
	return err
}

// commandEnv is the caller's environment, and the name of the instance.
func commandEnv(instance string) []string {
	const name = "SLIRPCTL_INSTANCE="
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, name) })
	return append(env, name+instance)
}

func (s *supervisor) createInstance(ctx context.Context) (err error) {
	name, create := cmp.Or(s.req.Options.Name, s.req.DefaultName), instance.Base.Create
	if name == "" {
		create = instance.Base.CreateDefault
		if len(s.req.Command) > 0 {
			name = fmt.Sprintf("pid-%d", os.Getpid()) // COMMAND has no process yet
		} else {
			name = s.tgt.DefaultName()
		}
	}
	if err := instance.CheckPath(s.req.Base, name); err != nil {
		return err
	}
	base, err := instance.OpenBase(s.req.Base)
	if err != nil {
		return err
	}
	if s.inst, err = create(base, ctx, name); err != nil {
		return err
	}
	s.atEnd(func() {
		// Not the context of the start, which may have ended.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.inst.Remove(ctx); err != nil {
			s.log.Errorf("remove state: %v", err)
		}
	})
	crashpoint.Here("instance made")
	s.detected = detect(ctx, launcher.Cache{Dir: base.CacheDir()}, s.req.Options.Slirp4netnsPath)
	if s.instLog, err = s.inst.OpenLog(s.env.LogJSON); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	hook := newFileHook(&s.env, s.instLog)
	s.env.Log.AddHook(hook)
	s.atEnd(func() {
		hook.close()
		s.instLog.Close()
	})
	s.log.Debugf("instance %s: %s", name, s.inst.Dir())
	return nil
}
