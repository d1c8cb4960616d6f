package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/childlog"
)

// Descriptors of the started slirp4netns, as [Start] lays them out.
const (
	readyFD = 3
	exitFD  = 4
)

// TargetPath names the namespace given as [StartConfig].Target in the arguments.
const TargetPath = "/proc/self/fd/5"

// graceful is how long slirp4netns gets to end by its exit descriptor, and again by SIGTERM.
const graceful = 2 * time.Second

// childPath is the search path that slirp4netns gets. It needs none; a wrapper script does.
const childPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// childEnv is the environment of slirp4netns. It has nothing of the caller's: LD_LIBRARY_PATH and the like would
// have it execute the caller's code, also with root's rights.
func childEnv() []string { return []string{childPath, "LC_ALL=C"} }

// Process is a slirp4netns that [Start] started. It owns the child and both pipes.
type Process struct {
	cmd     *exec.Cmd
	exit    *os.File      // closing it ends slirp4netns
	ready   chan struct{} // closed when the ready pipe got its byte
	readEOF chan struct{} // closed when the ready pipe ended without
	done    chan struct{} // closed when the child is reaped and all its words are taken
	words   *childlog.Log

	stopOnce sync.Once

	mu        sync.Mutex
	reaped    bool // the process group's number may be another's
	holder    int  // pidfd of the process that has the tap, once that is known; else -1
	holderPID int
	banErr    error // why there is no filter on the tap, once ready
}

// StartConfig says how to start slirp4netns.
type StartConfig struct {
	Path string    // the binary
	Args []string  // its arguments, which name readyFD and exitFD
	Log  io.Writer // gets stdout and stderr, as they come
	// Target becomes descriptor 5 if it is not nil: a namespace the arguments name as
	// /proc/self/fd/5.
	Target *os.File
	// OwnMounts gives slirp4netns a mount namespace of its own, so that its sandbox's mounts
	// don't reach the host (upstream pull request 153). It needs CAP_SYS_ADMIN.
	OwnMounts bool
	// Ban keeps slirp4netns from its first frame until its tap has this filter; nil: none.
	Ban LoopbackBan
}

// Start starts slirp4netns in a process group of its own and closes the child's ends of the
// pipes, so that their end of file tells at once that it has died. The exit pipe's read end and
// the parent-death signal both make it end with the supervisor, whatever ends that; if it is
// stopped then, the kernel lets it go on, as it does with every orphaned process group (setpgid(2)).
func Start(cfg StartConfig) (*Process, error) {
	for range 3 { // a supervisor that is not scheduled for long may be late to hold it
		p, err := start(cfg)
		if !errors.Is(err, errLate) {
			return p, err
		}
	}
	cfg.Ban = nil
	p, err := start(cfg)
	if err == nil {
		p.banErr = errLate
	}
	return p, err
}

func start(cfg StartConfig) (*Process, error) {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	exitR, exitW, err := os.Pipe()
	if err != nil {
		readyR.Close()
		readyW.Close()
		return nil, err
	}
	words, err := childlog.New(cfg.Log)
	if err != nil {
		for _, f := range []*os.File{readyR, readyW, exitR, exitW} {
			f.Close()
		}
		return nil, err
	}
	cmd := exec.Command(cfg.Path, cfg.Args...)
	cmd.Args[0] = "slirp4netns"
	cmd.Env = childEnv()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = words.Child, words.Child
	cmd.ExtraFiles = []*os.File{readyW, exitR}
	if cfg.Target != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, cfg.Target)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if cfg.OwnMounts {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	err = cmd.Start()
	readyW.Close()
	exitR.Close()
	if err != nil {
		readyR.Close()
		exitW.Close()
		words.Close()
		if cfg.OwnMounts && errors.Is(err, unix.EPERM) { // the caller's right to it is known
			return nil, &StartError{Problem: SandboxFailed, Exit: "not started", Words: "unshare or mount: " + unix.EPERM.Error()}
		}
		return nil, fmt.Errorf("start slirp4netns: %w", err)
	}
	if cfg.Ban != nil {
		err = holdAtReady(readyR, cmd.Process.Pid)
	}
	words.Started()
	raiseOpenFiles(cmd.Process.Pid)
	p := &Process{
		cmd: cmd, exit: exitW, words: words, holder: -1,
		ready: make(chan struct{}), readEOF: make(chan struct{}), done: make(chan struct{}),
	}
	go p.wait()
	if err != nil {
		readyR.Close()
		p.Kill()
		return nil, err
	}
	go p.waitReady(readyR, cfg.Ban)
	return p, nil
}

// wait is the one waiter. It reaps the child when the rest of its process group has ended too: the child may
// be a wrapper script, and a new slirp4netns can't have the tap before the old one is gone.
func (p *Process) wait() {
	defer close(p.done)
	defer p.words.Ended()
	for {
		if err := unix.Waitid(unix.P_PID, p.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.stopOnce.Do(func() { p.exit.Close() })
	p.holderEnds()
	_ = p.Signal(syscall.SIGKILL)
	p.holderEnds()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	if p.holder >= 0 {
		unix.Close(p.holder)
	}
	p.holder = -1
	_ = p.cmd.Wait()
}

// holderEnds waits until the process that has the tap has ended, for a bounded time.
func (p *Process) holderEnds() {
	p.mu.Lock()
	fd := p.holder
	p.mu.Unlock()
	if fd < 0 {
		return
	}
	deadline := time.Now().Add(graceful)
	for left := graceful; left > 0; left = time.Until(deadline) {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// raiseOpenFiles lifts slirp4netns's limit on open files to the hard one: every connection and
// every forward is a descriptor of its. It is no failure if that can't be done.
func raiseOpenFiles(pid int) {
	var l unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l) == nil && l.Cur < l.Max {
		l.Cur = l.Max
		_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil)
	}
}

func (p *Process) waitReady(r *os.File, ban LoopbackBan) {
	defer r.Close()
	var b [1]byte
	n, _ := r.Read(b[:])
	ready := n == 1 && b[0] == '1'
	if ban != nil {
		if ready {
			p.banErr = p.impose(ban)
		}
		letGo(r) // also where only the pipe was closed
		_ = p.Signal(syscall.SIGCONT)
	}
	if ready {
		close(p.ready)
	} else {
		close(p.readEOF)
	}
}

// BanError says why the tap of a slirp4netns that is ready lacks [StartConfig].Ban; nil: it has it.
func (p *Process) BanError() error { return p.banErr }

// PID returns slirp4netns's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when slirp4netns has ended and is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// ErrNotReady: slirp4netns ended, or closed its ready descriptor, before it was ready.
var ErrNotReady = errors.New("slirp4netns ended before the network was ready")

// WaitReady waits until the network is ready. Errors: [ErrNotReady] once the process is
// reaped, or ctx's.
func (p *Process) WaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
	case <-p.readEOF:
		select {
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	// Both may have come at once.
	select {
	case <-p.ready:
		return nil
	default:
		return ErrNotReady
	}
}

// Exit describes how slirp4netns ended, once it is done: "exit status 1", "signal: killed".
func (p *Process) Exit() string {
	select {
	case <-p.done:
		return p.cmd.ProcessState.String()
	default:
		return "still running"
	}
}

// Words returns what slirp4netns said last, 8 KiB at most; all of it once it is done.
func (p *Process) Words() string { return p.words.Tail() }

// Stopped reports whether slirp4netns is stopped by a signal, as an operator may want it.
func (p *Process) Stopped() bool {
	p.mu.Lock()
	pid := p.holderPID
	p.mu.Unlock()
	if pid == 0 {
		pid = p.PID()
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
	return strings.HasPrefix(rest, "T")
}

// Signal sends slirp4netns's process group a signal.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	return syscall.Kill(-p.PID(), sig)
}

// Stop ends slirp4netns: by its exit descriptor, then SIGTERM, then SIGKILL; and waits.
func (p *Process) Stop() {
	p.stopOnce.Do(func() { p.exit.Close() })
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = p.Signal(syscall.SIGCONT) // a stopped one does not notice
		t := time.NewTimer(graceful)
		select {
		case <-p.done:
			t.Stop()
			return
		case <-t.C:
		}
		_ = p.Signal(sig)
	}
	<-p.done
}

// Kill ends slirp4netns at once, for one that no longer answers; and waits.
func (p *Process) Kill() {
	p.stopOnce.Do(func() { p.exit.Close() })
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}
