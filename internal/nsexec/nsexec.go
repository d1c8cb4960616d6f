// Package nsexec starts a program inside other namespaces, new ones or those of another
// process. It exists because the Go runtime can't: only a process with a single thread can join a user
// namespace (setns(2)), and os/exec can neither join one nor wait for newuidmap before the program
// starts. nsenter(1) could, but it loses the capabilities at its exec if the caller isn't mapped to
// root, and it has to be installed.
//
// # How
//
// Start forks on a locked thread with all signals blocked. The child has one thread and never
// returns to normal Go code: it runs [child], which makes only raw system calls, on memory that was
// prepared before the fork, and ends in execve(2) or exit(2). A failure is written to a
// close-on-exec pipe as a step and an errno; end of file means that the program runs.
//
//	parent                         child
//	clone(new namespaces) ───────▶ setpgid/setsid, pdeathsig, not dumpable
//	                               setns(user) setns(net)
//	      ◀──────── "mapped?" ───  (new user namespace only)
//	write uid_map, gid_map
//	      ───────── go ─────────▶  setresgid, setresuid
//	                               mount /proc (new PID namespace only)
//	                               descriptors into place, close_range(rest)
//	                               no_new_privs, system call filter (Confine only)
//	      ◀──────── EOF or step ─  execve
//
// Until its execve the child can't be traced from inside the namespaces it has entered: its memory
// belongs to the caller's user namespace and isn't dumpable (ptrace(2)).
package nsexec

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/rlimit"
)

// Cmd is a program to start. The zero value of each field except Args is usable.
type Cmd struct {
	Path string   // executed without searching PATH; "" is this program itself
	Args []string // argv, including argv[0]
	Env  []string // environment; nil means empty
	Dir  string   // working directory; "" means the caller's

	// Files become descriptors 0, 1, 2, …; nil means closed, but /dev/null for 0 to 2. All other
	// descriptors of the caller are closed in the program, except KeepFDs, which keep their
	// numbers even if they are close-on-exec here.
	Files   []*os.File
	KeepFDs []int

	// JoinUser and JoinNet are namespaces to join, in that order; nil: none.
	JoinUser, JoinNet *os.File

	// NewUser, NewMount, NewNet and NewPID say which namespaces to create; none of them can be
	// combined with JoinUser or JoinNet. With NewUser, Map must write the id maps of the given process. With
	// NewPID, which needs NewMount, the program is PID 1 and has a /proc of its own; it must itself
	// check whether its parent died during the start (its getppid(2) is 0).
	NewUser, NewMount, NewNet, NewPID bool
	Map                               func(pid int) error

	// Confine, if not nil, restricts the program.
	Confine *Confine

	// BecomeRoot switches to uid and gid 0 of the user namespace.
	BecomeRoot bool

	Setsid  bool // start a session of its own
	Setpgid bool // start a process group of its own
	// Pdeathsig is sent when the calling process dies (prctl(2)); 0: none.
	Pdeathsig syscall.Signal
}

// Values of [Error.Step] for creating namespaces.
const (
	StepClone = "clone"
	StepProc  = "mount /proc"
)

// Error is a failed step of a start.
type Error struct {
	Step string // for example "setns(CLONE_NEWUSER)"
	Err  error  // an errno
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

type step uint32

const (
	stepSession step = iota
	stepPdeathsig
	stepJoinUser
	stepJoinNet
	stepUnshare
	stepMapped
	stepSetgid
	stepSetuid
	stepCaps
	stepProc
	stepChdir
	stepFiles
	stepExec
	stepUndumpable
	stepKeyring
	stepSetgroups
	stepJoin
	stepClone
	stepRoot
	stepBounding
	stepNoNewPrivs
	stepMounts
	stepPivot
	stepOpen
	stepCgroup
	stepSocket
	stepSeccomp
	stepRuns // not a failure: the number is the PID
)

var stepNames = [...]string{
	"setsid", "prctl(PR_SET_PDEATHSIG)", "setns(CLONE_NEWUSER)", "setns(CLONE_NEWNET)",
	"unshare", "write uid_map", "setresgid", "setresuid", "capset", StepProc, "chdir", "dup3", "execve",
	"prctl(PR_SET_DUMPABLE)", "keyctl(KEYCTL_JOIN_SESSION_KEYRING)", "setgroups", "setns", "clone", "chroot",
	"prctl(PR_CAPBSET_DROP)", "prctl(PR_SET_NO_NEW_PRIVS)", "unshare(CLONE_NEWNS)",
	"pivot_root", "open", "write cgroup.procs", "socket", "seccomp",
}

// plan is everything the child needs, prepared before the fork.
type plan struct {
	path       *byte // "": execute self
	self       int
	argv, envv []*byte
	dir        *byte

	opening *opening // instead of a program
	confine *confinement

	fds    []int // fds[i] becomes descriptor i; -1: closed
	keep   []int
	report int // pipe: the failure, or EOF
	askMap int // socket: one byte in each direction, before and after the maps are written; -1: none
	maps   int // the parent's end of askMap

	joinUser, joinNet int
	flags             uintptr // of clone(2)
	unshare           int     // after the namespaces were joined
	become            bool
	newProc           bool // mount /proc
	setsid, setpgid   bool
	pdeathsig         uintptr
	parent            int

	rlimit syscall.Rlimit

	session *sessionPlan // nil: the child becomes the program itself

	failed step // the first that failed, with errno
	errno  syscall.Errno

	oldMask, allMask [8]byte
	capHdr           unix.CapUserHeader
	capData          [2]unix.CapUserData
	msg              [8]byte
	byte1            [1]byte
}

// Start starts the program and returns when execve(2) has succeeded.
// The caller must Wait for the process. Errors: [*Error], or Map's own.
func (c *Cmd) Start() (*os.Process, error) {
	p, cleanup, err := c.prepare()
	if err != nil {
		return nil, err
	}
	defer cleanup()

	reportR, reportW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reportR.Close()
	defer reportW.Close()
	p.report = int(reportW.Fd())
	var ask, theirs *os.File
	if c.NewUser {
		if ask, theirs, err = SocketPair(unix.SOCK_STREAM); err != nil {
			return nil, err
		}
		defer ask.Close()
		defer theirs.Close()
		p.askMap, p.maps = fdOf(theirs), fdOf(ask)
	}
	pid, err := fork(p)
	theirs.Close()
	reportW.Close()
	runtime.KeepAlive(c)
	if err != nil {
		return nil, err
	}
	if err := c.finish(pid, reportR, ask); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		reap(pid)
		return nil, err
	}
	return os.FindProcess(pid)
}

// finish waits until a forked child has executed the program.
func (c *Cmd) finish(pid int, report, ask *os.File) error {
	if ask != nil {
		var b [1]byte
		if n, _ := ask.Read(b[:]); n == 1 { // else the child reports a failure
			if err := c.Map(pid); err != nil {
				return err
			}
			if _, err := ask.Write(b[:]); err != nil {
				return fmt.Errorf("release child: %w", err)
			}
		}
		ask.Close()
	}
	var msg [8]byte
	if n, _ := report.Read(msg[:]); n == len(msg) {
		s, errno := parse(msg[:])
		return &Error{stepNames[s], errno}
	}
	return nil
}

// parse returns the step and the number of a message of [plan.send].
func parse(msg []byte) (step, syscall.Errno) {
	return step(binary.NativeEndian.Uint32(msg)), syscall.Errno(binary.NativeEndian.Uint32(msg[4:]))
}

// reap waits for a child.
func reap(pid int) {
	if proc, err := os.FindProcess(pid); err == nil {
		_, _ = proc.Wait()
	}
}

func cString(s string) *byte {
	b, _ := syscall.BytePtrFromString(s) // fails only for a NUL
	return b
}

// SocketPair returns a pair of connected UNIX sockets: ours, which is non-blocking, and one for another process.
func SocketPair(typ int) (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	_ = unix.SetNonblock(pair[0], true)
	return os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket"), nil
}

// MapToRoot maps the caller's ids to 0 in the user namespace of a process (user_namespaces(7)).
func MapToRoot(pid int) error {
	for _, w := range []struct{ file, text string }{
		// An unprivileged write to gid_map requires that setgroups is denied.
		{"setgroups", "deny"},
		{"uid_map", fmt.Sprintf("0 %d 1", os.Geteuid())},
		{"gid_map", fmt.Sprintf("0 %d 1", os.Getegid())},
	} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, w.file), []byte(w.text), 0); err != nil {
			return err
		}
	}
	return nil
}

// prepare does everything that allocates memory, which the child can't. The caller must call cleanup after the fork.
func (c *Cmd) prepare() (p *plan, cleanup func(), err error) {
	p = &plan{
		keep: c.KeepFDs, become: c.BecomeRoot, setsid: c.Setsid, setpgid: c.Setpgid, self: -1, askMap: -1,
		pdeathsig: uintptr(c.Pdeathsig), parent: os.Getpid(), rlimit: syscall.Rlimit(rlimit.Nofile()),
		capHdr: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
	}
	for i := range p.allMask {
		p.allMask[i] = 0xff
	}
	if p.confine, err = c.Confine.prepare(); err != nil {
		return nil, nil, err
	}
	if err := c.prepareStrings(p); err != nil {
		return nil, nil, err
	}
	c.prepareNamespaces(p)
	if c.Path == "" {
		if p.self, err = openSelf(max(3, len(c.Files))); err != nil {
			return nil, nil, fmt.Errorf("open own executable: %w", err)
		}
	}
	closeSelf := func() {
		if p.self >= 0 {
			unix.Close(p.self)
		}
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		closeSelf()
		return nil, nil, err
	}
	c.prepareFiles(p, null)
	return p, func() { null.Close(); closeSelf() }, nil
}

// openSelf opens this program, which may have no path in the child's namespaces. The descriptor is lowest or higher,
// above those of the child's files.
func openSelf(lowest int) (int, error) {
	exe, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(exe)
	return unix.FcntlInt(uintptr(exe), unix.F_DUPFD_CLOEXEC, lowest)
}

func (c *Cmd) prepareStrings(p *plan) (err error) {
	if p.path, err = syscall.BytePtrFromString(c.Path); err != nil {
		return err
	}
	if p.argv, err = syscall.SlicePtrFromStrings(c.Args); err != nil {
		return err
	}
	if p.envv, err = syscall.SlicePtrFromStrings(c.Env); err != nil {
		return err
	}
	if c.Dir != "" {
		p.dir, err = syscall.BytePtrFromString(c.Dir)
	}
	return err
}

func (c *Cmd) prepareNamespaces(p *plan) {
	p.joinUser, p.joinNet = fdOf(c.JoinUser), fdOf(c.JoinNet)
	if p.confine.ownMounts() {
		p.unshare = unix.CLONE_NEWNS
	}
	for flag, wanted := range map[uintptr]bool{
		unix.CLONE_NEWUSER: c.NewUser, unix.CLONE_NEWNS: c.NewMount, unix.CLONE_NEWNET: c.NewNet, unix.CLONE_NEWPID: c.NewPID,
	} {
		if wanted {
			p.flags |= flag
		}
	}
	if c.NewPID {
		p.parent = 0
		p.newProc = true
	}
}

// prepareFiles sets the child's descriptors: those of Files, and null for missing ones below 3.
func (c *Cmd) prepareFiles(p *plan, null *os.File) {
	for i := range max(3, len(c.Files)) {
		var f *os.File
		if i < len(c.Files) {
			f = c.Files[i]
		}
		if f == nil && i < 3 {
			f = null
		}
		p.fds = append(p.fds, fdOf(f))
	}
}

func fdOf(f *os.File) int {
	if f == nil {
		return -1
	}
	return int(f.Fd())
}
