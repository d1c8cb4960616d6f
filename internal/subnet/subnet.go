// Package subnet knows the addresses that slirp4netns hands out in a network, without asking
// slirp4netns. It exists because scripts, port forwards and resolv.conf need those addresses
// before anything runs, and because a network that slirp4netns would refuse should be refused
// earlier, with a better reason.
//
// What it claims about slirp4netns was measured on 1.2.0 and agrees with main.c of every
// release since 0.3.0, the first with --cidr; a differential test holds it to the installed
// binary.
package subnet

import (
	"encoding/binary"
	"net/netip"
)

// MinBits and MaxBits bound the prefix length of a network (NETWORK_PREFIX_MIN and
// NETWORK_PREFIX_MAX of slirp4netns's main.c). With 26 bits the guest address, the
// network's + 100, would lie outside.
const (
	MinBits = 1
	MaxBits = 25
)

// Where slirp4netns puts things, counted from the network address. The end of the DHCP
// range is libslirp's: it leases 16 addresses.
const (
	gatewayOffset   = 2
	dnsOffset       = 3
	dhcpBeginOffset = 15
	dhcpEndOffset   = 30
	guestOffset     = 100
)

// Network is an IPv4 network that slirp4netns accepts. Every address its methods return is
// inside the network. The zero Network has no addresses: its methods return invalid ones.
// [Parse] makes one; from then on it is passed as it is, and written as text only where it leaves slirpctl.
type Network struct{ prefix netip.Prefix }

// Default returns the network that slirp4netns uses when it is told none.
func Default() Network {
	return Network{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, 0}), 24)}
}

// CIDR returns the network itself.
func (n Network) CIDR() netip.Prefix { return n.prefix }

// Guest returns the address of the tap inside the namespace: network + 100. slirp4netns calls
// it the recommended IP.
func (n Network) Guest() netip.Addr { return n.at(guestOffset) }

// Gateway returns the address of slirp4netns itself: network + 2. Unless it is told
// --disable-host-loopback, it stands for the host's 127.0.0.1.
func (n Network) Gateway() netip.Addr { return n.at(gatewayOffset) }

// DNS returns the address of the built-in DNS forwarder: network + 3.
func (n Network) DNS() netip.Addr { return n.at(dnsOffset) }

// DHCPBegin returns the first address that the built-in DHCP server leases: network + 15.
func (n Network) DHCPBegin() netip.Addr { return n.at(dhcpBeginOffset) }

// DHCPEnd returns the last address that the built-in DHCP server leases: network + 30.
func (n Network) DHCPEnd() netip.Addr { return n.at(dhcpEndOffset) }

// Netmask returns the prefix length written as an address, say 255.255.255.0.
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

// MarshalBinary is for package gob, which knows neither private fields nor MarshalText.
func (n Network) MarshalBinary() ([]byte, error) { return n.MarshalText() }

// UnmarshalBinary takes what MarshalBinary returned.
func (n *Network) UnmarshalBinary(text []byte) error { return n.UnmarshalText(text) }

// MarshalText returns the network in CIDR notation; "" for the zero Network.
func (n Network) MarshalText() ([]byte, error) { return n.prefix.MarshalText() }

// UnmarshalText is the reverse, with the errors of [Parse].
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
