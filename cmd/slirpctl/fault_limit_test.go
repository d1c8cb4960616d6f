package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// limited runs slirpctl with a limit set by the shell's ulimit.
func (l *lab) limited(limit string, args ...string) *exec.Cmd {
	cmd := l.command(args...)
	cmd.Args = append([]string{"bash", "-c", "ulimit " + limit + ` && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/bash"
	return cmd
}

// TestFewDescriptors: with 64 descriptors an instance runs, recovers and forwards; a request for more
// is an error and changes nothing.
func TestFewDescriptors(t *testing.T) {
	for _, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			pid := strconv.Itoa(l.target())
			r := l.finish(l.limited("-n 64", "up", "-d", "--name", "x", "--port-handler", handler, "-p", "127.0.0.1::80", pid))
			if r.code != 0 {
				t.Fatalf("exit status %d: %s", r.code, r.err)
			}
			st := l.state("x")
			echoes(t, st.Ports[0].HostPort)
			var many []string
			for i := range 200 {
				many = append(many, fmt.Sprintf("127.0.0.1:0:%d", 1000+i))
			}
			r = l.run(append([]string{"forward", "add", "x"}, many...)...)
			if r.code == 0 || !strings.Contains(r.err, "open files") {
				t.Errorf("200 forwards with 64 descriptors: exit status %d: %s", r.code, r.err)
			}
			if now := l.state("x"); len(now.Ports) != 1 {
				t.Errorf("%d forwards, want the one there was", len(now.Ports))
			}
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is healed", func() bool { now := l.state("x"); return now.Restarts == 1 && now.State == instance.Running })
			echoes(t, st.Ports[0].HostPort)
			l.must("down", "x")
			l.noneLeft()
			// Too few to start.
			for _, n := range []string{"6", "8", "12", "16", "20"} {
				r := l.finish(l.limited("-n "+n, "up", "-d", "--name", "x", "--port-handler", handler, "-p", "127.0.0.1::80", pid))
				if r.code == 0 {
					l.must("down", "x")
				}
				l.noneLeft()
			}
		})
	}
}

// TestFewProcesses: with fewer and fewer processes allowed, a start works or fails, and leaves
// nothing half done.
func TestFewProcesses(t *testing.T) {
	t.Parallel()
	u := newUserLab(t)
	pid := strconv.Itoa(u.target())
	worked, failed := 0, 0
	// The user's other processes, which other tests start, count too: the last one is no limit.
	for _, n := range []string{"1", "4", "8", "12", "16", "20", "25", "30", "40", "hard"} {
		r := u.finish(u.limited("-u "+n, "up", "-d", "--name", "x", "-p", "127.0.0.1::80", pid))
		if r.code == 0 {
			worked++
			u.must("down", "x")
		} else {
			failed++
			t.Logf("%s: %.300s", n, r.err)
		}
		u.noneLeft()
	}
	if worked == 0 || failed == 0 {
		t.Errorf("%d starts worked and %d failed: the limits mean nothing", worked, failed)
	}
}

// usage is the resource usage of a process: descriptors, those of pipes separately, KiB of memory, threads.
type usage struct{ fds, pipes, rss, threads int }

// steady checks that a process stops growing: it does batches of work until each part of its usage
// has grown by no more than most in one of them. A leak grows with every batch. Other growth ends: Go's
// pipes for splice(2), kept until a garbage collection, its heap, and as many threads as the
// machine's processors could run.
func steady(t *testing.T, pid int, most usage, batch func()) {
	t.Helper()
	before := usageOf(t, pid)
	history := []usage{before}
	var fds, pipes, rss, threads bool
	for range 6 {
		batch()
		after := usageOf(t, pid)
		// Connections may still be closing.
		for deadline := time.Now().Add(patience); after.fds > before.fds+most.fds && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			after = usageOf(t, pid)
		}
		fds = fds || after.fds <= before.fds+most.fds
		pipes = pipes || after.pipes <= before.pipes+most.pipes
		rss = rss || after.rss <= before.rss+most.rss
		threads = threads || after.threads <= before.threads+most.threads
		if fds && pipes && rss && threads {
			return
		}
		before, history = after, append(history, after)
	}
	t.Errorf("it grows and grows: %+v", history)
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var u usage
	for _, fd := range fds {
		if to, _ := os.Readlink(filepath.Join(dir, fd.Name())); strings.HasPrefix(to, "pipe:") {
			u.pipes++
		} else {
			u.fds++
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "VmRSS:":
			u.rss, _ = strconv.Atoi(f[1])
		case len(f) > 1 && f[0] == "Threads:":
			u.threads, _ = strconv.Atoi(f[1])
		}
	}
	return u
}

// TestCycles starts and stops an instance 200 times beside one that remains, and adds and removes
// forwards of that one as often.
func TestCycles(t *testing.T) {
	const cycles = 200
	for _, handler := range handlers {
		t.Run("forwards/"+handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			st := l.up("--name", "x", "--port-handler", handler, strconv.Itoa(l.target()))
			client := control.NewClient(st.ControlSocket)
			cycle := func() {
				f := hostfwd.Forward{Proto: hostfwd.TCP, HostIP: netip.MustParseAddr("127.0.0.1"), GuestPort: 80}
				ps, err := client.Add(context.Background(), []hostfwd.Forward{f})
				if err != nil {
					t.Fatal(err)
				}
				echoes(t, ps[0].HostPort)
				if err := client.Remove(context.Background(), []int{ps[0].ID}); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				cycle()
			}
			steady(t, st.SupervisorPID, usage{fds: 2, pipes: 20, rss: 8 << 10, threads: 4}, func() {
				for range cycles {
					cycle()
				}
			})
		})
	}
	t.Run("instances", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		stays := l.up("--name", "stays", strconv.Itoa(l.target()))
		pid := strconv.Itoa(l.target())
		mounts := func() int {
			data, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Count(string(data), l.base) + strings.Count(string(data), "/tmp/slirp")
		}
		steady(t, stays.SupervisorPID, usage{fds: 2, pipes: 2, rss: 4 << 10, threads: 4}, func() {
			for range cycles {
				l.must("up", "-d", "--name", "x", "-p", "127.0.0.1::80", pid)
				l.must("down", "x")
			}
		})
		if n := mounts(); n != 0 {
			t.Errorf("%d mounts are left", n)
		}
		l.must("down", "stays")
		l.noneLeft()
		if left, _ := filepath.Glob(l.base + "/.[ng]*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
