package egress

import "net/netip"

// special are the networks that a name must not lead to unless a rule names the address: answers
// of the DNS are somebody else's to choose (IANA's special-purpose address registries).
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
	"::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16",
	"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// Special reports whether an address is loopback, link-local, private, multicast, or otherwise not
// of the public Internet, so that only a rule for that address lets anything reach it. The host's
// own addresses are for the caller to add.
func Special(a netip.Addr) bool {
	if a.Is4In6() {
		return true // nothing that is meant well comes so; the kernel would take it for IPv4
	}
	a = a.WithZone("") // with one, no network contains it
	for _, p := range special {
		if p.Contains(a) {
			return true
		}
	}
	return !a.IsValid()
}
