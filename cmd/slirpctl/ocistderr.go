package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// showHookErrors makes crun's stderr this process's, if crun started it as a hook with stderr on /dev/null. crun
// does so unless the container has the annotation run.oci.hooks.stderr (crun(1)), and the reason why a hook failed
// would be lost. Errors are ignored. A /dev/null from any other caller is kept.
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

// stderrOf returns the stderr of another process, or nil. A duplicate of the descriptor shares the offset in a
// file, so that neither process overwrites the other's output. If the process may not be traced, stderr is opened
// by path, which fails for sockets.
func stderrOf(pid int) *os.File {
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		defer unix.Close(pidfd)
		if fd, err := unix.PidfdGetfd(pidfd, 2, 0); err == nil {
			unix.CloseOnExec(fd)
			return os.NewFile(uintptr(fd), "stderr")
		}
	}
	// O_NONBLOCK: don't wait for the reader of a FIFO.
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/fd/2", pid), unix.O_WRONLY|unix.O_APPEND|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	_ = unix.SetNonblock(fd, false)
	return os.NewFile(uintptr(fd), "stderr")
}
