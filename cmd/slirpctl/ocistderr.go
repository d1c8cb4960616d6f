package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// showHookErrors makes crun's stderr ours, where crun is the caller and has given a hook
// /dev/null for it, as it does unless the container's annotation run.oci.hooks.stderr says
// otherwise (crun(1)): else nobody would learn why the hook failed. Best effort; nobody else's
// choice of /dev/null is overruled.
func showHookErrors(args []string) {
	i := slices.Index(args, "--oci-state")
	asHook := i >= 0 && i+1 < len(args) && args[i+1] == "-" || slices.Contains(args, "--oci-state=-")
	if !asHook || !isNull(os.Stderr) || !isNull(os.Stdout) {
		return
	}
	runtime := os.Getppid()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", runtime))
	argv0, _, _ := bytes.Cut(cmdline, []byte{0})
	if err != nil || filepath.Base(string(argv0)) != "crun" {
		return
	}
	if f := stderrOf(runtime); f != nil {
		_ = unix.Dup3(int(f.Fd()), 2, 0)
		f.Close()
	}
}

// isNull reports whether f is /dev/null.
func isNull(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// stderrOf returns another process's stderr, or nil. The process's own descriptor shares the offset
// in a file that its stderr was redirected to, so neither writes over what the other wrote. Where the
// process may not be traced, only the path is left, if it is one that can be opened: no socket can.
func stderrOf(pid int) *os.File {
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		defer unix.Close(pidfd)
		if fd, err := unix.PidfdGetfd(pidfd, 2, 0); err == nil {
			unix.CloseOnExec(fd)
			return os.NewFile(uintptr(fd), "stderr")
		}
	}
	// Without waiting for the reader of a pipe that has none.
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/fd/2", pid), unix.O_WRONLY|unix.O_APPEND|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	_ = unix.SetNonblock(fd, false)
	return os.NewFile(uintptr(fd), "stderr")
}
