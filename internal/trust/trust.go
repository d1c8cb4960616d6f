// Package trust decides whether root may read or execute a file. It exists because root may have
// another user's environment (HOME and PATH kept by sudo -E), and then find configuration and programs
// in directories that the user can write to.
package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Error says that a file is not safe for root to use.
type Error struct {
	Path   string // as given
	Reason string // "/home/u belongs to user 1000"
}

// Error returns one line.
func (e *Error) Error() string { return fmt.Sprintf("root does not use %s: %s", e.Path, e.Reason) }

// Hint returns the hint for the user.
func (e *Error) Hint() string {
	return "make root the owner and only writer of it and of every directory above it (chown root, chmod go-w), or name another file"
}

// Is reports whether target is the error's kind.
func (*Error) Is(target error) bool { return target == fault.Usage }

// Check returns an [*Error] if the caller is root and another user could have written or replaced the
// file at path: the file, each directory above it and each symbolic link in the path must belong to
// root, and only root may write to them. A directory with the sticky bit may be writable by others.
// After a successful check the path can be opened, because only root can change what it leads to.
// Check returns nil for other callers, and if the file doesn't exist.
//
// In a user namespace, root also accepts owners that are not mapped, such as the real root.
func Check(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return check(path)
}

// maxLinks is the kernel's limit (path_resolution(7)).
const maxLinks = 40

func check(path string) error {
	full := path
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		full = dir + "/" + path // not cleaned: ".." depends on the links before it
	}
	refuse := func(format string, a ...any) error { return &Error{path, fmt.Sprintf(format, a...)} }
	at, todo, links := "/", split(full), 0
	for {
		info, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return nil // opening it will fail too
		case err != nil:
			return refuse("%v", err)
		}
		if reason := unsafe(info); reason != "" {
			return refuse("%s %s", at, reason)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if isMagic(at) {
				// A descriptor of the caller, such as a shell's <(…), or the root or working directory
				// of a process. It has no path that could be checked.
				return checkMagic(at, len(todo) > 0, refuse)
			}
			if links++; links > maxLinks {
				return nil
			}
			to, err := os.Readlink(at)
			if err != nil {
				return refuse("%v", err)
			}
			if at = filepath.Dir(at); filepath.IsAbs(to) {
				at = "/"
			}
			todo = append(split(to), todo...)
		}
		if len(todo) == 0 {
			return nil
		}
		at, todo = filepath.Join(at, todo[0]), todo[1:]
	}
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// unsafe returns which other user can change the file, or "".
func unsafe(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "has an unknown owner"
	}
	if owner := int(st.Uid); owner != 0 && owner != UnmappedUID() {
		if _, err := os.Stat(uidMap); err != nil {
			return fmt.Sprintf("belongs to user %d (without /proc, user namespaces can't be considered)", owner)
		}
		return fmt.Sprintf("belongs to user %d", owner)
	}
	mode := info.Mode()
	switch {
	case mode&(fs.ModeSymlink|fs.ModeDevice) != 0, mode.IsDir() && mode&fs.ModeSticky != 0:
	case mode.Perm()&0o002 != 0:
		return "can be written by everybody"
	case mode.Perm()&0o020 != 0: // also by an access control list, whose mask these bits are
		return fmt.Sprintf("can be written by group %d", st.Gid)
	}
	return ""
}

// isMagic reports whether path is a magic link of /proc/PID, which does not lead where its text says.
func isMagic(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(filepath.Dir(path), &st) != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return false
	}
	to, err := os.Readlink(path)
	if err != nil || filepath.IsAbs(to) {
		return true
	}
	// /proc/self and similar links lead to an entry of the same directory; pipe:[1] leads nowhere.
	_, err = os.Lstat(filepath.Join(filepath.Dir(path), to))
	return err != nil
}

func checkMagic(path string, isParent bool, refuse func(string, ...any) error) error {
	if isParent {
		return refuse("%s leads to a directory whose parents can't be seen", path)
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil // a pipe or a terminal that the caller passed
	}
	if reason := unsafe(info); reason != "" {
		return refuse("the file %s", reason)
	}
	return nil
}

const uidMap = "/proc/self/uid_map"

// UnmappedUID returns the user id shown for files of users that are not mapped in our user namespace, such
// as the real root (user_namespaces(7)). It is 0 in the initial user namespace, where all users are mapped.
func UnmappedUID() int {
	var first, under, count uint64
	data, err := os.ReadFile(uidMap)
	if n, _ := fmt.Sscan(string(data), &first, &under, &count); err != nil || n < 3 || count == 1<<32-1 {
		return 0
	}
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	uid, numErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || numErr != nil {
		return 0
	}
	return uid
}
