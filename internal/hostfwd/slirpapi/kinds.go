package slirpapi

import "github.com/slirpctl/slirpctl/internal/fault"

// What kind of failure each error is, and what helps; see package fault.

// Is says which kind of failure it is.
func (*UnsupportedError) Is(target error) bool { return target == fault.Unsupported }

// Is says which kind of failure it is.
func (*UnreachableError) Is(target error) bool { return target == fault.NotFound }
