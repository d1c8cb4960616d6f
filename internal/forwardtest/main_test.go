// Package forwardtest tests port forwarding from end to end: the slirpctl binary, the real
// slirp4netns, real traffic. It is separate from the packages it tests because one suite applies
// to all port handlers, as root and as an ordinary user, and it needs its own programs inside the
// namespaces.
package forwardtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/testsuite"
)

const (
	// envBin names a directory of programs that another test process has built.
	envBin = "FORWARDTEST_BIN"
	// envInside says that this process runs one test, in a network namespace made for it.
	envInside = "FORWARDTEST_INSIDE"
)

// testTimeout bounds every wait; it is not a measurement.
const testTimeout = time.Minute

// TestMain lets a copy of the test binary run as the programs inside the namespaces.
func TestMain(m *testing.M) {
	if os.Getenv(envRootlessKit) != "" {
		testsuite.Main(m, func() port.ChildDriver { return rootlessChild{} })
		os.Exit(0)
	}
	switch filepath.Base(os.Args[0]) {
	case "guest":
		os.Exit(guestMain())
	case "ask":
		os.Exit(askMain(os.Args[1:]))
	case "idle":
		fmt.Println("ready")
		time.Sleep(time.Hour)
		os.Exit(1)
	}
	code := m.Run()
	if programs.made {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

var programs struct {
	once sync.Once
	made bool
	dir  string
	err  error
}

// bin returns the path of one of the programs: slirpctl, guest, ask, idle.
func bin(t testing.TB, name string) string {
	t.Helper()
	programs.once.Do(func() { programs.err = makePrograms() })
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return filepath.Join(programs.dir, name)
}

func makePrograms() (err error) {
	if programs.dir = os.Getenv(envBin); programs.dir != "" {
		return nil
	}
	if programs.dir, err = os.MkdirTemp("", "bin"); err != nil {
		return err
	}
	programs.made = true
	if err := os.Chmod(programs.dir, 0o755); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(programs.dir, "slirpctl"), "github.com/slirpctl/slirpctl/cmd/slirpctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(programs.dir, "test"), data, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"guest", "ask", "idle"} {
		if err := os.Symlink("test", filepath.Join(programs.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// lacking ends a test if the machine lacks something. In continuous integration it fails the test.
func lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Addresses of the network namespace in which root runs tests, besides those of lo.
const lan, lan6 = "198.51.100.1", "2001:db8:1::1"

// needLAN ends a test where those addresses are missing: an ordinary user who runs tests can't add them.
func needLAN(t testing.TB) {
	t.Helper()
	if os.Getenv(envInside) == "" {
		lacking(t, "this test needs addresses on this host that only root can add")
	}
}

// asEverybody runs f as the current user and, if that is root, as the ordinary user of
// .ci/testenv as well.
func asEverybody(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if apart() {
		f(t)
		return
	}
	t.Run("root", func(t *testing.T) { again(t, 0, 0) })
	asUser(t, f)
}

// asUser runs f as an ordinary user.
func asUser(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if apart() {
		f(t)
		return
	}
	t.Run("user", func(t *testing.T) {
		name := os.Getenv("SLIRPCTL_TEST_USER")
		if name == "" {
			lacking(t, "there is no SLIRPCTL_TEST_USER to run as: use make test, or .ci/testenv go test")
		}
		u, err := user.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		again(t, uid, gid)
	})
}

// asCaller runs f as the current user.
func asCaller(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if apart() {
		f(t)
		return
	}
	again(t, 0, 0)
}

// apart reports whether this process may run a test itself. Root runs tests in a network
// namespace of their own, where no other process uses ports; other users can't.
func apart() bool { return os.Geteuid() != 0 || os.Getenv(envInside) != "" }

// again runs the calling test once more: in another process, in a new network namespace, with
// this user and group.
func again(t *testing.T, uid, gid int) {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	home := tempDir(t)
	if err := os.Chown(home, uid, gid); err != nil {
		t.Fatal(err)
	}
	host := idle(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	for _, args := range []string{
		"link set lo up",
		"link add lan0 type veth peer name lan1", "addr add " + lan + "/24 dev lan0", "-6 addr add " + lan6 + "/64 dev lan0 nodad",
		"link set lan0 up", "link set lan1 up",
	} {
		inNetns(t, host, append([]string{"ip"}, strings.Fields(args)...)...)
	}
	cmd := exec.Command("nsenter", "--net=/proc/"+strconv.Itoa(host)+"/ns/net", "--setuid="+strconv.Itoa(uid), "--setgid="+strconv.Itoa(gid),
		bin(t, "test"), "-test.run=^"+test+"$", "-test.v="+strconv.FormatBool(testing.Verbose()))
	if deadline, ok := t.Deadline(); ok {
		cmd.Args = append(cmd.Args, "-test.timeout="+max(time.Until(deadline)-5*time.Second, time.Second).String())
	}
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + home, "TMPDIR=" + os.TempDir(), "CI=" + os.Getenv("CI"),
		envBin + "=" + programs.dir, envInside + "=1",
	}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("%s", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("no tests to run")) {
		t.Fatal("nothing ran")
	}
}

// tempDir makes a directory with a path short enough for sockets.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// world is an environment in which slirpctl sees no other instances.
type world struct {
	t   testing.TB
	dir string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t, tempDir(t)}
	t.Cleanup(func() {
		w.run("down", "--all")
		des, err := os.ReadDir(w.state())
		if err != nil {
			t.Error(err)
		}
		for _, de := range des {
			if n := de.Name(); n != ".lock" && n != ".cache" {
				t.Errorf("left behind: %s", de.Name())
			}
		}
	})
	return w
}

func (w *world) state() string { return filepath.Join(w.dir, "state") }

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin(w.t, "slirpctl"), append([]string{"--state-dir", w.state()}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "XDG_CONFIG_HOME=" + w.dir, "TMPDIR=" + w.dir, "SLIRPCTL_TIMEOUT=" + testTimeout.String()}
	return cmd
}

type result struct {
	code     int
	out, err string
}

func (w *world) run(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*testTimeout)
	defer cancel()
	cmd := w.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs a command that has to succeed, and returns its output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	if r.code != 0 {
		w.t.Fatalf("slirpctl %s: exit status %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// refused runs a command that has to fail, with this status and message.
func (w *world) refused(code int, words string, args ...string) {
	w.t.Helper()
	r := w.run(args...)
	if r.code != code || !strings.Contains(r.err, words) {
		w.t.Errorf("slirpctl %s: exit status %d, want %d, and stderr with %q:\n%s", strings.Join(args, " "), r.code, code, words, r.err)
	}
}

// row is one forward as slirpctl prints it.
type row struct {
	ID        int    `json:"id"`
	Proto     string `json:"proto"`
	HostIP    string `json:"hostIP"`
	HostPort  int    `json:"hostPort"`
	GuestIP   string `json:"guestIP"`
	GuestPort int    `json:"guestPort"`
}

func (w *world) rows(args ...string) []row {
	w.t.Helper()
	var rows []row
	text := w.must(append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	return rows
}

func (w *world) add(name string, specs ...string) []row {
	w.t.Helper()
	return w.rows(append([]string{"forward", "add", name}, specs...)...)
}

func (w *world) list(name string) []row {
	w.t.Helper()
	return w.rows("forward", "list", name)
}

// unmarshal parses JSON; of a list, the first element.
func unmarshal(t testing.TB, text string, to any) {
	t.Helper()
	text = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "["), "]")
	if err := json.Unmarshal([]byte(text), to); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// eventually waits until f succeeds.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
