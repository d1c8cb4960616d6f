// Package resolvconf reads resolv.conf(5) as glibc does, and writes the one of a namespace. It exists
// because three places need the same reading: what a namespace is told, what it is warned of, and
// what the probe says about the host.
package resolvconf

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Path is the host's resolv.conf.
const Path = "/etc/resolv.conf"

// File is what a resolv.conf says.
type File struct {
	Nameservers []netip.Addr
	// Search are its lines about search lists and options, which don't depend on who answers.
	Search []string
}

// Parse reads a resolv.conf. As in glibc (resolv/res_init.c) a keyword begins its line and a space
// or a tab ends it; what can't be understood is left out.
func Parse(text string) File {
	var f File
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			continue
		}
		rest := strings.TrimLeft(line[end:], " \t")
		switch line[:end] {
		case "nameserver":
			if i := strings.IndexAny(rest, ";# \t"); i >= 0 {
				rest = rest[:i]
			}
			if addr, err := netip.ParseAddr(rest); err == nil {
				f.Nameservers = append(f.Nameservers, addr)
			}
		case "search", "domain", "options":
			if rest != "" {
				f.Search = append(f.Search, line)
			}
		}
	}
	return f
}

// Read reads the host's resolv.conf; one that can't be read is empty.
func Read() File {
	text, _ := os.ReadFile(Path)
	return Parse(string(text))
}

// Has reports whether f names a server with an IPv4, and one with an IPv6 address. slirp4netns hands
// questions to its own IPv4 address on to the first of the one kind, to its IPv6 address on to the
// first of the other.
func (f File) Has() (ipv4, ipv6 bool) {
	for _, a := range f.Nameservers {
		ipv4 = ipv4 || a.Is4()
		ipv6 = ipv6 || a.Is6()
	}
	return ipv4, ipv6
}

// Guest returns what a namespace's resolv.conf holds on a host with f: the built-in DNS at dns and
// at dns6, which is not valid without IPv6, whichever gets answers first, and the host's search list
// and options. It is "" if dns is not valid. mute says that nobody will answer, because the host has IPv6
// servers only.
func (f File) Guest(dns, dns6 netip.Addr) (text string, mute bool) {
	if !dns.IsValid() {
		return "", false
	}
	ipv4, ipv6 := f.Has()
	servers := []netip.Addr{dns}
	switch {
	case !ipv6:
	case !dns6.IsValid():
		mute = !ipv4
	case ipv4:
		servers = append(servers, dns6)
	default:
		servers = []netip.Addr{dns6, dns}
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	for _, line := range f.Search {
		fmt.Fprintln(&b, line)
	}
	return b.String(), mute
}
