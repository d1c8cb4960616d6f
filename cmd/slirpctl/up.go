package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/privileges"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/subnet"
	"github.com/slirpctl/slirpctl/internal/supervisor"
	"github.com/slirpctl/slirpctl/internal/target"
)

// upOptions holds the arguments of `up`, and the flags that are not configuration keys.
type upOptions struct {
	netns, userns string
	ociState      string
	output        printer

	pid       int
	command   []string
	container *specs.State // with --oci-state, once read
}

// AddFlags registers the flags of `slirpctl up`.
func (o *upOptions) AddFlags(fs *pflag.FlagSet) {
	options.AddFlags(fs)
	fs.StringVar(&o.netns, "netns", "", "the network namespace at `PATH`, or NAME for /run/netns/NAME")
	fs.StringVar(&o.userns, "userns", "", "the user namespace at `PATH` to enter first [the one that owns the network namespace]")
	fs.StringVar(&o.ociState, "oci-state", "", "the OCI container whose state is in `FILE`, or on standard input (-)")
}

func newUpCmd(a *app) *cobra.Command {
	opts := &upOptions{}
	cmd := &cobra.Command{
		Use:        "up [flags] PID | --netns PATH|NAME | --oci-state FILE|- | -- COMMAND [ARG...]",
		SuggestFor: []string{"run", "start", "create", "connect"},
		Short:      "Give a namespace a network",
		Long: `Give a namespace a network: that of a process, one given by path, or a new one
for COMMAND. COMMAND runs as root of its user namespace (id 0, which is the caller
outside); with --user keep as the caller's own id and without capabilities, for
programs that refuse root, such as PostgreSQL. slirpctl runs in the foreground until
the target ends, unless --detach is given.

"up -d" returns, and --ready-fd and systemd hear of it, when the network is ready and
COMMAND was started; with --wait-listen, when something inside listens there. It fails
if COMMAND ends before that.

With --oci-state, the target is the container whose state runc or crun pass to
their hooks. The instance is named after the container's id, the annotations
io.slirpctl.publish and io.slirpctl.options are added to the flags, and slirpctl
detaches. With -, it prints nothing unless --json or --format is given, because a
hook's stdout may be the container's.

With COMMAND in the foreground, the exit status is COMMAND's own (128+N for
signal N); 125 when slirpctl failed, also for wrong usage or configuration; 126
when COMMAND can't be run, 127 when it isn't found. With --detach, it is that of
the other commands.`,
		Example: `  slirpctl up -- bash
  slirpctl up -d --name web -p 8080:80 4711
  slirpctl up -d --json --netns blue
  slirpctl up -d --name db -p 5432:5432 --wait-listen 5432 --user keep -- postgres -D data`,
		Args:              func(cmd *cobra.Command, args []string) error { return opts.setTarget(cmd, args) },
		ValidArgsFunction: a.orCommand(completeProcesses),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getpid() == 1 {
				status, err := nscommand.BelowInit(inheritedFDs())
				if err != nil {
					return err
				}
				return statusError(status)
			}
			kept := privileges.Drop()
			if err := a.load(cmd); err != nil {
				return err
			}
			if kept != nil {
				a.log.Debugf("root's capabilities are kept: %v", kept)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.ociState != "" {
				var err error
				if opts.container, err = a.readState(opts.ociState); err != nil {
					return err
				}
				if err := a.loadContainer(cmd, opts.container); err != nil {
					return err
				}
			}
			return runUp(cmd.Context(), a, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	addPrinter[instance.State](cmd, &opts.output, "object")
	return cmd
}

// setTarget sets the target from the command line, which must name exactly one.
func (o *upOptions) setTarget(cmd *cobra.Command, args []string) error {
	dash := cmd.ArgsLenAtDash()
	before := args
	if dash >= 0 {
		before, o.command = args[:dash], args[dash:]
		if len(o.command) == 0 {
			return usagef("no COMMAND after --")
		}
		if o.command[0] == "" {
			return usagef("the COMMAND after -- is empty")
		}
	}
	kinds := 0
	for _, given := range []bool{len(before) > 0, o.netns != "", o.ociState != "", len(o.command) > 0} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return wrongUsage("no target", "give one: slirpctl up PID, slirpctl up --netns NAME, or slirpctl up -- COMMAND")
	case kinds > 1:
		return wrongUsage("more than one target", "give a PID, or --netns, or --oci-state, or -- COMMAND")
	case o.userns != "" && o.netns == "":
		return usagef("--userns needs --netns")
	case len(before) > 1:
		return wrongUsage(fmt.Sprintf("unexpected argument %q", before[1]), "a command goes after --: slirpctl up -- COMMAND")
	}
	if len(before) == 0 {
		return nil
	}
	pid, err := strconv.Atoi(before[0])
	if err != nil || pid <= 0 || pid > 1<<22 { // PID_MAX_LIMIT, proc(5)
		return wrongUsage(fmt.Sprintf("%q is not a process id", before[0]), "a command goes after --: slirpctl up -- COMMAND")
	}
	o.pid = pid
	return nil
}

func runUp(ctx context.Context, a *app, o *upOptions) error {
	req, err := o.request(a)
	if err != nil {
		return err
	}
	ready, exit, err := openWrapperFDs(&req.Options)
	if err != nil {
		return err
	}
	if len(o.command) > 0 {
		if err := nscommand.Check(o.command[0]); err != nil {
			return err
		}
	}
	if req.Options.DryRun {
		line, err := supervisor.DryRun(ctx, req)
		if err == nil {
			_, err = fmt.Fprintln(a.out, line)
		}
		return err
	}
	if err := o.prepare(ctx, a, &req); err != nil {
		return err
	}
	if !signal.Ignored(syscall.SIGPIPE) {
		// Writing to a pipe without a reader then fails with EPIPE, and the start is undone. COMMAND gets the
		// default action.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	onReady := func(st instance.State) error { return o.announce(a, st, req.Options.Detach, ready) }
	if !req.Options.Detach {
		return runForeground(ctx, a, req, exit, onReady)
	}
	stop := startProgress(a.err, func(d time.Duration) string { return fmt.Sprintf("starting … %.1f s", d.Seconds()) })
	defer stop()
	return startDetached(ctx, a, req, exit, func(st instance.State) error {
		stop()
		return onReady(st)
	})
}

// request returns the request for the supervisor.
func (o *upOptions) request(a *app) (supervisor.Request, error) {
	req := supervisor.Request{
		Options: a.cfg.Options, Base: a.stateDir(),
		PID: o.pid, Netns: o.netns, Userns: o.userns, Command: o.command,
		// Files are created with a fixed umask; COMMAND gets the caller's.
		Umask: unix.Umask(0o077),
	}
	if o.container == nil {
		return req, nil
	}
	return req, setContainer(&req, o.container)
}

// prepare does what must be done before the start: it checks /proc, resolves descriptors given as paths, warns of an
// overlap, and waits for the previous instance of a container.
func (o *upOptions) prepare(ctx context.Context, a *app, req *supervisor.Request) error {
	if err := probe.CheckProc(); err != nil {
		return err
	}
	// A descriptor such as /dev/fd/3 is valid in this process only. The supervisor opens it by these paths while
	// this process waits for it.
	req.Netns, req.Descriptor = target.OwnDescriptor(o.netns)
	req.Userns, _ = target.OwnDescriptor(o.userns)
	warnOfOverlap(a.log, req.Options.CIDR)
	if o.container == nil {
		return nil
	}
	return waitForPrevious(ctx, req.Base, cmp.Or(req.Options.Name, req.DefaultName), req.Options.Timeout)
}

// announce prints the result, and notifies --ready-fd and systemd that the network is ready.
func (o *upOptions) announce(a *app, st instance.State, detached bool, ready *os.File) error {
	if err := o.report(a, st, detached); err != nil {
		return err
	}
	if err := signalReady(ready); err != nil {
		return err
	}
	if o.container == nil { // a hook's NOTIFY_SOCKET is the container's
		notifyReady(a, st, detached)
	}
	return nil
}

func runForeground(ctx context.Context, a *app, req supervisor.Request, exit *os.File, onReady func(instance.State) error) error {
	// Only COMMAND inherits them: slirp4netns and the helpers would keep the caller's pipes open.
	inherited := inheritedFDs()
	closeOnExec(inherited)
	var denied []egress.Denial
	var more int
	status, err := supervisor.Run(ctx, req, supervisor.Env{
		Denied: func(first []egress.Denial, others int) { denied, more = first, others },
		Log:    a.log, LogLevel: a.fileLevel(), LogJSON: a.cfg.LogFormat == "json", Stdio: [3]*os.File{a.in, fileOf(a.out), fileOf(a.err)}, KeepFDs: inherited,
		ExitFD: exit, Ready: onReady, Terminal: inForeground,
	})
	if len(req.Command) > 0 {
		a.noteDenials(denied, more)
		if err == nil && len(denied) > 0 && req.Options.Egress.FailOnDeny {
			status = nscommand.StatusFailed
		}
	}
	if err == nil && status != 0 {
		err = statusError(status)
	}
	return err
}

// report prints the result of `up`. stdout may be the container's in a hook, and is COMMAND's in the foreground:
// without --json or --format nothing is printed to it then. The forwards of COMMAND go to stderr.
func (o *upOptions) report(a *app, st instance.State, detached bool) error {
	o.output.oneLine = true
	switch {
	case o.output.given:
	case o.container != nil && o.ociState == "-":
		return nil
	case len(o.command) > 0 && !detached:
		for _, f := range st.Ports {
			a.note("forwarding %s", portText(f))
		}
		return nil
	}
	return o.output.table(st, func() *table { return upTable(st) })
}

// warnOfOverlap warns of a network of the host that can't be reached from the namespace, and proposes a free one.
func warnOfOverlap(log *logrus.Logger, cidr subnet.Network) {
	overlap, found, err := probe.FindOverlap(probe.NewEnv("", cidr, nil))
	if err != nil || !found {
		return
	}
	text := fmt.Sprintf("the network %s overlaps %s, which can't be reached from the namespace", cidr, overlap)
	if overlap.Free.IsValid() {
		text += "; --cidr " + overlap.Free.String() + " is free"
	}
	log.Warn(text)
}

func fileOf(w io.Writer) *os.File {
	f, _ := w.(*os.File)
	return f
}

// openWrapperFDs returns the files of --ready-fd and --exit-fd. It checks that they are open: slirp4netns would ignore
// a bad ready descriptor, and exit at once with a bad exit descriptor.
func openWrapperFDs(o *options.Options) (ready, exit *os.File, err error) {
	open := func(flag string, fd int) (*os.File, error) {
		if fd < 0 {
			return nil, nil
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return nil, wrongUsage(fmt.Sprintf("--%s %d: the descriptor is not open", flag, fd), fmt.Sprintf("open it, for example: slirpctl up --%s 3 … 3>FILE", flag))
		}
		if flag == "ready-fd" && (flags&unix.O_ACCMODE == unix.O_RDONLY || flags&unix.O_PATH != 0) {
			return nil, usagef("--ready-fd %d: the descriptor is not open for writing", fd)
		}
		unix.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), flag), nil
	}
	if ready, err = open("ready-fd", o.ReadyFD); err != nil {
		return nil, nil, err
	}
	if exit, err = open("exit-fd", o.ExitFD); err != nil {
		return nil, nil, err
	}
	return ready, exit, nil
}

// notifyReady notifies systemd if NOTIFY_SOCKET is set. A failure is a warning only: systemd reports the missing
// notification itself, after its timeout.
func notifyReady(a *app, st instance.State, detached bool) {
	message := fmt.Sprintf("%s\nSTATUS=network of %s is up: %s", daemon.SdNotifyReady, st.Name, st.Guest)
	if detached {
		message += fmt.Sprintf("\nMAINPID=%d", st.SupervisorPID)
	}
	if _, err := daemon.SdNotify(false, message); err != nil {
		a.log.Warnf("NOTIFY_SOCKET: %v", err)
	}
}

// signalReady writes "1" to f and closes it, as slirp4netns does with its ready descriptor.
func signalReady(f *os.File) error {
	if f == nil {
		return nil
	}
	_, err := f.WriteString("1")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("--ready-fd: %w", err)
	}
	return nil
}
