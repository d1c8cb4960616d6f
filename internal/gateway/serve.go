package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stage is the hidden argument that makes slirpctl the process in a gateway's namespaces.
const Stage = "__gateway"

// The interface of the gateway that is joined to the guest's tap, and the tap of slirp4netns.
const (
	guestSide = "gw0"
	HostSide  = "tap0"
)

// setup is the message to the process in the namespaces.
type setup struct {
	DNS netip.Prefix // a second address of gw0
}

// The descriptors that come back, in this order.
const (
	fdRelay = iota
	fdDNS
	fdDNSTCP
	fdCount
)

// Serve runs the process in the namespaces. When it is told to, on descriptor 3, it opens the sockets and writes the
// rules; then it waits until the other end is closed. It has an empty root directory and no other descriptor.
func Serve() error {
	const conn = 3
	unix.CloseOnExec(conn)
	buf := make([]byte, 4096)
	n, err := read(conn, buf)
	if err != nil || n == 0 {
		return err // the supervisor gave up
	}
	var s setup
	if err := json.Unmarshal(buf[:n], &s); err != nil {
		return err
	}
	fds, err := s.run()
	if err != nil {
		_ = unix.Sendmsg(conn, []byte(err.Error()), nil, nil, unix.MSG_NOSIGNAL)
		return err
	}
	if err := unix.Sendmsg(conn, []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return err
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	for n, err := read(conn, buf); n > 0 && err == nil; n, err = read(conn, buf) {
	}
	return nil
}

func read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (s setup) run() ([]int, error) {
	gw, err := netlink.LinkByName(guestSide)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", guestSide, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: s.DNS.Addr().AsSlice(), Mask: net.CIDRMask(s.DNS.Bits(), 32)}}
	if err := netlink.AddrAdd(gw, addr); err != nil {
		return nil, fmt.Errorf("address %s: %w", s.DNS, err)
	}
	fds := make([]int, fdCount)
	if fds[fdRelay], err = listen(unix.SOCK_STREAM, netip.AddrPortFrom(netip.IPv4Unspecified(), 0)); err != nil {
		return nil, err
	}
	dns := netip.AddrPortFrom(s.DNS.Addr(), 53)
	if fds[fdDNS], err = listen(unix.SOCK_DGRAM, dns); err != nil {
		return nil, err
	}
	if fds[fdDNSTCP], err = listen(unix.SOCK_STREAM, dns); err != nil {
		return nil, err
	}
	sa, err := unix.Getsockname(fds[fdRelay])
	if err != nil {
		return nil, err
	}
	if err := s.rules(uint16(sa.(*unix.SockaddrInet4).Port)); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return fds, nil
}

func listen(typ int, at netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return -1, fmt.Errorf("bind %s: %w", at, err)
	}
	if typ == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 4096); err != nil {
			return -1, fmt.Errorf("listen %s: %w", at, err)
		}
	}
	return fd, nil
}

// rules redirect every TCP connection from the guest to port, except those to the DNS, and route
// nothing but UDP and ICMP, under slirp4netns's own address.
func (s setup) rules(port uint16) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "slirpctl"})
	drop := nftables.ChainPolicyDrop
	pre := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	post := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	fwd := c.AddChain(&nftables.Chain{Name: "route", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})

	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var exprs []expr.Any
		for _, p := range parts {
			exprs = append(exprs, p...)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	dns := s.DNS.Addr().As4()
	rule(pre, iface(expr.MetaKeyIIFNAME, guestSide), proto(unix.IPPROTO_TCP), payload(expr.PayloadBaseNetworkHeader, 16, dns[:]),
		payload(expr.PayloadBaseTransportHeader, 2, binaryutil.BigEndian.PutUint16(53)), accept)
	rule(pre, iface(expr.MetaKeyIIFNAME, guestSide), proto(unix.IPPROTO_TCP), []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1},
	})
	rule(post, iface(expr.MetaKeyOIFNAME, HostSide), []expr.Any{&expr.Masq{}})
	rule(fwd, proto(unix.IPPROTO_TCP), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	rule(fwd, iface(expr.MetaKeyIIFNAME, guestSide), iface(expr.MetaKeyOIFNAME, HostSide), accept)
	rule(fwd, iface(expr.MetaKeyIIFNAME, HostSide), iface(expr.MetaKeyOIFNAME, guestSide), accept)
	return c.Flush()
}

// TryRules makes the rules of a gateway in the caller's network namespace.
func TryRules() error { return setup{DNS: netip.MustParsePrefix("10.0.2.3/24")}.rules(1) }

func iface(key expr.MetaKey, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b}}
}

func proto(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}}}
}

func payload(base expr.PayloadBase, offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}
}
