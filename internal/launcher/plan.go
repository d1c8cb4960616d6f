package launcher

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// ErrNoSource means that the value of --outbound-addr or --outbound-addr6 gives no source address at present.
var ErrNoSource = fault.New(fault.Usage, "no source address", "ip -brief address shows this host's interfaces and addresses")

func noSource(option, value, reason string) error {
	return &fault.Error{Msg: fmt.Sprintf("--%s: %s %s", option, value, reason), Err: ErrNoSource}
}

// NewPlan makes the part of a plan that depends on the options. The caller adds target, API socket, and
// the decisions about sandbox and seccomp. Interfaces named for outgoing traffic are resolved to their present
// address here, because slirp4netns's --outbound-addr6=INTERFACE looks at the wrong option (main.c).
// Error: [ErrNoSource].
func NewPlan(o *options.Options) (Plan, error) {
	p := Plan{
		MTU: o.MTU, CIDR: o.CIDR, IPv6: o.IPv6,
		DisableHostLoopback: !o.AllowHostLoopback, DisableDNS: o.DisableDNS,
		Tap: o.TapName, MAC: o.MACAddress,
		ReadyFD: readyFD, ExitFD: exitFD,
	}
	var err error
	if p.OutboundAddr, err = resolveOutbound("outbound-addr", o.OutboundAddr, netip.Addr.Is4); err != nil {
		return p, err
	}
	p.OutboundAddr6, err = resolveOutbound("outbound-addr6", o.OutboundAddr6, netip.Addr.Is6)
	return p, err
}

// CheckOutbound checks that the source addresses can be used at present: slirp4netns does not report it if
// they can't. Error: [ErrNoSource].
func (p Plan) CheckOutbound() error {
	for option, addr := range map[string]netip.Addr{"outbound-addr": p.OutboundAddr, "outbound-addr6": p.OutboundAddr6} {
		if !addr.IsValid() {
			continue
		}
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		if err == nil {
			c.Close()
		} else if errors.Is(err, unix.EADDRNOTAVAIL) {
			return noSource(option, addr.String(), "is not an address of this host")
		}
	}
	return nil
}

func resolveOutbound(option string, o options.Outbound, family func(netip.Addr) bool) (netip.Addr, error) {
	if o.IsZero() {
		return netip.Addr{}, nil
	}
	if o.Interface == "" {
		return o.Addr, nil
	}
	ifi, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return netip.Addr{}, noSource(option, o.Interface, "is neither an address nor an interface of this host")
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			ip, _ := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); family(ip) && !ip.IsLinkLocalUnicast() {
				return ip, nil
			}
		}
	}
	return netip.Addr{}, noSource(option, o.Interface, "is an interface without an address of that family")
}
