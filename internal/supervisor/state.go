package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/procfs"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// setState fills in the state. slirp4netns must be running.
func (s *supervisor) setState() {
	o := &s.req.Options
	st := instance.State{
		Name: s.inst.Name(), State: instance.Running,
		Target:        instance.TargetState{PID: s.tgt.PID, Netns: s.tgt.NetnsPath, Userns: s.tgt.UsernsPath, Command: s.req.Command},
		SupervisorPID: os.Getpid(), SlirpPID: s.proc.PID(),
		Tap: o.TapName, MTU: o.MTU,
		CIDR: s.net, Guest: s.net.Guest(), Gateway: s.net.Gateway(),
		PortHandler: string(o.PortHandler), Ports: []hostfwd.Status{},
		StateDir: s.inst.Dir(), ControlSocket: s.inst.Path(instance.ControlSocket), Log: s.inst.Path(instance.LogFile),
		Slirp:     instance.SlirpState{Path: s.bin.Path, Version: s.bin.Version.Version},
		StartedAt: time.Now().Truncate(time.Millisecond),
		Sandbox:   s.security.Sandbox, Seccomp: s.security.Seccomp, DisableDNS: o.DisableDNS,
		AllowHostLoopback: o.AllowHostLoopback, Egress: o.Egress.Mode,
		Container: s.req.Container,
	}
	if s.cmd != nil {
		st.Target.User = string(o.User)
	}
	if !o.DisableDNS {
		st.DNS = s.net.DNS()
	}
	if _, err := os.Stat(s.inst.Path(instance.APISocket)); err == nil {
		st.APISocket = s.inst.Path(instance.APISocket)
	}
	if s.guest6.IsValid() {
		st.IPv6 = &instance.IPv6State{CIDR: subnet.CIDR6(), Guest: s.guest6, Gateway: subnet.Gateway6(), DNS: subnet.DNS6()}
	}
	s.mu.Lock()
	s.state = st
	s.mu.Unlock()
}

// State returns the instance's state, with its forwards.
func (s *supervisor) State() instance.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	if s.fwd != nil {
		st.Ports = s.fwd.List()
	}
	st.Target.Program = s.program()
	st.Processes = []instance.ProcessState{
		instance.Identify("supervisor", os.Getpid()), instance.Identify("slirp4netns", st.SlirpPID),
	}
	if s.cmd != nil {
		st.Processes = append(st.Processes, instance.Identify("command", s.cmd.PID()))
	}
	if !s.killsAt.IsZero() {
		st.State, st.Stopping = instance.Stopping, stoppingState(s.cmd.PID(), s.killsAt)
	}
	return st
}

// program returns the name of the target's program, which may have executed another since it started.
func (s *supervisor) program() string {
	switch {
	case len(s.req.Command) > 0:
		return filepath.Base(s.req.Command[0])
	case s.tgt.PID > 0:
		return strings.Join(procfs.Status(s.tgt.PID, "Name"), " ")
	}
	return ""
}

func (s *supervisor) setStatus(status instance.Status) {
	s.mu.Lock()
	s.state.State = status
	s.mu.Unlock()
	s.saveState()
}

// saveState writes the state file. A failure is only logged: control.sock serves the same state.
func (s *supervisor) saveState() {
	s.saving.Lock()
	defer s.saving.Unlock()
	st := s.State()
	if err := s.inst.WriteState(&st); err != nil {
		s.log.Warn(err)
	}
}

// reportNow calls Ready, unless something inside is to listen first.
func (s *supervisor) reportNow(ctx context.Context) error {
	if len(s.req.Options.WaitListen) > 0 {
		return nil
	}
	s.reported = true
	return s.report(context.WithoutCancel(ctx)) // however slow the reader is
}

// report calls Ready. It returns early on a request to stop, or when ctx is done, because Ready may block on a slow
// reader.
func (s *supervisor) report(ctx context.Context) error {
	if s.env.Ready == nil {
		return nil
	}
	reported := make(chan error, 1)
	go func() { reported <- s.env.Ready(s.State()) }()
	select {
	case err := <-reported:
		return err
	case <-s.down:
		return ErrInterrupted
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stoppingState describes COMMAND, a child of init, which was asked to end.
func stoppingState(init int, killsAt time.Time) *instance.StoppingState {
	st := &instance.StoppingState{Name: "the command", Reacts: "has not ended on", KillsAt: killsAt.Truncate(time.Millisecond)}
	st.PID = instance.FirstChild(init)
	if st.PID == 0 {
		return st
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.PID))
	if name := procfs.StatusField(status, "Name"); len(name) > 0 {
		st.Name = strings.Join(name, " ")
	}
	switch {
	case procfs.HasSignal(status, "SigIgn", syscall.SIGTERM):
		st.Reacts = "ignores"
	case procfs.HasSignal(status, "SigBlk", syscall.SIGTERM):
		st.Reacts = "blocks"
	}
	return st
}

// writePIDFile writes the supervisor's PID to the file of --pid-file atomically, so that a reader
// never sees part of the number. The file is removed when the instance stops.
func (s *supervisor) writePIDFile() error {
	path := s.req.Options.PIDFile
	if path == "" {
		return nil
	}
	text := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := atomicfile.Write(path, text, func(f *os.File) error { return f.Chmod(0o644) }); err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	s.atEnd(func() {
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, text) { // unless another process has replaced it
			os.Remove(path)
		}
	})
	return nil
}

// recordEnd records how the instance ended, for those who wait for it; err is the result of [Run].
func (s *supervisor) recordEnd(err error) {
	status := 0
	switch {
	case s.inst == nil:
		return
	case s.exited != nil:
		status = *s.exited
	case err != nil:
		return
	}
	if err := s.inst.End(status); err != nil {
		s.log.Warnf("record the exit status: %v", err)
	}
}

// leavesRecord reports whether the instance leaves its logs and COMMAND's status: those of a detached COMMAND, unless
// somebody asked for its end.
func (s *supervisor) leavesRecord() bool {
	select {
	case <-s.down:
		return false
	default:
		return s.env.Session && s.exited != nil
	}
}
