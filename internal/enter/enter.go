// Package enter runs commands in the namespaces of an instance that runs. It exists because the
// instance belongs to another process: what it knows must be found out from its state, and
// nothing guarantees that it is still there a moment later.
package enter

import (
	"context"
	"fmt"
	"os"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/target"
)

// Caller is what a command gets of the caller's.
type Caller struct {
	Stdio    [3]*os.File
	KeepFDs  []int       // descriptors above 2
	Terminal func() bool // reports whether the keyboard's signals reach the command by themselves
}

// Exec runs argv in the namespaces of the instance of that name, and returns its status (its
// exit code, or 128+N for signal N). The namespaces are the target's user, network and mount
// namespace. A command that would see the caller's /etc/resolv.conf there sees the instance's
// in its place, by a mount namespace of its own.
//
// Errors: [instance.ErrNotFound], [target.ErrGone], [*nscommand.ExecError].
func Exec(ctx context.Context, base instance.Base, name string, argv []string, caller Caller) (int, error) {
	e, err := base.Find(ctx, name)
	if err != nil {
		return 0, err
	}
	st, err := control.NewClient(e.Socket()).State(ctx)
	if err != nil {
		if e.State == nil {
			return 0, fmt.Errorf("instance %s does not answer: %w", name, err)
		}
		st = e.State
	}
	tgt, mount, err := open(ctx, st)
	if err != nil {
		return 0, err
	}
	defer tgt.Close()
	if mount != nil {
		defer mount.Close()
	}
	if !e.Alive() { // what was opened may be another's by now
		return 0, fmt.Errorf("%q: %w", name, instance.ErrNotFound)
	}
	return nscommand.Join{
		Argv: argv, Stdio: caller.Stdio, KeepFDs: caller.KeepFDs, Netns: tgt.Netns, Userns: tgt.Userns, Mount: mount,
		ResolvConf: nscommand.ResolvConf(st.DNS), Terminal: caller.Terminal,
	}.Run()
}

// open opens the target's namespaces; mount is nil where it is the caller's own, or where the
// target is no process.
func open(ctx context.Context, st *instance.State) (tgt *target.Target, mount *os.File, err error) {
	if st.Target.PID == 0 {
		userns := st.Target.Userns
		if _, err := os.Stat(userns); err != nil {
			userns = "" // a description, no path: the owner is found again
		}
		tgt, err = target.FromNetns(st.Target.Netns, userns)
		return tgt, nil, err
	}
	if tgt, err = target.FromPID(ctx, st.Target.PID, 0); err != nil {
		return nil, nil, err
	}
	path := fmt.Sprintf("/proc/%d/ns/mnt", st.Target.PID)
	if mount, err = os.Open(path); err == nil {
		theirs, err1 := mount.Stat()
		ours, err2 := os.Stat("/proc/self/ns/mnt")
		if err1 != nil || err2 != nil || os.SameFile(theirs, ours) {
			mount.Close()
			mount = nil
		}
	} else if !os.IsPermission(err) {
		tgt.Close()
		return nil, nil, tgt.Ended("just now")
	}
	return tgt, mount, nil
}
