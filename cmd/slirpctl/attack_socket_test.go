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

// TestAttackControlSocket: who is inside an instance's network can't change its forwards, end it or
// ask for them, nor those of others, though the user id and the directory are its own; from
// another user namespace or network namespace it is the same. From another PID namespace it works.
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
			// from runs slirpctl in other namespaces: words are the program, nsenter or unshare, that enters them.
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

// copyBinary gives slirpctl a path that means something in every namespace.
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

// TestStoppedSupervisorForgets: what was reported as timed out does not happen when the supervisor goes on.
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
			// Requests are taken in their order, and this one behind those.
			l.must("forward", "add", "x", "127.0.0.1::82")
			now := l.state("x").Ports
			if len(now) != 2 || now[0] != st.Ports[0] || now[1].GuestPort != 82 {
				t.Errorf("the forwards were %+v and are %+v", st.Ports, now)
			}
			l.must("down", "x")
		})
	}
}

// TestFrozenSupervisor: a supervisor in a frozen cgroup, which can't be killed: `up` of its name does not wait
// for its end.
func TestFrozenSupervisor(t *testing.T) {
	t.Parallel()
	const freezer = "/sys/fs/cgroup/freezer"
	if os.Geteuid() != 0 || !exists(freezer+"/tasks") {
		t.Skip("this test needs root, and the freezer of version 1 cgroups")
	}
	l := newLab(t)
	pid := strconv.Itoa(l.target())
	st := l.up("--name", "x", pid)
	group, err := os.MkdirTemp(freezer, "slirpctl")
	must(t, err)
	write := func(file, text string) { must(t, os.WriteFile(filepath.Join(group, file), []byte(text), 0)) }
	defer func() {
		write("freezer.state", "THAWED")
		l.noneLeft()
		eventually(t, "the cgroup can be removed", func() bool { return os.Remove(group) == nil })
	}()
	write("cgroup.procs", strconv.Itoa(st.SupervisorPID))
	write("freezer.state", "FROZEN")
	eventually(t, "it is frozen", func() bool {
		state, _ := os.ReadFile(filepath.Join(group, "freezer.state"))
		return string(state) == "FROZEN\n"
	})
	must(t, syscall.Kill(st.SupervisorPID, syscall.SIGKILL)) // as a failed down leaves it
	r := l.run("up", "-d", "--timeout", "2s", "--name", "x", pid)
	if r.code != exitConflict || !strings.Contains(r.err, fmt.Sprintf("(pid %d) was killed and can't end", st.SupervisorPID)) {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
}
