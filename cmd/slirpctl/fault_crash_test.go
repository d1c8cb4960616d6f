package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// TestKillAtEveryStep kills the supervisor after its first step, after its second, and so on
// through start and stop, until it finishes. No death may leave a process, or a name that
// can't be used again.
func TestKillAtEveryStep(t *testing.T) {
	for name, args := range map[string][]string{
		"pid":      {"-p", "127.0.0.1::80", "--port-handler", "slirp4netns"},
		"helper":   {"-p", "127.0.0.1::80", "--port-handler", "rootlesskit"},
		"command":  {"-p", "127.0.0.1::80", "--port-handler", "direct", "--", "sleep", "1000"},
		"egress":   {"--allow", "a.example", "-p", "127.0.0.1::80", "--", "sleep", "1000"},
		"detached": {"-d", "-p", "127.0.0.1::80"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			args := append([]string{"up", "--name", "x"}, args...)
			target := 0
			command := slices.Contains(args, "--")
			if !command {
				target = l.target()
				args = append(args, strconv.Itoa(target))
			}
			const most = 100
			for n := 0; n < most; n++ {
				l.env = []string{"SLIRPCTL_TEST_CRASH_AFTER=" + strconv.Itoa(n)}
				cmd := l.command(args...)
				l.env = nil
				if name == "detached" {
					r := l.finish(cmd)
					if r.code == 0 {
						l.run("down", "x")
					} else if !strings.Contains(r.err, "signal: killed") {
						t.Errorf("step %d: exit status %d: %s", n, r.code, r.err)
					}
					l.noneLeft()
					if n == 25 { // the other runs show that there are fewer
						break
					}
					continue
				}
				done := make(chan result, 1)
				go func() { done <- l.finish(cmd) }()
				var r result
				eventually(t, fmt.Sprintf("step %d: it runs or ends", n), func() bool {
					select {
					case r = <-done:
						done <- r
						return true
					default:
						sts := l.list()
						return len(sts) == 1 && sts[0].State == instance.Running
					}
				})
				l.run("down", "x")
				r = <-done
				l.noneLeft()
				if target != 0 {
					if err := syscall.Kill(target, 0); err != nil {
						t.Fatalf("step %d: the target is gone: %v", n, err)
					}
				}
				if r.code != 128+int(syscall.SIGKILL) { // COMMAND ends by TERM
					if !command && r.code != 0 || n < 12 {
						t.Errorf("came through at step %d with exit status %d: %s", n, r.code, r.err)
					}
					return
				}
			}
			if name != "detached" {
				t.Errorf("still killed after %d steps", most)
			}
		})
	}
}

// stuckSlirp are slirp4netns that stop at some point.
var stuckSlirp = map[string]string{
	"at once":           `exec 9<><(:); read -u 9`,
	"deaf to exit fd":   `trap '' TERM; printf 1 >&3; exec 3>&-; exec 9<><(:); read -u 9`,
	"ready pipe closed": `exec 3>&-; exec 9<><(:); read -u 9`,
}

// TestKillSupervisorOfStuckSlirp: slirp4netns ends with its supervisor in every state.
func TestKillSupervisorOfStuckSlirp(t *testing.T) {
	for name, script := range stuckSlirp {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			fake := l.fakeSlirp("touch $base/started\n" + script)
			cmd := l.command("up", "--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "slirp4netns is started", func() bool { return exists(filepath.Join(filepath.Dir(l.base), "started")) })
			_ = cmd.Process.Kill()
			waitDone(t, cmd)
			l.noneLeft()
		})
	}
}

// TestDownOfStuckSlirp: a slirp4netns that ignores its exit descriptor and TERM is killed.
func TestDownOfStuckSlirp(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fake := l.fakeSlirp(stuckSlirp["deaf to exit fd"])
	l.up("--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
	l.must("down", "x")
	l.noneLeft()
}

// TestKillClient kills the caller of `up -d` during the start.
func TestKillClient(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			fake := l.fakeSlirp("touch $base/started\n" + stuckSlirp["at once"])
			cmd := l.command("up", "-d", "--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "slirp4netns is started", func() bool { return exists(filepath.Join(filepath.Dir(l.base), "started")) })
			_ = cmd.Process.Signal(sig)
			waitDone(t, cmd)
			l.noneLeft()
		})
	}
}

// killTarget is for a fake slirp4netns: it kills the target. On a busy machine, a killed process may live
// for a while.
const killTarget = `t=$(<$base/target); kill -9 $t; while [ -e /proc/$t/status ] && ! grep -q '^State:.[ZX]' /proc/$t/status; do :; done
`

// TestFailedStarts: the cause of a failed start is named, and nothing is left behind.
func TestFailedStarts(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		code   int
		says   string
	}{
		// All but the one that has to time out get more time than they need.
		"dies before ready":  {`echo "no luck today" >&2; exit 9`, 1, "no luck today"},
		"killed":             {`kill -9 $$`, 1, "signal: killed"},
		"never ready":        {stuckSlirp["at once"], 6, "did not become ready"},
		"nonsense for ready": {`printf 0 >&3; exec 3>&-; ` + stuckSlirp["at once"], 6, "did not become ready"},
		"target gone before": {killTarget + `exec "$real" "$@"`, 4, "ended while the network was set up"},
		"target gone after":  {killTarget + `printf 1 >&3; exec 3>&-; ` + stuckSlirp["at once"], -1, ""}, // either "ended", or up and down again, depending on timing
		"hostile words":      {`printf 'evil\033]0;title\007\033[31m\r\nslirpctl: error: forged\xff\xc2\x9b31m' >&2; exit 1`, 1, "evil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			fake := l.fakeSlirp(c.script)
			timeout := patience
			if c.code == exitTimeout {
				timeout = 5 * time.Second
			}
			for _, detach := range []string{"--detach=true", "--detach=false"} {
				pid := strconv.Itoa(l.target())
				must(t, os.WriteFile(filepath.Join(filepath.Dir(l.base), "target"), []byte(pid), 0o600))
				r := l.run("up", detach, "--name", "x", "--timeout", timeout.String(), "--slirp4netns-path", fake, pid)
				if c.code >= 0 && r.code != c.code || !strings.Contains(r.err, c.says) {
					t.Errorf("%s: exit status %d, want %d with %q:\n%s", detach, r.code, c.code, c.says, r.err)
				}
				for _, b := range []byte(r.err) {
					if b < ' ' && b != '\n' || b == 0x7f {
						t.Errorf("%s: byte %#x reaches the terminal: %q", detach, b, r.err)
						break
					}
				}
				if strings.Contains(r.err, "\nslirpctl: error: forged") {
					t.Errorf("%s: a forged line: %q", detach, r.err)
				}
				l.noneLeft()
			}
		})
	}
}

// TestTargetDiesWhileRunning: everything ends with the target, at once and by itself.
func TestTargetDiesWhileRunning(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	target := startTarget(t, "sleep", "1000")
	l.up("--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(target.Process.Pid))
	_ = target.Process.Kill()
	l.noneLeft()
}

// TestForeignProcessSurvivesDown: a process that has the PID of a state file, but another start
// time, is not touched.
func TestForeignProcessSurvivesDown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	bystander := exec.Command("sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	st := l.up("--name", "x", strconv.Itoa(l.target()))
	file := filepath.Join(l.base, "x", "state.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), fmt.Sprintf(`"pid":%d,`, st.SlirpPID), fmt.Sprintf(`"pid":%d,`, bystander.Process.Pid))
	if changed == string(text) {
		t.Fatalf("no slirp4netns in %s", text)
	}
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	l.must("down", "x")
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander is gone: %v", err)
	}
	l.noneLeft()
}

// TestPIDReused gives a bystander the PID of a killed supervisor, in a PID namespace where PIDs can
// be chosen (ns_last_pid, proc_sys_kernel(5)).
func TestPIDReused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	script := fmt.Sprintf(`
set -eu
ctl() { %s --state-dir %s "$@"; }
unshare -rn sleep 1000 & target=$!
while [ "$(readlink /proc/self/ns/net)" = "$(readlink /proc/$target/ns/net)" ]; do :; done
ctl up -d --name x $target >/dev/null
sup=$(ctl list --format '{{.SupervisorPID}}')
kill -9 $sup
while [ -e /proc/$sup ] && ! grep -q '^State:.Z' /proc/$sup/status; do :; done
wait $sup 2>/dev/null || :
for i in $(seq 1000); do
	echo $((sup-1)) >/proc/sys/kernel/ns_last_pid
	sleep 1000 & new=$!
	[ $new -eq $sup ] && break
	kill -9 $new; wait $new 2>/dev/null || :
done
[ $new -eq $sup ] || { echo "could not reuse $sup, have $new"; exit 1; }
[ -z "$(ctl list)" ] || { echo listed; exit 1; }
if ctl down x 2>/dev/null; then echo "down found it"; exit 1; fi
kill -0 $new
ctl up -d --name x $target >/dev/null
kill -0 $new
ctl down x
kill -0 $new
kill -9 $new $target
echo survived
`, l.bin, l.base)
	args := []string{"--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script}
	if os.Geteuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// /proc/PID/fd of this process does not exist there.
	private := filepath.Join(filepath.Dir(l.base), "slirpctl")
	if err := copyFile(l.bin, private, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Args[len(cmd.Args)-1] = strings.ReplaceAll(script, l.bin, private)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "survived\n") {
		t.Errorf("%v: %s", err, out)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
