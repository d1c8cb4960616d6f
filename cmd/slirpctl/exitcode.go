package main

import "github.com/slirpctl/slirpctl/internal/fault"

// The exit codes of slirpctl; most are those of [fault.Kind]. `up -- COMMAND` and `exec` exit with COMMAND's
// status instead, or with 125 to 127 (package nscommand).
const (
	exitOK          = 0
	exitFailure     = 1 // anything else
	exitUsage       = int(fault.Usage)
	exitUnsupported = int(fault.Unsupported)
	exitNotFound    = int(fault.NotFound)
	exitConflict    = int(fault.Conflict)
	exitTimeout     = int(fault.Timeout)
)

// exitCode returns the exit code for err. It is the only place that maps errors to exit codes.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if kind := fault.Of(err); kind != 0 {
		return int(kind)
	}
	return exitFailure
}
