package egress

import (
	"net/netip"
	"testing"
)

func TestSpecial(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "0.0.0.0", "169.254.169.254", "::1", "fe80::1", "fe80::1%eth0", "fd00::1%1", "::ffff:192.0.2.1", "64:ff9b::1"} {
		if !Special(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for a public address", a)
		}
	}
	for _, a := range []string{"192.0.2.1", "9.255.255.255", "11.0.0.0", "2001:db8::1", "2606:4700::1"} {
		if Special(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for a special address", a)
		}
	}
}
