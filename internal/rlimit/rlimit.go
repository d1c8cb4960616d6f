// Package rlimit records the limit on open files that the process was started with. The Go
// runtime raises the soft limit nearly to the hard limit when package syscall is initialised. The
// supervisor needs that, but programs that it starts by other means than os/exec must not inherit it:
// programs that use select(2) break with descriptors above 1023, and programs that close all possible
// descriptors become slow.
package rlimit

// Limit is a limit on open files; see getrlimit(2).
type Limit struct{ Cur, Max uint64 }

// This package imports nothing, so that it is initialised before package syscall: of the packages
// that are ready, the first by import path is initialised next (The Go Programming Language
// Specification, "Package initialization"). That is why it makes the system call itself.
var original = get()

// Nofile returns RLIMIT_NOFILE as it was when the process started; on architectures other than amd64
// and arm64, as raised by the Go runtime.
func Nofile() Limit { return original }
