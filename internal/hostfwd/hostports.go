package hostfwd

import (
	"iter"
	"net/netip"
)

// entry is a forward that a Manager keeps.
type entry struct {
	id       int
	f        Forward  // resolved; HostPort is 0 only until a free one is picked
	auto     bool     // the host port was asked for as 0
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
func (b hostPorts) conflict(f Forward) *entry {
	for e := range b.rivals(f) {
		return e
	}
	return nil
}

// rivals yields the entries that have f's host port.
func (b hostPorts) rivals(f Forward) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		k := keyOf(f)
		same := b[k]
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
		switch other := b[k]; {
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
func (b hostPorts) take(e *entry) error {
	if other := b.conflict(e.f); other != nil {
		return conflict(other.status())
	}
	k := keyOf(e.f)
	if b[k] == nil {
		b[k] = map[netip.Addr]*entry{}
	}
	b[k][e.f.HostIP] = e
	return nil
}

// free removes e if present.
func (b hostPorts) free(e *entry) {
	k := keyOf(e.f)
	if b[k][e.f.HostIP] != e {
		return
	}
	delete(b[k], e.f.HostIP)
	if len(b[k]) == 0 {
		delete(b, k)
	}
}

func unspecified(six bool) netip.Addr {
	if six {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
