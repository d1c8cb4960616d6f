// Package sdnotify tells a service manager what slirpctl is doing, so that a unit of Type=notify
// counts as started when the network is there and not before. It is sd_notify(3) without a
// library that would weigh more than what it does.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// Socket is the variable that names the manager's socket.
const Socket = "NOTIFY_SOCKET"

// Send sends assignments, as in "READY=1", in one datagram to the socket called name: a path, or
// an abstract address with an @ in front. With "" it does nothing: nobody asked.
func Send(name string, assignments ...string) error {
	if name == "" {
		return nil
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return fmt.Errorf("%s=%q: neither a path nor an abstract address", Socket, name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("%s: %w", Socket, err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("%s: %w", Socket, err)
	}
	return nil
}

// Ready says that the process mainPID is ready, and what it does in a few words. With mainPID 0 it
// is the calling process.
func Ready(mainPID int, status string) error {
	lines := []string{"READY=1", "STATUS=" + strings.ReplaceAll(status, "\n", " ")}
	if mainPID != 0 {
		lines = append(lines, fmt.Sprintf("MAINPID=%d", mainPID))
	}
	return Send(os.Getenv(Socket), lines...)
}
