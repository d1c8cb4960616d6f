package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// TestStorm lets 16 callers do everything at once to a few names, with processes killed in between,
// and then checks consistency: every listed instance works, with each of its forwards, and nothing
// is left of others. SLIRPCTL_STORM is its length [8s] and SLIRPCTL_STORM_SEED the seed of the
// callers' actions.
func TestStorm(t *testing.T) {
	length, seed := 8*time.Second, uint64(1)
	if v := os.Getenv("SLIRPCTL_STORM"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	if v := os.Getenv("SLIRPCTL_STORM_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s with seed %d", length, seed)
	const callers = 16
	names := []string{"a", "b", "c", "d"}
	l := newLab(t)
	targets := map[string]string{}
	for _, name := range names {
		targets[name] = strconv.Itoa(l.target())
	}
	var done atomic.Int64
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			s := &stormer{l: l, r: rand.New(rand.NewPCG(seed, uint64(i))), targets: targets}
			for ctx.Err() == nil {
				s.act(ctx, names[s.r.IntN(len(names))])
				done.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d commands", done.Load())

	// The process killed last may still be restarting.
	var sts []instance.State
	eventually(t, "nothing restarts any more", func() bool {
		sts = l.list()
		return !slices.ContainsFunc(sts, func(st instance.State) bool { return st.State != instance.Running })
	})
	listed := map[string]bool{}
	for _, st := range sts {
		listed[st.Name] = true
		for _, p := range st.Ports {
			if p.GuestPort == 80 {
				echoes(t, p.HostPort)
			}
		}
		client := control.NewClient(st.ControlSocket)
		f := hostfwd.Forward{Proto: hostfwd.TCP, HostIP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80}
		var ps []hostfwd.Status
		eventually(t, st.Name+": a forward can be added", func() (ok bool) {
			var err error
			ps, err = client.Add(context.Background(), []hostfwd.Forward{f})
			return err == nil
		})
		echoes(t, ps[0].HostPort)
		if st.PortHandler == "slirp4netns" {
			l.sameForwards(st.Name)
		}
	}
	for pid, what := range l.processes() {
		known := false
		for _, st := range l.list() {
			known = known || slices.ContainsFunc(st.Processes, func(p instance.ProcessState) bool { return p.PID == pid }) ||
				parentOf(pid) == st.SupervisorPID
		}
		if !known {
			// It may be exiting.
			eventually(t, "gone: "+what, func() bool { return !alivePID(pid) })
		}
	}
	des, err := os.ReadDir(l.base)
	if err != nil {
		t.Fatal(err)
	}
	for _, de := range des {
		if de.IsDir() && de.Name() != ".cache" && de.Name() != ".ended" && !listed[de.Name()] {
			t.Errorf("directory %s of no listed instance", de.Name())
		}
	}
	l.must("down", "--all")
	l.noneLeft()
}

func alivePID(pid int) bool {
	state := statusField(pid, "State")
	return state != "" && state[0] != 'Z'
}

func parentOf(pid int) int {
	ppid, _ := strconv.Atoi(statusField(pid, "PPid"))
	return ppid
}

// statusField returns a field of /proc/PID/status; "" if the process has ended.
func statusField(pid int, name string) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// sameForwards checks that slirp4netns has the forwards that are listed, and no others, once pending
// ones have been restored.
func (l *lab) sameForwards(name string) {
	l.t.Helper()
	eventually(l.t, name+": slirp4netns forwards what is listed", func() bool {
		st := l.state(name)
		want := []int{}
		for _, p := range st.Ports {
			want = append(want, int(p.HostPort))
		}
		have := slirpForwards(l.t, st.APISocket)
		slices.Sort(have)
		slices.Sort(want)
		return slices.Equal(have, want)
	})
}

// slirpForwards asks slirp4netns itself for its host ports.
func slirpForwards(t testing.TB, socket string) (ports []int) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(`{"execute":"list_hostfwd"}`)); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.UnixConn).CloseWrite()
	var reply struct {
		Entries []struct {
			HostPort int `json:"host_port"`
		} `json:"entries"`
	}
	if err := json.NewDecoder(c).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	for _, e := range reply.Entries {
		ports = append(ports, e.HostPort)
	}
	return ports
}

// stormer is one caller of the storm.
type stormer struct {
	l       *lab
	r       *rand.Rand
	targets map[string]string
}

// The exit statuses that a command may have in a storm: it succeeded, or another caller was
// quicker. 137 and the like are for processes killed by the storm itself.
var stormCodes = []int{exitOK, exitFailure, exitNotFound, exitConflict}

func (s *stormer) act(ctx context.Context, name string) {
	run := func(args ...string) {
		if r := s.l.run(args...); !slices.Contains(stormCodes, r.code) {
			s.l.t.Errorf("slirpctl %q: exit status %d: %s", args, r.code, r.err)
		}
	}
	switch n := s.r.IntN(20); {
	case n < 5:
		run("up", "-d", "--name", name, "--port-handler", handlers[s.r.IntN(len(handlers))], "-p", "127.0.0.1::80", s.targets[name])
	case n < 7:
		run("down", name)
	case n < 10:
		run("forward", "add", name, "127.0.0.1::80", "127.0.0.1::80")
	case n < 12:
		run("forward", "set", name, "127.0.0.1::80", "127.0.0.1::81")
	case n < 13:
		run("forward", "remove", name, strconv.Itoa(1+s.r.IntN(5)))
	case n < 14:
		run("forward", "reload", name)
	case n < 16:
		run("list")
	case n < 17:
		run("forward", "list", name)
	case n < 18:
		s.kill(ctx, name, "supervisor")
	default:
		s.kill(ctx, name, "slirp4netns")
	}
}

// kill kills a process of an instance, as recorded in its state file.
func (s *stormer) kill(ctx context.Context, name, role string) {
	base, err := instance.OpenBase(s.l.base)
	if err != nil {
		return
	}
	e, err := base.Find(ctx, name)
	if err != nil || e.State == nil {
		return
	}
	for _, p := range e.State.Processes {
		if p.Role == role && p.Alive() {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}
