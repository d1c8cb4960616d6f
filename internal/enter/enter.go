// Package enter runs commands in the namespaces of an instance that runs. It exists because the
// instance belongs to another process: what it knows must be found out from its state, and
// nothing guarantees that it is still there a moment later.
//
// The command gets what the target has and no more: every namespace of it, its root directory,
// its user and group ids, its bounding set and no_new_privs; see [nsexec.Session] for how.
package enter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
	"github.com/slirpctl/slirpctl/internal/target"
)

// Caller is what a command gets of the caller's.
type Caller struct {
	Stdio    [3]*os.File
	Terminal func() bool // reports whether the caller has the terminal (is in its foreground)
}

// Exec runs argv in the namespaces of the instance of that name, and returns its status (its
// exit code, or 128+N for signal N). A command that would see the caller's /etc/resolv.conf there
// sees the instance's in its place, by a mount namespace of its own.
//
// Errors: [instance.ErrNotFound], [target.ErrGone], [*nscommand.ExecError].
func Exec(ctx context.Context, base instance.Base, name string, argv []string, caller Caller) (int, error) {
	if err := checkStdio(caller.Stdio); err != nil {
		return 0, err
	}
	e, err := base.Find(ctx, name)
	if err != nil {
		return 0, err
	}
	st, err := control.NewClient(e.Socket()).State(ctx)
	if err != nil {
		if e.State == nil {
			return 0, fmt.Errorf("instance %s does not answer: %w", name, err)
		}
		st = e.State
	}
	s := &nsexec.Session{
		Paths: candidates(argv[0], os.Getenv("PATH")), Args: argv, Env: os.Environ(),
		Files: caller.Stdio, ResolvConf: resolvConf(st),
	}
	s.Dir, _ = os.Getwd()
	if e.Holder.Elsewhere() {
		if st, err = asSeenHere(e, st); err != nil {
			return 0, err
		}
	}
	closeAll, err := aimAtInstance(ctx, s, st)
	defer closeAll()
	if err != nil {
		return 0, err
	}
	if !e.Alive() { // what was opened may be another's by now
		return 0, fmt.Errorf("%q: %w", name, instance.ErrNotFound)
	}
	status, err := run(s, caller.Terminal)
	return status, explain(argv[0], err)
}

// resolvConf is what the command finds as /etc/resolv.conf where it would see the host's.
func resolvConf(st *instance.State) string {
	var dns6 netip.Addr
	if st.IPv6 != nil {
		dns6 = st.IPv6.DNS
	}
	text, _ := resolvconf.Read().Guest(st.DNS, dns6)
	return text
}

// asSeenHere translates what the supervisor of an instance, in another PID namespace, says about its
// target.
func asSeenHere(e instance.Entry, st *instance.State) (*instance.State, error) {
	supervisor := control.Supervisor(e.Socket())
	here := *st
	unseen := fault.New(0, fmt.Sprintf("instance %s runs in another PID namespace, whose processes can't be seen from this one", e.Name),
		"run exec where it was started, or in a PID namespace above that")
	if supervisor == 0 {
		return nil, unseen
	}
	if st.Target.PID > 0 {
		if here.Target.PID = target.Here(supervisor, st.Target.PID); here.Target.PID == 0 {
			return nil, unseen
		}
		return &here, nil
	}
	for _, path := range []*string{&here.Target.Netns, &here.Target.Userns} {
		var pid int
		if _, err := fmt.Sscanf(*path, "/proc/%d/", &pid); err == nil {
			rest := strings.TrimPrefix(*path, fmt.Sprintf("/proc/%d/", pid))
			*path = fmt.Sprintf("/proc/%d/%s", target.Here(supervisor, pid), rest)
		}
	}
	return &here, nil
}

// candidates are the paths that a command may be found at, as a shell has it: along PATH unless the
// name has a slash, an empty element of PATH being the current directory.
func candidates(name, path string) []string {
	if name == "" || strings.Contains(name, "/") {
		return []string{name}
	}
	var out []string
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		out = append(out, dir+"/"+name)
	}
	return out
}

// checkStdio refuses a directory, which would lead out of the command's root directory.
func checkStdio(stdio [3]*os.File) error {
	for i, f := range stdio {
		var st unix.Stat_t
		if f != nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fmt.Errorf("descriptor %d is a directory, which the command could leave its root directory by", i)
		}
	}
	return nil
}

// explain makes of the command's not being executed what it would be to a shell.
func explain(name string, err error) error {
	var ne *nsexec.Error
	if !errors.As(err, &ne) {
		return err
	}
	switch {
	case errors.Is(err, unix.EINVAL) && (ne.Step == "setresgid" || ne.Step == "setresuid"):
		return errors.New("enter the namespaces: their user namespace has no number for the user, as after unshare --user without --map-root-user")
	case ne.Step != "execve":
		return fmt.Errorf("enter the namespaces: %w", err)
	case errors.Is(err, os.ErrNotExist):
		return &nscommand.ExecError{Status: nscommand.StatusNotFound, Msg: name + ": command not found"}
	}
	return &nscommand.ExecError{Status: nscommand.StatusCannotRun, Msg: fmt.Sprintf("%s: %v", name, ne.Err)}
}

// aimAtInstance points s at the target of an instance. closeAll is to be called in any case, once s runs.
func aimAtInstance(ctx context.Context, s *nsexec.Session, st *instance.State) (closeAll func(), err error) {
	if st.Target.PID == 0 {
		return aimAtPath(s, st)
	}
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			f.Close()
		}
	}
	tgt, err := target.FromPID(ctx, st.Target.PID, 0)
	if err != nil {
		return closeAll, err
	}
	defer tgt.Close()
	in, err := tgt.Inside()
	if err != nil {
		return closeAll, err
	}
	for _, f := range in.Namespaces {
		files = append(files, f)
	}
	files = append(files, in.Root)
	s.Cgroups = cgroups(in.Cgroups)
	files = append(files, s.Cgroups...)
	more, err := aimAt(s, in, st.Target.PID)
	files = append(files, more...)
	return closeAll, err
}

// aimAtPath points s at a network namespace that no process is known of: the command stays in the
// caller's other namespaces.
func aimAtPath(s *nsexec.Session, st *instance.State) (closeAll func(), err error) {
	userns := st.Target.Userns
	if _, err := os.Stat(userns); err != nil {
		userns = "" // a description, no path: the owner is found again
	}
	tgt, err := target.FromNetns(st.Target.Netns, userns)
	if err != nil {
		return func() {}, err
	}
	s.Spaces = []nsexec.Namespace{{File: tgt.Netns, Type: unix.CLONE_NEWNET}}
	s.Bounding, s.Permitted, s.OwnMounts = ^uint64(0), ^uint64(0), true
	s.UID, s.GID, s.KeepGroups = -1, -1, os.Geteuid() != 0
	if tgt.Userns == nil {
		s.KeepGroups = true
		return func() { tgt.Close() }, nil
	}
	s.UID, s.GID, s.OrOwn = 0, 0, true
	s.Users, err = target.Ancestors(tgt.Userns, "/proc/self/ns/user")
	return func() {
		for _, f := range s.Users {
			f.Close()
		}
		tgt.Close()
	}, err
}

// aimAt points s at a process, as a command that has what the process has. The files are to be
// closed once s runs.
func aimAt(s *nsexec.Session, in *target.Inside, pid int) ([]*os.File, error) {
	a := &aim{Session: s, in: in, pid: pid}
	for _, step := range []func() error{a.userNamespaces, a.otherNamespaces, a.mounts, a.rights} {
		if err := step(); err != nil {
			return a.files, err
		}
	}
	return a.files, nil
}

type aim struct {
	*nsexec.Session
	in    *target.Inside
	pid   int
	files []*os.File
}

func (a *aim) refuse(format string, args ...any) error {
	return fmt.Errorf("a command can't be run as one of process %d's own: %s", a.pid, fmt.Sprintf(format, args...))
}

func (a *aim) userNamespaces() (err error) {
	user := a.in.Namespaces[unix.CLONE_NEWUSER]
	if user == nil {
		return nil
	}
	a.Users, err = target.Ancestors(user, "/proc/self/ns/user")
	a.files = append(a.files, a.Users...)
	if err != nil {
		return a.refuse("its user namespace can't be entered from this one (%v)", err)
	}
	return nil
}

func (a *aim) otherNamespaces() error {
	for flag, f := range a.in.Namespaces {
		own, err := ownNamespace(f, flag)
		if err != nil {
			return err
		}
		if !own && flag != unix.CLONE_NEWUSER {
			a.Spaces = append(a.Spaces, nsexec.Namespace{File: f, Type: flag})
		}
	}
	if pids := a.space(unix.CLONE_NEWPID); pids != nil {
		above, err := target.Ancestors(pids, "/proc/self/ns/pid")
		a.files = append(a.files, above...)
		if err != nil {
			return a.refuse("its PID namespace can't be entered from this one")
		}
	}
	return nil
}

// space returns the namespace of that type that is entered, nil if it is the caller's own.
func (a *aim) space(flag int) *os.File {
	for _, ns := range a.Spaces {
		if ns.Type == flag {
			return ns.File
		}
	}
	return nil
}

// mounts decides about root directory and resolv.conf.
func (a *aim) mounts() (err error) {
	mount := a.space(unix.CLONE_NEWNS)
	if mount != nil {
		if ok, err := ownedAbove(mount, a.Users); err != nil || !ok {
			return a.refuse("its programs belong to another user namespace than the one it is in")
		}
	}
	if a.Root, err = rootUnlessOwn(a.in.Root, mount != nil); err != nil {
		return err
	}
	a.OwnMounts = true
	if mount == nil && a.Root == nil {
		return nil
	}
	if err := fromMemory(a.in); err != nil {
		return err
	}
	a.Instead, _ = os.Stat("/etc/resolv.conf")
	a.OwnMounts = a.Instead != nil && a.ResolvConf != ""
	return nil
}

func (a *aim) rights() error {
	in := a.in
	a.UID, a.GID = in.UID, in.GID
	if in.UID < 0 && in.OuterUID != os.Geteuid() || in.GID < 0 && in.OuterGID != os.Getegid() {
		return a.refuse("user %d, group %d, which it has, have no numbers in its user namespace", in.OuterUID, in.OuterGID)
	}
	a.Bounding, a.Permitted, a.NoNewPrivs = in.Bounding, in.Permitted, in.NoNewPrivs
	if in.UID == 0 {
		// For root an execve makes the one out of the other, unless securebits, which can't be
		// seen, forbid it.
		a.Bounding &= in.Permitted
	}
	a.KeepGroups = subset(in)
	return nil
}

// ownNamespace reports whether a namespace is the caller's own.
func ownNamespace(f *os.File, flag int) (bool, error) {
	theirs, err := f.Stat()
	if err != nil {
		return false, err
	}
	ours, err := os.Stat("/proc/self/ns/" + target.Name(flag))
	return err == nil && os.SameFile(theirs, ours), err
}

// ownedAbove reports whether a namespace belongs to one of the user namespaces on the way to the
// target's own, or to the caller's, where the way begins.
func ownedAbove(ns *os.File, users []*os.File) (bool, error) {
	owner, err := target.Owner(ns)
	if err != nil {
		return false, err
	}
	defer owner.Close()
	if own, err := ownNamespace(owner, unix.CLONE_NEWUSER); err != nil || own {
		return own, err
	}
	for _, u := range users {
		if same, err := target.Same(owner, u); err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// rootUnlessOwn returns the target's root directory, nil if it is the caller's own.
func rootUnlessOwn(root *os.File, otherMounts bool) (*os.File, error) {
	var theirs, ours unix.Statx_t
	const mask = unix.STATX_INO | unix.STATX_MNT_ID
	err := unix.Statx(int(root.Fd()), "", unix.AT_EMPTY_PATH, mask, &theirs)
	if err == nil {
		err = unix.Statx(unix.AT_FDCWD, "/", 0, mask, &ours)
	}
	if err != nil {
		return nil, fmt.Errorf("the target's root directory: %w", err)
	}
	same := theirs.Ino == ours.Ino && theirs.Dev_major == ours.Dev_major && theirs.Dev_minor == ours.Dev_minor && theirs.Mnt_id == ours.Mnt_id
	if same && !otherMounts {
		return nil, nil
	}
	return root, nil
}

// subset reports whether the target has all the groups that the caller has.
func subset(in *target.Inside) bool {
	groups, err := os.Getgroups()
	if err != nil {
		return false
	}
	has := map[int]bool{in.OuterGID: true}
	for _, g := range in.Groups {
		has[g] = true
	}
	for _, g := range groups {
		if !has[g] {
			return false
		}
	}
	return true
}
