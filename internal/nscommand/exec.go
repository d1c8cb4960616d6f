package nscommand

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// ExecStage is the hidden argument that makes slirpctl the process that becomes the command of
// `slirpctl exec`. It enters the mount namespace itself, once it has found its own files.
const ExecStage = "__exec"

// Join says what to run in namespaces that are there already.
type Join struct {
	Argv  []string
	Stdio [3]*os.File
	// KeepFDs are descriptors above 2 that the command gets under the same numbers.
	KeepFDs []int
	// Netns is entered; so are Userns, before it, and Mount, after it, unless they are nil.
	Netns, Userns, Mount *os.File
	// ResolvConf is what /etc/resolv.conf shall hold where the command would see the caller's;
	// "" leaves it alone.
	ResolvConf string
	// Terminal says that signals from the keyboard reach the command by themselves.
	Terminal func() bool
}

type joinSetup struct {
	setup
	Mount  bool `json:"mount"` // the descriptor after the socket is a mount namespace
	Userns bool `json:"userns"`
	Dir    string
}

// Run runs the command, passes signals on to it, and returns its status once it has ended: its
// exit code, or 128+N for signal N. Error: [*ExecError], or one of slirpctl's own.
func (j Join) Run() (status int, err error) {
	c, err := j.start()
	if err != nil {
		return StatusFailed, err
	}
	signals := make(chan os.Signal, 32)
	for _, sig := range []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	defer signal.Stop(signals)
	if err := c.Release(); err != nil {
		return StatusFailed, err
	}
	for {
		select {
		case <-c.Done():
			return c.Status(), nil
		case sig := <-signals:
			keyboard := sig == syscall.SIGINT || sig == syscall.SIGQUIT || sig == syscall.SIGWINCH
			if !keyboard || j.Terminal == nil || !j.Terminal() {
				_ = c.Signal(sig)
			}
		}
	}
}

func (j Join) start() (*Command, error) {
	cmd := nsexec.Cmd{
		KeepFDs:  j.KeepFDs,
		JoinUser: j.Userns,
		JoinNet:  j.Netns,
		// For the mounts; a command that isn't root in there loses them again.
		KeepCaps: j.Userns != nil,
	}
	dir, _ := os.Getwd()
	setup := joinSetup{setup{Argv: j.Argv, ResolvConf: j.ResolvConf}, j.Mount != nil, j.Userns != nil, dir}
	c, err := hold(cmd, ExecStage, j.Stdio, setup, j.Mount)
	if err != nil {
		return nil, fmt.Errorf("enter the namespaces: %w", err)
	}
	return c, nil
}

// RunExecStage is the life of the stage of `slirpctl exec`. It returns only on failure.
func RunExecStage(args []string) int {
	// The mount namespace is this thread's alone; the exec makes it the process's.
	runtime.LockOSThread()
	parent := os.Getppid()
	if len(args) != 1 {
		return StatusFailed
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return StatusFailed
	}
	unix.CloseOnExec(fd)
	unix.CloseOnExec(fd + 1)
	st := newStage(fd)
	var s joinSetup
	if st.dec.Decode(&s) != nil || len(s.Argv) == 0 {
		return StatusFailed
	}
	if !st.released() {
		return StatusFailed
	}
	if err := s.enter(fd + 1); err != nil {
		return st.fail(StatusFailed, "%v", err)
	}
	return st.become(s.Argv, parent)
}

// enter does what remains after the user and network namespaces: identity, mounts, directory.
func (s *joinSetup) enter(mount int) error {
	if s.Userns {
		becomeRoot()
	}
	before, _ := os.Stat("/etc/resolv.conf")
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare(CLONE_FS): %w", err)
	}
	if s.Mount {
		if err := unix.Setns(mount, unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("setns(CLONE_NEWNS): %w", err)
		}
	}
	after, _ := os.Stat("/etc/resolv.conf")
	if callers := after == nil || before != nil && os.SameFile(before, after); !s.Mount || s.ResolvConf != "" && callers {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare(CLONE_NEWNS): %w", err)
		}
		if err := prepareMounts(s.ResolvConf); err != nil {
			return err
		}
	}
	if os.Chdir(s.Dir) != nil {
		_ = os.Chdir("/")
	}
	if os.Geteuid() != 0 {
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	}
	return nil
}

// becomeRoot switches to root of the user namespace, where it has one.
func becomeRoot() {
	for _, m := range []struct {
		file string
		set  func() error
	}{
		{"gid_map", func() error { _ = syscall.Setgroups(nil); return syscall.Setresgid(0, 0, 0) }},
		{"uid_map", func() error { return syscall.Setresuid(0, 0, 0) }},
	} {
		data, _ := os.ReadFile("/proc/self/" + m.file)
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "0" {
				_ = m.set() // it stays who it is
			}
		}
	}
}
