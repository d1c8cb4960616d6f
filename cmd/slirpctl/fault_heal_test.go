package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
)

var handlers = []string{"rootlesskit", "slirp4netns", "direct"}

// crashBySocket sends what crashes every slirp4netns: add_hostfwd without a protocol.
func crashBySocket(t *testing.T, st instance.State) {
	c, err := net.Dial("unix", st.APISocket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(`{"execute":"add_hostfwd","arguments":{"host_port":1,"guest_port":1}}`)); err != nil {
		t.Fatal(err)
	}
}

// listenInode returns the inode of the socket that listens on a port of 127.0.0.1; another number
// is another socket. The kernel writes its list in pieces and may omit one if sockets are opened
// and closed meanwhile.
func listenInode(t *testing.T, port int) (inode string) {
	t.Helper()
	local := fmt.Sprintf("0100007F:%04X", port)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		local = fmt.Sprintf("7F000001:%04X", port)
	}
	eventually(t, fmt.Sprintf("something listens on port %d", port), func() bool {
		data, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 9 && f[1] == local && f[3] == "0A" {
				inode = f[9]
				return true
			}
		}
		return false
	})
	return inode
}

// cmdline returns a process's arguments.
func cmdline(t *testing.T, pid int) string {
	t.Helper()
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(args), "\x00", " ")
}

func TestSlirpDies(t *testing.T) {
	for _, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			port := ownPort(t)
			st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), "-p", "127.0.0.1:0:81", "--mtu", "1500", "--cidr", "10.9.8.0/24", strconv.Itoa(l.target()))
			echoes(t, port)
			args := cmdline(t, st.SlirpPID)
			inode := listenInode(t, port)
			for i, death := range []struct {
				name string
				do   func()
				log  string
			}{
				{"kill", func() { _ = syscall.Kill(st.SlirpPID, syscall.SIGKILL) }, "signal: killed"},
				{"segv", func() { _ = syscall.Kill(st.SlirpPID, syscall.SIGSEGV) }, "signal: segmentation fault"},
				{"api", func() { crashBySocket(t, st) }, "signal: segmentation fault"},
			} {
				before := strings.Count(l.log("x"), "slirp4netns ended ("+death.log)
				death.do()
				eventually(t, death.name+": it is started again", func() bool {
					now := l.state("x")
					return now.Restarts == i+1 && now.State == instance.Running
				})
				echoes(t, port)
				now := l.state("x")
				if fmt.Sprint(now.Ports) != fmt.Sprint(st.Ports) {
					t.Errorf("%s: forwards were %v, are %v", death.name, st.Ports, now.Ports)
				}
				if now.SlirpPID == st.SlirpPID {
					t.Errorf("%s: still process %d", death.name, now.SlirpPID)
				}
				if got := cmdline(t, now.SlirpPID); got != args || !strings.Contains(got, "--mtu=1500 ") {
					t.Errorf("%s: started with %q, was %q", death.name, got, args)
				}
				if n := strings.Count(l.log("x"), "slirp4netns ended ("+death.log); n != before+1 {
					t.Errorf("%s: the log gives the reason %d times, want once more than %d:\n%s", death.name, n, before, l.log("x"))
				}
				if got := listenInode(t, port); handler != "slirp4netns" && got != inode {
					t.Errorf("%s: the listening socket was closed: inode %s, now %s", death.name, inode, got)
				}
				st = now
			}
			l.must("down", "x")
			l.noneLeft()
		})
	}
}

// TestSlirpDiesAsUser is the same for an ordinary user, whose slirp4netns has to enter a user
// namespace.
func TestSlirpDiesAsUser(t *testing.T) {
	for _, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newUserLab(t)
			port := ownPort(t)
			st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(l.target()))
			echoes(t, port)
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is started again", func() bool { now := l.state("x"); return now.Restarts == 1 && now.State == instance.Running })
			echoes(t, port)
			l.must("down", "x")
			l.noneLeft()
		})
	}
}

// TestSlirpStopped: a stopped slirp4netns is left stopped, since the user may have a reason; it is
// shown as stopped, and ended with the instance.
func TestSlirpStopped(t *testing.T) {
	for _, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			port := ownPort(t)
			st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(l.target()))
			echoes(t, port)
			_ = syscall.Kill(st.SlirpPID, syscall.SIGSTOP)
			eventually(t, "list says so", func() bool { return l.state("x").State == instance.Stopped })
			if handler == "slirp4netns" && echo(port) == nil {
				t.Error("it goes on")
			}
			if now := l.state("x"); now.State != instance.Stopped || now.Restarts != 0 || now.SlirpPID != st.SlirpPID {
				t.Errorf("%+v, was %+v", now, st)
			}
			_ = syscall.Kill(st.SlirpPID, syscall.SIGCONT)
			eventually(t, "list says so", func() bool { return l.state("x").State == instance.Running })
			echoes(t, port)
			_ = syscall.Kill(st.SlirpPID, syscall.SIGSTOP)
			eventually(t, "list says so", func() bool { return l.state("x").State == instance.Stopped })
			l.must("down", "x")
			l.noneLeft()
			// The same, if the supervisor can't end anything any more.
			st = l.up("--name", "x", strconv.Itoa(l.target()))
			_ = syscall.Kill(st.SlirpPID, syscall.SIGSTOP)
			_ = syscall.Kill(st.SupervisorPID, syscall.SIGKILL)
			l.noneLeft()
		})
	}
}

// TestHelperDies kills the process that carries the connections inside the namespace.
func TestHelperDies(t *testing.T) {
	for _, handler := range []string{"rootlesskit", "direct"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			st := l.up("--name", "x", "--port-handler", handler, "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
			port := st.Ports[0].HostPort
			echoes(t, port)
			helper := func() int {
				for pid, what := range l.processes() {
					if strings.Contains(what, "__guest") {
						return pid
					}
				}
				return 0
			}
			first := helper()
			if first == 0 {
				t.Fatalf("no helper among %v", l.processes())
			}
			_ = syscall.Kill(first, syscall.SIGKILL)
			eventually(t, "another helper", func() bool { h := helper(); return h != 0 && h != first })
			for range 12 { // more than the direct handler's pool had
				echoes(t, port)
			}
			if now := l.state("x"); fmt.Sprint(now.Ports) != fmt.Sprint(st.Ports) || now.Restarts != 0 {
				t.Errorf("%+v, was %+v", now, st)
			}
		})
	}
}

// TestRestartLimit: slirpctl gives up restarting a slirp4netns that always fails, and scripts can detect it.
func TestRestartLimit(t *testing.T) {
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		st := l.up("--name", "x", "--restart", "never", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
		_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
		eventually(t, "it is dead", func() bool { return l.state("x").State == instance.Dead })
		now := l.state("x")
		if !strings.Contains(now.Error, "signal: killed") || len(now.Ports) != 0 {
			t.Errorf("error %q, ports %v", now.Error, now.Ports)
		}
		if err := echo(st.Ports[0].HostPort); err == nil {
			t.Error("the forward of a dead instance still works")
		}
		l.must("down", "x")
		l.noneLeft()
	})
	t.Run("limit", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		marker := filepath.Join(filepath.Dir(l.base), "broken")
		fake := l.fakeSlirp(`[ -e $base/broken ] && { echo "out of order" >&2; exit 3; }; exec "$real" "$@"`)
		st := l.up("--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
		if err := os.WriteFile(marker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
		eventually(t, "it is restarting", func() bool { return l.state("x").State != instance.Running })
		eventually(t, "it is dead", func() bool { return l.state("x").State == instance.Dead })
		if now := l.state("x"); !strings.Contains(now.Error, "out of order") {
			t.Errorf("error %q", now.Error)
		}
		l.must("down", "x")
		l.noneLeft()
	})
	t.Run("foreground", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		cmd := l.command("up", "--name", "x", "--restart", "never", strconv.Itoa(l.target()))
		done := make(chan result, 1)
		go func() { done <- l.finish(cmd) }()
		eventually(t, "it runs", func() bool { sts := l.list(); return len(sts) == 1 && sts[0].State == instance.Running })
		_ = syscall.Kill(l.state("x").SlirpPID, syscall.SIGKILL)
		if r := <-done; r.code != 1 || !strings.Contains(r.err, "the network was lost") {
			t.Errorf("exit status %d: %s", r.code, r.err)
		}
		l.noneLeft()
	})
	t.Run("command", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		cmd := l.command("up", "--name", "x", "--restart", "never", "--", "sleep", "1000")
		done := make(chan result, 1)
		go func() { done <- l.finish(cmd) }()
		eventually(t, "it runs", func() bool { sts := l.list(); return len(sts) == 1 && sts[0].State == instance.Running })
		_ = syscall.Kill(l.state("x").SlirpPID, syscall.SIGKILL)
		if r := <-done; r.code != 125 || !strings.Contains(r.err, "the network was lost") {
			t.Errorf("exit status %d: %s", r.code, r.err)
		}
		l.noneLeft()
	})
}

// TestDownWhileHealing: a hanging restart does not keep an instance from ending.
func TestDownWhileHealing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fake := l.fakeSlirp(`[ -e $base/hang ] && { exec 9<><(:); read -u 9; }; exec "$real" "$@"`)
	st := l.up("--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
	if err := os.WriteFile(filepath.Join(filepath.Dir(l.base), "hang"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "it is restarting", func() bool { return l.state("x").State == instance.Restarting })
	l.must("down", "x")
	l.noneLeft()
}

// TestPortTakenWhileHealing: a host port that another process takes meanwhile is restored when it
// is free again.
func TestPortTakenWhileHealing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fake := l.fakeSlirp(`while [ -e $base/wait ]; do read -t 0.02 <> <(:); done; exec "$real" "$@"`)
	// A port that the kernel does not assign to other sockets while it is free.
	port := ownPort(t)
	st := l.up("--name", "x", "--port-handler", "slirp4netns", "--slirp4netns-path", fake, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), "-p", fmt.Sprintf("127.0.0.1:%d:80", ownPort(t)), strconv.Itoa(l.target()))
	wait := filepath.Join(filepath.Dir(l.base), "wait")
	if err := os.WriteFile(wait, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	var ln net.Listener
	eventually(t, "the port is free", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err == nil
	})
	if err := os.Remove(wait); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(l.log("x"))
		}
	}()
	eventually(t, "it runs without the forward", func() bool {
		now := l.state("x")
		return now.Restarts > 0 && len(now.Ports) == 2 && strings.Contains(now.Ports[0].Failed, "in use") && now.Ports[1] == st.Ports[1]
	})
	echoes(t, st.Ports[1].HostPort) // everything else was restored
	ln.Close()
	echoes(t, port)
	// slirp4netns listens slightly before the supervisor knows.
	eventually(t, "its forwards are what they were", func() bool { return slices.Equal(l.state("x").Ports, st.Ports) })
}

// TestSlirpReplaced: another version is installed while one runs.
func TestSlirpReplaced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fake := l.fakeSlirp(`exec "$real" "$@"`)
	st := l.up("--name", "x", "-p", "127.0.0.1::80", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
	// A version with fewer features: no sandbox, no seccomp; it reports if it gets their flags.
	text, err := os.ReadFile(fake)
	if err != nil {
		t.Fatal(err)
	}
	older := regexp.MustCompile(`(?m)^case .*$`).ReplaceAllLiteralString(string(text), `case $1 in
--help) "$real" --help | grep -v -e sandbox -e seccomp; exit;;
--version) echo "slirp4netns version 0.3.9"; exit;; esac
case "$*" in *sandbox*|*seccomp*) echo "unrecognized option" >&2; exit 1;; esac`)
	if err := writeProgram(fake+".new", []byte(older)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fake+".new", fake); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "the other version runs", func() bool {
		now := l.state("x")
		return now.Restarts == 1 && now.State == instance.Running && now.Slirp.Version == "0.3.9" && !now.Sandbox && !now.Seccomp
	})
	echoes(t, st.Ports[0].HostPort)
	if log := l.log("x"); !strings.Contains(log, "was replaced") || !strings.Contains(log, "the sandbox is off") {
		t.Errorf("the log does not tell:\n%s", log)
	}
}

// BenchmarkHealing measures the time from slirp4netns's death to a working forward. Its
// ms/median is over as many runs as -benchtime says (20x).
func BenchmarkHealing(b *testing.B) {
	for _, handler := range handlers {
		b.Run(handler, func(b *testing.B) {
			l := newLab(b)
			pid := strconv.Itoa(l.target())
			var all []time.Duration
			for range b.N {
				b.StopTimer()
				st := l.up("--name", "x", "--port-handler", handler, "-p", "127.0.0.1::80", pid)
				port := st.Ports[0].HostPort
				echoes(b, port)
				b.StartTimer()
				start := time.Now()
				_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
				for syscall.Kill(st.SlirpPID, 0) == nil {
					time.Sleep(100 * time.Microsecond)
				}
				for reaches(st, int(port)) != nil {
					time.Sleep(time.Millisecond)
				}
				all = append(all, time.Since(start))
				b.StopTimer()
				l.must("down", "x")
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "ms/median")
		})
	}
}

// reaches waits for the tap, and then for an echo: some handlers' connections never leave the
// namespace, so that an echo alone says nothing about slirp4netns.
func reaches(st instance.State, port int) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/fib_trie", st.Target.PID))
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), st.Guest.String()) {
		return errors.New("no address yet")
	}
	return echo(port)
}
