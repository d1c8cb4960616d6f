package target

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strings"
)

// ForeignError: the process is another user's, or one that its own user may not look into.
type ForeignError struct {
	PID int
	UID string // its real user id
}

// newForeignError words a refusal to open the namespaces of a process.
func newForeignError(pid int) error {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	e := &ForeignError{PID: pid}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Uid:" {
			e.UID = f[1]
		}
	}
	return e
}

func (e *ForeignError) Error() string {
	switch {
	case os.Geteuid() == 0:
		return fmt.Sprintf("process %d is closed to this root (it lacks CAP_SYS_PTRACE over it, or a security module forbids it)", e.PID)
	case e.UID == "":
		return fmt.Sprintf("process %d is another user's", e.PID)
	case e.own():
		return fmt.Sprintf("process %d is closed to its own user (it has more rights, or made itself undumpable)", e.PID)
	}
	return fmt.Sprintf("process %d belongs to %s", e.PID, e.owner())
}

// Hint says as whom slirpctl would work.
func (e *ForeignError) Hint() string {
	if os.Geteuid() == 0 {
		return "run slirpctl as root of the host, outside of containers"
	}
	if e.UID == "" || e.UID == "0" || e.own() {
		return fmt.Sprintf("run slirpctl as root: sudo slirpctl up %d", e.PID)
	}
	return fmt.Sprintf("run slirpctl as that user, or as root: sudo -u '#%s' slirpctl up %d", e.UID, e.PID)
}

// Unwrap returns [fs.ErrPermission].
func (e *ForeignError) Unwrap() error { return fs.ErrPermission }

func (e *ForeignError) own() bool { return e.UID == fmt.Sprint(os.Getuid()) }

func (e *ForeignError) owner() string {
	if u, err := user.LookupId(e.UID); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, e.UID)
	}
	return "uid " + e.UID
}
