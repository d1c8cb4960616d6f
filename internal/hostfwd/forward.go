// Package hostfwd forwards ports of the host into a network namespace. It exists so that
// one grammar, one set of rules (all-or-nothing batches, stable ids, diagnosis of a refused
// port) and one interface serve three different ways of carrying the bytes.
//
// A [Spec] is what a user types, a [Forward] is one port of it, a [Handler] makes forwards
// listen, and a [Manager] keeps track of a handler's forwards. The handlers that need more than
// this package's types are in packages below it: slirpapi, direct and rootlesskit.
package hostfwd

import (
	"context"
	"net/netip"
)

// Proto is the protocol of a forward, in RootlessKit's spelling. The values with a digit listen
// on that address family only; the others follow the family of the host address.
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

// Forward carries one host port to one guest port. The same type is used from the port spec to the
// listener, and from the control socket to the output of commands.
type Forward struct {
	Proto Proto `json:"proto"`
	// HostIP is the address to listen on. Invalid (the zero value) means the default of
	// Proto: 0.0.0.0, or [::] for tcp6 and udp6.
	HostIP netip.Addr `json:"hostIP"`
	// HostPort is the port to listen on, 1 to 65535; 0 requests a free one.
	HostPort uint16 `json:"hostPort"`
	// HostPortEnd, if not 0, requests the first free port of HostPort to HostPortEnd.
	HostPortEnd uint16 `json:"hostPortEnd,omitempty"`
	// GuestIP is the destination address. Invalid means the guest address of the network.
	GuestIP netip.Addr `json:"guestIP"`
	// GuestPort is the destination port, 1 to 65535.
	GuestPort uint16 `json:"guestPort"`
}

// String prints f as a port spec that parses back to it.
func (f Forward) String() string {
	return Spec{f.HostIP, f.HostPort, f.HostPortEnd, f.GuestIP, f.GuestPort, 1, []Proto{f.Proto}}.String()
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// Status is the state of a forward of a [Manager]. ID is positive, unique over the Manager's
// lifetime, and survives a restart of slirp4netns.
type Status struct {
	// Name is the instance's name in lists of forwards of several instances; a Manager leaves it empty.
	Name string `json:"name,omitempty"`
	ID   int    `json:"id"`
	Forward
	// Failed says why the forward doesn't listen although it should; "" if it does.
	Failed string `json:"failed,omitempty"`
}

// Handler makes forwards listen. Its methods are called by one [Manager] and must be safe for
// concurrent use.
type Handler interface {
	// Name returns the value of --port-handler that selects this handler.
	Name() string
	// Check rejects what this handler can never do (say, IPv6), before anything is opened.
	Check(f Forward) error
	// Open listens for f, whose HostIP and GuestIP are set. HostPort 0 picks a free port; the
	// returned listener's Forward has it.
	Open(ctx context.Context, f Forward) (Listener, error)
	// Close closes every listener and every connection and releases the handler's resources.
	Close() error
}

// Listener is one open forward of a [Handler]. Close stops listening; whether it also closes
// open connections depends on the handler.
type Listener interface {
	Forward() Forward
	Close() error
}
