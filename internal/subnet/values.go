package subnet

import (
	"encoding"
	"net/netip"
	"slices"
	"strings"
)

// Values are the values of one network, for output. A field that is unknown or does not exist (DNS
// when it is disabled) is the zero value; it is "" in JSON, and omitted from other outputs. The
// JSON form is what `slirpctl ip --json` prints.
type Values struct {
	CIDR      Network    `json:"cidr"`
	Guest     netip.Addr `json:"guest"`
	Gateway   netip.Addr `json:"gateway"`
	DNS       netip.Addr `json:"dns"`
	DHCPBegin netip.Addr `json:"dhcpBegin"`
	DHCPEnd   netip.Addr `json:"dhcpEnd"`
	Netmask   netip.Addr `json:"netmask"`
	Broadcast netip.Addr `json:"broadcast"`
	// IPv6 is nil if the namespace has no IPv6.
	IPv6 *Values6 `json:"ipv6"`
}

// Values6 is the IPv6 part of [Values].
type Values6 struct {
	CIDR netip.Prefix `json:"cidr"`
	// Guest is known only if the tap's MAC address is.
	Guest   netip.Addr `json:"guest"`
	Gateway netip.Addr `json:"gateway"`
	DNS     netip.Addr `json:"dns"`
	// Router is the next hop of the default route.
	Router netip.Addr `json:"router"`
}

// Values returns the values of n, without IPv6.
func (n Network) Values() Values {
	return Values{
		CIDR: n, Guest: n.Guest(), Gateway: n.Gateway(), DNS: n.DNS(),
		DHCPBegin: n.DHCPBegin(), DHCPEnd: n.DHCPEnd(),
		Netmask: n.Netmask(), Broadcast: n.Broadcast(),
	}
}

// NewValues6 returns the IPv6 values, which are the same for every network. guest is invalid
// (the zero value) if unknown.
func NewValues6(guest netip.Addr) *Values6 {
	return &Values6{CIDR: CIDR6(), Guest: guest, Gateway: Gateway6(), DNS: DNS6(), Router: Router6()}
}

// A Value is one of [Values] as text.
type Value struct{ Name, Text string }

// List returns the known values, in the order of printing.
func (v Values) List() []Value {
	return slices.DeleteFunc(v.all(), func(v Value) bool { return v.Text == "" })
}

func (v Values) all() []Value {
	l := []Value{
		{"cidr", text(v.CIDR)},
		{"guest", text(v.Guest)},
		{"gateway", text(v.Gateway)},
		{"dns", text(v.DNS)},
		{"dhcp-begin", text(v.DHCPBegin)},
		{"dhcp-end", text(v.DHCPEnd)},
		{"netmask", text(v.Netmask)},
		{"broadcast", text(v.Broadcast)},
	}
	if v6 := v.IPv6; v6 != nil {
		l = append(l, Value{"cidr6", text(v6.CIDR)}, Value{"guest6", text(v6.Guest)}, Value{"gateway6", text(v6.Gateway)},
			Value{"dns6", text(v6.DNS)}, Value{"router6", text(v6.Router)})
	}
	return l
}

// text returns "" for an unknown value.
func text(v encoding.TextMarshaler) string {
	b, _ := v.MarshalText() // addresses and networks have no error
	return string(b)
}

// Names returns the names of all values, in the order they are printed; IPv6 values, whose names
// end in 6, come last.
func Names() []string {
	var names []string
	for _, v := range (Values{IPv6: &Values6{}}).all() {
		names = append(names, v.Name)
	}
	return names
}

// Get returns the named value as text, and false if the name is not one of [Names] or the value is
// unknown.
func (v Values) Get(name string) (string, bool) {
	for _, value := range v.List() {
		if value.Name == name {
			return value.Text, true
		}
	}
	return "", false
}

// Object returns a JSON object with only the named value, nested as in the JSON form of [Values].
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
