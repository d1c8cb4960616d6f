// Package resolvconf parses resolv.conf(5) as glibc does, and makes the resolv.conf of a namespace. It exists
// because three places must parse it the same way: the content for a namespace, warnings about it, and
// the probe of the host.
package resolvconf

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Path is the host's resolv.conf.
const Path = "/etc/resolv.conf"

// File is the content of a resolv.conf.
type File struct {
	Nameservers []netip.Addr
	// Search are the lines "search", "domain" and "options", which don't depend on the name servers.
	Search []string
}

// Parse parses a resolv.conf. As in glibc (resolv/res_init.c), a keyword must begin its line and is ended
// by a space or a tab; invalid lines are ignored.
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

// Read reads the host's resolv.conf. If it can't be read, the result is empty.
func Read() File {
	text, _ := os.ReadFile(Path)
	return Parse(string(text))
}

// Has reports whether f has a name server with an IPv4 address, and one with an IPv6 address. slirp4netns
// forwards queries to its IPv4 DNS address to the first IPv4 server, and those to its IPv6 DNS address to
// the first IPv6 server.
func (f File) Has() (ipv4, ipv6 bool) {
	for _, a := range f.Nameservers {
		ipv4 = ipv4 || a.Is4()
		ipv6 = ipv6 || a.Is6()
	}
	return ipv4, ipv6
}

// Guest returns the content of a namespace's resolv.conf on a host with f: the built-in DNS at dns and
// dns6, which is not valid without IPv6, those that the host has servers for first; and the host's search
// list and options. It is "" if dns is not valid. mute means that no server is reachable, because the host has
// only IPv6 servers.
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
