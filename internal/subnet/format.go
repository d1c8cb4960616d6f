package subnet

import (
	"fmt"
	"net/netip"
	"strings"
)

// Values consist of digits, letters, '.', ':' and '/' only, so the formats for shells need no
// quoting.

// Env returns lines like SLIRP_GUEST=10.0.2.100, suitable for eval in sh, bash, dash and zsh, and
// for an environment file.
func Env(values []Value) string { return lines(values, "", "=") }

// Fish returns lines like "set -gx SLIRP_GUEST 10.0.2.100", suitable for fish's source.
func Fish(values []Value) string { return lines(values, "set -gx ", " ") }

func lines(values []Value, before, between string) string {
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "%sSLIRP_%s%s%s\n", before, strings.ToUpper(strings.ReplaceAll(v.Name, "-", "_")), between, v.Text)
	}
	return b.String()
}

// ResolvConf returns a resolv.conf with the built-in DNS forwarder; it is empty if DNS is
// disabled. The IPv4 address comes first: it works as soon as the tap exists.
func (v Values) ResolvConf() string {
	var b strings.Builder
	for _, dns := range v.both(v.DNS, func(v6 *Values6) netip.Addr { return v6.DNS }) {
		fmt.Fprintf(&b, "nameserver %s\n", dns)
	}
	return b.String()
}

// Hosts returns the line of /etc/hosts that maps this host name to the guest address, and a
// second one for the IPv6 address if that is known.
func (v Values) Hosts(name string) string {
	var b strings.Builder
	for _, guest := range v.both(v.Guest, func(v6 *Values6) netip.Addr { return v6.Guest }) {
		fmt.Fprintf(&b, "%s\t%s\n", guest, name)
	}
	return b.String()
}

// both returns the valid addresses of v4 and the one that pick selects from the IPv6 values.
func (v Values) both(v4 netip.Addr, pick func(*Values6) netip.Addr) []netip.Addr {
	var addrs []netip.Addr
	if v4.IsValid() {
		addrs = append(addrs, v4)
	}
	if v.IPv6 != nil {
		if a := pick(v.IPv6); a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
