package nscommand

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// ResolvConf is what a namespace's /etc/resolv.conf holds: the built-in DNS, and the host's
// search list and options, which don't depend on who answers. It is "" if dns is not valid.
func ResolvConf(dns netip.Addr) string {
	if !dns.IsValid() {
		return ""
	}
	host, _ := os.ReadFile("/etc/resolv.conf")
	var b strings.Builder
	fmt.Fprintf(&b, "nameserver %s\n", dns)
	for line := range strings.Lines(string(host)) {
		line = strings.TrimSpace(line)
		if word, _, _ := strings.Cut(line, " "); word == "search" || word == "domain" || word == "options" {
			fmt.Fprintln(&b, line)
		}
	}
	return b.String()
}
