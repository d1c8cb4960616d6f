package target

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// foreign returns the error for a process whose namespaces the caller may not open: it is another user's, or not
// accessible to its own user. The hint says as which user to run slirpctl.
func foreign(pid int) error {
	uid := ""
	if ids := procfs.Status(pid, "Uid"); len(ids) > 0 {
		uid = ids[0] // the real one
	}
	own := uid == fmt.Sprint(os.Getuid())
	e := &fault.Error{Err: fs.ErrPermission, Help: fmt.Sprintf("run slirpctl as root: sudo slirpctl up %d", pid)}
	switch {
	case os.Geteuid() == 0:
		e.Msg = fmt.Sprintf("root can't inspect process %d from here (CAP_SYS_PTRACE is missing, or a security module forbids it)", pid)
		e.Help = "run slirpctl as root of the host, outside of containers"
	case uid == "":
		e.Msg = fmt.Sprintf("process %d is another user's", pid)
	case own:
		e.Msg = fmt.Sprintf("process %d can't be inspected by its own user (it has more privileges, or is not dumpable)", pid)
	default:
		e.Msg = fmt.Sprintf("process %d belongs to %s", pid, userName(uid))
		if uid != "0" {
			e.Help = fmt.Sprintf("run slirpctl as that user, or as root: sudo -u '#%s' slirpctl up %d", uid, pid)
		}
	}
	return e
}

func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, uid)
	}
	return "uid " + uid
}
