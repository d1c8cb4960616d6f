// Package guest runs what has to be done inside the target's network namespace: sysctls,
// waiting for addresses, making sockets for the direct handler, RootlessKit's child driver. It
// exists because the supervisor itself can't go there: an ordinary user must join the user
// namespace first, which only a process of its own can (setns(2)).
//
// The agent is this same program, started by [Start] through package nsexec with the hidden
// command [Command]. It serves requests on descriptor 3, a SOCK_SEQPACKET pair: one JSON request
// a packet, one JSON reply, descriptors by SCM_RIGHTS. It ends when the supervisor's end closes,
// so it can't outlive it.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/childlog"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// Command is the hidden argument that makes slirpctl an agent.
const Command = "__guest"

// maxBatch is how many descriptors fit into one message (SCM_MAX_FD, unix(7)).
const maxBatch = 253

// ErrEnded: the agent is gone, by itself or killed.
var ErrEnded = errors.New("the helper in the namespace has ended")

type request struct {
	Op       string            `json:"op"`
	Family   int               `json:"family,omitempty"`
	Type     int               `json:"type,omitempty"`
	Protocol int               `json:"protocol,omitempty"`
	Count    int               `json:"count,omitempty"`
	Name     string            `json:"name,omitempty"`
	Value    string            `json:"value,omitempty"`
	Keep     string            `json:"keep,omitempty"`
	Timeout  time.Duration     `json:"timeout,omitempty"`
	Opaque   map[string]string `json:"opaque,omitempty"`
}

type reply struct {
	Error string `json:"error,omitempty"`
	Errno int    `json:"errno,omitempty"`
	Value string `json:"value,omitempty"`
}

// RemoteError is a failure inside the namespace.
type RemoteError struct {
	Op, Msg string
	Errno   syscall.Errno // 0: none
}

func (e *RemoteError) Error() string { return "in the namespace: " + e.Op + ": " + e.Msg }

func (e *RemoteError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Agent is a running helper. Its methods may be called concurrently.
type Agent struct {
	proc *os.Process
	done chan struct{}

	mu   sync.Mutex // one request at a time
	conn *os.File
}

// Config says where an agent runs.
type Config struct {
	Label  string    // its last argument, for those who look with ps
	Netns  *os.File  // the network namespace
	Userns *os.File  // entered first; nil: stay
	Log    io.Writer // gets the agent's stderr, as it comes; nil: none
	// NeedTools keeps PATH, for the programs that RootlessKit's transparent mode runs.
	Env []string
}

// Start starts an agent.
func Start(cfg Config) (*Agent, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	child := os.NewFile(uintptr(pair[1]), "guest")
	defer child.Close()
	_ = unix.SetNonblock(pair[0], true)
	conn := os.NewFile(uintptr(pair[0]), "guest")

	out := cfg.Log
	if out == nil {
		out = io.Discard
	}
	words, err := childlog.New(out)
	if err != nil {
		conn.Close()
		return nil, err
	}
	cmd := nsexec.Cmd{
		Args:      []string{"slirpctl", Command, cfg.Label},
		Env:       append([]string{"GOMAXPROCS=2"}, cfg.Env...),
		Files:     []*os.File{nil, nil, words.Child, child},
		JoinUser:  cfg.Userns,
		JoinNet:   cfg.Netns,
		KeepCaps:  cfg.Userns != nil,
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	proc, err := cmd.Start()
	if err != nil {
		conn.Close()
		words.Close()
		return nil, fmt.Errorf("start the helper in the namespace: %w", err)
	}
	words.Started()
	a := &Agent{proc: proc, done: make(chan struct{}), conn: conn}
	go func() {
		defer close(a.done)
		defer words.Ended()
		_, _ = proc.Wait()
	}()
	return a, nil
}

// PID returns the agent's process id: a process inside both namespaces.
func (a *Agent) PID() int { return a.proc.Pid }

// Done is closed when the agent has ended and is reaped.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Close ends the agent and waits for it.
func (a *Agent) Close() error {
	err := a.conn.Close()
	select {
	case <-a.done:
	case <-time.After(2 * time.Second):
		_ = a.proc.Kill()
		<-a.done
	}
	return err
}

// Kill ends the agent at once; it does not wait.
func (a *Agent) Kill() { _ = a.proc.Kill() }

func (a *Agent) call(ctx context.Context, req request) (reply, []int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d, ok := ctx.Deadline(); ok {
		_ = a.conn.SetDeadline(d)
	} else {
		_ = a.conn.SetDeadline(time.Time{})
	}
	data, err := json.Marshal(req)
	if err != nil {
		return reply{}, nil, err
	}
	if _, err := a.conn.Write(data); err != nil {
		return reply{}, nil, a.failed(req, err)
	}
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*maxBatch))
	rc, err := a.conn.SyscallConn()
	if err != nil {
		return reply{}, nil, err
	}
	var n, oobn int
	var rerr error
	err = rc.Read(func(fd uintptr) bool {
		n, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
	})
	if err == nil {
		err = rerr
	}
	if err == nil && n == 0 {
		err = ErrEnded
	}
	if err != nil {
		return reply{}, nil, a.failed(req, err)
	}
	fds := rights(oob[:oobn])
	var rep reply
	if err := json.Unmarshal(buf[:n], &rep); err != nil {
		closeAll(fds)
		return reply{}, nil, a.failed(req, err)
	}
	if rep.Error != "" {
		closeAll(fds)
		return reply{}, nil, &RemoteError{req.Op, rep.Error, syscall.Errno(rep.Errno)}
	}
	return rep, fds, nil
}

// failed turns a broken conversation into an error. After a deadline the next reply would
// answer the wrong question, so the agent is ended.
func (a *Agent) failed(req request, err error) error {
	a.conn.Close()
	_ = a.proc.Kill() // it may be past noticing
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) {
		err = ErrEnded
	}
	return fmt.Errorf("%s: %w", req.Op, err)
}

func rights(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Sockets returns n new sockets that live in the namespace, non-blocking and close-on-exec.
// The caller owns them. family is AF_INET or AF_INET6, typ SOCK_STREAM or SOCK_DGRAM.
func (a *Agent) Sockets(ctx context.Context, family, typ, n int) ([]int, error) {
	var out []int
	for len(out) < n {
		_, fds, err := a.call(ctx, request{Op: "sockets", Family: family, Type: typ, Count: min(n-len(out), maxBatch)})
		if err != nil {
			closeAll(out)
			return nil, err
		}
		if len(fds) == 0 {
			closeAll(out)
			return nil, fmt.Errorf("sockets: %w", ErrEnded)
		}
		out = append(out, fds...)
	}
	return out, nil
}

// DiagSocket returns a NETLINK_SOCK_DIAG socket (sock_diag(7)) of the namespace, non-blocking and
// close-on-exec. The caller owns it.
func (a *Agent) DiagSocket(ctx context.Context) (fd int, err error) {
	_, fds, err := a.call(ctx, request{Op: "sockets", Family: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_SOCK_DIAG, Count: 1})
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		closeAll(fds)
		return -1, fmt.Errorf("sockets: %w", ErrEnded)
	}
	return fds[0], nil
}

// SetSysctl writes a sysctl of the namespace, named by its path below /proc/sys, and returns the
// value it had. A missing one gives an error that is fs.ErrNotExist.
func (a *Agent) SetSysctl(ctx context.Context, name, value string) (old string, err error) {
	return a.SetSysctlUnless(ctx, name, "", value)
}

// SetSysctlUnless is SetSysctl, but leaves a sysctl alone whose value is keep.
func (a *Agent) SetSysctlUnless(ctx context.Context, name, keep, value string) (old string, err error) {
	rep, _, err := a.call(ctx, request{Op: "sysctl", Name: name, Value: value, Keep: keep})
	return rep.Value, err
}

// WaitIPv6 waits until the interface has a global IPv6 address that is past duplicate address
// detection, and returns it.
func (a *Agent) WaitIPv6(ctx context.Context, tap string) (string, error) {
	timeout := time.Minute
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	rep, _, err := a.call(ctx, request{Op: "ipv6", Name: tap, Timeout: timeout})
	return rep.Value, err
}

// RunChildDriver starts RootlessKit's builtin child driver in the namespace.
func (a *Agent) RunChildDriver(ctx context.Context, opaque map[string]string) error {
	_, _, err := a.call(ctx, request{Op: "rootlesskit", Opaque: opaque})
	return err
}
