package supervisor

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keptCaps are the capabilities that root's supervisor needs from now on, most of them to hand
// them on to the next slirp4netns or helper.
var keptCaps = []uint{
	unix.CAP_SYS_ADMIN,        // enter namespaces; slirp4netns's sandbox mounts
	unix.CAP_NET_ADMIN,        // slirp4netns makes and configures the tap
	unix.CAP_NET_RAW,          // RootlessKit's transparent mode, in the namespace
	unix.CAP_NET_BIND_SERVICE, // forwards below ip_unprivileged_port_start
	unix.CAP_SYS_PTRACE,       // read /proc/PID/ns of a target of another user
	unix.CAP_DAC_OVERRIDE,     // the same, and state below another user's directory
	unix.CAP_SETUID,           // slirp4netns becomes root of the target's user namespace
	unix.CAP_SETGID,
	unix.CAP_SETPCAP,      // slirp4netns's sandbox drops from its bounding set
	unix.CAP_SYS_RESOURCE, // raise the limit on open files
	unix.CAP_KILL,         // signal a COMMAND that changed its user
}

// dropPrivileges gives up for good what root's supervisor won't need again, for itself and all
// that it starts from now on. COMMAND runs by now, with all that its own user namespace gives.
// An ordinary user has nothing to give up, and the setuid newuidmap and a slirp4netns with file
// capabilities must go on working there.
func (s *supervisor) dropPrivileges() {
	if os.Geteuid() != 0 {
		return
	}
	var keep uint64
	for _, c := range keptCaps {
		keep |= 1 << c
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		s.log.Warnf("keep every capability: %v", err)
		return
	}
	for c := uintptr(0); c < 64; c++ {
		if keep&(1<<c) == 0 {
			if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); errno == unix.EINVAL {
				break // past the kernel's last one
			} else if errno != 0 {
				s.log.Debugf("capability %d stays in the bounding set: %v", c, errno)
			}
		}
	}
	for i := range data {
		mask := uint32(keep >> (32 * i))
		data[i].Permitted &= mask
		data[i].Effective &= mask
		data[i].Inheritable = 0
	}
	hdr.Pid = 0
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		s.log.Debugf("drop capabilities: %v", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		s.log.Debugf("no_new_privs: %v", errno)
	}
}
