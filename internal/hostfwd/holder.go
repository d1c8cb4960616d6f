package hostfwd

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// holder is the socket that occupies a host port.
type holder struct {
	by   Process
	kind holding
}

// holding is how a socket occupies a port.
type holding string

const (
	holdsOpen  holding = "" // listens, or is bound only
	holdsConn  holding = "connection"
	holdsEnded holding = "ended connection" // in TIME_WAIT: no process owns it any more
)

// holderOf finds the socket that occupies f's host port, as far as the caller may see; a listener
// is preferred to a connection. With anyAddr it matches a socket on any address. ok reports
// whether there is such a socket.
func holderOf(f Forward, anyAddr bool) (h holder, ok bool) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return holder{}, false
	}
	d := NewSockDiag(fd)
	defer d.Close()
	sockets, _ := d.ask(nil, f.Proto.Network(), anyState, f.HostPort)
	inodes := map[holding]map[string]bool{}
	for _, s := range sockets {
		if s.Local.Port() != f.HostPort { // for sockets that are only bound, Linux ignores the port filter
			continue
		}
		if !anyAddr && !s.blocks(f) {
			continue
		}
		k := s.holding()
		if inodes[k] == nil {
			inodes[k] = map[string]bool{}
		}
		inodes[k][fmt.Sprintf("socket:[%d]", s.inode)] = true
	}
	for _, k := range []holding{holdsOpen, holdsConn, holdsEnded} {
		if inodes[k] == nil {
			continue
		}
		h.kind = k
		if k != holdsEnded {
			h.by = socketOwner(inodes[k])
		}
		return h, true
	}
	return holder{}, false
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
	have, want := s.Local.Addr().WithZone(""), f.HostIP.WithZone("")
	switch {
	case have == want, f.dualStack():
		return true
	case have == netip.IPv6Unspecified() && !s.V6Only:
		return true
	}
	return have.Is4() == want.Is4() && (have.IsUnspecified() || want.IsUnspecified())
}

// socketOwner returns the process with the lowest PID that has one of the sockets open. sockets
// are link texts of /proc/PID/fd/N.
func socketOwner(sockets map[string]bool) Process {
	proc, err := os.Open("/proc")
	if err != nil {
		return Process{}
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
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
