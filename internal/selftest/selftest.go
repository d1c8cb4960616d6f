// Package selftest makes temporary namespaces and sends TCP, UDP and DNS through them. It exists
// because the checks of package probe each look at one part, and only traffic shows that the parts
// work together.
//
// Every namespace is made as by `slirpctl up -- COMMAND`, by this program in another role, [Up];
// the command is this program in a third role, [Guest]. There is one namespace for the gateway, one
// for each port handler, one for IPv6, and one behind egress rules:
//
//	this process                              guest, in the namespace
//	echo and DNS servers on 127.0.0.1  ◀────  through the gateway      (gateway-…, ipv6-…, egress-…)
//	the host's nameserver              ◀────  through the built-in DNS (built-in-dns)
//	client  ── forwarded port ─────────────▶  echo and DNS servers     (rootlesskit-…, …)
//
// No traffic leaves the loopback interface, except one question about "localhost" to the
// nameserver of /etc/resolv.conf.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

const (
	totalTimeout = 40 * time.Second
	upTimeout    = 10 * time.Second // for one namespace; it takes some 50 milliseconds
	stepTimeout  = 5 * time.Second  // for each exchange; it takes a few milliseconds
	dnsTimeout   = 2 * time.Second  // for one with the host's nameserver, which may be down
)

// Config configures a test.
type Config struct {
	// Options are those of `up`; options of a single instance (name, forwards, descriptors) are
	// ignored.
	Options options.Options
	Binary  launcher.Binary // the slirp4netns that the options select
	// Diagnose checks this host for the cause of an error of `up`; it may be nil.
	Diagnose func(error) error
}

// stepError reports the first step that failed. The step's kind of error is kept only if this host can't
// do it at all.
func stepError(step string, err error, hint string) error {
	kind := fault.Of(err)
	if kind != fault.Unsupported {
		kind = 0
	}
	return fault.New(kind, fmt.Sprintf("self-test: %s: %v", step, err), hint)
}

// ErrInterrupted is returned if the caller's context ended before the test did.
var ErrInterrupted = errors.New("interrupted")

// Run runs the whole test and cleans up. It normally takes less than a second, and 40 seconds at
// most. Steps that could not be tried are unknown. If a step failed, the error is that of the first
// one; if ctx ended, it is [ErrInterrupted].
func Run(ctx context.Context, cfg Config) ([]probe.Step, error) {
	t := &test{cfg: cfg, ipv6: hasIPv6()}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	base, err := os.MkdirTemp(shortTempDir(), "slirpctl-self-test-")
	if err != nil {
		return nil, stepError("state-directory", err, "df -h "+launcher.Quote([]string{os.TempDir()}))
	}
	defer os.RemoveAll(base)
	t.base = base
	for _, part := range []func(context.Context){t.gateway, t.rootlesskit, t.slirp4netns, t.direct, t.overIPv6, t.egress} {
		if outer.Err() == nil {
			part(ctx)
		}
	}
	if outer.Err() != nil {
		return t.steps, ErrInterrupted
	}
	return t.steps, t.failure
}

// shortTempDir returns a directory that leaves room for the paths of sockets.
func shortTempDir() string {
	const longest = 40
	if dir := os.TempDir(); len(dir) <= longest {
		return dir
	}
	return "/tmp"
}

// hasIPv6 reports whether the host's loopback interface has IPv6.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	return l.Close() == nil
}

type test struct {
	cfg     Config
	base    string
	ipv6    bool
	steps   []probe.Step
	failure error // the first
}

// untested is the reason why a step was not tried, which is no failure.
type untested struct {
	reason string
	tried  bool // tried, but failed for a reason outside slirpctl
}

func (u *untested) Error() string { return u.reason }

// step runs one step and records its result.
func (t *test) step(ctx context.Context, name string, do func(context.Context) (reason string, err error)) error {
	s := probe.Step{Name: name, Status: probe.OK}
	if ctx.Err() != nil {
		s.Status, s.Reason = probe.Unknown, "not tried: no time left"
		t.steps = append(t.steps, s)
		return ctx.Err()
	}
	began := time.Now()
	var err error
	s.Reason, err = do(ctx)
	s.Milliseconds = math.Round(float64(time.Since(began).Microseconds())/10) / 100
	var u *untested
	switch {
	case errors.As(err, &u):
		s.Status, s.Reason = probe.Unknown, u.reason
		if !u.tried {
			s.Reason, s.Milliseconds = "not tried: "+u.reason, 0
		}
	case err != nil:
		s.Status, s.Reason = probe.Failed, strings.ReplaceAll(err.Error(), "\n", "; ")
		if t.cfg.Diagnose != nil {
			err = t.cfg.Diagnose(err)
		}
		s.Remedy = fault.Hint(err)
		if t.failure == nil {
			t.failure = stepError(name, err, s.Remedy)
		}
	}
	t.steps = append(t.steps, s)
	return err
}

// skip records steps that can't be tried.
func (t *test) skip(reason string, names ...string) {
	for _, name := range names {
		t.steps = append(t.steps, probe.Step{Name: name, Status: probe.Unknown, Reason: "not tried: " + reason})
	}
}

// options returns the options of one namespace.
func (t *test) options(name string) options.Options {
	o := t.cfg.Options
	o.Name = name
	o.Timeout = upTimeout
	o.ReadyFD, o.ExitFD = -1, -1
	o.PIDFile, o.Detach, o.MapUsers = "", false, false
	o.Publish, o.PublishAuto, o.SourceIPTransparent = nil, options.AutoPublish{}, false
	o.PortHandler = options.HandlerRootlessKit
	o.IPv6 = false
	o.Egress = options.Egress{}
	// The servers are on loopback, which other source addresses may not reach.
	o.AllowHostLoopback = true
	o.OutboundAddr, o.OutboundAddr6 = options.Outbound{}, options.Outbound{}
	o.DisableDNS = false
	return o
}

// inNamespace makes a namespace, as a step of its own, calls use with it, and ends it. If the
// namespace can't be made, the steps called names are not tried.
func (t *test) inNamespace(ctx context.Context, name string, o options.Options, names []string, use func(*namespace)) {
	var ns *namespace
	err := t.step(ctx, name+"-up", func(ctx context.Context) (string, error) {
		var err error
		ns, err = up(ctx, t.base, o)
		if err != nil && fault.Of(err) == fault.Unsupported && o.Egress.Mode != t.cfg.Options.Egress.Mode {
			return "", &untested{err.Error(), true} // the caller asked for no rules
		}
		if err != nil {
			return "", err
		}
		return upReason(ns), nil
	})
	if err != nil {
		t.skip("no namespace", names...)
		return
	}
	use(ns)
	if err := ns.down(); err != nil {
		_ = t.step(ctx, name+"-down", func(context.Context) (string, error) { return "", err })
	}
}

func upReason(ns *namespace) string {
	reason := "a namespace has a network, " + ns.State.Guest.String()
	if ns.State.IPv6 != nil {
		reason += " and " + ns.State.IPv6.Guest.String()
	}
	if len(ns.Warnings) > 0 {
		reason += "; " + strings.Join(ns.Warnings, "; ")
	}
	return reason
}

// sent describes an exchange.
func sent(k kind, from, to string) string {
	switch k {
	case tcp:
		return fmt.Sprintf("%d bytes from %s to %s and back", streamSize, from, to)
	case udp:
		return fmt.Sprintf("a datagram of %d bytes from %s to %s and back", datagramSize, from, to)
	}
	return fmt.Sprintf("a question from %s was answered by %s", from, to)
}

func names(prefix string, kinds ...kind) []string {
	var all []string
	for _, k := range kinds {
		all = append(all, prefix+string(k))
	}
	return all
}

// outward sends from the namespace to our servers on the host's loopback address at, which the
// namespace reaches as gateway.
func (t *test) outward(ctx context.Context, ns *namespace, prefix string, s *servers, gateway netip.Addr, kinds ...kind) {
	for _, k := range kinds {
		_ = t.step(ctx, prefix+string(k), func(ctx context.Context) (string, error) {
			at := map[kind]net.Addr{tcp: s.tcp.Addr(), udp: s.udp.LocalAddr(), dns: s.dns.LocalAddr()}[k].String()
			_, port, err := net.SplitHostPort(at)
			if err != nil {
				return "", err
			}
			to := net.JoinHostPort(gateway.String(), port)
			return sent(k, "inside", at) + " through " + to, ns.explain(ns.do(ctx, k, to))
		})
	}
}

// gateway tests connections out of the namespace.
func (t *test) gateway(ctx context.Context) {
	const builtIn = "built-in-dns"
	t.inNamespace(ctx, "gateway", t.options("gateway"), append(names("gateway-", tcp, udp, dns), builtIn), func(ns *namespace) {
		s, err := serve("127.0.0.1", 0, 0)
		if err != nil {
			t.skip("no servers on loopback: "+err.Error(), names("gateway-", tcp, udp, dns)...)
		} else {
			defer s.close()
			t.outward(ctx, ns, "gateway-", s, ns.State.Gateway, tcp, udp, dns)
		}
		_ = t.step(ctx, builtIn, func(ctx context.Context) (string, error) { return builtInDNS(ctx, ns) })
	})
}

// builtInDNS asks slirp4netns's built-in DNS, which forwards questions to the host's nameserver. If
// there is no answer, asking that server from outside at the same time shows the cause.
func builtInDNS(ctx context.Context, ns *namespace) (reason string, err error) {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return "", &untested{reason: err.Error()}
	}
	servers := resolvconf.Parse(string(text)).Nameservers
	i := slices.IndexFunc(servers, netip.Addr.Is4)
	if i < 0 {
		return "", &untested{reason: "/etc/resolv.conf names no nameserver with an IPv4 address"}
	}
	server := servers[i]
	at := netip.AddrPortFrom(server, 53).String()
	outside := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, anyDNS.timeout())
		defer cancel()
		outside <- exchange(ctx, anyDNS, at)
	}()
	builtIn := netip.AddrPortFrom(ns.State.DNS, 53).String()
	inErr := ns.do(ctx, anyDNS, builtIn)
	outErr := <-outside
	switch {
	case inErr == nil:
		return fmt.Sprintf("the host's nameserver %s answers through %s", server, builtIn), nil
	case outErr != nil:
		return "", &untested{fmt.Sprintf("the host's nameserver %s does not answer now (%v)", server, outErr), true}
	}
	return "", fault.Errorf(0, "see what `slirpctl probe` says of resolv-conf and sandbox",
		"the host's nameserver %s answers the host, but not the namespace: %w", server, inErr)
}

func (t *test) rootlesskit(ctx context.Context) { t.handler(ctx, options.HandlerRootlessKit, t.ipv6) }
func (t *test) direct(ctx context.Context)      { t.handler(ctx, options.HandlerDirect, t.ipv6) }

// slirp4netns can't forward IPv6, so that is not tried.
func (t *test) slirp4netns(ctx context.Context) {
	if need := launcher.APISocket; !t.cfg.Binary.Features.Has(need) {
		t.skip(fmt.Sprintf("this slirp4netns has no --%s (upstream since %s)", need, need.Since()), append([]string{"slirp4netns-up"}, names("slirp4netns-", tcp, udp, dns)...)...)
		return
	}
	t.handler(ctx, options.HandlerSlirp4netns, false)
}

// handler tests connections in through the ports of one handler.
func (t *test) handler(ctx context.Context, h options.PortHandler, ipv6 bool) {
	prefix := string(h) + "-"
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	want := names(prefix, tcp, udp, dns)
	if ipv6 {
		loopback = append(loopback, netip.IPv6Loopback())
		want = append(want, prefix+"ipv6-tcp", prefix+"ipv6-udp", prefix+"ipv6-dns")
	}
	o := t.options(string(h))
	o.PortHandler = h
	for _, ip := range loopback {
		o.Publish = append(o.Publish,
			hostfwd.Spec{HostIP: ip, GuestPort: guestEchoPort, Count: 1, Protos: []hostfwd.Proto{hostfwd.TCP, hostfwd.UDP}},
			hostfwd.Spec{HostIP: ip, GuestPort: guestDNSPort, Count: 1, Protos: []hostfwd.Proto{hostfwd.UDP}})
	}
	t.inNamespace(ctx, string(h), o, want, func(ns *namespace) {
		for _, ip := range loopback {
			prefix := prefix
			if ip.Is6() {
				prefix += "ipv6-"
			}
			for _, k := range []kind{tcp, udp, dns} {
				_ = t.step(ctx, prefix+string(k), func(ctx context.Context) (string, error) {
					return inward(ctx, ns, ip, k)
				})
			}
		}
	})
}

// inward sends from this process to the guest's servers, through the port published on ip.
func inward(ctx context.Context, ns *namespace, ip netip.Addr, k kind) (reason string, err error) {
	proto, port := "udp", uint16(guestEchoPort)
	switch k {
	case tcp:
		proto = "tcp"
	case dns:
		port = guestDNSPort
	}
	for _, p := range ns.State.Ports {
		if p.Proto.Network() != proto || p.HostIP != ip || p.GuestPort != port {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, k.timeout())
		defer cancel()
		to := netip.AddrPortFrom(ip, p.HostPort).String()
		inside := netip.AddrPortFrom(p.GuestIP, p.GuestPort).String()
		return sent(k, "outside", inside) + " through " + to, ns.explain(exchange(ctx, k, to))
	}
	return "", fmt.Errorf("no forward from %s to the port %d inside", ip, port)
}

// overIPv6 tests connections out over IPv6: slirp4netns maps its IPv6 gateway, too, to the host's
// loopback address (verified with 1.2.0).
func (t *test) overIPv6(ctx context.Context) {
	want := names("ipv6-gateway-", tcp, udp, dns)
	if !t.ipv6 {
		t.skip("the host has no IPv6", append([]string{"ipv6-up"}, want...)...)
		return
	}
	o := t.options("ipv6")
	o.IPv6 = true
	t.inNamespace(ctx, "ipv6", o, want, func(ns *namespace) {
		s, err := serve("::1", 0, 0)
		if err != nil {
			t.skip("no servers on loopback: "+err.Error(), want...)
			return
		}
		defer s.close()
		t.outward(ctx, ns, "ipv6-gateway-", s, subnet.Gateway6(), tcp, udp, dns)
	})
}

// egress tests connections out of a namespace behind egress rules, of those that a rule allows and of one that none
// does.
func (t *test) egress(ctx context.Context) {
	want := append(names("egress-", tcp, udp, dns), "egress-denied")
	s, err1 := serve("127.0.0.1", 0, 0)
	denied, err2 := serve("127.0.0.1", 0, 0)
	if err := errors.Join(err1, err2); err != nil {
		t.skip("no servers on loopback: "+err.Error(), append([]string{"egress-up"}, want...)...)
		return
	}
	defer s.close()
	defer denied.close()
	o := t.options("egress")
	o.PortHandler, o.Egress.Mode = options.HandlerDirect, egress.Enforce
	gateway := o.CIDR.Gateway()
	for _, a := range []net.Addr{s.tcp.Addr(), s.udp.LocalAddr(), s.dns.LocalAddr()} {
		_, port, _ := net.SplitHostPort(a.String())
		rule, err := egress.ParseRule(egress.Allow, fmt.Sprintf("%s:%s/%s", gateway, port, a.Network()))
		if err != nil {
			t.skip(err.Error(), want...)
			return
		}
		o.Egress.Rules = append(o.Egress.Rules, rule)
	}
	t.inNamespace(ctx, "egress", o, want, func(ns *namespace) {
		t.outward(ctx, ns, "egress-", s, gateway, tcp, udp, dns)
		_ = t.step(ctx, "egress-denied", func(ctx context.Context) (string, error) {
			_, port, _ := net.SplitHostPort(denied.tcp.Addr().String())
			to := net.JoinHostPort(gateway.String(), port)
			if err := ns.do(ctx, tcp, to); err == nil {
				return "", fmt.Errorf("%s is reached, which no rule allows", to)
			}
			return to + " is not reached, which no rule allows", nil
		})
	})
}
