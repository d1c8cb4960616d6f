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

// resolvConf follows the links of /etc/resolv.conf, checks whether slirp4netns's sandbox can follow
// them too (upstream issues 116, 315, 333), and looks for a nameserver in the file.
func resolvConf(_ context.Context, env *Env) Result {
	chain := launcher.Follow(env.FS, "/etc/resolv.conf")
	rewrite := env.sudo("sh -c 'rm -f /etc/resolv.conf; echo nameserver 9.9.9.9 >/etc/resolv.conf'")
	switch {
	case errors.Is(chain.Err, fs.ErrNotExist) && len(chain.Links) > 0:
		return warning(rewrite, "its links lead to a missing file, names won't resolve: %s", chain)
	case errors.Is(chain.Err, fs.ErrNotExist):
		return warning(rewrite, "there is no /etc/resolv.conf, names won't resolve")
	case errors.Is(chain.Err, launcher.ErrLinkLoop):
		return warning(rewrite, "its links form a loop, names won't resolve: %s -> %s", chain.Links[0].From, chain.Links[0].To)
	case chain.Err != nil:
		return unknown("can't follow its links: %v", chain.Err)
	}
	text, err := fs.ReadFile(env.FS, rel(chain.Final))
	if err != nil {
		return unknown("%v", err)
	}
	servers := resolvconf.Parse(string(text)).Nameservers
	if len(servers) == 0 {
		return warning(env.sudo("sh -c 'echo nameserver 9.9.9.9 >>/etc/resolv.conf'"), "%s names no nameserver, names won't resolve", chain.Final)
	}
	if escape := chain.Escape(); escape.Path != "" {
		var binary launcher.Binary
		if env.Slirp4netns != nil {
			binary = *env.Slirp4netns
		}
		if breaks, known := chain.BreaksSandboxDNS(binary); breaks || !known {
			whose := "slirp4netns's"
			if escape.OnlyFile {
				whose = "before 1.2.1 slirp4netns's"
			}
			return warning("export SLIRPCTL_SANDBOX=false", "%s sandbox has only /etc and /run, so not %s: no DNS with the sandbox on (%s)", whose, escape.Path, chain)
		}
	}
	return ok("%s, nameserver %s", chain, strings.Trim(fmt.Sprint(servers), "[]"))
}
