package hostfwd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is a TCP or UDP socket of a network namespace.
type Socket struct {
	Network string // "tcp" or "udp"
	Local   netip.AddrPort
	V6Only  bool // on [::] for IPv6 only

	state uint8  // as in net/tcp_states.h; UDP has only established and close
	inode uint32 // 0 for a socket without a process
}

// Layouts and numbers of linux/inet_diag.h, see sock_diag(7).
const (
	diagRequestLen = 56 // struct inet_diag_req_v2
	diagMessageLen = 72 // struct inet_diag_msg
	attrV6Only     = 11 // INET_DIAG_SKV6ONLY
	anyState       = 1<<32 - 1
)

// SockDiag lists the sockets of one network namespace by sock_diag(7). Unlike reading /proc/net,
// this takes no time for each connection of the host.
type SockDiag struct {
	fd  int
	seq uint32
	buf []byte
}

// NewSockDiag returns a SockDiag over fd, a non-blocking NETLINK_SOCK_DIAG socket that was
// created in the namespace. It owns fd.
func NewSockDiag(fd int) *SockDiag { return &SockDiag{fd: fd, buf: make([]byte, 64<<10)} }

// Close closes the socket.
func (d *SockDiag) Close() { unix.Close(d.fd) }

// ErrNoUDPDiag is returned on a kernel built without CONFIG_INET_UDP_DIAG.
var ErrNoUDPDiag = errors.New("this kernel can't list UDP sockets (CONFIG_INET_UDP_DIAG is off)")

// Listening returns TCP sockets that listen and UDP sockets without a peer. With [ErrNoUDPDiag] it
// returns the TCP sockets.
func (d *SockDiag) Listening() ([]Socket, error) {
	out, err := d.ask(nil, "tcp", 1<<unix.BPF_TCP_LISTEN, 0)
	if err != nil {
		return nil, err
	}
	udp, err := d.ask(nil, "udp", 1<<unix.BPF_TCP_CLOSE, 0)
	if errors.Is(err, unix.ENOENT) {
		err = ErrNoUDPDiag
	}
	return append(out, udp...), err
}

// ask appends to out the sockets in any of the states, a bit mask; port 0 means every local port.
func (d *SockDiag) ask(out []Socket, network string, states uint32, port uint16) ([]Socket, error) {
	protocol := uint8(unix.IPPROTO_TCP)
	if network == "udp" {
		protocol = unix.IPPROTO_UDP
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		var err error
		if out, err = d.askFamily(out, family, protocol, states, port); err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
	}
	return out, nil
}

func (d *SockDiag) askFamily(out []Socket, family, protocol uint8, states uint32, port uint16) ([]Socket, error) {
	var req [unix.SizeofNlMsghdr + diagRequestLen]byte
	d.seq++
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(req[8:], d.seq)
	req[16], req[17] = family, protocol
	binary.NativeEndian.PutUint32(req[20:], states)
	binary.BigEndian.PutUint16(req[24:], port)
	if err := unix.Sendto(d.fd, req[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	return d.answer(out, protocol)
}

// answer reads the messages of one dump. The kernel writes the first ones before sendto returns,
// and the next ones as these are read.
func (d *SockDiag) answer(out []Socket, protocol uint8) ([]Socket, error) {
	network := "tcp"
	if protocol == unix.IPPROTO_UDP {
		network = "udp"
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
			if m.Header.Seq != d.seq {
				continue // of an abandoned dump
			}
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				// Both messages start with an error number; a dump without a handler ends with ENOENT.
				if len(m.Data) < 4 {
					return nil, unix.EIO
				}
				if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
					return nil, syscall.Errno(errno)
				}
				return out, nil
			}
			if s, ok := parseDiag(m.Data, network); ok {
				out = append(out, s)
			}
		}
	}
}

// parseDiag parses one socket; ok is false if it has no local port.
func parseDiag(data []byte, network string) (s Socket, ok bool) {
	if len(data) < diagMessageLen {
		return s, false
	}
	port := binary.BigEndian.Uint16(data[4:])
	addr := netip.AddrFrom16([16]byte(data[8:24])).Unmap()
	if data[0] == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(data[8:12]))
	}
	s = Socket{Network: network, Local: netip.AddrPortFrom(addr, port), state: data[1], inode: binary.NativeEndian.Uint32(data[68:])}
	for rest := data[diagMessageLen:]; len(rest) >= unix.SizeofNlAttr; {
		length := int(binary.NativeEndian.Uint16(rest))
		if length < unix.SizeofNlAttr || length > len(rest) {
			break
		}
		if binary.NativeEndian.Uint16(rest[2:]) == attrV6Only && length > unix.SizeofNlAttr {
			s.V6Only = rest[unix.SizeofNlAttr] != 0
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	return s, port != 0
}
