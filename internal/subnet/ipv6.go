package subnet

import (
	"fmt"
	"net"
	"net/netip"
)

// CIDR6 returns fd00::/64, slirp4netns's only IPv6 network.
func CIDR6() netip.Prefix { return netip.PrefixFrom(fd00(0), 64) }

// Gateway6 returns fd00::2, which stands for the host's ::1.
func Gateway6() netip.Addr { return fd00(2) }

// DNS6 returns fd00::3, the built-in DNS forwarder.
func DNS6() netip.Addr { return fd00(3) }

// Router6 returns fe80::2, the next hop of the default route that slirp4netns advertises. It
// has no zone: which interface it is on depends on the tap's name.
func Router6() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 2}) }

// Guest6 returns the address that the kernel gives a tap with this MAC address when it hears
// slirp4netns's router advertisement: fd00:: and the MAC's modified EUI-64 (RFC 4291,
// appendix A), which is the default of a new network namespace (addr_gen_mode 0). The MAC
// must have 6 bytes.
func Guest6(mac net.HardwareAddr) (netip.Addr, error) {
	if len(mac) != 6 {
		return netip.Addr{}, fmt.Errorf("MAC address %q has %d bytes instead of 6", mac, len(mac))
	}
	return netip.AddrFrom16([16]byte{
		0: 0xfd,
		8: mac[0] ^ 0x02, 9: mac[1], 10: mac[2], 11: 0xff,
		12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	}), nil
}

func fd00(last byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 15: last}) }
