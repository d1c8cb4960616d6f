package nscommand

import (
	"bytes"
	"os"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// keptIDs are the caller's ids. To have them, COMMAND runs in a user namespace below that of init, where the caller is
// root: init and slirp4netns need that, and COMMAND has no capabilities over the network.
type keptIDs struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
	// Groups says that setgroups(2) is permitted.
	Groups bool `json:"groups"`
}

// keptIDs returns nil for root, whose id is 0 in any case.
func (cfg *Config) keptIDs() *keptIDs {
	if !cfg.KeepIDs || os.Geteuid() == 0 {
		return nil
	}
	return &keptIDs{os.Geteuid(), os.Getegid(), cfg.MapUsers}
}

// apply makes the user namespace part of attr.
func (k *keptIDs) apply(attr *syscall.SysProcAttr) error {
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.GidMappingsEnableSetgroups = k.Groups
	for _, m := range []struct {
		file string
		id   int
		maps *[]syscall.SysProcIDMap
	}{{"uid_map", k.UID, &attr.UidMappings}, {"gid_map", k.GID, &attr.GidMappings}} {
		table, err := os.ReadFile("/proc/self/" + m.file)
		if err != nil {
			return err
		}
		*m.maps = keptMap(m.id, mappedIDs(table))
	}
	return nil
}

// mappedIDs returns how many ids from 0 up are mapped.
func mappedIDs(table []byte) (n int) {
	maps, _ := user.ParseIDMap(bytes.NewReader(table))
	for _, m := range maps {
		n = max(n, int(m.ID+m.Count))
	}
	return n
}

// keptMap maps id to 0, and the other ids from 0 up to those from 1 to n-1.
func keptMap(id, n int) []syscall.SysProcIDMap {
	maps := []syscall.SysProcIDMap{{ContainerID: id, HostID: 0, Size: 1}}
	below := min(id, n-1)
	if below > 0 {
		maps = append(maps, syscall.SysProcIDMap{ContainerID: 0, HostID: 1, Size: below})
	}
	if above := n - 1 - below; above > 0 {
		maps = append(maps, syscall.SysProcIDMap{ContainerID: id + 1, HostID: 1 + below, Size: above})
	}
	return maps
}
