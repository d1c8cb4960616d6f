// Package subnet computes the addresses that slirp4netns uses in a network, without running
// slirp4netns. It exists because scripts, port forwards and resolv.conf need those addresses
// before anything runs, and because a network that slirp4netns would refuse should be refused
// earlier, with a better reason.
//
// Statements about slirp4netns were verified with 1.2.0 and agree with main.c of every release
// since 0.3.0, the first with --cidr; a differential test compares with the installed binary.
package subnet

import (
	"encoding/binary"
	"net/netip"
)

// MinBits and MaxBits bound the prefix length of a network (NETWORK_PREFIX_MIN and
// NETWORK_PREFIX_MAX of slirp4netns's main.c). With 26 bits the guest address, the
// network's + 100, would be outside.
const (
	MinBits = 1
	MaxBits = 25
)

// slirp4netns's addresses, as offsets from the network address. The end of the DHCP range is
// libslirp's: it leases 16 addresses.
const (
	gatewayOffset   = 2
	dnsOffset       = 3
	dhcpBeginOffset = 15
	dhcpEndOffset   = 30
	guestOffset     = 100
)

// Network is an IPv4 network that slirp4netns accepts. Every address its methods return is
// inside the network. The zero Network has no addresses: its methods return invalid ones.
// [Parse] makes one. It is passed as a Network everywhere and formatted as text only on output.
type Network struct{ prefix netip.Prefix }

// Default returns the network that slirp4netns uses by default.
func Default() Network {
	return Network{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, 0}), 24)}
}

// CIDR returns the network itself.
func (n Network) CIDR() netip.Prefix { return n.prefix }

// Guest returns the address of the tap inside the namespace: network + 100. slirp4netns calls
// it the recommended IP.
func (n Network) Guest() netip.Addr { return n.at(guestOffset) }

// Gateway returns the address of slirp4netns itself: network + 2. Without
// --disable-host-loopback, it leads to the host's 127.0.0.1.
func (n Network) Gateway() netip.Addr { return n.at(gatewayOffset) }

// DNS returns the address of the built-in DNS forwarder: network + 3.
func (n Network) DNS() netip.Addr { return n.at(dnsOffset) }

// DHCPBegin returns the first address that the built-in DHCP server leases: network + 15.
func (n Network) DHCPBegin() netip.Addr { return n.at(dhcpBeginOffset) }

// DHCPEnd returns the last address that the built-in DHCP server leases: network + 30.
func (n Network) DHCPEnd() netip.Addr { return n.at(dhcpEndOffset) }

// Netmask returns the prefix length written as an address, such as 255.255.255.0.
func (n Network) Netmask() netip.Addr {
	if !n.prefix.IsValid() {
		return netip.Addr{}
	}
	return fromUint32(^n.hostMask())
}

// Broadcast returns the last address of the network.
func (n Network) Broadcast() netip.Addr {
	if !n.prefix.IsValid() {
		return netip.Addr{}
	}
	return fromUint32(toUint32(n.prefix.Addr()) | n.hostMask())
}

// MarshalText returns the network in CIDR notation; "" for the zero Network.
func (n Network) MarshalText() ([]byte, error) { return n.prefix.MarshalText() }

// UnmarshalText parses text, with the errors of [Parse].
func (n *Network) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*n = Network{}
		return nil
	}
	*n, err = Parse(string(text))
	return err
}

// String returns the network in CIDR notation.
func (n Network) String() string { return n.prefix.String() }

func (n Network) at(offset uint32) netip.Addr {
	if !n.prefix.IsValid() {
		return netip.Addr{}
	}
	return fromUint32(toUint32(n.prefix.Addr()) + offset)
}

func (n Network) hostMask() uint32 { return 1<<(32-n.prefix.Bits()) - 1 }

func toUint32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint32(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}
