// Package enter runs commands in the namespaces of a running instance. It exists because the
// instance belongs to another process: its target must be found through its state, and may end at any
// moment.
//
// The command gets what the target has and no more: all its namespaces, its root directory,
// its user and group ids, its bounding set and no_new_privs; see [nsexec.Session] for how.
package enter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
	"github.com/slirpctl/slirpctl/internal/target"
)

// Caller is what the caller passes to a command.
type Caller struct {
	Stdio    [3]*os.File
	Terminal func() bool // reports whether the caller is in the terminal's foreground process group
}

// Command is a command to run.
type Command struct {
	Argv []string
	Env  []string // K=V, in addition to the caller's environment
	Dir  string   // absolute; "": the caller's, or the root if that doesn't exist there
	// User is NAME|UID[:GROUP|GID], in the target's view; "": the target's user.
	User string
	TTY  bool // a terminal even if the caller has none
}

// Exec runs a command in the namespaces of the named instance and returns its status (its exit code, or
// 128+N for signal N). If the command would see the caller's /etc/resolv.conf, it gets the instance's
// instead, in a mount namespace of its own.
//
// Errors: [instance.ErrNotFound], [target.ErrGone], [*nscommand.ExecError].
func Exec(ctx context.Context, base instance.Base, name string, c Command, caller Caller) (int, error) {
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
	if st.Egress == egress.Enforce {
		if err := nsexec.CheckStdio(caller.Stdio); err != nil {
			return 0, err
		}
	}
	env := (&exec.Cmd{Env: slices.Concat(os.Environ(), []string{"SLIRPCTL_INSTANCE=" + name}, c.Env)}).Environ() // the last one of a name
	s := &nsexec.Session{
		Paths: nscommand.Candidates(c.Argv[0], getenv(env, "PATH")), Args: c.Argv, Env: env,
		Files: caller.Stdio, ResolvConf: resolvConf(st), LimitSockets: st.Egress == egress.Enforce,
	}
	if s.Dir, s.NeedDir = c.Dir, c.Dir != ""; !s.NeedDir {
		s.Dir, _ = os.Getwd()
	}
	if e.Holder.Elsewhere() {
		if st, err = localState(e, st); err != nil {
			return 0, err
		}
	}
	b := &builder{Session: s, user: c.User}
	defer b.close()
	if err := b.set(ctx, st); err != nil {
		return 0, err
	}
	if !e.Alive() { // then the opened namespaces may be another target's
		return 0, fmt.Errorf("%q: %w", name, instance.ErrNotFound)
	}
	status, err := run(s, caller.Terminal, c.TTY)
	return status, explain(&c, err)
}

// resolvConf returns the content of the command's /etc/resolv.conf, if it would see the host's.
func resolvConf(st *instance.State) string {
	var dns6 netip.Addr
	if st.IPv6 != nil {
		dns6 = st.IPv6.DNS
	}
	text, _ := resolvconf.Read().Guest(st.DNS, dns6)
	return text
}

// localState converts the PIDs of the target, in the state of an instance of another PID namespace, to the
// caller's.
func localState(e instance.Entry, st *instance.State) (*instance.State, error) {
	supervisor := control.Supervisor(e.Socket())
	local := *st
	unseen := fault.New(0, fmt.Sprintf("instance %s runs in another PID namespace, whose processes can't be seen from this one", e.Name),
		"run exec where it was started, or in a PID namespace above that")
	if supervisor == 0 {
		return nil, unseen
	}
	if st.Target.PID > 0 {
		if local.Target.PID = target.LocalPID(supervisor, st.Target.PID); local.Target.PID == 0 {
			return nil, unseen
		}
		return &local, nil
	}
	for _, path := range []*string{&local.Target.Netns, &local.Target.Userns} {
		var pid int
		if _, err := fmt.Sscanf(*path, "/proc/%d/", &pid); err == nil {
			rest := strings.TrimPrefix(*path, fmt.Sprintf("/proc/%d/", pid))
			*path = fmt.Sprintf("/proc/%d/%s", target.LocalPID(supervisor, pid), rest)
		}
	}
	return &local, nil
}

// checkStdio refuses directories, through which the command could leave its root directory.
func checkStdio(stdio [3]*os.File) error {
	for i, f := range stdio {
		var st unix.Stat_t
		if f != nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fmt.Errorf("descriptor %d is a directory, through which the command could leave its root directory", i)
		}
	}
	return nil
}

// explain converts a failed start of the command to the error that a shell would report.
func explain(c *Command, err error) error {
	name := c.Argv[0]
	var ne *nsexec.Error
	if !errors.As(err, &ne) {
		return err
	}
	switch {
	case errors.Is(err, unix.EINVAL) && (ne.Step == "setresgid" || ne.Step == "setresuid") && c.User != "":
		return fmt.Errorf("--user %s: the user or group is not mapped in the target's user namespace", c.User)
	case ne.Step == "chdir":
		return &nscommand.ExecError{Status: nscommand.StatusCannotRun, Msg: fmt.Sprintf("--workdir %s: %v", c.Dir, ne.Err)}
	case errors.Is(err, unix.EINVAL) && (ne.Step == "setresgid" || ne.Step == "setresuid"):
		return errors.New("enter the namespaces: the user is not mapped in their user namespace, as after unshare --user without --map-root-user")
	case ne.Step != "execve":
		return fmt.Errorf("enter the namespaces: %w", err)
	case errors.Is(err, os.ErrNotExist):
		return &nscommand.ExecError{Status: nscommand.StatusNotFound, Msg: name + ": command not found"}
	}
	return &nscommand.ExecError{Status: nscommand.StatusCannotRun, Msg: fmt.Sprintf("%s: %v", name, ne.Err)}
}

// builder configures a session for the target of an instance.
type builder struct {
	*nsexec.Session
	user string // of [Command]
	tgt  *target.Target
	pid  int // of the target's process
	proc *target.Snapshot
}

// close closes what the session needs until it runs.
func (b *builder) close() {
	for _, f := range slices.Concat(b.Cgroups, b.Users) {
		f.Close()
	}
	if b.proc != nil {
		b.proc.Close()
	}
	if b.tgt != nil {
		b.tgt.Close()
	}
}

// set gives the command what the target's process has.
func (b *builder) set(ctx context.Context, st *instance.State) (err error) {
	b.pid = st.Target.PID
	if b.pid == 0 {
		return b.setPath(st)
	}
	if st.Target.User == string(options.UserKeep) {
		// COMMAND has a user namespace of its own, below that of its init.
		b.pid = cmp.Or(instance.FirstChild(b.pid), b.pid)
	}
	if b.tgt, err = target.FromPID(ctx, b.pid, 0); err != nil {
		return err
	}
	if b.proc, err = b.tgt.Snapshot(); err != nil {
		return err
	}
	b.Cgroups = cgroups(b.proc.Cgroups)
	for _, step := range []func() error{b.userNamespaces, b.otherNamespaces, b.mounts, b.rights} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// setPath is set for a network namespace without a known process: the command stays in the caller's other
// namespaces.
func (b *builder) setPath(st *instance.State) (err error) {
	userns := st.Target.Userns
	if _, err := os.Stat(userns); err != nil {
		userns = "" // not a path, but a description: use the owner
	}
	if b.tgt, err = target.FromNetns(st.Target.Netns, userns); err != nil {
		return err
	}
	b.Spaces = []nsexec.Namespace{{File: b.tgt.Netns, Type: unix.CLONE_NEWNET}}
	b.Bounding, b.Permitted, b.OwnMounts = ^uint64(0), ^uint64(0), true
	if b.tgt.Userns == nil {
		b.UID, b.GID, b.KeepGroups = -1, -1, b.user == ""
		return setUser(b.Session, nil, b.user, os.Getegid(), ^uint64(0))
	}
	b.UID, b.GID, b.KeepIDs, b.KeepGroups = 0, 0, b.user == "", os.Geteuid() != 0
	if err := setUser(b.Session, nil, b.user, 0, ^uint64(0)); err != nil {
		return err
	}
	b.Users, err = target.Ancestors(b.tgt.Userns, "/proc/self/ns/user")
	return err
}

func (b *builder) refuse(format string, args ...any) error {
	return fmt.Errorf("a command can't be run with the privileges of process %d: %s", b.pid, fmt.Sprintf(format, args...))
}

func (b *builder) userNamespaces() (err error) {
	user := b.proc.Namespaces[unix.CLONE_NEWUSER]
	if user == nil {
		return nil
	}
	if b.Users, err = target.Ancestors(user, "/proc/self/ns/user"); err != nil {
		return b.refuse("its user namespace can't be entered from this one (%v)", err)
	}
	return nil
}

func (b *builder) otherNamespaces() error {
	for flag, f := range b.proc.Namespaces {
		own, err := target.SameAs(f, "/proc/self/ns/"+target.Name(flag))
		if err != nil {
			return err
		}
		if !own && flag != unix.CLONE_NEWUSER {
			b.Spaces = append(b.Spaces, nsexec.Namespace{File: f, Type: flag})
		}
	}
	if pids := b.space(unix.CLONE_NEWPID); pids != nil {
		above, err := target.Ancestors(pids, "/proc/self/ns/pid")
		for _, f := range above {
			f.Close()
		}
		if err != nil {
			return b.refuse("its PID namespace can't be entered from this one")
		}
	}
	return nil
}

// space returns the namespace of a type that is entered, nil if it is the caller's own.
func (b *builder) space(flag int) *os.File {
	for _, ns := range b.Spaces {
		if ns.Type == flag {
			return ns.File
		}
	}
	return nil
}

// mounts sets root directory, mount namespace and resolv.conf.
func (b *builder) mounts() (err error) {
	mount := b.space(unix.CLONE_NEWNS)
	if mount != nil {
		if ok, err := ownedAbove(mount, b.Users); err != nil || !ok {
			return b.refuse("its mount namespace belongs to neither its user namespace nor one above it")
		}
	}
	if b.Root, err = rootUnlessOwn(b.proc.Root, mount != nil); err != nil {
		return err
	}
	b.OwnMounts = true
	if mount == nil && b.Root == nil {
		return nil
	}
	if err := fromMemory(b.proc); err != nil {
		return err
	}
	b.HostResolvConf = new(unix.Statx_t)
	err = unix.Statx(unix.AT_FDCWD, "/etc/resolv.conf", 0, unix.STATX_INO, b.HostResolvConf)
	b.OwnMounts = err == nil && b.ResolvConf != ""
	return nil
}

func (b *builder) rights() error {
	proc := b.proc
	b.UID, b.GID = proc.UID, proc.GID
	if b.user == "" && (proc.UID < 0 && proc.OuterUID != os.Geteuid() || proc.GID < 0 && proc.OuterGID != os.Getegid()) {
		return b.refuse("its user %d, group %d are not mapped in its user namespace", proc.OuterUID, proc.OuterGID)
	}
	b.Bounding, b.Permitted, b.NoNewPrivs = proc.Bounding, proc.Permitted, proc.NoNewPrivs
	if proc.UID == 0 {
		// An execve by root sets the permitted set to the bounding set, unless securebits forbid it,
		// which can't be read.
		b.Bounding &= proc.Permitted
	}
	b.KeepGroups = subset(proc)
	return setUser(b.Session, proc.Root, b.user, max(0, proc.GID), proc.Bounding)
}

// ownedAbove reports whether a namespace belongs to the caller's user namespace or to one of users, which
// lead from there to the target's.
func ownedAbove(ns *os.File, users []*os.File) (bool, error) {
	owner, err := target.Owner(ns)
	if err != nil {
		return false, err
	}
	defer owner.Close()
	if own, err := target.SameAs(owner, "/proc/self/ns/user"); err != nil || own {
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
func subset(proc *target.Snapshot) bool {
	groups, err := os.Getgroups()
	return err == nil && !slices.ContainsFunc(groups, func(g int) bool { return g != proc.OuterGID && !slices.Contains(proc.Groups, g) })
}
