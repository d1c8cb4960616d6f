package hostfwd

import "net/netip"

// Spec is a port specification as a user types it: one forward, or a range of them, for one
// or more protocols.
type Spec struct {
	HostIP    netip.Addr // invalid: not given
	HostPort  uint16     // first host port; 0: a free one for each
	GuestIP   netip.Addr // invalid: the guest address of the network
	GuestPort uint16     // first guest port
	Count     int        // ports in the range, at least 1
	Protos    []Proto    // at least one
}
