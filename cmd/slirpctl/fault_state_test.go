package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// inMounts runs a bash script in a mount namespace of its own, with slirpctl as the function ctl
// and a running target as $target.
func (l *lab) inMounts(script string) {
	l.t.Helper()
	private := filepath.Join(filepath.Dir(l.base), "slirpctl")
	if err := copyFile(l.bin, private, 0o755); err != nil {
		l.t.Fatal(err)
	}
	text := fmt.Sprintf(`set -eu
base=%s
mkdir -p -m 0700 $base
ctl() { %s --state-dir $base "$@"; }
fail() { echo "FAILED: $*"; cat $base/x/log 2>/dev/null; exit 1; }
unshare -rn sleep 1000 & target=$!
while [ "$(readlink /proc/self/ns/net)" = "$(readlink /proc/$target/ns/net)" ]; do :; done
trap 'kill -9 $target' EXIT
%s
echo finished
`, l.base, private, script)
	args := []string{"--mount", "bash", "-c", text}
	if os.Geteuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "finished\n") {
		l.t.Errorf("%v:\n%s", err, out)
	}
}

// TestStateDirFull: a running instance continues, recovers and ends; a start fails with the reason.
func TestStateDirFull(t *testing.T) {
	for name, mount := range map[string]string{
		"bytes":  `mount -t tmpfs -o size=128k,mode=0700 none $base; fill() { dd if=/dev/zero of=$base/fill bs=1k 2>/dev/null || :; }`,
		"inodes": `mount -t tmpfs -o nr_inodes=16,mode=0700 none $base; fill() { for i in $(seq 20); do : >$base/fill$i || break; done 2>/dev/null; }`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newLab(t).inMounts(mount + `
ctl up -d --name x -p 127.0.0.1::80 $target >/dev/null
fill
if ctl up -d --name y $target >$base.out 2>&1; then fail "up on a full disk"; fi
grep -qi 'no space left' $base.out || fail "$(cat $base.out)"
[ ! -e $base/y ] || fail "$(ls -la $base)"
kill -9 $(ctl list x --format '{{.SlirpPID}}')
for i in $(seq 1000); do [ "$(ctl list x --format '{{.State}} {{.Restarts}}')" = "running 1" ] && break; sleep 0.02; done
[ "$(ctl list x --format '{{.State}} {{.Restarts}}')" = "running 1" ] || fail "not healed: $(ctl list)"
ctl down x
[ -z "$(ctl list)" ] || fail "$(ctl list)"
[ ! -e $base/x ] || fail "x is left"
rm $base/fill*
ctl up -d --name x $target >/dev/null
ctl down x
`)
		})
	}
}

// TestStateDirReadOnly: the same, with a file system on which nothing can be removed either.
func TestStateDirReadOnly(t *testing.T) {
	t.Parallel()
	newLab(t).inMounts(`
mount -t tmpfs -o mode=0700 none $base
ctl up -d --name x -p 127.0.0.1::80 $target >/dev/null
mount --bind $base $base # what is open for writing would stand in the way
mount -o remount,bind,ro $base
if ctl up -d --name y $target >$base.out 2>&1; then fail "up on a read-only disk"; fi
grep -qi 'read-only' $base.out || fail "$(cat $base.out)"
grep -q 'hint: .*--state-dir' $base.out || fail "$(cat $base.out)"
[ "$(ctl list x --format '{{.State}}')" = running ] || fail "not listed"
sup=$(ctl list x --format '{{.SupervisorPID}}')
ctl down x
! kill -0 $sup 2>/dev/null || grep -q '^State:.Z' /proc/$sup/status || fail "still runs"
[ -z "$(ctl list)" ] || fail "listed: $(ctl list)"
umount $base
ctl up -d --name x $target >/dev/null
ctl down x
[ ! -e $base/x ] || fail "x is left"
`)
}

// TestStateFileGarbage truncates and corrupts the state file at every byte. The instance is still
// found, queried and shown.
func TestStateFileGarbage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.up("--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
	ctx := context.Background()
	base, err := instance.OpenBase(l.base)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.base, "x", "state.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		e, err := base.Find(ctx, "x")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		sts := control.Query(ctx, []instance.Entry{e})
		if len(sts) != 1 || sts[0].State != instance.Running || len(sts[0].Ports) != 1 {
			t.Fatalf("%s: shown as %+v", what, sts)
		}
	}
	put := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range good {
		put(good[:i])
		check(fmt.Sprintf("cut at %d", i))
		for _, b := range []byte{0, '"', '}', 0xff} {
			bad := append([]byte{}, good...)
			bad[i] = b
			put(bad)
			check(fmt.Sprintf("byte %d is %#x", i, b))
		}
	}
	for what, spoil := range map[string]func() error{
		"gone":      func() error { return nil },
		"directory": func() error { return os.Mkdir(file, 0o700) },
		"fifo":      func() error { return unix.Mkfifo(file, 0o600) },
		"link":      func() error { return os.Symlink("/dev/zero", file) },
		"loop":      func() error { return os.Symlink("state.json", file) },
		"empty":     func() error { return os.WriteFile(file, nil, 0o600) },
		"null":      func() error { return os.WriteFile(file, []byte("null"), 0o600) },
		"other":     func() error { return os.WriteFile(file, []byte(`{"name":"x","supervisorPid":1}`), 0o600) },
	} {
		if err := errors.Join(os.RemoveAll(file), spoil()); err != nil {
			t.Fatal(err)
		}
		check(what)
	}
}

// TestDownWithoutFiles takes down instances that have lost one file or several, in every combination.
func TestDownWithoutFiles(t *testing.T) {
	garbage := func(path string) error { return os.WriteFile(path, []byte("\x00\xff{]garbage"), 0o600) }
	for name, c := range map[string]struct {
		spoil func(string) error
		files []string
	}{
		"no control.sock":                 {os.Remove, []string{"control.sock"}},
		"no state.json":                   {os.Remove, []string{"state.json"}},
		"neither":                         {os.Remove, []string{"control.sock", "state.json"}},
		"no api.sock, no log":             {os.Remove, []string{"api.sock", "log"}},
		"garbage state":                   {garbage, []string{"state.json"}},
		"garbage lock":                    {garbage, []string{"lock"}},
		"garbage state, no control.sock":  {func(p string) error { return firstErr(garbage(p), os.Remove(filepath.Dir(p)+"/control.sock")) }, []string{"state.json"}},
		"garbage lock, no control socket": {func(p string) error { return firstErr(garbage(p), os.Remove(filepath.Dir(p)+"/control.sock")) }, []string{"lock"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			st := l.up("--name", "x", strconv.Itoa(l.target()))
			for _, f := range c.files {
				if err := c.spoil(filepath.Join(l.base, "x", f)); err != nil {
					t.Fatal(err)
				}
			}
			l.must("list")
			l.must("down", "x")
			l.noneLeft()
			if alivePID(st.SlirpPID) { // a zombie does not count; not every init reaps
				t.Error("slirp4netns still runs")
			}
		})
	}
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestStateDirDeleted: an instance whose directory was removed can't be reached any more. Its network
// works and recovers; its end leaves nothing behind, and removes nothing of a new instance with the same name.
func TestStateDirDeleted(t *testing.T) {
	for _, dir := range []string{"", "x"} {
		for how, end := range map[string]func(st instance.State){
			"target ends": func(st instance.State) { _ = unix.Kill(st.Target.PID, unix.SIGKILL) },
			"TERM":        func(st instance.State) { _ = unix.Kill(st.SupervisorPID, unix.SIGTERM) },
			"KILL":        func(st instance.State) { _ = unix.Kill(st.SupervisorPID, unix.SIGKILL) },
		} {
			for _, handler := range handlers {
				t.Run(how+"/"+handler+"/"+dir, func(t *testing.T) {
					t.Parallel()
					l := newLab(t)
					port := ownPort(t)
					st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(l.target()))
					echoes(t, port)
					if err := os.RemoveAll(filepath.Join(l.base, dir)); err != nil {
						t.Fatal(err)
					}
					if r := l.run("list", "x"); r.code != exitNotFound {
						t.Errorf("list: exit status %d: %s", r.code, r.err)
					}
					if handler != "rootlesskit" { // its child half's socket is in the directory
						echoes(t, port)
					}
					if handler == "direct" {
						_ = unix.Kill(st.SlirpPID, unix.SIGKILL)
						eventually(t, "it is healed", func() bool {
							devices, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", st.Target.PID))
							return !alivePID(st.SlirpPID) && strings.Contains(string(devices), "tap0:")
						})
						echoes(t, port)
					}
					l.up("--name", "x", "-p", "127.0.0.1::80", strconv.Itoa(l.target()))
					end(st)
					eventually(t, "the supervisor has ended", func() bool { return !alivePID(st.SupervisorPID) })
					for _, p := range l.state("x").Ports {
						echoes(t, p.HostPort)
					}
					l.must("down", "x")
					l.noneLeft()
				})
			}
		}
	}
}

// TestStateFilesDeleted: the loss of a single file leaves nothing behind at the end either.
func TestStateFilesDeleted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, file := range []string{"lock", "log", "state.json", "control.sock", "api.sock"} {
		st := l.up("--name", "x", strconv.Itoa(l.target()))
		if err := os.Remove(filepath.Join(l.base, "x", file)); err != nil {
			t.Fatal(err)
		}
		_ = unix.Kill(st.SupervisorPID, unix.SIGTERM)
		l.noneLeft()
	}
}
