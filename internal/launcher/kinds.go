package launcher

import (
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// The kinds and hints of this package's errors; see package fault.

// Is reports whether target is the error's kind.
func (*OutboundError) Is(target error) bool { return target == fault.Usage }

// Is reports whether target is the error's kind.
func (*MissingFeatureError) Is(target error) bool { return target == fault.Unsupported }

// Is reports whether target is the error's kind.
func (*BinaryError) Is(target error) bool { return target == fault.Unsupported }

// Hint returns the hint for the user.
func (*MissingFeatureError) Hint() string { return askProbe }

const askProbe = "slirpctl probe says what this slirp4netns and this host can do"

// Is reports whether target is the error's kind or errno.
func (e *StartError) Is(target error) bool {
	switch e.Problem {
	case ProcessLimit:
		return target == syscall.EAGAIN
	case InterfaceExists:
		return target == fault.Conflict
	case StartTimeout:
		return target == fault.Timeout
	case TargetGone:
		return target == fault.NotFound
	case NetnsDenied:
		return target == fault.Unsupported || target == syscall.EPERM
	case TunDenied, TunMissing, TunNoDriver, SandboxFailed, SeccompFailed:
		return target == fault.Unsupported
	}
	return false
}

// HostChecks returns the checks of `slirpctl probe` that may find the cause.
func (e *StartError) HostChecks() []string {
	switch e.Problem {
	case TunDenied, TunMissing, TunNoDriver:
		return []string{"tun-device"}
	case SandboxFailed:
		return []string{"sandbox"}
	case SeccompFailed:
		return []string{"seccomp"}
	}
	return nil
}
