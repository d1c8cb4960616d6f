package nsexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is one to enter: what setns(2) takes.
type Namespace struct {
	File *os.File
	Type int // CLONE_NEWNET and so on, but not CLONE_NEWUSER
}

// Session is a command to run among the processes of somebody else's namespaces, with what those
// have and no more. Nothing of ours is ever executed in there: the copy of this process enters,
// takes on the identity, and executes the command. Until then it can't be traced or looked into
// from inside, because it is not dumpable and its memory belongs to our user namespace (ptrace(2)).
//
//	parent                  monitor (stays out here)        copy
//	fork ─────────────────▶ setsid, controlling terminal
//	                        fork ─────────────────────────▶ control groups, session keyring, groups
//	                                                        setns (each), fork into the PID namespace
//	      ◀──────────────────────────────────── pid ──────  process group, foreground
//	                                                        root, identity, mounts, capabilities
//	      ◀──────────────────────────── EOF or step ──────  execve
//	go ───────────────────▶ wait
//	      ◀─────── status ─ stopped or ended
//
// The monitor is what keeps job control working: a process group whose members all have their
// parents in other sessions can't be stopped from the keyboard (setpgid(2), "orphaned").
type Session struct {
	Paths []string // executed in turn until one can be, as a shell goes along PATH
	Args  []string
	Env   []string
	Dir   string      // the command's directory if there is one of this name, else the root
	Files [3]*os.File // every other descriptor is closed in the command

	TTY        *os.File // becomes the controlling terminal; nil: none
	Foreground bool     // the command starts as TTY's foreground process group

	// Cgroups are the files cgroup.procs of control groups to join. One that this process has no right to is not joined.
	Cgroups []*os.File
	// Users are user namespaces, each the parent of the next; the last one is the command's own.
	Users  []*os.File
	Spaces []Namespace
	Root   *os.File // the command's root directory; nil: that of its mount namespace

	// UID and GID are numbers of the command's user namespace.
	UID, GID int
	// OrOwn lets the command keep the caller's ids where UID and GID have no meaning in its
	// user namespace and the caller's have one.
	OrOwn bool
	// KeepGroups lets the command have the caller's groups where they can't be given up.
	KeepGroups bool
	// Bounding and Permitted are sets of capabilities that bound the command's.
	Bounding, Permitted uint64
	NoNewPrivs          bool

	// OwnMounts gives the command a mount namespace of its own with a sysfs that shows its
	// network and, unless it is "", with ResolvConf as its /etc/resolv.conf.
	OwnMounts  bool
	ResolvConf string
	// Instead, if not nil, leaves the mounts alone unless this file is the /etc/resolv.conf in there.
	Instead os.FileInfo
}

// Running is a session that runs. Exactly one goroutine may use Next.
type Running struct {
	monitor *os.Process
	ctl     *os.File
	pidfd   int
	pid     int
}

// Event is what became of the command: stopped by a signal, or ended.
type Event struct {
	Stopped bool
	Status  int // the exit code, or 128+N for signal N; with Stopped just N
}

// Start starts the command and returns once it runs. Errors: [*Error].
func (s *Session) Start() (*Running, error) {
	p, cleanup, err := s.prepare()
	if err != nil {
		return nil, err
	}
	defer cleanup()
	report, reportW, err := pipe()
	if err != nil {
		return nil, err
	}
	defer report.Close()
	defer reportW.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	_ = unix.SetNonblock(pair[0], true)
	ctl, theirs := os.NewFile(uintptr(pair[0]), "session"), os.NewFile(uintptr(pair[1]), "session")
	defer theirs.Close()
	p.report, p.ctl = int(reportW.Fd()), int(theirs.Fd())
	pid, err := fork(p.plan)
	reportW.Close()
	theirs.Close()
	runtime.KeepAlive(s)
	if err != nil {
		ctl.Close()
		return nil, err
	}
	monitor, err := os.FindProcess(pid)
	if err != nil {
		ctl.Close()
		return nil, err
	}
	r := &Running{monitor: monitor, ctl: ctl, pidfd: -1}
	if err := r.started(report); err != nil {
		r.Close() // the monitor ends when its children have
		return nil, err
	}
	return r, nil
}

// started reads what the copy says on its way.
func (r *Running) started(report *os.File) error {
	for {
		var msg [8]byte
		_, err := io.ReadFull(report, msg[:])
		switch {
		case err == io.EOF && r.pidfd >= 0:
			return nil
		case err == io.EOF:
			return errors.New("what was to become the command was killed")
		case err != nil:
			return err
		}
		st, value := step(binary.NativeEndian.Uint32(msg[:])), binary.NativeEndian.Uint32(msg[4:])
		if st != stepRuns {
			return &Error{stepNames[st], syscall.Errno(value)}
		}
		r.pid = int(value)
		// Not reaped before the monitor is let go, so it is that process.
		if r.pidfd, err = unix.PidfdOpen(r.pid, 0); err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
	}
}

// How the monitor goes on.
const (
	inForeground = 1 << iota // the command's process group gets the terminal
	sendCont
)

// Go lets the monitor wait for the next event; call it once after Start and after each event but the
// last. foreground says whether the command has the terminal now. A stopped command goes on.
func (r *Running) Go(foreground, stopped bool) error {
	var msg [8]byte
	flags := uint32(0)
	if foreground {
		flags |= inForeground
	}
	if stopped {
		flags |= sendCont
	}
	binary.NativeEndian.PutUint32(msg[:], uint32(r.pid))
	binary.NativeEndian.PutUint32(msg[4:], flags)
	_, err := r.ctl.Write(msg[:])
	return err
}

// Next waits for the next event.
func (r *Running) Next() (Event, error) {
	var msg [8]byte
	if _, err := io.ReadFull(r.ctl, msg[:]); err != nil {
		return Event{}, errors.New("the command's session was killed")
	}
	ws := syscall.WaitStatus(binary.NativeEndian.Uint32(msg[:]))
	switch {
	case ws.Stopped():
		return Event{Stopped: true, Status: int(ws.StopSignal())}, nil
	case ws.Signaled():
		return Event{Status: 128 + int(ws.Signal())}, nil
	}
	return Event{Status: ws.ExitStatus()}, nil
}

// Close waits until nothing is left of the session but what the command has started.
func (r *Running) Close() {
	r.ctl.Close()
	_, _ = r.monitor.Wait()
	if r.pidfd >= 0 {
		unix.Close(r.pidfd)
		r.pidfd = -1
	}
}

// Signal sends the command a signal; with group its whole process group, as the keyboard does.
func (r *Running) Signal(sig syscall.Signal, group bool) {
	const processGroup = 1 << 2 // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
	if group {
		err := unix.PidfdSendSignal(r.pidfd, sig, nil, processGroup)
		if errors.Is(err, unix.EINVAL) && unix.PidfdSendSignal(r.pidfd, 0, nil, 0) == nil {
			_ = unix.Kill(-r.pid, sig)
		}
		return
	}
	_ = unix.PidfdSendSignal(r.pidfd, sig, nil, 0)
}

// prepare lays out what the copies need, before the fork.
func (s *Session) prepare() (p *sessionPlan, cleanup func(), err error) {
	cmd := Cmd{Path: "/", Args: s.Args, Env: s.Env, Dir: s.Dir, Files: s.Files[:], Pdeathsig: syscall.SIGKILL}
	plan, cleanup, err := cmd.prepare()
	if err != nil {
		return nil, nil, err
	}
	p = &sessionPlan{
		plan: plan, root: -1, tty: -1, foreground: s.Foreground,
		uid: uintptr(s.UID), gid: uintptr(s.GID), orOwn: s.OrOwn, keepGroups: s.KeepGroups,
		bounding: s.Bounding, permitted: s.Permitted, noNewPrivs: s.NoNewPrivs, ownMounts: s.OwnMounts,
		cwd: unix.AT_FDCWD,
	}
	plan.session = p
	for _, path := range s.Paths {
		b, err := syscall.BytePtrFromString(path)
		if err != nil {
			cleanup()
			return nil, nil, err
		}
		p.paths = append(p.paths, b)
	}
	if s.Root != nil {
		p.root = int(s.Root.Fd())
	}
	if s.TTY != nil {
		p.tty = int(s.TTY.Fd())
	}
	for _, f := range s.Cgroups {
		p.cgroups = append(p.cgroups, int(f.Fd()))
	}
	for _, f := range s.Users {
		p.users = append(p.users, int(f.Fd()))
	}
	for _, ns := range s.Spaces {
		p.spaces = append(p.spaces, space{fd: int(ns.File.Fd()), typ: uintptr(ns.Type)})
		p.newPID = p.newPID || ns.Type == unix.CLONE_NEWPID
	}
	if s.ResolvConf != "" {
		p.resolvConf = []byte(s.ResolvConf)
	}
	if s.Instead != nil {
		if st, ok := s.Instead.Sys().(*syscall.Stat_t); ok {
			p.instead, p.ino = true, st.Ino
			p.major, p.minor = unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))
		}
	}
	return p, cleanup, nil
}
