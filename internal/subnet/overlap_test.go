package subnet_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

func prefixes(s string) []netip.Prefix {
	var ps []netip.Prefix
	for _, f := range strings.Fields(s) {
		ps = append(ps, netip.MustParsePrefix(f))
	}
	return ps
}

func TestOverlaps(t *testing.T) {
	for _, tc := range []struct{ cidr, taken, want string }{
		{"10.0.2.0/24", "", ""},
		{"10.0.2.0/24", "10.0.1.0/24 10.0.3.0/24", ""},
		{"10.0.2.0/24", "192.168.0.0/16 10.0.2.0/24 10.0.2.128/25", "10.0.2.0/24 10.0.2.128/25"},
		{"10.0.2.0/24", "10.0.2.77/32", "10.0.2.77/32"},
		{"10.0.2.0/24", "10.0.0.0/8", "10.0.0.0/8"},
		// Default routes in all their forms, and another family, don't overlap.
		{"10.0.2.0/24", "0.0.0.0/0 0.0.0.0/1 8.0.0.0/7 ::/0 fd00::/64", ""},
		{"128.0.0.0/1", "192.168.1.0/24", "192.168.1.0/24"},
	} {
		got := mustNetwork(t, tc.cidr).Overlaps(append(prefixes(tc.taken), netip.Prefix{}))
		if !slices.Equal(got, prefixes(tc.want)) {
			t.Errorf("%s with %q: got %v, want %q", tc.cidr, tc.taken, got, tc.want)
		}
	}
}

func TestFreeCIDR(t *testing.T) {
	for _, tc := range []struct{ name, taken, want string }{
		{"nothing taken", "", "10.0.2.0/24"},
		{"default route", "0.0.0.0/0 192.168.1.0/24", "10.0.2.0/24"},
		{"the default network", "10.0.2.0/24", "10.128.0.0/24"},
		{"one address of it", "10.0.2.15/32", "10.128.0.0/24"},
		{"first choices too", "10.0.2.0/24 10.128.0.0/24 10.128.1.5/32", "10.128.2.0/24"},
		{"a large block in the middle", "10.0.2.0/24 10.128.0.0/10", "10.192.0.0/24"},
		{"nested", "10.0.0.0/16 10.128.0.0/16 10.128.4.0/24 10.129.0.0/24", "10.129.1.0/24"},
		{"all of ten", "10.0.0.0/8", "172.24.0.0/24"},
		{"ten and docker", "10.0.0.0/8 172.16.0.0/12", "192.168.0.0/24"},
		{"every private range", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16", "198.18.0.0/24"},
		{"lower halves left", "10.0.2.0/24 10.128.0.0/9 172.24.0.0/13 192.168.0.0/16 198.18.0.0/15", "10.0.0.0/24"},
		{"only the last pool", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15", "100.64.0.0/24"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			taken := prefixes(tc.taken)
			got := subnet.FreeCIDR(taken)
			if got.String() != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if hits := mustNetwork(t, got.String()).Overlaps(taken); len(hits) != 0 {
				t.Errorf("%s overlaps %v", got, hits)
			}
		})
	}
	all := prefixes("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 100.64.0.0/10")
	if got := subnet.FreeCIDR(all); got.IsValid() {
		t.Errorf("all taken: got %s", got)
	}
}
