package nscommand

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const resolvConf = "/etc/resolv.conf"

// resolvMount is a file mounted over the host's /etc/resolv.conf in this mount namespace. The rest of /etc
// is the host's. The kernel detaches the mount when the host replaces or removes the file below it
// (rename(2) and unlink(2) detach mounts in other namespaces).
type resolvMount struct {
	etc    int // O_PATH
	source int // O_PATH
	mount  int // O_PATH, of the present mount
	id     uint64
}

// mountResolvConf mounts the file at path over /etc/resolv.conf.
func (p *initProcess) mountResolvConf(path string) error {
	r := &resolvMount{mount: -1}
	var err error
	if r.source, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err := r.openEtc(); err != nil {
		return err
	}
	err = r.put()
	if errors.Is(err, unix.ENOENT) {
		if err = linkEtc(); err == nil {
			p.send(message{Warning: "there is no /etc/resolv.conf to mount one over: the command's /etc has links to the host's files of now"})
			unix.Close(r.etc)
			if err = r.openEtc(); err == nil {
				err = r.put()
			}
		}
	}
	if err == nil {
		p.resolv = r
	}
	return err
}

func (r *resolvMount) openEtc() (err error) {
	if r.etc, err = unix.Open("/etc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /etc: %w", err)
	}
	return nil
}

// put mounts the file over /etc/resolv.conf itself, which may be a file or a link, even a dangling
// one.
func (r *resolvMount) put() error {
	tree, err := unix.OpenTree(r.source, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		// Before Linux 5.2, or forbidden by a seccomp filter. mount(2) follows links.
		if unix.Mount(fmt.Sprintf("/proc/self/fd/%d", r.source), resolvConf, "", unix.MS_BIND, "") != nil {
			return fmt.Errorf("open_tree: %w", err)
		}
		tree, err = unix.Open(resolvConf, unix.O_PATH|unix.O_CLOEXEC, 0)
	} else if err := unix.MoveMount(tree, "", r.etc, "resolv.conf", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		unix.Close(tree)
		return fmt.Errorf("move_mount: %w", err)
	}
	if r.mount >= 0 {
		unix.Close(r.mount)
	}
	r.mount, r.id = tree, mountID(tree, "")
	return err
}

// mountID returns the id of the mount that a file is on, 0 if unknown (before Linux 5.8).
func mountID(dir int, name string) uint64 {
	var st unix.Statx_t
	if unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// changes returns a channel that receives a value after changes of the mounts (proc(5), /proc/PID/mountinfo); nil if r
// is nil.
func (r *resolvMount) changes() <-chan struct{} {
	if r == nil {
		return nil
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	conn, err := table.SyscallConn()
	if err != nil {
		return nil
	}
	c := make(chan struct{}, 1)
	go func() {
		defer table.Close()
		_ = conn.Read(func(uintptr) bool { // called once for each event of epoll(7)
			select {
			case c <- struct{}{}:
			default:
			}
			return false
		})
	}()
	return c
}

// remount mounts the file over /etc/resolv.conf again if it is no longer there.
func (p *initProcess) remount() {
	r := p.resolv
	if r == nil || mountID(r.etc, "resolv.conf") == r.id {
		return
	}
	listed, covered := mounted(r.id)
	switch {
	case covered: // COMMAND has mounted over it
		return
	case listed: // the host has renamed the file below it
		_ = unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", r.mount), unix.MNT_DETACH)
	}
	// If the host has none now, the supervisor sends Remount when it has.
	if err := r.put(); err != nil && !errors.Is(err, unix.ENOENT) {
		p.send(message{Warning: fmt.Sprintf("the host's resolv.conf was replaced; mount the command's again: %v", err)})
	}
}

// mounted reports whether a mount is in the mount table, and whether another one is on top of it.
func mounted(id uint64) (listed, covered bool) {
	mounts, _ := mountinfo.GetMounts(nil)
	for _, m := range mounts {
		listed = listed || uint64(m.ID) == id
		covered = covered || uint64(m.Parent) == id
	}
	return listed, covered
}
