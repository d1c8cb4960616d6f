package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// children returns slirp4netns and the helper of an instance.
func (l *lab) children(st instance.State) map[string]int {
	l.t.Helper()
	found := map[string]int{"slirp4netns": st.SlirpPID}
	eventually(l.t, "there is a helper", func() bool { // the direct handler does not wait for it
		for pid, what := range l.processes() {
			if strings.Contains(what, "__guest") {
				found["helper"] = pid
			}
		}
		return len(found) == 2
	})
	return found
}

// foreground starts `up` in the foreground and returns its state once it runs.
func (l *lab) foreground(cmd *exec.Cmd) instance.State {
	l.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.keep(cmd)
	eventually(l.t, "it runs", func() bool { sts := l.list(); return len(sts) == 1 && sts[0].State == instance.Running })
	return l.list()[0]
}

// TestEnvironmentStaysOut: no variable of the caller reaches slirp4netns or the helper.
func TestEnvironmentStaysOut(t *testing.T) {
	for _, mode := range []string{"--detach=true", "--detach=false"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.env = []string{"SECRET_TOKEN=hunter2", "AWS_SECRET_ACCESS_KEY=hunter2", "LD_PRELOAD="}
			args := []string{"up", mode, "--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(l.target())}
			if mode == "--detach=true" {
				l.must(args...)
			} else {
				l.foreground(l.command(args...))
			}
			for who, pid := range l.children(l.state("x")) {
				env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range strings.Split(strings.Trim(string(env), "\x00"), "\x00") {
					if name, _, _ := strings.Cut(v, "="); name != "PATH" && name != "GOMAXPROCS" && v != "LC_ALL=C" {
						t.Errorf("%s has %q", who, v)
					}
				}
			}
			l.must("down", "x")
		})
	}
}

// TestDescriptorsStayOut: slirp4netns and the helper inherit no descriptor of the supervisor's or the
// caller's; COMMAND gets those that the caller passed on, and no others.
func TestDescriptorsStayOut(t *testing.T) {
	for _, mode := range []string{"--detach=true", "--detach=false"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			mine, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			cmd := l.command("up", mode, "--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
			cmd.ExtraFiles = []*os.File{w, w, w}
			if mode == "--detach=true" {
				if r := l.finish(cmd); r.code != 0 {
					t.Fatal(r.err)
				}
			} else {
				l.foreground(cmd)
			}
			for who, pid := range l.children(l.state("x")) {
				dir := fmt.Sprintf("/proc/%d/fd", pid)
				fds, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, fd := range fds {
					to, _ := os.Readlink(filepath.Join(dir, fd.Name()))
					for _, bad := range []string{mine, "/lock", "control.sock", "pidfd", "inotify", "net:[", "user:["} {
						if strings.Contains(to, bad) && !(who == "slirp4netns" && fd.Name() == "5") {
							t.Errorf("%s has descriptor %s: %s", who, fd.Name(), to)
						}
					}
				}
				if len(fds) > 16 {
					t.Errorf("%s has %d descriptors", who, len(fds))
				}
			}
			l.must("down", "x")
		})
	}
	t.Run("command", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		null, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		cmd := l.command("up", "-p", "127.0.0.1::80", "--", "bash", "-c", "echo /proc/$$/fd/*")
		cmd.ExtraFiles = []*os.File{nil, null}
		r := l.finish(cmd)
		got := map[string]bool{}
		for _, f := range strings.Fields(r.out) {
			got[filepath.Base(f)] = true
		}
		for _, own := range append(inheritedFDs(), 3, 255) { // this process's own, and bash's
			delete(got, strconv.Itoa(own))
		}
		if len(got) != 4 || !got["0"] || !got["1"] || !got["2"] || !got["4"] {
			t.Errorf("COMMAND has %s, want 0, 1, 2 and 4 (%s)", r.out, r.err)
		}
	})
}

// TestAttackStateDir: a directory that other users made, own, or may write to is refused.
func TestAttackStateDir(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, dir string) (state string){
		"link": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/real", 0o700), os.Symlink("real", dir+"/s"))
			return dir + "/s"
		},
		"file": func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+"/s", nil, 0o600))
			return dir + "/s"
		},
		"writable by others": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/s", 0o700), os.Chmod(dir+"/s", 0o777))
			return dir + "/s"
		},
		"full of other things": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/s", 0o755), os.Chmod(dir+"/s", 0o755), os.WriteFile(dir+"/s/thesis", nil, 0o600))
			return dir + "/s"
		},
		"parent writable by others": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/p", 0o700), os.Chmod(dir+"/p", 0o777), os.Mkdir(dir+"/p/s", 0o700))
			return dir + "/p/s"
		},
		"made by another user": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/s", 0o700), os.Chown(dir+"/s", 65534, 65534))
			return dir + "/s"
		},
		"parent of another user": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/p", 0o755), os.Mkdir(dir+"/p/s", 0o700), os.Chown(dir+"/p", 65534, 65534))
			return dir + "/p/s"
		},
		"link of another user to its parent": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/p", 0o755), os.Mkdir(dir+"/q", 0o700), os.Symlink("../q", dir+"/p/l"), os.Chown(dir+"/p", 65534, 65534))
			return dir + "/p/l/s"
		},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 && strings.Contains(name, "another user") {
				lacking(t, "this test needs root")
			}
			l := newLab(t)
			dir := filepath.Dir(l.base)
			state := prepare(t, dir)
			for _, args := range [][]string{{"up", "-d", strconv.Itoa(l.target())}, {"list"}, {"down", "x"}} {
				cmd := l.command(args...)
				cmd.Args[2] = state
				if r := l.finish(cmd); r.code == 0 || !strings.Contains(r.err, "not safe to use") {
					t.Errorf("%q: exit status %d: %s", args, r.code, r.err)
				}
			}
			if name == "full of other things" && !exists(state+"/thesis") {
				t.Error("what was there is gone")
			}
		})
	}
}

// TestForeignFilesSurvive: --state-dir may name a directory that contains other files; they are
// neither removed nor taken for instances.
func TestForeignFilesSurvive(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	must(t, os.Mkdir(l.base, 0o700), os.Mkdir(l.base+"/photos", 0o700), os.WriteFile(l.base+"/photos/cat", nil, 0o600),
		os.WriteFile(l.base+"/photos/lock", nil, 0o600), os.Mkdir(l.base+"/empty", 0o700), os.WriteFile(l.base+"/notes", nil, 0o600))
	l.must("list")
	if r := l.run("up", "-d", "--name", "photos", strconv.Itoa(l.target())); r.code == 0 {
		t.Error("an instance took the place of a directory")
	}
	l.run("down", "photos")
	l.must("down", "--all")
	for _, f := range []string{"photos/cat", "photos/lock", "empty", "notes"} {
		if !exists(filepath.Join(l.base, f)) {
			t.Errorf("%s is gone", f)
		}
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := firstErr(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestAttackOtherUser tries the sockets of root's and of a user's instance as another user: as they are, and
// with every directory and socket made accessible, where the peer's credentials decide.
func TestAttackOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, to become another user")
	}
	const other = 65534
	labs(t, func(t *testing.T, l *lab) {
		st := l.up("--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
		try := func(socket string, uid int) string {
			cmd := exec.Command("socat", "-t20", "-", "UNIX-CONNECT:"+socket)
			cmd.Dir = "/"
			cmd.Stdin = strings.NewReader("GET /v1/info HTTP/1.0\r\n\r\n")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			out, _ := cmd.CombinedOutput()
			return string(out)
		}
		for _, uid := range []int{0, l.uid} {
			if out := try(st.ControlSocket, uid); !strings.Contains(out, "200 OK") {
				t.Fatalf("user %d gets %q: this test tests nothing", uid, out)
			}
		}
		must(t, os.Chmod(filepath.Dir(l.base), 0o755))
		for _, socket := range []string{st.ControlSocket, st.APISocket, filepath.Join(l.base, "x", instance.RootlessKitDir, ".bp.sock")} {
			if out := try(socket, other); !strings.Contains(out, "Permission denied") {
				t.Errorf("%s: %q", socket, out)
			}
		}
		must(t, os.Chmod(l.base, 0o755), os.Chmod(l.base+"/x", 0o777), os.Chmod(st.ControlSocket, 0o777))
		if out := try(st.ControlSocket, other); strings.Contains(out, "HTTP/") || strings.Contains(out, "Permission denied") {
			t.Errorf("with everything open: %q", out)
		}
		must(t, os.Chmod(l.base, 0o700))
	})
}

// TestAttackAbstractSocket: abstract UNIX sockets of the host can't be reached from inside.
func TestAttackAbstractSocket(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		name := fmt.Sprintf("slirpctl-test-%d-%s", os.Getpid(), filepath.Base(filepath.Dir(l.base)))
		ln, err := net.Listen("unix", "@"+name)
		must(t, err)
		defer ln.Close()
		go func() {
			for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
				_, _ = c.Write([]byte("the host's\n"))
				c.Close()
			}
		}()
		knock := []string{"socat", "-u", "ABSTRACT-CONNECT:" + name, "-"}
		if out, err := exec.Command(knock[0], knock[1:]...).Output(); err != nil || string(out) != "the host's\n" {
			t.Fatalf("from outside: %q, %v: this test tests nothing", out, err)
		}
		if r := l.run(append([]string{"up", "--"}, knock...)...); r.out != "" || !strings.Contains(r.err, "Connection refused") {
			t.Errorf("from inside: %q, %s", r.out, r.err)
		}
	})
}

// TestAttackLoopback tries to reach the host's loopback from inside, by every address that leads out.
func TestAttackLoopback(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serve := func(network, addr string) int {
		ln, err := net.Listen(network, addr)
		if err != nil {
			lacking(t, "%v", err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "host\n")
				c.Close()
			}
		}()
		return ln.Addr().(*net.TCPAddr).Port
	}
	port4, port6 := serve("tcp4", "127.0.0.1:0"), serve("tcp6", "[::1]:0")
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte("host\n"), from)
		}
	}()
	portU := udp.LocalAddr().(*net.UDPAddr).Port
	knocks := []string{}
	for _, a := range []string{"10.0.2.2", "10.0.2.3", "127.0.0.1", "10.0.2.4", "0.0.0.0"} {
		knocks = append(knocks, fmt.Sprintf("TCP4:%s:%d", a, port4))
	}
	for _, a := range []string{"10.0.2.2", "10.0.2.3"} {
		knocks = append(knocks, fmt.Sprintf("UDP4:%s:%d", a, portU))
	}
	for _, a := range []string{"fd00::2", "fd00::3", "::1", "::ffff:10.0.2.2", "fe80::2%tap0"} {
		knocks = append(knocks, fmt.Sprintf("TCP6:[%s]:%d", a, port6))
	}
	// A successful connection may take time: it is retried, for a second each.
	knock := func(tries int, knocks ...string) string {
		return fmt.Sprintf(`for k in %s; do (
			for try in $(seq %d); do r=$(echo hi | timeout 3 socat -t1 -T1 - "$k" 2>/dev/null); [ -z "$r" ] || break; done
			echo "$k ${r:-nothing}"
		) & done; wait`, strings.Join(knocks, " "), tries)
	}
	r := l.run("up", "--ipv6", "--", "bash", "-c", knock(1, knocks...))
	if n := strings.Count(r.out, "\n"); n != len(knocks) {
		t.Fatalf("%d answers to %d knocks: %s%s", n, len(knocks), r.out, r.err)
	}
	if strings.Contains(r.out, " host") {
		t.Errorf("the host's loopback was reached:\n%s", r.out)
	}
	// The same, allowed: otherwise the test would prove nothing.
	answered := []string{fmt.Sprintf("TCP4:10.0.2.2:%d", port4), fmt.Sprintf("UDP4:10.0.2.2:%d", portU)}
	r = l.run("up", "--ipv6", "--allow-host-loopback", "--", "bash", "-c", knock(20, answered...))
	for _, k := range answered {
		if k += " host"; !strings.Contains(r.out, k) {
			t.Errorf("with --allow-host-loopback, no %q in:\n%s", k, r.out)
		}
	}
}

// TestAttackLog: slirp4netns's output can't control the terminal of a reader of the log, nor forge
// lines of slirpctl's in it.
func TestAttackLog(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fake := l.fakeSlirp(`printf 'evil \033]0;title\007\033[31m \xc2\x9b31m\rslirpctl: error: forged\n' >&2
[ -e $base/broken ] && exit 1
exec "$real" "$@"`)
	st := l.up("--name", "x", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(l.base), "broken"), nil, 0o600))
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "the log has its words", func() bool { return strings.Contains(l.log("x"), "start slirp4netns again") })
	out := l.must("logs", "x")
	if !strings.Contains(out, "evil") {
		t.Fatalf("no words in %q", out)
	}
	for _, line := range strings.Split(out, "\n") {
		for _, r := range line {
			if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
				t.Fatalf("%q reaches the terminal in %q", r, line)
			}
		}
		if strings.HasPrefix(line, "slirpctl: error: forged") {
			t.Errorf("forged line %q", line)
		}
	}
	for line := range strings.Lines(l.log("x")) {
		if strings.HasPrefix(line, "time=") && strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\x07\r") {
			t.Errorf("a line of ours has control characters: %q", line)
		}
	}
	l.must("down", "x")
}
