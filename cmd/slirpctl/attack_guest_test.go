package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
)

func init() {
	helperPrograms["attack-process"] = attackProcess
	helperPrograms["attack-any"] = attackAny
	helperPrograms["kill-process"] = func(args []string) int {
		pid, _ := strconv.Atoi(args[0])
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return failed("%v", err)
		}
		return 0
	}
}

// attackProcess tries what a tracer can do to a process, and prints what succeeded.
func attackProcess(args []string) int {
	runtime.LockOSThread() // ptrace(2) applies to a thread
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return failed("%v", err)
	}
	seize := func(how uintptr) error {
		if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, how, uintptr(pid), 0, 0, 0, 0); e != 0 {
			return e
		}
		if how == unix.PTRACE_SEIZE {
			_ = unix.PtraceInterrupt(pid)
		}
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
		return unix.PtraceDetach(pid)
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	link := func(name string) func() error {
		return func() error { _, err := os.Readlink(proc + name); return err }
	}
	var buf [8]byte
	for what, try := range map[string]func() error{
		"PTRACE_SEIZE":  func() error { return seize(unix.PTRACE_SEIZE) },
		"PTRACE_ATTACH": func() error { return seize(unix.PTRACE_ATTACH) },
		"ns/mnt":        link("ns/mnt"), "ns/user": link("ns/user"), "ns/pid": link("ns/pid"),
		"root": link("root"), "cwd": link("cwd"), "exe": link("exe"), "fd/3": link("fd/3"),
		"root/": func() error { _, err := os.ReadDir(proc + "root/"); return err },
		"mem":   func() error { f, err := os.OpenFile(proc+"mem", os.O_RDWR, 0); f.Close(); return err },
		"environ": func() error {
			data, err := os.ReadFile(proc + "environ")
			if err == nil && len(data) == 0 {
				err = errors.New("empty")
			}
			return err
		},
		"process_vm_readv": func() error {
			local := []unix.Iovec{{Base: &buf[0], Len: 8}}
			_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&buf)) &^ 4095, Len: 8}}, 0)
			if errors.Is(err, unix.EFAULT) {
				err = nil // it may look, but there is nothing
			}
			return err
		},
		"pidfd_getfd": func() error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			_, err = unix.PidfdGetfd(fd, 3, 0)
			return err
		},
	} {
		if err := try(); err == nil {
			fmt.Println(what)
		}
	}
	return 0
}

// attackAny prints "ready" and seizes every process of the host's root that it can, until its standard
// input ends. It prints their names.
func attackAny([]string) int {
	runtime.LockOSThread()
	done := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(done)
	}()
	fmt.Println("ready")
	own := os.Getpid()
	for {
		select {
		case <-done:
			return 0
		default:
		}
		des, _ := os.ReadDir("/proc")
		for _, de := range slices.Backward(des) {
			pid, err := strconv.Atoi(de.Name())
			if err != nil || pid <= own {
				continue // only short-lived ones
			}
			status, err := os.ReadFile("/proc/" + de.Name() + "/status")
			if err != nil || !strings.Contains(string(status), "\nUid:\t65534\t65534\t") {
				continue
			}
			if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); e != 0 {
				continue
			}
			cmdline, _ := os.ReadFile("/proc/" + de.Name() + "/cmdline")
			// Not attackProcess, which had the test's ids until nsenter took those inside.
			if !strings.Contains(string(cmdline), "/attack-process\x00") {
				fmt.Printf("%q\n", strings.ReplaceAll(string(cmdline), "\x00", " "))
			}
			_ = unix.PtraceInterrupt(pid)
			_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
			_ = unix.PtraceDetach(pid)
		}
	}
}

// inside returns a command in the user namespace of a process, as the user who made it and is
// root inside; run by root, the command becomes root inside.
func inside(t *testing.T, l *lab, pid int, program string, args ...string) *exec.Cmd {
	t.Helper()
	nsenter := []string{"--user", "--target", strconv.Itoa(pid)}
	if l.ordinary() {
		nsenter = append(nsenter, "--preserve-credentials")
	}
	cmd := exec.Command("nsenter", append(append(nsenter, "--", filepath.Join(programs.path(t), program)), args...)...)
	cmd.Dir = "/"
	if l.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}}
	}
	return cmd
}

// attack tries to get access to a process from inside the user namespace of another, and returns what succeeded.
func attack(t *testing.T, l *lab, from, victim int) []string {
	t.Helper()
	out, err := inside(t, l, from, "attack-process", strconv.Itoa(victim)).CombinedOutput()
	if err != nil {
		t.Fatalf("the attack: %v: %s", err, out)
	}
	if !exists(fmt.Sprintf("/proc/%d", victim)) {
		t.Fatal("the victim has ended: this test tests nothing")
	}
	return strings.Fields(string(out))
}

// owned is a process in user and network namespaces of its own, made and owned by root, whose ids start at
// first on the host, like a container's.
func owned(t *testing.T, l *lab, first int) int {
	t.Helper()
	cmd := exec.Command("socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 1000}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: ids, GidMappings: ids, Setpgid: true,
		GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{Uid: 0, Gid: 0},
	}
	l.keep(cmd)
	return cmd.Process.Pid
}

// TestAttackHelper: root gives the namespace of an ordinary user, or of a container, a network. Root
// inside can't trace or inspect the helper, in any of its roles, not even after it was restarted.
func TestAttackHelper(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, and an ordinary user")
	}
	transparent := []string{"--source-ip-transparent", "--port-handler", "rootlesskit", "-p", "127.0.0.1::80"}
	for name, c := range map[string]struct {
		args             []string
		container, netns bool
	}{
		"rootlesskit":              {args: []string{"--port-handler", "rootlesskit", "-p", "127.0.0.1::80"}},
		"direct":                   {args: []string{"--port-handler", "direct", "-p", "127.0.0.1::80"}},
		"ipv6":                     {args: []string{"--port-handler", "slirp4netns", "--ipv6"}},
		"auto":                     {args: []string{"-p", "auto"}},
		"transparent":              {args: transparent},
		"transparent, direct":      {args: []string{"--source-ip-transparent", "-p", "127.0.0.1::80"}},
		"container":                {args: []string{"--port-handler", "direct", "-p", "127.0.0.1::80"}, container: true},
		"container, rootlesskit":   {args: []string{"--port-handler", "rootlesskit", "--ipv6", "-p", "127.0.0.1::80"}, container: true},
		"network namespace's path": {args: []string{"--port-handler", "direct", "--ipv6", "-p", "127.0.0.1::80"}, netns: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "transparent" {
				needs(t, "nft", "ip")
			}
			l, theirs := newLab(t), newUserLab(t)
			pid := 0
			if c.container {
				pid, theirs = owned(t, l, 700000), l
			} else {
				pid = theirs.target()
				runs(t, pid, "socat")
			}
			if worked := attack(t, theirs, pid, pid); !slices.Contains(worked, "PTRACE_SEIZE") || !slices.Contains(worked, "ns/mnt") {
				t.Fatalf("on the target itself %q works: this test tests nothing", worked)
			}
			args := append([]string{"--name", "x"}, c.args...)
			if c.netns {
				path := filepath.Join(filepath.Dir(l.base), "netns")
				must(t, os.WriteFile(path, nil, 0o600), unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), path, "", unix.MS_BIND, ""))
				t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
				args = append(args, "--netns", path)
			} else {
				args = append(args, strconv.Itoa(pid))
			}
			any := inside(t, theirs, pid, "attack-any")
			in, err := any.StdinPipe()
			var seized strings.Builder
			any.Stdout, any.Stderr = &seized, &seized
			must(t, err, any.Start())
			st := l.up(args...)
			helper := l.children(st)["helper"]
			if worked := attack(t, theirs, pid, helper); len(worked) > 0 {
				t.Errorf("on the helper %q works", worked)
			}
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is healed", func() bool { return l.state("x").Restarts == 1 })
			if worked := attack(t, theirs, pid, l.state("x").SlirpPID); len(worked) > 0 {
				t.Errorf("on slirp4netns %q works", worked)
			}
			if name != "ipv6" && name != "auto" { // there it is no longer needed
				_ = syscall.Kill(helper, syscall.SIGKILL)
				eventually(t, "there is another helper", func() bool {
					for pid, what := range l.processes() {
						if strings.Contains(what, "__guest") && pid != helper {
							helper = pid
							return true
						}
					}
					return false
				})
				if worked := attack(t, theirs, pid, helper); len(worked) > 0 {
					t.Errorf("on the second helper %q works", worked)
				}
			}
			in.Close()
			must(t, any.Wait())
			for line := range strings.Lines(strings.TrimPrefix(seized.String(), "ready\n")) {
				t.Errorf("seized on its way: %s", line)
			}
			l.must("down", "x")
		})
	}
}

// TestAttackHelperOfUser: the kernel lets root of a namespace trace what its owner starts inside. Then
// there is nothing to gain: no file, no descriptor but the supervisor's socket and the log pipe,
// no capability, no user id that is not mapped inside; and root of a nested namespace can't trace it.
func TestAttackHelperOfUser(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"direct", "rootlesskit"} {
		for _, kind := range []string{"own", "unmapped", "nested"} {
			t.Run(handler+", "+kind, func(t *testing.T) {
				t.Parallel()
				l := newUserLab(t)
				who := l.uid
				if who == 0 {
					who = os.Getuid()
				}
				pid := 0
				switch kind {
				case "own":
					pid = l.target()
					runs(t, pid, "socat")
				case "unmapped":
					pid, who = l.unmappedTarget()
				case "nested":
					pid = l.startTarget("unshare", "--user", "--map-root-user", "--net", "socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat").Process.Pid
					runs(t, pid, "socat")
				}
				port := ownPort(t)
				// Without the sandbox: inside it an unmapped user can't make slirp4netns's API socket.
				st := l.up("--name", "x", "--sandbox", "false", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(pid))
				echoes(t, port)
				helper := l.children(st)["helper"]
				is := statusOf(t, helper)
				for field, want := range map[string]string{
					"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
					"NoNewPrivs": "1", "Seccomp": "2", "Uid": fmt.Sprintf("%d\t%[1]d\t%[1]d\t%[1]d", who),
				} {
					if is[field] != want {
						t.Errorf("the helper's %s is %q, want %q", field, is[field], want)
					}
				}
				if os.Geteuid() == 0 { // others may not inspect a process that isn't dumpable
					l.hasNothing(helper)
				}
				if worked := attack(t, l, pid, helper); kind == "nested" && len(worked) > 0 {
					t.Errorf("from further in %q works", worked)
				}
				l.must("down", "x")
			})
		}
	}
}

// hasNothing checks a helper's files and descriptors.
func (l *lab) hasNothing(helper int) {
	l.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", helper)
	mounts, err := os.ReadFile(dir + "mountinfo")
	if lines := strings.Count(string(mounts), "\n"); err != nil || lines != 1 {
		l.t.Errorf("it has %d mounts, %v:\n%s", lines, err, mounts)
	}
	names, err := os.ReadDir(dir + "root")
	for _, n := range names {
		if n.Name() != ".bp.sock" && n.Name() != ".bp-ready.pipe" {
			l.t.Errorf("it sees the file %s", n.Name())
		}
	}
	if err != nil {
		l.t.Error(err)
	}
	fds, err := os.ReadDir(dir + "fd")
	if err != nil || len(fds) < 4 {
		l.t.Errorf("%d descriptors, %v", len(fds), err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(dir + "fd/" + fd.Name())
		if to != "/dev/null" && !strings.HasPrefix(to, "socket:") && to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]" &&
			!(fd.Name() == "2" && strings.HasPrefix(to, "pipe:")) {
			l.t.Errorf("it has descriptor %s: %s", fd.Name(), to)
		}
	}
}

// unmappedTarget is a target in whose user namespace the user has no id, only the first one of
// the user's subordinate ids, which it returns; as with podman run --userns=nomap.
func (l *lab) unmappedTarget() (pid, root int) {
	t := l.t
	t.Helper()
	needs(t, "newuidmap", "newgidmap")
	cmd := exec.Command("unshare", "--user", "--net", "--map-users", "auto", "--map-groups", "auto", "--setuid", "0", "--setgid", "0",
		"socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if l.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}
	}
	cmd.Dir = "/"
	l.keep(cmd)
	pid = cmd.Process.Pid
	runs(t, pid, "socat")
	l.targets = append(l.targets, pid)
	root, err := strconv.Atoi(strings.Fields(statusOf(t, pid)["Uid"])[0])
	must(t, err)
	return pid, root
}

// runs waits until a process executes a program.
func runs(t testing.TB, pid int, program string) {
	t.Helper()
	eventually(t, program+" runs", func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return string(comm) == program+"\n"
	})
}

// needs fails the test, or outside CI skips it, if a program is missing.
func needs(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			lacking(t, "this test needs %s: %v", name, err)
		}
	}
}

// TestAttackHelperKilled: a process inside that kills the helper whenever it starts can't keep the
// supervisor busy restarting it, and the helper returns when the killing ends.
func TestAttackHelperKilled(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"direct", "rootlesskit"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			l := newUserLab(t)
			port := ownPort(t)
			pid := l.target()
			st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(pid))
			last := l.children(st)["helper"]
			begin := time.Now()
			for range 7 {
				if out, err := inside(t, l, pid, "kill-process", strconv.Itoa(last)).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				next := 0
				eventually(t, "there is another helper", func() bool {
					for pid, what := range l.processes() {
						if strings.Contains(what, "__guest") && pid != last {
							next = pid
						}
					}
					return next != 0
				})
				last = next
			}
			// 0, 0, 50, 100, 200, 400 and 800 ms of pause.
			if took := time.Since(begin); took < 1500*time.Millisecond {
				t.Errorf("seven helpers were started again within %v", took)
			}
			echoes(t, port)
			l.must("down", "x")
		})
	}
}

// TestAttackTargetMoves: root's slirp4netns serves the network namespace that was checked, even if the
// process has moved to another one when slirp4netns is restarted.
func TestAttackTargetMoves(t *testing.T) {
	t.Parallel()
	l, uid, dir := rootLab(t)
	must(t, syscall.Mkfifo(dir+"/go", 0o600), os.Chown(dir+"/go", uid, uid))
	tgt := l.hostile(uid, fmt.Sprintf(`exec unshare --user --map-root-user --net sh -c '
		sleep 1000 & echo ready; read go <%s/go; exec unshare --net sleep 1000'`, dir))
	pid := tgt.Process.Pid
	stays := childOf(t, pid)
	st := l.up("--name", "x", strconv.Itoa(pid))
	must(t, os.WriteFile(dir+"/go", []byte("go\n"), 0))
	before, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", stays))
	must(t, err)
	eventually(t, "the target has moved", func() bool {
		now, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		return err == nil && now != before
	})
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "it is healed", func() bool {
		now := l.state("x")
		return now.Restarts == 1 && now.State == instance.Running
	})
	for at, want := range map[int]bool{stays: true, pid: false} {
		devices, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", at))
		must(t, err)
		if strings.Contains(string(devices), "tap0:") != want {
			t.Errorf("process %d sees\n%s", at, devices)
		}
	}
	l.must("down", "x")
}
