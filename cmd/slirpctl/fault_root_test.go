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

	"github.com/slirpctl/slirpctl/internal/instance"
)

// statusOf returns the fields of /proc/PID/status.
func statusOf(t testing.TB, pid int) map[string]string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return statusFields(string(data))
}

func statusFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(line, ":")
		fields[k] = strings.TrimSpace(v)
	}
	return fields
}

// rootsCaps checks the remaining capabilities of root's supervisor and all its threads, in every set.
func rootsCaps(t *testing.T, pid int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("%d threads, %v: want several", len(tasks), err)
	}
	for _, task := range tasks {
		data, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // a thread that has ended
		}
		has := statusFields(string(data))
		if has["NoNewPrivs"] != "1" {
			t.Errorf("%s: NoNewPrivs %s, want 1", task, has["NoNewPrivs"])
		}
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			caps, err := strconv.ParseUint(has[set], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]int{
				"CHOWN": 0, "FOWNER": 3, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_BOOT": 22, "SYS_TIME": 25, "MKNOD": 27, "MAC_ADMIN": 33, "BPF": 39,
			} {
				if caps&(1<<c) != 0 {
					t.Errorf("%s: %s in %s (%s)", task, name, set, has[set])
				}
			}
		}
	}
}

// sleeping waits until a process is sleep(1): execve(2) closes descriptors, by which other processes see
// it, before it changes the rest.
func sleeping(t *testing.T, pid int) int {
	t.Helper()
	eventually(t, "sleep runs", func() bool {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return strings.HasPrefix(string(args), "sleep\x00")
	})
	return pid
}

// TestRootsPrivileges: started by root, the supervisor has no more privileges than it needs, slirp4netns
// is confined, and COMMAND's privileges are unchanged.
func TestRootsPrivileges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root")
	}
	l := newLab(t)
	st := l.up("--name", "x", "-p", "127.0.0.1::80", "--", "sleep", "1000")
	rootsCaps(t, st.SupervisorPID)
	if !st.Sandbox || !st.Seccomp {
		t.Errorf("sandbox %t, seccomp %t, want both", st.Sandbox, st.Seccomp)
	}
	slirp := statusOf(t, st.SlirpPID)
	if slirp["Seccomp"] != "2" {
		t.Errorf("slirp4netns: Seccomp %s, want 2", slirp["Seccomp"])
	}
	if caps, _ := strconv.ParseUint(slirp["CapEff"], 16, 64); caps&^(1<<10) != 0 {
		t.Errorf("slirp4netns has capabilities %s, want NET_BIND_SERVICE at most", slirp["CapEff"])
	}
	if exists(fmt.Sprintf("/proc/%d/root/usr", st.SlirpPID)) {
		t.Error("slirp4netns sees /usr: it is not in its sandbox")
	}
	// A new user namespace gives all capabilities.
	plain := statusOf(t, sleeping(t, l.startTarget("sleep", "1000").Process.Pid))
	command := statusOf(t, sleeping(t, childOf(t, st.Target.PID)))
	for _, field := range []string{"NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if command[field] != plain[field] {
			t.Errorf("COMMAND: %s %s, want %s as without slirpctl", field, command[field], plain[field])
		}
	}
	// And it can still restart slirp4netns, with the supervisor's filter and slirp4netns's own.
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "it is healed", func() bool { now := l.state("x"); return now.Restarts == 1 && now.State == instance.Running })
	if now := statusOf(t, l.state("x").SlirpPID); now["NoNewPrivs"] != "1" || now["Seccomp_filters"] != "2" {
		t.Errorf("the second slirp4netns: NoNewPrivs %s, Seccomp_filters %s", now["NoNewPrivs"], now["Seccomp_filters"])
	}
}

// TestRootsPrivilegesEverywhere: the same for the other ways to start, with a network namespace
// without a user namespace of its own, where slirp4netns and the helper need what the supervisor
// kept; forwards work there, also after slirp4netns was restarted.
func TestRootsPrivilegesEverywhere(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root")
	}
	for _, handler := range handlers {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			cmd := exec.Command("socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNET}
			l.keep(cmd)
			pid := strconv.Itoa(cmd.Process.Pid)
			port := ownPort(t)
			st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), pid)
			echoes(t, port)
			rootsCaps(t, st.SupervisorPID)
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is healed", func() bool { now := l.state("x"); return now.Restarts == 1 && now.State == instance.Running })
			echoes(t, port)
			l.must("down", "x")
			// In the foreground the command of the user is the supervisor.
			up := l.command("up", "--name", "y", pid)
			up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			l.keep(up)
			eventually(t, "it is up", func() bool { return exists(filepath.Join(l.base, "y", "state.json")) })
			if now := l.state("y"); now.SupervisorPID != up.Process.Pid {
				t.Errorf("the supervisor is %d, and not %d that was started", now.SupervisorPID, up.Process.Pid)
			}
			rootsCaps(t, up.Process.Pid)
			l.must("down", "y")
		})
	}
}

// TestRootWithLess: a root that may not drop capabilities, as in some containers, keeps those it has.
func TestRootWithLess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root")
	}
	l := newLab(t)
	cmd := l.command("--log-level", "debug", "up", "--", "true")
	cmd.Args = append([]string{"setpriv", "--bounding-set=-setpcap", "--inh-caps=-setpcap", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/setpriv"
	r := l.finish(cmd)
	if r.code != 0 || !strings.Contains(r.err, "root's capabilities are kept") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
}
