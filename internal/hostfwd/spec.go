package hostfwd

import (
	"fmt"
	"net/netip"
	"strings"
)

// Spec is a port specification as a user types it: one forward, or a range of them, for one
// or more protocols. [ParseSpec] returns valid ones.
type Spec struct {
	HostIP   netip.Addr // invalid: not given
	HostPort uint16     // first host port; 0: a free one for each
	// HostPortEnd, if not 0, is the end of a range of host ports of which the first free one is
	// used. Count is 1 then.
	HostPortEnd uint16
	GuestIP     netip.Addr // invalid: the guest address of the network
	GuestPort   uint16     // first guest port
	Count       int        // ports in the range, at least 1
	Protos      []Proto    // at least one
}

// String returns s in full, such as "127.0.0.1:8080-8089:80-89/tcp,udp"; a free host port is 0.
// It parses back to s.
func (s Spec) String() string {
	var b strings.Builder
	if s.HostIP.IsValid() {
		b.WriteString(bracketed(s.HostIP) + ":")
	}
	writePorts(&b, s.HostPort, max(s.Count, int(s.HostPortEnd)-int(s.HostPort)+1))
	b.WriteByte(':')
	if s.GuestIP.IsValid() {
		b.WriteString(bracketed(s.GuestIP) + ":")
	}
	writePorts(&b, s.GuestPort, s.Count)
	for i, p := range s.Protos {
		b.WriteByte("/,"[min(i, 1)])
		b.WriteString(string(p))
	}
	return b.String()
}

func writePorts(b *strings.Builder, first uint16, count int) {
	fmt.Fprintf(b, "%d", first)
	if count > 1 && first != 0 {
		fmt.Fprintf(b, "-%d", int(first)+count-1)
	}
}

// Total returns the number of forwards in s.
func (s Spec) Total() int { return s.Count * len(s.Protos) }

// Forwards returns every forward of s in port order; the protocols of one port are adjacent.
// HostIP and GuestIP stay invalid where s does not give them.
func (s Spec) Forwards() []Forward {
	fs := make([]Forward, 0, s.Total())
	for i := range s.Count {
		for _, p := range s.Protos {
			f := Forward{Proto: p, HostIP: s.HostIP, GuestIP: s.GuestIP, GuestPort: s.GuestPort + uint16(i)}
			if s.HostPort != 0 {
				f.HostPort, f.HostPortEnd = s.HostPort+uint16(i), s.HostPortEnd
			}
			fs = append(fs, f)
		}
	}
	return fs
}
