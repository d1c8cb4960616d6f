package subnet

import (
	"net/netip"
	"slices"
)

// Shorter prefixes mean "everything" in a routing table (a default route, or the halves and
// eighths that VPN clients put before it): no site has a network that large.
const shortestSite = 8

// Overlaps returns the elements of taken, say the host's routes, that share addresses with n,
// in their order. IPv6 prefixes and prefixes shorter than 8 bits, which are effectively default
// routes, are ignored.
func (n Network) Overlaps(taken []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(taken), func(t netip.Prefix) bool { return !counts(t) || !t.Overlaps(n.prefix) })
}

// FreeCIDR proposes a network that overlaps none of taken, by the rule of [Network.Overlaps]:
// the default network if that is free, otherwise a /24 of the private ranges, starting with
// those that few sites use. The result depends only on taken. It is invalid (the zero value) in
// the unlikely case that all private ranges are taken.
func FreeCIDR(taken []netip.Prefix) netip.Prefix {
	if n := Default(); len(n.Overlaps(taken)) == 0 {
		return n.prefix
	}
	// Upper halves first, because sites usually number from the bottom. 198.18.0.0/15 is for benchmarks
	// between networks (RFC 2544) and so rarely in use, 100.64.0.0/10 for carriers
	// (RFC 6598), and often chosen by VPNs that avoid private networks.
	for _, pool := range []netip.Prefix{
		pool(10, 128, 9), pool(172, 24, 13), pool(192, 168, 16), pool(198, 18, 15),
		pool(10, 0, 9), pool(172, 16, 13), pool(100, 64, 10),
	} {
		if p := freeIn(pool, taken); p.IsValid() {
			return p
		}
	}
	return netip.Prefix{}
}

// freeIn returns the first free /24 of pool, or the zero prefix.
func freeIn(pool netip.Prefix, taken []netip.Prefix) netip.Prefix {
	for candidate := netip.PrefixFrom(pool.Addr(), 24); pool.Contains(candidate.Addr()); {
		i := slices.IndexFunc(taken, func(t netip.Prefix) bool { return counts(t) && t.Overlaps(candidate) })
		if i < 0 {
			return candidate
		}
		// Skip all of it: the next candidate begins after the last address of taken[i] or of this candidate, whichever is later.
		bits := min(taken[i].Bits(), candidate.Bits())
		last := Network{netip.PrefixFrom(candidate.Addr(), bits).Masked()}.Broadcast()
		candidate = netip.PrefixFrom(last.Next(), 24)
	}
	return netip.Prefix{}
}

func counts(p netip.Prefix) bool {
	return p.IsValid() && p.Addr().Is4() && p.Bits() >= shortestSite
}

func pool(a, b byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b}), bits)
}
