package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
)

func init() {
	helperPrograms["flap"] = flap
	helperPrograms["peak"] = peak
}

// peak PROGRAM [ARG…] runs PROGRAM and prints the most memory that it had, in KiB. The kernel counts for a
// program also what its parent had when it started it, so a large parent can't ask itself.
func peak(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	_ = cmd.Run()
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Println(usage.Maxrss)
	return cmd.ProcessState.ExitCode()
}

// ociState writes the state of a container whose process is pid, and returns its file.
func (l *lab) ociState(pid int, annotations map[string]string) string {
	l.t.Helper()
	data, err := json.Marshal(map[string]any{
		"ociVersion": "1.2.0", "id": "c", "status": "created", "pid": pid, "bundle": "/", "annotations": annotations,
	})
	file := filepath.Join(filepath.Dir(l.base), "state")
	must(l.t, err, os.WriteFile(file, data, 0o644))
	return file
}

// TestAttackAnnotatedMemory: a few KB of annotations that expand to millions of forwards don't exhaust
// the reader's memory.
func TestAttackAnnotatedMemory(t *testing.T) {
	t.Parallel()
	l := newUserLab(t)
	pid := l.target()
	for _, text := range []string{
		strings.Repeat("127.0.0.1:1025-65535:1025-65535/tcp,udp,tcp4,udp4,", 100),
		strings.Repeat("1-65535,", 60000),
		"8080:80/tcp" + strings.Repeat(",udp", 200000),
	} {
		cmd := l.command("up", "--oci-state", l.ociState(pid, map[string]string{"io.slirpctl.publish": text}))
		cmd.Path, cmd.Args = l.helper("peak"), append([]string{"peak", l.bin}, cmd.Args[1:]...)
		r := l.finish(cmd)
		if r.code != exitUsage || !strings.Contains(r.err, "annotation io.slirpctl.publish: ") {
			t.Errorf("%.40s…: exit status %d: %s", text, r.code, r.err)
		}
		if kb, err := strconv.Atoi(strings.TrimSpace(r.out)); err != nil || kb > 128<<10 {
			t.Errorf("%.40s…: %d KiB of memory (%v)", text, kb, err)
		}
	}
	l.noneLeft()
}

// TestAttackAnnotatedPorts: root's hook publishes no privileged port for an annotation, none outside
// --annotation-ports, and takes free ports from that range.
func TestAttackAnnotatedPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	pid := l.target()
	if start := privilegedBelow(t); start > 81 {
		r := l.run("up", "--oci-state", l.ociState(pid, map[string]string{"io.slirpctl.publish": "127.0.0.1:81:80"}))
		if r.code != exitUsage || !strings.Contains(r.err, fmt.Sprintf("%d-65535 only", start)) {
			t.Errorf("exit status %d: %s", r.code, r.err)
		}
	}
	port := ownPort(t)
	allowed := fmt.Sprintf("--annotation-ports=%d-%d", port, port)
	outside := l.ociState(pid, map[string]string{"io.slirpctl.publish": fmt.Sprintf("127.0.0.1:%d:80", ownPort(t))})
	if r := l.run("up", allowed, "--oci-state", outside); r.code != exitUsage || !strings.Contains(r.err, fmt.Sprintf("the host ports %d only", port)) {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	l.must("up", allowed, "--oci-state", l.ociState(pid, map[string]string{"io.slirpctl.publish": "127.0.0.1::80"}))
	if ports := l.state("c").Ports; len(ports) != 1 || int(ports[0].HostPort) != port {
		t.Errorf("a free port: %+v, want %d", ports, port)
	}
	echoes(t, port)
	l.must("down", "c")
}

// privilegedBelow returns net.ipv4.ip_unprivileged_port_start.
func privilegedBelow(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	start, nerr := strconv.Atoi(strings.TrimSpace(string(data)))
	must(t, err, nerr)
	return start
}

// attacker returns a function that runs a shell script as an ordinary user in a directory of that
// user's, and the directory.
func attacker(t *testing.T) (dir string, run func(script string) *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, whom another user attacks")
	}
	u := newUserLab(t)
	dir = filepath.Join(filepath.Dir(u.base), "attacker")
	must(t, os.Mkdir(dir, 0o755), os.Chown(dir, u.uid, u.gid))
	return dir, func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
		return cmd
	}
}

func mustRun(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", cmd.Args, err, out)
	}
}

// TestAttackBundleLinks: another user's links don't make root's `hook` write root's files, anywhere in
// the path and at any time.
func TestAttackBundleLinks(t *testing.T) {
	t.Parallel()
	dir, as := attacker(t)
	l := newLab(t)
	const text = `{"root":true}`
	victim := filepath.Join(filepath.Dir(l.base), "victim")
	must(t, os.Mkdir(victim, 0o700), os.WriteFile(victim+"/config.json", []byte(text), 0o600), os.WriteFile(victim+"/other", []byte("mine"), 0o600))
	intact := func(what string) {
		t.Helper()
		config, err := os.ReadFile(victim + "/config.json")
		other, oerr := os.ReadFile(victim + "/other")
		names, derr := os.ReadDir(victim)
		must(t, err, oerr, derr)
		if string(config) != text || string(other) != "mine" || len(names) != 2 {
			t.Fatalf("%s: root's directory has now %v, %s, %s", what, names, config, other)
		}
	}
	mustRun(t, as(fmt.Sprintf(`
mkdir file dir own chain resolv
ln -s %[1]s/config.json file/config.json
ln -s %[1]s dir/bundle
ln -s ../dir/bundle chain/bundle
echo '{}' >own/config.json
echo '{}' >resolv/config.json
ln -s %[1]s/other resolv/slirpctl-resolv.conf
mkfifo pipe.json; mkdir pipe; mv pipe.json pipe/config.json`, victim)))
	for bundle, want := range map[string]string{
		"file": "config.json is a symbolic link of user ", "dir/bundle": "bundle is a symbolic link of user ",
		"chain/bundle": "bundle is a symbolic link of user ", "resolv": "slirpctl-resolv.conf is a symbolic link of user ",
		"pipe": "not a regular file",
	} {
		r := l.run("hook", "--bundle", dir+"/"+bundle)
		if r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit status %d: %s", bundle, r.code, r.err)
		}
		intact(bundle)
	}
	// The user's own files are still the user's.
	l.must("hook", "--bundle", dir+"/own")
	mustRun(t, as(`grep -q createRuntime own/config.json && echo '{}' >own/config.json && test -O own/config.json && test -O own/slirpctl-resolv.conf`))
	// Root's own links are followed.
	must(t, os.Symlink(victim, filepath.Dir(victim)+"/link"))
	if r := l.run("hook", "--bundle", filepath.Dir(victim)+"/link", "--print"); r.code != 0 || !strings.Contains(r.out, "createRuntime") {
		t.Errorf("root's own link: exit status %d: %s", r.code, r.err)
	}

	// Swapped all the time, while root uses it.
	swap := as(fmt.Sprintf(`
mkdir swap; echo '{}' >swap/config.json; ln -s %s/config.json evil; cp swap/config.json good; ln -s %[1]s swapdir.evil; cp -r swap swapdir
while :; do
	ln -sf %[1]s/config.json swap/new; mv -f swap/new swap/config.json; echo '{}' >swap/new; mv -f swap/new swap/config.json
	mv swapdir swapdir.good; mv swapdir.evil swapdir; mv swapdir swapdir.evil; mv swapdir.good swapdir
done`, victim))
	l.keep(swap)
	eventually(t, "the attacker swaps", func() bool { return exists(dir + "/swapdir") })
	seen := map[int]bool{}
	for range 60 {
		for _, bundle := range []string{"swap", "swapdir"} {
			seen[l.run("hook", "--bundle", dir+"/"+bundle).code] = true
			intact("a race at " + bundle)
		}
	}
	t.Logf("exit statuses during the race: %v", seen)
}

// TestAttackGroupRenames: a member of the group that may write to the parent of root's state directory
// could rename it, so it isn't used.
func TestAttackGroupRenames(t *testing.T) {
	t.Parallel()
	dir, as := attacker(t)
	var st syscall.Stat_t
	l := newLab(t)
	parent := filepath.Dir(l.base) + "/shared"
	must(t, syscall.Stat(dir, &st), os.Chmod(filepath.Dir(parent), 0o755), os.Mkdir(parent, 0o755),
		os.Chown(parent, 0, int(st.Gid)), os.Chmod(parent, 0o775), os.Mkdir(parent+"/s", 0o700))
	mustRun(t, as(fmt.Sprintf("mv %s/s %[1]s/t && mv %[1]s/t %[1]s/s", parent))) // the attack works
	cmd := l.command("up", "-d", strconv.Itoa(l.target()))
	cmd.Args[2] = parent + "/s"
	if r := l.finish(cmd); r.code == 0 || !strings.Contains(r.err, fmt.Sprintf("group %d may write to %s", st.Gid, parent)) {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
}

// TestAttackCompletion: the command lines and names of other users' processes can neither control the
// terminal of a completing user nor forge completions.
func TestAttackCompletion(t *testing.T) {
	t.Parallel()
	l := newUserLab(t)
	evil := "evil\x1b]0;title\x07\x1b[31m \xc2\x9b31m \x9b31m \xe2\x80\xae \x7f\r\n999999\tforged\n:0"
	pid := l.startTarget("bash", "-c", `exec -a "$1" sleep 100`, "", evil).Process.Pid
	eventually(t, "it has the name", func() bool {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return strings.HasPrefix(string(line), "evil")
	})
	r := l.run("__complete", "up", "")
	if os.Geteuid() == 0 { // as the victim, too
		root := newLab(t)
		own := root.run("__complete", "up", "")
		r.out += own.out
	}
	harmless(t, "completion", r.out)
	if !strings.Contains(r.out, strconv.Itoa(pid)+"\tevil") || strings.Contains(r.out, "\n999999") {
		t.Errorf("completions: %q", r.out)
	}
}

// flap PORT N ROUNDS FILE listens on N ports from PORT on and closes them again, repeatedly; after
// ROUNDS times it makes FILE.
func flap(args []string) int {
	first, _ := strconv.Atoi(args[0])
	n, _ := strconv.Atoi(args[1])
	rounds, _ := strconv.Atoi(args[2])
	for round := 1; ; round++ {
		var ls []net.Listener
		for i := range n {
			l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", first+i))
			if err != nil {
				return failed("flap: %v", err)
			}
			ls = append(ls, l)
		}
		time.Sleep(200 * time.Millisecond)
		for _, l := range ls {
			l.Close()
		}
		if round == rounds {
			if err := os.WriteFile(args[3], nil, 0o600); err != nil {
				return failed("flap: %v", err)
			}
		}
	}
}

// TestAttackFlappingPorts: a program inside that constantly opens and closes 900 ports costs the
// supervisor less than a tenth of a core, with -p auto.
func TestAttackFlappingPorts(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	for _, handler := range []string{"rootlesskit", "direct"} {
		t.Run(handler, func(t *testing.T) {
			l := newLab(t)
			dir := filepath.Dir(l.base)
			must(t, os.Symlink(self, dir+"/flap"))
			target := l.startTarget(dir+"/flap", "20000", "900", "40", dir+"/done").Process.Pid
			st := l.up("--name", "x", "--port-handler", handler, "-p", "auto", strconv.Itoa(target))
			eventually(t, "ports are followed", func() bool { return len(l.state("x").Ports) > 0 })
			before, start := cpuTime(t, st), time.Now()
			eventually(t, "the ports flapped", func() bool { return exists(dir + "/done") })
			used, elapsed := cpuTime(t, st)-before, time.Since(start)
			t.Logf("%s of CPU in %s", used, elapsed.Round(time.Millisecond))
			if used*10 > elapsed {
				t.Errorf("%s of CPU in %s: more than a tenth of a core", used, elapsed)
			}
			l.must("down", "x")
		})
	}
}

// cpuTime returns the CPU time that an instance's supervisor has used (proc_pid_stat(5)).
func cpuTime(t *testing.T, st instance.State) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.SupervisorPID))
	must(t, err)
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')'):]))
	user, uerr := strconv.Atoi(f[12])
	system, serr := strconv.Atoi(f[13])
	must(t, uerr, serr)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every architecture of Linux that Go runs on
}
