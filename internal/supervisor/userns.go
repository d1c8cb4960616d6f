package supervisor

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// NoUsernsError: this host does not let the caller make a user namespace.
type NoUsernsError struct {
	Err error
	Fix string
}

func (e *NoUsernsError) Error() string { return "make a user namespace: " + e.Err.Error() }
func (e *NoUsernsError) Unwrap() error { return e.Err }

// Hint says which setting of the host forbids it, and how to change it.
func (e *NoUsernsError) Hint() string { return e.Fix }

// usernsSwitches are the settings that forbid user namespaces: the kernel's own, Debian's and
// Ubuntu's old one, Ubuntu's AppArmor.
var usernsSwitches = []struct{ path, off, fix string }{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
	{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"},
}

// explainNamespaces names what forbids the namespaces of `up -- COMMAND`.
func explainNamespaces(err error) error {
	var ne *nsexec.Error
	if !errors.As(err, &ne) || ne.Step != "unshare" && !errors.Is(err, syscall.EPERM) {
		return err
	}
	e := &NoUsernsError{Err: err}
	for _, s := range usernsSwitches {
		data, rerr := os.ReadFile(s.path)
		if rerr == nil && strings.TrimSpace(string(data)) == s.off {
			e.Fix = s.fix
			break
		}
	}
	return e
}
