package main

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/hostfwd/rootlesskit"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/oci"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/selftest"
	"github.com/slirpctl/slirpctl/internal/subnet"
	"github.com/slirpctl/slirpctl/internal/supervisor"
	"github.com/slirpctl/slirpctl/internal/target"
	"github.com/slirpctl/slirpctl/internal/trust"
)

// The exit codes of slirpctl. `up -- COMMAND` has COMMAND's own, and nscommand's 125 to 127.
const (
	exitOK          = 0
	exitFailure     = 1 // anything else
	exitUsage       = 2 // wrong usage or configuration
	exitUnsupported = 3 // by the installed slirp4netns, or by the host
	exitNotFound    = 4 // no such process, namespace or instance
	exitConflict    = 5 // name in use, port taken, interface exists
	exitTimeout     = 6
)

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	var start *launcher.StartError
	if errors.As(err, &start) {
		switch start.Problem {
		case launcher.InterfaceExists:
			return exitConflict
		case launcher.StartTimeout:
			return exitTimeout
		case launcher.TargetGone:
			return exitNotFound
		case launcher.TunDenied, launcher.TunMissing, launcher.TunNoDriver,
			launcher.SandboxFailed, launcher.SeccompFailed, launcher.NetnsDenied:
			return exitUnsupported
		}
		return exitFailure
	}
	// Not by an interface: *exec.ExitError has a method ExitCode too.
	if e, ok := errorAs[*control.Error](err); ok && e.Code > 0 {
		return e.Code
	}
	if e, ok := errorAs[*selftest.Error](err); ok {
		if exitCode(e.Err) == exitUnsupported {
			return exitUnsupported
		}
		return exitFailure
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, syscall.EAGAIN):
		return exitFailure // may work the next time
	case isA[*usageError](err), isA[*options.Error](err), isA[*subnet.CIDRError](err), isA[*hostfwd.SpecError](err),
		isA[*instance.PathTooLongError](err), isA[*launcher.SocketPathError](err), isA[*launcher.OutboundError](err),
		isA[*hostfwd.ForwardError](err), isA[*slirpapi.FieldError](err), errors.Is(err, slirpapi.ErrNetworkUnknown), errors.Is(err, target.ErrOwnNetns),
		isA[*oci.StateError](err), isA[*oci.ConfigError](err), errors.Is(err, hostfwd.ErrTooMany), isA[*trust.Error](err):
		return exitUsage
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return exitTimeout
	case isA[*launcher.MissingFeatureError](err), isA[*launcher.SecurityError](err), isA[*launcher.BinaryError](err),
		isA[*target.UsernsError](err), isA[*nscommand.MapError](err),
		isA[*supervisor.NoUsernsError](err), isA[*hostfwd.PrivilegedPortError](err), isA[*hostfwd.NotLocalAddrError](err),
		isA[*slirpapi.UnsupportedError](err), isA[*hostfwd.NoIPv6Error](err), isA[*hostfwd.FileLimitError](err),
		isA[*rootlesskit.TransparentError](err), isA[*probe.MissingError](err):
		return exitUnsupported
	case errors.Is(err, target.ErrGone), errors.Is(err, oci.ErrNoProcess), errors.Is(err, instance.ErrNotFound), isA[*hostfwd.NotFoundError](err),
		isA[*hostfwd.NoMatchError](err), isA[*slirpapi.UnreachableError](err):
		return exitNotFound
	case errors.Is(err, instance.ErrInUse), isA[*hostfwd.PortInUseError](err), isA[*hostfwd.ConflictError](err),
		errors.Is(err, syscall.EADDRINUSE):
		return exitConflict
	}
	return exitFailure
}

func isA[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

// hostChecks returns the checks of the host that can tell why err came about.
func hostChecks(err error) []string {
	var start *launcher.StartError
	switch {
	case errors.As(err, &start):
		switch start.Problem {
		case launcher.TunDenied, launcher.TunMissing, launcher.TunNoDriver:
			return []string{"tun-device"}
		case launcher.SandboxFailed:
			return []string{"sandbox"}
		case launcher.SeccompFailed:
			return []string{"seccomp"}
		}
	case isA[*supervisor.NoUsernsError](err):
		return []string{"user-namespaces"}
	case isA[*nscommand.MapError](err):
		return []string{"user-namespaces", "subid-ranges", "id-map-tools"}
	}
	return nil
}

// hostHint returns what `slirpctl probe` says about the cause of err, or "".
func hostHint(err error) string {
	names := hostChecks(err)
	if len(names) == 0 {
		return ""
	}
	r, ok := probe.Explain(context.Background(), probe.NewEnv("", subnet.Network{}, nil), names...)
	if !ok {
		return ""
	}
	return r.Hint()
}

// hintOf returns what the user can do about an error, or "": at best the next command to type.
func hintOf(err error) string {
	if hint := hostHint(err); hint != "" {
		return hint
	}
	se, ok := errorAs[*launcher.StartError](err)
	if ok && se.Problem == launcher.ProcessLimit || errors.Is(err, syscall.EAGAIN) { // of fork(2); else it doesn't get here
		return "raise the limit: ulimit -u (RLIMIT_NPROC), or that of the cgroup (pids.max; TasksMax in systemd)"
	}
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return h.Hint()
	}
	var oe *options.Error
	switch {
	case errors.As(err, &oe) && oe.Hint != "":
		return oe.Hint
	case isA[*hostfwd.SpecError](err):
		return "a port spec is [HOSTIP:][HOSTPORT]:[GUESTIP:]GUESTPORT[/PROTO], for example 8080:80"
	case errors.As(err, &oe):
		return "slirpctl up --help and man slirpctl.conf show what is possible"
	case errors.Is(err, target.ErrOwnNetns):
		return "start the process with unshare --net (and --user), or let slirpctl do it: slirpctl up -- COMMAND"
	case errors.Is(err, target.ErrGone):
		return "ip netns list shows the named namespaces, lsns -t net the processes; slirpctl up -- COMMAND makes a new one"
	case errors.Is(err, instance.ErrNotFound):
		return "slirpctl list shows what runs"
	case errors.Is(err, instance.ErrInUse):
		return "choose another --name, or end it with slirpctl down"
	case isA[*hostfwd.NotFoundError](err), isA[*hostfwd.ConflictError](err):
		return "slirpctl forward list shows what is forwarded"
	case isA[*launcher.BinaryError](err):
		return "install slirp4netns (package slirp4netns), or name it with --slirp4netns-path"
	case isA[*launcher.MissingFeatureError](err), isA[*launcher.SecurityError](err), isA[*launcher.StartError](err):
		return "slirpctl probe says what this slirp4netns and this host can do"
	}
	return ""
}

func explain(err error) (hint string, code int) { return hintOf(err), exitCode(err) }
