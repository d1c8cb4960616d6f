package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// call is a system call.
type call struct {
	name string
	try  func() error
	lost string // what does not work without it; "": up
}

// calls are the system calls that `up` makes and that seccomp filters are known to forbid, with
// arguments that have no effect.
var calls = [...]call{
	{"setns", func() error { return unix.Setns(-1, 0) }, ""},
	{"pidfd_open", func() error { _, err := unix.PidfdOpen(-1, 0); return err }, ""},
	{"unshare", func() error { return unix.Unshare(0) }, "slirp4netns and the helper in the namespace have no root directory of their own"},
	{"mount", func() error { return unix.Mount("", "", "", 0, "") }, "COMMAND has no PID namespace of its own, and slirp4netns no sandbox"},
	{"pidfd_send_signal", func() error { return unix.PidfdSendSignal(-1, 0, nil, 0) }, "down can't end an instance that does not answer"},
	{"pidfd_getfd", func() error { _, err := unix.PidfdGetfd(-1, 0, 0); return err }, "the host's loopback is open to frames that programs inside make themselves"},
}

// Denied is a system call that the host denies.
type Denied struct {
	Call  string     `json:"call"`
	Errno unix.Errno `json:"errno"` // EPERM, EACCES or ENOSYS; 0: the caller is killed
}

// lost returns what does not work without the call; "": up.
func (d Denied) lost() string {
	if d.Errno == 0 { // the caller is killed
		return ""
	}
	i := slices.IndexFunc(calls[:], func(c call) bool { return c.name == d.Call })
	return calls[i].lost
}

// reason says what denies the call.
func (d Denied) reason(filtered bool) string {
	switch {
	case d.Errno == 0:
		return "a system call filter (seccomp) kills callers of " + d.Call
	case d.Errno == unix.ENOSYS && !filtered:
		return fmt.Sprintf("this kernel has no %s (Linux 5.6 and newer do)", d.Call)
	}
	return fmt.Sprintf("a system call filter (seccomp) forbids %s (%s)", d.Call, d.Errno)
}

// childCalls makes every call, and prints its name before and the result after it: a filter may kill.
func childCalls() {
	out := json.NewEncoder(os.Stdout)
	for _, c := range calls {
		_ = out.Encode(Denied{Call: c.name})
		switch errno := errnoOf(c.try()); errno {
		case unix.EPERM, unix.EACCES, unix.ENOSYS:
			_ = out.Encode(Denied{c.name, errno})
		default:
			_ = out.Encode(Denied{})
		}
	}
}

// tryCalls returns the denied calls, as far as the child got.
func tryCalls(ctx context.Context) ([]Denied, error) {
	cmd := childCommand(ctx, callsKind)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	var all []Denied
	var last Denied
	for in := json.NewDecoder(bytes.NewReader(out)); in.Decode(&last) == nil; {
		if last.Errno != 0 {
			all = append(all, last)
		}
	}
	if err != nil {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == unix.SIGSYS && last.Call != "" && last.Errno == 0 {
			return append(all, last), nil
		}
		return nil, err
	}
	return all, nil
}

// denied returns the denied calls.
func (e *Env) denied(ctx context.Context) ([]Denied, error) {
	if e.TryCalls == nil {
		return nil, nil
	}
	e.callsOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
		defer cancel()
		e.calls, e.callsErr = e.TryCalls(ctx)
	})
	return e.calls, e.callsErr
}

// systemCalls checks the system calls of `up` that filters are known to forbid.
func systemCalls(ctx context.Context, env *Env) Result {
	denied, err := env.denied(ctx)
	if err != nil {
		return unknown("can't be tried: %v", err)
	}
	if len(denied) == 0 {
		return ok("the system calls of up are allowed")
	}
	r := warning(env.allowCalls(), "")
	var reasons []string
	for _, d := range denied {
		reason := d.reason(env.filtered())
		if lost := d.lost(); lost != "" {
			reason += ": " + lost
		} else {
			r.Status = Failed
		}
		reasons = append(reasons, reason)
	}
	r.Reason = strings.Join(reasons, "; ")
	return r
}

// allowCalls returns how to lift a system call filter.
func (e *Env) allowCalls() string {
	switch {
	case e.inContainer():
		return "podman run --security-opt seccomp=unconfined …"
	case e.filtered():
		return e.sudo("systemctl edit $UNIT  # SystemCallFilter=")
	}
	return ""
}

// DeniedCall returns what to do if err names a system call that the host denies, or "". Calls that err
// does not name can't have been the cause.
func DeniedCall(ctx context.Context, env *Env, err error) (hint string) {
	all, _ := env.denied(ctx)
	for _, d := range all {
		if strings.Contains(err.Error(), d.Call) {
			return Result{Name: "system-calls", Reason: d.reason(env.filtered()), Remedy: env.allowCalls()}.Hint()
		}
	}
	return ""
}

// procMount checks that /proc shows this process.
func procMount(_ context.Context, env *Env) Result {
	if err := CheckProc(); err != nil {
		return failed(env.sudo(mountProc), "%v", err)
	}
	return ok("/proc is there")
}

const mountProc = "mount -t proc proc /proc"

// CheckProc returns an error if no /proc shows this process: slirpctl uses it to find namespaces,
// processes and its own program.
func CheckProc() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/proc", &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return fault.New(fault.Unsupported, "/proc is not mounted, and slirpctl finds processes and namespaces there", mountProc)
	}
	if pid, _ := os.Readlink("/proc/self"); pid != strconv.Itoa(os.Getpid()) {
		return fault.New(fault.Unsupported, "/proc is that of another PID namespace, where processes have other numbers", mountProc+", or unshare --mount-proc")
	}
	return nil
}
