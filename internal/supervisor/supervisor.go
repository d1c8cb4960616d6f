// Package supervisor runs one instance from its start to its end. It exists because slirp4netns does
// not exit when its target does, is not restarted when it dies, and then loses its forwards.
//
// One goroutine, that of [Run], makes all decisions: whether the instance stops, and whether and when
// slirp4netns, the helper and failed forwards are restarted. Each other goroutine waits for one event (the target's
// end, slirp4netns's exit, a request) or does one piece of work (one attempt to start something), and reports to it.
// The state they share is small and protected by mutexes: the state, the table of forwards, the helper. Everything
// that is created is pushed on a stack and undone in reverse order, on failure and at the end.
//
//	process                 owns
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
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/crashpoint"
	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/gateway"
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

// Request describes the instance to run.
type Request struct {
	Options options.Options
	// Base is the state directory.
	Base string
	// Exactly one of PID, Netns and Command is set. Userns goes with Netns.
	PID     int
	Netns   string
	Userns  string
	Command []string
	// Descriptor means that Netns is a path to a descriptor of the requesting process.
	Descriptor bool
	// Umask is for COMMAND. The process's own umask must keep the supervisor's files private and usable.
	Umask int
	// Container is recorded in the state if PID is an OCI container's; nil otherwise.
	Container *instance.Container
	// DefaultName is used if Options.Name is ""; if both are "", the name is made from the target.
	DefaultName string
}

// Env is what the caller of [Run] provides.
type Env struct {
	Log *logrus.Logger
	// LogLevel is the lowest level that is written to the instance's log; nil: info. LogJSON makes its lines JSON.
	LogLevel *logrus.Level
	LogJSON  bool
	Stdio    [3]*os.File // for COMMAND
	// KeepFDs are descriptors above 2 that are passed on to COMMAND.
	KeepFDs []int
	// Session puts COMMAND into a session of its own (detached).
	Session bool
	// ExitFD stops the instance when it hangs up; nil: none.
	ExitFD *os.File
	// Ready is called once, when the network is ready. If it returns an error, everything is undone.
	Ready func(instance.State) error
	// Denied, if not nil, is called at the end with what the egress rules denied.
	Denied func(first []egress.Denial, more int)
	// Terminal reports whether the terminal sends keyboard signals to COMMAND directly; nil: no.
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
	tuned    bool // the namespace's TCP settings are set
	// detecting sets bin and detectErr.
	detecting sync.WaitGroup
	detectErr error
	plan      launcher.Plan
	fwd       *hostfwd.Manager
	handler   hostfwd.Handler
	sources   *guest.Transparency // nil unless the handler direct keeps clients' addresses
	logged    struct {            // by logNewForwards
		lastID int
		source bool
	}

	// entry is the user namespace to join before the target's network namespace, nil if none.
	entry *os.File

	agents      sync.Mutex
	agent       *guest.Agent // nil until needed, and once it has died
	agentDeaths int          // in a row
	agentNext   time.Time    // earliest next start

	gateway  *gateway.Gateway // nil without egress rules: slirp4netns's tap is in the target
	egress   *gateway.Policy
	recorder *egress.Recorder

	proc         *launcher.Process
	slirpStarted time.Time
	security     launcher.Security
	guest6       netip.Addr

	mu    sync.Mutex
	state instance.State

	saving sync.Mutex // one writer of the state file

	signals  chan os.Signal
	down     chan struct{} // closed on a request to stop
	downOnce sync.Once
	hurry    chan struct{} // a further request; see wake
	grace    time.Duration // between SIGTERM and SIGKILL for COMMAND, as the last request has it; mu
	killsAt  time.Time     // when COMMAND is killed; zero: it was not asked to end; mu
	stopping atomic.Bool
	ready    atomic.Bool // the state file has been written
	reported bool        // Ready was called
	deadline time.Time   // of the start
	exited   *int        // COMMAND's status, once it has ended

	forwardFailed, agentEnded chan struct{} // see wake

	undoing sync.Mutex
	undo    []func()
}

// Run brings the instance up, keeps it up, and takes it down. It returns COMMAND's exit status, or 0
// without COMMAND. On an error nothing is left behind.
func Run(ctx context.Context, req Request, env Env) (status int, err error) {
	s := &supervisor{req: req, env: env, log: logrus.NewEntry(env.Log), down: make(chan struct{}), hurry: make(chan struct{}, 1), grace: control.DefaultGrace, forwardFailed: make(chan struct{}, 1), agentEnded: make(chan struct{}, 1)}
	defer func() {
		s.stopping.Store(true)
		s.recordEnd(err)
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

// wake notifies the deciding goroutine through c, a channel with a buffer of one, unless a notification is pending.
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

// catchSignals catches the signals that stop the instance or are passed on to COMMAND, except those that are
// ignored (nohup).
func (s *supervisor) catchSignals() chan os.Signal {
	sigs := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	if len(s.req.Command) > 0 {
		sigs = append(sigs, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT)
	}
	c := make(chan os.Signal, 32)
	nscommand.Notify(c, sigs...)
	s.atEnd(func() { signal.Stop(c) })
	s.signals = c
	return c
}

// ErrInterrupted means that a signal or a request to stop ended the start.
var ErrInterrupted = errors.New("interrupted before the network was ready")

// bringUp does everything until the network is ready. A signal or a request to stop makes it fail.
func (s *supervisor) bringUp(ctx context.Context, signals <-chan os.Signal) (err error) {
	s.deadline = time.Now().Add(s.req.Options.Timeout)
	ctx, cancel := context.WithDeadlineCause(ctx, s.deadline, errTimeout)
	defer cancel()
	inner, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	watched, stop := make(chan struct{}), make(chan struct{})
	// After commit, signals are for COMMAND or watch. A signal before it makes the start fail.
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
		var start *launcher.StartError // its message includes the timeout
		switch cause := context.Cause(inner); {
		case errors.Is(err, cause), cause == errTimeout && errors.As(err, &start):
		case err == context.Canceled, err == context.DeadlineExceeded:
			err = cause // a clearer message
		default:
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return err
}

// errTimeout means that the network was not ready in time.
var errTimeout error = &fault.Error{Kind: fault.Timeout, Msg: "not ready within --timeout", Err: context.DeadlineExceeded}

// start runs the steps of a start in order. It calls commit before COMMAND is released.
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
		{"gateway started", s.startGateway},
		{"slirp4netns ready", func() error { return s.firstSlirp(ctx) }},
		{"forwards open", func() error { return s.startForwards(ctx) }},
		{"serving", s.serve},
		{"state written", s.writeFiles},
		{"released", func() error { return s.release(commit) }},
		{"reported", func() error { return s.reportNow(ctx) }},
	} {
		if err := step.do(); err != nil {
			return err
		}
		crashpoint.Here(step.done)
	}
	return nil
}

// prepareAndDetect prepares the target and detects slirp4netns's features at the same time.
func (s *supervisor) prepareAndDetect(ctx context.Context) error {
	err := s.prepare(ctx)
	s.detecting.Wait()
	s.binStamp = binaryStamp(s.bin.Path)
	return cmp.Or(err, s.detectErr)
}

func (s *supervisor) firstSlirp(ctx context.Context) error {
	if err := s.startSlirp(ctx); err != nil {
		return s.explainTaken(ctx, err)
	}
	s.setState()
	return nil
}

// writeFiles writes the state file and the PID file.
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

// release starts COMMAND, which waits in its namespaces, and sets no_new_privs for the supervisor if it is root.
func (s *supervisor) release(commit func() error) error {
	if s.tgt.Gone() {
		return s.tgt.Ended("while the network was set up")
	}
	if err := commit(); err != nil {
		return err
	}
	if s.cmd != nil {
		// From here on this process stops only after COMMAND has (stopAlong).
		signal.Notify(s.signals, syscall.SIGTSTP, syscall.SIGTTIN)
		if err := s.cmd.Release(); err != nil {
			return err
		}
	}
	// Not for an ordinary user, who may need newuidmap or a slirp4netns with file capabilities.
	if os.Geteuid() == 0 {
		if err := privileges.NoNewPrivs(); err != nil {
			s.log.Debug(err)
		}
	}
	return nil
}

// prepare pins the target and creates the instance. For COMMAND the instance comes first, because
// COMMAND's output may go to the instance's log.
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

// startCommand makes COMMAND's namespaces. COMMAND itself waits for release.
func (s *supervisor) startCommand(ctx context.Context) (err error) {
	o := &s.req.Options
	env := exec.Cmd{Env: append(os.Environ(), "SLIRPCTL_INSTANCE="+s.inst.Name())}
	cfg := nscommand.Config{
		Argv: s.req.Command, Env: env.Environ(), Stdio: s.env.Stdio, KeepFDs: s.env.KeepFDs,
		Setsid: s.env.Session, Umask: s.req.Umask,
		MapUsers: o.MapUsers, KeepIDs: o.User == options.UserKeep, PIDNamespace: o.PIDNamespace,
		Hide: []string{filepath.Dir(s.inst.Dir())},
		Warn: func(text string) { s.log.Warn(text) },
	}
	if o.Egress.Mode == egress.Enforce {
		if err := s.confineCommand(&cfg); err != nil {
			return err
		}
	}
	if cfg.ResolvConf, err = s.makeResolvConf(); err != nil {
		return err
	}
	started, failed := func() {}, func() {}
	if s.env.Session {
		output, err := s.recordOutput()
		if err != nil {
			return err
		}
		cfg.Stdio = [3]*os.File{nil, output.Child, output.Child}
		started = func() {
			output.Started()
			s.atEnd(output.Ended)
		}
		failed = output.Close
	}
	if s.cmd, err = nscommand.Start(ctx, cfg); err != nil {
		failed()
		return explainNamespaces(err)
	}
	started()
	s.atEnd(s.cmd.Kill)
	crashpoint.Here("command held")
	if s.tgt, err = target.FromPID(ctx, s.cmd.PID(), 0); err != nil {
		return err
	}
	return s.ownTarget()
}

// ownTarget opens the user namespace to join on the way to the target, and closes it and the target at the end.
func (s *supervisor) ownTarget() (err error) {
	s.atEnd(func() { s.tgt.Close() })
	if s.entry, err = s.tgt.Entry(); s.entry != nil {
		s.atEnd(func() { s.entry.Close() })
	}
	return err
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
		// Not with the context of the start, which may be done.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var err error
		if s.leavesRecord() {
			err = s.inst.Retire(ctx, s.State(), *s.exited)
		} else {
			err = s.inst.Remove(ctx)
		}
		if err != nil {
			s.log.Errorf("remove state: %v", err)
		}
	})
	crashpoint.Here("instance made")
	cache := launcher.Cache{Dir: base.CacheDir()}
	s.detecting.Go(func() { s.bin, s.detectErr = cache.Detect(ctx, s.req.Options.Slirp4netnsPath) })
	return s.openLog()
}
