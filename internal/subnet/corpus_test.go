package subnet_test

import (
	"fmt"
	"net/netip"
	"slices"
)

// corpus returns networks, valid and invalid, for the comparison with slirp4netns: the edges of
// every prefix length, every one-character error in a valid network, and unusual spellings.
func corpus() []string {
	var c []string
	for bits := range 33 {
		for _, base := range []string{"10.0.2.0", "0.0.0.0", "255.255.255.255", "172.31.85.170", "192.168.128.64"} {
			p := netip.PrefixFrom(netip.MustParseAddr(base), bits)
			c = append(
				c,
				p.String(),          // often with host bits
				p.Masked().String(), // none
				fmt.Sprintf("%s/%d", p.Masked().Addr().Next(), bits),   // the lowest host bit
				fmt.Sprintf("%s/%02d", p.Masked().Addr(), bits),        // a leading zero below 10
				fmt.Sprintf("%s/%03d", p.Masked().Addr(), bits),        // a leading zero always
				fmt.Sprintf("%s/%d", highestHostBit(p.Masked()), bits), // the highest host bit
			)
		}
	}
	const good = "10.64.2.0/24"
	for i := range len(good) + 1 {
		for _, insert := range []string{"0", "1", "/", ".", "-", "+", "x", ":", " ", "\t", "\n", "é"} {
			c = append(c, good[:i]+insert+good[i:])
		}
		if i < len(good) {
			c = append(c, good[:i]+good[i+1:])
		}
	}
	c = append(
		c,
		"", " ", "/", "//", ".", "...", ".../24", "/24", "24", "foo", "default", "none", "0", "-1",
		"10.0.2.0", "10.0.2.0/", "10.0.2.0/ ", "10.0.2.0//24", "10.0.2.0/24/24", "10.0.2.0/24,10.0.3.0/24",
		" 10.0.2.0/24", "10.0.2.0/24 ", "10.0.2.0 /24", "10.0.2.0/ 24", "\t10.0.2.0/24", "10.0.2.0/24\n",
		"10.0.2.0/24\r\n", "\v10.0.2.0/24", "10.0.2.0/24\f", "\u00a010.0.2.0/24", "10.0.2.0/24\u2028",
		"010.0.2.0/24", "10.00.2.0/24", "10.0.02.0/24", "10.0.2.00/24", "10.0.2.000/24", "000.0.0.0/8",
		"0x0a.0.2.0/24", "0xa000200/24", "10.0.2.0/0x18", "0xa.0x0.0x2.0x0/24", "167772672/24", "012.0.2.0/24",
		"10.0.2/24", "10.2/24", "10/8", "10./8", "10.0.2.0.0/24", ".10.0.2.0/24", "10.0.2.0./24", "10..2.0/24",
		"256.0.0.0/8", "10.256.0.0/16", "10.0.2.256/24", "999.0.0.0/8", "1000.0.0.0/8", "10.0.2.4294967296/24",
		"10.0.2.0/+24", "10.0.2.0/-24", "10.0.2.0/24.0", "10.0.2.0/2e1", "10.0.2.0/255.255.255.0", "10.0.2.0/24x",
		"10.0.2.0/024", "10.0.2.0/0024", "10.0.0.0/008", "10.0.2.0/00", "10.0.2.0/000", "10.0.2.0/99", "10.0.2.0/100",
		"10.0.2.0/256", "10.0.2.0/280", "10.0.2.0/4294967320", "10.0.2.0/18446744073709551640",
		"-10.0.2.0/24", "+10.0.2.0/24", "10.0.2.-0/24", "10,0,2,0/24", "10.0.2.0\\24", "10.0.2.0|24",
		"١٠.0.2.0/24", "10.0.2.0/２４", "10.0.2.0/2\xff", "\xff", "10。0。2。0/24",
		"fd00::/64", "::/0", "::1/128", "::/1", "fe80::/10", "2001:db8::/32", "::ffff:10.0.2.0/120",
		"::ffff:10.0.2.0/24", "::10.0.2.0/24", "[fd00::]/64", "[10.0.2.0]/24", "fe80::1%lo/64", "10.0.2.0%lo/24",
		"localhost/24", "example.test/24", "'10.0.2.0/24'", "\"10.0.2.0/24\"", "$CIDR", "--help", "-h",
		"127.0.0.0/8", "127.0.0.0/25", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "100.64.0.0/10",
	)
	slices.Sort(c)
	return slices.Compact(c)
}

// highestHostBit returns the address of p with only its highest host bit set, or p's own if
// it has none.
func highestHostBit(p netip.Prefix) netip.Addr {
	if p.Bits() == 32 {
		return p.Addr()
	}
	b := p.Addr().As4()
	b[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	return netip.AddrFrom4(b)
}
