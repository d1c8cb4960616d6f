package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Route is one IPv4 route of the host.
type Route struct {
	To        netip.Prefix
	Interface string
}

// parseRoutes parses /proc/net/route, whose addresses are in the machine's byte order. Routes that
// are down and malformed lines are ignored.
func parseRoutes(text string) []Route {
	var all []Route
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		to, err1 := strconv.ParseUint(f[1], 16, 32)
		flags, err2 := strconv.ParseUint(f[3], 16, 32)
		mask, err3 := strconv.ParseUint(f[7], 16, 32)
		if err1 != nil || err2 != nil || err3 != nil || flags&unix.RTF_UP == 0 {
			continue // the heading
		}
		var addr, maskBytes [4]byte
		binary.NativeEndian.PutUint32(addr[:], uint32(to))
		binary.NativeEndian.PutUint32(maskBytes[:], uint32(mask))
		ones := bits.LeadingZeros32(^binary.BigEndian.Uint32(maskBytes[:]))
		all = append(all, Route{netip.PrefixFrom(netip.AddrFrom4(addr), ones).Masked(), f[0]})
	}
	return all
}

// addresses returns the host's own IPv4 addresses, without those of the loopback network.
func addresses() ([]Route, error) {
	var all []Route
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			addr, _ := netip.AddrFromSlice(n.IP)
			if addr = addr.Unmap(); addr.Is4() && !addr.IsLoopback() {
				all = append(all, Route{netip.PrefixFrom(addr, addr.BitLen()), i.Name})
			}
		}
	}
	return all, nil
}

// Overlap is an overlap of the network to be used inside with the host's.
type Overlap struct {
	With Route        // the host's; for an address, a network of that address alone
	Free netip.Prefix // a network without overlap; invalid if there is none
}

// FindOverlap compares the network to be used inside with the host's addresses and its routes, except
// default routes. found is false without an overlap.
func FindOverlap(env *Env) (o Overlap, found bool, err error) {
	text, err := env.readWord("proc/net/route") // missing in a kernel without IPv4
	if err != nil {
		return Overlap{}, false, fmt.Errorf("can't read the host's routes: %w", err)
	}
	own, err := env.Addresses()
	if err != nil {
		return Overlap{}, false, fmt.Errorf("can't read the host's addresses: %w", err)
	}
	all := append(parseRoutes(text), own...)
	var taken []netip.Prefix
	for _, route := range all {
		taken = append(taken, route.To)
	}
	for _, route := range all {
		if len(env.CIDR.Overlaps([]netip.Prefix{route.To})) > 0 {
			return Overlap{route, subnet.FreeCIDR(taken)}, true, nil
		}
	}
	return Overlap{}, false, nil
}

// String describes the host's route or address.
func (o Overlap) String() string {
	if o.With.To.IsSingleIP() {
		return fmt.Sprintf("the host's address or route %s on %s", o.With.To.Addr(), o.With.Interface)
	}
	return fmt.Sprintf("the host's route to %s on %s", o.With.To, o.With.Interface)
}

// cidrOverlap compares the network to be used inside with the host's routes and addresses: the
// host's addresses in it can't be reached from inside. The remedy is a free network.
func cidrOverlap(_ context.Context, env *Env) Result {
	o, found, err := FindOverlap(env)
	switch {
	case err != nil:
		return unknown("%v", err)
	case !found:
		return ok("%s overlaps no route or address of the host", env.CIDR)
	}
	remedy := ""
	if o.Free.IsValid() {
		remedy = "export SLIRPCTL_CIDR=" + o.Free.String()
	}
	return warning(remedy, "%s overlaps %s: what is there can't be reached from inside", env.CIDR, o)
}
