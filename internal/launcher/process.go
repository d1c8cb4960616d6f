package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/childlog"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// Descriptors of the started slirp4netns, as [Start] lays them out.
const (
	readyFD = 3
	exitFD  = 4
)

// TargetPath is the path of [StartConfig].Target in slirp4netns's arguments.
const TargetPath = "/proc/self/fd/5"

// stopTimeout is how long slirp4netns gets to exit after its exit descriptor is closed, and again after SIGTERM.
const stopTimeout = 2 * time.Second

// childPath is the PATH of slirp4netns, which only a wrapper script needs.
const childPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// childEnv returns the environment of slirp4netns. It has none of the caller's variables: LD_LIBRARY_PATH and the like
// could make root execute another user's code.
func childEnv() []string { return []string{childPath, "LC_ALL=C"} }

// Process is a slirp4netns that [Start] started. It owns the child and both pipes.
type Process struct {
	cmd    *exec.Cmd
	exit   *os.File      // closing it ends slirp4netns
	ready  chan struct{} // closed when the ready pipe got its byte
	done   chan struct{} // closed when the child is reaped and all its output is read
	output *childlog.Log

	stopOnce sync.Once

	mu        sync.Mutex
	reaped    bool // the process group's id may be reused
	holder    int  // pidfd of the process that has the tap; -1 while unknown
	holderPID int
	banErr    error // why there is no filter on the tap, once ready
}

// StartConfig is the configuration of [Start].
type StartConfig struct {
	Path string    // the binary
	Args []string  // its arguments, which name readyFD and exitFD
	Log  io.Writer // receives stdout and stderr unbuffered
	// Target, if not nil, becomes descriptor 5: a namespace that the arguments name by
	// [TargetPath].
	Target *os.File
	// OwnMounts starts slirp4netns in a new mount namespace, so that its sandbox's mounts don't
	// propagate to the host (upstream pull request 153). It needs CAP_SYS_ADMIN.
	OwnMounts bool
	// Ban is attached to the tap before slirp4netns reads its first frame; nil: none.
	Ban LoopbackBan
}

// Start starts slirp4netns in a process group of its own and closes the child's ends of the
// pipes, so that end of file on them reports its death. The exit pipe and the parent-death signal make
// it exit when the supervisor does, for any reason; if it is stopped then, the kernel continues it, as
// every orphaned process group (setpgid(2)).
func Start(cfg StartConfig) (*Process, error) {
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
	output, err := childlog.New(cfg.Log)
	filled := 0
	if err == nil && cfg.Ban != nil {
		if filled, err = fill(readyW); err != nil {
			output.Close()
		}
	}
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
	cmd.Stdout, cmd.Stderr = output.Child, output.Child
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
		output.Close()
		if cfg.OwnMounts && errors.Is(err, unix.EPERM) { // forbidden although the caller has CAP_SYS_ADMIN
			return nil, &StartError{Problem: SandboxFailed, Exit: "not started", Output: "unshare or mount: " + unix.EPERM.Error()}
		}
		return nil, fmt.Errorf("start slirp4netns: %w", err)
	}
	if cfg.Ban != nil {
		if err = stopAtReady(readyR, cmd.Process.Pid); err == nil {
			err = makeRoom(readyR, filled)
		}
	}
	output.Started()
	raiseOpenFiles(cmd.Process.Pid)
	p := &Process{
		cmd: cmd, exit: exitW, output: output, holder: -1,
		ready: make(chan struct{}), done: make(chan struct{}),
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

// wait is the only waiter. It reaps the child after the rest of its process group has ended: the child may be a
// wrapper script, and a new slirp4netns can't open the tap before the old one has closed it.
func (p *Process) wait() {
	defer close(p.done)
	defer p.output.Ended()
	for {
		if err := unix.Waitid(unix.P_PID, p.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.stopOnce.Do(func() { p.exit.Close() })
	p.waitHolder()
	_ = p.Signal(syscall.SIGKILL)
	p.waitHolder()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	if p.holder >= 0 {
		unix.Close(p.holder)
	}
	p.holder = -1
	_ = p.cmd.Wait()
}

// waitHolder waits up to stopTimeout until the process that has the tap has ended.
func (p *Process) waitHolder() {
	p.mu.Lock()
	fd := p.holder
	p.mu.Unlock()
	if fd < 0 {
		return
	}
	deadline := time.Now().Add(stopTimeout)
	for left := stopTimeout; left > 0; left = time.Until(deadline) {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// raiseOpenFiles raises slirp4netns's limit on open files to the hard limit: it uses a descriptor for every
// connection and every forward. Errors are ignored.
func raiseOpenFiles(pid int) {
	var l unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l) == nil && l.Cur < l.Max {
		l.Cur = l.Max
		_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil)
	}
}

func (p *Process) waitReady(r *os.File, ban LoopbackBan) {
	defer r.Close()
	ready := p.readReady(r, ban != nil)
	if ban != nil {
		if ready {
			p.banErr = p.applyBan(ban)
		}
		cancelStop(r) // also if slirp4netns only closed the pipe
		_ = p.Signal(syscall.SIGCONT)
	}
	if ready {
		close(p.ready)
	}
}

// BanError returns why [StartConfig].Ban is not attached to the tap; nil if it is. Call it when slirp4netns is
// ready.
func (p *Process) BanError() error { return p.banErr }

// PID returns slirp4netns's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when slirp4netns has ended and is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// ErrNotReady means that slirp4netns exited, or closed its ready descriptor, before it was ready.
var ErrNotReady = errors.New("slirp4netns ended before the network was ready")

// WaitReady waits until the network is ready. Errors: [ErrNotReady] once the process is
// reaped, or ctx's.
func (p *Process) WaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	// Both may have happened.
	select {
	case <-p.ready:
		return nil
	default:
		return ErrNotReady
	}
}

// Exit describes how slirp4netns ended: "exit status 1", "signal: killed", or "still running".
func (p *Process) Exit() string {
	select {
	case <-p.done:
		return p.cmd.ProcessState.String()
	default:
		return "still running"
	}
}

// Output returns the last 8 KiB of slirp4netns's output so far.
func (p *Process) Output() string { return p.output.Tail() }

// Stopped reports whether slirp4netns is stopped by a signal.
func (p *Process) Stopped() bool {
	p.mu.Lock()
	pid := p.holderPID
	p.mu.Unlock()
	if pid == 0 {
		pid = p.PID()
	}
	return isStopped(pid)
}

func isStopped(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && s.State == 'T'
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

// Stop stops slirp4netns by its exit descriptor, then SIGTERM, then SIGKILL, and waits for it.
func (p *Process) Stop() {
	p.stopOnce.Do(func() { p.exit.Close() })
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = p.Signal(syscall.SIGCONT) // it may be stopped
		t := time.NewTimer(stopTimeout)
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

// Kill kills slirp4netns and waits for it.
func (p *Process) Kill() {
	p.stopOnce.Do(func() { p.exit.Close() })
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}
