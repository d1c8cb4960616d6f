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
	"github.com/slirpctl/slirpctl/internal/subnet"
	"github.com/slirpctl/slirpctl/internal/supervisor"
	"github.com/slirpctl/slirpctl/internal/target"
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
	// Of another slirpctl. Not whatever has an ExitCode method: *exec.ExitError has one too.
	if told, ok := errorAs[*control.Error](err); ok && told.Code > 0 {
		return told.Code
	}
	switch {
	case err == nil:
		return exitOK
	case isA[*usageError](err), isA[*options.Error](err), isA[*subnet.CIDRError](err), isA[*hostfwd.SpecError](err),
		isA[*instance.PathTooLongError](err), isA[*launcher.SocketPathError](err), isA[*launcher.OutboundError](err),
		isA[*hostfwd.ForwardError](err), isA[*slirpapi.FieldError](err), errors.Is(err, slirpapi.ErrNetworkUnknown), errors.Is(err, target.ErrOwnNetns),
		isA[*oci.StateError](err), isA[*oci.ConfigError](err):
		return exitUsage
	case isA[*launcher.MissingFeatureError](err), isA[*launcher.SecurityError](err), isA[*launcher.BinaryError](err),
		isA[*supervisor.NoIPv6Error](err), isA[*target.UsernsError](err), isA[*nscommand.MapError](err),
		isA[*supervisor.NoUsernsError](err), isA[*hostfwd.PrivilegedPortError](err), isA[*hostfwd.NotLocalAddrError](err),
		isA[*slirpapi.UnsupportedError](err), isA[*hostfwd.NoIPv6Error](err), isA[*hostfwd.FileLimitError](err),
		isA[*rootlesskit.TransparentError](err):
		return exitUnsupported
	case errors.Is(err, target.ErrGone), errors.Is(err, oci.ErrNoProcess), errors.Is(err, instance.ErrNotFound), isA[*hostfwd.NotFoundError](err),
		isA[*hostfwd.NoMatchError](err), isA[*slirpapi.UnreachableError](err):
		return exitNotFound
	case errors.Is(err, instance.ErrInUse), isA[*hostfwd.PortInUseError](err), isA[*hostfwd.ConflictError](err),
		errors.Is(err, syscall.EADDRINUSE):
		return exitConflict
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return exitTimeout
	}
	return exitFailure
}

func isA[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

// hintOf returns what the user can do about an error, or "".
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	var oe *options.Error
	switch {
	case errors.As(err, &oe):
		return oe.Hint
	case errors.Is(err, target.ErrOwnNetns):
		return "start the process with unshare --net (and --user), or let slirpctl do it: slirpctl up -- COMMAND"
	case errors.Is(err, instance.ErrNotFound):
		return "slirpctl list shows what runs"
	case errors.Is(err, instance.ErrInUse):
		return "choose another --name, or end it with slirpctl down"
	}
	return ""
}

func explain(err error) (hint string, code int) { return hintOf(err), exitCode(err) }
