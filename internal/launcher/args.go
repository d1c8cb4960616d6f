package launcher

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Defaults of slirp4netns.
const (
	DefaultTap = "tap0"
	builtinMTU = 1500
)

// Plan is everything that slirp4netns's argument list depends on: names are resolved, `auto` is
// decided, descriptors have the numbers that the child will see.
type Plan struct {
	MTU  int            // bytes, 68 to 65521; 0 is slirp4netns's own 1500
	CIDR subnet.Network // the zero value is the default

	IPv6                bool
	DisableHostLoopback bool
	DisableDNS          bool

	// Sandbox fails for an ordinary user if the target has both a netns and a userns path (upstream
	// issue 317). The caller must avoid that.
	Sandbox bool
	Seccomp bool

	OutboundAddr  netip.Addr // IPv4; the zero value: chosen by the routes
	OutboundAddr6 netip.Addr // IPv6

	Tap string           // 1 to 15 bytes; "" is tap0
	MAC net.HardwareAddr // 6 bytes; nil lets the kernel choose

	APISocket string // path of at most 107 bytes; "" for none
	ReadyFD   int    // in the child, 3 or more; 0 for none
	ExitFD    int    // in the child, 3 or more; 0 for none. If it is closed, slirp4netns exits at once

	Target Target
}

// Target is the network namespace to serve: that of a process, or one given by path.
type Target struct {
	PID        int    // > 0
	NetnsPath  string // instead of PID
	UsernsPath string // the user namespace to enter first; only with NetnsPath, "" for none
}

// MissingFeatureError says that this slirp4netns lacks a feature that is needed.
type MissingFeatureError struct {
	Feature Feature
	Since   string // the upstream version that added it
	Have    string // the installed version; "" if unknown
	Wanted  string // what needs it, like "the network 10.7.0.0/16"; may be empty
}

// Error returns one line.
func (e *MissingFeatureError) Error() string {
	option := "--" + string(e.Feature)
	if e.Feature == NetnsTypeTapfd {
		option = "--netns-type=tapfd"
	}
	return fmt.Sprintf("%s needs a slirp4netns with %s (upstream has it since %s); %s does not have it", cmp.Or(e.Wanted, "this"), option, e.Since, cmp.Or(e.Have, "the installed one"))
}

// Is reports whether target is the error's kind.
func (*MissingFeatureError) Is(target error) bool { return target == fault.Unsupported }

// Hint returns the hint for the user.
func (*MissingFeatureError) Hint() string { return askProbe }

const askProbe = "slirpctl probe says what this slirp4netns and this host can do"

// Args returns slirp4netns's arguments (without the program) for plan, using only the binary's features.
// It is a pure function. Options that have slirp4netns's default are omitted and need no feature: the
// network 10.0.2.0/24 needs no --cidr. If a needed feature is missing, the error is a
// [*MissingFeatureError]; nothing is silently omitted.
// Every list has -c, which 0.2 and 0.3 require with -r.
func (b Binary) Args(plan Plan) ([]string, error) {
	l := argList{binary: b}
	l.add(plan.DisableHostLoopback, DisableHostLoopback, "", "keeping the namespace off the host's loopback")
	l.add(plan.MTU != 0 && (plan.MTU != builtinMTU || b.Features.Has(MTU)), MTU, strconv.Itoa(plan.MTU), fmt.Sprintf("the MTU %d", plan.MTU))
	l.add(plan.Sandbox, EnableSandbox, "", "the sandbox")
	l.add(plan.Seccomp, EnableSeccomp, "", "the system call filter")
	l.add(plan.CIDR != (subnet.Network{}) && plan.CIDR != subnet.Default(), CIDR, plan.CIDR.String(), "the network "+plan.CIDR.String())
	l.add(plan.IPv6, EnableIPv6, "", "IPv6")
	l.add(plan.OutboundAddr.IsValid(), OutboundAddr, plan.OutboundAddr.String(), "the source address "+plan.OutboundAddr.String())
	l.add(plan.OutboundAddr6.IsValid(), OutboundAddr6, plan.OutboundAddr6.String(), "the source address "+plan.OutboundAddr6.String())
	l.add(plan.DisableDNS, DisableDNS, "", "switching the built-in DNS off")
	l.add(len(plan.MAC) > 0, MACAddress, plan.MAC.String(), "the hardware address "+plan.MAC.String())
	l.short(Configure, "-c", "configuring the interface")
	if plan.ExitFD != 0 {
		l.short(ExitFD, "-e", "ending with the supervisor", strconv.Itoa(plan.ExitFD))
	}
	if plan.ReadyFD != 0 {
		l.short(ReadyFD, "-r", "telling when the network is ready", strconv.Itoa(plan.ReadyFD))
	}
	l.add(plan.APISocket != "", APISocket, plan.APISocket, "the API socket")
	l.target(plan.Target, cmp.Or(plan.Tap, DefaultTap))
	if l.err != nil {
		return nil, l.err
	}
	return l.args, nil
}

// argList collects arguments and the first missing feature.
type argList struct {
	args   []string
	binary Binary
	err    error
}

// need reports whether f is available, and records an error if not.
func (l *argList) need(f Feature, wanted string) bool {
	if l.binary.Features.Has(f) {
		return true
	}
	if l.err == nil {
		l.err = &MissingFeatureError{Feature: f, Since: f.Since(), Have: l.binary.Version.Version, Wanted: wanted}
	}
	return false
}

// add appends --f or --f=value if want is true.
func (l *argList) add(want bool, f Feature, value, wanted string) {
	if !want || !l.need(f, wanted) {
		return
	}
	arg := "--" + string(f)
	if value != "" {
		arg += "=" + value
	}
	l.args = append(l.args, arg)
}

// short appends an option by its one-letter name.
func (l *argList) short(f Feature, letter, wanted string, value ...string) {
	if l.need(f, wanted) {
		l.args = append(append(l.args, letter), value...)
	}
}

// target appends the namespace and the interface, which come last.
func (l *argList) target(t Target, tap string) {
	where := strconv.Itoa(t.PID)
	if t.NetnsPath != "" {
		l.add(t.UsernsPath != "", UsernsPath, t.UsernsPath, "a user namespace given by path")
		l.add(true, NetnsType, "path", "a network namespace given by path")
		where = t.NetnsPath
	}
	if strings.HasPrefix(where, "-") || strings.HasPrefix(tap, "-") {
		l.args = append(l.args, "--")
	}
	l.args = append(l.args, where, tap)
}
