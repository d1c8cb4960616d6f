package nsexec

import "golang.org/x/sys/unix"

// Strings for the children, which can't allocate memory.
var (
	slash, dot, zero, nothing = cString("/"), cString("."), cString("0"), cString("")
	tmpfs, sysfs, procfs      = cString("tmpfs"), cString("sysfs"), cString("proc")
	etc, sys, proc            = cString("/etc"), cString("/sys"), cString("/proc")
	cgroups, resolvConf       = cString("/sys/fs/cgroup"), cString("/etc/resolv.conf")
	uidMap, gidMap            = cString("/proc/self/uid_map"), cString("/proc/self/gid_map")
)

// mounts creates a mount namespace for the command. Mounts that fail in it are skipped.
//
//go:norace
//go:nosplit
func mounts(p *sessionPlan) {
	there := p.statPath(resolvConf) == 0
	if h := p.HostResolvConf; h != nil && !(there && p.stat.Dev_major == h.Dev_major && p.stat.Dev_minor == h.Dev_minor && p.stat.Ino == h.Ino) {
		return
	}
	p.do(stepMounts, unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0)
	// Later mounts outside still propagate into it, but not ours to the outside.
	p.do5(stepMounts, unix.SYS_MOUNT, 0, at(slash), 0, unix.MS_REC|unix.MS_SLAVE, 0)
	mountSys(p)
	if there && len(p.resolvConf) > 0 {
		mountResolvConf(p)
	}
}

const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountSys mounts a sysfs that shows the network namespace's interfaces and restores the cgroup
// mounts. The kernel refuses it if parts of the present sysfs are hidden, as in most containers.
//
//go:norace
//go:nosplit
func mountSys(p *sessionPlan) {
	groups, e := p.try(unix.SYS_OPEN_TREE, cwd, at(cgroups), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	_, failed := p.try5(unix.SYS_MOUNT, at(sysfs), at(sys), at(sysfs), mountFlags, 0)
	if e == 0 && failed == 0 {
		moveMount(p, groups, cgroups)
	}
}

// mountResolvConf writes the file into a tmpfs that is mounted over /etc until the file has been cloned as
// a mount of its own, and mounts that over /etc/resolv.conf itself, even if that is a link.
//
//go:norace
//go:nosplit
func mountResolvConf(p *sessionPlan) {
	if _, e := p.try5(unix.SYS_MOUNT, at(tmpfs), at(etc), at(tmpfs), mountFlags, 0); e != 0 {
		return
	}
	file, e := p.try5(unix.SYS_OPENAT, cwd, at(resolvConf), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644, 0)
	n := uintptr(0)
	if e == 0 {
		n, _ = p.try(unix.SYS_WRITE, file, at(&p.resolvConf[0]), uintptr(len(p.resolvConf)))
		p.try(unix.SYS_FCHMOD, file, 0o644, 0) // regardless of the umask
	}
	tree, e := p.try(unix.SYS_OPEN_TREE, cwd, at(resolvConf), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	p.try(unix.SYS_UMOUNT2, at(etc), unix.MNT_DETACH, 0)
	if e == 0 && n == uintptr(len(p.resolvConf)) {
		moveMount(p, tree, resolvConf)
	}
}

//go:norace
//go:nosplit
func moveMount(p *sessionPlan, tree uintptr, path *byte) {
	p.try5(unix.SYS_MOVE_MOUNT, tree, at(nothing), cwd, at(path), unix.MOVE_MOUNT_F_EMPTY_PATH)
}
