package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// patience bounds a test's waits; it is not a measurement.
const patience = time.Minute

// armedBinary is slirpctl with crash points, open as long as this process runs: the file itself is
// removed at once.
var armedBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "armed")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "slirpctl")
	cmd := exec.Command("go", "build", "-tags", "crashpoints", "-o", file, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if raceReports() {
		cmd.Args = slices.Insert(cmd.Args, 2, "-race")
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
})

// raceReports reports whether the slirpctl under test is to be built with the race detector.
func raceReports() bool { return os.Getenv("SLIRPCTL_TEST_RACE") != "" }

// lab is an environment for breaking slirpctl: a state directory and a binary of its own.
type lab struct {
	t    testing.TB
	bin  string
	base string
	env  []string // added to the environment of every command
	// The user who runs the commands and owns the targets; 0: the user who runs the test.
	uid, gid int
	targets  []int // PIDs
}

// newLab fails the test, or outside CI skips it, if there is no slirp4netns or no tap device.
func newLab(t testing.TB) *lab {
	t.Helper()
	for _, tool := range []string{"slirp4netns", "socat"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, "this test needs %s: %v", tool, err)
		}
	}
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		lacking(t, "this test needs /dev/net/tun, readable and writable: %v", err)
	}
	bin, err := armedBinary()
	if err != nil {
		t.Fatal(err)
	}
	// Short, because of the paths of sockets.
	base, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, bin: bin, base: base + "/s"}
	t.Cleanup(func() {
		l.run("down", "--all")
		races, _ := filepath.Glob(base + "/race.*")
		for _, file := range races {
			text, _ := os.ReadFile(file)
			t.Errorf("%s", text)
		}
		left := l.processes()
		for deadline := time.Now().Add(patience); len(left) > 0 && time.Now().Before(deadline); left = l.processes() {
			time.Sleep(5 * time.Millisecond) // wait for processes that end by themselves
		}
		for pid, what := range left {
			t.Errorf("left behind: %s", what)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	return l
}

// command returns a slirpctl command that has not been started.
func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(l.bin, append([]string{"--state-dir", l.base}, args...)...)
	cmd.Args[0] = "slirpctl"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "SLIRPCTL_TIMEOUT=" + patience.String()}, l.env...)
	if raceReports() {
		cmd.Env = append(cmd.Env, "GORACE=log_path="+filepath.Dir(l.base)+"/race")
	}
	cmd.WaitDelay = patience
	if l.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}}
		cmd.Dir = "/"
	}
	return cmd
}

// result is the result of a finished command.
type result struct {
	out, err string
	code     int
}

func (l *lab) finish(cmd *exec.Cmd) result {
	l.t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stderr = &errs; cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	timer := time.AfterFunc(3*patience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	_ = cmd.Wait()
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.code = 128 + int(ws.Signal())
	}
	return r
}

func (l *lab) run(args ...string) result {
	l.t.Helper()
	return l.finish(l.command(args...))
}

// must runs a command that has to succeed and returns its standard output.
func (l *lab) must(args ...string) string {
	l.t.Helper()
	r := l.run(args...)
	if r.code != 0 {
		l.t.Fatalf("slirpctl %q: exit status %d\n%s", args, r.code, r.err)
	}
	return r.out
}

// up starts an instance in the background and returns its state.
func (l *lab) up(args ...string) instance.State {
	l.t.Helper()
	out := l.must(append([]string{"up", "-d", "--json"}, args...)...)
	var st instance.State
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		l.t.Fatalf("%v in %q", err, out)
	}
	return st
}

// list returns the output of `list`.
func (l *lab) list() []instance.State {
	l.t.Helper()
	var sts []instance.State
	if err := json.Unmarshal([]byte(l.must("list", "--json")), &sts); err != nil {
		l.t.Fatal(err)
	}
	return sts
}

func (l *lab) state(name string) instance.State {
	l.t.Helper()
	for _, st := range l.list() {
		if st.Name == name {
			return st
		}
	}
	l.t.Fatalf("no instance %s", name)
	return instance.State{}
}

func (l *lab) log(name string) string {
	data, _ := os.ReadFile(filepath.Join(l.base, name, "log"))
	return string(data)
}

// eventually waits until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("did not come true: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// processes finds every process that belongs to the lab: with the state directory in its command
// line or among its open files. Zombies have neither.
func (l *lab) processes() map[int]string {
	return processesWith(l.base)
}

func processesWith(base string) map[int]string {
	found := map[int]string{}
	des, _ := os.ReadDir("/proc")
	for _, de := range des {
		pid, err := strconv.Atoi(de.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", de.Name(), "cmdline"))
		what := fmt.Sprintf("%d %q", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		if bytes.Contains(cmdline, []byte(base)) {
			found[pid] = what
			continue
		}
		fds, _ := os.ReadDir(filepath.Join("/proc", de.Name(), "fd"))
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join("/proc", de.Name(), "fd", fd.Name())); err == nil && strings.HasPrefix(to, base) {
				found[pid] = what + " has " + to
				break
			}
		}
	}
	return found
}

// noneLeft waits until no process of the lab is left, and no tap in its targets: an exiting slirp4netns
// has no descriptors any more, but still the tap. Then it checks that no instance is left on
// disk.
func (l *lab) noneLeft() {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for ps := l.processes(); len(ps) > 0; ps = l.processes() {
		if time.Now().After(deadline) {
			l.t.Fatalf("processes are left: %v", ps)
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, pid := range l.targets {
		eventually(l.t, "the tap is gone", func() bool {
			devices, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid)) // empty for a target that has ended
			return !strings.Contains(string(devices), "tap0:")
		})
	}
	if sts := l.list(); len(sts) > 0 {
		l.t.Errorf("listed though nothing runs: %+v", sts)
	}
	des, _ := os.ReadDir(l.base)
	for _, de := range des {
		if de.IsDir() && de.Name() != ".cache" && de.Name() != ".ended" { // which remains, like .lock
			l.t.Errorf("file left: %s", de.Name())
		}
	}
}

// target starts a process in user and network namespaces of its own that echoes on port 80.
func (l *lab) target() int {
	l.t.Helper()
	return l.startTarget("socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat").Process.Pid
}

func startTarget(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	return (&lab{t: t}).startTarget(name, args...)
}

func (l *lab) startTarget(name string, args ...string) *exec.Cmd {
	t := l.t
	t.Helper()
	if l.uid != 0 {
		// By unshare(1), because the user can't have the process made in its namespaces.
		cmd := exec.Command("unshare", append([]string{"--map-root-user", "--net", name}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}}
		cmd.Dir = "/"
		l.keep(cmd)
		own, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the target has its namespace, and ids in it", func() bool {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
			ids, _ := os.ReadFile(fmt.Sprintf("/proc/%d/gid_map", cmd.Process.Pid)) // the last one written
			return err == nil && to != own && len(ids) > 0
		})
		l.targets = append(l.targets, cmd.Process.Pid)
		return cmd
	}
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Setpgid:     true,
	}
	l.keep(cmd)
	l.targets = append(l.targets, cmd.Process.Pid)
	return cmd
}

// keep runs a process for the duration of the test.
func (l *lab) keep(cmd *exec.Cmd) {
	l.t.Helper()
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

var lastOwnPort atomic.Int32

// ownPort returns a host port for one test alone, below the ephemeral range
// (ip_local_port_range, ip(7)), so that no other socket gets it by chance while slirp4netns is down.
func ownPort(t testing.TB) int {
	t.Helper()
	const first, count = 10000, 9000
	lastOwnPort.CompareAndSwap(0, int32(os.Getpid()))
	for range count {
		port := first + int(lastOwnPort.Add(1))%count
		if ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", port)); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// echo sends a line to a forward and expects it back, in one attempt.
func echo[P int | uint16](port P) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != "hello\n" {
		return fmt.Errorf("got %q", buf)
	}
	return nil
}

func echoes[P int | uint16](t testing.TB, port P) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = echo(port); err == nil {
			return
		}
	}
	t.Fatalf("nothing comes back through port %d: %v", port, err)
}

// fakeSlirp writes a slirp4netns that answers queries like the real one, and otherwise runs a
// bash script, which finds the real one's path in $real. It returns its path.
func (l *lab) fakeSlirp(script string) string {
	l.t.Helper()
	real, err := exec.LookPath("slirp4netns")
	if err != nil {
		l.t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(l.base), "fake")
	text := fmt.Sprintf("#!/bin/bash\nreal=%s\nbase=%s\ncase $1 in --help|--version) exec \"$real\" \"$1\";; esac\n%s\n", real, filepath.Dir(l.base), script)
	tmp := path + ".new"
	must(l.t, noForks(func() error { return os.WriteFile(tmp, []byte(text), 0o755) }))
	if err := os.Rename(tmp, path); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// noForks runs f, which writes a program, while no test forks: a child that has not called execve yet
// would keep the file open for writing, so that executing it would fail ("text file busy").
func noForks(f func() error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return f()
}

func waitDone(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		t.Fatalf("%q does not end", cmd.Args)
	}
}

// ordinary reports whether slirpctl runs as an ordinary user in l.
func (l *lab) ordinary() bool { return l.uid != 0 || os.Geteuid() != 0 }

// newUserLab is newLab as an ordinary user: the test environment's if root runs the tests.
func newUserLab(t testing.TB) *lab {
	t.Helper()
	l := newLab(t)
	if os.Geteuid() != 0 {
		return l
	}
	name := os.Getenv("SLIRPCTL_TEST_USER")
	if name == "" {
		lacking(t, "this test needs an ordinary user: run it in .ci/testenv")
	}
	u, err := user.Lookup(name)
	if err != nil {
		lacking(t, "this test needs an ordinary user: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir := filepath.Dir(l.base)
	private := filepath.Join(dir, "slirpctl")
	must(t, copyFile(l.bin, private, 0o755))
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	l.bin, l.uid, l.gid = private, uid, gid
	return l
}
