package hostfwd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// procSocket is one line of /proc/net/{tcp,tcp6,udp,udp6} (Linux, proc_pid_net(5)).
type procSocket struct {
	Local netip.AddrPort
	State uint8 // TCP_LISTEN is 10; an unconnected UDP socket has 7
	Inode uint64
}

const stateListen = 10

// parseProcNet yields the sockets of one of these files. Lines that it does not understand,
// the heading among them, are left out.
func parseProcNet(r io.Reader) iter.Seq[procSocket] {
	return func(yield func(procSocket) bool) {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if s, ok := parseProcNetLine(lines.Text()); ok && !yield(s) {
				return
			}
		}
	}
}

// A line is "sl: local remote state queues timer retransmits uid timeout inode …".
func parseProcNetLine(line string) (s procSocket, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return s, false
	}
	if s.Local, ok = parseProcAddr(f[1]); !ok {
		return s, false
	}
	state, err := strconv.ParseUint(f[3], 16, 8)
	if err != nil {
		return s, false
	}
	s.State = uint8(state)
	s.Inode, err = strconv.ParseUint(f[9], 10, 64)
	return s, err == nil
}

// parseProcAddr parses "0100007F:1F90": the address as 32-bit words of this machine's byte
// order, the port as a number.
func parseProcAddr(s string) (netip.AddrPort, bool) {
	ip, port, ok := strings.Cut(s, ":")
	if !ok {
		return netip.AddrPort{}, false
	}
	b, err := hex.DecodeString(ip)
	if err != nil || (len(b) != 4 && len(b) != 16) {
		return netip.AddrPort{}, false
	}
	for w := b; len(w) > 0; w = w[4:] {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(n)), true
}

// listener finds the process whose socket keeps others from f's host port, as far as the
// caller may see. Where several share the socket, it is the one with the lowest PID.
func listener(f Forward) Process {
	inodes := map[string]bool{}
	for _, suffix := range []string{"", "6"} {
		file, err := os.Open("/proc/thread-self/net/" + f.Proto.Network() + suffix)
		if err != nil {
			continue
		}
		for s := range parseProcNet(file) {
			if s.blocks(f) && s.Inode != 0 {
				inodes["socket:["+strconv.FormatUint(s.Inode, 10)+"]"] = true
			}
		}
		file.Close()
	}
	if len(inodes) == 0 {
		return Process{}
	}
	return socketOwner(inodes)
}

// blocks reports whether s keeps others from f's host port. Sockets on [::] may or may not
// have the IPv4 port as well; they are taken to.
func (s procSocket) blocks(f Forward) bool {
	if s.Local.Port() != f.HostPort || (f.Proto.Network() == "tcp" && s.State != stateListen) {
		return false
	}
	have, want := s.Local.Addr().Unmap(), f.HostIP.WithZone("")
	if have == want || have == netip.IPv6Unspecified() || f.dualStack() {
		return true
	}
	return have.Is4() == want.Is4() && (have.IsUnspecified() || want.IsUnspecified())
}

// socketOwner looks for a process that has one of the sockets open, given as the link text
// of /proc/PID/fd/N.
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
			continue // gone, or somebody else's
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
