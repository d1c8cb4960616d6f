package hostfwd

import "github.com/slirpctl/slirpctl/internal/fault"

// What kind of failure each error is, and what helps; see package fault.

// Is says which kind of failure it is.
func (*SpecError) Is(target error) bool { return target == fault.Usage }

// Is says which kind of failure it is.
func (*ForwardError) Is(target error) bool { return target == fault.Usage }

// Is says which kind of failure it is.
func (*NotFoundError) Is(target error) bool { return target == fault.NotFound }

// Is says which kind of failure it is.
func (*NoMatchError) Is(target error) bool { return target == fault.NotFound }

// Is says which kind of failure it is.
func (*PrivilegedPortError) Is(target error) bool { return target == fault.Unsupported }

// Is says which kind of failure it is.
func (*NotLocalAddrError) Is(target error) bool { return target == fault.Unsupported }

// Is says which kind of failure it is.
func (*NoIPv6Error) Is(target error) bool { return target == fault.Unsupported }

// Is says which kind of failure it is.
func (*FileLimitError) Is(target error) bool { return target == fault.Unsupported }

// Hint says what to do about it.
func (*SpecError) Hint() string {
	return "a port spec is [HOSTIP:][HOSTPORT]:[GUESTIP:]GUESTPORT[/PROTO], for example 8080:80"
}

// Hint says what to do about it.
func (*NotFoundError) Hint() string { return "slirpctl forward list shows what is forwarded" }

// Hint says what to do about it.
func (*ConflictError) Hint() string { return "slirpctl forward list shows what is forwarded" }
