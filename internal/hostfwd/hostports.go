package hostfwd

import (
	"iter"
	"net/netip"
)

// entry is a forward that a Manager keeps.
type entry struct {
	id       int
	f        Forward  // resolved; HostPort is 0 only until a free one is picked
	auto     bool     // host port 0 was requested
	defGuest bool     // GuestIP was not given
	l        Listener // nil: down
	failed   string   // why it is down
}

func (e *entry) status() Status { return Status{ID: e.id, Forward: e.f, Failed: e.failed} }

// hostPorts maps host ports to their forwards. A forward on [::] has the IPv4 port too, unless its protocol is IPv6 only.
type hostPorts map[portKey]map[netip.Addr]*entry

type portKey struct {
	network string // "tcp" or "udp"
	six     bool
	port    uint16
}

func keyOf(f Forward) portKey { return portKey{f.Proto.Network(), f.HostIP.Is6(), f.HostPort} }

// conflict returns an entry that has f's host port, or nil. It takes constant time, so that
// 10,000 addresses of 127.0.0.0/8 can share a port.
func (p hostPorts) conflict(f Forward) *entry {
	for e := range p.rivals(f) {
		return e
	}
	return nil
}

// rivals yields the entries that have f's host port.
func (p hostPorts) rivals(f Forward) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		k := keyOf(f)
		same := p[k]
		if f.HostIP.IsUnspecified() {
			for _, e := range same {
				if !yield(e) {
					return
				}
			}
		} else {
			for _, ip := range []netip.Addr{f.HostIP, unspecified(k.six)} {
				if e := same[ip]; e != nil && !yield(e) {
					return
				}
			}
		}
		k.six = !k.six
		switch other := p[k]; {
		case f.dualStack():
			for _, e := range other {
				if !yield(e) {
					return
				}
			}
		case f.HostIP.Is4():
			if e := other[netip.IPv6Unspecified()]; e != nil && e.f.dualStack() {
				yield(e)
			}
		}
	}
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
