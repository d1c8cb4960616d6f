package options

import (
	"net/netip"
	"testing"
)

// The options of Podman's table, line by line: what Podman accepted is accepted, with the same meaning.
func TestPodmanOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		ok   func(m Merged) bool
	}{
		{"bare network", []string{"--network", "slirp4netns"}, func(m Merged) bool { return m.MTU == 65520 && !m.IPv6 && !m.AllowHostLoopback }},
		{"bare network with colon", []string{"--network", "slirp4netns:"}, func(m Merged) bool { return m.MTU == 65520 }},
		{"several in one", []string{"--network=slirp4netns:mtu=1500,enable_ipv6=true"}, func(m Merged) bool { return m.MTU == 1500 && m.IPv6 }},
		{"last of one string wins", []string{"--network=slirp4netns:mtu=1500,mtu=1400"}, func(m Merged) bool { return m.MTU == 1400 }},
		{"option after network", []string{"--network=slirp4netns:mtu=1500", "-o", "mtu=1400"}, func(m Merged) bool { return m.MTU == 1400 }},
		{"network after option", []string{"-o", "mtu=1400", "--network=slirp4netns:mtu=1500"}, func(m Merged) bool { return m.MTU == 1500 }},
		{"option, network, option", []string{"-omtu=1", "-omtu=1400", "--network=slirp4netns:mtu=1500", "-omtu=1300"}[1:], func(m Merged) bool { return m.MTU == 1300 }},
		{"plain flag before both", []string{"--mtu=1200", "-o", "mtu=1400", "--network=slirp4netns:mtu=1500"}, func(m Merged) bool { return m.MTU == 1200 }},
		{"plain flag equal to the default", []string{"--mtu=65520", "-o", "mtu=1400"}, func(m Merged) bool { return m.MTU == 65520 }},
		{"cidr", []string{"-o", "cidr=10.7.0.0/16"}, func(m Merged) bool { return m.CIDR.String() == "10.7.0.0/16" }},
		{"port_handler default", nil, func(m Merged) bool { return m.PortHandler == HandlerDirect }},
		{"port_handler=slirp4netns", []string{"-o", "port_handler=slirp4netns"}, func(m Merged) bool { return m.PortHandler == HandlerSlirp4netns }},
		{"port_handler=rootlesskit", []string{"-o", "port_handler=rootlesskit"}, func(m Merged) bool { return m.PortHandler == HandlerRootlessKit }},
		{"port_handler=direct", []string{"-o", "port_handler=direct"}, func(m Merged) bool { return m.PortHandler == HandlerDirect }},
		{"allow_host_loopback=true", []string{"-o", "allow_host_loopback=true"}, func(m Merged) bool { return m.AllowHostLoopback }},
		{"allow_host_loopback=false", []string{"-o", "allow_host_loopback=false"}, func(m Merged) bool { return !m.AllowHostLoopback }},
		{"enable_ipv6=true", []string{"-o", "enable_ipv6=true"}, func(m Merged) bool { return m.IPv6 }},
		{"enable_ipv6=false", []string{"-o", "enable_ipv6=false"}, func(m Merged) bool { return !m.IPv6 }},
		{"outbound_addr address", []string{"-o", "outbound_addr=192.0.2.7"}, func(m Merged) bool { return m.OutboundAddr == Outbound{Addr: netip.MustParseAddr("192.0.2.7")} }},
		{"outbound_addr interface", []string{"-o", "outbound_addr=enp1s0"}, func(m Merged) bool { return m.OutboundAddr == Outbound{Interface: "enp1s0"} }},
		{"outbound_addr6 address", []string{"-o", "outbound_addr6=2001:db8::7", "-o", "enable_ipv6=true"}, func(m Merged) bool {
			return m.OutboundAddr6 == Outbound{Addr: netip.MustParseAddr("2001:db8::7")}
		}},
		{"outbound_addr6 interface", []string{"-o", "enable_ipv6=true", "-o", "outbound_addr6=enp1s0"}, func(m Merged) bool { return m.OutboundAddr6 == Outbound{Interface: "enp1s0"} }},
		{"mtu=68", []string{"-o", "mtu=68"}, func(m Merged) bool { return m.MTU == 68 }},
		{"mtu=65521", []string{"-o", "mtu=65521"}, func(m Merged) bool { return m.MTU == 65521 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if m := newWorld(t).mustLoad(tc.args...); !tc.ok(m) {
				t.Errorf("got %+v", m.Options)
			}
		})
	}
}

// What Podman refused is refused, with the option's name and the nearest known one.
func TestPodmanErrors(t *testing.T) {
	all := "known: port_handler, cidr, mtu, enable_ipv6, allow_host_loopback, outbound_addr, outbound_addr6"
	for _, tc := range []struct{ option, want, hint string }{
		{"mtu", `flag --option: "mtu": an option without =`, "write K=V"},
		{"", `flag --option: an empty option`, "write K=V"},
		{"=5", `flag --option: "=5": an option without a name`, all},
		{"port_handlr=direct", `flag --option: port_handlr: "direct": unknown option`, "did you mean port_handler?"},
		{"ipv6=true", `flag --option: ipv6: "true": unknown option`, "did you mean enable_ipv6?"},
		{"tap_name=eth0", `flag --option: tap_name: "eth0": unknown option`, "Podman has no such option; use --tap-name"},
		{"quux=1", `flag --option: quux: "1": unknown option`, all},
		{"MTU=1500", `flag --option: MTU: "1500": unknown option`, "did you mean mtu?"},
		{"cidr=10.0.2.0", `flag --option: cidr: "10.0.2.0": `, ""},
		{"cidr=fd00::/64", `flag --option: cidr: "fd00::/64": `, ""},
		{"cidr=10.0.2.0/26", `flag --option: cidr: "10.0.2.0/26": `, ""},
		{"cidr=10.0.2.100/24", `flag --option: cidr: "10.0.2.100/24": `, ""},
		{"cidr=", `flag --option: cidr: is empty`, ""},
		{"port_handler=pasta", `flag --option: port_handler: "pasta": not one of direct, rootlesskit, slirp4netns`, ""},
		{"port_handler=", `flag --option: port_handler: is empty`, ""},
		{"allow_host_loopback=yes", `flag --option: allow_host_loopback: "yes": neither true nor false`, ""},
		{"enable_ipv6=1", `flag --option: enable_ipv6: "1": neither true nor false`, ""},
		{"enable_ipv6=", `flag --option: enable_ipv6: is empty`, ""},
		{"outbound_addr=2001:db8::1", `flag --option: outbound_addr: "2001:db8::1": not an IPv4 address`, ""},
		{"outbound_addr=192.0.2.300", `flag --option: outbound_addr: "192.0.2.300": not an IPv4 address`, ""},
		{"outbound_addr=a/b", `flag --option: outbound_addr: "a/b": neither an IPv4 address nor an interface: contains '/', which an interface name can't`, ""},
		{"outbound_addr6=192.0.2.1", `flag --option: outbound_addr6: "192.0.2.1": not an IPv6 address`, ""},
		{"outbound_addr6=2001:db8::1", `flag --option: outbound_addr6: "2001:db8::1": needs IPv6, which is off`, "add enable_ipv6=true"},
		{"mtu=67", `flag --option: mtu: "67": less than 68`, ""},
		{"mtu=65522", `flag --option: mtu: "65522": more than 65521`, ""},
		{"mtu=99999999999999999999", `flag --option: mtu: "99999999999999999999": more than 65521`, ""},
		{"mtu=big", `flag --option: mtu: "big": not a whole number`, ""},
		{"mtu=1500=1", `flag --option: mtu: "1500=1": not a whole number`, ""},
	} {
		t.Run(tc.option, func(t *testing.T) {
			_, err := newWorld(t).load("-o", tc.option)
			e, ok := err.(*Error)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := e.Error(); got != tc.want && (e.Key != "cidr" || len(got) <= len(tc.want) || got[:len(tc.want)] != tc.want) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if e.Help != tc.hint && e.Key != "cidr" {
				t.Errorf("hint: got %s, want %s", e.Help, tc.hint)
			}
		})
	}
	hint := "write --network slirp4netns or --network slirp4netns:K=V,..."
	newWorld(t).fails(`flag --network: "pasta:mtu=5": the only network is slirp4netns`, hint, "--network", "pasta:mtu=5")
	newWorld(t).fails(`flag --network: the only network is slirp4netns`, hint, "--network", "")
	newWorld(t).fails(`flag --network: an empty option`, "write K=V", "--network", "slirp4netns:mtu=1500,")
	newWorld(t).fails(`flag --network: mut: "5": unknown option`, "did you mean mtu?", "--network", "slirp4netns:cidr=10.1.0.0/24,mut=5")
}
