// Package nscommand runs the COMMAND of `up -- COMMAND` in user, network, mount and PID namespaces
// of its own. Their first process is this program again (hidden command "__init"), called init below. It
// is started first and waits, so that slirp4netns can enter the namespaces; when the network is ready
// it starts COMMAND as its child.
//
//	supervisor                      init
//	Start: clone, maps, /proc ───▶
//	       ── setup ────────────▶   mounts: resolv.conf, /sys, empty state directory
//	start slirp4netns …
//	Release: ── go ─────────────▶   find COMMAND
//	       ◀── started or failed    fork, execve
//	Signal: ── signal ──────────▶   kill
//	       ◀── stopped ──────────   wait: COMMAND was stopped
//	       ── stillStopped? ─────▶
//	Stopped ◀── stop ────────────   it still is
//	Done   ◀── exit ─────────────   wait: COMMAND has ended, with the same status
//
// Init is PID 1 of the PID namespace. It exits when COMMAND or the supervisor does (the socket hangs up, or
// the parent-death signal arrives), and the kernel then kills all other processes in the namespace. If no
// /proc can be mounted, as in most containers, there is no PID namespace; then init is a child
// subreaper (prctl(2)) and kills its descendants itself.
package nscommand

import (
	"context"
	"errors"
	"os"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/options"
)

// Exit statuses of `up -- COMMAND` that are not COMMAND's own, as in env(1) and nohup(1).
const (
	StatusFailed    = 125 // slirpctl failed
	StatusCannotRun = 126 // COMMAND can't be executed
	StatusNotFound  = 127 // COMMAND was not found
)

// ExecError means that COMMAND could not be executed. Status is 126 or 127.
type ExecError struct {
	Status int
	Msg    string
}

func (e *ExecError) Error() string { return e.Msg }

// ErrPIDNamespace means that a PID namespace with its own /proc is not possible.
var ErrPIDNamespace = fault.New(fault.Unsupported, "make a PID namespace", "--pid-namespace auto falls back to none")

// Config is the configuration of [Start].
type Config struct {
	Argv     []string
	Env      []string
	Stdio    [3]*os.File // nil: /dev/null
	Umask    int         // COMMAND's file mode creation mask
	MapUsers bool        // add the caller's ranges of /etc/subuid and /etc/subgid
	KeepIDs  bool        // COMMAND has the caller's ids, and no capabilities
	KeepFDs  []int       // descriptors above 2 that COMMAND gets under the same numbers
	Setsid   bool        // for a detached COMMAND
	// PIDNamespace says whether COMMAND gets a PID namespace.
	PIDNamespace options.Toggle
	// ResolvConf is the path of the file that is COMMAND's /etc/resolv.conf, which may be changed
	// later; "": the host's.
	ResolvConf string
	// LimitSockets keeps COMMAND from sockets that no network namespace confines.
	LimitSockets bool
	// Hide are directories that are empty for COMMAND.
	Hide []string
	// Warn is called from any goroutine with a warning about something that is not possible.
	Warn func(string)
}

// Start makes the namespaces, with ctx; COMMAND is started by Release. The caller must call Kill or wait for
// Done. Errors: [ErrPIDNamespace], [*nsexec.Error].
func Start(ctx context.Context, cfg Config) (*Command, error) {
	c, err := start(ctx, cfg, cfg.PIDNamespace != options.Off)
	var ne *nsexec.Error
	if cfg.PIDNamespace == options.Off || !errors.As(err, &ne) || ne.Step != nsexec.StepClone && ne.Step != nsexec.StepProc {
		return c, err
	}
	without, err2 := start(ctx, cfg, false)
	switch {
	case err2 != nil: // the PID namespace was not the cause
		return nil, err2
	case cfg.PIDNamespace == options.On:
		without.Kill()
		hint := ""
		if ne.Step == nsexec.StepProc {
			hint = "parts of /proc are hidden here, as in most containers; --pid-namespace auto falls back to none"
		}
		return nil, fault.Errorf(0, hint, "%w: %w", ErrPIDNamespace, err)
	}
	cfg.Warn("no PID namespace for the command (" + err.Error() + "): its descendants are killed one by one")
	return without, nil
}
