package subnet

import (
	"net/netip"
	"strings"
)

// Values is what there is to say about one network, ready to be printed. A field that is not
// known, or does not exist (DNS when it is disabled), is the zero value; JSON has "" for it, and
// the other outputs leave it out. Its JSON is what `slirpctl ip --json` prints.
type Values struct {
	CIDR      netip.Prefix `json:"cidr"`
	Guest     netip.Addr   `json:"guest"`
	Gateway   netip.Addr   `json:"gateway"`
	DNS       netip.Addr   `json:"dns"`
	DHCPBegin netip.Addr   `json:"dhcpBegin"`
	DHCPEnd   netip.Addr   `json:"dhcpEnd"`
	Netmask   netip.Addr   `json:"netmask"`
	Broadcast netip.Addr   `json:"broadcast"`
	// IPv6 is nil where the namespace has no IPv6.
	IPv6 *Values6 `json:"ipv6"`
}

// Values6 is the IPv6 part of [Values].
type Values6 struct {
	CIDR netip.Prefix `json:"cidr"`
	// Guest is known only where the tap's MAC address is; see [Guest6].
	Guest   netip.Addr `json:"guest"`
	Gateway netip.Addr `json:"gateway"`
	DNS     netip.Addr `json:"dns"`
	// Router is the next hop of the default route.
	Router netip.Addr `json:"router"`
}

// Values returns the values of n, without IPv6.
func (n Network) Values() Values {
	return Values{
		CIDR: n.CIDR(), Guest: n.Guest(), Gateway: n.Gateway(), DNS: n.DNS(),
		DHCPBegin: n.DHCPBegin(), DHCPEnd: n.DHCPEnd(),
		Netmask: n.Netmask(), Broadcast: n.Broadcast(),
	}
}

// NewValues6 returns the IPv6 values, which are the same for every network. guest may be
// invalid (the zero value) where it isn't known.
func NewValues6(guest netip.Addr) *Values6 {
	return &Values6{CIDR: CIDR6(), Guest: guest, Gateway: Gateway6(), DNS: DNS6(), Router: Router6()}
}

// A value is one line of the text form: the name that the user gives and reads, and where the
// value is kept. Exactly one of addr and prefix is set.
type value struct {
	name   string
	addr   *netip.Addr
	prefix *netip.Prefix
}

// list returns every value of v in the order of printing. Those of IPv6 are missing where v
// has none.
func (v *Values) list() []value {
	l := []value{
		{name: "cidr", prefix: &v.CIDR},
		{name: "guest", addr: &v.Guest},
		{name: "gateway", addr: &v.Gateway},
		{name: "dns", addr: &v.DNS},
		{name: "dhcp-begin", addr: &v.DHCPBegin},
		{name: "dhcp-end", addr: &v.DHCPEnd},
		{name: "netmask", addr: &v.Netmask},
		{name: "broadcast", addr: &v.Broadcast},
	}
	if v6 := v.IPv6; v6 != nil {
		l = append(
			l,
			value{name: "cidr6", prefix: &v6.CIDR},
			value{name: "guest6", addr: &v6.Guest},
			value{name: "gateway6", addr: &v6.Gateway},
			value{name: "dns6", addr: &v6.DNS},
			value{name: "router6", addr: &v6.Router},
		)
	}
	return l
}

// String returns the value, or "" where it isn't known.
func (v value) String() string {
	switch {
	case v.prefix != nil && v.prefix.IsValid():
		return v.prefix.String()
	case v.addr != nil && v.addr.IsValid():
		return v.addr.String()
	}
	return ""
}

// clear makes the value unknown.
func (v value) clear() {
	if v.prefix != nil {
		*v.prefix = netip.Prefix{}
	} else {
		*v.addr = netip.Addr{}
	}
}

// Names returns the names of all values, in the order they are printed, those of IPv6 (which
// end in 6) last.
func Names() []string {
	v := Values{IPv6: &Values6{}}
	var names []string
	for _, f := range v.list() {
		names = append(names, f.name)
	}
	return names
}

// Get returns the value of that name as text, and false if there is none: the name is not one
// of [Names], or the value isn't known.
func (v Values) Get(name string) (string, bool) {
	for _, f := range v.list() {
		if f.name == name {
			s := f.String()
			return s, s != ""
		}
	}
	return "", false
}

// Object returns the value of that name as an object that holds it alone, in the place that it has in
// the JSON of [Values].
func (v Values) Object(name string) map[string]any {
	text, _ := v.Get(name)
	key, rest, _ := strings.Cut(strings.TrimSuffix(name, "6"), "-")
	if rest != "" {
		key += strings.ToUpper(rest[:1]) + rest[1:]
	}
	object := map[string]any{key: text}
	if strings.HasSuffix(name, "6") {
		object = map[string]any{"ipv6": object}
	}
	return object
}

// Only returns v with nothing but the value of that name left.
func (v Values) Only(name string) Values {
	if v.IPv6 != nil {
		copied := *v.IPv6
		v.IPv6 = &copied
	}
	for _, f := range v.list() {
		if f.name != name {
			f.clear()
		}
	}
	if v.IPv6 != nil && *v.IPv6 == (Values6{}) {
		v.IPv6 = nil
	}
	return v
}
