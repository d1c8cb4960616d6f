package nscommand

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mounts sets up init's mount namespace.
func (p *initProcess) mounts() {
	mountSys()
	if p.setup.ResolvConf != nil {
		if err := p.mountResolvConf(string(p.setup.ResolvConf)); err != nil {
			p.send(message{Warning: fmt.Sprintf("names may not resolve for the command: mount its resolv.conf: %v", err)})
		}
	}
	for _, dir := range p.setup.Hide {
		err := unix.Mount("tmpfs", string(dir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			p.send(message{Warning: fmt.Sprintf("the command can see %s: mount: %v", dir, err)})
		}
	}
}

// mountSys mounts a sysfs for the new network namespace and restores the cgroup mounts. The
// kernel refuses it if parts of the present /sys are hidden, as in most containers; then the
// old one stays, with the wrong /sys/class/net.
func mountSys() {
	old, err := unix.Open("/sys", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(old)
	if unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") != nil {
		return
	}
	_ = unix.Mount(fmt.Sprintf("/proc/self/fd/%d/fs/cgroup", old), "/sys/fs/cgroup", "", unix.MS_BIND|unix.MS_REC, "")
}

// linkEtc mounts a tmpfs over /etc with a link for each entry of the host's /etc, so that a resolv.conf can be
// added. Entries that the host adds later are not visible.
func linkEtc() error {
	// Clone /etc before the tmpfs is mounted over it.
	host, err := unix.OpenTree(unix.AT_FDCWD, "/etc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(host)
	names, err := os.ReadDir("/etc")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err = func() error {
		const at = "/etc/.host"
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := unix.MoveMount(host, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("move_mount: %w", err)
		}
		for _, de := range names {
			if err := os.Symlink(filepath.Join(".host", de.Name()), filepath.Join("/etc", de.Name())); err != nil {
				return err
			}
		}
		return writeReadable("/etc/resolv.conf", "")
	}()
	if err != nil {
		_ = unix.Unmount("/etc", unix.MNT_DETACH)
	}
	return err
}

// writeReadable writes a file that everybody can read, regardless of the umask.
func writeReadable(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}
