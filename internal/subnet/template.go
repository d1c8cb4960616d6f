package subnet

// TextValues is [Values] for Go templates: text that is empty where a value isn't known (an invalid
// netip.Addr would print itself as "invalid IP", which no script looks for); IPv6 is nil where
// there is none.
type TextValues struct {
	CIDR, Guest, Gateway, DNS, DHCPBegin, DHCPEnd, Netmask, Broadcast string

	IPv6 *TextValues6
}

// TextValues6 is the IPv6 part of [TextValues].
type TextValues6 struct{ CIDR, Guest, Gateway, DNS, Router string }

// Fields returns the values as text.
func (v Values) Fields() TextValues {
	get := func(name string) string {
		s, _ := v.Get(name)
		return s
	}
	t := TextValues{
		CIDR: get("cidr"), Guest: get("guest"), Gateway: get("gateway"), DNS: get("dns"),
		DHCPBegin: get("dhcp-begin"), DHCPEnd: get("dhcp-end"),
		Netmask: get("netmask"), Broadcast: get("broadcast"),
	}
	if v.IPv6 != nil {
		t.IPv6 = &TextValues6{
			CIDR: get("cidr6"), Guest: get("guest6"), Gateway: get("gateway6"),
			DNS: get("dns6"), Router: get("router6"),
		}
	}
	return t
}
