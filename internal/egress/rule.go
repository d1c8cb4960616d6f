// Package egress decides whom a namespace may talk to, and keeps the record of whom it talked
// to. It exists apart from the gateway, which carries the bytes, so that the rules can be read,
// tested and checked without a network.
//
// A [Rule] names hosts, ports and a protocol. A [Set] holds the allow and deny rules of one
// instance; it is changed while it is used, all or nothing, and its rules keep their ids. What
// names and addresses mean is decided here alone: the gateway asks [Set.Name] when a name is
// looked up and [Set.Flow] when a connection, a datagram or an echo request leaves.
package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Proto is the protocol of a rule or of a flow.
type Proto uint8

// The protocols. A flow has one of the first three.
const (
	TCP Proto = iota + 1
	UDP
	ICMP
	AnyProto // of a deny rule without one
)

var protoNames = map[Proto]string{TCP: "tcp", UDP: "udp", ICMP: "icmp"}

func (p Proto) String() string { return protoNames[p] }

// MarshalText writes the name; it is "" for [AnyProto].
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Proto) UnmarshalText(text []byte) error {
	for proto, name := range protoNames {
		if name == string(text) {
			*p = proto
			return nil
		}
	}
	*p = AnyProto
	if len(text) > 0 {
		return fmt.Errorf("%q is not a protocol", text)
	}
	return nil
}

// Ports is a range of ports, First to Last, both included, 0 to 65535.
type Ports struct{ First, Last uint16 }

var (
	everyPort = []Ports{{0, 65535}}
	webPorts  = []Ports{{80, 80}, {443, 443}}
)

// Action is what a rule does with what it matches.
type Action uint8

// The actions. Deny wins.
const (
	Allow Action = iota + 1
	Deny
)

func (a Action) String() string {
	if a == Deny {
		return "deny"
	}
	return "allow"
}

// MarshalText writes "allow" or "deny".
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (a *Action) UnmarshalText(text []byte) error {
	switch string(text) {
	case "allow":
		*a = Allow
	case "deny":
		*a = Deny
	default:
		return fmt.Errorf("%q is neither allow nor deny", text)
	}
	return nil
}

// Rule is one allow or deny rule. Exactly one of Name, Prefix and Any says whom it is about.
type Rule struct {
	Action Action
	// Name is a host name as [CanonicalName] returns it. With Suffix it stands for every name
	// below it, at any depth, and not for itself.
	Name   string
	Suffix bool
	// Prefix is a network, or one address as a network. IPv4 is never written as IPv6.
	Prefix netip.Prefix
	// Any is every name and every address that is not [Special].
	Any bool
	// Ports are sorted and don't overlap. They mean nothing for ICMP.
	Ports []Ports
	Proto Proto
	// Unchecked lets connections pass whose TLS server name or HTTP host is another.
	Unchecked bool
}

func badRule(rule, reason string) error {
	return fault.Errorf(fault.Usage, "", "egress rule %q: %s", rule, reason)
}

// ParseRule reads TARGET[:PORTS][/PROTO]. TARGET is a host name, *.SUFFIX, an address, a CIDR or
// *; IPv6 in brackets if PORTS follow. PORTS are numbers and ranges with commas between, or *.
// PROTO is tcp, udp or icmp. An allow rule without PORTS is about 80 and 443, without PROTO
// about tcp; a deny rule without is about every port and every protocol.
func ParseRule(action Action, text string) (Rule, error) {
	r := Rule{Action: action}
	fail := func(format string, a ...any) (Rule, error) {
		return Rule{}, badRule(text, fmt.Sprintf(format, a...))
	}
	rest := text
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		if proto := strings.ToLower(rest[i+1:]); proto == "" || proto[0] < '0' || proto[0] > '9' {
			for p, name := range protoNames {
				if name == proto {
					r.Proto = p
				}
			}
			if r.Proto == 0 {
				return fail("%q is no protocol: tcp, udp or icmp", rest[i+1:])
			}
			rest = rest[:i]
		}
	}
	target, ports, hasPorts := cutPorts(rest)
	if reason := r.setTarget(target); reason != "" {
		return fail("%s", reason)
	}
	switch {
	case hasPorts && r.Proto == ICMP:
		return fail("icmp has no ports")
	case hasPorts:
		var reason string
		if r.Ports, reason = parsePorts(ports); reason != "" {
			return fail("%s", reason)
		}
	case r.Proto == ICMP || action == Deny:
		r.Ports = everyPort
	default:
		r.Ports = webPorts
	}
	if r.Proto == 0 {
		r.Proto = TCP
		if action == Deny {
			r.Proto = AnyProto
		}
	}
	return r, nil
}

// Everything returns rules that allow everything.
func Everything() []Rule {
	var rules []Rule
	for _, p := range []Proto{TCP, UDP, ICMP} {
		rules = append(rules, Rule{Action: Allow, Any: true, Ports: everyPort, Proto: p})
		for _, n := range []string{"0.0.0.0/0", "::/0"} {
			rules = append(rules, Rule{Action: Allow, Prefix: netip.MustParsePrefix(n), Ports: everyPort, Proto: p})
		}
	}
	return rules
}

// ParseFlow reads HOST:PORT[/PROTO], or HOST/icmp.
func ParseFlow(text string) (Flow, error) {
	r, err := ParseRule(Allow, text)
	if err != nil {
		return Flow{}, err
	}
	if r.Any || r.Suffix || r.Name == "" && !r.Prefix.IsSingleIP() || r.Proto != ICMP && (len(r.Ports) != 1 || r.Ports[0].First != r.Ports[0].Last) {
		return Flow{}, badRule(text, "write HOST:PORT[/PROTO], one host and one port")
	}
	f := Flow{Proto: r.Proto, Name: r.Name}
	if r.Name == "" {
		f.Addr = r.Prefix.Addr()
	}
	if r.Proto != ICMP {
		f.Port = r.Ports[0].First
	}
	return f, nil
}

// cutPorts splits TARGET:PORTS. A colon within an IPv6 address is none.
func cutPorts(text string) (target, ports string, found bool) {
	if strings.HasPrefix(text, "[") {
		i := strings.LastIndexByte(text, ']')
		if i < 0 {
			return text, "", false
		}
		target, rest := text[1:i], text[i+1:]
		if j := strings.IndexByte(rest, ':'); j >= 0 {
			return target + rest[:j], rest[j+1:], true // [ADDR]/LEN:PORTS too
		}
		return target + rest, "", false
	}
	if strings.Count(text, ":") > 1 {
		return text, "", false
	}
	return strings.Cut(text, ":")
}

// setTarget returns the reason why text names nothing, or "".
func (r *Rule) setTarget(text string) string {
	if text == "*" {
		r.Any = true
		return ""
	}
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return fmt.Sprintf("%q is no CIDR", text)
		case p.Addr().Is4In6():
			return "write IPv4 networks as IPv4"
		case p != p.Masked():
			return fmt.Sprintf("%s has host bits: write %s", p, p.Masked())
		}
		r.Prefix = p
		return ""
	}
	if a, err := netip.ParseAddr(text); err == nil {
		if a.Zone() != "" {
			return "an address with a zone can't be matched"
		}
		a = a.Unmap()
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
		return ""
	}
	if strings.HasPrefix(text, "[") || strings.Contains(text, ":") {
		return fmt.Sprintf("%q is no address", text)
	}
	name, suffix := strings.CutPrefix(text, "*.")
	if strings.Contains(name, "*") {
		return "* stands only for a whole TARGET, or as *. before a name"
	}
	canonical, err := RuleName(name)
	if err != nil {
		return err.Error()
	}
	r.Name, r.Suffix = canonical, suffix
	return ""
}

func parsePorts(text string) (ports []Ports, reason string) {
	if text == "*" {
		return everyPort, ""
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a == 0 || b == 0 {
			return nil, fmt.Sprintf("%q is no port: 1 to 65535, a range or *", part)
		}
		if a > b {
			return nil, fmt.Sprintf("the range %q ends before it begins", part)
		}
		ports = append(ports, Ports{uint16(a), uint16(b)})
	}
	return mergePorts(ports), ""
}

// mergePorts sorts ranges and joins those that touch.
func mergePorts(ports []Ports) []Ports {
	slices.SortFunc(ports, func(a, b Ports) int { return int(a.First) - int(b.First) })
	out := ports[:1]
	for _, p := range ports[1:] {
		if last := &out[len(out)-1]; int(p.First) <= int(last.Last)+1 {
			last.Last = max(last.Last, p.Last)
		} else {
			out = append(out, p)
		}
	}
	return out
}

// String returns the rule as [ParseRule] reads it, always with its ports and protocol, except
// where a deny rule is about all of them.
func (r Rule) String() string {
	var b strings.Builder
	every := slices.Equal(r.Ports, everyPort)
	withPorts := r.Proto != ICMP && !(every && r.Proto == AnyProto)
	switch {
	case r.Any:
		b.WriteByte('*')
	case r.Name != "":
		if r.Suffix {
			b.WriteString("*.")
		}
		b.WriteString(r.Name)
	default:
		target := r.Prefix.String()
		if r.Prefix.IsSingleIP() {
			target = r.Prefix.Addr().String()
		}
		if withPorts && r.Prefix.Addr().Is6() {
			target = "[" + target + "]"
		}
		b.WriteString(target)
	}
	if withPorts {
		sep := byte(':')
		for _, p := range r.Ports {
			b.WriteByte(sep)
			sep = ','
			switch {
			case every:
				b.WriteByte('*')
			case p.First == p.Last:
				fmt.Fprint(&b, p.First)
			default:
				fmt.Fprintf(&b, "%d-%d", p.First, p.Last)
			}
		}
	}
	if r.Proto != AnyProto {
		b.WriteString("/" + r.Proto.String())
	}
	return b.String()
}

// covers reports whether the rule is about this protocol and port.
func (r *Rule) covers(proto Proto, port uint16) bool {
	if r.Proto != proto && r.Proto != AnyProto {
		return false
	}
	if proto == ICMP {
		return true
	}
	return r.hasPorts(Ports{port, port})
}

// coversAll reports whether the rule is about all that other is about, of one target.
func (r *Rule) coversAll(other *Rule) bool {
	if r.Proto != other.Proto && r.Proto != AnyProto {
		return false
	}
	for _, p := range other.Ports {
		if !r.hasPorts(p) {
			return false
		}
	}
	return true
}

func (r *Rule) hasPorts(want Ports) bool {
	for _, p := range r.Ports {
		if p.First <= want.First && want.Last <= p.Last {
			return true
		}
	}
	return false
}
