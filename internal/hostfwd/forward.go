// Package hostfwd forwards ports of the host into a network namespace. It exists so that
// one grammar, one set of rules (all-or-nothing batches, stable ids, diagnosis of a refused
// port) and one interface serve three very different ways of carrying the bytes.
//
// A [Spec] is what a user types, a [Forward] is one port of it, a [Handler] makes forwards
// listen, and a [Manager] keeps the books over a handler. The handlers that need more than
// this package's types live below it: slirpapi, direct and rootlesskit.
package hostfwd

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
)

// Proto is the protocol of a forward, in RootlessKit's spelling. The forms with a digit listen
// on that address family only; the bare forms follow the family of the host address.
type Proto string

// The protocols a forward can have.
const (
	TCP  Proto = "tcp"
	TCP4 Proto = "tcp4"
	TCP6 Proto = "tcp6"
	UDP  Proto = "udp"
	UDP4 Proto = "udp4"
	UDP6 Proto = "udp6"
)

// Network returns "tcp" or "udp": the protocol without its address family.
func (p Proto) Network() string {
	if len(p) < 3 {
		return ""
	}
	return string(p[:3])
}

// Forward is one host port carried to one guest port. It is the same type from the port spec to the
// listener, and from the control socket to what commands print.
type Forward struct {
	Proto Proto `json:"proto"`
	// HostIP is the address listened on. Invalid (the zero value) means the default of
	// Proto: 0.0.0.0, or [::] for tcp6 and udp6.
	HostIP netip.Addr `json:"hostIP"`
	// HostPort is the port listened on, 1 to 65535; 0 asks for a free one.
	HostPort uint16 `json:"hostPort"`
	// HostPortEnd, if not 0, asks for the first free one of HostPort to HostPortEnd.
	HostPortEnd uint16 `json:"hostPortEnd,omitempty"`
	// GuestIP is where the connection goes. Invalid means the guest address of the network.
	GuestIP netip.Addr `json:"guestIP"`
	// GuestPort is 1 to 65535.
	GuestPort uint16 `json:"guestPort"`
}

// String prints f as a port spec that parses back to it.
func (f Forward) String() string {
	guest := ""
	if f.GuestIP.IsValid() {
		guest = bracketed(f.GuestIP) + ":"
	}
	host := ""
	if f.HostIP.IsValid() {
		host = bracketed(f.HostIP) + ":"
	}
	ports := strconv.Itoa(int(f.HostPort))
	if f.HostPortEnd != 0 {
		ports += "-" + strconv.Itoa(int(f.HostPortEnd))
	}
	return fmt.Sprintf("%s%s:%s%d/%s", host, ports, guest, f.GuestPort, f.Proto)
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// Status is a forward of a [Manager]. ID is positive, unique within the Manager over its
// life, and survives a restart of slirp4netns.
type Status struct {
	// Name is that of the instance, where forwards are printed by themselves; a Manager leaves it empty.
	Name string `json:"name,omitempty"`
	ID   int    `json:"id"`
	Forward
	// Failed says why it doesn't listen, although it ought to; "" if it does.
	Failed string `json:"failed,omitempty"`
}

// Handler makes forwards listen. Its methods are called by one [Manager] and must be safe for
// concurrent use.
type Handler interface {
	// Name is the value of --port-handler that selects this handler.
	Name() string
	// Check refuses what this handler can never do (say, IPv6), before anything is opened.
	Check(f Forward) error
	// Open listens for f, whose HostIP and GuestIP are filled in. HostPort 0 picks a free
	// port; the returned listener's Forward has it.
	Open(ctx context.Context, f Forward) (Listener, error)
	// Close ends every listener and every connection and frees what the handler holds.
	Close() error
}

// Listener is one open forward of a [Handler]. Close stops listening; connections that are
// already open go on until either side ends them, or end at once: the handler says which.
type Listener interface {
	Forward() Forward
	Close() error
}
