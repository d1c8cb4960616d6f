package nscommand

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const resolvConf = "/etc/resolv.conf"

// resolvMount is a file of ours over the host's /etc/resolv.conf, in this mount namespace. All else
// in /etc is the host's, live. The kernel drops the mount when the host replaces what is below it
// (rename(2) and unlink(2) detach the mounts of other namespaces).
type resolvMount struct {
	etc    int // O_PATH
	source int // O_PATH
	mount  int // O_PATH, of the present mount
	id     uint64
}

// mountResolvConf mounts the file at path over /etc/resolv.conf.
func (in *initProcess) mountResolvConf(path string) error {
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
			in.say(message{Warning: "there is no /etc/resolv.conf to mount one over: the command sees links to what /etc holds now"})
			unix.Close(r.etc)
			if err = r.openEtc(); err == nil {
				err = r.put()
			}
		}
	}
	if err == nil {
		in.resolv = r
	}
	return err
}

func (r *resolvMount) openEtc() (err error) {
	if r.etc, err = unix.Open("/etc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /etc: %w", err)
	}
	return nil
}

// put mounts the file over /etc/resolv.conf itself, be it a file or a link, even one that leads
// nowhere.
func (r *resolvMount) put() error {
	tree, err := unix.OpenTree(r.source, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		// Before Linux 5.2, or forbidden by a filter of system calls. It follows links.
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

// mountID returns the number of the mount that a file is on, 0 if that can't be told (Linux 5.8).
func mountID(dir int, name string) uint64 {
	var st unix.Statx_t
	if unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// changes tells of every change of the mounts (proc(5), /proc/PID/mountinfo).
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
		_ = conn.Read(func(uintptr) bool { // again and again, as epoll(7) tells of an event
			select {
			case c <- struct{}{}:
			default:
			}
			return false
		})
	}()
	return c
}

// remount puts the file over /etc/resolv.conf again if it is not there any more.
func (in *initProcess) remount() {
	r := in.resolv
	if r == nil || mountID(r.etc, "resolv.conf") == r.id {
		return
	}
	listed, covered := mounted(r.id)
	switch {
	case covered: // by COMMAND: it knows best
		return
	case listed: // the host has renamed what is below it
		_ = unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", r.mount), unix.MNT_DETACH)
	}
	// Where the host has none now, the supervisor tells when it has.
	if err := r.put(); err != nil && !errors.Is(err, unix.ENOENT) {
		in.say(message{Warning: fmt.Sprintf("the host's resolv.conf was replaced, and the command's can't be put over it: %v", err)})
	}
}

// mounted reports whether a mount is in the table of mounts, and whether another is on top of it.
func mounted(id uint64) (listed, covered bool) {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	text := strconv.FormatUint(id, 10)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 2 {
			listed = listed || f[0] == text
			covered = covered || f[1] == text
		}
	}
	return listed, covered
}
