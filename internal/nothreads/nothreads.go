// Package nothreads says in one line what the Go runtime says in hundreds: that it may make no more
// threads (RLIMIT_NPROC, or pids.max of the cgroup). It exists because the runtime makes threads
// when it likes, beginning before main, dies when it can't, and asks nobody.
//
// Importing it is all there is to do. The runtime sends what it writes through a variable that it
// leaves to be set by linking; that works from the first instruction on, so that no thread is made
// before.
package nothreads

import (
	"errors"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Status is the exit status of a process in a hidden role (its first argument begins with "__")
// that could make no thread. It says nothing itself: who started it says [Err].
const Status = 70

// Err is what happened to a child that ended with [Status].
var Err = errors.New("no more processes or threads are allowed")

// Hint says what to do about it.
const Hint = "raise the limit: ulimit -u (RLIMIT_NPROC), or that of the cgroup (pids.max; TasksMax in systemd)"

// Alone makes a process in a hidden role say the line itself from now on: nobody waits for it any
// more, and its stderr is a log.
func Alone() { alone.Store(true) }

var alone atomic.Bool

const line = "slirpctl: error: no more processes or threads are allowed\nslirpctl: hint: " + Hint + "\n"

// dying is how the runtime begins (newosproc, in runtime/os_linux.go).
const dying = "runtime: failed to create new OS thread"

//go:linkname overrideWrite runtime.overrideWrite
var overrideWrite = write

// write is write(2) for the runtime, which may be on any stack and have no goroutine: it makes raw
// system calls only.
//
//go:nosplit
//go:norace
//go:nocheckptr
func write(fd uintptr, p unsafe.Pointer, n int32) int32 {
	if fd == 2 && n >= int32(len(dying)) && begins((*[len(dying)]byte)(p)) {
		end()
	}
	r, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(p), uintptr(n))
	if errno != 0 {
		return -int32(errno)
	}
	return int32(r)
}

//go:nosplit
//go:norace
func begins(text *[len(dying)]byte) bool {
	for i := 0; i < len(dying); i++ {
		if text[i] != dying[i] {
			return false
		}
	}
	return true
}

// end ends the process as the command line says: with 125 where 1 could be COMMAND's.
//
//go:nosplit
//go:norace
func end() {
	status := uintptr(1)
	hidden := false
	n := readCommandLine()
	arg := 0 // which one i is in
	for i := 0; i < n; i++ {
		if i > 0 && args[i-1] != 0 {
			continue
		}
		if two := i+1 < n && args[i] == args[i+1]; two {
			switch {
			case args[i] == '_' && arg == 1:
				hidden = true
			case args[i] == '-' && i+2 < n && args[i+2] == 0:
				status = 125
			}
		}
		arg++
	}
	if hidden {
		status = Status
	}
	if !hidden || alone.Load() {
		syscall.RawSyscall(syscall.SYS_WRITE, 2, uintptr(unsafe.Pointer(unsafe.StringData(line))), uintptr(len(line)))
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, status, 0, 0)
	}
}

var (
	args    [4096]byte
	cmdline = [...]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 'c', 'm', 'd', 'l', 'i', 'n', 'e', 0}
)

// readCommandLine fills args and returns how much there is.
//
//go:nosplit
//go:norace
func readCommandLine() int {
	fd, _, errno := syscall.RawSyscall6(syscall.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&cmdline)), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0) // ^99: AT_FDCWD
	if errno != 0 {
		return 0
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&args)), uintptr(len(args)))
	if errno != 0 {
		return 0
	}
	return int(n)
}
