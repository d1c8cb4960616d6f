// Package rlimit remembers the limit on open files that the process was started with. The Go
// runtime raises the soft limit to the hard one when package os is initialised, which is what
// the supervisor wants, and must not leak into the programs it starts by other means than
// os/exec.
package rlimit

import "syscall"

// This package imports nothing but syscall, so it is initialised before package os: ready
// packages are initialised in the order of their import paths (The Go Programming Language
// Specification, "Package initialization").
var original = get()

func get() syscall.Rlimit {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return syscall.Rlimit{Cur: 1024, Max: 1024}
	}
	return l
}

// Nofile returns RLIMIT_NOFILE as it was when the process started.
func Nofile() syscall.Rlimit { return original }
