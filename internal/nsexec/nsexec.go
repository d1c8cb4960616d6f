// Package nsexec starts a program inside other namespaces, new ones or those of another
// process. It exists because the Go runtime can't: a user namespace can only be joined by a
// process with a single thread (setns(2)), and os/exec can neither join one nor wait for
// newuidmap before the program starts. nsenter(1) could, but loses the capabilities at its
// exec where the caller isn't mapped to root, and has to be installed.
//
// # How
//
// Start forks on a locked thread with every signal blocked. The child is a copy of the caller
// with one thread and never returns to Go proper: it runs [child], which makes raw system calls
// only, on memory that was prepared before the fork, and ends in execve(2) or exit(2). What goes
// wrong is written to a close-on-exec pipe as a step and an errno; end of file means the program
// runs.
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
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/rlimit"
)

// Cmd is a program to start. The zero value of every field but Path and Args is usable.
type Cmd struct {
	Path string   // executed as it stands: no search of PATH; "" is this very program
	Args []string // argv, including argv[0]
	Env  []string // environment; nil means empty
	Dir  string   // working directory; "" means the caller's

	// Files become descriptors 0, 1, 2, …; nil leaves a number closed, except that nil at 0 to
	// 2 means /dev/null. Every other descriptor of the caller is closed in the program, except
	// KeepFDs, which keep their numbers whether they are close-on-exec here or not.
	Files   []*os.File
	KeepFDs []int

	// JoinUser and JoinNet are namespaces to enter, in that order; nil: stay.
	JoinUser, JoinNet *os.File

	// NewUser, NewMount, NewNet and NewPID say which namespaces to make; none of them goes with
	// JoinUser or JoinNet. With NewUser, Map must write the maps of the process it is given. With
	// NewPID the program is PID 1, finds a /proc of its own namespace, which takes NewMount, and must
	// notice for itself when its parent died while it was started (getppid(2) is 0 for it).
	NewUser, NewMount, NewNet, NewPID bool
	Map                               func(pid int) error

	// Confine, if not nil, takes from the program what it doesn't need.
	Confine *Confine

	// BecomeRoot switches to uid and gid 0 of the user namespace.
	BecomeRoot bool

	Setsid  bool // start a session of its own
	Setpgid bool // start a process group of its own
	// Pdeathsig is sent when the calling thread's process dies (prctl(2)); 0: none.
	Pdeathsig syscall.Signal
}

// The steps that make namespaces, as [Error] names them.
const (
	StepClone = "clone"
	StepProc  = "mount /proc"
)

// Error says at which step a start failed.
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
	stepRead
	stepWrite
	stepCgroup
	stepRuns // no failure: the number is the process's
)

var stepNames = [...]string{
	"setsid", "prctl(PR_SET_PDEATHSIG)", "setns(CLONE_NEWUSER)", "setns(CLONE_NEWNET)",
	"unshare", "write uid_map", "setresgid", "setresuid", "capset", StepProc, "chdir", "dup3", "execve",
	"prctl(PR_SET_DUMPABLE)", "keyctl(KEYCTL_JOIN_SESSION_KEYRING)", "setgroups", "setns", "clone", "chroot",
	"prctl(PR_CAPBSET_DROP)", "prctl(PR_SET_NO_NEW_PRIVS)", "unshare(CLONE_NEWNS)",
	"pivot_root", "open", "read", "write", "write cgroup.procs",
}

// plan is everything the child needs, laid out before the fork.
type plan struct {
	path       *byte // "": the file that self is open on
	self       int
	argv, envv []*byte
	dir        *byte

	sysctl  *sysctl // instead of a program
	confine *confinement

	fds    []int // fds[i] becomes descriptor i; -1: closed
	keep   []int
	report int // pipe: the failure, or EOF
	askMap int // socket: one byte each way around the maps; -1: none
	maps   int // the parent's end of it

	joinUser, joinNet int
	flags             uintptr // of clone(2)
	unshare           int     // after the namespaces were joined
	become            bool
	proc, procDir     *byte // "proc", "/proc"; nil: no mount
	setsid, setpgid   bool
	pdeathsig         uintptr
	parent            int

	rlimit syscall.Rlimit

	session *sessionPlan // nil: the copy is to become the program itself

	oldMask, allMask [8]byte
	capHdr           unix.CapUserHeader
	capData          [2]unix.CapUserData
	msg              [8]byte
	byte1            [1]byte
}

// Start starts the program and returns once it runs, that is once execve(2) has succeeded.
// The caller must Wait for the process. Errors: [*Error], or Map's own.
func (c *Cmd) Start() (*os.Process, error) {
	p, cleanup, err := c.prepare()
	if err != nil {
		return nil, err
	}
	defer cleanup()

	reportR, reportW, err := pipe()
	if err != nil {
		return nil, err
	}
	defer reportR.Close()
	defer reportW.Close()
	p.report = int(reportW.Fd())

	p.askMap = -1
	var ask *os.File
	if c.NewUser {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socketpair: %w", err)
		}
		ask = os.NewFile(uintptr(pair[0]), "map")
		askChild := os.NewFile(uintptr(pair[1]), "map")
		p.askMap, p.maps = pair[1], pair[0]
		defer ask.Close()
		defer askChild.Close()
		pid, err := fork(p)
		askChild.Close()
		reportW.Close()
		if err != nil {
			return nil, err
		}
		return c.finish(pid, reportR, ask)
	}
	pid, err := fork(p)
	reportW.Close()
	runtime.KeepAlive(c)
	if err != nil {
		return nil, err
	}
	return c.finish(pid, reportR, nil)
}

// finish sees a forked child through to its exec, or reaps it.
func (c *Cmd) finish(pid int, report, ask *os.File) (*os.Process, error) {
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*os.Process, error) {
		_ = proc.Kill()
		_, _ = proc.Wait()
		return nil, err
	}
	if ask != nil {
		var b [1]byte
		if n, _ := ask.Read(b[:]); n == 1 { // else the child has failed and reports it
			if err := c.Map(pid); err != nil {
				return fail(err)
			}
			if _, err := ask.Write(b[:]); err != nil {
				return fail(fmt.Errorf("release child: %w", err))
			}
		}
		ask.Close()
	}
	var msg [8]byte
	n, err := report.Read(msg[:])
	if n == len(msg) {
		s, errno := step(*(*uint32)(unsafe.Pointer(&msg[0]))), *(*uint32)(unsafe.Pointer(&msg[4]))
		return fail(&Error{stepNames[s], syscall.Errno(errno)})
	}
	if err != nil && n == 0 && errors.Is(err, os.ErrClosed) {
		return fail(err)
	}
	return proc, nil
}

func cString(s string) *byte {
	b, _ := syscall.BytePtrFromString(s) // fails for a NUL alone
	return b
}

func pipe() (r, w *os.File, err error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	return os.NewFile(uintptr(fd[0]), "pipe"), os.NewFile(uintptr(fd[1]), "pipe"), nil
}

// prepare does everything that needs memory or may fail: the child can do neither. cleanup is for when it runs.
func (c *Cmd) prepare() (p *plan, cleanup func(), err error) {
	p = &plan{
		keep: c.KeepFDs, become: c.BecomeRoot, setsid: c.Setsid, setpgid: c.Setpgid, self: -1,
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

// openSelf opens this program: in the child's namespaces it may have no path. Its number is lowest at least, so that no
// file takes it.
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
		p.proc, p.procDir = cString("proc"), cString("/proc")
	}
}

// prepareFiles says what the child has at each number, null where it has nothing else below 3.
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
