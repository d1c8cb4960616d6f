package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// UserNamespaces makes a user namespace with a network and a mount namespace in it, the way
// `up -- COMMAND` and rootless container engines do, and names what forbids it. For root it
// is a warning only: root needs none to serve other processes.
func UserNamespaces(ctx context.Context, env *Env) Result {
	r := Result{Name: "user-namespaces"}
	_, err := env.trial(ctx, Rootless)
	if err == nil {
		r.Status, r.Reason = OK, "one was made, with a network and a mount namespace in it"
		return r
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		r.Status, r.Reason = Unknown, "making one did not end: "+err.Error()
		return r
	}
	r.Status = Failed
	if env.UID == 0 {
		r.Status = Warning
	}
	r.Reason, r.Remedy = env.whyNoUserNamespace(ctx, err)
	return r
}

// usernsSwitches are the sysctls that forbid user namespaces by a value.
var usernsSwitches = [...]struct {
	sysctl, bad, good string
	rootToo           bool // it stops root as well
}{
	{"user.max_user_namespaces", "0", "15000", true},
	{"kernel.unprivileged_userns_clone", "0", "1", false},
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0", false},
	{"user.max_net_namespaces", "0", "15000", true},
	{"user.max_mnt_namespaces", "0", "15000", true},
}

// whyNoUserNamespace explains err, which making one gave.
func (e *Env) whyNoUserNamespace(ctx context.Context, err error) (reason, remedy string) {
	privileged := e.UID == 0 && e.HasCap(unix.CAP_SYS_ADMIN)
	for _, s := range usernsSwitches {
		if privileged && !s.rootToo {
			continue
		}
		if have, readErr := e.readWord("proc/sys/" + strings.ReplaceAll(s.sysctl, ".", "/")); readErr == nil && have == s.bad {
			reason := fmt.Sprintf("the sysctl %s=%s forbids them", s.sysctl, s.bad)
			if strings.Contains(s.sysctl, "apparmor") {
				reason = fmt.Sprintf("AppArmor takes their privileges away (sysctl %s=%s)", s.sysctl, s.bad)
			}
			return reason, e.sudo(fmt.Sprintf("sysctl -w %s=%s", s.sysctl, s.good))
		}
	}
	switch errno := errnoOf(err); {
	case errno == unix.EINVAL || errno == unix.ENOSYS:
		return "this kernel was built without them", ""
	case errno == unix.ENOSPC || errno == unix.EUSERS:
		return fmt.Sprintf("a limit of this user or of an outer namespace is reached (%s)", errno),
			e.sudo("sysctl -w user.max_user_namespaces=15000 user.max_net_namespaces=15000 user.max_mnt_namespaces=15000")
	case errno != unix.EPERM && errno != unix.EACCES:
		return err.Error(), ""
	}
	if e.filtered() || e.inContainer() {
		return "the container or service that we run in forbids them, by a system call filter or a security module (" + errnoOf(err).Error() + ")",
			"podman run --security-opt seccomp=unconfined --security-opt label=disable --device /dev/net/tun …"
	}
	if _, err := e.trial(ctx, UserOnly); err == nil {
		return "one can be made, but a security module (AppArmor, SELinux) allows no network namespace in it", e.sudo("dmesg | grep -i -e apparmor -e avc | tail")
	}
	return "the kernel refuses (" + errnoOf(err).Error() + "): a security module, or we are in a chroot", e.sudo("dmesg | grep -i -e apparmor -e avc | tail")
}

// filtered reports whether a seccomp filter is on us.
func (e *Env) filtered() bool {
	text, err := e.readWord("proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(text) {
		if mode, ok := strings.CutPrefix(line, "Seccomp:"); ok {
			return strings.TrimSpace(mode) == "2"
		}
	}
	return false
}
