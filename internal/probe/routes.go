package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
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

// ParseRoutes reads /proc/net/route. Its addresses are in the machine's byte order. Routes that
// are down are left out, and so are lines that make no sense.
func ParseRoutes(text string) []Route {
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

// Routes returns the host's IPv4 routes. There is no such file on a kernel without IPv4.
func Routes(env *Env) ([]Route, error) {
	text, err := env.readWord("proc/net/route")
	if err != nil {
		return nil, err
	}
	return ParseRoutes(text), nil
}

// CIDROverlap compares the network that is to be used inside with the host's routes: hosts in
// both can't be reached from inside. The remedy is a network that is free.
func CIDROverlap(_ context.Context, env *Env) Result {
	r := Result{Name: "cidr-overlap"}
	network, err := subnet.New(env.CIDR)
	if err != nil {
		r.Status, r.Reason = Unknown, err.Error()
		return r
	}
	routes, err := Routes(env)
	if err != nil {
		r.Status, r.Reason = Unknown, "can't read the host's routes: "+err.Error()
		return r
	}
	var taken []netip.Prefix
	for _, route := range routes {
		taken = append(taken, route.To)
	}
	for _, route := range routes {
		if len(network.Overlaps([]netip.Prefix{route.To})) == 0 {
			continue
		}
		r.Status = Warning
		r.Reason = fmt.Sprintf("%s overlaps the host's route to %s on %s: what is there can't be reached from inside", network, route.To, route.Interface)
		if free := subnet.FreeCIDR(taken); free.IsValid() {
			r.Remedy = "export SLIRPCTL_CIDR=" + free.String()
		}
		return r
	}
	r.Status, r.Reason = OK, fmt.Sprintf("%s overlaps no route of the host", network)
	return r
}
