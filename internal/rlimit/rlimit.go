// Package rlimit remembers the limit on open files that the process was started with. The Go
// runtime raises the soft limit nearly to the hard one when package syscall is initialised, which
// is what the supervisor wants, and must not leak into the programs it starts by other means than
// os/exec: those that use select(2) break with descriptors above 1023, and those that close
// every possible descriptor become slow.
package rlimit

// Limit is a limit on open files; see getrlimit(2).
type Limit struct{ Cur, Max uint64 }

// This package imports nothing, so it is initialised before package syscall: of the packages
// that are ready, the first by import path is initialised next (The Go Programming Language
// Specification, "Package initialization"). That is why it makes its system call itself.
var original = get()

// Nofile returns RLIMIT_NOFILE as it was when the process started; on other processors than amd64
// and arm64, as the Go runtime has raised it.
func Nofile() Limit { return original }
