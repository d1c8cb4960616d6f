// Package fault defines the kinds of failure that slirpctl's exit status distinguishes, and how errors carry
// hints. It exists so that the command need not know the error types of all packages: errors.Is finds the kind
// of an error, and [Hint] what the user can do about it. It imports no other package of this module.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// Kind is a kind of failure; its value is the exit status. It implements error only for errors.Is.
type Kind int

// The kinds. An error without a kind is a general failure.
const (
	Usage       Kind = 2 // wrong usage or configuration
	Unsupported Kind = 3 // not supported by slirp4netns or the host
	NotFound    Kind = 4
	Conflict    Kind = 5
	Timeout     Kind = 6
)

func (k Kind) Error() string { return fmt.Sprintf("failure of kind %d", int(k)) }

// Error is an error with a kind and a hint. Packages define other error types only if callers read their
// fields; those have a method Is for the kind and a method Hint for the hint.
type Error struct {
	Kind Kind   // 0: that of Err
	Msg  string // "": that of Err
	Help string // the hint: what the user can do, preferably a command to type; "": that of Err
	// Checks are the checks of `slirpctl probe` that may find the cause on this host, and so a better hint.
	Checks []string
	Err    error // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Msg == "" && e.Err != nil {
		return e.Err.Error()
	}
	return e.Msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool { return e.Kind != 0 && target == e.Kind }

// Hint returns e.Help.
func (e *Error) Hint() string { return e.Help }

// HostChecks returns e.Checks.
func (e *Error) HostChecks() []string { return e.Checks }

// New returns an error with a kind and a hint, which may be "". It can be compared, like the result of errors.New.
func New(kind Kind, msg, hint string) error { return &Error{Kind: kind, Msg: msg, Help: hint} }

// Errorf is fmt.Errorf for an error with a kind and a hint, which may be "".
func Errorf(kind Kind, hint, format string, a ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, a...), Help: hint}
}

// Of returns the kind of err, 0 if it has none. Some system errors have a kind too: an expired deadline, an
// address in use. A shortage (EAGAIN) has none, even with a kind: a retry may succeed.
func Of(err error) Kind {
	is := func(kinds ...error) bool {
		return slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) })
	}
	switch {
	case is(syscall.EAGAIN):
		return 0
	case is(Usage):
		return Usage
	case is(Timeout, context.DeadlineExceeded, os.ErrDeadlineExceeded):
		return Timeout
	case is(Unsupported):
		return Unsupported
	case is(NotFound):
		return NotFound
	case is(Conflict, syscall.EADDRINUSE):
		return Conflict
	}
	return 0
}

// Hint returns the first hint of err and the errors it wraps, outermost first; or "".
func Hint(err error) (hint string) {
	visit(err, func(err error) bool {
		if h, ok := err.(interface{ Hint() string }); ok {
			hint = h.Hint()
		}
		return hint != ""
	})
	return hint
}

// Checks returns the checks of `slirpctl probe` that may find the cause of err: the first list, in the order of [Hint].
func Checks(err error) (checks []string) {
	visit(err, func(err error) bool {
		if c, ok := err.(interface{ HostChecks() []string }); ok {
			checks = c.HostChecks()
		}
		return len(checks) > 0
	})
	return checks
}

// visit calls f for err and the errors it wraps, until f returns true.
func visit(err error, f func(error) bool) bool {
	if err == nil {
		return false
	}
	if f(err) {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return visit(e.Unwrap(), f)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return visit(err, f) })
	}
	return false
}
