// Package nscommand runs the COMMAND of `up -- COMMAND` in a user, network and mount namespace
// of its own. The process that becomes COMMAND is made first and held back, so that its
// namespaces are there for slirp4netns to enter; it is let go when the network is ready.
//
//	supervisor                      stage (this program, hidden command "__command")
//	Start: fork, unshare ────────▶
//	       maps uid, gid
//	       ── setup, JSON ──────▶   mounts: /etc with its own resolv.conf, /sys
//	start slirp4netns …
//	Release: ── "go" ───────────▶   find COMMAND
//	       ◀── failure, or "run"    execve
//	       ◀── failure, or EOF ──   (the descriptor is close-on-exec)
package nscommand

import (
	"context"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nettune"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// Stage is the hidden argument that makes slirpctl the process that becomes COMMAND.
const Stage = "__command"

// Statuses of `up -- COMMAND` that are not COMMAND's own, as env(1) and nohup(1) have them.
const (
	StatusFailed    = 125 // slirpctl failed
	StatusCannotRun = 126 // COMMAND was found and can't be run
	StatusNotFound  = 127 // COMMAND was not found
)

// ExecError: COMMAND could not be run. Status is 126 or 127.
type ExecError struct {
	Status int
	Msg    string
}

func (e *ExecError) Error() string { return e.Msg }

// Config says what to run, and how.
type Config struct {
	Argv     []string
	Stdio    [3]*os.File // nil: /dev/null
	Umask    int         // COMMAND's file mode creation mask
	MapUsers bool        // add the caller's ranges of /etc/subuid and /etc/subgid
	KeepFDs  []int       // descriptors above 2 that COMMAND gets under the same numbers
	Setsid   bool        // for a detached COMMAND
	// ResolvConf is what /etc/resolv.conf shall hold; "" leaves it alone.
	ResolvConf string
}

type setup struct {
	Argv       []string `json:"argv"`
	ResolvConf string   `json:"resolvConf"`
	Umask      int      `json:"umask"`
}

// Start makes the namespaces and holds COMMAND back; ctx is for that alone. The caller must Kill or Wait.
func Start(ctx context.Context, cfg Config) (*Command, error) {
	cmd := nsexec.Cmd{
		KeepFDs: cfg.KeepFDs,
		NewUser: true, NewMount: true, NewNet: true,
		Map:        func(pid int) error { return writeMaps(ctx, pid, cfg.MapUsers) },
		BecomeRoot: true,
		Setsid:     cfg.Setsid,
	}
	return hold(cmd, Stage, cfg.Stdio, setup{cfg.Argv, cfg.ResolvConf, cfg.Umask})
}

// RunStage is the life of the stage, up to the point where it becomes COMMAND. It returns only
// on failure, with the status to exit with.
func RunStage(args []string) int {
	parent := os.Getppid()
	if len(args) != 1 {
		return StatusFailed
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return StatusFailed
	}
	unix.CloseOnExec(fd)
	st := newStage(fd)
	var s setup
	if err := st.dec.Decode(&s); err != nil || len(s.Argv) == 0 {
		return StatusFailed
	}
	_ = nettune.Apply() // slower without, not wrong
	mountErr := prepareMounts(s.ResolvConf)
	if !st.released() {
		return StatusFailed // the supervisor gave up
	}
	if mountErr != nil {
		return st.fail(StatusFailed, "%v", mountErr)
	}
	syscall.Umask(s.Umask)
	return st.become(s.Argv, parent)
}
