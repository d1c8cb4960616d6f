package launcher

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/options"
)

// OutboundError: what was named for outgoing traffic gives no source address at present.
type OutboundError struct {
	Option, Value, Reason string
}

func (e *OutboundError) Error() string {
	return fmt.Sprintf("--%s: %s %s", e.Option, e.Value, e.Reason)
}

// Hint says what to do about it.
func (e *OutboundError) Hint() string {
	return "ip -brief address shows this host's interfaces and addresses"
}

// NewPlan decides all that the options decide. The caller adds target, descriptors, socket and
// the decisions about the sandbox. Interfaces named for outgoing traffic are looked up here, as they are
// now: slirp4netns's own --outbound-addr6=INTERFACE looks at the wrong option (main.c).
// Error: [*OutboundError].
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

// CheckOutbound says whether slirp4netns can use the source addresses at present, whose own failures it keeps
// to itself. Error: [*OutboundError].
func (p Plan) CheckOutbound() error {
	for option, addr := range map[string]netip.Addr{"outbound-addr": p.OutboundAddr, "outbound-addr6": p.OutboundAddr6} {
		if !addr.IsValid() {
			continue
		}
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		if err == nil {
			c.Close()
		} else if errors.Is(err, unix.EADDRNOTAVAIL) {
			return &OutboundError{option, addr.String(), "is not an address of this host"}
		}
	}
	return nil
}

func resolveOutbound(option string, o options.Outbound, family func(netip.Addr) bool) (netip.Addr, error) {
	if o.IsZero() {
		return netip.Addr{}, nil
	}
	refuse := func(reason string) error { return &OutboundError{option, o.String(), reason} }
	if o.Interface == "" {
		return o.Addr, nil
	}
	ifi, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return netip.Addr{}, refuse("is neither an address nor an interface of this host")
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
	return netip.Addr{}, refuse("is an interface without an address of that family")
}
