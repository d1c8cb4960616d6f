package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/procfs"
)

// userNamespaces makes a user namespace with a network and a mount namespace in it, as
// `up -- COMMAND` and rootless container engines do, and reports what forbids it. For root it
// is a warning only: root needs none for other processes.
func userNamespaces(ctx context.Context, env *Env) Result {
	// Without these calls none can be used, and a filter that kills would kill the trial's parent too.
	denied, _ := env.denied(ctx)
	if i := slices.IndexFunc(denied, func(d Denied) bool { return d.lost() == "" }); i >= 0 {
		return failed(env.allowCalls(), "%s", denied[i].reason(env.filtered()))
	}
	_, err := env.trial(ctx, Rootless)
	if err == nil {
		return ok("one was made, with a network and a mount namespace in it")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return unknown("making one did not end: %v", err)
	}
	reason, remedy := env.whyNoUserNamespace(ctx, err)
	if env.UID == 0 {
		return warning(remedy, "%s", reason)
	}
	return failed(remedy, "%s", reason)
}

// usernsSwitches are sysctls with a value that forbids user namespaces.
var usernsSwitches = [...]struct {
	sysctl, bad, good string
	rootToo           bool // applies to root as well
}{
	{"user.max_user_namespaces", "0", "15000", true},
	{"kernel.unprivileged_userns_clone", "0", "1", false},
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0", false},
	{"user.max_net_namespaces", "0", "15000", true},
	{"user.max_mnt_namespaces", "0", "15000", true},
}

// whyNoUserNamespace explains err, a failure to make one.
func (e *Env) whyNoUserNamespace(ctx context.Context, err error) (reason, remedy string) {
	privileged := e.UID == 0 && e.HasCap(unix.CAP_SYS_ADMIN)
	if errnoOf(err) == unix.EPERM {
		if reason, remedy := e.callersFault(); reason != "" {
			return reason, remedy
		}
	}
	if reason, remedy := e.switchedOff(privileged); reason != "" {
		return reason, remedy
	}
	switch errno := errnoOf(err); {
	case errno == unix.EPERM && e.UID == 0 && !e.HasCap(unix.CAP_SETFCAP):
		return "root without the capability CAP_SETFCAP can't be mapped into one (Linux 5.12 and newer)", "podman run --cap-add SETFCAP …"
	case errno == unix.EINVAL || errno == unix.ENOSYS:
		return "this kernel was built without them", ""
	case errno == unix.ENOSPC || errno == unix.EUSERS:
		return fmt.Sprintf("a limit of this user or of an outer namespace is reached (%s)", errno),
			e.sudo("sysctl -w user.max_user_namespaces=15000 user.max_net_namespaces=15000 user.max_mnt_namespaces=15000")
	case errno != unix.EPERM && errno != unix.EACCES:
		return err.Error(), ""
	}
	return e.whoForbids(ctx, errnoOf(err))
}

// switchedOff returns the sysctl that forbids user namespaces, or "".
func (e *Env) switchedOff(privileged bool) (reason, remedy string) {
	for _, s := range usernsSwitches {
		if privileged && !s.rootToo {
			continue
		}
		if have, err := e.readWord("proc/sys/" + strings.ReplaceAll(s.sysctl, ".", "/")); err != nil || have != s.bad {
			continue
		}
		reason = fmt.Sprintf("the sysctl %s=%s forbids them", s.sysctl, s.bad)
		if strings.Contains(s.sysctl, "apparmor") {
			reason = fmt.Sprintf("AppArmor takes their privileges away (sysctl %s=%s)", s.sysctl, s.bad)
		}
		return reason, e.sudo(fmt.Sprintf("sysctl -w %s=%s", s.sysctl, s.good))
	}
	return "", ""
}

// whoForbids guesses the cause of an EPERM or EACCES that no setting explains.
func (e *Env) whoForbids(ctx context.Context, errno unix.Errno) (reason, remedy string) {
	if e.filtered() || e.inContainer() {
		return "the container or service around this process forbids them, by a system call filter or a security module, or this is a chroot (" + errno.Error() + ")",
			"podman run --security-opt seccomp=unconfined --security-opt label=disable --device /dev/net/tun …"
	}
	look := e.sudo("dmesg | grep -i -e apparmor -e avc | tail")
	if _, err := e.trial(ctx, UserOnly); err == nil {
		return "one can be made, but a security module (AppArmor, SELinux) allows no network namespace in it", look
	}
	return "the kernel refuses (" + errno.Error() + "), perhaps because of a security module", look
}

// callersFault returns which property of this process makes the kernel refuse a user namespace
// (create_user_ns in kernel/user_namespace.c), or "".
func (e *Env) callersFault() (reason, remedy string) {
	for _, id := range []struct {
		file, what string
		n          int
	}{{"uid_map", "user", e.UID}, {"gid_map", "group", e.GID}} {
		if text, err := e.readWord("proc/self/" + id.file); err == nil && !mapped(text, int64(id.n)) {
			return fmt.Sprintf("this process's %s id is not mapped in its user namespace (it shows as %d), and the kernel makes none for such a process", id.what, id.n),
				"unshare --user --map-root-user slirpctl up …  # instead of unshare --user alone"
		}
	}
	if text, err := fs.ReadFile(e.FS, "proc/self/mountinfo"); err == nil && !rootIsMount(string(text)) {
		return "this process is in a chroot, where the kernel makes none", ""
	}
	return "", ""
}

// mapped reports whether the uid_map or gid_map text contains the id.
func mapped(text string, id int64) bool {
	maps, _ := user.ParseIDMap(strings.NewReader(text))
	return slices.ContainsFunc(maps, func(m user.IDMap) bool { return m.ID <= id && id-m.ID < m.Count })
}

// rootIsMount reports whether the root directory is a mount point, which it usually is not after chroot(2).
func rootIsMount(table string) bool {
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(table), mountinfo.SingleEntryFilter("/"))
	return err != nil || len(mounts) > 0
}

// filtered reports whether a seccomp filter applies to this process.
func (e *Env) filtered() bool {
	status, _ := fs.ReadFile(e.FS, "proc/self/status")
	return slices.Equal(procfs.StatusField(status, "Seccomp"), []string{"2"})
}
