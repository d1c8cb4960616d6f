package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/child"
	"golang.org/x/sys/unix"
)

// Serve is the agent's main function: it answers requests on descriptor 3 until the other end closes.
func Serve() error {
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	const fd = 3
	unix.CloseOnExec(fd)
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		var req request
		var rep reply
		var fds []int
		if err = json.Unmarshal(buf[:n], &req); err == nil {
			fds, err = serve(req)
		}
		if err != nil {
			rep = reply{Error: err.Error()}
			if errno, ok := errors.AsType[syscall.Errno](err); ok {
				rep.Errno = int(errno)
			}
		}
		data, err := json.Marshal(rep)
		if err != nil {
			return err
		}
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		err = unix.Sendmsg(fd, data, oob, nil, unix.MSG_NOSIGNAL)
		closeAll(fds)
		if err != nil {
			return err
		}
	}
}

func serve(req request) (fds []int, err error) {
	switch req.Op {
	case "sockets":
		fds, err = sockets(req.Family, req.Type, req.Protocol, min(req.Count, maxBatch))
	case "rootlesskit":
		settings := map[string]string{}
		for k, v := range req.Opaque {
			settings[k] = string(v)
		}
		go runChild(settings, os.Stderr)
	default:
		err = fmt.Errorf("unknown request")
	}
	return fds, err
}

func sockets(family, typ, protocol, n int) ([]int, error) {
	fds := make([]int, 0, n)
	for range n {
		fd, err := unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			if len(fds) > 0 {
				break // out of descriptors: return what there is
			}
			return nil, fmt.Errorf("socket: %w", err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func runChild(opaque map[string]string, log io.Writer) {
	syscall.Umask(0) // the supervisor may have another user id
	if err := child.NewDriver(log).RunChildDriver(opaque, make(chan struct{}), ""); err != nil {
		fmt.Fprintf(log, "rootlesskit child driver: %v\n", err)
	}
}
