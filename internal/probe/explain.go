package probe

import (
	"context"
	"strings"
)

// Explain asks the check that fits what slirp4netns said before it ended. ok is false where
// its words fit none, or where the check finds nothing wrong. The words are those of
// slirp4netns's main.c, slirp4netns.c and sandbox.c.
func Explain(ctx context.Context, env *Env, output string) (r Result, ok bool) {
	for _, e := range []struct {
		words []string
		name  string
		check Check
	}{
		{[]string{"/dev/net/tun", "TUNSETIFF"}, "tun-device", TunDevice},
		{[]string{"create_sandbox", "pivot_root", "cannot bind mount", "cannot mount tmpfs", "cannot remount", "CLONE_NEWNS"}, "sandbox", Sandbox},
		{[]string{"seccomp"}, "seccomp", Seccomp},
		{[]string{"CLONE_NEWUSER", "CLONE_NEWNET"}, "user-namespaces", UserNamespaces},
		{[]string{"resolv.conf"}, "resolv-conf", ResolvConf},
	} {
		for _, w := range e.words {
			if !strings.Contains(output, w) {
				continue
			}
			if r := Run(ctx, env, e.name, e.check); r.Status == Failed || r.Status == Warning {
				return r, true
			}
			break
		}
	}
	return Result{}, false
}
