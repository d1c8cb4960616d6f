package launcher

import (
	"errors"
	"io/fs"
	"path"
	"strings"
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

// BreaksSandboxDNS reports whether DNS fails in the sandbox of this slirp4netns. known is false
// where that depends on a version that can't be read: then it is to be feared.
func (c Chain) BreaksSandboxDNS(b Binary) (breaks, known bool) {
	e := c.Escape()
	if e.Path == "" || !e.OnlyFile {
		return e.Path != "", true
	}
	// No help text shows it. But 1.3.0 is later, and shows something else that it brought; that
	// tells where the version was not asked for.
	if b.Features.Has(NetnsTypeTapfd) {
		return false, true
	}
	binds, known := b.Version.AtLeast(1, 2, 1)
	return !binds, known
}
