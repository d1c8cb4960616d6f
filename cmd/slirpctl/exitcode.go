package main

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/selftest"
	"github.com/slirpctl/slirpctl/internal/subnet"
	"github.com/slirpctl/slirpctl/internal/supervisor"
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
	case errors.Is(err, fault.Usage):
		return exitUsage
	case errors.Is(err, fault.Timeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return exitTimeout
	case errors.Is(err, fault.Unsupported):
		return exitUnsupported
	case errors.Is(err, fault.NotFound):
		return exitNotFound
	case errors.Is(err, fault.Conflict), errors.Is(err, syscall.EADDRINUSE):
		return exitConflict
	case deniedHint(err) != "":
		return exitUnsupported
	}
	return exitFailure
}

// deniedHint says which system call of `up` the host denies, if that is the cause of err; or "".
func deniedHint(err error) string {
	start, isStart := errorAs[*launcher.StartError](err)
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOSYS) && !(isStart && start.Problem == launcher.NetnsDenied) {
		return ""
	}
	return probe.DeniedCall(context.Background(), probe.NewEnv("", subnet.Network{}, nil), err)
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
	if hint := deniedHint(err); hint != "" {
		return hint
	}
	if errors.Is(err, syscall.EMFILE) {
		return (&launcher.StartError{Problem: launcher.FileLimit}).Hint()
	}
	se, isStart := errorAs[*launcher.StartError](err)
	if isStart && se.Problem == launcher.ProcessLimit || errors.Is(err, syscall.EAGAIN) { // of fork(2); else it doesn't get here
		return "raise the limit: ulimit -u (RLIMIT_NPROC), or that of the cgroup (pids.max; TasksMax in systemd)"
	}
	oe, ok := errorAs[*options.Error](err)
	if ok && oe.Hint != "" {
		return oe.Hint
	}
	if hint := fault.Hint(err); hint != "" {
		return hint
	}
	switch {
	case ok:
		return "slirpctl up --help and man slirpctl.conf show what is possible"
	case isA[*launcher.BinaryError](err):
		return "install slirp4netns (package slirp4netns), or name it with --slirp4netns-path"
	case isStart:
		return "slirpctl probe says what this slirp4netns and this host can do"
	}
	return ""
}

func explain(err error) (hint string, code int) { return hintOf(err), exitCode(err) }
