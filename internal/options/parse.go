package options

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
)

const (
	maxFD      = math.MaxInt32
	maxTapName = 15 // IFNAMSIZ of linux/if.h, less the final zero byte
)

var errEmpty = errors.New("is empty")

// hinted returns an error with a hint.
func hinted(reason, hint string) error { return fault.New(fault.Usage, reason, hint) }

func parseBool(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("neither true nor false")
	}
	return v, nil
}

func parseEnum[T ~string](s string, values []string) (T, error) {
	if slices.Contains(values, s) {
		return T(s), nil
	}
	hint := ""
	if near := Nearest(s, values); near != "" {
		hint = "did you mean " + near + "?"
	}
	return "", hinted("not one of "+strings.Join(values, ", "), hint)
}

func parseInt(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, errors.New("not a whole number")
	case n < low:
		return 0, fmt.Errorf("less than %d", low)
	case n > high:
		return 0, fmt.Errorf("more than %d", high)
	}
	return n, err
}

func parseDuration(s string, low time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return 0, hinted("has no unit", "write "+s+"s for seconds, "+s+"ms for milliseconds")
		}
		return 0, hinted("not a duration", "write it like 10s, 500ms or 1m30s")
	}
	if d < low {
		if low > 0 {
			return 0, errors.New("must be more than zero")
		}
		return 0, errors.New("must not be negative")
	}
	return d, nil
}

// MaxName is the maximum length of an instance's name, in bytes.
const MaxName = 64

// CheckName returns an error unless name is a valid instance name: [A-Za-z0-9][A-Za-z0-9_.-]{0,63}, which
// works unquoted as a directory name, in a URL and in a shell.
func CheckName(name string) error {
	if name == "" {
		return errEmpty
	}
	if len(name) > MaxName {
		return fmt.Errorf("longer than %d characters", MaxName)
	}
	for i, r := range name {
		switch {
		case NameRune(r, i > 0):
		case i == 0:
			return errors.New("does not begin with a letter or digit")
		default:
			return fmt.Errorf("contains %q; letters, digits, _ . and - are allowed", r)
		}
	}
	return nil
}

// NameRune reports whether r is allowed in a name: as the first character or, with inside, after it.
func NameRune(r rune, inside bool) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || inside && strings.ContainsRune("_.-", r)
}

func parseName(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	return s, CheckName(s)
}

// checkInterface applies the kernel's rules (dev_valid_name in net/core/dev.c); slirp4netns would
// truncate a longer name instead of refusing it. It also rejects invisible characters and % (a
// pattern to TUNSETIFF).
func checkInterface(s string) error {
	switch {
	case s == "":
		return errEmpty
	case len(s) > maxTapName:
		return fmt.Errorf("longer than %d bytes", maxTapName)
	case s == "." || s == "..":
		return errors.New("not an interface name")
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("/:%", r) {
			return fmt.Errorf("contains %q, which an interface name can't", r)
		}
	}
	return nil
}

func parseTapName(s string) (string, error) {
	if err := checkInterface(s); err != nil {
		return "", err
	}
	if s == "lo" || s == "all" || s == "default" {
		return "", fmt.Errorf("every network namespace has %s already", s)
	}
	return s, nil
}

func parseMAC(s string) (net.HardwareAddr, error) {
	if s == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		return nil, hinted("not a MAC address of six bytes", "write it like 02:00:5e:10:00:01")
	case mac[0]&1 != 0:
		return nil, hinted("a multicast address, which an interface can't have", "make the first byte even")
	case !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }):
		return nil, errors.New("all zero, which an interface can't have")
	}
	return mac, nil
}

// parseOutbound parses an address of family "IPv4" or "IPv6", or the name of an interface.
func parseOutbound(s, family string) (Outbound, error) {
	if s == "" {
		return Outbound{}, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		if strings.Trim(s, "0123456789.") == "" {
			return Outbound{}, fmt.Errorf("not an %s address", family)
		}
		if err := checkInterface(s); err != nil {
			return Outbound{}, fmt.Errorf("neither an %s address nor an interface: %w", family, err)
		}
		return Outbound{Interface: s}, nil
	}
	switch {
	case addr.Is4() != (family == "IPv4") || addr.Is4In6():
		return Outbound{}, fmt.Errorf("not an %s address", family)
	case addr.Zone() != "":
		return Outbound{}, errors.New("an address with a zone can't be a source")
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return Outbound{}, errors.New("not the address of an interface")
	}
	return Outbound{Addr: addr}, nil
}

// String returns "N", "N-M" for more than one port, or "" for none.
func (r PortRange) String() string {
	switch r.First {
	case 0:
		return ""
	case r.Last:
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

func parsePortRange(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err := parsePort(first)
	if err != nil {
		return PortRange{}, err
	}
	b, err := parsePort(last)
	if err != nil {
		return PortRange{}, err
	}
	if a > b {
		return PortRange{}, errors.New("ends before it begins")
	}
	return PortRange{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := parseInt(s, 1, math.MaxUint16)
	if err != nil {
		return 0, fmt.Errorf("port %q: %w", s, err)
	}
	return uint16(n), nil
}

// parsePortRanges is parsePortRange for a list.
func parsePortRanges(s string) ([]PortRange, error) {
	r, err := parsePortRange(s)
	return []PortRange{r}, err
}

// parseAnyRange is parsePortRange where "" means none.
func parseAnyRange(s string) (PortRange, error) {
	if s == "" {
		return PortRange{}, nil
	}
	return parsePortRange(s)
}

// autoWord is the port spec for forwarding what programs inside listen on.
const autoWord = "auto"

var autoHostIP = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// parseAuto parses "auto" and "auto:ADDRESS", with or without brackets around IPv6; ok means that s
// has that form.
func parseAuto(s string) (hostIP netip.Addr, ok bool, err error) {
	word, text, found := strings.Cut(s, ":")
	if word != autoWord {
		return netip.Addr{}, false, nil
	}
	if !found {
		return autoHostIP, true, nil
	}
	inner := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		inner = text[1 : len(text)-1]
	}
	hostIP, err = netip.ParseAddr(inner)
	if err != nil {
		return netip.Addr{}, true, hinted(fmt.Sprintf("%q is not an IP address", text), "write auto, or auto:0.0.0.0 for every address of this host")
	}
	return hostIP.Unmap(), true, nil
}

// parsePath accepts any path that the kernel could accept.
func parsePath(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", errors.New("contains a zero byte")
	}
	return s, nil
}

// parseFilePath accepts a path of a file to write.
func parseFilePath(s string) (string, error) {
	if strings.HasSuffix(s, "/") {
		return "", errors.New("a directory, not a file")
	}
	return parsePath(s)
}

func parseLogLevel(s string) (string, error) {
	if s == "warn" {
		s = "warning"
	}
	return parseEnum[string](s, logLevels)
}

func parseContainersConf(s string) (string, error) {
	if s == "" {
		return "", hinted("is empty", "write true, false, or the path of a containers.conf")
	}
	return parsePath(s)
}

// splitList splits a text that holds a list, such as an environment variable, at commas and white
// space. A protocol alone belongs to the element before it, so that 53:53/tcp,udp is one element.
func splitList(s string) []string {
	var list []string
	for _, t := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		if len(list) > 0 && slices.Contains(protocols, strings.ToLower(t)) {
			list[len(list)-1] += "," + t
			continue
		}
		list = append(list, t)
	}
	return list
}

var protocols = []string{"tcp", "udp", "tcp4", "tcp6", "udp4", "udp6"}
