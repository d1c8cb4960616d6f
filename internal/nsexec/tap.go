package nsexec

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tap is an interface to make in a network namespace: up, with an address and a default route.
type Tap struct {
	Name    string
	MTU     int
	MAC     net.HardwareAddr // empty: the kernel's choice
	Address netip.Prefix     // IPv4
	Gateway netip.Addr       // of the default route; invalid: none
}

// rtentry is the kernel's struct of that name (linux/route.h).
type rtentry struct {
	_               uintptr
	dst, gateway, _ unix.RawSockaddrInet4
	flags           uint16
	_               int16
	_, _            uintptr
	metric          int16
	dev             *byte
	_, _            uintptr
	_               uint16
}

// tapPlan is a Tap laid out before the fork.
type tapPlan struct {
	device *byte
	calls  []ioctl // on a socket, but for the first, which is on the tap
	route  rtentry

	iov     unix.Iovec
	msg     unix.Msghdr
	control []byte
}

type ioctl struct {
	step    step
	request uintptr
	arg     unsafe.Pointer
}

// OpenTap makes a tap in a network namespace, brings it and the loopback interface up, and returns the
// descriptor that holds it, non-blocking: when it is closed, the interface goes. userns, if not nil,
// is entered first. Error: [*Error]; its Err is EBUSY where the name is taken.
//
// No program is executed for it, so that nobody inside can trace what does it.
func OpenTap(userns, netns *os.File, t Tap) (*os.File, error) {
	c := Cmd{Path: "-", Args: []string{"-"}, JoinUser: userns, JoinNet: netns}
	p, cleanup, err := c.prepare()
	if err != nil {
		return nil, err
	}
	defer cleanup()
	if p.tap, err = t.plan(); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[0])
	p.report = pair[1]
	pid, err := fork(p)
	unix.Close(pair[1])
	runtime.KeepAlive(p)
	if err != nil {
		return nil, err
	}
	var msg [8]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, err := receive(pair[0], msg[:], oob)
	reap(pid)
	if err != nil || n < len(msg) {
		return nil, fmt.Errorf("make %s: %w", t.Name, errors.Join(err, errors.New("the process that makes it has ended")))
	}
	if s, errno := parse(msg[:]); errno != 0 {
		return nil, &Error{stepNames[s], errno}
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err == nil && len(msgs) == 1 {
		var fds []int
		if fds, err = unix.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), t.Name), nil
		}
	}
	return nil, fmt.Errorf("make %s: %w", t.Name, errors.Join(err, unix.EMFILE))
}

func receive(fd int, msg, oob []byte) (n, oobn int, err error) {
	for {
		n, oobn, _, _, err = unix.Recvmsg(fd, msg, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return n, oobn, err
		}
	}
}

func (t Tap) plan() (*tapPlan, error) {
	if !t.Address.Addr().Is4() {
		return nil, fmt.Errorf("tap %s: no IPv4 address", t.Name)
	}
	p := &tapPlan{device: cString("/dev/net/tun")}
	var firstErr error
	add := func(s step, request uintptr, name string, set func(*unix.Ifreq) error) {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = set(r)
		}
		if err != nil && firstErr == nil {
			firstErr = err
		}
		p.calls = append(p.calls, ioctl{s, request, unsafe.Pointer(r)})
	}
	flags := func(f uint16) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { r.SetUint16(f); return nil }
	}
	addr := func(b []byte) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(b) }
	}
	add(stepTun, unix.TUNSETIFF, t.Name, flags(unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_TUN_EXCL))
	add(stepLoopback, unix.SIOCSIFFLAGS, "lo", flags(unix.IFF_UP|unix.IFF_RUNNING))
	if len(t.MAC) > 0 {
		add(stepMAC, unix.SIOCSIFHWADDR, t.Name, func(r *unix.Ifreq) error {
			hw := (*unix.RawSockaddr)(unsafe.Add(unsafe.Pointer(r), unix.IFNAMSIZ))
			hw.Family = unix.ARPHRD_ETHER
			for i, b := range t.MAC {
				hw.Data[i] = int8(b)
			}
			return nil
		})
	}
	add(stepMTU, unix.SIOCSIFMTU, t.Name, func(r *unix.Ifreq) error { r.SetUint32(uint32(t.MTU)); return nil })
	add(stepUp, unix.SIOCSIFFLAGS, t.Name, flags(unix.IFF_UP|unix.IFF_RUNNING))
	add(stepAddress, unix.SIOCSIFADDR, t.Name, addr(t.Address.Addr().AsSlice()))
	add(stepAddress, unix.SIOCSIFNETMASK, t.Name, addr(net.CIDRMask(t.Address.Bits(), 32)))
	if t.Gateway.Is4() {
		p.route = rtentry{
			dst: unix.RawSockaddrInet4{Family: unix.AF_INET}, gateway: unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: t.Gateway.As4()},
			flags: unix.RTF_UP | unix.RTF_GATEWAY, dev: cString(t.Name),
		}
		p.calls = append(p.calls, ioctl{stepRoute, unix.SIOCADDRT, unsafe.Pointer(&p.route)})
	}
	p.control = unix.UnixRights(0)
	return p, firstErr
}

// make makes the tap, and says so on report with its descriptor.
//
//go:norace
//go:nosplit
func (t *tapPlan) make(p *plan) {
	tap := p.do5(stepTunDevice, unix.SYS_OPENAT, cwd, at(t.device), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0, 0)
	socket := p.do(stepSocket, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	fd := tap
	for i := 0; i < len(t.calls); i++ {
		c := &t.calls[i]
		p.do(c.step, unix.SYS_IOCTL, fd, c.request, uintptr(c.arg))
		fd = socket
	}
	*(*int32)(unsafe.Pointer(&t.control[unix.SizeofCmsghdr])) = int32(tap)
	t.iov.Base, t.iov.Len = &p.msg[0], 8
	t.msg.Iov, t.msg.Iovlen = &t.iov, 1
	t.msg.Control, t.msg.Controllen = &t.control[0], uint64(len(t.control))
	p.do(stepSocket, unix.SYS_SENDMSG, uintptr(p.report), uintptr(unsafe.Pointer(&t.msg)), unix.MSG_NOSIGNAL)
	if p.errno == 0 {
		exit(0)
	}
}
