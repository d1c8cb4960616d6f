package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// mapLab is a lab of an ordinary user with ranges of ids, where newuidmap(1) or newgidmap(1) is a
// bash script, which finds the real one's path in $real.
func mapLab(t *testing.T, tool, script string) *lab {
	t.Helper()
	l := newUserLab(t)
	real, err := exec.LookPath(tool)
	if err != nil {
		lacking(t, "this test needs %s: %v", tool, err)
	}
	if ranges, err := os.ReadFile("/etc/subuid"); err != nil || len(ranges) == 0 {
		lacking(t, "this test needs ranges in /etc/subuid: %v", err)
	}
	bin := l.base + "-bin" // so that the lab finds processes started from there
	base := filepath.Dir(l.base)
	text := fmt.Sprintf("#!/bin/bash\nreal=%s\ntouch %s/asked\n%s\n", real, base, script)
	must(t, os.Mkdir(bin, 0o755), os.Chmod(bin, 0o755), noForks(func() error { return os.WriteFile(filepath.Join(bin, tool), []byte(text), 0o755) }))
	l.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	return l
}

// hangs is a script that neither exits nor closes its output.
const hangs = `trap '' TERM INT HUP PIPE; exec 9<><(:); read -u 9`

// TestMapToolFails: if newuidmap or newgidmap fails, is killed, does nothing, or hangs, the start fails with
// one line that quotes it, and the exit status of slirpctl's own failures.
func TestMapToolFails(t *testing.T) {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		for name, c := range map[string]struct{ script, says string }{
			"fails":          {`echo "no luck"; echo today >&2; exit 1`, tool + ": exit status 1: no luck; today"},
			"hostile words":  {hostileWords + `; exit 1`, "evil"},
			"killed":         {`kill -9 $$`, "signal: killed"},
			"maps nothing":   {`exit 0`, "set"}, // setresuid or setresgid
			"hangs":          {hangs, tool + ": not ready within --timeout"},
			"leaves a child": {`sleep 1000 & "$real" "$@"; echo $! >"${0%/*}/../child"`, ""},
		} {
			t.Run(tool+" "+name, func(t *testing.T) {
				t.Parallel()
				l := mapLab(t, tool, c.script)
				for _, detach := range []string{"--detach=true", "--detach=false"} {
					// Enough time for a tool that does not hang, on a busy machine.
					timeout := "15s"
					if name == "hangs" {
						timeout = "5s"
					}
					r := l.run("up", detach, "--map-users", "--timeout", timeout, "--name", "x", "--", "true")
					if child, err := os.ReadFile(filepath.Join(filepath.Dir(l.base), "child")); err == nil {
						_ = exec.Command("kill", "-9", strings.TrimSpace(string(child))).Run()
					}
					if c.says == "" {
						if r.code != 0 {
							t.Errorf("%s: exit status %d: %s", detach, r.code, r.err)
						}
						l.run("down", "x") // the command may have ended
						l.noneLeft()
						continue
					}
					lines := strings.Split(strings.TrimSpace(r.err), "\n")
					want := 125
					if detach == "--detach=true" {
						want = exitUnsupported
						switch name {
						case "hangs":
							want = exitTimeout
						case "maps nothing":
							want = exitFailure
						}
					}
					if r.code != want || len(lines) > 2 || !strings.HasPrefix(lines[0], "slirpctl: error: ") || !strings.Contains(lines[0], c.says) ||
						len(lines) == 2 && !strings.HasPrefix(lines[1], "slirpctl: hint: ") {
						t.Errorf("%s: exit status %d, want %d with %q:\n%s", detach, r.code, want, c.says, r.err)
					}
					harmless(t, detach, r.err)
					l.noneLeft()
				}
			})
		}
	}
}

// TestMapToolHangs: `up` can be killed or interrupted while it waits for a newuidmap that hangs, and leaves
// no tool, no namespace, no instance.
func TestMapToolHangs(t *testing.T) {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		for _, detach := range []string{"--detach=true", "--detach=false"} {
			for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
				t.Run(fmt.Sprint(tool, detach, sig), func(t *testing.T) {
					t.Parallel()
					l := mapLab(t, tool, hangs)
					cmd := l.command("up", detach, "--map-users", "--timeout", "100s", "--name", "x", "--", "sleep", "1000")
					done := make(chan result, 1)
					go func() { done <- l.finish(cmd) }()
					eventually(t, tool+" is started", func() bool { return exists(filepath.Join(filepath.Dir(l.base), "asked")) })
					eventually(t, "slirpctl, the process held back and the tool run", func() bool { return len(l.processes()) >= 3 })
					_ = cmd.Process.Signal(sig)
					r := <-done
					if detach == "--detach=false" && sig != syscall.SIGKILL && (r.code != 125 || !strings.Contains(r.err, "interrupted")) {
						t.Errorf("exit status %d: %s", r.code, r.err)
					}
					l.noneLeft()
				})
			}
		}
	}
}

// TestSandboxWithoutOwnID: in a target that lacks the caller's user id, as podman's --userns=nomap makes it, the
// sandbox can't work.
func TestSandboxWithoutOwnID(t *testing.T) {
	t.Parallel()
	l := mapLab(t, "newuidmap", `exec "$real" "$@"`)
	ranges := func(file string) string {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if u, err := user.LookupId(strconv.Itoa(l.uid)); err == nil && len(f) == 3 && f[0] == u.Username {
				return f[1] + ",0,1000"
			}
		}
		lacking(t, "this test needs a range in %s", file)
		return ""
	}
	cmd := exec.Command("unshare", "--map-users="+ranges("/etc/subuid"), "--map-groups="+ranges("/etc/subgid"), "--setgid=0", "--setuid=0", "--net", "socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}}
	cmd.Dir = "/"
	l.keep(cmd)
	pid := strconv.Itoa(cmd.Process.Pid)
	eventually(t, "the target is there", func() bool {
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return string(name) == "socat\n"
	})
	l.targets = append(l.targets, cmd.Process.Pid)
	r := l.run("up", "-d", "--name", "x", "--sandbox=true", pid)
	if r.code != exitUnsupported || !strings.Contains(r.err, "--sandbox=true is not possible: ") || !strings.Contains(r.err, "bind: Permission denied") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	l.noneLeft()
	for _, more := range [][]string{nil, {"--ipv6"}, {"--port-handler", "slirp4netns"}} {
		r := l.run(append([]string{"up", "-d", "--name", "x", "-p", "127.0.0.1::80", pid}, more...)...)
		if r.code != 0 || !strings.Contains(r.err, "the sandbox is off: ") || strings.Contains(r.err, "packet filter") {
			t.Fatalf("%q: exit status %d: %s", more, r.code, r.err)
		}
		st := l.state("x")
		echoes(t, st.Ports[0].HostPort)
		_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
		eventually(t, "it is healed", func() bool { now := l.state("x"); return now.Restarts == 1 && now.State == instance.Running })
		echoes(t, st.Ports[0].HostPort)
		l.must("down", "x")
		l.noneLeft()
	}
}
