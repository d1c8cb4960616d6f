package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// The attacks on `exec`: root runs a command among another user's processes, and executes that user's
// programs. These must not gain anything that the target doesn't have.

// rootLab is a lab of root's, with an ordinary user as the attacker. That user's files are in a
// directory that every user can enter.
func rootLab(t *testing.T) (l *lab, uid int, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "this attack is on root: it needs root")
	}
	name := os.Getenv("SLIRPCTL_TEST_USER")
	u, err := user.Lookup(name)
	if err != nil {
		lacking(t, "this attack needs an ordinary user, run it in .ci/testenv: %v", err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	l = newLab(t)
	dir = filepath.Dir(l.base)
	must(t, os.Chmod(dir, 0o755), os.WriteFile(dir+"/secret", []byte("root's secret\n"), 0o600))
	return l, uid, dir
}

// evil writes a program that prints its ids and reads root's secret.
func evil(t *testing.T, dir string) string {
	t.Helper()
	path := dir + "/evil"
	text := fmt.Sprintf("#!/bin/sh\necho ran; grep -E 'Uid|Gid|Groups|Cap|NoNewPrivs' /proc/self/status; cat %s/secret %s/shared\n", dir, dir)
	must(t, noForks(func() error { return os.WriteFile(path, []byte(text), 0o755) }), os.Chmod(path, 0o755))
	return path
}

// hostile starts a process of the user's by a shell script, and returns once that prints "ready".
func (l *lab) hostile(uid int, script string) *exec.Cmd {
	l.t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	l.keep(cmd)
	buf := make([]byte, 64)
	if n, err := io.ReadAtLeast(out, buf, len("ready\n")); err != nil {
		l.t.Fatalf("%q said %q and no more: %v", script, buf[:n], err)
	}
	return cmd
}

// runsEvil runs the program by exec and returns its output; it must have run.
func (l *lab) runsEvil(argv ...string) string {
	l.t.Helper()
	r := l.run(append([]string{"exec"}, argv...)...)
	if !strings.Contains(r.out, "ran\n") {
		l.t.Fatalf("the attack did not take place: %s%s", r.out, r.err)
	}
	if strings.Contains(r.out, "secret") {
		l.t.Errorf("the target's program has root's rights:\n%s", r.out)
	}
	return r.out
}

// TestAttackExecWithoutRootInside: in a user namespace that has no root, the target's own
// /usr/bin/true is not executed as root of the host.
func TestAttackExecWithoutRootInside(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	tgt := l.hostile(uid, fmt.Sprintf(`exec unshare --user --map-current-user --keep-caps --net --mount sh -c '
		mount --bind %s /usr/bin/true && echo ready && exec sleep 1000'`, evil(t, dir)))
	l.up("--name", "x", strconv.Itoa(tgt.Process.Pid))
	if out := l.runsEvil("x", "--", "/usr/bin/true"); !strings.Contains(out, fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", uid)) {
		t.Errorf("not as the target's user:\n%s", out)
	}
}

// TestAttackExecUnsharedSince: if root made a process's network, and the process has since become an
// ordinary user's with its own mounts, exec uses that user's rights.
func TestAttackExecUnsharedSince(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	must(t, syscall.Mkfifo(dir+"/go", 0o600), os.Chown(dir+"/go", uid, uid))
	tgt := l.hostile(0, fmt.Sprintf(`exec unshare --net setpriv --reuid %d --regid %d --clear-groups sh -c '
		echo ready; read go <%s/go; exec unshare --user --map-root-user --mount sh -c "
			mount --bind %s /usr/bin/true && echo done >%s/go; exec sleep 1000"'`, uid, uid, dir, evil(t, dir), dir))
	l.up("--name", "x", strconv.Itoa(tgt.Process.Pid))
	must(t, os.WriteFile(dir+"/go", []byte("go\n"), 0))
	if said, err := os.ReadFile(dir + "/go"); err != nil || string(said) != "done\n" {
		t.Fatalf("%q, %v", said, err)
	}
	l.runsEvil("x", "--", "/usr/bin/true")
}

// TestAttackExecContainer: in a container without a user namespace, a command has the container's
// capabilities, no_new_privs, and each of its namespaces.
func TestAttackExecContainer(t *testing.T) {
	t.Parallel()
	l, _, dir := rootLab(t)
	const caps = "kill,net_bind_service,audit_write"
	tgt := l.hostile(0, fmt.Sprintf(`exec unshare --net --mount --pid --fork --kill-child --mount-proc --ipc --uts --cgroup \
		setpriv --no-new-privs --bounding-set -all,+%s --inh-caps -all \
		sh -c 'echo ready; exec sleep 1000'`, strings.ReplaceAll(caps, ",", ",+")))
	pid := childOf(t, tgt.Process.Pid)
	l.up("--name", "x", "--disable-dns", strconv.Itoa(pid)) // otherwise one mount differs from the target's
	out := l.run("exec", "x", "--", evil(t, dir)).out
	const three = "0000000020000420"
	for _, want := range []string{"CapPrm:\t" + three, "CapEff:\t" + three, "CapBnd:\t" + three, "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for _, ns := range []string{"user", "mnt", "net", "pid", "ipc", "uts", "cgroup"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.must("exec", "x", "--", "readlink", "/proc/self/ns/"+ns); strings.TrimSpace(got) != want {
			t.Errorf("%s: %s, the target is in %s", ns, got, want)
		}
	}
}

// childOf waits for a process's first child.
func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d has a child", pid), func() bool {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // any thread's
		for _, list := range lists {
			data, _ := os.ReadFile(list)
			if _, err := fmt.Sscan(string(data), &child); err == nil {
				return true
			}
		}
		return false
	})
	return child
}

// TestAttackExecGroups: if the target's user namespace denies setgroups(2), the caller's groups are
// dropped even so.
func TestAttackExecGroups(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	const group = 4242
	must(t, os.WriteFile(dir+"/shared", []byte("the group's secret\n"), 0o640), os.Chown(dir+"/shared", 0, group))
	prog := evil(t, dir)
	for name, unshare := range map[string]string{"root": "--map-root-user", "no root": "--map-current-user"} {
		tgt := l.hostile(uid, "exec unshare --user "+unshare+" --net sh -c 'echo ready; exec sleep 1000'")
		inst := strings.ReplaceAll(name, " ", "-")
		l.up("--name", inst, strconv.Itoa(tgt.Process.Pid))
		cmd := l.command("exec", inst, "--", prog)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 0, Gid: 0, Groups: []uint32{group}}}
		r := l.finish(cmd)
		if !strings.Contains(r.out, "ran\n") || !strings.Contains(r.out, "Groups:\t \n") || strings.Contains(r.out, "secret") {
			t.Errorf("%s: %s%s", name, r.out, r.err)
		}
	}
}

// TestAttackExecRefused: root runs nothing in a user namespace without a mapping for the target's user,
// where the command would be root of the host.
func TestAttackExecRefused(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	tgt := l.hostile(uid, "exec unshare --user --net sh -c 'echo ready; exec sleep 1000'")
	l.up("--name", "x", "--wait-netns", "1ms", strconv.Itoa(tgt.Process.Pid))
	r := l.run("exec", "x", "--", evil(t, dir))
	if r.code != 125 || r.out != "" || !strings.Contains(r.err, "are not mapped in its user namespace") {
		t.Errorf("exit status %d: %s%s", r.code, r.out, r.err)
	}
}

// TestAttackExecControlGroups: the target's program is in the target's control groups, with their limits and
// without the devices that they forbid, and not in root's.
func TestAttackExecControlGroups(t *testing.T) {
	t.Parallel()
	l, uid, _ := rootLab(t)
	tgt := l.hostile(uid, "exec unshare --user --map-root-user --net sh -c 'echo ready; exec sleep 1000'")
	pid := strconv.Itoa(tgt.Process.Pid)
	l.up("--name", "x", pid)
	joined, devices := 0, false
	for _, dir := range []string{"/sys/fs/cgroup/devices", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		group, err := os.MkdirTemp(dir, "slirpctl")
		if err != nil || !exists(filepath.Join(group, "cgroup.procs")) {
			_ = os.Remove(group)
			continue // no such hierarchy
		}
		t.Cleanup(func() {
			_ = tgt.Process.Kill()
			eventually(t, "the control group can be removed", func() bool { return os.Remove(group) == nil })
		})
		if deny := filepath.Join(group, "devices.deny"); exists(deny) {
			must(t, os.WriteFile(deny, []byte("c 1:5 rwm"), 0)) // /dev/zero
			devices = true
		}
		must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(pid), 0))
		joined++
	}
	if joined == 0 {
		lacking(t, "this attack needs a hierarchy of control groups that it may make a group in")
	}
	want, err := os.ReadFile("/proc/" + pid + "/cgroup")
	must(t, err)
	if got := l.must("exec", "x", "--", "cat", "/proc/self/cgroup"); got != string(want) {
		t.Errorf("its control groups are\n%s, the target's\n%s", got, want)
	}
	if devices {
		if r := l.run("exec", "x", "--", "head", "-c", "1", "/dev/zero"); r.code == 0 || !strings.Contains(r.err, "not permitted") {
			t.Errorf("a forbidden device: exit status %d, %s", r.code, r.err)
		}
	}
}

// TestAttackExecDescriptors: the caller's open files beyond its standard streams are not inherited, and
// none of those is a directory.
func TestAttackExecDescriptors(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	tgt := l.hostile(uid, "exec unshare --user --map-root-user --net sh -c 'echo ready; exec sleep 1000'")
	l.up("--name", "x", strconv.Itoa(tgt.Process.Pid))
	secret, err := os.Open(dir + "/secret")
	must(t, err)
	defer secret.Close()
	cmd := l.command("exec", "x", "--", "sh", "-c", "echo ran; ls /proc/self/fd; cat <&3")
	cmd.ExtraFiles = []*os.File{secret}
	if r := l.finish(cmd); r.out != "ran\n0\n1\n2\n3\n" { // 3 is ls's own, of the directory
		t.Errorf("%s%s", r.out, r.err)
	}
	root, err := os.Open("/")
	must(t, err)
	defer root.Close()
	cmd = l.command("exec", "x", "--", "true")
	cmd.Stdin = root
	if r := l.finish(cmd); r.code != 125 || !strings.Contains(r.err, "descriptor 0 is a directory") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
}

// TestAttackExecTerminal: programs inside can't type into the caller's terminal, neither through an
// inherited file nor through /dev/tty.
func TestAttackExecTerminal(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if _, err := exec.LookPath("perl"); err != nil {
		lacking(t, "this attack is in Perl: %v", err)
	}
	l.up("--name", "x", strconv.Itoa(l.target()))
	const attack = `for my $f (*STDIN, *STDOUT, *STDERR) { for (split //, "pwned") { my $c = $_; ioctl($f, 0x5412, $c) } }
		my $x = "x"; open(T, "+<", "/dev/tty") and ioctl(T, 0x5412, $x); exit 7`
	for name, redirect := range map[string]string{"all": "", "input": ">/dev/null", "output": "</dev/null 2>/dev/null", "errors": "</dev/null >/dev/null"} {
		terminal, line, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		// Only the victim reads the terminal, so that typed input stays.
		modes, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		modes.Lflag &^= unix.ICANON | unix.ECHO
		must(t, unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, modes))
		inner := l.command("exec", "x", "--", "perl", "-e", attack)
		cmd := exec.Command("sh", append([]string{"-c", `"$@" ` + redirect, "sh"}, inner.Args...)...)
		cmd.Args[4], cmd.Env = l.bin, inner.Env
		cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		go func() { _, _ = io.Copy(io.Discard, terminal) }()
		if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
			t.Fatalf("%s: the attack did not take place: %s", name, cmd.ProcessState)
		}
		if typed, err := unix.IoctlGetInt(int(line.Fd()), unix.TIOCINQ); err != nil || typed > 0 {
			t.Errorf("%s: %d characters were typed into the caller's terminal (%v)", name, typed, err)
		}
		line.Close()
		terminal.Close()
	}
}

// stalled runs `exec x -- FILE` of a file whose owner holds a lease of it, so that the execve(2)
// inside waits, and returns the waiting process.
func stalled(t *testing.T, l *lab, file string) int {
	t.Helper()
	cmd := l.command("exec", "x", "--", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.keep(cmd)
	var pid int
	eventually(t, "exec waits for the lease", func() bool {
		statuses, _ := filepath.Glob("/proc/[0-9]*/wchan")
		for _, s := range statuses {
			where, _ := os.ReadFile(s)
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
			if strings.Contains(string(where), "break_lease") && descends(n, cmd.Process.Pid) {
				pid = n
			}
		}
		return pid != 0
	})
	return pid
}

// descends reports whether a process is a descendant of another.
func descends(pid, of int) bool {
	for pid > 1 {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		if _, err := fmt.Sscanf(rest, "%1s %d", new(string), &pid); err != nil {
			return false
		}
		if pid == of {
			return true
		}
	}
	return false
}

// TestAttackExecTraced: while exec enters a namespace, the namespace's root can neither trace the
// entering process nor inspect it.
func TestAttackExecTraced(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	ptrace := map[string]int{"amd64": 101, "arm64": 117}[runtime.GOARCH]
	if _, err := exec.LookPath("perl"); err != nil || ptrace == 0 {
		lacking(t, "this attack is in Perl, on amd64 or arm64: %v", err)
	}
	tgt := l.hostile(uid, "exec unshare --user --map-root-user --net sh -c 'echo ready; exec sleep 1000'")
	l.up("--name", "x", strconv.Itoa(tgt.Process.Pid))
	slow := dir + "/slow"
	must(t, noForks(func() error { return os.WriteFile(slow, []byte("#!/bin/sh\n"), 0o755) }), os.Chown(slow, uid, uid))
	l.hostile(uid, fmt.Sprintf(`exec perl -e '$| = 1; $SIG{IO} = "IGNORE"; open(F, "+<", "%s") && fcntl(F, 1024, 1) or die "lease: $!"; print "ready\n"; sleep 1000'`, slow))
	pid := stalled(t, l, slow)
	theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", tgt.Process.Pid)); theirs != want {
		t.Fatalf("what waits is in %s, not in %s: this test tests nothing", theirs, want)
	}
	// As root of the user namespace, with every capability in it.
	inside := func(argv ...string) (string, error) {
		cmd := exec.Command("nsenter", append([]string{"--user", "--preserve-credentials", "-t", strconv.Itoa(tgt.Process.Pid)}, argv...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := inside("readlink", fmt.Sprintf("/proc/%d/ns/mnt", tgt.Process.Pid)); err != nil {
		t.Fatalf("the attacker can't even look at the target: %v %s", err, out)
	}
	for _, argv := range [][]string{
		{"readlink", fmt.Sprintf("/proc/%d/ns/mnt", pid)},
		{"readlink", fmt.Sprintf("/proc/%d/exe", pid)},
		{"ls", fmt.Sprintf("/proc/%d/root/", pid)},
		{"ls", fmt.Sprintf("/proc/%d/fd/", pid)},
		{"cat", fmt.Sprintf("/proc/%d/environ", pid)},
		{"perl", "-e", fmt.Sprintf("exit(syscall(%d, 16, %d, 0, 0) != 0)", ptrace, pid)}, // PTRACE_ATTACH
	} {
		if out, err := inside(argv...); err == nil {
			t.Errorf("%q succeeds from inside: %s", argv, out)
		}
	}
}

// TestAttackExecInterpreter: a command that is a script for /proc/self/exe gets a copy of slirpctl
// that no process can change, not its file.
func TestAttackExecInterpreter(t *testing.T) {
	t.Parallel()
	l, _, dir := rootLab(t)
	script := dir + "/script"
	must(t, noForks(func() error { return os.WriteFile(script, []byte("#!/proc/self/exe __complete\n"), 0o755) }))
	// It waits until its output is read.
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	full := int(w.Fd())
	for must(t, unix.SetNonblock(full, true)); err == nil; {
		_, err = unix.Write(full, []byte("."))
	}
	must(t, unix.SetNonblock(full, false))
	tgt := l.hostile(0, "exec unshare --net --mount sh -c 'echo ready; exec sleep 1000'")
	l.up("--name", "x", strconv.Itoa(tgt.Process.Pid))
	var mine unix.Stat_t
	must(t, unix.Stat(l.bin, &mine))
	cmd := l.command("exec", "x", "--", script)
	var said bytes.Buffer
	cmd.Stdout = w
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.keep(cmd)
	var seen unix.Stat_t
	deadline := time.Now().Add(patience)
	for found := false; !found; {
		if time.Now().After(deadline) {
			t.Fatalf("the script does not run: %s", said.String())
		}
		exes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range exes {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if bytes.Contains(line, []byte("__complete\x00"+script)) && descends(pid, cmd.Process.Pid) && unix.Stat(exe, &seen) == nil {
				found = true
			}
		}
	}
	if seen.Dev == mine.Dev && seen.Ino == mine.Ino {
		t.Error("slirpctl's own file is what runs inside, and can be opened from there for writing")
	}
}
