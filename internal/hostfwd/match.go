package hostfwd

import (
	"fmt"
	"slices"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Match returns the sorted ids of the forwards in list that s matches. What s does not give
// (host address, host port, guest address) matches anything; tcp also matches tcp4 and tcp6,
// and udp likewise. So a spec finds what was added with it, and "80" finds every TCP forward
// to the guest's port 80. It is an error if a port of s matches none.
func Match(list []Status, s Spec) ([]int, error) {
	type key struct {
		network   string
		guestPort uint16
	}
	byKey := map[key][]Status{}
	for _, st := range list {
		k := key{st.Proto.Network(), st.GuestPort}
		byKey[k] = append(byKey[k], st)
	}
	var ids []int
	for _, f := range s.Forwards() {
		found := false
		for _, st := range byKey[key{f.Proto.Network(), f.GuestPort}] {
			if f.means(st.Forward) {
				ids = append(ids, st.ID)
				found = true
			}
		}
		if !found {
			missing := s.String()
			if s.Total() > 1 {
				missing = fmt.Sprintf("%s (of %s)", f, s)
			}
			return nil, fault.Errorf(fault.NotFound, "", "there is no forward %s", missing)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// means reports whether g has every field that f gives.
func (f Forward) means(g Forward) bool {
	return (f.Proto == g.Proto || string(f.Proto) == g.Proto.Network()) &&
		(!f.HostIP.IsValid() || f.HostIP == g.HostIP) &&
		(f.HostPort == 0 || f.HostPort <= g.HostPort && g.HostPort <= max(f.HostPort, f.HostPortEnd)) &&
		(!f.GuestIP.IsValid() || f.GuestIP == g.GuestIP) &&
		f.GuestPort == g.GuestPort
}
