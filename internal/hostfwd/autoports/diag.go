package autoports

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Layouts and numbers of linux/inet_diag.h, see sock_diag(7).
const (
	diagRequestLen = 56 // struct inet_diag_req_v2
	diagMessageLen = 72 // struct inet_diag_msg
	attrV6Only     = 11 // INET_DIAG_SKV6ONLY
)

// question asks for the sockets of one family and protocol that are in one state.
type question struct {
	family, protocol uint8
	network          string
	state            uint8
}

var questions = [...]question{
	{unix.AF_INET, unix.IPPROTO_TCP, "tcp", unix.BPF_TCP_LISTEN},
	{unix.AF_INET6, unix.IPPROTO_TCP, "tcp", unix.BPF_TCP_LISTEN},
	{unix.AF_INET, unix.IPPROTO_UDP, "udp", unix.BPF_TCP_CLOSE}, // without a peer
	{unix.AF_INET6, unix.IPPROTO_UDP, "udp", unix.BPF_TCP_CLOSE},
}

// diagSocket asks a netlink socket of the namespace. Unlike the tables below /proc, that does
// not go through every connection of the host, which takes milliseconds.
type diagSocket struct {
	fd  int // non-blocking: the kernel answers while we ask
	buf []byte
}

func (d *diagSocket) close() { unix.Close(d.fd) }

func (d *diagSocket) scan() ([]socket, error) {
	var out []socket
	for _, q := range questions {
		var err error
		if out, err = d.ask(q, out); err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
	}
	return out, nil
}

func (d *diagSocket) ask(q question, out []socket) ([]socket, error) {
	var req [unix.SizeofNlMsghdr + diagRequestLen]byte
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[16], req[17] = q.family, q.protocol
	binary.NativeEndian.PutUint32(req[20:], 1<<q.state)
	if err := unix.Sendto(d.fd, req[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	if d.buf == nil {
		d.buf = make([]byte, 64<<10)
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		msgs, err := syscall.ParseNetlinkMessage(d.buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return out, nil
			case unix.NLMSG_ERROR:
				errno := syscall.EIO
				if len(m.Data) >= 4 {
					errno = syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
				}
				return nil, errno
			}
			if s, ok := parseDiag(m.Data, q.network); ok {
				out = append(out, s)
			}
		}
	}
}

// parseDiag reads one socket.
func parseDiag(data []byte, network string) (s socket, ok bool) {
	if len(data) < diagMessageLen {
		return s, false
	}
	port := binary.BigEndian.Uint16(data[4:])
	addr := netip.AddrFrom16([16]byte(data[8:24])).Unmap()
	if data[0] == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(data[8:12]))
	}
	s = socket{network: network, at: netip.AddrPortFrom(addr, port)}
	for rest := data[diagMessageLen:]; len(rest) >= unix.SizeofNlAttr; {
		length := int(binary.NativeEndian.Uint16(rest))
		if length < unix.SizeofNlAttr || length > len(rest) {
			break
		}
		if binary.NativeEndian.Uint16(rest[2:]) == attrV6Only && length > unix.SizeofNlAttr {
			s.v6only = rest[unix.SizeofNlAttr] != 0
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	return s, port != 0
}
