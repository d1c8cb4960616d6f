package hostfwd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Process is a process of this host. PID 0 means one that can't be seen.
type Process struct {
	PID  int
	Name string // as in /proc/PID/comm, at most 15 bytes
}

// PortInUseError is a host port that another socket has. It unwraps to syscall.EADDRINUSE.
type PortInUseError struct {
	Forward Forward
	By      Process // PID 0 if it belongs to somebody else and the caller may not look
	kind    holding
}

func (e *PortInUseError) Error() string {
	by := "a process that you can't see"
	if e.By.PID != 0 {
		by = fmt.Sprintf("%s (pid %d)", e.By.Name, e.By.PID)
	}
	switch e.kind {
	case holdsConn:
		by = "a connection of " + by
	case holdsEnded:
		by = "a connection that has just ended"
	}
	return hostSide(e.Forward) + " is in use by " + by
}

func (e *PortInUseError) Unwrap() error { return syscall.EADDRINUSE }

// Hint says what the user can do.
func (e *PortInUseError) Hint() string {
	if e.kind == holdsEnded {
		return "wait a minute, or take another host port"
	}
	return "take another host port, or 0 for a free one"
}

// PrivilegedPortError is a host port that needs a privilege which the caller lacks. It
// unwraps to syscall.EACCES.
type PrivilegedPortError struct {
	Forward Forward
	// Start is net.ipv4.ip_unprivileged_port_start: ports below it are privileged, for IPv6
	// too. -1 if it can't be read.
	Start int
}

func (e *PrivilegedPortError) Error() string {
	if e.Start < 0 {
		return fmt.Sprintf("%s needs privilege", hostSide(e.Forward))
	}
	if int(e.Forward.HostPort) >= e.Start {
		return fmt.Sprintf("%s is forbidden by this host's security policy", hostSide(e.Forward))
	}
	return fmt.Sprintf("%s is a privileged port: below net.ipv4.ip_unprivileged_port_start, which is %d", hostSide(e.Forward), e.Start)
}

func (e *PrivilegedPortError) Unwrap() error { return syscall.EACCES }

// Hint says what the user can do.
func (e *PrivilegedPortError) Hint() string {
	if e.Start < 0 || int(e.Forward.HostPort) >= e.Start {
		return "take another host port"
	}
	return fmt.Sprintf("take a host port from %d on, or let everybody have this one: sudo sysctl net.ipv4.ip_unprivileged_port_start=%d",
		e.Start, e.Forward.HostPort)
}

// NotLocalAddrError is a host address that no interface of this host has. It unwraps to
// syscall.EADDRNOTAVAIL.
type NotLocalAddrError struct{ Forward Forward }

func (e *NotLocalAddrError) Error() string {
	return fmt.Sprintf("%s is not an address of this host", e.Forward.HostIP)
}

func (e *NotLocalAddrError) Unwrap() error { return syscall.EADDRNOTAVAIL }

// Hint says what the user can do.
func (e *NotLocalAddrError) Hint() string {
	return "\"ip addr\" lists this host's addresses; without an address, all are listened on"
}

// NoIPv6Error is an IPv6 host address on a host without IPv6. It unwraps to
// syscall.EAFNOSUPPORT.
type NoIPv6Error struct{ Forward Forward }

func (e *NoIPv6Error) Error() string {
	return fmt.Sprintf("can't listen on [%s]: this host has no IPv6", e.Forward.HostIP)
}

func (e *NoIPv6Error) Unwrap() error { return syscall.EAFNOSUPPORT }

// Hint says what the user can do.
func (e *NoIPv6Error) Hint() string { return "use an IPv4 host address" }

// FileLimitError is an open-file limit that is too low for what is wanted.
type FileLimitError struct {
	Need, Limit uint64 // open files
}

func (e *FileLimitError) Error() string {
	return fmt.Sprintf("%d open files are needed, and the limit is %d", e.Need, e.Limit)
}

// Hint says what the user can do.
func (e *FileLimitError) Hint() string {
	return "raise the limit (ulimit -n, LimitNOFILE= of systemd), or forward fewer ports"
}

// UnprivilegedPortStart returns net.ipv4.ip_unprivileged_port_start, the first port that
// anybody may listen on, or -1 if it can't be read.
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

// hostSide prints what f listens on, such as "127.0.0.1:80/tcp".
func hostSide(f Forward) string {
	return fmt.Sprintf("%s:%d/%s", bracketed(f.HostIP), f.HostPort, f.Proto)
}
