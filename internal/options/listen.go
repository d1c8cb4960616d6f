package options

import (
	"fmt"
	"math"
	"strings"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// Listen is a port that something inside is to listen on.
type Listen struct {
	Port  uint16
	Proto hostfwd.Proto
}

func (l Listen) String() string { return fmt.Sprintf("%d/%s", l.Port, l.Proto) }

// Met reports whether a socket is what l waits for.
func (l Listen) Met(s hostfwd.Socket) bool {
	if s.Local.Port() != l.Port || s.Network != l.Proto.Network() {
		return false
	}
	addr := s.Local.Addr()
	switch l.Proto {
	case hostfwd.TCP4, hostfwd.UDP4:
		return addr.Is4() || addr.IsUnspecified() && !s.V6Only
	case hostfwd.TCP6, hostfwd.UDP6:
		return addr.Is6()
	}
	return true
}

// parseListen parses PORT[/PROTO[,PROTO]].
func parseListen(s string) (out []Listen, err error) {
	port, protos, given := strings.Cut(s, "/")
	n, err := parseInt(port, 1, math.MaxUint16)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	if !given {
		protos = string(hostfwd.TCP)
	}
	for name := range strings.SplitSeq(protos, ",") {
		proto, err := parseEnum[hostfwd.Proto](strings.ToLower(name), protocols)
		if err != nil {
			return nil, fmt.Errorf("protocol %q: %w", name, err)
		}
		out = append(out, Listen{uint16(n), proto})
	}
	return out, nil
}

func waitListenField() field {
	return field{
		set: func(m *Merged, texts []string) error {
			var ports []Listen
			for _, list := range texts {
				for _, t := range splitList(list) {
					l, err := parseListen(t)
					if err != nil {
						return &elementError{t, err}
					}
					ports = append(ports, l...)
				}
			}
			m.WaitListen = ports
			return nil
		},
		get: func(m *Merged) string {
			var texts []string
			for _, l := range m.WaitListen {
				texts = append(texts, l.String())
			}
			return strings.Join(texts, ",")
		},
	}
}
