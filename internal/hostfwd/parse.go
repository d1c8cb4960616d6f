package hostfwd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// SpecError says which part of a port spec is wrong.
type SpecError struct {
	Spec       string
	Start, End int // the wrong part is Spec[Start:End]; empty if something is missing
	Reason     string
}

// Error returns one line that quotes the spec and the wrong part.
func (e *SpecError) Error() string {
	part := e.Spec[e.Start:e.End]
	if part == "" || part == e.Spec {
		return fmt.Sprintf("port spec %q: %s", e.Spec, e.Reason)
	}
	return fmt.Sprintf("port spec %q: %q: %s", e.Spec, part, e.Reason)
}

// Is reports the error's kind, [fault.Usage].
func (*SpecError) Is(target error) bool { return target == fault.Usage }

// Hint returns what to do about it.
func (*SpecError) Hint() string {
	return "a port spec is [HOSTIP:][HOSTPORT]:[GUESTIP:]GUESTPORT[/PROTO], for example 8080:80"
}

// ParseSpec parses
//
//	[HOSTIP:][HOSTPORT[-END]]:[GUESTIP:]GUESTPORT[-END][/PROTO[,PROTO]]
//
// and the shorter forms of Docker, Podman and RootlessKit. With fields separated by colons
// (outside brackets), these are the forms; G and H are ports or ranges of them:
//
//	G            80                           a free host port
//	H:G          8080:80, 0:80, :80           0 and empty: a free host port
//	IP:H:G       127.0.0.1:8080:80, 127.0.0.1::80, :8080:80 (empty address: the default)
//	H:IP:G       8080:10.0.2.100:80           the address is the guest's
//	IP:H:IP:G    127.0.0.1:8080:10.0.2.100:80
//
// IPv6 addresses are enclosed in brackets, IPv4 ones may be. Ranges must be equally long, or G one
// port: then the first free port of H is used. The protocol is tcp unless given, in upper or lower
// case, and must fit the family of the host address. IPv4-mapped IPv6 addresses are converted to
// IPv4. The error is always a *[SpecError].
func ParseSpec(spec string) (Spec, error) {
	p := specParser{spec: spec}
	s, err := p.parse()
	if err != nil {
		return Spec{}, err
	}
	return s, nil
}

// field is spec[start:end].
type field struct{ start, end int }

type specParser struct{ spec string }

func (p specParser) text(f field) string { return p.spec[f.start:f.end] }

func (p specParser) fail(f field, format string, args ...any) error {
	return &SpecError{Spec: p.spec, Start: f.start, End: f.end, Reason: fmt.Sprintf(format, args...)}
}

func (p specParser) parse() (Spec, error) {
	if p.spec == "" {
		return Spec{}, p.fail(field{}, "is empty")
	}
	if i := strings.IndexFunc(p.spec, func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
		return Spec{}, p.fail(field{i, i + 1}, "spaces and control characters are not allowed")
	}
	fields, protos, err := p.split()
	if err != nil {
		return Spec{}, err
	}
	form, err := p.form(fields)
	if err != nil {
		return Spec{}, err
	}
	var s Spec
	if err := p.addrs(&s, form); err != nil {
		return Spec{}, err
	}
	if err := p.portPair(&s, form); err != nil {
		return Spec{}, err
	}
	s.Protos, err = p.protos(protos, s.HostIP)
	return s, err
}

// specForm assigns the fields of a spec; nil for fields it doesn't have.
type specForm struct{ hostIP, hostPort, guestIP, guestPort *field }

// form distinguishes the forms that ParseSpec lists.
func (p specParser) form(fields []field) (specForm, error) {
	last := &fields[len(fields)-1]
	from := func(f field) field { return field{f.start, last.end} }
	switch n := len(fields); {
	case n == 1 && p.isAddr(fields[0]):
		return specForm{}, p.fail(fields[0], "the guest port is missing")
	case n == 1:
		return specForm{guestPort: last}, nil
	case n == 2 && p.isAddr(fields[0]):
		return specForm{}, p.fail(fields[0], "an address needs a host port, or two colons for a free one: %s::%s",
			p.text(fields[0]), p.text(fields[1]))
	case n == 2:
		return specForm{hostPort: &fields[0], guestPort: last}, nil
	case n == 3 && p.isAddr(fields[1]) && p.isAddr(fields[0]):
		return specForm{}, p.fail(field{fields[0].start, fields[1].end},
			"the host port between the addresses is missing (two colons for a free one)")
	case n == 3 && p.isAddr(fields[1]):
		return specForm{hostPort: &fields[0], guestIP: &fields[1], guestPort: last}, nil
	case n == 3 && !(p.isAddr(fields[0]) && p.isNakedIPv6(fields)):
		return specForm{hostIP: &fields[0], hostPort: &fields[1], guestPort: last}, nil
	case n == 4 && (p.isAddr(fields[2]) || !p.isNakedIPv6(fields)):
		return specForm{&fields[0], &fields[1], &fields[2], last}, nil
	case p.isNakedIPv6(fields):
		return specForm{}, p.fail(from(fields[0]), "put IPv6 addresses in brackets, as in [::1]:8080:80")
	}
	return specForm{}, p.fail(from(fields[4]), "too many colons; the longest form is HOSTIP:HOSTPORT:GUESTIP:GUESTPORT")
}

func (p specParser) addrs(s *Spec, form specForm) (err error) {
	if form.hostIP != nil && p.text(*form.hostIP) != "" {
		if s.HostIP, err = p.addr(*form.hostIP, "host"); err != nil {
			return err
		}
	}
	if form.guestIP == nil {
		return nil
	}
	if s.GuestIP, err = p.addr(*form.guestIP, "guest"); err != nil {
		return err
	}
	if s.GuestIP.IsUnspecified() || s.GuestIP.Zone() != "" {
		return p.fail(*form.guestIP, "can't be the address of a guest")
	}
	return nil
}

// portPair parses the guest's ports and the host's, which must be as many, or a range to pick from for one.
func (p specParser) portPair(s *Spec, form specForm) (err error) {
	if s.GuestPort, s.Count, err = p.ports(*form.guestPort, "guest"); err != nil {
		return err
	}
	if s.GuestPort == 0 {
		return p.fail(*form.guestPort, "the guest port must be 1 to 65535")
	}
	if form.hostPort == nil || p.text(*form.hostPort) == "" {
		return nil
	}
	var count int
	if s.HostPort, count, err = p.ports(*form.hostPort, "host"); err != nil {
		return err
	}
	switch {
	case s.HostPort == 0 || count == s.Count:
	case s.Count == 1:
		s.HostPortEnd = s.HostPort + uint16(count-1)
	default:
		return p.fail(*form.hostPort, "%d host ports for %d guest ports; ranges must be equally long, or the guest's one port", count, s.Count)
	}
	return nil
}

// split splits the spec at the colons outside brackets, and at the first slash outside them. protos
// is nil if there is no slash.
func (p specParser) split() (fields []field, protos *field, err error) {
	start := 0
	for i := 0; i < len(p.spec); i++ {
		switch p.spec[i] {
		case '[':
			n := strings.IndexByte(p.spec[i:], ']')
			if n < 0 {
				return nil, nil, p.fail(field{i, len(p.spec)}, "the closing bracket is missing")
			}
			i += n
		case ':':
			fields = append(fields, field{start, i})
			start = i + 1
		case '/':
			return append(fields, field{start, i}), &field{i + 1, len(p.spec)}, nil
		}
	}
	return append(fields, field{start, len(p.spec)}), nil, nil
}

// isAddr reports whether f should be parsed as an address: it is not just digits and dashes, nor empty.
func (p specParser) isAddr(f field) bool {
	return strings.Trim(p.text(f), "0123456789-") != "" && p.text(f)[0] != '-'
}

// isNakedIPv6 reports whether the fields look like an IPv6 address without brackets.
func (p specParser) isNakedIPv6(fields []field) bool {
	for _, n := range []int{0, 1, 2} { // trailing ports
		if n >= len(fields) {
			break
		}
		a, err := netip.ParseAddr(p.spec[fields[0].start:fields[len(fields)-1-n].end])
		if err == nil && a.Is6() {
			return true
		}
	}
	return false
}

func (p specParser) addr(f field, side string) (netip.Addr, error) {
	text := p.text(f)
	if text == "" {
		return netip.Addr{}, p.fail(f, "the %s address is empty", side)
	}
	inner, brackets := strings.CutPrefix(text, "[")
	if brackets {
		inner = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || (brackets && len(inner) != len(text)-2) {
		return netip.Addr{}, p.fail(f, "is not an IP address")
	}
	if !brackets && a.Is6() {
		return netip.Addr{}, p.fail(f, "put IPv6 addresses in brackets")
	}
	if strings.ContainsAny(a.Zone(), "/:[]") {
		return netip.Addr{}, p.fail(f, "is not an IP address of an interface")
	}
	return a.Unmap(), nil
}

// ports parses PORT or FIRST-END; count is at least 1.
func (p specParser) ports(f field, side string) (first uint16, count int, err error) {
	if p.text(f) == "" {
		return 0, 0, p.fail(f, "the %s port is missing", side)
	}
	dash := strings.IndexByte(p.text(f), '-')
	if dash < 0 {
		first, err = p.port(f, side)
		return first, 1, err
	}
	if dash == 0 {
		return 0, 0, p.fail(f, "a %s port can't be negative", side)
	}
	if first, err = p.port(field{f.start, f.start + dash}, side); err != nil {
		return 0, 0, err
	}
	end := field{f.start + dash + 1, f.end}
	if end.start == end.end {
		return 0, 0, p.fail(f, "the end of the range is missing")
	}
	last, err := p.port(end, side)
	if err != nil {
		return 0, 0, err
	}
	if first == 0 {
		return 0, 0, p.fail(f, "a range can't start at port 0")
	}
	if last < first {
		return 0, 0, p.fail(f, "the range ends before it starts")
	}
	return first, int(last) - int(first) + 1, nil
}

func (p specParser) port(f field, side string) (uint16, error) {
	n := 0
	for _, c := range []byte(p.text(f)) {
		if c < '0' || c > '9' {
			return 0, p.fail(f, "is not a %s port", side)
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return 0, p.fail(f, "a %s port is at most 65535", side)
		}
	}
	return uint16(n), nil
}

func (p specParser) protos(f *field, host netip.Addr) ([]Proto, error) {
	if f == nil {
		return []Proto{TCP}, nil
	}
	var protos []Proto
	for start := f.start; start <= f.end; {
		part := field{start, f.end}
		if n := strings.IndexByte(p.text(part), ','); n >= 0 {
			part.end = start + n
		}
		proto := Proto(strings.ToLower(p.text(part)))
		switch {
		case proto == "":
			return nil, p.fail(part, "the protocol after the %q is missing", p.spec[start-1])
		case !proto.Valid():
			return nil, p.fail(part, "the protocol must be tcp, udp, tcp4, tcp6, udp4 or udp6")
		case slices.Contains(protos, proto):
			return nil, p.fail(part, "the protocol is given twice")
		case !proto.fits(host):
			return nil, p.fail(part, "does not fit the host address %s", host)
		}
		protos = append(protos, proto)
		start = part.end + 1
	}
	return protos, nil
}

// Valid reports whether p is one of the six protocols.
func (p Proto) Valid() bool {
	switch p {
	case TCP, TCP4, TCP6, UDP, UDP4, UDP6:
		return true
	}
	return false
}

// fits reports whether p can listen on host; an invalid host means the default, which fits.
func (p Proto) fits(host netip.Addr) bool {
	if !host.IsValid() || len(p) == 3 {
		return true
	}
	return host.Is6() == (p[3] == '6')
}
