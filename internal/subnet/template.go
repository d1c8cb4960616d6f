package subnet

import (
	"fmt"
	"strings"
	"text/template"
)

// Template renders v through a Go template, as one or more whole lines. The template sees the
// fields of [Values] by their Go names, as text that is empty where a value isn't known; IPv6
// is nil where there is none. Any error is the template's.
func (v Values) Template(text string) (string, error) {
	t, err := template.New("format").Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse template: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, v.text()); err != nil {
		return "", fmt.Errorf("execute template: %w", err)
	}
	if !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// textValues is [Values] as a template sees it. An invalid netip.Addr would print itself as
// "invalid IP", which no script looks for.
type textValues struct {
	CIDR, Guest, Gateway, DNS, DHCPBegin, DHCPEnd, Netmask, Broadcast string

	IPv6 *textValues6
}

type textValues6 struct{ CIDR, Guest, Gateway, DNS, Router string }

func (v Values) text() textValues {
	get := func(name string) string {
		s, _ := v.Get(name)
		return s
	}
	t := textValues{
		CIDR: get("cidr"), Guest: get("guest"), Gateway: get("gateway"), DNS: get("dns"),
		DHCPBegin: get("dhcp-begin"), DHCPEnd: get("dhcp-end"),
		Netmask: get("netmask"), Broadcast: get("broadcast"),
	}
	if v.IPv6 != nil {
		t.IPv6 = &textValues6{
			CIDR: get("cidr6"), Guest: get("guest6"), Gateway: get("gateway6"),
			DNS: get("dns6"), Router: get("router6"),
		}
	}
	return t
}
