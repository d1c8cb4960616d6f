// Package nscommand runs the COMMAND of `up -- COMMAND` in user, network, mount and PID namespaces
// of its own. Their first process is this program again (hidden command "__init"). It is made
// first and waits, so that the namespaces are there for slirp4netns to enter; COMMAND becomes its
// child when the network is ready.
//
//	supervisor                      init
//	Start: clone, maps, /proc ───▶
//	       ── setup ────────────▶   mounts: resolv.conf, /sys, nothing for the state directory
//	start slirp4netns …
//	Release: ── go ─────────────▶   find COMMAND
//	       ◀── started or failed    fork, execve
//	Signal: ── signal ──────────▶   kill
//	       ◀── stopped ──────────   wait: COMMAND was stopped
//	       ── stillStopped? ─────▶
//	Stopped ◀── stop ────────────   it still is
//	Done   ◀── exit ─────────────   wait: COMMAND has ended, with the same status
//
// Init is PID 1 of the namespace, where the kernel kills what is left when it ends: with COMMAND,
// with the supervisor (the socket hangs up, or the parent-death signal), or killed. Where no /proc
// can be mounted, as in most containers, there is no PID namespace; init is a child subreaper then
// (prctl(2)), and kills its descendants itself.
package nscommand

import (
	"context"
	"errors"
	"os"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/options"
)

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

// ErrPIDNamespace: there can be no PID namespace with a /proc of its own.
var ErrPIDNamespace = fault.New(fault.Unsupported, "make a PID namespace", "--pid-namespace auto does without where it must")

// Config says what to run, and how.
type Config struct {
	Argv     []string
	Env      []string
	Stdio    [3]*os.File // nil: /dev/null
	Umask    int         // COMMAND's file mode creation mask
	MapUsers bool        // add the caller's ranges of /etc/subuid and /etc/subgid
	KeepFDs  []int       // descriptors above 2 that COMMAND gets under the same numbers
	Setsid   bool        // for a detached COMMAND
	// PIDNamespace says whether COMMAND gets a PID namespace.
	PIDNamespace options.Toggle
	// ResolvConf is the path of the file that COMMAND finds as /etc/resolv.conf, also after it was
	// written to; "": the host's.
	ResolvConf string
	// Hide are directories that COMMAND finds empty.
	Hide []string
	// Warn is told, from any goroutine, what has to be done without.
	Warn func(string)
}

// Start makes the namespaces and holds COMMAND back; ctx is for that alone. The caller must Kill or
// Wait. Errors: [ErrPIDNamespace], [*nsexec.Error].
func Start(ctx context.Context, cfg Config) (*Command, error) {
	c, err := start(ctx, cfg, cfg.PIDNamespace != options.Off)
	var ne *nsexec.Error
	if cfg.PIDNamespace == options.Off || !errors.As(err, &ne) || ne.Step != nsexec.StepClone && ne.Step != nsexec.StepProc {
		return c, err
	}
	without, err2 := start(ctx, cfg, false)
	switch {
	case err2 != nil: // that was not it
		return nil, err2
	case cfg.PIDNamespace == options.On:
		without.Kill()
		hint := ""
		if ne.Step == nsexec.StepProc {
			hint = "parts of /proc are hidden here, as in most containers; --pid-namespace auto does without"
		}
		return nil, fault.Errorf(0, hint, "%w: %w", ErrPIDNamespace, err)
	}
	cfg.Warn("no PID namespace for the command (" + err.Error() + "): its descendants are found and ended one by one")
	return without, nil
}
