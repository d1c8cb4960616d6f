package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
)

// ResolvConf follows the links of /etc/resolv.conf, checks whether slirp4netns's sandbox can follow
// them too (upstream issues 116, 315, 333), and looks for a nameserver in the file.
func ResolvConf(_ context.Context, env *Env) Result {
	r := Result{Name: "resolv-conf", Status: Warning}
	chain := launcher.Follow(env.FS, "/etc/resolv.conf")
	const write = "sh -c 'rm -f /etc/resolv.conf; echo nameserver 9.9.9.9 >/etc/resolv.conf'"
	switch {
	case errors.Is(chain.Err, fs.ErrNotExist) && len(chain.Links) > 0:
		r.Reason, r.Remedy = fmt.Sprintf("its links lead to a missing file, names won't resolve: %s", chain), env.sudo(write)
		return r
	case errors.Is(chain.Err, fs.ErrNotExist):
		r.Reason, r.Remedy = "there is no /etc/resolv.conf, names won't resolve", env.sudo(write)
		return r
	case errors.Is(chain.Err, launcher.ErrLinkLoop):
		r.Reason, r.Remedy = fmt.Sprintf("its links form a loop, names won't resolve: %s -> %s", chain.Links[0].From, chain.Links[0].To), env.sudo(write)
		return r
	case chain.Err != nil:
		r.Status, r.Reason = Unknown, "can't follow its links: "+chain.Err.Error()
		return r
	}
	text, err := fs.ReadFile(env.FS, rel(chain.Final))
	if err != nil {
		r.Status, r.Reason = Unknown, err.Error()
		return r
	}
	servers := resolvconf.Parse(string(text)).Nameservers
	if len(servers) == 0 {
		r.Reason, r.Remedy = fmt.Sprintf("%s names no nameserver, names won't resolve", chain.Final), env.sudo("sh -c 'echo nameserver 9.9.9.9 >>/etc/resolv.conf'")
		return r
	}
	if escape := chain.Escape(); escape.Path != "" {
		var binary launcher.Binary
		if env.Slirp4netns != nil {
			binary = *env.Slirp4netns
		}
		if breaks, known := chain.BreaksSandboxDNS(binary); breaks || !known {
			r.Reason = fmt.Sprintf("slirp4netns's sandbox has only /etc and /run, so not %s: no DNS with the sandbox on (%s)", escape.Path, chain)
			if escape.OnlyFile {
				r.Reason = fmt.Sprintf("before 1.2.1 slirp4netns's sandbox has only /etc and /run, so not %s: no DNS with the sandbox on (%s)", escape.Path, chain)
			}
			r.Remedy = "export SLIRPCTL_SANDBOX=false"
			return r
		}
	}
	r.Status, r.Reason = OK, fmt.Sprintf("%s, nameserver %s", chain, strings.Trim(fmt.Sprint(servers), "[]"))
	return r
}
