// Package slirpapi forwards ports through the API socket of slirp4netns. It exists because
// that socket is easily misused: a request in two pieces is refused, one without a protocol
// crashes slirp4netns, a client that connects and sends nothing stops all the namespace's
// traffic, invalid ports are accepted silently, and every refusal has the same text.
//
// A [Client] implements the protocol safely. A [Handler] makes it a port handler of a
// [hostfwd.Manager], for a slirp4netns that we supervise. A [Foreign] works on one that another
// program started.
//
// One connection carries one request:
//
//	client                                slirp4netns
//	connect ----------------------------> accept; its loop waits from here ...
//	one write of less than 4096 bytes --> one read ... to here
//	shut down the writing side
//	read to the end of file <------------ reply, close
//
// Statements about slirp4netns here were verified with versions 0.2.3 to 1.3.3.
package slirpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/peercred"
)

const (
	// 1,100 forwards list as 123 KB; 65,535 of each protocol as 15 MB.
	maxReply = 64 << 20

	defaultTimeout = 10 * time.Second
)

// Client makes requests to the API socket at Path. It may be used by several goroutines.
type Client struct {
	Path    string
	Timeout time.Duration // for one request; 0: 10 s. An earlier deadline of the context applies.
}

type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
}

// Add opens f and returns its id. Without a guest address, it leads to the network's address +100. f must be one that
// a [hostfwd.Manager] with a [Handler] has checked, with a host port and proto tcp or udp: slirp4netns does not check
// it. A [*RefusedError] does not give the reason; [hostfwd.Diagnose] may find it.
func (c *Client) Add(ctx context.Context, f hostfwd.Forward) (id int, err error) {
	reply, err := c.call(ctx, request{"add_hostfwd", wireForward{
		Proto: f.Proto, HostAddr: f.HostIP, HostPort: float64(f.HostPort), GuestAddr: f.GuestIP, GuestPort: float64(f.GuestPort),
	}})
	if err != nil {
		return 0, err
	}
	return parseAdd(reply.data)
}

// Remove closes the forward's listening socket; open connections continue.
func (c *Client) Remove(ctx context.Context, id int) error {
	reply, err := c.call(ctx, request{"remove_hostfwd", map[string]int{"id": id}})
	if err != nil {
		return err
	}
	return parseRemove(reply.data)
}

// List returns all forwards, in slirp4netns's order. Ids start at 1 in each slirp4netns process.
func (c *Client) List(ctx context.Context) ([]hostfwd.Status, error) {
	list, _, err := c.list(ctx)
	return list, err
}

func (c *Client) list(ctx context.Context) (list []hostfwd.Status, pid int, err error) {
	reply, err := c.call(ctx, request{Execute: "list_hostfwd"})
	if err != nil {
		return nil, 0, err
	}
	list, err = parseList(reply.data)
	return list, reply.pid, err
}

type reply struct {
	data []byte
	pid  int // of the slirp4netns process; 0 if outside this PID namespace
}

// call makes one request. It takes at most c.Timeout in total.
func (c *Client) call(ctx context.Context, r request) (reply, error) {
	msg, err := json.Marshal(r)
	if err != nil {
		return reply{}, err
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, defaultTimeout))
	defer cancel()
	got, err := c.exchange(limited, msg)
	switch {
	case err == nil:
		return got, nil
	// A dial has the same deadline, and may notice it before limited does.
	case errors.Is(limited.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return reply{}, timedOut(c.Path)
	case limited.Err() != nil:
		return reply{}, limited.Err()
	}
	return reply{}, err
}

func (c *Client) exchange(ctx context.Context, msg []byte) (reply, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	// Until the request is sent, slirp4netns forwards no traffic.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(msg); err != nil {
		return reply{}, noReply(c.Path, err)
	}
	if err := conn.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) { // it has already answered and closed
		return reply{}, noReply(c.Path, err)
	}
	data, err := io.ReadAll(io.LimitReader(conn, maxReply+1))
	switch {
	case err != nil:
		return reply{}, noReply(c.Path, err)
	case len(data) == 0:
		return reply{}, noReply(c.Path, io.ErrUnexpectedEOF)
	case len(data) > maxReply:
		return reply{}, unexpected(data, fmt.Errorf("more than %d bytes", maxReply))
	}
	r := reply{data: data}
	if cred, err := peercred.Get(conn); err == nil {
		r.pid = int(cred.Pid)
	}
	return r, nil
}

func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	path := c.Path
	if strings.HasPrefix(path, "@") {
		path = "./" + path // package net would use an abstract socket
	}
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			var oe *os.SyscallError
			if errors.As(err, &oe) {
				err = oe.Err
			}
			if errors.Is(err, syscall.EINVAL) {
				err = errors.New("the path is too long for a socket")
			}
			return nil, fault.Errorf(fault.NotFound, "", "connect to the slirp4netns API socket %s: %w", c.Path, err)
		}
		// The listen queue is full.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
