// Package target finds the namespaces that an instance provides a network for, pins them with
// descriptors, so that a reused PID or a replaced path is never mistaken for them, and reports
// when they are gone.
package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// Errors that callers act on.
var (
	// ErrGone means that the process or namespace does not exist (any more).
	ErrGone = fault.New(fault.NotFound, "no such target", hintGone)
	// ErrOwnNetns means that the target is slirpctl's own network namespace; a tap would appear on the host.
	ErrOwnNetns = fault.New(fault.Usage, "is slirpctl's own network namespace: the tap would appear on this host",
		"start the process with unshare --net (and --user), or let slirpctl do it: slirpctl up -- COMMAND")
)

const hintGone = "ip netns list shows the named namespaces, lsns -t net the processes; slirpctl up -- COMMAND makes a new one"

// Target is a network namespace, with the process or path that determines when it is gone.
type Target struct {
	// PID is a process in the network namespace, 0 if none is known.
	PID int
	// NetnsPath and UsernsPath name the namespaces for display; UsernsPath is "" if the
	// network namespace belongs to the caller's own user namespace.
	NetnsPath, UsernsPath string

	// Netns is the network namespace, Userns the user namespace to join before it, nil if
	// none. Both stay open until Close.
	Netns, Userns *os.File

	lifePID int      // the target is gone when this process has ended, which is PID or another one; 0: none
	pidfd   *os.File // of lifePID; nil without
	ino     uint64   // of the network namespace
	ofPID   bool     // Netns and Userns are what slirp4netns finds below /proc/PID/ns
}

// FromPID pins the namespaces of a process. If the process is still in the caller's network
// namespace, FromPID waits up to wait for it to leave. Errors: [ErrGone], [ErrOwnNetns].
func FromPID(ctx context.Context, pid int, wait time.Duration) (*Target, error) {
	t := &Target{PID: pid, NetnsPath: fmt.Sprintf("/proc/%d/ns/net", pid)}
	if err := t.openPidfd(pid); err != nil {
		return nil, err
	}
	if err := t.pin(ctx, wait); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// openPidfd opens a pidfd of a process, with which the target ends.
func (t *Target) openPidfd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return notAProcess(pid)
	case err != nil:
		return fmt.Errorf("process %d: pidfd_open: %w", pid, err)
	}
	t.lifePID, t.pidfd = pid, os.NewFile(uintptr(fd), "pidfd")
	return nil
}

// notAProcess returns the error for an id that is a thread's, for which there are no pidfds, or that does not
// exist.
func notAProcess(id int) error {
	if tgid := procfs.Status(id, "Tgid"); len(tgid) == 1 && tgid[0] != strconv.Itoa(id) {
		return fault.Errorf(0, "slirpctl up "+tgid[0], "%w", gone("%d is a thread of process %s, not a process", id, tgid[0]))
	}
	return gone("there is no process %d", id)
}

// errUnmapped means that the process's user namespace has no id maps, perhaps because it was just created.
// slirp4netns would run as the overflow user (nobody) in it.
var errUnmapped = errors.New("its user namespace has no ids")

// pin opens the namespaces of t.PID. It retries for up to wait while the process is in our network namespace or
// has no ids in its user namespace.
func (t *Target) pin(ctx context.Context, wait time.Duration) error {
	ended := gone("process %d has ended", t.PID)
	deadline := time.Now().Add(wait)
	for {
		err := t.open(t.NetnsPath, "")
		if err == nil {
			err = t.compareUserns()
		}
		if err == nil && wait > 0 && t.unmapped() {
			err = errUnmapped
		}
		if t.Gone() { // then the opened namespaces may be another process's
			return ended
		}
		late := time.Now().After(deadline)
		switch {
		case err == nil, err == errUnmapped && late:
			return nil
		case errors.Is(err, ErrGone), errors.Is(err, unix.ESRCH):
			return ended
		case err != errUnmapped && !errors.Is(err, ErrOwnNetns), late:
			return err
		}
		t.closeNamespaces()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond): // there is no notification of an unshare(2)
		}
	}
}

// unmapped reports whether the user namespace of the process has an empty id map.
func (t *Target) unmapped() bool {
	if t.Userns == nil || !t.ofPID {
		return false
	}
	for _, name := range []string{"uid_map", "gid_map"} {
		if ids, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", t.PID, name)); err == nil && len(ids) == 0 {
			return true
		}
	}
	return false
}

// compareUserns sets t.ofPID if the process is in the user namespace that owns its network namespace.
// It may have created another one since, as bwrap(1) does; then slirp4netns, given its PID, would
// join that one and have no rights over the network namespace.
func (t *Target) compareUserns() error {
	path := fmt.Sprintf("/proc/%d/ns/user", t.PID)
	if t.Userns == nil { // the caller's own
		own, err := os.Open("/proc/self/ns/user")
		if err != nil {
			t.ofPID = true // a kernel without user namespaces
			return nil
		}
		defer own.Close()
		t.ofPID, err = SameAs(own, path)
		return err
	}
	same, err := SameAs(t.Userns, path)
	if err != nil {
		return err
	}
	if t.ofPID = same; same {
		t.UsernsPath = path
	}
	return nil
}

// FromNetns pins a network namespace by path, or by bare name below /run/netns. The user
// namespace is the one that owns it, unless userns names one. Errors: [ErrGone], [ErrOwnNetns], or
// [fault.Unsupported] if the user namespace can't be opened.
func FromNetns(path, userns string) (*Target, error) {
	return fromNetns(path, userns, os.Getpid())
}

// FromDescriptor pins a network namespace given as a descriptor of another process or of this one, by a path
// from [OwnDescriptor]. The target does not end with that process: the pinned descriptor keeps the namespace.
// Errors: as [FromNetns].
func FromDescriptor(path, userns string) (*Target, error) {
	holder, _ := procPID(path)
	return fromNetns(path, userns, holder)
}

// fromNetns pins the namespace at path. The target does not end with process holder, if path leads into its /proc
// directory.
func fromNetns(path, userns string, holder int) (*Target, error) {
	if !strings.Contains(path, "/") {
		path = filepath.Join("/run/netns", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	t := &Target{NetnsPath: path}
	// With a path in /proc/PID, the target ends with the process.
	pid, ofProcess := procPID(path)
	if ofProcess && pid != holder {
		if err := t.openPidfd(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := t.open(path, userns); err != nil {
		t.Close()
		return nil, err
	}
	switch {
	case ofProcess && pid == holder:
		t.NetnsPath = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), t.Netns.Fd())
	case ofProcess:
		if same, err := SameAs(t.Netns, fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && same {
			t.PID = pid
		}
	}
	return t, nil
}

// OwnDescriptor converts a path that leads to a descriptor of this process, such as /proc/self/fd/7 or
// /dev/fd/7, to one that other processes can use while the descriptor is open. ok is false for other paths.
func OwnDescriptor(path string) (elsewhere string, ok bool) {
	if path == "" || !strings.Contains(path, "/") {
		return path, false
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return path, false
	}
	real := throughLinks(path)
	if pid, ok := procPID(real); !ok || pid != os.Getpid() || !strings.Contains(real, "/fd/") {
		return path, false
	}
	if _, err := os.Lstat(real); err != nil {
		return path, false // not open: keep the path as given for the error message
	}
	return real, true
}

// DefaultName returns the default name of an instance for the target, which is the same for every caller.
func (t *Target) DefaultName() string {
	switch {
	case t.PID > 0:
		return fmt.Sprintf("pid-%d", t.PID)
	case t.lifePID > 0, strings.HasPrefix(t.NetnsPath, "/proc/"):
		return fmt.Sprintf("netns-%d", t.ino)
	}
	return filepath.Base(t.NetnsPath)
}

// ByPID reports whether slirp4netns finds the pinned namespaces when it is given t.PID.
func (t *Target) ByPID() bool { return t.ofPID }

// Unmoved reports whether the process is still in the pinned network namespace. It may enter another
// one at any time, even ours, where slirp4netns must not be started.
func (t *Target) Unmoved() bool {
	ino, err := inode(fmt.Sprintf("/proc/%d/ns/net", t.PID))
	return err == nil && ino == t.ino
}

// procPID returns N if path leads to /proc/N/….
func procPID(path string) (int, bool) {
	rest, ok := strings.CutPrefix(throughLinks(path), "/proc/")
	if !ok {
		return 0, false
	}
	first, _, _ := strings.Cut(rest, "/")
	pid, err := strconv.Atoi(first)
	return pid, err == nil
}

// throughLinks follows symbolic links, except the magic links below /proc/PID, whose targets may have no
// path: so /dev/fd/7, and links to it, become /proc/PID/fd/7.
func throughLinks(path string) string {
	for range 40 { // as many as the kernel follows
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		to, err := os.Readlink(path)
		if err != nil || strings.HasPrefix(path, "/proc/") && filepath.Dir(path) != "/proc" {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

// open opens the network namespace at path and the user namespace at userns, or the one that
// owns the network namespace if userns is "".
func (t *Target) open(path, userns string) error {
	netns, err := openNS(path, unix.CLONE_NEWNET)
	if t.lifePID > 0 && errors.Is(err, os.ErrPermission) {
		return foreign(t.lifePID)
	}
	if err != nil {
		return err
	}
	t.Netns = netns
	own, err := SameAs(netns, "/proc/self/ns/net")
	if err != nil {
		return err
	}
	if own {
		if t.PID > 0 {
			return fmt.Errorf("the network namespace of process %d %w", t.PID, ErrOwnNetns)
		}
		return fmt.Errorf("%s %w", path, ErrOwnNetns)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(netns.Fd()), &st); err != nil {
		return err
	}
	t.ino = st.Ino
	var user *os.File
	if userns != "" {
		user, err = openNS(userns, unix.CLONE_NEWUSER)
		if errors.Is(err, ErrGone) {
			return fault.Errorf(0, "lsns -t user shows the user namespaces; /proc/PID/ns/user is that of a process", "%w", err)
		}
		t.UsernsPath = userns
	} else {
		user, err = Owner(netns)
		t.UsernsPath = fmt.Sprintf("owner of %s", path)
	}
	if err != nil {
		return fault.Errorf(fault.Unsupported, "name it with --userns PATH, for example --userns /proc/PID/ns/user",
			"user namespace of %s: %w", path, err)
	}
	same, err := SameAs(user, "/proc/self/ns/user")
	if err != nil || same {
		user.Close()
		t.UsernsPath = ""
		return err
	}
	t.Userns = user
	return nil
}

func openNS(path string, want int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil, gone("%s does not exist", path)
		}
		return nil, err
	}
	typ, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || typ != want {
		f.Close()
		kind := map[int]string{unix.CLONE_NEWNET: "network", unix.CLONE_NEWUSER: "user"}[want]
		return nil, gone("%s is not a %s namespace", path, kind)
	}
	return f, nil
}

// gone returns an [ErrGone] with its own message.
func gone(format string, a ...any) *fault.Error {
	return &fault.Error{Msg: fmt.Sprintf(format, a...), Err: ErrGone}
}

// Owner returns the user namespace that owns a namespace (ioctl_ns(2)).
func Owner(ns *os.File) (*os.File, error) {
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil, fmt.Errorf("ioctl(NS_GET_USERNS): %w", err)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "userns"), nil
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ino, err
}

// SameAs reports whether a descriptor and a path refer to the same namespace.
func SameAs(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}

// IsOwnNetns reports whether a process is in the caller's network namespace; false also if that can't be
// determined.
func IsOwnNetns(pid int) bool {
	theirs, err := inode(fmt.Sprintf("/proc/%d/ns/net", pid))
	own, err2 := inode("/proc/self/ns/net")
	return err == nil && err2 == nil && theirs == own
}

// Gone reports whether the target is gone: its process has ended, or its path no longer leads to the namespace.
func (t *Target) Gone() bool {
	if t.pidfd != nil {
		p := []unix.PollFd{{Fd: int32(t.pidfd.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	}
	ino, err := inode(t.NetnsPath)
	return err != nil || ino != t.ino
}

// Ended returns the [ErrGone] to report when Gone is true; when says at what time, as "while …".
func (t *Target) Ended(when string) error {
	if t.lifePID > 0 {
		return gone("process %d ended %s", t.lifePID, when)
	}
	return gone("%s was removed %s", t.NetnsPath, when)
}

func (t *Target) closeNamespaces() {
	for _, f := range []**os.File{&t.Netns, &t.Userns} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// Close closes the descriptors.
func (t *Target) Close() error {
	t.closeNamespaces()
	if t.pidfd != nil {
		return t.pidfd.Close()
	}
	return nil
}
