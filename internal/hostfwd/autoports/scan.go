package autoports

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// socket is what a program inside waits on.
type socket struct {
	network string // "tcp" or "udp"
	at      netip.AddrPort
	v6only  bool // on [::], and not for IPv4 as well; not known from the tables below /proc
}

// Scanner lists the sockets of one network namespace. It holds on to the namespace by itself, and
// so outlives the process that it got to it by.
type Scanner struct {
	from interface {
		scan() ([]socket, error)
		close()
	}
}

// NewScanner returns a Scanner of the network namespace that process pid is in. diag is a
// non-blocking NETLINK_SOCK_DIAG socket made there, which it takes over, or negative. Without
// one, or if the kernel can't answer it (a module is missing), it reads /proc/PID/net.
func NewScanner(pid, diag int) (*Scanner, error) {
	if diag >= 0 {
		d := &diagSocket{fd: diag}
		if _, err := d.scan(); err == nil {
			return &Scanner{d}, nil
		}
		d.close()
	}
	return newTables(fmt.Sprintf("/proc/%d/net", pid))
}

func (s *Scanner) scan() ([]socket, error) { return s.from.scan() }

// Close lets the namespace go.
func (s *Scanner) Close() { s.from.close() }

// tables are the open files below /proc/PID/net (proc_pid_net(5)).
type tables struct {
	open []table
	buf  bytes.Buffer
}

type table struct {
	network string
	file    *os.File
}

func newTables(dir string) (*Scanner, error) {
	t := &tables{}
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) && strings.HasSuffix(name, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			t.close()
			return nil, fmt.Errorf("the namespace's sockets: %w", err)
		}
		t.open = append(t.open, table{name[:3], f})
	}
	return &Scanner{t}, nil
}

func (t *tables) close() {
	for _, t := range t.open {
		t.file.Close()
	}
}

func (t *tables) scan() ([]socket, error) {
	var out []socket
	for _, one := range t.open {
		t.buf.Reset()
		if _, err := one.file.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if _, err := t.buf.ReadFrom(one.file); err != nil {
			return nil, err
		}
		for _, at := range hostfwd.Listening(&t.buf, one.network) {
			out = append(out, socket{network: one.network, at: at})
		}
	}
	return out, nil
}

// ephemeral returns the ports that the kernel picks from by itself. The range inside is the
// default one unless somebody changes it there, and then so it is here.
func ephemeral() (first, last uint16) {
	first, last = 32768, 60999
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return first, last
	}
	f := strings.Fields(string(data))
	if len(f) != 2 {
		return first, last
	}
	a, aerr := strconv.ParseUint(f[0], 10, 16)
	b, berr := strconv.ParseUint(f[1], 10, 16)
	if aerr != nil || berr != nil {
		return first, last
	}
	return uint16(a), uint16(b)
}
