package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/crashpoint"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
)

// startSlirp starts slirp4netns on the target and waits until the network is ready. If it fails
// because of a sandbox or seccomp on `auto`, it is started again without, which is logged.
func (s *supervisor) startSlirp(ctx context.Context) error {
	if s.proc == nil { // a restart keeps the first decision
		var err error
		if s.security, err = launcher.Decide(&s.req.Options, s.bin); err != nil {
			return err
		}
		for _, why := range s.security.Why {
			s.log.Warn(why)
		}
	}
	for {
		err := s.startOnce(ctx)
		var se *launcher.StartError
		if !errors.As(err, &se) {
			return err
		}
		o := &s.req.Options
		switch {
		case se.Problem == launcher.SandboxFailed && s.security.Sandbox && o.Sandbox == options.Auto:
			s.security.Sandbox = false
			s.log.Warnf("the sandbox is off: %s", se.Output)
		case se.Problem == launcher.SocketFailed && s.security.Sandbox:
			// For an ordinary user the sandbox runs in the target's user namespace. If the user's id is not
			// mapped there, it has no access to the user's files.
			why := "slirp4netns can't make its API socket in the target's user namespace (the caller's user id may not be mapped there): " + se.Output
			if o.Sandbox == options.On {
				return launcher.Refused("sandbox=true", why)
			}
			s.security.Sandbox = false
			s.log.Warn("the sandbox is off: " + why)
		case se.Problem == launcher.SeccompFailed && s.security.Seccomp && o.Seccomp == options.Auto:
			s.security.Seccomp = false
			s.log.Warnf("the system call filter is off: %s", se.Output)
		default:
			return err
		}
	}
}

func (s *supervisor) startOnce(ctx context.Context) error {
	cfg, err := s.startConfig()
	if err != nil {
		return err
	}
	s.log.Infof("start: slirp4netns %s", launcher.Quote(cfg.Args))
	proc, err := launcher.Start(cfg)
	if err != nil {
		return err
	}
	crashpoint.Here("slirp4netns started")
	s.tune()
	if err := s.waitReady(ctx, proc); err != nil {
		return s.explainStart(ctx, proc, err)
	}
	s.slirpStarted = time.Now()
	if s.proc == nil {
		s.atEnd(func() { s.proc.Stop() }) // s.proc of that time: no start runs then
	}
	s.mu.Lock()
	s.proc = proc
	s.state.SlirpPID = proc.PID()
	s.mu.Unlock()
	return nil
}

// startConfig returns the configuration for the next start of slirp4netns.
func (s *supervisor) startConfig() (cfg launcher.StartConfig, err error) {
	o := s.slirpOptions()
	plan, err := launcher.NewPlan(&o)
	if err == nil {
		err = plan.CheckOutbound()
	}
	if err != nil {
		return cfg, err
	}
	s.compareOutbound("outbound-addr", s.plan.OutboundAddr, plan.OutboundAddr)
	s.compareOutbound("outbound-addr6", s.plan.OutboundAddr6, plan.OutboundAddr6)
	s.plan = plan
	plan.Sandbox, plan.Seccomp = s.security.Sandbox, s.security.Seccomp
	_, gone := os.Lstat(s.inst.Dir()) // if the directory was removed, do without the API socket
	if s.bin.Features.Has(launcher.APISocket) && gone == nil {
		plan.APISocket = s.inst.Path(instance.APISocket)
		_ = os.Remove(plan.APISocket) // left behind by a killed slirp4netns
	}
	cfg = launcher.StartConfig{Path: s.bin.Path, Log: s.slirpLog(), OwnMounts: os.Geteuid() == 0 && plan.Sandbox}
	if !o.AllowHostLoopback && s.gateway == nil {
		cfg.Ban = launcher.NewLoopbackBan()
	}
	if err := s.setTarget(&plan, &cfg); err != nil {
		return cfg, err
	}
	cfg.Args, err = s.bin.Args(plan)
	return cfg, err
}

func (s *supervisor) waitReady(ctx context.Context, proc *launcher.Process) error {
	err := proc.WaitReady(ctx)
	if err == nil {
		err = s.checkBan(proc.BanError())
	}
	if err == nil && s.req.Options.IPv6 {
		err = s.waitIPv6(ctx)
	}
	return err
}

// explainStart kills a slirp4netns that did not become ready and returns the reason, from its output if it
// printed one.
func (s *supervisor) explainStart(ctx context.Context, proc *launcher.Process, err error) error {
	notReady := errors.Is(err, launcher.ErrNotReady)
	exit := proc.Exit()
	proc.Kill()
	if s.tgt.Gone() {
		return s.tgt.Ended("while the network was set up")
	}
	se := launcher.Explain(exit, proc.Output())
	switch {
	case notReady:
		if se.Problem == launcher.InterfaceExists {
			se.Interface = s.describeTap(ctx)
		}
		return se
	case errors.Is(err, errTimeout), errors.Is(context.Cause(ctx), errTimeout):
		se.Problem = launcher.StartTimeout
		return se
	}
	return err
}

// describeTap describes the interface that has the tap's name, as "tap0 (bridge)"; "" if unknown.
func (s *supervisor) describeTap(ctx context.Context) string {
	a, err := s.guestAgent()
	if err != nil {
		return ""
	}
	fds, err := a.Sockets(ctx, unix.AF_INET, unix.SOCK_DGRAM, 1)
	if err != nil {
		return ""
	}
	defer unix.Close(fds[0])
	name := s.req.Options.TapName
	info, err := unix.IoctlGetEthtoolDrvinfo(fds[0], name)
	if err != nil {
		return ""
	}
	kind := unix.ByteSliceToString(info.Driver[:])
	if kind == "tun" {
		kind = unix.ByteSliceToString(info.Bus_info[:]) // tun or tap
	}
	return fmt.Sprintf("%s (%s)", name, kind)
}

func (s *supervisor) compareOutbound(option string, before, now netip.Addr) {
	if now != before {
		s.log.Warnf("--%s: the source address of outgoing traffic was %s, it is now %s", option, before, now)
	}
}

// checkBan decides whether a tap without the packet filter is acceptable. err says why there is no filter.
func (s *supervisor) checkBan(err error) error {
	switch {
	case err == nil, isShortage(err):
		return err
	case s.req.Options.BanHostLoopback:
		return launcher.Refused("allow-host-loopback=false", "no packet filter on the tap: "+err.Error())
	}
	s.log.Warnf("programs inside that make their own packets can reach the host's loopback, because there is no packet filter on the tap: %v", err)
	return nil
}

// setTarget chooses how slirp4netns is told its target:
//   - by the pinned descriptor, if the caller (root) may enter the network namespace directly, so that
//     slirp4netns does not enter the target's user namespace;
//   - else by the target's PID, if its namespaces are the pinned ones;
//   - else by the PID of our helper in the namespace: a netns path with a userns path fails in the sandbox
//     for ordinary users (upstream issue 317), and 0.2 and 0.3 have no paths.
func (s *supervisor) setTarget(plan *launcher.Plan, cfg *launcher.StartConfig) error {
	if s.gateway != nil {
		pid, err := s.gateway.PID()
		plan.Target = launcher.Target{PID: pid}
		return err
	}
	if s.entry == nil && s.bin.Features.Has(launcher.NetnsType) {
		cfg.Target = s.tgt.Netns
		plan.Target = launcher.Target{NetnsPath: launcher.TargetPath}
		return nil
	}
	if s.entry != nil && s.tgt.ByPID() && s.tgt.Unmoved() {
		plan.Target = launcher.Target{PID: s.tgt.PID}
		return nil
	}
	a, err := s.guestAgent()
	if err != nil {
		return err
	}
	plan.Target = launcher.Target{PID: a.PID()}
	return nil
}
