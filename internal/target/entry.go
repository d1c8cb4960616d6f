package target

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/privileges"
)

// Entry opens the user namespace that the caller's processes must join before they can enter the network
// namespace; nil if none. Root of a user namespace may trace processes that join it (ptrace(2)). So Entry
// returns nil if the caller has CAP_SYS_ADMIN over the target already, as the host's root has; else the
// outermost user namespace below the caller's own, over which root of a namespace further in has no rights.
// The caller must close it.
func (t *Target) Entry() (*os.File, error) {
	if t.Userns == nil || privileges.Has(unix.CAP_SYS_ADMIN) {
		return nil, nil
	}
	chain, err := Ancestors(t.Userns, "/proc/self/ns/user")
	if len(chain) == 0 {
		return nil, err
	}
	for _, f := range chain[1:] {
		f.Close()
	}
	return chain[0], nil // if it is not below the caller's, setns(2) will fail
}
