// Command slirpctl gives a Linux network namespace a working network without root, by driving
// slirp4netns. Its commands are thin: they parse flags, call an internal package, and print the result.
package main

import (
	"context"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/gateway"
	"github.com/slirpctl/slirpctl/internal/guest"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/selftest"
)

// version is set by the linker (Makefile).
var version = devVersion

func main() {
	probe.Child()
	nameProcess()
	// Hidden commands, which slirpctl executes itself with. They take no flags and must start fast, so they
	// are handled before cobra is set up.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case nscommand.Stage:
			os.Exit(nscommand.RunStage(os.Args[2:]))
		case guest.Command:
			if guest.Serve() != nil {
				os.Exit(exitFailure)
			}
			os.Exit(0)
		case gateway.Stage:
			if gateway.Serve() != nil {
				os.Exit(exitFailure)
			}
			os.Exit(0)
		case selftest.UpCommand:
			os.Exit(selftest.Up(diagnose))
		case selftest.Command:
			os.Exit(selftest.Guest())
		case superviseCommand:
			os.Exit(runDetached())
		}
	}
	showHookErrors(os.Args[1:])
	os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// nameProcess sets the name of the process to that of the program, for ps, top and pgrep: the process may have
// been executed as /proc/self/exe or by a descriptor.
func nameProcess() {
	const comm = "/proc/self/comm"
	name := filepath.Base(os.Args[0])
	now, err := os.ReadFile(comm)
	switch {
	case err == nil && string(now) != name+"\n":
		_ = os.WriteFile(comm, []byte(name), 0)
	case err != nil && unix.Gettid() == os.Getpid(): // no /proc, as in the helper
		if text, err := unix.BytePtrFromString(name); err == nil {
			_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0)
		}
	}
}
