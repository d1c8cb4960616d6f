package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// testFrame describes an Ethernet frame. A zero EtherType means that of the addresses' family; VLAN tags precede it.
type testFrame struct {
	src, dst  string
	proto     byte // IPPROTO_UDP or IPPROTO_TCP; a SYN
	port      int
	etherType uint16
	vlans     []uint16 // EtherTypes of the tags
	options   []byte   // of IPv4, a multiple of 4
	fragments bool     // IPv4, in two parts
}

const (
	gatewayMAC = "52550a000202" // libslirp's
	guestMAC   = "020000000064"
	frameText  = "attack-frame" // of datagrams
)

// make returns the frames, in hexadecimal.
func (f testFrame) make() []string {
	src, dst := netip.MustParseAddr(f.src), netip.MustParseAddr(f.dst)
	l4 := f.layer4(src, dst)
	parts := [][]byte{l4}
	if f.fragments {
		parts = [][]byte{l4[:8], l4[8:]}
	}
	var all []string
	for i, part := range parts {
		var ip []byte
		etherType := uint16(unix.ETH_P_IPV6)
		if dst.Is4() {
			etherType = unix.ETH_P_IP
			ip = []byte{byte(0x45 + len(f.options)/4), 0, 0, 0, 0x12, 0x34, 0, 0, 64, f.proto, 0, 0}
			binary.BigEndian.PutUint16(ip[2:], uint16(20+len(f.options)+len(part)))
			if f.fragments {
				binary.BigEndian.PutUint16(ip[6:], []uint16{0x2000, 1}[i])
			}
			ip = slices.Concat(ip, src.AsSlice(), dst.AsSlice(), f.options)
			binary.BigEndian.PutUint16(ip[10:], ^onesSum(ip))
		} else {
			ip = []byte{0x60, 0, 0, 0, 0, byte(len(part)), f.proto, 64}
			ip = slices.Concat(ip, src.AsSlice(), dst.AsSlice())
		}
		if f.etherType != 0 {
			etherType = f.etherType
		}
		frame, _ := hex.DecodeString(gatewayMAC + guestMAC)
		for _, tag := range f.vlans {
			frame = append(binary.BigEndian.AppendUint16(frame, tag), 0, 5)
		}
		frame = binary.BigEndian.AppendUint16(frame, etherType)
		all = append(all, hex.EncodeToString(slices.Concat(frame, ip, part)))
	}
	return all
}

func (f testFrame) layer4(src, dst netip.Addr) []byte {
	var b []byte
	at := 6 // of the checksum
	if f.proto == unix.IPPROTO_UDP {
		b = append(make([]byte, 8), frameText...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	} else {
		b, at = make([]byte, 20), 16
		b[12], b[13] = 5<<4, 2 // SYN
		binary.BigEndian.PutUint16(b[14:], 0xffff)
	}
	binary.BigEndian.PutUint16(b, uint16(20000+f.port%10000))
	binary.BigEndian.PutUint16(b[2:], uint16(f.port))
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, f.proto, 0, byte(len(b))})
	binary.BigEndian.PutUint16(b[at:], ^onesSum(append(pseudo, b...)))
	return b
}

func onesSum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// frames sends frames through tap0, and then requests the gateway's hardware address: with the
// reply, slirp4netns has processed all frames before. "-dev NAME" selects another interface. With
// "-flood" it sends them repeatedly, through every tap0 that appears, until it is killed.
func frames(args []string) int {
	dev := "tap0"
	if args[0] == "-dev" {
		dev, args = args[1], args[2:]
	}
	flood := args[0] == "-flood"
	if flood {
		args = args[1:]
		fmt.Println("ready")
	}
	var all [][]byte
	for _, arg := range args {
		b, err := hex.DecodeString(arg)
		if err != nil {
			return failed("%v", err)
		}
		all = append(all, b)
	}
	for flood {
		if fd, to, err := packetSocket(dev); err == nil {
			for i := 0; err == nil || err == unix.ENOBUFS; i++ {
				err = unix.Sendto(fd, all[i%len(all)], 0, to)
			}
			unix.Close(fd)
		}
	}
	fd, to, err := packetSocket(dev)
	if err != nil {
		return failed("%v", err)
	}
	for _, b := range all {
		if err := unix.Sendto(fd, b, 0, to); err != nil {
			return failed("send: %v", err)
		}
	}
	return awaitGateway(fd, to)
}

func packetSocket(dev string) (int, unix.Sockaddr, error) {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, nil, err
	}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		all = unix.ETH_P_ALL
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	to := &unix.SockaddrLinklayer{Ifindex: ifi.Index, Protocol: all}
	return fd, to, unix.Bind(fd, to)
}

func awaitGateway(fd int, to unix.Sockaddr) int {
	// Who has 10.0.2.2? Tell 10.0.2.100.
	ask, _ := hex.DecodeString("ffffffffffff" + guestMAC + "0806" + "0001080006040001" + guestMAC + "0a000264" + "000000000000" + "0a000202")
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := unix.Sendto(fd, ask, 0, to); err != nil {
			return failed("send: %v", err)
		}
		for until := time.Now().Add(time.Second); ; {
			left := time.Until(until).Milliseconds()
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(0, int(left))); n <= 0 {
				break
			}
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && n >= 42 && hex.EncodeToString(buf[12:22]) == "08060001080006040002" && hex.EncodeToString(buf[28:32]) == "0a000202" {
				fmt.Fprintln(os.Stderr, "gateway answered")
				return 0
			}
		}
	}
	return failed("the gateway does not answer")
}
