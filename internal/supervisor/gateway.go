package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/gateway"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/options"
)

// startGateway puts the gateway between the target and slirp4netns, if there are egress rules. The tap in the
// target is the supervisor's then, and outlives slirp4netns.
func (s *supervisor) startGateway() error {
	o := &s.req.Options
	if o.Egress.Mode == egress.Open {
		return nil
	}
	set, err := egress.NewSet(o.Egress.Rules...)
	if err != nil {
		return err
	}
	log, err := s.inst.OpenLog(instance.EgressLogFile, true)
	if err != nil {
		return err
	}
	s.recorder = egress.NewRecorder(log)
	s.egress = gateway.NewPolicy(set, o.Egress.Mode, s.net, s.recorder.Write)
	if o.Egress.Narrowed {
		if s.egress.Narrow, err = egress.NewSet(o.Egress.Narrow...); err != nil {
			return err
		}
	}
	s.egress.Loopback, s.egress.Source = o.AllowHostLoopback, s.plan.OutboundAddr
	if o.Egress.Upstream != "" {
		if s.egress.Upstream, err = url.Parse(o.Egress.Upstream); err != nil {
			return err
		}
	}
	tap, err := nsexec.OpenTap(s.entry, s.tgt.Netns, nsexec.Tap{
		Name: o.TapName, MTU: o.MTU, MAC: o.MACAddress,
		Address: netip.PrefixFrom(s.net.Guest(), s.net.CIDR().Bits()), Gateway: s.net.Gateway(),
	})
	if errors.Is(err, unix.EBUSY) {
		return &launcher.StartError{Problem: launcher.InterfaceExists, Interface: o.TapName}
	}
	if err != nil {
		return err
	}
	// Each connection through the gateway leaves garbage. The live heap is about 1 MB, and Go otherwise lets it grow
	// to 4 MiB before it collects.
	debug.SetGCPercent(50)
	s.gateway, err = gateway.Start(gateway.Config{Network: s.net, MTU: o.MTU, Guest: tap, Policy: s.egress, Log: s.log.Warnf})
	if err != nil {
		return err
	}
	s.atEnd(func() {
		s.gateway.Close()
		log.Close()
		s.recordEgress()
		if s.env.Denied != nil {
			s.env.Denied(s.recorder.Denials())
		}
	})
	s.tune()
	return nil
}

// confineCommand takes from COMMAND the ways out that lead past its network namespace.
func (s *supervisor) confineCommand(cfg *nscommand.Config) error {
	cfg.LimitSockets = true
	most := 2 + s.req.Options.Egress.PreserveFDs
	cfg.KeepFDs = slices.DeleteFunc(slices.Clone(cfg.KeepFDs), func(fd int) bool { return fd > most })
	// COMMAND could find the second one without the variable.
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Geteuid())} {
		if _, err := os.Stat(dir); err == nil && !slices.Contains(cfg.Hide, dir) {
			cfg.Hide = append(cfg.Hide, dir)
		}
	}
	return nsexec.CheckStdio(cfg.Stdio)
}

// recordEgress writes the policy that --egress-record asks for.
func (s *supervisor) recordEgress() {
	path := s.req.Options.Egress.Record
	if path == "" {
		return
	}
	var b bytes.Buffer
	rules, complete := s.recorder.Policy(false)
	err := egress.WritePolicy(&b, rules, complete)
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o666)
	}
	if err != nil {
		s.log.Errorf("--egress-record: %v", err)
	}
}

// slirpOptions are the options as slirp4netns is to see them: in a gateway it has a network of its own.
func (s *supervisor) slirpOptions() options.Options {
	o := s.req.Options
	if s.gateway != nil {
		o.CIDR, o.TapName, o.MACAddress, o.IPv6 = gateway.HostNetwork(), gateway.HostSide, nil, false
	}
	return o
}

// Egress implements [control.Backend].
func (b backend) Egress() *control.Egress {
	s := b.s
	if s.egress == nil {
		return nil
	}
	return &control.Egress{
		Rules: s.egress.Set, Check: s.egress.Decide, Policy: s.recorder.Policy,
		Changed: func() {
			s.gateway.RulesChanged()
			s.log.Infof("egress rules changed: there are %d", len(s.egress.Set.Rules()))
		},
	}
}
