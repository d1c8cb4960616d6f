package main

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// TestClocksApart runs some commands with the clocks since boot (CLOCK_MONOTONIC, CLOCK_BOOTTIME) 12 days
// and more ahead or behind, in a time namespace, where start times of processes differ
// (time_namespaces(7)). An instance starts, is listed, is restored after a failure, changes its
// forwards and is taken down there, and likewise from the other side.
func TestClocksApart(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, for a time namespace")
	}
	if out, err := exec.Command("unshare", "--time", "--monotonic", "1000000", "--boottime", "1234567", "true").CombinedOutput(); err != nil {
		lacking(t, "this test needs a time namespace: %v: %s", err, out)
	}
	ahead := []string{"--monotonic", "1000000", "--boottime", "1234567"}
	behind := []string{"--monotonic", "-100", "--boottime", "-100"}
	for name, c := range map[string]struct{ up, rest []string }{
		"inside":       {ahead, ahead},
		"behind":       {behind, behind},
		"from outside": {ahead, nil},
		"from inside":  {nil, ahead},
		"from others":  {ahead, behind},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			with := func(clocks []string, args ...string) *exec.Cmd {
				cmd := l.command(args...)
				if clocks != nil {
					cmd.Args = append(append([]string{"unshare", "--fork", "--time"}, clocks...), append([]string{l.bin}, cmd.Args[1:]...)...)
					cmd.Path, cmd.Err = exec.LookPath("unshare")
				}
				return cmd
			}
			must := func(clocks []string, args ...string) string {
				t.Helper()
				r := l.finish(with(clocks, args...))
				if r.code != 0 {
					t.Fatalf("%q: exit status %d: %s", args, r.code, r.err)
				}
				return r.out
			}
			must(c.up, "up", "-d", "--name", "x", "--port-handler", "direct", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
			const show = `{{.State}} {{.Restarts}} {{len .Ports}}`
			if got := must(c.rest, "list", "--format", show); got != "running 0 1\n" {
				t.Errorf("listed as %q", got)
			}
			st := l.state("x")
			echoes(t, st.Ports[0].HostPort)
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is healed", func() bool { return must(c.rest, "list", "--format", show) == "running 1 1\n" })
			echoes(t, st.Ports[0].HostPort)
			must(c.rest, "forward", "add", "x", "127.0.0.1::80")
			st = l.state("x")
			echoes(t, st.Ports[1].HostPort)
			if r := l.finish(with(c.rest, "up", "-d", "--name", "x", strconv.Itoa(l.target()))); r.code != exitConflict {
				t.Errorf("a second one of the name: exit status %d: %s", r.code, r.err)
			}
			must(c.rest, "down", "x")
			l.noneLeft()

			// With nothing but the names of its processes.
			must(c.up, "up", "-d", "--name", "x", strconv.Itoa(l.target()))
			st = l.state("x")
			_ = syscall.Kill(st.SupervisorPID, syscall.SIGSTOP)
			must(c.rest, "down", "x")
			l.noneLeft()

			// A dead instance's name is free.
			must(c.up, "up", "-d", "--name", "x", strconv.Itoa(l.target()))
			_ = syscall.Kill(l.state("x").SupervisorPID, syscall.SIGKILL)
			eventually(t, "it is gone", func() bool { return must(c.rest, "list") == "" })
			must(c.rest, "up", "-d", "--name", "x", strconv.Itoa(l.target()))
			if st := l.state("x"); st.State != instance.Running {
				t.Errorf("it is %s", st.State)
			}
			must(c.up, "down", "x")
			l.noneLeft()
		})
	}
}
