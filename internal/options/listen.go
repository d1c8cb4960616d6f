package options

import (
	"fmt"
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
	n, err := parsePort(port)
	if err != nil {
		return nil, err
	}
	if !given {
		protos = string(hostfwd.TCP)
	}
	for name := range strings.SplitSeq(protos, ",") {
		proto, err := parseEnum[hostfwd.Proto](strings.ToLower(name), protocols)
		if err != nil {
			return nil, fmt.Errorf("protocol %q: %w", name, err)
		}
		out = append(out, Listen{n, proto})
	}
	return out, nil
}
