package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// TestHealWithoutDescriptors: connections use every descriptor of the supervisor when slirp4netns dies.
func TestHealWithoutDescriptors(t *testing.T) {
	for _, handler := range []string{"direct", "rootlesskit"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			r := l.finish(l.limited("-n 256", "up", "-d", "--name", "x", "--port-handler", handler, "-p", "127.0.0.1::80", strconv.Itoa(l.target())))
			if r.code != 0 {
				t.Fatalf("exit status %d: %s", r.code, r.err)
			}
			st := l.state("x")
			port := st.Ports[0].HostPort
			var held []net.Conn
			release := func() {
				for _, c := range held {
					c.Close()
				}
				held = nil
			}
			defer release()
			for range 130 {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					break
				}
				held = append(held, c)
			}
			pid := st.SlirpPID
			for range 3 { // the second and the third run after the one before
				_ = syscall.Kill(pid, syscall.SIGKILL)
				eventually(t, "it is healed while the connections are held", func() bool {
					now := runsAgain(l.log("x"))
					return now != 0 && now != pid
				})
				pid = runsAgain(l.log("x"))
			}
			if log := l.log("x"); strings.Contains(log, "packet filter") {
				t.Errorf("the log has\n%s", log)
			}
			release()
			echoes(t, port)
			if now := l.state("x"); now.State != instance.Running || now.Restarts != 3 {
				t.Errorf("%+v", now)
			}
			l.must("down", "x")
			l.noneLeft()
		})
	}
}

// runsAgain returns the PID in the log's last line about a restarted slirp4netns.
func runsAgain(log string) int {
	_, rest, _ := strings.Cut(log[max(0, strings.LastIndex(log, "slirp4netns runs again (pid ")):], "(pid ")
	digits, _, _ := strings.Cut(rest, ")")
	pid, _ := strconv.Atoi(digits)
	return pid
}

// TestShortageIsNoDeath: a shortage that keeps slirp4netns from restarting ends at some time, later than
// slirpctl gives up on a broken slirp4netns.
func TestShortageIsNoDeath(t *testing.T) {
	for words, problem := range map[string]string{
		"fork: Resource temporarily unavailable":         "Resource temporarily unavailable",
		"socketpair: Too many open files":                "Too many open files",
		"cannot mount tmpfs: Cannot allocate memory":     "Cannot allocate memory",
		"clone failed: Resource temporarily unavailable": "Resource temporarily unavailable",
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			short, count := filepath.Join(filepath.Dir(l.base), "short"), filepath.Join(filepath.Dir(l.base), "count")
			fake := l.fakeSlirp(`[ -e $base/short ] && { echo >>$base/count; echo "` + words + `" >&2; exit 1; }; exec "$real" "$@"`)
			st := l.up("--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
			must(t, os.WriteFile(short, nil, 0o600))
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is tried more often than a broken one", func() bool {
				tries, _ := os.ReadFile(count)
				return len(tries) > 15
			})
			if now := l.state("x"); now.State != instance.Restarting {
				t.Errorf("%+v", now)
			}
			if n := strings.Count(l.log("x"), "trying until it works"); n != 1 || !strings.Contains(l.log("x"), problem) {
				t.Errorf("told %d times:\n%s", n, l.log("x"))
			}
			must(t, os.Remove(short))
			eventually(t, "it runs again", func() bool { now := l.state("x"); return now.State == instance.Running && now.Restarts == 1 })
			l.must("down", "x")
			l.noneLeft()
		})
	}
}

// TestOutboundAddressChanges: the interface's address is looked up at each start, and a missing one does not count as a failure.
func TestOutboundAddressChanges(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root: it makes interfaces in a network namespace of its own")
	}
	// A separate host.
	host := exec.Command("unshare", "--net", "sleep", "1000")
	host.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.keep(host)
	eventually(t, "the namespace is there", func() bool {
		a, _ := os.Readlink("/proc/self/ns/net")
		b, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", host.Process.Pid))
		return err == nil && a != b
	})
	in := func(args ...string) *exec.Cmd {
		return exec.Command("nsenter", append([]string{"-n", "-t", strconv.Itoa(host.Process.Pid)}, args...)...)
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := in(append([]string{"ip"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
	}
	ip("link", "add", "vpn0", "type", "bridge")
	ip("link", "set", "vpn0", "up")
	ip("addr", "add", "192.0.2.1/24", "dev", "vpn0")
	up := func(args ...string) result {
		cmd := l.command(append([]string{"up", "-d", "--name", "x", "--outbound-addr"}, args...)...)
		inside := in(append([]string{cmd.Path}, cmd.Args[1:]...)...)
		inside.Env, inside.WaitDelay = cmd.Env, cmd.WaitDelay
		return l.finish(inside)
	}
	pid := strconv.Itoa(l.target())
	for value, why := range map[string]string{
		"192.0.2.9": "192.0.2.9 is not an address of this host",
		"nosuch0":   "nosuch0 is neither an address nor an interface of this host",
		"lo6":       "lo6 is neither",
	} {
		if r := up(value, pid); r.code != 2 || !strings.Contains(r.err, "--outbound-addr: "+why) || !strings.Contains(r.err, "hint: ip -brief address") {
			t.Errorf("%s: exit status %d: %s", value, r.code, r.err)
		}
	}
	if r := up("vpn0", pid); r.code != 0 {
		t.Fatalf("exit status %d: %s", r.code, r.err)
	}
	st := l.state("x")
	if args := cmdline(t, st.SlirpPID); !strings.Contains(args, "--outbound-addr=192.0.2.1 ") {
		t.Errorf("started with %q", args)
	}
	ip("addr", "del", "192.0.2.1/24", "dev", "vpn0")
	ip("addr", "add", "192.0.2.2/24", "dev", "vpn0")
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "it is started again", func() bool { return l.state("x").Restarts == 1 })
	st = l.state("x")
	if args := cmdline(t, st.SlirpPID); !strings.Contains(args, "--outbound-addr=192.0.2.2 ") || !strings.Contains(l.log("x"), "was 192.0.2.1, it is now 192.0.2.2") {
		t.Errorf("started with %q\n%s", args, l.log("x"))
	}
	ip("link", "del", "vpn0")
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "the log tells", func() bool {
		return strings.Contains(l.log("x"), "--outbound-addr: vpn0 is neither an address nor an interface of this host; trying until it works")
	})
	if now := l.state("x"); now.State != instance.Restarting {
		t.Errorf("%+v", now)
	}
	ip("link", "add", "vpn0", "type", "bridge")
	ip("addr", "add", "192.0.2.3/24", "dev", "vpn0")
	eventually(t, "it is started again", func() bool { return l.state("x").Restarts == 2 })
	if args := cmdline(t, l.state("x").SlirpPID); !strings.Contains(args, "--outbound-addr=192.0.2.3 ") {
		t.Errorf("started with %q", args)
	}
}

// TestWrapper: a wrapper script that waits for slirp4netns instead of executing it.
func TestWrapper(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		fake := l.fakeSlirp(`trap '' TERM; "$real" "$@"; exit $?`)
		must(t, os.Chmod(filepath.Dir(l.base), 0o755))
		port := ownPort(t)
		l.up("--name", "x", "--slirp4netns-path", fake, "--port-handler", "slirp4netns", "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(l.target()))
		if log := l.log("x"); strings.Contains(log, "warning") || strings.Contains(log, "no packet filter") {
			t.Errorf("the log has\n%s", log)
		}
		echoes(t, port)
		real := func() int { return childOf(t, l.state("x").SlirpPID) } // the wrapper's
		for i, victim := range []func() int{func() int { return l.state("x").SlirpPID }, real} {
			old, oldReal := l.state("x").SlirpPID, real()
			_ = syscall.Kill(victim(), syscall.SIGKILL)
			eventually(t, "it is started again", func() bool {
				now := l.state("x")
				return now.State == instance.Running && now.SlirpPID != old && now.Restarts == i+1
			})
			if err := unix.Kill(oldReal, 0); err == nil && l.processes()[oldReal] != "" {
				t.Errorf("the old slirp4netns, %d, still runs", oldReal)
			}
			if log := l.log("x"); strings.Contains(log, "start slirp4netns again:") {
				t.Errorf("a start failed:\n%s", log)
			}
			echoes(t, port)
		}
		pid := real()
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		eventually(t, "list says stopped", func() bool { return l.state("x").State == instance.Stopped })
		l.must("down", "x")
		l.noneLeft()
	})
}
