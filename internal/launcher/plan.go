package launcher

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/slirpctl/slirpctl/internal/options"
)

// OutboundError: the interface named for outgoing traffic gives no address.
type OutboundError struct {
	Option, Interface, Reason string
}

func (e *OutboundError) Error() string {
	return fmt.Sprintf("--%s: interface %q %s", e.Option, e.Interface, e.Reason)
}

// NewPlan decides all that the options decide. The caller adds target, descriptors, socket and
// the decisions about the sandbox. Interfaces named for outgoing traffic are looked up here:
// slirp4netns's own --outbound-addr6=INTERFACE looks at the wrong option (main.c).
// Error: [*OutboundError].
func NewPlan(o *options.Options) (Plan, error) {
	p := Plan{
		MTU: o.MTU, CIDR: o.CIDR.CIDR(), IPv6: o.IPv6,
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

func resolveOutbound(option string, o options.Outbound, family func(netip.Addr) bool) (netip.Addr, error) {
	if o.Interface == "" {
		return o.Addr, nil
	}
	ifi, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return netip.Addr{}, &OutboundError{option, o.Interface, "is neither an address nor an interface of this host"}
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
	return netip.Addr{}, &OutboundError{option, o.Interface, "has no address of that family"}
}
