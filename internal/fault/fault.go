// Package fault has the kinds of failure that slirpctl's exit status tells apart, and how an error carries a
// hint. It exists so that the command need not know the errors of every package: errors.Is finds the kind
// of an error, and [Hint] what the user can do about it. It imports nothing of this module.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// Kind is a kind of failure; its number is the exit status. It is an error only so that errors.Is takes it.
type Kind int

// The kinds. What is of none is a plain failure.
const (
	Usage       Kind = 2 // wrong usage or configuration
	Unsupported Kind = 3 // not supported by slirp4netns or the host
	NotFound    Kind = 4
	Conflict    Kind = 5
	Timeout     Kind = 6
)

func (k Kind) Error() string { return fmt.Sprintf("failure of kind %d", int(k)) }

// Error is a failure of a kind, with a hint. Other packages have error types of their own only where somebody
// reads their fields; those say their kind by a method Is and their hint by a method Hint.
type Error struct {
	Kind Kind   // 0: that of Err
	Msg  string // "": that of Err
	Help string // what the user can do: at best a command to type; "": see Err
	// Checks are those of `slirpctl probe` that may find the cause on this host, and so a better hint.
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

// Is says which kind of failure it is.
func (e *Error) Is(target error) bool { return e.Kind != 0 && target == e.Kind }

// Hint says what to do about it.
func (e *Error) Hint() string { return e.Help }

// HostChecks returns e.Checks.
func (e *Error) HostChecks() []string { return e.Checks }

// New returns an error of a kind, with a hint or "". It can be compared, as one made by errors.New.
func New(kind Kind, msg, hint string) error { return &Error{Kind: kind, Msg: msg, Help: hint} }

// Errorf is fmt.Errorf for an error of a kind, with a hint or "".
func Errorf(kind Kind, hint, format string, a ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, a...), Help: hint}
}

// Of returns the kind of err, 0 if it is of none. What the system says counts too: a time that is over, an
// address in use. A shortage (EAGAIN) is of no kind: it may work the next time.
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

// Hint returns the first hint, from the outside in, of err and what it wraps; or "".
func Hint(err error) (hint string) {
	visit(err, func(err error) bool {
		if h, ok := err.(interface{ Hint() string }); ok {
			hint = h.Hint()
		}
		return hint != ""
	})
	return hint
}

// Checks returns the checks of `slirpctl probe` that may find the cause of err, the first list as in [Hint].
func Checks(err error) (checks []string) {
	visit(err, func(err error) bool {
		if c, ok := err.(interface{ HostChecks() []string }); ok {
			checks = c.HostChecks()
		}
		return len(checks) > 0
	})
	return checks
}

// visit calls f for err and what it wraps, until f returns true.
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
