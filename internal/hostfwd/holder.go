package hostfwd

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// holding is how a socket occupies a port.
type holding int

const (
	holdsOpen  holding = iota // listens, or is bound only
	holdsConn                 // has a connection
	holdsEnded                // in TIME_WAIT: no process owns it any more
)

// holderOf finds the process whose socket occupies f's host port, as far as the caller may see, and how; a listener
// is preferred to a connection. With anyAddr it matches a socket on any address. ok reports
// whether there is such a socket.
func holderOf(f Forward, anyAddr bool) (by Process, kind holding, ok bool) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return by, kind, false
	}
	d := NewSockDiag(fd)
	defer d.Close()
	sockets, _ := d.ask(nil, f.Proto.Network(), anyState, f.HostPort)
	// For sockets that are only bound, Linux ignores the port filter.
	sockets = slices.DeleteFunc(sockets, func(s Socket) bool { return s.Local.Port() != f.HostPort || !anyAddr && !s.blocks(f) })
	if len(sockets) == 0 {
		return by, kind, false
	}
	kind = slices.MinFunc(sockets, func(a, b Socket) int { return cmp.Compare(a.holding(), b.holding()) }).holding()
	links := map[string]bool{}
	for _, s := range sockets {
		if s.holding() == kind {
			links[fmt.Sprintf("socket:[%d]", s.inode)] = true
		}
	}
	if kind != holdsEnded {
		by = socketOwner(links)
	}
	return by, kind, true
}

func (s Socket) holding() holding {
	switch {
	case s.Network == "udp", s.state == unix.BPF_TCP_LISTEN, s.state == unix.BPF_TCP_CLOSE, s.state > unix.BPF_TCP_NEW_SYN_RECV:
		return holdsOpen // the last is TCP_BOUND_INACTIVE
	case s.inode == 0:
		return holdsEnded
	}
	return holdsConn
}

// blocks reports whether s, which has f's host port, keeps f from binding to it.
func (s Socket) blocks(f Forward) bool {
	have := Forward{Proto: TCP, HostIP: s.Local.Addr().WithZone("")}
	if s.V6Only {
		have.Proto = TCP6
	}
	f.HostIP = f.HostIP.WithZone("")
	return have.clashes(f)
}

// socketOwner returns the process with the lowest PID that has one of the sockets open. sockets
// are link texts of /proc/PID/fd/N.
func socketOwner(sockets map[string]bool) Process {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		fds, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue // gone, or another user's
		}
		for _, fd := range fds {
			link, err := os.Readlink(dir + "/fd/" + fd.Name())
			if err != nil || !sockets[link] {
				continue
			}
			comm, err := os.ReadFile(dir + "/comm")
			if err != nil {
				break
			}
			return Process{PID: pid, Name: string(bytes.TrimSpace(comm))}
		}
	}
	return Process{}
}
