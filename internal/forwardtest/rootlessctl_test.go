package forwardtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const rootlessKit = "github.com/rootless-containers/rootlesskit/v3"

// rootlessTools adds rootlesskit and rootlessctl, of the version in go.mod, to the other
// programs. They are built once for each machine.
func rootlessTools(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(bin(t, "rootlesskit")); err == nil {
		return
	}
	version := runs(t, "go", "list", "-m", "-f", "{{.Version}}", rootlessKit)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "slirpctl-tests", "rootlesskit-"+version)
	if _, err := os.Stat(filepath.Join(dir, "rootlessctl")); err != nil {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		tmp, err := os.MkdirTemp(filepath.Dir(dir), "building")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(tmp)
		install := exec.Command("go", "install", "-buildvcs=false", rootlessKit+"/cmd/rootlesskit@"+version, rootlessKit+"/cmd/rootlessctl@"+version)
		install.Env = append(os.Environ(), "GOBIN="+tmp, "CGO_ENABLED=0")
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := os.Rename(tmp, dir); err != nil && !os.IsExist(err) { // another process was quicker
			t.Fatal(err)
		}
	}
	for _, name := range []string{"rootlesskit", "rootlessctl"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(bin(t, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootlessctl: RootlessKit's client gets the same answers from slirpctl as from RootlessKit.
// It runs as an ordinary user, because RootlessKit does.
func TestRootlessctl(t *testing.T) {
	rootlessTools(t)
	asUser(t, func(t *testing.T) {
		first := freeRange(t, 20)
		for _, c := range []struct{ handler, driver, transparent string }{
			{"rootlesskit", "builtin", "false"},
			{"rootlesskit", "builtin", "true"},
			{"direct", "builtin", "false"},
			{"direct", "builtin", "true"},
			{"slirp4netns", "slirp4netns", "false"},
		} {
			t.Run(c.handler+" "+c.transparent, func(t *testing.T) {
				flag := "--source-ip-transparent=" + c.transparent
				want := rootlesskitSession(t, c.driver, flag, first)
				w := newWorld(t)
				w.must("up", "-d", "--name", "rk", "--port-handler", c.handler, flag, "--", bin(t, "idle"))
				got := session(t, w.state()+"/rk/control.sock", c.driver, first)
				compareSessions(t, c.handler, got, want)
			})
		}
	})
}

// exchanged is one command line of rootlessctl and its output.
type exchanged struct{ command, answer string }

// session talks to a RootlessKit API.
func session(t *testing.T, socket, driver string, first int) []exchanged {
	t.Helper()
	port := func(i int) string { return fmt.Sprint(first + i) }
	commands := [][]string{
		{"list-ports"},
		{"list-ports", "--json"},
		{"add-ports", "0.0.0.0:" + port(0) + ":80/tcp"},
		{"add-ports", "127.0.0.1:" + port(1) + ":81/udp"},
		{"add-ports", ":" + port(2) + ":82/tcp"},
		{"add-ports", "127.0.0.1:" + port(3) + ":10.0.2.100:83/tcp"},
		{"add-ports", "--json", "127.0.0.1:" + port(4) + ":84/tcp", "127.0.0.1:" + port(5) + ":85/tcp4"},
		{"add-ports", "127.0.0.1:" + port(0) + ":80/tcp"},
		{"add-ports", "0.0.0.0:" + port(0) + ":80/tcp"},
		{"add-ports", "0.0.0.0:" + port(6) + ":80/sctp"},
		{"add-ports", "0.0.0.0:0:80/tcp"},
		{"add-ports", "0.0.0.0:70000:80/tcp"},
		{"add-ports", "192.0.2.1:" + port(6) + ":80/tcp"},
	}
	if driver == "builtin" {
		commands = append(commands, [][]string{
			{"add-ports", "[::1]:" + port(7) + ":87/tcp6"},
			{"add-ports", "127.0.0.1:" + port(8) + ":127.0.0.1:88/tcp"},
		}...)
	}
	commands = append(commands, [][]string{
		{"list-ports"},
		{"list-ports", "--json"},
		{"remove-ports", "2"},
		{"remove-ports", "2"},
		{"remove-ports", "1", "3", "99"},
		{"remove-ports", "x"},
		{"list-ports"},
		{"info"},
		{"info", "--json"},
	}...)
	var out []exchanged
	for _, args := range commands {
		text, err := exec.Command(bin(t, "rootlessctl"), append([]string{"--socket", socket}, args...)...).CombinedOutput()
		out = append(out, exchanged{strings.Join(args, " "), fmt.Sprintf("%sfailed: %t", text, err != nil)})
	}
	return out
}

// rootlesskitSession runs the session with rootlesskit itself.
func rootlesskitSession(t *testing.T, driver, flag string, first int) []exchanged {
	t.Helper()
	dir := tempDir(t)
	cmd := exec.Command(bin(t, "rootlesskit"), "--state-dir="+dir+"/state", "--net=slirp4netns", "--port-driver="+driver,
		"--disable-host-loopback", flag, bin(t, "idle"))
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	socket := dir + "/state/api.sock"
	eventually(t, func() error {
		out, err := exec.Command(bin(t, "rootlessctl"), "--socket", socket, "info").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s\n%s", err, out, log.String())
		}
		return nil
	})
	return session(t, socket, driver, first)
}

var different = regexp.MustCompile(`(?m)(stateDir": "|State Directory: |childPID": |Child PID: ).*`)

func compareSessions(t *testing.T, handler string, got, want []exchanged) {
	t.Helper()
	for i, w := range want {
		g := normal(got[i].answer)
		wanted := normal(w.answer)
		if handler == "direct" {
			wanted = strings.NewReplacer("Driver: builtin", "Driver: direct", `"driver": "builtin"`, `"driver": "direct"`, `"nft"`, `"rules"`).Replace(wanted)
		}
		same := g == wanted
		if first, rest, _ := strings.Cut(wanted, "\n"); !same && strings.HasPrefix(first, "error: ") {
			// slirpctl may add to RootlessKit's message. Through slirp4netns RootlessKit says almost
			// nothing.
			same = strings.HasPrefix(g, first) && strings.HasSuffix(g, "\n"+rest) ||
				handler == "slirp4netns" && strings.HasPrefix(g, "error: ") && strings.HasSuffix(g, "\n"+rest)
		} else if !same && handler == "slirp4netns" && strings.Contains(wanted, "\nerror: ") {
			before, _, _ := strings.Cut(wanted, "\nerror: ")
			same = strings.HasPrefix(g, before+"\nerror: ") && strings.HasSuffix(g, "failed: true")
		}
		if !same {
			t.Errorf("rootlessctl %s\nslirpctl:\n%s\nRootlessKit:\n%s", w.command, g, wanted)
		}
	}
}

// normal removes expected differences, and sorts lists: RootlessKit's have no order.
func normal(answer string) string {
	answer = different.ReplaceAllString(answer, "$1…")
	lines := strings.Split(answer, "\n")
	if strings.HasPrefix(answer, "ID ") || strings.HasPrefix(answer, `{"id"`) {
		slices.Sort(lines)
	}
	return strings.Join(lines, "\n")
}
