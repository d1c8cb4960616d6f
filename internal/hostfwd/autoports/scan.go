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
}

// Scanner lists the sockets of one network namespace. It holds the namespace's tables open
// (proc_pid_net(5)), so it outlives the process that it got them from.
type Scanner struct {
	tables []table
	buf    bytes.Buffer
}

type table struct {
	network string
	file    *os.File
}

// NewScanner opens the tables of the network namespace that process pid is in.
func NewScanner(pid int) (*Scanner, error) { return newScanner(fmt.Sprintf("/proc/%d/net", pid)) }

func newScanner(dir string) (*Scanner, error) {
	s := &Scanner{}
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) && strings.HasSuffix(name, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("the namespace's sockets: %w", err)
		}
		s.tables = append(s.tables, table{name[:3], f})
	}
	return s, nil
}

// Close closes the tables.
func (s *Scanner) Close() {
	for _, t := range s.tables {
		t.file.Close()
	}
}

func (s *Scanner) scan() ([]socket, error) {
	var out []socket
	for _, t := range s.tables {
		s.buf.Reset()
		if _, err := t.file.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if _, err := s.buf.ReadFrom(t.file); err != nil {
			return nil, err
		}
		for _, at := range hostfwd.Listening(&s.buf, t.network) {
			out = append(out, socket{t.network, at})
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
