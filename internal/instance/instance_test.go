package instance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

func base(t *testing.T) Base {
	t.Helper()
	dir, err := os.MkdirTemp("", "i") // short: socket paths are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := OpenBase(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func create(t *testing.T, b Base, name string) *Instance {
	t.Helper()
	i, err := b.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.close)
	return i
}

func names(t *testing.T, b Base) string {
	t.Helper()
	es, err := b.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name)
	}
	return strings.Join(out, " ")
}

func TestLife(t *testing.T) {
	b := base(t)
	a := create(t, b, "a")
	create(t, b, "b")
	if got := names(t, b); got != "a b" {
		t.Errorf("listed %q", got)
	}
	if _, err := b.Create(t.Context(), "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("created twice: %v", err)
	}
	e, err := b.Find(t.Context(), "a")
	if err != nil || !e.Starting() || !e.Alive() || e.Holder.PID != os.Getpid() {
		t.Errorf("found %+v, %v", e, err)
	}
	if err := a.WriteState(&State{Name: "a", SupervisorPID: 1, Tap: "tap0", Processes: []ProcessState{{Role: "supervisor", PID: 1}}}); err != nil {
		t.Fatal(err)
	}
	if e, err = b.Find(t.Context(), "a"); err != nil || e.Starting() || e.State == nil || e.State.Tap != "tap0" {
		t.Errorf("found %+v, %v", e, err)
	}
	if err := a.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Find(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("found the removed one: %v", err)
	}
	if _, err := os.Lstat(a.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	create(t, b, "a")
}

// What a killed supervisor leaves is met by list, by down (which finds it) and by the next up.
func TestDeadOnesAreSweptAway(t *testing.T) {
	meet := map[string]func(Base) error{
		"List":   func(b Base) error { _, err := b.List(t.Context()); return err },
		"Create": func(b Base) error { _, err := b.Create(t.Context(), "dead"); return err },
		"Find": func(b Base) error {
			if _, err := b.Find(t.Context(), "dead"); !errors.Is(err, ErrNotFound) {
				return errors.New("found")
			}
			return nil
		},
	}
	for name, met := range meet {
		b := base(t)
		i := create(t, b, "dead")
		if err := os.WriteFile(i.Path("state.json"), []byte("{garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(i.Path("left"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		i.lock.Close() // as the end of the process does
		if err := met(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(i.Path("left")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left the dead one there: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(b.dir, ".gone-*")); len(left) > 0 {
			t.Errorf("%s left %q", name, left)
		}
	}
}

// --state-dir may name any directory of the caller's: what lies there and is no instance stays,
// whatever is asked, and its own mode too.
func TestForeignFilesStay(t *testing.T) {
	home, err := os.MkdirTemp("", "i")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	for _, dir := range []string{"docs", "private"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{"plain", "docs/x", "private/y"}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(home, file), []byte(strings.Repeat("mine ", 20)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Join(home, "docs"), 0o755), os.Chmod(home, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("docs", filepath.Join(home, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBase(home); !errors.Is(err, ErrUnsafeDir) {
		t.Errorf("a directory of mode 0755 in use for other things: %v", err)
	}
	if fi, err := os.Stat(home); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the mode was changed: %v, %v", fi.Mode(), err)
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBase(home)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, b); got != "" {
		t.Errorf("listed %q", got)
	}
	for _, name := range []string{"docs", "plain", "link", "private"} {
		if _, err := b.Find(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("found %s: %v", name, err)
		}
		if _, err := b.Create(t.Context(), name); err == nil || !strings.Contains(err.Error(), "is not an instance's directory") || fault.Hint(err) == "" {
			t.Errorf("created %s: %v", name, err)
		}
	}
	for _, file := range append(files, "link") {
		if _, err := os.Lstat(filepath.Join(home, file)); err != nil {
			t.Error(err)
		}
	}
}

func TestOneWins(t *testing.T) {
	b := base(t)
	const callers = 20
	errs := make([]error, callers)
	won := make([]*Instance, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { won[i], errs[i] = b.Create(t.Context(), "same") })
	}
	wg.Wait()
	winners := 0
	for i, err := range errs {
		switch {
		case err == nil:
			winners++
			defer won[i].lock.Close()
		case !errors.Is(err, ErrInUse):
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d callers have the name", winners)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "web-1.2_x": true, strings.Repeat("x", 64): true,
		"": false, ".": false, "..": false, ".a": false, "-a": false, "a/b": false, "a b": false,
		"a\n": false, "ä": false, strings.Repeat("x", 65): false,
	} {
		if (options.CheckName(name) == nil) != want {
			t.Errorf("%q: %t", name, !want)
		}
		if !want {
			if _, err := base(t).Create(t.Context(), name); err == nil {
				t.Errorf("created %q", name)
			}
		}
	}
}

func TestPathTooLong(t *testing.T) {
	if err := CheckPath("/tmp/"+strings.Repeat("x", 87), "a"); err != nil {
		t.Errorf("107 bytes: %v", err)
	}
	if err := CheckPath("/tmp/"+strings.Repeat("x", 88), "a"); !errors.Is(err, fault.Usage) || !strings.Contains(err.Error(), "is 108 bytes long") {
		t.Errorf("108 bytes: %v", err)
	}
}

func TestUnsafeBases(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.Mkdir(path("open"), 0o700), os.Chmod(path("open"), 0o777),
		os.Mkdir(path("group"), 0o700), os.Chmod(path("group"), 0o770),
		os.Mkdir(path("good"), 0o700), os.Symlink("good", path("link")),
		os.WriteFile(path("file"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	bad := []string{"open", "group", "link", "file"}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Mkdir(path("theirs"), 0o700), os.Chown(path("theirs"), 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		bad = append(bad, "theirs")
	}
	for _, name := range bad {
		if _, err := OpenBase(path(name)); !errors.Is(err, ErrUnsafeDir) || fault.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if fi, err := os.Stat(path("open")); err != nil || fi.Mode().Perm() != 0o777 {
		t.Errorf("the mode of a directory was changed: %v, %v", fi.Mode(), err)
	}
	for _, name := range []string{"good", "new/and/below"} {
		b, err := OpenBase(path(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if fi, err := os.Stat(b.dir); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

// TestAttackSharedParent: a directory below one that a group or an access control list lets others
// write to is refused, because these could rename it; a group of the caller's own is none of others.
func TestAttackSharedParent(t *testing.T) {
	dir := t.TempDir()
	parent := func(name string, mode os.FileMode, gid int, acl bool) string {
		t.Helper()
		path := filepath.Join(dir, name)
		err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, -1, gid), os.Chmod(path, mode))
		if acl { // user 12345 may do everything
			err = errors.Join(err, unix.Setxattr(path, "system.posix_acl_access", []byte("\x02\x00\x00\x00"+
				"\x01\x00\x07\x00\xff\xff\xff\xff"+"\x02\x00\x07\x00\x39\x30\x00\x00"+"\x04\x00\x05\x00\xff\xff\xff\xff"+"\x10\x00\x07\x00\xff\xff\xff\xff"+"\x20\x00\x05\x00\xff\xff\xff\xff"), 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		return path + "/state"
	}
	own := os.Getegid()
	good := []string{parent("readable", 0o755, own, false), parent("sticky group", 0o775|os.ModeSticky, own, false)}
	bad := []string{parent("everybody", 0o777, own, false), parent("list", 0o775, own, true)}
	if own == os.Geteuid() {
		good = append(good, parent("own group", 0o775, own, false))
	}
	if os.Geteuid() == 0 {
		const shared = 12345
		good = append(good, parent("readable by a shared group", 0o755, shared, false), parent("sticky shared group", 0o775|os.ModeSticky, shared, false))
		bad = append(bad, parent("shared group", 0o775, shared, false), parent("shared group with setgid", 0o775|os.ModeSetgid, shared, false))
	}
	for _, path := range good {
		if _, err := OpenBase(path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range bad {
		if _, err := OpenBase(path); !errors.Is(err, ErrUnsafeDir) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}

// A private directory with the sticky bit is as private as one without.
func TestStickyPrivateDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBase(dir); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBase(dir); !errors.Is(err, ErrUnsafeDir) {
		t.Errorf("a sticky directory of everybody: %v", err)
	}
}

// TestAttackStateTmp: what somebody laid at the name of the state's file, or of a new one's, is not written to.
func TestAttackStateTmp(t *testing.T) {
	i := create(t, base(t), "x")
	victim := filepath.Join(t.TempDir(), "victim")
	for _, lay := range []func(tmp string) error{
		func(tmp string) error { return os.Symlink(victim, tmp) },
		func(tmp string) error { return os.Link(victim, tmp) },
		func(tmp string) error { return os.WriteFile(tmp, []byte("left by a killed writer"), 0o666) },
		func(tmp string) error { return unix.Mkfifo(tmp, 0o666) },
	} {
		if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), lay(i.Path("state.json")), lay(i.Path(".state.json.tmp"))); err != nil {
			t.Fatal(err)
		}
		st := &State{Name: "x", SupervisorPID: 1, Processes: []ProcessState{{Role: "supervisor", PID: 1}}}
		if err := i.WriteState(st); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(victim); string(got) != "mine" {
			t.Errorf("another file was written: %q", got)
		}
		fi, err := os.Lstat(i.Path("state.json"))
		if err != nil || fi.Mode() != 0o600 {
			t.Errorf("state.json: %v, %v", fi, err)
		}
		if _, err := readState(i.Dir(), "x"); err != nil {
			t.Error(err)
		}
		if err := errors.Join(os.Remove(i.Path("state.json")), os.Remove(i.Path(".state.json.tmp"))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDefaultBase(t *testing.T) {
	env := func(vars map[string]string) func(string) string { return func(k string) string { return vars[k] } }
	if os.Geteuid() == 0 {
		if got := DefaultBase(env(map[string]string{"XDG_RUNTIME_DIR": t.TempDir()})); writable("/run") && got != "/run/slirpctl" {
			t.Errorf("root: %s", got)
		}
		return
	}
	run := t.TempDir()
	if got := DefaultBase(env(map[string]string{"XDG_RUNTIME_DIR": run})); got != run+"/slirpctl" {
		t.Errorf("got %s", got)
	}
	for _, vars := range []map[string]string{{}, {"XDG_RUNTIME_DIR": "relative"}, {"XDG_RUNTIME_DIR": "/no/such"}} {
		if got := DefaultBase(env(vars)); !strings.HasPrefix(got, "/tmp/slirpctl-") {
			t.Errorf("%v: %s", vars, got)
		}
	}
}

func TestReadStateRefusesGarbage(t *testing.T) {
	for _, text := range []string{"", "null", "[]", "{", `{"name":"b","supervisorPid":1}`, `{"name":"a"}`, `{"name":"a","supervisorPid":-1}`, `{"name":"a","supervisorPid":"1"}`, `{"name":"a","supervisorPid":1}`, `{"name":"a","supervisorPid":1,"processes":[{"role":"supervisor","pid":2}]}`} {
		if st, err := ParseState([]byte(text), "a"); err == nil {
			t.Errorf("%q is taken for %+v", text, st)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"name":"a","supervisorPid":1,"processes":[{"role":"supervisor","pid":1}],"cidr":"10.0.2.0/24","ports":[{"id":1,"hostIP":"0.0.0.0"}]}`))
	f.Add([]byte("{garbage"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if st, err := ParseState(data, "a"); err == nil && (st.Name != "a" || st.SupervisorPID <= 0) {
			t.Errorf("%q is taken for %+v", data, st)
		}
	})
}

func TestProcessAlive(t *testing.T) {
	self := Identify("test", os.Getpid())
	if !self.Alive() {
		t.Error("this process is not alive")
	}
	reused := self
	reused.Start--
	if reused.Alive() {
		t.Error("another process of the same PID is taken for it")
	}
	if slices.Contains([]bool{(ProcessState{PID: 1 << 30}).Alive(), (ProcessState{}).Alive()}, true) {
		t.Error("no process is alive")
	}
}

// systemd-tmpfiles and others leave a directory alone whose lock (flock(2)) they can't take.
func TestDirectoryLocked(t *testing.T) {
	b := base(t)
	i := create(t, b, "a")
	other, err := os.Open(i.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("lock of a running instance's directory: %v", err)
	}
	if err := i.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("lock of a dead instance's directory: %v", err)
	}
}
