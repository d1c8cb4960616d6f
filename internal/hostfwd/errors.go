package hostfwd

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// ErrClosed is returned by every method of a [Manager] after Close.
var ErrClosed = errors.New("port forwarding has ended")

// AddError says which forward of a batch failed, and why. The batch had no effect, unless the
// error says that forwards are down or could not be closed.
type AddError struct {
	Index   int     // within the batch, from 0
	Forward Forward // as requested
	Err     error
}

func (e *AddError) Error() string { return fmt.Sprintf("forward %s: %v", e.Forward, e.Err) }
func (e *AddError) Unwrap() error { return e.Err }

// badField returns the error for a field that no handler accepts.
func badField(field, format string, a ...any) error {
	return fault.Errorf(fault.Usage, "", "%s %s", field, fmt.Sprintf(format, a...))
}

const seeList = "slirpctl forward list lists the forwards"

// conflict returns the error for a host port that a forward of the same [Manager] has or, if the id is 0, an
// earlier one of the same batch.
func conflict(with Status) error {
	e := &fault.Error{Kind: fault.Conflict, Err: syscall.EADDRINUSE, Help: seeList}
	if e.Msg = fmt.Sprintf("the host port is already forwarded by %d (%s)", with.ID, with.Forward); with.ID == 0 {
		e.Msg = fmt.Sprintf("the host port is requested twice, also by %s", with.Forward)
	}
	return e
}

// NotFoundError is returned for an id that no forward has.
type NotFoundError struct{ ID int }

func (e *NotFoundError) Error() string { return fmt.Sprintf("there is no forward %d", e.ID) }

// Is reports the error's kind, [fault.NotFound].
func (*NotFoundError) Is(target error) bool { return target == fault.NotFound }

// Hint returns what to do about it.
func (*NotFoundError) Hint() string { return seeList }

// downError names forwards that should listen and don't, by id, and why, in the same order. They keep their
// ids and host ports, and the next [Manager.Reopen] or [Manager.Revive] tries them again.
func downError(down []Status, why []error) error {
	if len(down) == 0 {
		return nil
	}
	const shown = 3
	var parts []string
	for i, s := range down[:min(len(down), shown)] {
		parts = append(parts, fmt.Sprintf("forward %d (%s) is down: %v", s.ID, s.Forward, why[i]))
	}
	if len(down) > shown {
		parts = append(parts, fmt.Sprintf("and %d more", len(down)-shown))
	}
	return &fault.Error{Msg: strings.Join(parts, "; "), Err: errors.Join(why...)}
}
