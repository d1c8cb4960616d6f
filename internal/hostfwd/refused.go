package hostfwd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Process is a process of this host. PID 0 means a process that can't be seen.
type Process struct {
	PID  int
	Name string // as in /proc/PID/comm, at most 15 bytes
}

// portInUse is a host port that somebody else has; by.PID is 0 if the caller may not look.
func portInUse(f Forward, by Process, kind holding) error {
	e := &fault.Error{Kind: fault.Conflict, Err: syscall.EADDRINUSE, Help: "take another host port, or 0 for a free one"}
	who := by.describe()
	switch kind {
	case holdsConn:
		who = "a connection of " + who
	case holdsEnded:
		who, e.Help = "a connection that has just ended", "wait a minute, or take another host port"
	}
	e.Msg = hostSide(f) + " is in use by " + who
	return e
}

// PrivilegedPort returns the error for a host port that needs privilege. start is
// net.ipv4.ip_unprivileged_port_start, below which ports are privileged, for IPv6 too; -1 if it can't be read.
func PrivilegedPort(f Forward, start int) error {
	e := &fault.Error{Kind: fault.Unsupported, Err: syscall.EACCES, Help: "take another host port"}
	switch {
	case start < 0:
		e.Msg = hostSide(f) + " needs privilege"
	case int(f.HostPort) >= start:
		e.Msg = hostSide(f) + " is forbidden by this host's security policy"
	default:
		e.Msg = fmt.Sprintf("%s is a privileged port: below net.ipv4.ip_unprivileged_port_start, which is %d", hostSide(f), start)
		e.Help = fmt.Sprintf("take a host port from %d on, or allow this one for every user: sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", start, f.HostPort)
	}
	return e
}

func notLocal(f Forward) error {
	return &fault.Error{
		Kind: fault.Unsupported, Msg: fmt.Sprintf("%s is not an address of this host", f.HostIP), Err: syscall.EADDRNOTAVAIL,
		Help: "\"ip addr\" lists this host's addresses; without an address, all are listened on",
	}
}

func noIPv6(f Forward) error {
	return &fault.Error{
		Kind: fault.Unsupported, Msg: fmt.Sprintf("can't listen on [%s]: this host has no IPv6", f.HostIP), Err: syscall.EAFNOSUPPORT,
		Help: "use an IPv4 host address",
	}
}

// FileLimit returns the error for a handler that may not open as many files as it needs.
func FileLimit(need, limit uint64) error {
	return fault.New(fault.Unsupported, fmt.Sprintf("%d open files are needed, and the limit is %d", need, limit),
		"raise the limit (ulimit -n, LimitNOFILE= of systemd), or forward fewer ports")
}

// UnprivilegedPortStart returns net.ipv4.ip_unprivileged_port_start, the first port that any
// user may listen on, or -1 if it can't be read.
func UnprivilegedPortStart() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return -1
	}
	return n
}

// hostSide returns what f listens on, such as "127.0.0.1:80/tcp".
func hostSide(f Forward) string {
	return fmt.Sprintf("%s:%d/%s", bracketed(f.HostIP), f.HostPort, f.Proto)
}
