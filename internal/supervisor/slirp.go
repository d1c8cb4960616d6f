package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/crashpoint"
	"github.com/slirpctl/slirpctl/internal/guest"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
)

// startSlirp starts slirp4netns on the target and waits until the network is ready. With
// sandbox or seccomp on `auto`, one that fails because of them is started again without, and
// the log says so.
func (s *supervisor) startSlirp(ctx context.Context) error {
	if s.proc == nil { // not on a restart: the decision stands
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
			s.log.Warnf("the sandbox is off: %s", se.Words)
		case se.Problem == launcher.SeccompFailed && s.security.Seccomp && o.Seccomp == options.Auto:
			s.security.Seccomp = false
			s.log.Warnf("the system call filter is off: %s", se.Words)
		default:
			return err
		}
	}
}

func (s *supervisor) startOnce(ctx context.Context) error {
	plan := s.plan
	plan.Sandbox, plan.Seccomp = s.security.Sandbox, s.security.Seccomp
	if s.bin.Features.Has(launcher.APISocket) {
		plan.APISocket = s.inst.Path(instance.APISocket)
		_ = os.Remove(plan.APISocket) // a killed one leaves it
	}
	cfg := launcher.StartConfig{Path: s.bin.Path, Log: s.instLog.Foreign(), OwnMounts: os.Geteuid() == 0 && plan.Sandbox, Stopped: s.stopped("slirp4netns")}
	if err := s.aim(&plan, &cfg); err != nil {
		return err
	}
	var err error
	if cfg.Args, err = s.bin.Args(plan); err != nil {
		return err
	}
	restore, err := s.prepareIPv6(ctx)
	if err != nil {
		return err
	}
	defer restore()
	s.log.Debugf("start: slirp4netns %s", launcher.Quote(cfg.Args))
	proc, err := launcher.Start(cfg)
	if err != nil {
		return err
	}
	crashpoint.Here("slirp4netns started")
	s.tune()
	err = proc.WaitReady(ctx)
	if err == nil && s.req.Options.IPv6 {
		err = s.waitIPv6(ctx)
	}
	if err != nil {
		notReady := errors.Is(err, launcher.ErrNotReady)
		exit := proc.Exit()
		proc.Kill()
		if s.tgt.Gone() {
			return s.tgt.Ended("while the network was set up")
		}
		words := proc.Words()
		switch {
		case notReady:
			return launcher.Explain(exit, words)
		case errors.Is(err, errTimeout), errors.Is(context.Cause(ctx), errTimeout):
			se := launcher.Explain(exit, words)
			se.Problem = launcher.StartTimeout
			return se
		}
		return err
	}
	s.slirpStarted = time.Now()
	if s.proc == nil {
		s.atEnd(func() { s.proc.Stop() }) // the last one: healing has ended by then
	}
	s.mu.Lock()
	s.proc = proc
	s.state.SlirpPID = proc.PID()
	s.mu.Unlock()
	return nil
}

// stopped logs that a child was stopped by a signal.
func (s *supervisor) stopped(who string) func(syscall.Signal, bool) {
	return func(sig syscall.Signal, killed bool) {
		if killed {
			s.log.Warnf("%s was stopped again and again by signal %d: killing it", who, sig)
			return
		}
		s.log.Warnf("%s was stopped by signal %d: letting it go on", who, sig)
	}
}

// aim points slirp4netns at the target in the way that works for this caller and every
// version: by PID where there is one that is certain; for root by the pinned namespace; else by
// the PID of our own helper in it, because a netns path with a userns path fails in the
// sandbox for ordinary users (upstream issue 317) and 0.2 and 0.3 know no paths.
func (s *supervisor) aim(plan *launcher.Plan, cfg *launcher.StartConfig) error {
	if s.tgt.ByPID() && s.tgt.Unmoved() {
		plan.Target = launcher.Target{PID: s.tgt.PID}
		return nil
	}
	if (s.tgt.Userns == nil || os.Geteuid() == 0) && s.bin.Features.Has(launcher.NetnsType) {
		cfg.Target = s.tgt.Netns
		plan.Target = launcher.Target{NetnsPath: launcher.TargetPath}
		return nil
	}
	a, err := s.guestAgent()
	if err != nil {
		return err
	}
	plan.Target = launcher.Target{PID: a.PID()}
	return nil
}

// guestAgent returns the helper inside the namespaces, started if need be.
func (s *supervisor) guestAgent() (*guest.Agent, error) {
	s.agents.Lock()
	defer s.agents.Unlock()
	if s.agent != nil {
		select {
		case <-s.agent.Done():
			s.log.Warn("the helper in the namespace has ended: starting it again")
		default:
			return s.agent, nil
		}
	}
	if s.stopping.Load() {
		return nil, guest.ErrEnded
	}
	a, err := guest.Start(guest.Config{Label: s.inst.Dir(), Netns: s.tgt.Netns, Userns: s.tgt.Userns, Log: s.instLog.Foreign(), Env: toolPath(), Stopped: s.stopped("the helper in the namespace")})
	if err != nil {
		return nil, err
	}
	if s.agent == nil {
		s.atEnd(s.closeAgent)
	}
	s.agent = a
	crashpoint.Here("helper started")
	go s.watchAgent(a)
	return a, nil
}

func (s *supervisor) closeAgent() {
	s.agents.Lock()
	defer s.agents.Unlock()
	s.agent.Close()
}

// toolPath is the search path for the programs that RootlessKit's transparent mode runs.
func toolPath() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

const acceptDAD = "net/ipv6/conf/default/accept_dad"

// prepareIPv6 switches duplicate address detection off for interfaces made from now on, because
// it keeps the address unusable for seconds after ready. restore puts the setting back.
func (s *supervisor) prepareIPv6(ctx context.Context) (restore func(), err error) {
	if !s.req.Options.IPv6 {
		return func() {}, nil
	}
	a, err := s.guestAgent()
	if err != nil {
		return nil, err
	}
	old, err := a.SetSysctl(ctx, acceptDAD, "0")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &NoIPv6Error{}
	case err != nil:
		s.log.Warnf("%s: %v; the IPv6 address takes seconds longer", acceptDAD, err)
		return func() {}, nil
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := a.SetSysctl(ctx, acceptDAD, old); err != nil {
			s.log.Warnf("put %s back: %v", acceptDAD, err)
		}
	}, nil
}

// NoIPv6Error: the host's kernel has no IPv6.
type NoIPv6Error struct{}

func (*NoIPv6Error) Error() string { return "--ipv6: this host's kernel has no IPv6" }

// Hint says what to do about it.
func (*NoIPv6Error) Hint() string { return "leave --ipv6 out, or boot without ipv6.disable=1" }

func (s *supervisor) waitIPv6(ctx context.Context) error {
	a, err := s.guestAgent()
	if err != nil {
		return err
	}
	text, err := a.WaitIPv6(ctx, s.req.Options.TapName)
	if err != nil {
		return err
	}
	s.guest6, err = netip.ParseAddr(text)
	return err
}
