package target

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Entry opens the user namespace that the caller's processes must join before they can enter the network
// namespace; nil if none. Root of a user namespace may trace processes that join it (ptrace(2)). So Entry
// returns nil if the caller has CAP_SYS_ADMIN over the target already, as the host's root has; else the
// outermost user namespace below the caller's own, over which root of a namespace further in has no rights.
// The caller must close it.
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
			return at, nil // not below the caller's: setns(2) will fail
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

// hasSysAdmin reports whether the caller has CAP_SYS_ADMIN in its own user namespace, and so in all below.
func hasSysAdmin() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}
