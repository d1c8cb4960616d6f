package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestAttackControlSocket: a process inside an instance's network can't list or change its forwards or
// end it, nor those of other instances, even with the same user id and directory; the same holds in
// another user namespace or network namespace. From another PID namespace it works.
func TestAttackControlSocket(t *testing.T) {
	t.Parallel()
	for name, newLab := range map[string]func(testing.TB) *lab{"root": newLab, "user": newUserLab} {
		if name == "root" && os.Geteuid() != 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.copyBinary()
			st := l.up("--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
			l.up("--name", "other", strconv.Itoa(l.target()))
			// from runs slirpctl in other namespaces: words are the command, nsenter or unshare, that enters them.
			from := func(words []string, args ...string) result {
				t.Helper()
				cmd := l.command(args...)
				cmd.Args = append(append([]string{}, words...), append([]string{l.bin}, cmd.Args[1:]...)...)
				path, err := exec.LookPath(words[0])
				must(t, err)
				cmd.Path, cmd.Err = path, nil
				return l.finish(cmd)
			}
			target := strconv.Itoa(st.Target.PID)
			enter := func(ns ...string) []string {
				return append(append([]string{"nsenter", "--preserve-credentials", "--target", target}, ns...), "--")
			}
			places := map[string][]string{
				"inside":                 enter("--user", "--net"),
				"another user namespace": {"unshare", "--user", "--map-root-user", "--"},
			}
			if name == "root" {
				places["inside, with root's rights"] = enter("--net")
				places["another network namespace"] = []string{"unshare", "--net", "--"}
			}
			for place, words := range places {
				for _, args := range [][]string{
					{"forward", "add", "x", "127.0.0.1::81"},
					{"forward", "list", "x"},
					{"forward", "remove", "x", "1"},
					{"forward", "set", "x"},
					{"forward", "reload", "x"},
					{"forward", "add", "other", "127.0.0.1::81"},
					{"down", "x"},
					{"down", "other"},
				} {
					r := from(words, args...)
					if r.code == 0 || !strings.Contains(r.err, "refuses this caller") {
						t.Errorf("from %s, %q: exit status %d: %s%s", place, args, r.code, r.out, r.err)
					}
				}
				socat := exec.Command(words[0], append(words[1:], "socat", "-t20", "-", "UNIX-CONNECT:"+st.ControlSocket)...)
				socat.Stdin = strings.NewReader("GET /v1/ports HTTP/1.0\r\n\r\n")
				socat.Dir = "/"
				if l.uid != 0 {
					socat.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}}
				}
				if out, err := socat.CombinedOutput(); err != nil || !strings.Contains(string(out), " 403 ") || strings.Contains(string(out), "parentPort") {
					t.Errorf("from %s, as rootlessctl: %v: %s", place, err, out)
				}
			}
			for _, name := range []string{"x", "other"} {
				if now := l.state(name); now.State != "running" || len(now.Ports) != len(map[string][]int{"x": {1}}[name]) {
					t.Errorf("%s is %s, with %v", name, now.State, now.Ports)
				}
			}
			if name == "root" {
				if r := from([]string{"unshare", "--pid", "--fork", "--mount-proc", "--"}, "forward", "add", "x", "127.0.0.1::81"); r.code != 0 {
					t.Errorf("from another PID namespace: exit status %d: %s", r.code, r.err)
				}
			}
			l.must("down", "x", "other")
		})
	}
}

// TestAttackFromCommand: COMMAND, which has the caller's user id and is root inside, sees an empty state
// directory; after it removes the mount that hides it, the socket refuses it.
func TestAttackFromCommand(t *testing.T) {
	t.Parallel()
	labs(t, func(t *testing.T, l *lab) {
		l.copyBinary()
		l.up("--name", "other", strconv.Itoa(l.target()))
		script := `dir=$1 bin=$2
			slirpctl() { "$bin" --state-dir "$dir" "$@" 2>&1; }
			echo "hidden: $(ls -A "$dir")"
			slirpctl forward add other 127.0.0.1::81; slirpctl forward add own 127.0.0.1::81; slirpctl down own
			umount "$dir" && echo "shown: $(ls "$dir")"
			slirpctl forward add other 127.0.0.1::81; slirpctl forward add own 127.0.0.1::81; slirpctl down other; slirpctl down own
			echo end`
		r := l.run("up", "--name", "own", "--", "sh", "-c", script, "sh", l.base, l.bin)
		lines := strings.Split(strings.TrimSpace(r.out), "\n")
		if r.code != 0 || lines[0] != "hidden: " || lines[len(lines)-1] != "end" {
			t.Fatalf("exit status %d: %s%s", r.code, r.out, r.err)
		}
		if n := strings.Count(r.out, "no such instance"); n != 3 {
			t.Errorf("%d of 3 instances are not to be found: %s", n, r.out)
		}
		if n := strings.Count(r.out, "refuses this caller"); !strings.Contains(r.out, "shown: ") || n != 4 {
			t.Errorf("%d of 4 requests are refused: %s", n, r.out)
		}
		if now := l.state("other"); now.State != "running" || len(now.Ports) != 0 {
			t.Errorf("other is %s, with %v", now.State, now.Ports)
		}
		l.must("down", "other")
	})
}

// copyBinary copies slirpctl to a path that is valid in every namespace.
func (l *lab) copyBinary() {
	l.t.Helper()
	path := filepath.Join(filepath.Dir(l.base), "slirpctl")
	must(l.t, copyFile(l.bin, path+"2", 0o755), os.Rename(path+"2", path))
	l.bin = path
}

// TestSupervisorElsewhere: the supervisor is in another PID namespace, where its callers have no PID.
func TestSupervisorElsewhere(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, for a PID namespace without a user namespace")
	}
	l := newLab(t)
	l.copyBinary()
	cmd := l.command("up", "--name", "x", "--", "sleep", "1000")
	path, err := exec.LookPath("unshare")
	must(t, err)
	cmd.Args = append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", l.bin}, cmd.Args[1:]...)
	cmd.Path, cmd.Err = path, nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.keep(cmd)
	eventually(t, "it takes a forward", func() bool { return l.run("forward", "add", "x", "127.0.0.1::80").code == 0 })
	_ = cmd.Process.Kill()
	l.noneLeft()
}

// TestStoppedSupervisorForgets: a request that timed out is not carried out when the supervisor continues.
func TestStoppedSupervisorForgets(t *testing.T) {
	t.Parallel()
	for _, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			st := l.up("--name", "x", "--port-handler", handler, "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
			must(t, syscall.Kill(st.SupervisorPID, syscall.SIGSTOP))
			defer func() { _ = syscall.Kill(st.SupervisorPID, syscall.SIGCONT) }()
			for _, args := range [][]string{
				{"add", "x", "127.0.0.1::81"}, {"set", "x", "127.0.0.1::81"}, {"remove", "x", "1"}, {"reload", "x", "--guest-ip", "10.0.2.7"},
			} {
				if r := l.run(append([]string{"forward", "--timeout", "200ms"}, args...)...); r.code != exitTimeout {
					t.Fatalf("%q: exit status %d: %s", args, r.code, r.err)
				}
			}
			r := l.run("up", "-d", "--name", "x", strconv.Itoa(l.target()))
			if r.code != exitConflict || !strings.Contains(r.err, fmt.Sprintf("(pid %d) is stopped", st.SupervisorPID)) {
				t.Errorf("up of the same name: exit status %d: %s", r.code, r.err)
			}
			must(t, syscall.Kill(st.SupervisorPID, syscall.SIGCONT))
			// Requests are processed in order, and this one after those.
			l.must("forward", "add", "x", "127.0.0.1::82")
			now := l.state("x").Ports
			if len(now) != 2 || now[0] != st.Ports[0] || now[1].GuestPort != 82 {
				t.Errorf("the forwards were %+v and are %+v", st.Ports, now)
			}
			l.must("down", "x")
		})
	}
}

// TestFrozenSupervisor: `up` with the name of a supervisor in a frozen cgroup does not wait for it.
// In a cgroup of version 1 it can't be killed either, which is reported.
func TestFrozenSupervisor(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, to freeze a cgroup")
	}
	const (
		v1, v2 = "/sys/fs/cgroup/freezer", "/sys/fs/cgroup"
		hybrid = v2 + "/unified"
	)
	frozen := false
	for dir, kind := range map[string]struct{ file, frozen, thawed, state, is string }{
		v1:     {"freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN\n"},
		v2:     {"cgroup.freeze", "1", "0", "cgroup.events", "frozen 1\n"},
		hybrid: {"cgroup.freeze", "1", "0", "cgroup.events", "frozen 1\n"},
	} {
		group, err := os.MkdirTemp(dir, "slirpctl")
		if err != nil || !exists(filepath.Join(group, kind.file)) {
			_ = os.Remove(group)
			continue // no such hierarchy
		}
		frozen = true
		l := newLab(t)
		pid := strconv.Itoa(l.target())
		st := l.up("--name", "x", pid)
		write := func(file, text string) { must(t, os.WriteFile(filepath.Join(group, file), []byte(text), 0)) }
		write("cgroup.procs", strconv.Itoa(st.SupervisorPID))
		write(kind.file, kind.frozen)
		eventually(t, "it is frozen", func() bool {
			state, _ := os.ReadFile(filepath.Join(group, kind.state))
			return strings.Contains(string(state), kind.is)
		})
		says := "already running"
		if dir == v1 {
			must(t, syscall.Kill(st.SupervisorPID, syscall.SIGKILL)) // as a failed down leaves it
			says = fmt.Sprintf("(pid %d) was killed but can't exit", st.SupervisorPID)
		}
		r := l.run("up", "-d", "--timeout", "2s", "--name", "x", pid)
		if r.code != exitConflict || !strings.Contains(r.err, says) {
			t.Errorf("%s: exit status %d: %s", dir, r.code, r.err)
		}
		write(kind.file, kind.thawed)
		if dir != v1 {
			l.must("down", "x")
		}
		l.noneLeft()
		eventually(t, "the cgroup can be removed", func() bool { return os.Remove(group) == nil })
	}
	if !frozen {
		lacking(t, "this test needs a cgroup hierarchy with a freezer, of version 1 or 2, that it may make a group in")
	}
}
