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

// Namespace is a namespace to enter, as for setns(2).
type Namespace struct {
	File *os.File
	Type int // CLONE_NEWNET and so on, but not CLONE_NEWUSER
}

// Session is a command to run in another user's namespaces, with the privileges of the processes there
// and no more. No program of ours is executed in them: a forked copy of this process enters, sets the
// ids, and executes the command. Until then it can't be traced from inside, because it is not
// dumpable and its memory belongs to our user namespace (ptrace(2)).
//
//	parent                  monitor (stays outside)         copy
//	fork ─────────────────▶ setsid, controlling terminal
//	                        fork ─────────────────────────▶ cgroups, session keyring, groups
//	                                                        setns (each), fork into the PID namespace
//	      ◀──────────────────────────────────── pid ──────  process group, foreground
//	                                                        root, identity, mounts, capabilities
//	      ◀──────────────────────────── EOF or step ──────  execve
//	go ───────────────────▶ wait
//	      ◀─────── status ─ stopped or ended
//
// The monitor is needed for job control: a process group whose members all have their parents in
// other sessions can't be stopped from the keyboard (setpgid(2), "orphaned").
type Session struct {
	Paths []string // tried in order, as a shell does along PATH
	Args  []string
	Env   []string
	Dir   string      // the command's working directory; the root if it doesn't exist, unless NeedDir
	Files [3]*os.File // all other descriptors are closed in the command

	NeedDir bool

	TTY        *os.File // becomes the controlling terminal; nil: none
	Foreground bool     // the command starts as TTY's foreground process group

	// Cgroups are the cgroup.procs files of cgroups to join. Those that this process may not join are skipped.
	Cgroups []*os.File
	// Users are user namespaces, each the parent of the next; the last one is the command's.
	Users  []*os.File
	Spaces []Namespace
	Root   *os.File // the command's root directory; nil: that of its mount namespace

	// UID and GID are ids in the command's user namespace.
	UID, GID int
	// KeepIDs lets the command keep the caller's ids if UID and GID are not mapped in its user
	// namespace and the caller's are.
	KeepIDs bool
	// KeepGroups lets the command keep the caller's groups if they can't be dropped.
	KeepGroups bool
	// Bounding and Permitted are capability sets that limit the command's.
	Bounding, Permitted uint64
	NoNewPrivs          bool
	// LimitSockets is what the function of that name does, for the command.
	LimitSockets bool

	// OwnMounts gives the command a mount namespace of its own, with a sysfs for its network
	// namespace and, unless it is "", ResolvConf as the content of /etc/resolv.conf.
	OwnMounts  bool
	ResolvConf string
	// HostResolvConf, if not nil, restricts OwnMounts to the case that this file is the command's /etc/resolv.conf.
	HostResolvConf *unix.Statx_t
}

// Running is a running session. Only one goroutine may use Next.
type Running struct {
	monitor *os.Process
	ctl     *os.File
	pidfd   int
	pid     int
}

// Event says that the command has stopped or ended.
type Event struct {
	Stopped bool
	Status  int // the exit code, or 128+N for signal N; with Stopped, N
}

// Start starts the command and returns when it runs. Errors: [*Error].
func (s *Session) Start() (*Running, error) {
	p, cleanup, err := s.prepare()
	if err != nil {
		return nil, err
	}
	defer cleanup()
	report, reportW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer report.Close()
	defer reportW.Close()
	ctl, theirs, err := SocketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
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
		r.Close() // the monitor exits after its children
		return nil, err
	}
	return r, nil
}

// started reads the copy's reports until it executes the command.
func (r *Running) started(report *os.File) error {
	for {
		var msg [8]byte
		_, err := io.ReadFull(report, msg[:])
		switch {
		case err == io.EOF && r.pidfd >= 0:
			return nil
		case err == io.EOF:
			return errors.New("the command was killed before it was executed")
		case err != nil:
			return err
		}
		st, value := parse(msg[:])
		if st != stepRuns {
			return &Error{stepNames[st], value}
		}
		r.pid = int(value)
		// The monitor does not reap before Continue, so the PID is not reused.
		if r.pidfd, err = unix.PidfdOpen(r.pid, 0); err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
	}
}

// Flags of a message to the monitor.
const (
	inForeground = 1 << iota // make the command's process group the terminal's foreground group
	sendCont                 // send it SIGCONT
)

// Continue makes the monitor wait for the next event. Call it once after Start and after each event except the
// last. foreground says whether the command has the terminal now; stopped, whether to send it SIGCONT.
func (r *Running) Continue(foreground, stopped bool) error {
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

// Close waits until the monitor and the command have ended; descendants of the command may remain.
func (r *Running) Close() {
	r.ctl.Close()
	_, _ = r.monitor.Wait()
	if r.pidfd >= 0 {
		unix.Close(r.pidfd)
		r.pidfd = -1
	}
}

// Signal sends a signal to the command; with group to its whole process group, as the terminal does.
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

// prepare prepares what monitor and copy need, before the fork.
func (s *Session) prepare() (p *sessionPlan, cleanup func(), err error) {
	cmd := Cmd{Path: "/", Args: s.Args, Env: s.Env, Dir: s.Dir, Files: s.Files[:], Pdeathsig: syscall.SIGKILL}
	plan, cleanup, err := cmd.prepare()
	if err != nil {
		return nil, nil, err
	}
	p = &sessionPlan{plan: plan, Session: s, root: fdOf(s.Root), tty: fdOf(s.TTY), resolvConf: []byte(s.ResolvConf)}
	plan.session = p
	if s.LimitSockets {
		p.sockets, err = socketFilter()
	}
	if err == nil {
		p.paths, err = syscall.SlicePtrFromStrings(s.Paths)
	}
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	p.paths = p.paths[:len(s.Paths)] // without the final nil
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
	return p, cleanup, nil
}
