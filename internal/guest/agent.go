// Package guest runs what has to be done inside the target's network namespace: it makes sockets
// for the supervisor, and is the process of RootlessKit's child driver. It exists because the supervisor
// itself can't go there: an ordinary user must join a user namespace first, which only a process of
// its own can (setns(2)).
//
// The agent is this same program, started by [Start] through package nsexec with the hidden
// command [Command]. It serves requests on descriptor 3, a SOCK_SEQPACKET pair: one JSON request
// a packet, one JSON reply, descriptors by SCM_RIGHTS. It ends when the supervisor's end closes,
// so it can't outlive it.
//
// Who is root inside may be able to trace it, where it had to join the user namespace. So it has
// nothing from its first instruction on but that socket, its stderr and the network namespace:
// [nsexec.Confine] says what was taken. What it replies may be theirs.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/childlog"
	"github.com/slirpctl/slirpctl/internal/fault"
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
	Opaque   map[string][]byte `json:"opaque,omitempty"`
}

type reply struct {
	Error string `json:"error,omitempty"`
	Errno int    `json:"errno,omitempty"`
}

// Agent is a running helper. Its methods may be called concurrently.
type Agent struct {
	// Exposed says why the agent has the caller's files in view, where that could not be helped.
	Exposed error

	proc *os.Process
	dir  string // which is / in there; "": no other than here
	done chan struct{}

	mu   sync.Mutex // one request at a time
	conn *os.File
}

// Config says where an agent runs, and what it has besides.
type Config struct {
	Label  string    // its last argument, for those who look with ps
	Netns  *os.File  // the network namespace
	Userns *os.File  // entered first; nil: stay
	Log    io.Writer // gets the agent's stderr, as it comes; nil: none
	// Dir is all that the agent has of the file system; "": nothing.
	Dir string
	// Tools lets the agent run the programs that RootlessKit's transparent mode needs: it has the
	// whole file system, PATH, and the capabilities for addresses and rules.
	Tools bool
}

// toolCaps are what ip(8), nft(8), iptables(8) and sockets with foreign addresses need.
const toolCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_BIND_SERVICE

// toolPath is the search path for those programs.
const toolPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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
		Env:       []string{"GOMAXPROCS=2"},
		Files:     []*os.File{nil, nil, words.Child, child},
		JoinUser:  cfg.Userns,
		JoinNet:   cfg.Netns,
		Confine:   &nsexec.Confine{Root: cfg.Dir},
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	if cfg.Tools {
		cmd.Env = append(cmd.Env, toolPath)
		cmd.Confine = &nsexec.Confine{Root: "/", Caps: toolCaps}
	}
	proc, err := cmd.Start()
	exposed := nsexec.RootError(err)
	if exposed != nil {
		cmd.Confine.Root = "/"
		proc, err = cmd.Start()
	}
	if err != nil {
		conn.Close()
		words.Close()
		return nil, fmt.Errorf("start the helper in the namespace: %w", err)
	}
	words.Started()
	a := &Agent{Exposed: exposed, proc: proc, done: make(chan struct{}), conn: conn}
	if cmd.Confine.Root != "/" {
		a.dir = cfg.Dir
	}
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

func (a *Agent) call(ctx context.Context, req request) (fds []int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d, ok := ctx.Deadline(); ok {
		_ = a.conn.SetDeadline(d)
	} else {
		_ = a.conn.SetDeadline(time.Time{})
	}
	data, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if _, err := a.conn.Write(data); err != nil {
		return nil, a.failed(req, err)
	}
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*maxBatch))
	rc, err := a.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n, oobn, flags int
	var rerr error
	err = rc.Read(func(fd uintptr) bool {
		n, oobn, flags, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
	})
	switch {
	case err == nil:
		err = rerr
	case !errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrEnded // closed meanwhile, which package os has no error for here
	}
	if err == nil && n == 0 {
		err = ErrEnded
	}
	if err != nil {
		return nil, a.failed(req, err)
	}
	fds = rights(oob[:oobn])
	if flags&unix.MSG_CTRUNC != 0 && len(fds) == 0 {
		return nil, fmt.Errorf("%s: %w", req.Op, unix.EMFILE) // no room for a single one
	}
	var rep reply
	if err := json.Unmarshal(buf[:n], &rep); err != nil {
		closeAll(fds)
		return nil, a.failed(req, err)
	}
	if rep.Error != "" {
		closeAll(fds)
		remote := &fault.Error{Msg: "in the namespace: " + req.Op + ": " + rep.Error}
		if rep.Errno != 0 {
			remote.Err = syscall.Errno(rep.Errno)
		}
		return nil, remote
	}
	return fds, nil
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

// Sockets returns up to n new sockets that live in the namespace, non-blocking and close-on-exec; at
// least one. The caller owns them. family is AF_INET or AF_INET6, typ SOCK_STREAM or SOCK_DGRAM.
func (a *Agent) Sockets(ctx context.Context, family, typ, n int) ([]int, error) {
	return a.sockets(ctx, family, typ, 0, min(n, maxBatch))
}

// Netlink returns a netlink(7) socket of the namespace, non-blocking and close-on-exec, for a protocol
// such as NETLINK_SOCK_DIAG. The caller owns it.
func (a *Agent) Netlink(ctx context.Context, protocol int) (fd int, err error) {
	fds, err := a.sockets(ctx, unix.AF_NETLINK, unix.SOCK_RAW, protocol, 1)
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// sockets returns one to n sockets that are what was asked for: else whoever got hold of the agent could
// have this process wait for, or write to, something else.
func (a *Agent) sockets(ctx context.Context, family, typ, protocol, n int) ([]int, error) {
	req := request{Op: "sockets", Family: family, Type: typ, Protocol: protocol, Count: n}
	fds, err := a.call(ctx, req)
	if err != nil {
		return nil, err
	}
	ok := len(fds) > 0 && len(fds) <= n
	for _, fd := range fds {
		domain, err1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		kind, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		ok = ok && err1 == nil && err2 == nil && domain == family && kind == typ && unix.SetNonblock(fd, true) == nil
	}
	if !ok {
		closeAll(fds)
		return nil, a.failed(req, errors.New("not what was asked for"))
	}
	return fds, nil
}

// RunChildDriver starts RootlessKit's builtin child driver in the namespace.
func (a *Agent) RunChildDriver(ctx context.Context, opaque map[string]string) error {
	seen := map[string][]byte{} // which JSON leaves as they are, other than strings
	for k, v := range opaque {
		if below, ok := strings.CutPrefix(v, a.dir+"/"); ok && a.dir != "" {
			v = "/" + below
		}
		seen[k] = []byte(v)
	}
	_, err := a.call(ctx, request{Op: "rootlesskit", Opaque: seen})
	return err
}
