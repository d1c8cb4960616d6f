package subnet

import (
	"net/netip"
)

// CIDR6 returns fd00::/64, slirp4netns's only IPv6 network.
func CIDR6() netip.Prefix { return netip.PrefixFrom(fd00(0), 64) }

// Gateway6 returns fd00::2, which leads to the host's ::1.
func Gateway6() netip.Addr { return fd00(2) }

// DNS6 returns fd00::3, the built-in DNS forwarder.
func DNS6() netip.Addr { return fd00(3) }

// Router6 returns fe80::2, the next hop of the default route that slirp4netns advertises. It
// has no zone, because the interface depends on the tap's name.
func Router6() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 2}) }

func fd00(last byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 15: last}) }
