package target

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Entry opens the user namespace that a process of the caller's has to join before it can enter the network
// namespace; nil if none. Who is root in a user namespace may trace what joins it (ptrace(2)). So it is
// none where the caller has CAP_SYS_ADMIN over the target as it is, as root has from outside; else the
// outermost below the caller's own, in which no one is root who is only in one further in. The caller
// closes it.
func (t *Target) Entry() (*os.File, error) {
	if t.Userns == nil || hasSysAdmin() {
		return nil, nil
	}
	fd, err := unix.FcntlInt(t.Userns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	at := os.NewFile(uintptr(fd), "userns")
	for {
		fd, err := unix.IoctlRetInt(int(at.Fd()), unix.NS_GET_PARENT)
		if err != nil {
			return at, nil // not below the caller's; setns(2) will say what it thinks of that
		}
		unix.CloseOnExec(fd)
		parent := os.NewFile(uintptr(fd), "userns")
		own, err := sameNS(parent, "/proc/self/ns/user")
		if err != nil || own {
			parent.Close()
			return at, err
		}
		at.Close()
		at = parent
	}
}

// hasSysAdmin reports whether the caller has CAP_SYS_ADMIN in its own user namespace, and by it in all below.
func hasSysAdmin() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}
