package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slirpctl/slirpctl/internal/launcher"
)

// The environment of a test process that root started as an ordinary user: the paths of its
// scripts and of the slirpctl under test.
const (
	envScripts = "SLIRPCTL_TEST_SCRIPTS"
	envBinary  = "SLIRPCTL_TEST_BINARY"
)

// TestMain lets the test binary run as the helper programs of the scripts.
func TestMain(m *testing.M) {
	if program := helperPrograms[filepath.Base(os.Args[0])]; program != nil {
		os.Exit(program(os.Args[1:]))
	}
	// The tests may have been started with signals ignored (nohup(1), a shell's background). Child processes
	// must not inherit that: a caught signal has its default action again after execve(2).
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	code := m.Run()
	programs.remove()
	os.Exit(code)
}

// programs is the directory that comes first on the scripts' PATH.
var programs scriptPrograms

type scriptPrograms struct {
	once sync.Once
	dir  string
	err  error
}

// path returns the directory with a static slirpctl and the helpers. It is made once. slirpctl
// can't be part of the test binary, because it executes itself in other roles.
func (p *scriptPrograms) path(t *testing.T) string {
	t.Helper()
	p.once.Do(func() { p.err = p.make() })
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.dir
}

func (p *scriptPrograms) make() (err error) {
	if p.dir, err = os.MkdirTemp("", "bin"); err != nil {
		return err
	}
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return err
	}
	slirpctl := filepath.Join(p.dir, "slirpctl")
	if built := os.Getenv(envBinary); built != "" {
		err = os.Symlink(built, slirpctl)
	} else {
		build := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-X main.version=v0.0.0-test -E github.com/slirpctl/slirpctl/internal/rlimit.entry", "-o", slirpctl, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = build.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// A copy that every user may execute: other users' programs run helpers too.
	helper := filepath.Join(p.dir, ".helpers")
	if err := copyFile(self, helper, 0o755); err != nil {
		return err
	}
	for name := range helperPrograms {
		if err := os.Symlink(helper, filepath.Join(p.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (p *scriptPrograms) remove() {
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := writeProgram(to, data); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// writeProgram writes a file that can be executed at once.
func writeProgram(path string, data []byte) error {
	return noForks(func() error { return os.WriteFile(path, data, 0o755) })
}

// lacking ends a test if the machine lacks something. In continuous integration it fails the test.
func lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// scriptsFor sorts the scripts of dir by their first line, which is "# for root", "# for user" or
// "# for anyone".
func scriptsFor(t *testing.T, dir string) (run, others []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	me := "# for user"
	if os.Geteuid() == 0 {
		me = "# for root"
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		switch first, _, _ := strings.Cut(string(data), "\n"); {
		case first == "# for anyone", first == me:
			run = append(run, file)
		case first == "# for root", first == "# for user":
			others = append(others, file)
		default:
			t.Errorf("%s: the first line is %q; it says who runs the script", file, first)
		}
	}
	return run, others
}

// TestScripts runs the scripts as the current user.
func TestScripts(t *testing.T) {
	dir, child := os.LookupEnv(envScripts)
	if !child {
		dir = filepath.Join("testdata", "script")
	}
	run, others := scriptsFor(t, dir)
	bin := programs.path(t)
	if !child && os.Geteuid() != 0 {
		for _, file := range others {
			t.Run(filepath.Base(file), func(t *testing.T) { lacking(t, "for root only") })
		}
	}
	testscript.Run(t, testscript.Params{
		Files:               run,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setupScript(env, bin) },
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			}
			// slirp:OPTION checks the slirp4netns that the scripts use, for make test-versions.
			if option, ok := strings.CutPrefix(cond, "slirp:"); ok {
				bin, err := launcher.Detect(t.Context(), "")
				return bin.Features.Has(launcher.Feature(option)), err
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": cmdStatus, "target": cmdTarget, "endtarget": cmdEndTarget, "need": cmdNeed,
			"leftovers": cmdLeftovers, "jsonenv": cmdJSONEnv,
		},
	})
}

// TestScriptsAsUser runs the scripts again, as the ordinary user that .ci/testenv provides.
func TestScriptsAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // covered by TestScripts
	}
	name := os.Getenv("SLIRPCTL_TEST_USER")
	if name == "" {
		lacking(t, "there is no SLIRPCTL_TEST_USER to run as: use make test, or .ci/testenv go test")
	}
	scripts := "^TestScripts$"
	if _, one, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		scripts += "/" + one
	}
	cmd := asUser(t, name, "-test.run="+scripts)
	cmd.Args = append(cmd.Args, "-test.v="+strconv.FormatBool(testing.Verbose()), "-test.parallel=4")
	if deadline, ok := t.Deadline(); ok {
		cmd.Args = append(cmd.Args, "-test.timeout="+max(time.Until(deadline)-5*time.Second, time.Second).String())
	}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("as %s:\n%s", name, out)
	}
	if err != nil {
		t.Fatalf("the scripts as %s: %v", name, err)
	}
	if bytes.Contains(out, []byte("no tests to run")) {
		t.Fatalf("nothing ran as %s", name)
	}
}

// asUser returns the command that runs this test binary again, as the named user. The user gets a
// copy of all files, because go test's may be in a directory that the user can't enter.
func asUser(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	scripts, home, test := filepath.Join(dir, "script"), filepath.Join(dir, "home"), filepath.Join(dir, "cmd.test")
	for _, err := range []error{
		os.Chmod(dir, 0o755), copyFile(self, test, 0o755),
		os.CopyFS(scripts, os.DirFS(filepath.Join("testdata", "script"))), os.Chmod(scripts, 0o755),
		os.Mkdir(home, 0o700), os.Chown(home, uid, gid),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(test, args...)
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "USER=" + name, "LOGNAME=" + name,
		"TMPDIR=" + os.TempDir(), "CI=" + os.Getenv("CI"),
		envScripts + "=" + scripts, envBinary + "=" + filepath.Join(programs.path(t), "slirpctl"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd
}

// scriptState is the harness's state for one run of a script.
type scriptState struct {
	t       testing.TB
	dir     string // short, because of the paths of sockets; contains all files of the script
	token   string // in the environment of every process of the script
	targets map[string]*exec.Cmd
}

type stateKey struct{}

func stateOf(ts *testscript.TestScript) *scriptState { return ts.Value(stateKey{}).(*scriptState) }

// setupScript gives a script a separate environment: no other script's `down --all` affects it.
func setupScript(env *testscript.Env, bin string) error {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		return err
	}
	t := env.T().(testing.TB)
	st := &scriptState{t: t, dir: dir, token: "SLIRPCTL_TEST_SCRIPT=" + dir, targets: map[string]*exec.Cmd{}}
	env.Defer(func() {
		if t.Failed() {
			st.giveUp(t, bin)
		} else if left := st.leftovers(); len(left) > 0 {
			t.Errorf("left behind at the end:\n%s", strings.Join(left, "\n"))
			st.giveUp(t, bin)
		}
		os.RemoveAll(dir)
	})
	for _, sub := range []string{"state", "run", "home", "config"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	env.Values[stateKey{}] = st
	env.Vars = append(
		env.Vars, st.token,
		"S="+dir, "STATE="+dir+"/state", "SLIRPCTL_STATE_DIR="+dir+"/state",
		"XDG_RUNTIME_DIR="+dir+"/run", "XDG_CONFIG_HOME="+dir+"/config", "HOME="+dir+"/home", "TMPDIR="+dir,
		"PATH="+bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "BIN="+bin,
		"UID="+strconv.Itoa(os.Geteuid()), "TERM=dumb", "LC_ALL=C",
		"SLIRPCTL_TIMEOUT="+patience.String(), // scripts run concurrently, also on slow machines
	)
	return nil
}
