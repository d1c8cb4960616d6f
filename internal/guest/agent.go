// Package guest runs a helper process inside the target's network namespace. It creates sockets
// for the supervisor and runs RootlessKit's child driver. It exists because the supervisor
// can't enter the namespace itself: an ordinary user must join a user namespace first, which only a
// single-threaded process can do (setns(2)).
//
// The agent is this same program, started by [Start] through package nsexec with the hidden
// command [Command]. It serves requests on descriptor 3, a SOCK_SEQPACKET pair: one JSON request
// a packet, one JSON reply, descriptors by SCM_RIGHTS. It ends when the supervisor's end closes,
// so it can't outlive it.
//
// If it had to join the user namespace, root inside may be able to trace it. So from its first
// instruction it has only that socket, its stderr and the network namespace; see [nsexec.Confine].
// Its replies are not trusted.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

// ErrEnded means that the agent has exited or was killed.
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
	// Exposed says why the agent could not be kept from seeing the caller's files; nil if it can't see them.
	Exposed error

	proc *os.Process
	dir  string // its root directory; "": the caller's or an empty one
	done chan struct{}

	mu   sync.Mutex // one request at a time
	conn *net.UnixConn
}

// Config says where an agent runs, and what it may use.
type Config struct {
	Label  string    // its last argument, shown by ps
	Netns  *os.File  // the network namespace
	Userns *os.File  // joined first; nil: none
	Log    io.Writer // receives the agent's stderr unbuffered; nil: none
	// Dir is the only directory that the agent can see; "": none.
	Dir string
	// Tools lets the agent run the programs that RootlessKit's transparent mode needs: it has the
	// whole file system, PATH, and the capabilities for addresses and rules.
	Tools bool
}

// toolCaps are the capabilities for ip(8), nft(8), iptables(8) and sockets with foreign addresses.
const toolCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_BIND_SERVICE

// toolPath is the search path for those programs.
const toolPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Start starts an agent.
func Start(cfg Config) (*Agent, error) {
	ours, child, err := nsexec.SocketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer child.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	out := cfg.Log
	if out == nil {
		out = io.Discard
	}
	output, err := childlog.New(out)
	if err != nil {
		conn.Close()
		return nil, err
	}
	cmd := nsexec.Cmd{
		Args:      []string{"slirpctl", Command, cfg.Label},
		Env:       []string{"GOMAXPROCS=2"},
		Files:     []*os.File{nil, nil, output.Child, child},
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
		output.Close()
		return nil, fmt.Errorf("start the helper in the namespace: %w", err)
	}
	output.Started()
	a := &Agent{Exposed: exposed, proc: proc, done: make(chan struct{}), conn: conn.(*net.UnixConn)}
	if cmd.Confine.Root != "/" {
		a.dir = cfg.Dir
	}
	go func() {
		defer close(a.done)
		defer output.Ended()
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
	deadline, _ := ctx.Deadline()
	_ = a.conn.SetDeadline(deadline) // zero: none
	data, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if _, err := a.conn.Write(data); err != nil {
		return nil, a.failed(req, err)
	}
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*maxBatch))
	n, oobn, flags, _, err := a.conn.ReadMsgUnix(buf, oob) // sets MSG_CMSG_CLOEXEC
	if err != nil {
		return nil, a.failed(req, err)
	}
	fds = nsexec.Rights(oob[:oobn])
	if flags&unix.MSG_CTRUNC != 0 && len(fds) == 0 {
		return nil, fmt.Errorf("%s: %w", req.Op, unix.EMFILE) // not one descriptor could be received
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

// failed returns the error for a failed request. It kills the agent: after a deadline, the next reply would be
// the answer to this request.
func (a *Agent) failed(req request, err error) error {
	a.conn.Close()
	_ = a.proc.Kill() // it may not notice the closed socket
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = ErrEnded
	}
	return fmt.Errorf("%s: %w", req.Op, err)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Sockets returns at least one and up to n new sockets of the namespace, non-blocking and close-on-exec.
// The caller owns them. family is AF_INET or AF_INET6, typ SOCK_STREAM or SOCK_DGRAM.
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

// sockets returns one to n sockets, and checks that they are of the requested family and type: a process that has
// taken over the agent could otherwise make this process read from or write to other files.
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
		return nil, a.failed(req, errors.New("unexpected descriptors"))
	}
	return fds, nil
}

// RunChildDriver starts RootlessKit's builtin child driver in the namespace.
func (a *Agent) RunChildDriver(ctx context.Context, opaque map[string]string) error {
	seen := map[string][]byte{} // JSON would change strings that are not UTF-8
	for k, v := range opaque {
		if below, ok := strings.CutPrefix(v, a.dir+"/"); ok && a.dir != "" {
			v = "/" + below
		}
		seen[k] = []byte(v)
	}
	_, err := a.call(ctx, request{Op: "rootlesskit", Opaque: seen})
	return err
}
