package nscommand

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nettune"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// Stage is the hidden argument that makes slirpctl the init of COMMAND's namespaces.
const Stage = "__init"

// initProcess is the state of init.
type initProcess struct {
	conn    *os.File     // nil: no supervisor
	inbox   chan message // closed when the supervisor is gone
	setup   initSetup
	resolv  *resolvMount // nil: /etc/resolv.conf is the host's
	signals chan os.Signal

	pid     int // COMMAND's
	stopped bool
}

// RunStage is the main function of init. It returns the exit status.
func RunStage(args []string) int {
	// A parent-death signal is sent when the thread that created the child ends.
	runtime.LockOSThread()
	if len(args) != 1 {
		return StatusFailed
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return StatusFailed
	}
	unix.CloseOnExec(fd)
	_ = unix.SetNonblock(fd, true)
	p := &initProcess{conn: os.NewFile(uintptr(fd), "supervisor"), inbox: make(chan message)}
	go p.listen()
	m, ok := <-p.inbox
	if !ok || m.Setup == nil || len(m.Setup.Argv) == 0 {
		return StatusFailed
	}
	p.setup = *m.Setup
	_ = nettune.Apply() // without it TCP is only slower
	p.mounts()
	if m, ok := <-p.inbox; !ok || !m.Go {
		return StatusFailed // the supervisor gave up
	}
	if p.setup.LimitSockets {
		if err := nsexec.LimitSockets(); err != nil {
			return p.fail(&ExecError{StatusFailed, err.Error()})
		}
	}
	p.catchSignals()
	if err := p.startCommand(); err != nil {
		return p.fail(err)
	}
	p.leaveCommand()
	p.send(message{Started: true})
	status := p.watch()
	if !inNamespace() {
		endDescendants()
	}
	return status
}

// inNamespace reports whether this process is PID 1 of a PID namespace, whose end kills all others in it.
func inNamespace() bool { return os.Getpid() == 1 }

func (p *initProcess) listen() {
	defer close(p.inbox)
	dec := json.NewDecoder(p.conn)
	for {
		var m message
		if dec.Decode(&m) != nil {
			return
		}
		p.inbox <- m
	}
}

func (p *initProcess) send(m message) {
	if p.conn != nil {
		_ = json.NewEncoder(p.conn).Encode(m)
	}
}

func (p *initProcess) fail(err *ExecError) int {
	p.send(message{Failed: &initFailed{err.Status, []byte(err.Msg)}})
	return err.Status
}

// catchSignals catches the signals to pass on to COMMAND, except those that the caller ignores.
func (p *initProcess) catchSignals() {
	p.signals = make(chan os.Signal, 64)
	for n := syscall.Signal(1); n < 65; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, // can't be caught
			unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGSYS, unix.SIGPIPE, // about init itself
			unix.SIGURG, 32, 33, 34: // used by the Go runtime and the C library
		default:
			if !signal.Ignored(n) {
				signal.Notify(p.signals, n)
			}
		}
	}
}

// startCommand runs COMMAND as a child, in the caller's process group, so that the terminal sends it signals
// from the keyboard directly.
func (p *initProcess) startCommand() *ExecError {
	argv := toStrings(p.setup.Argv)
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: p.setup.Setsid},
	}
	if !inNamespace() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return &ExecError{StatusFailed, fmt.Sprintf("%s: prctl(PR_SET_CHILD_SUBREAPER): %v", argv[0], err)}
		}
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	if p.setup.Keep != nil {
		if err := p.setup.Keep.apply(attr.Sys); err != nil {
			return &ExecError{StatusFailed, argv[0] + ": " + err.Error()}
		}
	}
	path, err := lookPath(argv[0])
	if err == nil {
		syscall.Umask(p.setup.Umask)
		p.pid, err = syscall.ForkExec(path, argv, attr)
	}
	if err != nil {
		return cannotRun(argv[0], err)
	}
	return nil
}

// leaveCommand closes COMMAND's descriptors and leaves its directory and process group, so that signals from
// the keyboard don't reach COMMAND twice.
func (p *initProcess) leaveCommand() {
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, unix.O_CLOEXEC)
		}
		unix.Close(null)
	}
	for _, fd := range p.setup.KeepFDs {
		unix.Close(fd)
	}
	_ = unix.Chdir("/")
	_ = unix.Setpgid(0, 0)
	for len(p.signals) > 0 {
		<-p.signals
	}
}

// watch returns COMMAND's status once it has ended.
func (p *initProcess) watch() int {
	remount := p.resolv.changes()
	for {
		// Before the select: a SIGCHLD may have been lost before the loop.
		if status, ended := p.reap(); ended {
			return status
		}
		select {
		case sig := <-p.signals:
			if sig != unix.SIGCHLD {
				p.signal(sig.(syscall.Signal))
			}
		case <-remount:
			p.remount()
		case m, ok := <-p.inbox:
			switch {
			case !ok:
				return StatusFailed
			case m.Signal != 0:
				p.signal(syscall.Signal(m.Signal))
			case m.Remount:
				p.remount()
			case m.StillStopped && p.stopped:
				p.send(message{Stop: true})
			}
		}
	}
}

// signal sends a signal to COMMAND. SIGCONT goes to its whole process group, if it has made one of its own
// as a shell does.
func (p *initProcess) signal(sig syscall.Signal) {
	_ = unix.Kill(p.pid, sig)
	if pgid, err := unix.Getpgid(p.pid); sig == unix.SIGCONT && err == nil && pgid == p.pid {
		_ = unix.Kill(-pgid, sig)
	}
}

// reap waits for all children that have ended, which include adopted orphans. It returns COMMAND's status if COMMAND
// is among them.
func (p *initProcess) reap() (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WUNTRACED|unix.WCONTINUED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return 0, false
		}
		switch {
		case pid != p.pid:
		case ws.Exited():
			return ws.ExitStatus(), true
		case ws.Signaled():
			return 128 + int(ws.Signal()), true
		case ws.Stopped():
			p.stopped = true
			if p.conn == nil {
				p.signal(unix.SIGCONT) // no supervisor will
			}
			p.send(message{Stopped: true})
		case ws.Continued():
			p.stopped = false
		}
	}
}

// endDescendants kills all processes that COMMAND has left. Children of a killed process become children of this
// one.
func endDescendants() {
	for {
		children := procfs.Children(os.Getpid())
		if len(children) == 0 {
			return
		}
		for _, pid := range children {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}
