package gateway

import (
	"container/list"
	"net/netip"
	"sync"
)

// fakeNet is where the addresses come from that stand for names: set aside for benchmarks of networks
// (RFC 2544), so nobody else is there.
var fakeNet = netip.MustParsePrefix("198.18.0.0/15")

// mostNames bounds the tables of names; the one that was used longest ago makes room.
const mostNames = 1 << 14

// names knows one name for each address, and the reverse.
type names struct {
	mu     sync.Mutex
	byName map[string]*list.Element // of nameEntry
	byAddr map[netip.Addr]*list.Element
	used   list.List // front: last used
	next   uint32
}

type nameEntry struct {
	name string
	addr netip.Addr
}

func newNames() *names {
	return &names{byName: map[string]*list.Element{}, byAddr: map[netip.Addr]*list.Element{}}
}

// addr returns the address of fakeNet that stands for a name.
func (n *names) addr(name string) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.byName[name]; e != nil {
		n.used.MoveToFront(e)
		return e.Value.(nameEntry).addr
	}
	entry := nameEntry{name: name}
	if n.used.Len() < mostNames {
		n.next++
		base := fakeNet.Addr().As4()
		entry.addr = netip.AddrFrom4([4]byte{base[0], base[1] + byte(n.next>>16), byte(n.next >> 8), byte(n.next)})
	} else {
		entry.addr = n.drop(n.used.Back()).addr
	}
	e := n.used.PushFront(entry)
	n.byName[name], n.byAddr[entry.addr] = e, e
	return entry.addr
}

func (n *names) drop(e *list.Element) nameEntry {
	old := n.used.Remove(e).(nameEntry)
	if n.byName[old.name] == e {
		delete(n.byName, old.name)
	}
	delete(n.byAddr, old.addr)
	return old
}

// learn notes that a name has led to an address.
func (n *names) learn(name string, a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.byAddr[a]; e != nil {
		n.drop(e)
	} else if n.used.Len() >= mostNames {
		n.drop(n.used.Back())
	}
	n.byAddr[a] = n.used.PushFront(nameEntry{name, a})
}

// name returns the name of an address, or "".
func (n *names) name(a netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.byAddr[a]
	if e == nil {
		return ""
	}
	n.used.MoveToFront(e)
	return e.Value.(nameEntry).name
}
