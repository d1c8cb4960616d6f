package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// TestStateDirFull: what runs goes on, heals and ends; what starts says why it can't.
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

// TestStateDirReadOnly: the same, with a file system that lets nothing be removed either.
func TestStateDirReadOnly(t *testing.T) {
	t.Parallel()
	newLab(t).inMounts(`
mount -t tmpfs -o mode=0700 none $base
ctl up -d --name x -p 127.0.0.1::80 $target >/dev/null
mount --bind $base $base # what is open for writing would stand in the way
mount -o remount,bind,ro $base
if ctl up -d --name y $target >$base.out 2>&1; then fail "up on a read-only disk"; fi
grep -qi 'read-only' $base.out || fail "$(cat $base.out)"
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

// TestStateFileGarbage cuts and spoils the state file at every byte. The instance is found,
// asked and shown all the same.
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
		// The supervisor may be quicker to put back what is missing.
		eventually(t, what, func() bool {
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			err := spoil()
			if err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			return err == nil
		})
		check(what)
	}
}

// TestDownWithoutFiles takes down what has lost one file or several, in every way.
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
			if alivePID(st.SlirpPID) { // a zombie does not run, and not every init reaps
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

// TestStateDirDeleted: an instance whose files were removed, its lock or all of them, puts them
// back, so that it is neither lost nor started twice.
func TestStateDirDeleted(t *testing.T) {
	for name, remove := range map[string]func(base string) error{
		"all": func(base string) error {
			_ = os.RemoveAll(base) // it may find files that are put back already
			return nil
		},
		"instance": func(base string) error { return os.RemoveAll(filepath.Join(base, "x")) },
		"lock":     func(base string) error { return os.Remove(filepath.Join(base, "x", "lock")) },
		"control":  func(base string) error { return os.Remove(filepath.Join(base, "x", "control.sock")) },
		"log":      func(base string) error { return os.Remove(filepath.Join(base, "x", "log")) },
		"state":    func(base string) error { return os.Remove(filepath.Join(base, "x", "state.json")) },
		"moved":    func(base string) error { return os.Rename(filepath.Join(base, "x"), base+".old") },
	} {
		for _, handler := range handlers {
			t.Run(name+"/"+handler, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				port := ownPort(t)
				st := l.up("--name", "x", "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d:80", port), strconv.Itoa(l.target()))
				echoes(t, port)
				if err := remove(l.base); err != nil {
					t.Fatal(err)
				}
				eventually(t, "it is listed again, and answers", func() bool {
					r := l.run("list", "x", "--json")
					return r.code == 0 && exists(filepath.Join(l.base, "x", "control.sock")) && strings.Contains(r.out, `"running"`)
				})
				for _, file := range []string{"lock", "log", "state.json"} {
					eventually(t, file+" is there", func() bool { return exists(filepath.Join(l.base, "x", file)) })
				}
				eventually(t, "the log goes on", func() bool { return strings.Contains(l.log("x"), "putting them back") })
				if r := l.run("up", "-d", "--name", "x", strconv.Itoa(st.Target.PID)); r.code != exitConflict {
					t.Errorf("a second instance of the name: exit status %d: %s", r.code, r.err)
				}
				eventually(t, "a forward can be added", func() bool { return l.run("forward", "add", "x", "127.0.0.1::80").code == 0 })
				for _, p := range l.state("x").Ports {
					echoes(t, p.HostPort)
				}
				l.must("down", "x")
				l.noneLeft()
			})
		}
	}
}
