package hostfwd

import (
	"net/netip"
)

// entry is a forward that a Manager keeps.
type entry struct {
	id       int
	f        Forward  // resolved; HostPort is 0 only until a free one is picked
	auto     bool     // the host port was asked for as 0
	defGuest bool     // GuestIP was not given
	l        Listener // nil: down
}

func (e *entry) status() Status { return Status{ID: e.id, Forward: e.f} }

// books knows who has which host port. Addresses of different families never conflict here:
// whether [::] takes the IPv4 port too is up to the handler, which then refuses.
type books map[portKey]map[netip.Addr]*entry

type portKey struct {
	network string // "tcp" or "udp"
	six     bool
	port    uint16
}

func keyOf(f Forward) portKey { return portKey{f.Proto.Network(), f.HostIP.Is6(), f.HostPort} }

// conflict returns one entry that has f's host port, or nil. It takes constant time, so that
// 10,000 addresses of 127.0.0.0/8 can share a port.
func (b books) conflict(f Forward) *entry {
	users := b[keyOf(f)]
	if f.HostIP.IsUnspecified() {
		for _, e := range users {
			return e
		}
		return nil
	}
	if e := users[f.HostIP]; e != nil {
		return e
	}
	return users[unspecified(f.HostIP.Is6())]
}

// conflicts returns all of them.
func (b books) conflicts(f Forward) []*entry {
	users := b[keyOf(f)]
	var es []*entry
	if f.HostIP.IsUnspecified() {
		for _, e := range users {
			es = append(es, e)
		}
		return es
	}
	if e := b.conflict(f); e != nil {
		es = append(es, e)
	}
	return es
}

// take enters e, unless another entry has its host port.
func (b books) take(e *entry) error {
	if other := b.conflict(e.f); other != nil {
		return &ConflictError{With: other.status()}
	}
	k := keyOf(e.f)
	if b[k] == nil {
		b[k] = map[netip.Addr]*entry{}
	}
	b[k][e.f.HostIP] = e
	return nil
}

// free removes e if it is there.
func (b books) free(e *entry) {
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
