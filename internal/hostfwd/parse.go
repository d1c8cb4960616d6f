package hostfwd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// SpecError says which part of a port spec is wrong.
type SpecError struct {
	Spec, Part string // Part is a substring of Spec; empty if something is missing
	Reason     string
}

// Error returns one line that quotes the spec and the wrong part.
func (e *SpecError) Error() string {
	if e.Part == "" || e.Part == e.Spec {
		return fmt.Sprintf("port spec %q: %s", e.Spec, e.Reason)
	}
	return fmt.Sprintf("port spec %q: %q: %s", e.Spec, e.Part, e.Reason)
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
	s, err := specParser(spec).parse()
	if err != nil {
		return Spec{}, err
	}
	return s, nil
}

// specParser is the whole spec, which errors quote.
type specParser string

func (p specParser) fail(part, format string, args ...any) error {
	return &SpecError{Spec: string(p), Part: part, Reason: fmt.Sprintf(format, args...)}
}

func (p specParser) parse() (s Spec, err error) {
	if p == "" {
		return s, p.fail("", "is empty")
	}
	if i := strings.IndexFunc(string(p), func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
		return s, p.fail(string(p[i:i+1]), "spaces and control characters are not allowed")
	}
	fields, protos, err := p.split()
	if err != nil {
		return s, err
	}
	form, err := p.form(fields)
	if err != nil {
		return s, err
	}
	if err := p.addrs(&s, form); err != nil {
		return s, err
	}
	if err := p.portPair(&s, form); err != nil {
		return s, err
	}
	s.Protos, err = p.protos(protos, s.HostIP)
	return s, err
}

// specForm has the fields of a spec; "" for those that it doesn't have or that are empty.
type specForm struct{ hostIP, hostPort, guestIP, guestPort string }

// form distinguishes the forms that ParseSpec lists.
func (p specParser) form(fields []string) (specForm, error) {
	last := fields[len(fields)-1]
	switch n := len(fields); {
	case n == 1 && isAddr(fields[0]):
		return specForm{}, p.fail(fields[0], "the guest port is missing")
	case n == 1:
		return specForm{guestPort: last}, nil
	case n == 2 && isAddr(fields[0]):
		return specForm{}, p.fail(fields[0], "an address needs a host port, or two colons for a free one: %s::%s", fields[0], last)
	case n == 2:
		return specForm{hostPort: fields[0], guestPort: last}, nil
	case n == 3 && isAddr(fields[1]) && isAddr(fields[0]):
		return specForm{}, p.fail(fields[0]+":"+fields[1], "the host port between the addresses is missing (two colons for a free one)")
	case n == 3 && isAddr(fields[1]):
		return specForm{hostPort: fields[0], guestIP: fields[1], guestPort: last}, nil
	case n == 3 && !(isAddr(fields[0]) && isNakedIPv6(fields)):
		return specForm{hostIP: fields[0], hostPort: fields[1], guestPort: last}, nil
	case n == 4 && fields[2] == "" && !isNakedIPv6(fields):
		return specForm{}, p.fail("", "the guest address is empty")
	case n == 4 && (isAddr(fields[2]) || !isNakedIPv6(fields)):
		return specForm{fields[0], fields[1], fields[2], last}, nil
	case isNakedIPv6(fields):
		return specForm{}, p.fail(strings.Join(fields, ":"), "put IPv6 addresses in brackets, as in [::1]:8080:80")
	}
	return specForm{}, p.fail(strings.Join(fields[4:], ":"), "too many colons; the longest form is HOSTIP:HOSTPORT:GUESTIP:GUESTPORT")
}

func (p specParser) addrs(s *Spec, form specForm) (err error) {
	if s.HostIP, err = p.addr(form.hostIP); err != nil {
		return err
	}
	if s.GuestIP, err = p.addr(form.guestIP); err != nil {
		return err
	}
	if s.GuestIP.IsUnspecified() || s.GuestIP.Zone() != "" {
		return p.fail(form.guestIP, "can't be the address of a guest")
	}
	return nil
}

// portPair parses the guest's ports and the host's, which must be as many, or a range to pick from for one.
func (p specParser) portPair(s *Spec, form specForm) (err error) {
	if s.GuestPort, s.Count, err = p.ports(form.guestPort, "guest"); err != nil {
		return err
	}
	if s.GuestPort == 0 {
		return p.fail(form.guestPort, "the guest port must be 1 to 65535")
	}
	if form.hostPort == "" {
		return nil
	}
	var count int
	if s.HostPort, count, err = p.ports(form.hostPort, "host"); err != nil {
		return err
	}
	switch {
	case s.HostPort == 0 || count == s.Count:
	case s.Count == 1:
		s.HostPortEnd = s.HostPort + uint16(count-1)
	default:
		return p.fail(form.hostPort, "%d host ports for %d guest ports; ranges must be equally long, or the guest's one port", count, s.Count)
	}
	return nil
}

// split splits the spec at the colons outside brackets. protos is the rest from the first slash outside them on.
func (p specParser) split() (fields []string, protos string, err error) {
	spec, start := string(p), 0
	for i := 0; i < len(spec); i++ {
		switch spec[i] {
		case '[':
			n := strings.IndexByte(spec[i:], ']')
			if n < 0 {
				return nil, "", p.fail(spec[i:], "the closing bracket is missing")
			}
			i += n
		case ':':
			fields = append(fields, spec[start:i])
			start = i + 1
		case '/':
			return append(fields, spec[start:i]), spec[i:], nil
		}
	}
	return append(fields, spec[start:]), "", nil
}

// isAddr reports whether a field should be parsed as an address: it is not just digits and dashes, nor empty.
func isAddr(text string) bool { return strings.Trim(text, "0123456789-") != "" && text[0] != '-' }

// isNakedIPv6 reports whether the fields look like an IPv6 address without brackets, perhaps followed by ports.
func isNakedIPv6(fields []string) bool {
	for n := len(fields); n > max(0, len(fields)-3); n-- {
		a, err := netip.ParseAddr(strings.Join(fields[:n], ":"))
		if err == nil && a.Is6() {
			return true
		}
	}
	return false
}

// addr parses an address; "" is the invalid one.
func (p specParser) addr(text string) (a netip.Addr, err error) {
	if text == "" {
		return a, nil
	}
	inner, brackets := strings.CutPrefix(text, "[")
	if brackets {
		inner = strings.TrimSuffix(inner, "]")
	}
	a, err = netip.ParseAddr(inner)
	switch {
	case err != nil || (brackets && len(inner) != len(text)-2):
		return a, p.fail(text, "is not an IP address")
	case !brackets && a.Is6():
		return a, p.fail(text, "put IPv6 addresses in brackets")
	case strings.ContainsAny(a.Zone(), "/:[]"):
		return a, p.fail(text, "is not an IP address of an interface")
	}
	return a.Unmap(), nil
}

// ports parses PORT or FIRST-END; count is at least 1.
func (p specParser) ports(text, side string) (first uint16, count int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	switch {
	case text == "":
		return 0, 0, p.fail("", "the %s port is missing", side)
	case isRange && from == "":
		return 0, 0, p.fail(text, "a %s port can't be negative", side)
	}
	if first, err = p.port(from, side); err != nil || !isRange {
		return first, 1, err
	}
	if to == "" {
		return 0, 0, p.fail(text, "the end of the range is missing")
	}
	last, err := p.port(to, side)
	switch {
	case err != nil:
		return 0, 0, err
	case first == 0:
		return 0, 0, p.fail(text, "a range can't start at port 0")
	case last < first:
		return 0, 0, p.fail(text, "the range ends before it starts")
	}
	return first, int(last) - int(first) + 1, nil
}

func (p specParser) port(text, side string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, p.fail(text, "a %s port is at most 65535", side)
	case err != nil:
		return 0, p.fail(text, "is not a %s port", side)
	}
	return uint16(n), nil
}

// protos parses what follows the ports: "", or a slash and protocols.
func (p specParser) protos(text string, host netip.Addr) (protos []Proto, err error) {
	if text == "" {
		return []Proto{TCP}, nil
	}
	for i, part := range strings.Split(text[1:], ",") {
		proto := Proto(strings.ToLower(part))
		switch {
		case proto == "":
			return nil, p.fail("", "the protocol after the %q is missing", "/,"[min(i, 1)])
		case !proto.Valid():
			return nil, p.fail(part, "the protocol must be tcp, udp, tcp4, tcp6, udp4 or udp6")
		case slices.Contains(protos, proto):
			return nil, p.fail(part, "the protocol is given twice")
		case !proto.fits(host):
			return nil, p.fail(part, "does not fit the host address %s", host)
		}
		protos = append(protos, proto)
	}
	return protos, nil
}

// Valid reports whether p is one of the six protocols.
func (p Proto) Valid() bool { return slices.Contains([]Proto{TCP, TCP4, TCP6, UDP, UDP4, UDP6}, p) }

// fits reports whether p can listen on host; an invalid host means the default, which fits.
func (p Proto) fits(host netip.Addr) bool {
	if !host.IsValid() || len(p) == 3 {
		return true
	}
	return host.Is6() == (p[3] == '6')
}
