package nscommand

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// prepareMounts gives the stage's mount namespace what a new network namespace needs: a sysfs
// that shows its interfaces and, unless resolvConf is "", an /etc/resolv.conf of its own.
func prepareMounts(resolvConf string) error {
	// The host's later mounts still arrive; ours don't leave.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	freshSys()
	if resolvConf == "" {
		return nil
	}
	if err := overlayEtc(resolvConf); err == nil {
		return nil
	}
	if err := linkEtc(resolvConf); err != nil {
		return fmt.Errorf("give the namespace a resolv.conf: %w", err)
	}
	return nil
}

// freshSys mounts a sysfs for the new network namespace and puts the cgroup mounts back. The
// kernel refuses where parts of the present /sys are hidden (as in most containers); then the
// old one stays, which only shows the wrong /sys/class/net.
func freshSys() {
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

// overlayEtc lays a private, writable layer over /etc with resolv.conf in it. A bind mount on
// the file itself would vanish when the host replaces its resolv.conf by rename(2): the
// kernel then detaches the mounts on it in every other namespace.
func overlayEtc(resolvConf string) error {
	etc, err := unix.Open("/etc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(etc)
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	err = func() error {
		if err := errors.Join(os.Mkdir("/etc/upper", 0o755), os.Mkdir("/etc/work", 0o755), os.Chmod("/etc/upper", 0o755)); err != nil {
			return err
		}
		if err := writeReadable("/etc/upper/resolv.conf", resolvConf); err != nil {
			return err
		}
		opts := fmt.Sprintf("lowerdir=/proc/self/fd/%d,upperdir=/etc/upper,workdir=/etc/work", etc)
		return unix.Mount("overlay", "/etc", "overlay", unix.MS_NOSUID|unix.MS_NODEV, opts+",userxattr")
	}()
	if err != nil {
		_ = unix.Unmount("/etc", unix.MNT_DETACH)
	}
	return err
}

// linkEtc is overlayEtc for kernels without overlays in user namespaces (before 5.11): a tmpfs
// on /etc with a link for each entry of the old one.
func linkEtc(resolvConf string) error {
	etc, err := unix.Open("/etc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(etc)
	old := fmt.Sprintf("/proc/self/fd/%d", etc)
	names, err := os.ReadDir(old)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	const host = "/etc/.host"
	if err := os.Mkdir(host, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(old, host, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	for _, de := range names {
		if de.Name() == "resolv.conf" {
			continue
		}
		if err := os.Symlink(filepath.Join(".host", de.Name()), filepath.Join("/etc", de.Name())); err != nil {
			return err
		}
	}
	return writeReadable("/etc/resolv.conf", resolvConf)
}

// writeReadable writes a file that everybody can read, whatever the umask.
func writeReadable(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}
