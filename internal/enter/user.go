package enter

import (
	"bytes"
	"io"
	"os"
	"strings"

	mobyuser "github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// setUser sets the user of s to NAME|UID[:GROUP|GID], with the names of the files below root (nil: the caller's root
// directory). "" leaves it. gid is the group of a user without one. As root, the command has the capabilities in
// bounding, otherwise none.
func setUser(s *nsexec.Session, root *os.File, spec string, gid int, bounding uint64) error {
	if spec == "" {
		return nil
	}
	found, err := mobyuser.GetExecUser(spec, &mobyuser.ExecUser{Gid: gid}, below(root, "etc/passwd"), below(root, "etc/group"))
	if err != nil {
		return fault.Errorf(fault.Usage, "NAME or UID, and :GROUP or :GID if needed, as the target knows them", "--user %s: %w", spec, err)
	}
	if !validID(found.Uid) || !validID(found.Gid) {
		return fault.Errorf(fault.Usage, "", "--user %s: it has no valid ids: %d:%d", spec, found.Uid, found.Gid)
	}
	s.UID, s.GID, s.Bounding, s.Permitted = found.Uid, found.Gid, bounding, 0
	if found.Uid == 0 {
		s.Permitted = bounding
	}
	return nil
}

// validID reports whether an id can be set. -1, also as 4294967295, would leave the present one (setresuid(2)).
func validID(id int) bool { return id >= 0 && id < 1<<32-1 }

// maxNames is how much is read of a file of names, in bytes.
const maxNames = 4 << 20

// below reads a regular file below a root directory, which its links can't leave. Of a file that can't be read it
// returns nothing: then only numbers are known.
func below(root *os.File, name string) io.Reader {
	dir := unix.AT_FDCWD
	if root != nil {
		dir = int(root.Fd())
	} else {
		name = "/" + name
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC}
	if root != nil {
		how.Resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	}
	fd, err := unix.Openat2(dir, name, &how)
	if err != nil {
		return bytes.NewReader(nil)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return bytes.NewReader(nil)
	}
	data, _ := io.ReadAll(io.LimitReader(f, maxNames))
	return bytes.NewReader(data)
}

func getenv(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}
