package nsexec

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Strings for mounts, NUL-terminated.
var (
	tmpfs      = [6]byte{'t', 'm', 'p', 'f', 's', 0}
	sysfs      = [6]byte{'s', 'y', 's', 'f', 's', 0}
	etc        = [5]byte{'/', 'e', 't', 'c', 0}
	sys        = [5]byte{'/', 's', 'y', 's', 0}
	cgroups    = [15]byte{'/', 's', 'y', 's', '/', 'f', 's', '/', 'c', 'g', 'r', 'o', 'u', 'p', 0}
	resolvConf = [17]byte{'/', 'e', 't', 'c', '/', 'r', 'e', 's', 'o', 'l', 'v', '.', 'c', 'o', 'n', 'f', 0}
	nothing    = [1]byte{0}
)

// mounts creates a mount namespace for the command. Mounts that fail in it are skipped.
//
//go:norace
//go:nosplit
func mounts(p *sessionPlan) (step, syscall.Errno) {
	there := p.statPath(&resolvConf[0]) == 0
	if p.checkResolv && !(there && p.stat.Dev_major == p.major && p.stat.Dev_minor == p.minor && p.stat.Ino == p.ino) {
		return 0, 0
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0); e != 0 {
		return stepMounts, e
	}
	// Later mounts outside still propagate into it, but not ours to the outside.
	if _, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, 0, uintptr(unsafe.Pointer(&slash[0])), 0, unix.MS_REC|unix.MS_SLAVE, 0, 0); e != 0 {
		return stepMounts, e
	}
	mountSys(p)
	if there && len(p.resolvConf) > 0 {
		mountResolvConf(p)
	}
	return 0, 0
}

// mountSys mounts a sysfs that shows the network namespace's interfaces and restores the cgroup
// mounts. The kernel refuses it if parts of the present sysfs are hidden, as in most containers.
//
//go:norace
//go:nosplit
func mountSys(p *sessionPlan) {
	groups, _, e := syscall.RawSyscall(unix.SYS_OPEN_TREE, uintptr(p.cwd), uintptr(unsafe.Pointer(&cgroups[0])), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	_, _, failed := syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(&sysfs[0])), uintptr(unsafe.Pointer(&sys[0])), uintptr(unsafe.Pointer(&sysfs[0])), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0, 0)
	if e == 0 && failed == 0 {
		moveMount(p, groups, &cgroups[0])
	}
}

// mountResolvConf writes the file into a tmpfs that is mounted over /etc until the file has been cloned as
// a mount of its own, and mounts that over /etc/resolv.conf itself, even if that is a link.
//
//go:norace
//go:nosplit
func mountResolvConf(p *sessionPlan) {
	_, _, e := syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(&tmpfs[0])), uintptr(unsafe.Pointer(&etc[0])), uintptr(unsafe.Pointer(&tmpfs[0])), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0, 0)
	if e != 0 {
		return
	}
	file, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(p.cwd), uintptr(unsafe.Pointer(&resolvConf[0])), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644, 0, 0)
	n := uintptr(0)
	if e == 0 {
		n, _, _ = syscall.RawSyscall(unix.SYS_WRITE, file, uintptr(unsafe.Pointer(&p.resolvConf[0])), uintptr(len(p.resolvConf)))
		syscall.RawSyscall(unix.SYS_FCHMOD, file, 0o644, 0) // regardless of the umask
	}
	tree, _, e := syscall.RawSyscall(unix.SYS_OPEN_TREE, uintptr(p.cwd), uintptr(unsafe.Pointer(&resolvConf[0])), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	syscall.RawSyscall(unix.SYS_UMOUNT2, uintptr(unsafe.Pointer(&etc[0])), unix.MNT_DETACH, 0)
	if e == 0 && n == uintptr(len(p.resolvConf)) {
		moveMount(p, tree, &resolvConf[0])
	}
}

//go:norace
//go:nosplit
func moveMount(p *sessionPlan, tree uintptr, path *byte) {
	syscall.RawSyscall6(unix.SYS_MOVE_MOUNT, tree, uintptr(unsafe.Pointer(&nothing[0])), uintptr(p.cwd), uintptr(unsafe.Pointer(path)), unix.MOVE_MOUNT_F_EMPTY_PATH, 0)
}
