package launcher

import "github.com/slirpctl/slirpctl/internal/fault"

// What kind of failure each error is, and what helps; see package fault.

// Is says which kind of failure it is.
func (*OutboundError) Is(target error) bool { return target == fault.Usage }

// Is says which kind of failure it is.
func (*MissingFeatureError) Is(target error) bool { return target == fault.Unsupported }

// Is says which kind of failure it is.
func (*SecurityError) Is(target error) bool { return target == fault.Unsupported }

// Is says which kind of failure it is.
func (*BinaryError) Is(target error) bool { return target == fault.Unsupported }

// Hint says what to do about it.
func (*MissingFeatureError) Hint() string { return askProbe }

// Hint says what to do about it.
func (*SecurityError) Hint() string { return askProbe }

const askProbe = "slirpctl probe says what this slirp4netns and this host can do"

// Is says which kind of failure it is.
func (e *StartError) Is(target error) bool {
	switch e.Problem {
	case InterfaceExists:
		return target == fault.Conflict
	case StartTimeout:
		return target == fault.Timeout
	case TargetGone:
		return target == fault.NotFound
	case TunDenied, TunMissing, TunNoDriver, SandboxFailed, SeccompFailed, NetnsDenied:
		return target == fault.Unsupported
	}
	return false
}
