package nscommand

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nettune"
)

// Stage is the hidden argument that makes slirpctl the init of COMMAND's namespaces.
const Stage = "__init"

// initProcess is init as it sees itself.
type initProcess struct {
	conn    *os.File     // nil: there is no supervisor
	inbox   chan message // closed when the supervisor is gone
	setup   initSetup
	resolv  *resolvMount // nil: /etc/resolv.conf is the host's
	signals chan os.Signal

	pid     int // COMMAND's
	stopped bool
}

// RunStage is the life of init. It returns the status to exit with.
func RunStage(args []string) int {
	// A child's parent-death signal comes when the thread ends that made it.
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
	in := &initProcess{conn: os.NewFile(uintptr(fd), "supervisor"), inbox: make(chan message)}
	go in.listen()
	m, ok := <-in.inbox
	if !ok || m.Setup == nil || len(m.Setup.Argv) == 0 {
		return StatusFailed
	}
	in.setup = *m.Setup
	_ = nettune.Apply() // slower without, not wrong
	in.mounts()
	if m, ok := <-in.inbox; !ok || !m.Go {
		return StatusFailed // the supervisor gave up
	}
	in.catchSignals()
	if status, err := in.startCommand(); err != nil {
		return in.fail(status, "%s: %v", in.setup.Argv[0], err)
	}
	in.leaveCommand()
	in.say(message{Started: true})
	status := in.watch()
	if !inNamespace() {
		endDescendants()
	}
	return status
}

// inNamespace reports whether this is PID 1 of a namespace, with which all others end.
func inNamespace() bool { return os.Getpid() == 1 }

func (in *initProcess) listen() {
	defer close(in.inbox)
	dec := json.NewDecoder(in.conn)
	for {
		var m message
		if dec.Decode(&m) != nil {
			return
		}
		in.inbox <- m
	}
}

func (in *initProcess) say(m message) {
	if in.conn != nil {
		_ = json.NewEncoder(in.conn).Encode(m)
	}
}

func (in *initProcess) fail(status int, format string, a ...any) int {
	in.say(message{Failed: &initFailed{status, fmt.Appendf(nil, format, a...)}})
	return status
}

// catchSignals makes what is sent to init COMMAND's, but for what the caller chose to ignore.
func (in *initProcess) catchSignals() {
	in.signals = make(chan os.Signal, 64)
	for n := syscall.Signal(1); n < 65; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, // can't be caught
			unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGSYS, unix.SIGPIPE, // init's own
			unix.SIGURG, 32, 33, 34: // the Go runtime's and the C library's
		default:
			if !signal.Ignored(n) {
				signal.Notify(in.signals, n)
			}
		}
	}
}

// startCommand runs COMMAND as a child, in the process group of the caller: the keyboard's signals
// reach it by themselves.
func (in *initProcess) startCommand() (status int, err error) {
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: in.setup.Setsid},
	}
	if !inNamespace() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return StatusFailed, fmt.Errorf("prctl(PR_SET_CHILD_SUBREAPER): %w", err)
		}
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	argv := toStrings(in.setup.Argv)
	path, err := lookPath(argv[0])
	if err == nil {
		syscall.Umask(in.setup.Umask)
		in.pid, err = syscall.ForkExec(path, argv, attr)
	}
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, os.ErrNotExist):
		return StatusNotFound, errors.New("command not found")
	}
	return StatusCannotRun, err
}

// leaveCommand lets go of what is COMMAND's alone: its descriptors, directory and, so that the
// keyboard's signals don't come twice, process group.
func (in *initProcess) leaveCommand() {
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, unix.O_CLOEXEC)
		}
		unix.Close(null)
	}
	for _, fd := range in.setup.KeepFDs {
		unix.Close(fd)
	}
	_ = unix.Chdir("/")
	_ = unix.Setpgid(0, 0)
	for len(in.signals) > 0 {
		<-in.signals
	}
}

// watch returns COMMAND's status once it has ended.
func (in *initProcess) watch() int {
	remount := in.resolv.changes()
	for {
		// First, for a SIGCHLD that came before the loop.
		if status, ended := in.reap(); ended {
			return status
		}
		select {
		case sig := <-in.signals:
			if sig != unix.SIGCHLD {
				in.signal(sig.(syscall.Signal))
			}
		case <-remount:
			in.remount()
		case m, ok := <-in.inbox:
			switch {
			case !ok:
				return StatusFailed
			case m.Signal != 0:
				in.signal(syscall.Signal(m.Signal))
			case m.Remount:
				in.remount()
			case m.StillStopped && in.stopped:
				in.say(message{Stop: true})
			}
		}
	}
}

// signal sends COMMAND a signal. One that has made a process group of its own, as a shell does,
// goes on as a whole.
func (in *initProcess) signal(sig syscall.Signal) {
	_ = unix.Kill(in.pid, sig)
	if pgid, err := unix.Getpgid(in.pid); sig == unix.SIGCONT && err == nil && pgid == in.pid {
		_ = unix.Kill(-pgid, sig)
	}
}

// reap waits for every child that has ended: orphans come here.
func (in *initProcess) reap() (status int, ended bool) {
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
		case pid != in.pid:
		case ws.Exited():
			return ws.ExitStatus(), true
		case ws.Signaled():
			return 128 + int(ws.Signal()), true
		case ws.Stopped():
			in.stopped = true
			if in.conn == nil {
				in.signal(unix.SIGCONT) // nobody else would
			}
			in.say(message{Stopped: true})
		case ws.Continued():
			in.stopped = false
		}
	}
}

// endDescendants kills every process that COMMAND has left. Those of a killed one become ours in
// turn.
func endDescendants() {
	for {
		children := 0
		lists, _ := filepath.Glob("/proc/self/task/*/children")
		for _, list := range lists {
			data, _ := os.ReadFile(list)
			for f := range strings.FieldsSeq(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil {
					_ = unix.Kill(pid, unix.SIGKILL)
					children++
				}
			}
		}
		if children == 0 {
			return
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && err != unix.EINTR {
			return
		}
	}
}
