package main

import "github.com/slirpctl/slirpctl/internal/fault"

// The exit codes of slirpctl, besides those of [fault.Kind]. `up -- COMMAND` has COMMAND's own, and nscommand's
// 125 to 127.
const (
	exitOK          = 0
	exitFailure     = 1 // anything else
	exitUsage       = int(fault.Usage)
	exitUnsupported = int(fault.Unsupported)
	exitNotFound    = int(fault.NotFound)
	exitConflict    = int(fault.Conflict)
	exitTimeout     = int(fault.Timeout)
)

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if kind := fault.Of(err); kind != 0 {
		return int(kind)
	}
	return exitFailure
}
