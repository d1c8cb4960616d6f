package hostfwd

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// entry is a forward that a Manager keeps or, while id is 0, one that is being opened.
type entry struct {
	id     int
	index  int      // in the batch that it came with
	asked  Forward  // as requested
	f      Forward  // resolved; HostPort is 0 only until one is picked
	l      Listener // nil: down
	failed string   // why it is down
}

// picks reports whether the host port is unknown until e is open.
func (e *entry) picks() bool { return e.asked.HostPort == 0 || e.asked.HostPortEnd != 0 }

func (e *entry) fail(err error) *AddError { return &AddError{e.index, e.asked, err} }

func (e *entry) status() Status { return Status{ID: e.id, Forward: e.f, Failed: e.failed} }

// hostPorts maps host ports to their forwards, by host address.
type hostPorts map[portKey]map[netip.Addr]*entry

type portKey struct {
	network string // "tcp" or "udp"
	port    uint16
}

func keyOf(f Forward) portKey { return portKey{f.Proto.Network(), f.HostPort} }

// clashes reports whether f and g, which have the same host port, can't both listen. A forward on [::] has the IPv4
// port too, unless its protocol is IPv6 only.
func (f Forward) clashes(g Forward) bool {
	if f.HostIP.Is4() != g.HostIP.Is4() {
		return f.dualStack() || g.dualStack()
	}
	return f.HostIP == g.HostIP || f.HostIP.IsUnspecified() || g.HostIP.IsUnspecified()
}

// rivals yields the entries that clash with f. For one address it takes constant time, so that 10,000 addresses
// of 127.0.0.0/8 can share a port.
func (p hostPorts) rivals(f Forward) iter.Seq[*entry] {
	same := p[keyOf(f)]
	candidates := maps.Values(same)
	if !f.HostIP.IsUnspecified() {
		candidates = slices.Values([]*entry{same[f.HostIP], same[netip.IPv4Unspecified()], same[netip.IPv6Unspecified()]})
	}
	return func(yield func(*entry) bool) {
		for e := range candidates {
			if e != nil && e.f.clashes(f) && !yield(e) {
				return
			}
		}
	}
}

// conflict returns an entry that has f's host port, or nil.
func (p hostPorts) conflict(f Forward) *entry {
	for e := range p.rivals(f) {
		return e
	}
	return nil
}

// take adds e, unless another entry has its host port.
func (p hostPorts) take(e *entry) error {
	if other := p.conflict(e.f); other != nil {
		return conflict(other.status())
	}
	k := keyOf(e.f)
	if p[k] == nil {
		p[k] = map[netip.Addr]*entry{}
	}
	p[k][e.f.HostIP] = e
	return nil
}

// free removes e if present.
func (p hostPorts) free(e *entry) {
	k := keyOf(e.f)
	if p[k][e.f.HostIP] != e {
		return
	}
	delete(p[k], e.f.HostIP)
	if len(p[k]) == 0 {
		delete(p, k)
	}
}

func unspecified(six bool) netip.Addr {
	if six {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
