package subnet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// CIDRError says why a network can't be used.
type CIDRError struct {
	CIDR   string // as given
	Reason string // a phrase, such as "host bits are set"
	// Meant is an acceptable network that was probably meant; invalid (the zero value) if there
	// is no good guess.
	Meant netip.Prefix
}

func (e *CIDRError) Error() string {
	s := fmt.Sprintf("invalid cidr %q: %s", e.CIDR, e.Reason)
	if e.Meant.IsValid() {
		s += ", try " + e.Meant.String()
	}
	return s
}

// Is reports the error's kind, [fault.Usage].
func (*CIDRError) Is(target error) bool { return target == fault.Usage }

const reasonIPv6 = "IPv6, but only the IPv4 network can be chosen (the IPv6 one is always fd00::/64)"

// Parse parses a network in CIDR notation, such as 10.0.2.0/24. It accepts what slirp4netns's
// --cidr accepts, except a prefix length with a leading zero (slirp4netns reads /08 as /8)
// and networks in which guest, gateway and DNS would have addresses that no interface can have: in 0.0.0.0/8,
// 127.0.0.0/8 and 224.0.0.0/4. Errors are of type [*CIDRError].
func Parse(cidr string) (Network, error) {
	fail := func(meant netip.Prefix, format string, a ...any) (Network, error) {
		return Network{}, &CIDRError{CIDR: cidr, Reason: fmt.Sprintf(format, a...), Meant: meant}
	}
	if cidr == "" {
		return fail(netip.Prefix{}, "empty")
	}
	if strings.ContainsFunc(cidr, unicode.IsSpace) {
		return fail(retry(strings.Join(strings.Fields(cidr), "")), "white space is not allowed")
	}
	if strings.Contains(cidr, ":") {
		return fail(netip.Prefix{}, "%s", reasonIPv6)
	}
	address, length, found := strings.Cut(cidr, "/")
	if !found {
		return fail(guess(address, 24), "the prefix length is missing")
	}
	bits, reason := parseBits(length)
	if reason != "" {
		n, err := strconv.Atoi(length)
		if err != nil {
			n = 0
		}
		return fail(guess(address, n), "%s", reason)
	}
	if reason := checkOctets(address); reason != "" {
		return fail(guess(address, bits), "%s", reason)
	}
	addr, err := netip.ParseAddr(address)
	if err != nil || !addr.Is4() {
		return fail(netip.Prefix{}, "%q is not an IPv4 address", address)
	}
	p := netip.PrefixFrom(addr, bits)
	if err := check(p); err != nil {
		err.CIDR = cidr
		return Network{}, err
	}
	return Network{p}, nil
}

// check applies the rules about length, addresses and host bits to a well-formed IPv4 prefix.
func check(p netip.Prefix) *CIDRError {
	if b := p.Bits(); b < MinBits || b > MaxBits {
		e := &CIDRError{
			CIDR:   p.String(),
			Reason: fmt.Sprintf("the prefix length is %d, it must be %d to %d", b, MinBits, MaxBits),
		}
		if b > MaxBits {
			e.Meant = usable(netip.PrefixFrom(p.Addr(), MaxBits).Masked())
		}
		return e
	}
	m := p.Masked()
	for _, r := range reserved {
		// Guest, gateway and DNS, at offsets 100, 2 and 3, are in the same /25 as the network.
		if r.prefix.Contains(m.Addr()) {
			return &CIDRError{CIDR: p.String(), Reason: fmt.Sprintf("guest, gateway and DNS would be in %s (%s), whose addresses no interface can have", r.prefix, r.what)}
		}
	}
	if m != p {
		return &CIDRError{CIDR: p.String(), Reason: "not a network address, its host bits are set", Meant: m}
	}
	return nil
}

// reserved lists the networks without addresses for interfaces. slirp4netns accepts them, and then fails
// to set the tap's address or route, or starts and carries no traffic. 240.0.0.0/4 works on Linux.
var reserved = [...]struct {
	prefix netip.Prefix
	what   string
}{
	{pool(0, 0, 8), "this network"},
	{pool(127, 0, 8), "loopback"},
	{pool(224, 0, 4), "multicast"},
}

// usable returns p, or the zero prefix if it would be rejected.
func usable(p netip.Prefix) netip.Prefix {
	if check(p) != nil {
		return netip.Prefix{}
	}
	return p
}

// parseBits parses a prefix length without checking its range, except that it has at most two
// digits (check gives better reasons for values of 32 and below). The reason is empty if the
// length is well formed.
func parseBits(s string) (bits int, reason string) {
	switch {
	case s == "":
		return 0, "the prefix length is missing"
	case strings.Trim(s, "0123456789") != "":
		return 0, fmt.Sprintf("the prefix length %q is not a decimal number", s)
	case len(s) > 1 && s[0] == '0':
		return 0, fmt.Sprintf("the prefix length %q has a leading zero", s)
	case len(s) > 2:
		return 0, fmt.Sprintf("the prefix length is %s, it must be %d to %d", s, MinBits, MaxBits)
	}
	bits, _ = strconv.Atoi(s) // one or two digits: can't fail
	if bits > 32 {
		return 0, fmt.Sprintf("the prefix length is %d, it must be %d to %d", bits, MinBits, MaxBits)
	}
	return bits, ""
}

// checkOctets returns what is wrong with an IPv4 address in dotted notation, or "".
func checkOctets(address string) string {
	octets := strings.Split(address, ".")
	for _, o := range octets {
		switch n, err := strconv.Atoi(o); {
		case strings.Trim(o, "0123456789") != "":
			return fmt.Sprintf("%q is not a decimal number", o)
		case o == "":
			return fmt.Sprintf("%q is not an IPv4 address", address)
		case err != nil || n > 255:
			return fmt.Sprintf("%s is more than 255", o)
		case len(o) > 1 && o[0] == '0':
			return fmt.Sprintf("%s has a leading zero", o)
		}
	}
	if len(octets) != 4 {
		return fmt.Sprintf("%q is not an IPv4 address, it has %d numbers instead of 4", address, len(octets))
	}
	return ""
}

// guess returns the network that the author of address and bits probably meant, or the zero
// prefix. Leading zeros are taken as padding, not as octal.
func guess(address string, bits int) netip.Prefix {
	if bits < MinBits || bits > 32 {
		return netip.Prefix{}
	}
	octets := strings.Split(address, ".")
	for i, o := range octets {
		if n, err := strconv.ParseUint(o, 10, 8); err == nil {
			octets[i] = strconv.FormatUint(n, 10)
		}
	}
	addr, err := netip.ParseAddr(strings.Join(octets, "."))
	if err != nil || !addr.Is4() {
		return netip.Prefix{}
	}
	return usable(netip.PrefixFrom(addr, min(bits, MaxBits)).Masked())
}

// retry parses a corrected spelling and returns the zero prefix if that fails.
func retry(cidr string) netip.Prefix {
	n, err := Parse(cidr)
	if err != nil {
		return netip.Prefix{}
	}
	return n.CIDR()
}
