package launcher

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Link is a symbolic link in the path of a file.
type Link struct{ From, To string } // From is absolute, To is the link's text

// Chain is the list of links from /etc/resolv.conf to the file that it leads to.
type Chain struct {
	Links []Link
	Final string // absolute; if Err is set, the path that failed
	Err   error  // [ErrLinkLoop] or the file system's own
}

// ErrLinkLoop means that there are too many links, or a loop of links.
var ErrLinkLoop = errors.New("too many levels of symbolic links")

// maxLinks is the kernel's limit (path_resolution(7)).
const maxLinks = 40

// Follow resolves the absolute path name in fsys and records every link in it, including links of
// directories.
func Follow(fsys fs.FS, name string) Chain {
	var c Chain
	todo := strings.Split(strings.Trim(name, "/"), "/")
	at := "/"
	for len(todo) > 0 {
		next := path.Join(at, todo[0]) // also right for "..", because at has no links
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

// rel converts an absolute path to a name for an fs.FS.
func rel(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}

// String returns the links, as "/etc/resolv.conf -> ../run/x", or the path if there are none.
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

// inSandbox reports whether name exists in slirp4netns's sandbox, which binds only /etc and /run
// (sandbox.c).
func inSandbox(name string) bool {
	return strings.HasPrefix(name, "/etc/") || strings.HasPrefix(name, "/run/")
}

// Escape says where a chain leaves the sandbox.
type Escape struct {
	Path string // the first link or file that the sandbox lacks; "" if it has all
	// OnlyFile means that only the file is missing, and no link. Since 1.2.1 the sandbox binds
	// that file, so DNS works.
	OnlyFile bool
}

// Escape finds the first link, or the file, that is not in /etc or /run.
func (c Chain) Escape() Escape {
	for _, l := range c.Links {
		// /etc and /run may be links themselves: the sandbox binds them by name.
		if !inSandbox(l.From) && l.From != "/etc" && l.From != "/run" {
			return Escape{Path: l.From}
		}
	}
	if !inSandbox(c.Final) {
		return Escape{Path: c.Final, OnlyFile: true}
	}
	return Escape{}
}

// BreaksSandboxDNS reports whether DNS fails in the sandbox of this slirp4netns. known is false
// if that depends on a version that can't be parsed: then assume yes.
func (c Chain) BreaksSandboxDNS(b Binary) (breaks, known bool) {
	e := c.Escape()
	if e.Path == "" || !e.OnlyFile {
		return e.Path != "", true
	}
	// The help text does not show it. It shows --netns-type=tapfd, which came later, in 1.3.0; that is
	// enough if the version is unknown.
	if b.Features.Has(NetnsTypeTapfd) {
		return false, true
	}
	binds, known := b.Version.AtLeast(1, 2, 1)
	return !binds, known
}
