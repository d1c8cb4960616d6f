package hostfwd

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// ErrClosed is returned by every method of a [Manager] after its Close.
var ErrClosed = errors.New("port forwarding has ended")

// AddError says which forward of a batch can't be had, and why. The batch has had no effect,
// unless Unwrap leads to a [*DownError] or to an error of taking back as well.
type AddError struct {
	Index   int     // in the batch, from 0
	Forward Forward // as asked for
	Err     error
}

func (e *AddError) Error() string { return fmt.Sprintf("forward %s: %v", e.Forward, e.Err) }
func (e *AddError) Unwrap() error { return e.Err }

// ForwardError is a field of a forward that no handler could do.
type ForwardError struct {
	Field  string // "proto", "host address", "guest address" or "guest port"
	Reason string
}

func (e *ForwardError) Error() string { return e.Field + " " + e.Reason }

// ConflictError is a host port that a forward of the same [Manager] has, or one earlier in
// the same batch. It satisfies errors.Is(err, syscall.EADDRINUSE).
type ConflictError struct {
	With Status // ID 0: one in the same batch
}

func (e *ConflictError) Error() string {
	if e.With.ID == 0 {
		return fmt.Sprintf("the host port is asked for twice, also by %s", e.With.Forward)
	}
	return fmt.Sprintf("the host port is already forwarded by %d (%s)", e.With.ID, e.With.Forward)
}

// Is makes a conflict count as an address in use.
func (e *ConflictError) Is(target error) bool {
	return target == syscall.EADDRINUSE || target == fault.Conflict
}

// NotFoundError is an id that no forward has.
type NotFoundError struct{ ID int }

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no forward %d", e.ID) }

// DownError names forwards that ought to listen and don't. They keep their ids and host
// ports, and the next [Manager.Reopen] tries them again.
type DownError struct {
	Down []Status // at least one, by id
	Errs []error  // why, in the same order
}

func (e *DownError) Error() string {
	const shown = 3
	var b strings.Builder
	for i, s := range e.Down {
		if i == shown {
			fmt.Fprintf(&b, "; and %d more", len(e.Down)-shown)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "forward %d (%s) is down: %v", s.ID, s.Forward, e.Errs[i])
	}
	return b.String()
}

func (e *DownError) Unwrap() []error { return e.Errs }

func (e *DownError) add(s Status, err error) {
	e.Down = append(e.Down, s)
	e.Errs = append(e.Errs, err)
}

// orNil is e as an error, or nil if nothing is down.
func (e *DownError) orNil() error {
	if len(e.Down) == 0 {
		return nil
	}
	return e
}
