package subnet_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

func mustNetwork(t *testing.T, cidr string) subnet.Network {
	t.Helper()
	n, err := subnet.Parse(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		cidr, gateway, dns, begin, end, guest, netmask, broadcast string
	}{
		{"10.0.2.0/24", "10.0.2.2", "10.0.2.3", "10.0.2.15", "10.0.2.30", "10.0.2.100", "255.255.255.0", "10.0.2.255"},
		{"10.7.0.0/16", "10.7.0.2", "10.7.0.3", "10.7.0.15", "10.7.0.30", "10.7.0.100", "255.255.0.0", "10.7.255.255"},
		{"10.0.135.128/25", "10.0.135.130", "10.0.135.131", "10.0.135.143", "10.0.135.158", "10.0.135.228", "255.255.255.128", "10.0.135.255"},
		{"128.0.0.0/1", "128.0.0.2", "128.0.0.3", "128.0.0.15", "128.0.0.30", "128.0.0.100", "128.0.0.0", "255.255.255.255"},
		{"126.0.0.0/7", "126.0.0.2", "126.0.0.3", "126.0.0.15", "126.0.0.30", "126.0.0.100", "254.0.0.0", "127.255.255.255"},
		{"64.0.0.0/2", "64.0.0.2", "64.0.0.3", "64.0.0.15", "64.0.0.30", "64.0.0.100", "192.0.0.0", "127.255.255.255"},
		{"240.0.0.0/4", "240.0.0.2", "240.0.0.3", "240.0.0.15", "240.0.0.30", "240.0.0.100", "240.0.0.0", "255.255.255.255"},
		{"255.255.255.128/25", "255.255.255.130", "255.255.255.131", "255.255.255.143", "255.255.255.158", "255.255.255.228", "255.255.255.128", "255.255.255.255"},
	} {
		t.Run(tc.cidr, func(t *testing.T) {
			n := mustNetwork(t, tc.cidr)
			for _, c := range []struct {
				name string
				got  netip.Addr
				want string
			}{
				{"gateway", n.Gateway(), tc.gateway},
				{"dns", n.DNS(), tc.dns},
				{"dhcp-begin", n.DHCPBegin(), tc.begin},
				{"dhcp-end", n.DHCPEnd(), tc.end},
				{"guest", n.Guest(), tc.guest},
				{"netmask", n.Netmask(), tc.netmask},
				{"broadcast", n.Broadcast(), tc.broadcast},
			} {
				if c.got.String() != c.want {
					t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
				}
			}
			if n.String() != tc.cidr || n.CIDR().String() != tc.cidr {
				t.Errorf("got %s, want %s", n, tc.cidr)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	if got, want := subnet.Default(), mustNetwork(t, "10.0.2.0/24"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestZeroNetwork(t *testing.T) {
	var n subnet.Network
	for _, a := range []netip.Addr{
		n.Gateway(), n.DNS(), n.DHCPBegin(), n.DHCPEnd(), n.Guest(), n.Netmask(), n.Broadcast(),
	} {
		if a.IsValid() {
			t.Errorf("the zero network has the address %s", a)
		}
	}
	if n.CIDR().IsValid() {
		t.Errorf("the zero network is %s", n.CIDR())
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		cidr, reason, meant string // meant is "" if nothing is proposed
	}{
		{"", "empty", ""},
		{" ", "white space is not allowed", ""},
		{" 10.0.2.0/24", "white space is not allowed", "10.0.2.0/24"},
		{"10.0.2.0/24\n", "white space is not allowed", "10.0.2.0/24"},
		{"10.0.2.0 / 24", "white space is not allowed", "10.0.2.0/24"},
		{"fd00::/64", "IPv6", ""},
		{"::ffff:10.0.2.0/120", "IPv6", ""},
		{"10.0.2.0", "the prefix length is missing", "10.0.2.0/24"},
		{"10.0.2.100", "the prefix length is missing", "10.0.2.0/24"},
		{"10.0.2.0/", "the prefix length is missing", ""},
		{"24", "the prefix length is missing", ""},
		{"foo", "the prefix length is missing", ""},
		{"10.0.2.0/24/24", `"24/24" is not a decimal number`, ""},
		{"10.0.2.0/0x18", `"0x18" is not a decimal number`, ""},
		{"10.0.2.0/-1", `"-1" is not a decimal number`, ""},
		{"10.0.2.0/+24", `"+24" is not a decimal number`, "10.0.2.0/24"},
		{"10.0.2.0/255.255.255.0", `"255.255.255.0" is not a decimal number`, ""},
		{"10.0.0.0/08", `"08" has a leading zero`, "10.0.0.0/8"},
		{"10.0.2.0/024", `"024" has a leading zero`, "10.0.2.0/24"},
		{"10.0.2.0/00", `"00" has a leading zero`, ""},
		{"10.0.2.0/0", "the prefix length is 0, it must be 1 to 25", ""},
		{"10.0.2.0/26", "the prefix length is 26, it must be 1 to 25", "10.0.2.0/25"},
		{"10.0.2.200/30", "the prefix length is 30, it must be 1 to 25", "10.0.2.128/25"},
		{"10.0.2.0/32", "the prefix length is 32, it must be 1 to 25", "10.0.2.0/25"},
		{"10.0.2.0/33", "the prefix length is 33, it must be 1 to 25", ""},
		{"10.0.2.0/240", "the prefix length is 240, it must be 1 to 25", ""},
		{"10.0.2.0/99999999999999999999", "it must be 1 to 25", ""},
		{"010.0.2.0/24", "010 has a leading zero", "10.0.2.0/24"},
		{"10.0.2.00/24", "00 has a leading zero", "10.0.2.0/24"},
		{"10.0.2.256/24", "256 is more than 255", ""},
		{"10.0.2.99999999999999999999/24", "is more than 255", ""},
		{"0x0a.0.2.0/24", `"0x0a" is not a decimal number`, ""},
		{"10.0.2.x/24", `"x" is not a decimal number`, ""},
		{"10.0.2/24", "3 numbers instead of 4", ""},
		{"10.0.2.0.0/24", "5 numbers instead of 4", ""},
		{"10..2.0/24", "not an IPv4 address", ""},
		{"/24", "not an IPv4 address", ""},
		{"10.0.2.100/24", "its host bits are set", "10.0.2.0/24"},
		{"10.0.2.64/25", "its host bits are set", "10.0.2.0/25"},
		{"192.168.1.0/16", "its host bits are set", "192.168.0.0/16"},
		{"127.0.0.0/8", "127.0.0.0/8 (loopback), whose addresses no interface can have", ""},
		{"127.0.0.0/24", "127.0.0.0/8 (loopback)", ""},
		{"127.0.0.1/8", "127.0.0.0/8 (loopback)", ""},
		{"127.255.255.128/25", "127.0.0.0/8 (loopback)", ""},
		{"127.0.0.0/26", "the prefix length is 26", ""},
		{"127.0.0.1", "the prefix length is missing", ""},
		{"0.0.0.0/1", "0.0.0.0/8 (this network)", ""},
		{"0.0.0.0/7", "0.0.0.0/8 (this network)", ""},
		{"0.1.0.0/24", "0.0.0.0/8 (this network)", ""},
		{"224.0.0.0/4", "224.0.0.0/4 (multicast)", ""},
		{"239.1.2.0/24", "224.0.0.0/4 (multicast)", ""},
	} {
		t.Run(tc.cidr, func(t *testing.T) {
			p, err := subnet.Parse(tc.cidr)
			if err == nil {
				t.Fatalf("accepted as %s", p)
			}
			if p != (subnet.Network{}) {
				t.Errorf("returned %s besides the error", p)
			}
			var ce *subnet.CIDRError
			if !errors.As(err, &ce) {
				t.Fatalf("not a *CIDRError: %v", err)
			}
			if ce.CIDR != tc.cidr {
				t.Errorf("CIDR: got %q, want %q", ce.CIDR, tc.cidr)
			}
			if !strings.Contains(ce.Reason, tc.reason) {
				t.Errorf("reason: got %q, want %q in it", ce.Reason, tc.reason)
			}
			meant := ""
			if ce.Meant.IsValid() {
				meant = ce.Meant.String()
				mustNetwork(t, meant)
			}
			if meant != tc.meant {
				t.Errorf("meant: got %q, want %q", meant, tc.meant)
			}
			if msg := err.Error(); strings.Contains(msg, "\n") || !strings.HasSuffix(msg, tc.meant) {
				t.Errorf("message: %q", msg)
			}
		})
	}
}

func TestPrefixErrors(t *testing.T) {
	for _, p := range []netip.Prefix{
		{},
		netip.MustParsePrefix("fd00::/64"),
		netip.MustParsePrefix("::ffff:10.0.2.0/120"),
		netip.MustParsePrefix("10.0.2.0/26"),
		netip.MustParsePrefix("0.0.0.0/0"),
		netip.MustParsePrefix("10.0.2.100/24"),
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("224.0.0.0/4"),
	} {
		n, err := subnet.Parse(p.String())
		var ce *subnet.CIDRError
		if !errors.As(err, &ce) {
			t.Errorf("%s: got %v and the error %v, want a *CIDRError", p, n, err)
		}
	}
}

func TestIPv6(t *testing.T) {
	for _, tc := range []struct{ name, got, want string }{
		{"cidr", subnet.CIDR6().String(), "fd00::/64"},
		{"gateway", subnet.Gateway6().String(), "fd00::2"},
		{"dns", subnet.DNS6().String(), "fd00::3"},
		{"router", subnet.Router6().String(), "fe80::2"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, tc.got, tc.want)
		}
	}
}
