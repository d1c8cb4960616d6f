package main

import (
	"fmt"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// A usageError says that the command line or the configuration is wrong (exit code 2).
type usageError struct {
	msg  string
	hint string // what to do about it; may be empty
}

func (e *usageError) Error() string { return e.msg }

// Hint returns what to do about it, or "".
func (e *usageError) Hint() string { return e.hint }

// Is says which kind of failure it is.
func (e *usageError) Is(target error) bool { return target == fault.Usage }

// usagef returns a *usageError without a hint.
func usagef(format string, a ...any) error {
	return &usageError{msg: fmt.Sprintf(format, a...)}
}
