// Package instance keeps the state of instances on disk, so that any slirpctl process can find,
// query and stop what another one started, even after processes were killed.
//
// Layout, below a base directory of mode 0700 that belongs to the caller:
//
//	BASE/.lock          held (exclusive, briefly) while an instance is created, cleaned up or removed
//	BASE/.new-…         an instance being created
//	BASE/.gone-…        an instance being removed; leftovers of both are removed under BASE/.lock
//	BASE/.cache/        detected features; may be removed at any time
//	BASE/.ended/NAME/   state.json, log and output of a detached COMMAND that has ended
//	BASE/NAME/lock      held by the supervisor while it runs: only this lock says that it runs,
//	                    never a PID
//	BASE/NAME/state.json, log, output, control.sock, api.sock, …
//
// All locks are open-file-description locks (fcntl(2), F_OFD_SETLK): they are released with the last
// descriptor, so also on SIGKILL, and can be tested without being taken.
package instance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/trust"
)

// ErrUnsafeDir means that a state directory can't be trusted.
var ErrUnsafeDir = fault.New(0, "state directory is not safe to use", otherDir)

const otherDir = "name a directory of your own with --state-dir, or set XDG_RUNTIME_DIR"

func unsafeDir(dir, reason string) error {
	return &fault.Error{Msg: fmt.Sprintf("state directory %q is not safe to use: %s", dir, reason), Err: ErrUnsafeDir}
}

// writeError wraps the failure to create something in the state directory.
func writeError(err error) error {
	return fault.Errorf(0, otherDir, "write to the state directory: %w", err)
}

// DefaultBase returns the base directory for this user, without creating it: /run/slirpctl for
// root if /run is writable, else $XDG_RUNTIME_DIR/slirpctl, else slirpctl-UID below the
// temporary directory.
func DefaultBase(getenv func(string) string) string {
	if os.Geteuid() == 0 && writable("/run") {
		return "/run/slirpctl"
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && writable(dir) {
		return filepath.Join(dir, "slirpctl")
	}
	tmp := getenv("TMPDIR")
	if !filepath.IsAbs(tmp) {
		tmp = "/tmp"
	}
	return filepath.Join(tmp, "slirpctl-"+strconv.Itoa(os.Geteuid()))
}

func writable(dir string) bool { return unix.Access(dir, unix.W_OK|unix.X_OK) == nil }

// Base is a base directory that [OpenBase] has checked.
type Base struct{ dir string }

// OpenBase creates dir if needed (mode 0700; missing parents too) and verifies that it is a
// directory, not a link, that it belongs to the caller and that nobody else can enter it.
// Errors: [ErrUnsafeDir], or the file system's own.
func OpenBase(dir string) (Base, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Base{}, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Base{}, writeError(err)
	}
	if err := verifyParents(dir); err != nil {
		return Base{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return Base{}, writeError(err)
	}
	if err := verifyPrivate(dir); err != nil {
		return Base{}, err
	}
	return Base{dir: dir}, nil
}

// CacheDir creates the cache directory and returns its path, or "" if it can't be created.
func (b Base) CacheDir() string {
	dir := filepath.Join(b.dir, ".cache")
	if err := os.Mkdir(dir, 0o700); err == nil {
		return dir
	}
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
		return ""
	}
	return dir
}

// verifyParents fails if another user could replace dir through a directory above it: one that
// belongs to neither the caller nor root, or that others may write to and that has no sticky bit, which
// keeps them from renaming files of other users (inode(7)). Both the path as given and the path with
// links resolved are checked, because changing a link takes write access to its directory.
func verifyParents(dir string) error {
	seen := map[string]bool{}
	for _, start := range []string{filepath.Dir(dir), resolved(filepath.Dir(dir))} {
		for d := start; !seen[d]; d = filepath.Dir(d) {
			seen[d] = true
			fi, err := os.Stat(d)
			if err != nil {
				return err
			}
			st, ok := fi.Sys().(*syscall.Stat_t)
			if !ok {
				return unsafeDir(dir, fmt.Sprintf("the owner of %s is unknown", d))
			}
			if owner := int(st.Uid); owner != 0 && owner != os.Geteuid() && owner != trust.UnmappedUID() {
				return unsafeDir(dir, fmt.Sprintf("%s above it belongs to user %d", d, owner))
			}
			switch {
			case fi.Mode()&os.ModeSticky != 0 || fi.Mode().Perm()&0o022 == 0:
			case fi.Mode().Perm()&0o002 != 0:
				return unsafeDir(dir, fmt.Sprintf("everybody may write to %s above it", d))
			case !ownGroup(int(st.Gid)):
				return unsafeDir(dir, fmt.Sprintf("group %d may write to %s above it", st.Gid, d))
			case hasACL(d):
				return unsafeDir(dir, fmt.Sprintf("%s above it has an access control list by which others may write to it", d))
			}
		}
	}
	return nil
}

// ownGroup reports whether gid is the caller's user private group, as many systems make one for each
// user: it has the user's number or name, and no other member.
func ownGroup(gid int) bool {
	own := gid == os.Geteuid()
	var name string
	others, err := user.ParsePasswdFileFilter("/etc/passwd", func(u user.User) bool {
		if u.Uid == os.Geteuid() {
			name = u.Name
			return false
		}
		return u.Gid == gid
	})
	if err != nil || len(others) > 0 {
		return own && errors.Is(err, os.ErrNotExist)
	}
	groups, err := user.ParseGroupFileFilter("/etc/group", func(g user.Group) bool { return g.Gid == gid })
	if err != nil {
		return own && errors.Is(err, os.ErrNotExist)
	}
	for _, g := range groups {
		own = own || g.Name == name && name != ""
		if slices.ContainsFunc(g.List, func(member string) bool { return member != name }) {
			return false
		}
	}
	return own
}

// hasACL reports whether a directory has an access control list (acl(5)). Then the group bits of its mode
// are the list's mask.
func hasACL(dir string) bool {
	n, err := unix.Getxattr(dir, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

func resolved(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

func verifyPrivate(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case fi.Mode()&os.ModeSymlink != 0:
		return unsafeDir(dir, "it is a symbolic link")
	case !fi.IsDir():
		return unsafeDir(dir, "it is not a directory")
	case ok && int(st.Uid) != os.Geteuid():
		return unsafeDir(dir, fmt.Sprintf("it belongs to user %d", st.Uid))
	case fi.Mode().Perm()&0o022 != 0:
		return unsafeDir(dir, fmt.Sprintf("others may write to it (mode %#o)", fi.Mode().Perm()))
	case fi.Mode().Perm()&0o077 != 0:
		// The caller's, but open to others: close it, unless it is used for other things.
		if !onlyForInstances(dir) {
			return unsafeDir(dir, fmt.Sprintf("its mode is %#o, not 0700, and it holds other things", fi.Mode().Perm()))
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return unsafeDir(dir, fmt.Sprintf("its mode is %#o, not 0700", fi.Mode().Perm()))
		}
	}
	return nil
}

func onlyForInstances(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, ".lock")); err == nil {
		return true
	}
	des, err := os.ReadDir(dir)
	return err == nil && len(des) == 0
}
