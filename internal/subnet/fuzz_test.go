package subnet_test

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

// accepted describes what slirp4netns accepts, independently of the package: the pattern in its
// binary, then a plain IPv4 address, 1 to 25 bits, no host bits. zeroPadded says that the prefix
// length has a leading zero.
func accepted(cidr string) (p netip.Prefix, zeroPadded, ok bool) {
	m := regexp.MustCompile(`^(([0-9]{1,3}\.){3}[0-9]{1,3})/([0-9]{1,2})$`).FindStringSubmatch(cidr)
	if m == nil {
		return netip.Prefix{}, false, false
	}
	addr, err := netip.ParseAddr(m[1])
	if err != nil {
		return netip.Prefix{}, false, false
	}
	bits, err := strconv.Atoi(m[3])
	if err != nil || bits < 1 || bits > 25 {
		return netip.Prefix{}, false, false
	}
	p = netip.PrefixFrom(addr, bits)
	return p, m[3][0] == '0', p.Masked() == p
}

// refusedOnPurpose reports whether p, which slirp4netns accepts, has addresses that no interface can have.
func refusedOnPurpose(p netip.Prefix) bool {
	first := p.Addr().As4()[0]
	return first == 0 || first == 127 || first >= 224 && first < 240
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, cidr string) {
		n, err := subnet.Parse(cidr)
		want, zeroPadded, ok := accepted(cidr)
		if ok && (zeroPadded || refusedOnPurpose(want)) {
			ok = false // the intended differences
		}
		if (err == nil) != ok {
			t.Fatalf("Parse(%q): got %v, %v; want acceptance %v", cidr, n, err, ok)
		}
		p := n.CIDR()
		if err != nil {
			var ce *subnet.CIDRError
			if !errors.As(err, &ce) || ce.Reason == "" || ce.CIDR != cidr {
				t.Fatalf("Parse(%q): not a good *CIDRError: %#v", cidr, err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("Parse(%q): the error has several lines: %q", cidr, err)
			}
			if ce.Meant.IsValid() {
				if _, err := subnet.Parse(ce.Meant.String()); err != nil {
					t.Fatalf("Parse(%q): proposes a network that is refused: %v", cidr, err)
				}
			}
			return
		}
		if p != want {
			t.Fatalf("Parse(%q): got %v, want %v", cidr, p, want)
		}
		text, err := n.MarshalText()
		var again subnet.Network
		if err := errors.Join(err, again.UnmarshalText(text)); err != nil || again != n {
			t.Fatalf("%s reads back as %v, %v", text, again, err)
		}
		for _, a := range []netip.Addr{
			n.Gateway(), n.DNS(), n.DHCPBegin(), n.DHCPEnd(), n.Guest(), n.Broadcast(),
		} {
			if !p.Contains(a) {
				t.Fatalf("%s is outside %s", a, p)
			}
		}
		free := subnet.FreeCIDR([]netip.Prefix{p})
		if hits := n.Overlaps([]netip.Prefix{free}); len(hits) != 0 && p.Bits() >= 8 {
			t.Fatalf("%s is proposed as free beside %s", free, p)
		}
	})
}
