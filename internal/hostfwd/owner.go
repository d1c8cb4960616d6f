package hostfwd

import (
	"fmt"
	"os"
	"path/filepath"
)

// describe names p in a message, by the name of its instance if p is the supervisor of one.
func (p Process) describe() string {
	if p.PID == 0 {
		return "a process that you can't see"
	}
	if name := p.instance(); name != "" {
		return fmt.Sprintf("instance %q", name)
	}
	return fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
}

// instance returns the name of the instance whose supervisor p is, or "". A supervisor holds the file lock in the
// directory of its instance open, which has the instance's name.
func (p Process) instance() string {
	if p.Name != "slirpctl" {
		return ""
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID))
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && filepath.Base(link) == "lock" {
			return filepath.Base(filepath.Dir(link))
		}
	}
	return ""
}
