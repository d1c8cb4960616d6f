package egress

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// Bounds of a name (RFC 1035): with dots, without a trailing one.
const (
	maxName  = 253
	maxLabel = 63
)

// CanonicalName returns a name as a program asked for it in the one form in which names are
// compared: lower case, A-labels, no trailing dot. A byte that is no letter, digit, '-', '_' or '.',
// an empty or a long label are errors: what can't be compared byte by byte is never compared.
func CanonicalName(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return "", errors.New("the name is empty")
	}
	if len(name) > maxName {
		return "", fmt.Errorf("the name has more than %d bytes", maxName)
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return "", errors.New("the name has an empty label")
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return "", fmt.Errorf("the name has the byte %q", c)
		}
		if label++; label > maxLabel {
			return "", fmt.Errorf("a label of the name has more than %d bytes", maxLabel)
		}
	}
	if label == 0 {
		return "", errors.New("the name has an empty label")
	}
	return strings.ToLower(name), nil
}

// RuleName is [CanonicalName] for a name that a person wrote: one with letters beyond ASCII is
// turned into A-labels first (UTS 46, as for a look-up).
func RuleName(name string) (string, error) {
	for i := range len(name) {
		if name[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(name, "."))
			if err != nil {
				return "", fmt.Errorf("%q is no host name", name)
			}
			name = ascii
			break
		}
	}
	canonical, err := CanonicalName(name)
	if err != nil {
		return "", err
	}
	// 1.2.3 and 0x7f.1 are addresses to inet_aton(3) and no names to anybody.
	if last := canonical[strings.LastIndexByte(canonical, '.')+1:]; last[0] >= '0' && last[0] <= '9' {
		return "", fmt.Errorf("%q is neither an address nor a host name", name)
	}
	return canonical, nil
}
