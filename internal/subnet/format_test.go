package subnet_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

func full() subnet.Values {
	v := subnet.Default().Values()
	v.IPv6 = subnet.NewValues6(netip.MustParseAddr("fd00::ff:fe12:3456"))
	return v
}

func noDNS() subnet.Values {
	v := full()
	v.DNS, v.IPv6.DNS = netip.Addr{}, netip.Addr{}
	return v
}

func asText(v subnet.Values) string {
	var b strings.Builder
	for _, f := range v.List() {
		fmt.Fprintf(&b, "%-11s %s\n", f.Name, f.Text)
	}
	return b.String()
}

const (
	wantText = `cidr        10.0.2.0/24
guest       10.0.2.100
gateway     10.0.2.2
dns         10.0.2.3
dhcp-begin  10.0.2.15
dhcp-end    10.0.2.30
netmask     255.255.255.0
broadcast   10.0.2.255
`
	wantText6 = `cidr6       fd00::/64
guest6      fd00::ff:fe12:3456
gateway6    fd00::2
dns6        fd00::3
router6     fe80::2
`
	wantEnv = `SLIRP_CIDR=10.0.2.0/24
SLIRP_GUEST=10.0.2.100
SLIRP_GATEWAY=10.0.2.2
SLIRP_DNS=10.0.2.3
SLIRP_DHCP_BEGIN=10.0.2.15
SLIRP_DHCP_END=10.0.2.30
SLIRP_NETMASK=255.255.255.0
SLIRP_BROADCAST=10.0.2.255
`
	wantEnv6 = `SLIRP_CIDR6=fd00::/64
SLIRP_GUEST6=fd00::ff:fe12:3456
SLIRP_GATEWAY6=fd00::2
SLIRP_DNS6=fd00::3
SLIRP_ROUTER6=fe80::2
`
	wantJSON = `{"cidr":"10.0.2.0/24","guest":"10.0.2.100","gateway":"10.0.2.2","dns":"10.0.2.3",` +
		`"dhcpBegin":"10.0.2.15","dhcpEnd":"10.0.2.30","netmask":"255.255.255.0","broadcast":"10.0.2.255"`
	wantJSON6 = `,"ipv6":{"cidr":"fd00::/64","guest":"fd00::ff:fe12:3456","gateway":"fd00::2",` +
		`"dns":"fd00::3","router":"fe80::2"}`
)

func TestFormats(t *testing.T) {
	v4 := subnet.Default().Values()
	fish := func(env string) string {
		return "set -gx " + strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(env), "\n", "\nset -gx "), "=", " ") + "\n"
	}
	for _, tc := range []struct{ name, got, want string }{
		{"text", asText(v4), wantText},
		{"text IPv6", asText(full()), wantText + wantText6},
		{"text no DNS", asText(noDNS()), strings.NewReplacer(
			"dns         10.0.2.3\n", "", "dns6        fd00::3\n", "").Replace(wantText + wantText6)},
		{"env", subnet.Env(v4.List()), wantEnv},
		{"env IPv6", subnet.Env(full().List()), wantEnv + wantEnv6},
		{"fish", subnet.Fish(v4.List()), fish(wantEnv)},
		{"fish IPv6", subnet.Fish(full().List()), fish(wantEnv + wantEnv6)},
		{"resolv.conf", v4.ResolvConf(), "nameserver 10.0.2.3\n"},
		{"resolv.conf IPv6", full().ResolvConf(), "nameserver 10.0.2.3\nnameserver fd00::3\n"},
		{"resolv.conf no DNS", noDNS().ResolvConf(), ""},
		{"hosts", v4.Hosts("web"), "10.0.2.100\tweb\n"},
		{"hosts IPv6", full().Hosts("web"), "10.0.2.100\tweb\nfd00::ff:fe12:3456\tweb\n"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, tc.got, tc.want)
		}
	}
}

func TestJSON(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    subnet.Values
		want string
	}{
		{"IPv4", subnet.Default().Values(), wantJSON + `,"ipv6":null}`},
		{"IPv6", full(), wantJSON + wantJSON6 + "}"},
		{"no DNS", noDNS(), strings.NewReplacer(`"dns":"10.0.2.3",`, `"dns":"",`, `"dns":"fd00::3",`, `"dns":"",`).
			Replace(wantJSON + wantJSON6 + "}")},
	} {
		got, err := json.Marshal(tc.v)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: got %s, %v; want %s", tc.name, got, err, tc.want)
		}
		var back subnet.Values
		if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, tc.v) {
			t.Errorf("%s: reads back as %+v, %v", tc.name, back, err)
		}
	}
}

func TestNamesAndGet(t *testing.T) {
	v := full()
	var lines strings.Builder
	for _, name := range subnet.Names() {
		s, ok := v.Get(name)
		if !ok {
			t.Errorf("%s is not known", name)
		}
		lines.WriteString(name + strings.Repeat(" ", 12-len(name)) + s + "\n")
	}
	if lines.String() != wantText+wantText6 {
		t.Errorf("got\n%s", lines.String())
	}
	for name, want := range map[string]string{"dhcp-begin": `{"dhcpBegin":"10.0.2.15"}`, "router6": `{"ipv6":{"router":"fe80::2"}}`} {
		if got, err := json.Marshal(v.Object(name)); err != nil || string(got) != want {
			t.Errorf("the object of %s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "Guest", "nosuch"} {
		if got, ok := v.Get(name); ok {
			t.Errorf("%q is %q", name, got)
		}
	}
	if got, ok := subnet.Default().Values().Get("dns6"); ok {
		t.Errorf("without IPv6, dns6 is %q", got)
	}
}
