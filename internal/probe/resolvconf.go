package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strings"

	"github.com/slirpctl/slirpctl/internal/launcher"
)

// Link is one symbolic link on the way to a file.
type Link struct{ From, To string } // From is absolute, To as it is written

// Chain is the way from /etc/resolv.conf to the file behind it.
type Chain struct {
	Links []Link
	Final string // absolute; what could be reached, where Err is set
	Err   error  // [ErrLinkLoop] or the file system's own
}

// ErrLinkLoop says that links lead to each other.
var ErrLinkLoop = errors.New("too many levels of symbolic links")

// maxLinks is the kernel's limit (path_resolution(7)).
const maxLinks = 40

// Follow walks name, absolute, through fsys and notes every link on the way, those of
// directories too.
func Follow(fsys fs.FS, name string) Chain {
	var c Chain
	todo := strings.Split(strings.Trim(name, "/"), "/")
	at := "/"
	for len(todo) > 0 {
		next := path.Join(at, todo[0]) // "..", at the root too, is the parent: at has no links left
		todo = todo[1:]
		info, err := fs.Lstat(fsys, rel(next))
		if err != nil {
			c.Final, c.Err = path.Join(append([]string{next}, todo...)...), err
			return c
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := fs.ReadLink(fsys, rel(next))
		if err != nil {
			c.Final, c.Err = next, err
			return c
		}
		c.Links = append(c.Links, Link{next, target})
		if len(c.Links) > maxLinks {
			c.Final, c.Err = next, ErrLinkLoop
			return c
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(strings.Trim(target, "/"), "/"), todo...)
	}
	c.Final = at
	return c
}

// rel makes an absolute path the name that an fs.FS takes.
func rel(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}

// String shows the way, "/etc/resolv.conf -> ../run/x".
func (c Chain) String() string {
	var parts []string
	for _, l := range c.Links {
		parts = append(parts, l.From+" -> "+l.To)
	}
	if len(parts) == 0 {
		return c.Final
	}
	return strings.Join(parts, ", ")
}

// inSandbox reports whether slirp4netns's sandbox has the directory that name is in: it binds
// /etc and /run and nothing else (sandbox.c).
func inSandbox(name string) bool {
	return strings.HasPrefix(name, "/etc/") || strings.HasPrefix(name, "/run/")
}

// Escape says where the way leaves what the sandbox has.
type Escape struct {
	Path string // the first thing on the way that the sandbox does not have; "" if it has all
	// OnlyFile means that every link is inside and only the file is not. From 1.2.1 on the
	// sandbox binds that file, so DNS works.
	OnlyFile bool
}

// Escape looks for the first link, or the file, that is not in /etc or /run.
func (c Chain) Escape() Escape {
	for _, l := range c.Links {
		// /etc and /run may be links themselves: they are bound under their names.
		if !inSandbox(l.From) && l.From != "/etc" && l.From != "/run" {
			return Escape{Path: l.From}
		}
	}
	if !inSandbox(c.Final) {
		return Escape{Path: c.Final, OnlyFile: true}
	}
	return Escape{}
}

// BreaksSandboxDNS reports whether DNS fails in the sandbox of a slirp4netns of version v.
// known is false where that depends on a version that can't be read.
func (c Chain) BreaksSandboxDNS(v launcher.Version) (breaks, known bool) {
	e := c.Escape()
	if e.Path == "" || !e.OnlyFile {
		return e.Path != "", true
	}
	binds, known := v.AtLeast(1, 2, 1)
	return !binds, known
}

// ResolvConf follows every link of /etc/resolv.conf, compares the way with what slirp4netns's
// sandbox can see (upstream issues 116, 315, 333), and looks for a nameserver in the file.
func ResolvConf(_ context.Context, env *Env) Result {
	r := Result{Name: "resolv-conf", Status: Warning}
	chain := Follow(env.FS, "/etc/resolv.conf")
	const write = "sh -c 'rm -f /etc/resolv.conf; echo nameserver 9.9.9.9 >/etc/resolv.conf'"
	switch {
	case errors.Is(chain.Err, fs.ErrNotExist) && len(chain.Links) > 0:
		r.Reason, r.Remedy = fmt.Sprintf("its links lead nowhere, names won't resolve: %s", chain), env.sudo(write)
		return r
	case errors.Is(chain.Err, fs.ErrNotExist):
		r.Reason, r.Remedy = "there is no /etc/resolv.conf, names won't resolve", env.sudo(write)
		return r
	case errors.Is(chain.Err, ErrLinkLoop):
		r.Reason, r.Remedy = fmt.Sprintf("its links go in a circle, names won't resolve: %s -> %s", chain.Links[0].From, chain.Links[0].To), env.sudo(write)
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
	servers := nameservers(string(text))
	if len(servers) == 0 {
		r.Reason, r.Remedy = fmt.Sprintf("%s names no nameserver, names won't resolve", chain.Final), env.sudo("sh -c 'echo nameserver 9.9.9.9 >>/etc/resolv.conf'")
		return r
	}
	if escape := chain.Escape(); escape.Path != "" {
		var version launcher.Version
		if env.Slirp4netns != nil {
			version = env.Slirp4netns.Version
		}
		if breaks, known := chain.BreaksSandboxDNS(version); breaks || !known {
			r.Reason = fmt.Sprintf("slirp4netns's sandbox has only /etc and /run, so not %s: no DNS with the sandbox on (%s)", escape.Path, chain)
			if escape.OnlyFile {
				r.Reason = fmt.Sprintf("before 1.2.1 slirp4netns's sandbox has only /etc and /run, so not %s: no DNS with the sandbox on (%s)", escape.Path, chain)
			}
			r.Remedy = "export SLIRPCTL_SANDBOX=false"
			return r
		}
	}
	r.Status, r.Reason = OK, fmt.Sprintf("%s, nameserver %s", chain, strings.Join(servers, " "))
	return r
}

// nameservers returns the addresses of resolv.conf(5)'s nameserver lines.
func nameservers(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if _, err := netip.ParseAddr(fields[1]); err == nil {
			all = append(all, fields[1])
		}
	}
	return all
}
