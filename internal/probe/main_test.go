package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

const (
	askCheck = "PROBE_TEST_CHECK" // if set, this binary prints one check's result
	askDir   = "PROBE_TEST_STATE_DIR"
)

func TestMain(m *testing.M) {
	Child()
	if name := os.Getenv(askCheck); name != "" {
		for _, c := range checks() {
			if c.name == name {
				env := NewEnv(os.Getenv(askDir), subnet.Default(), nil)
				_ = json.NewEncoder(os.Stdout).Encode(c.run(context.Background(), env))
				os.Exit(0)
			}
		}
		fmt.Fprintln(os.Stderr, "no check", name)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// ask runs a shell script that makes an environment (with unshare and the like) and then has
// `exec $PROBE`, which runs one check there.
func ask(t *testing.T, check, script string, more ...string) Result {
	t.Helper()
	// Passed as a descriptor: another user could not walk to the path.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Env = append(os.Environ(), askCheck+"="+check, askDir+"=/run/slirpctl", "PROBE=/proc/self/fd/3", "LC_ALL=C",
		"GORACE=atexit_sleep_ms=0") // otherwise a second for each process
	cmd.Env = append(cmd.Env, more...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{self}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	var r Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v in %q\n%s", script, err, stdout.String(), stderr.String())
	}
	if r.Name != check {
		t.Errorf("the check %s calls itself %s", check, r.Name)
	}
	return r
}

// needRoot is for environments that only root can make.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root, to make devices and act as another user")
	}
}

// needUserns is for environments in a user namespace.
func needUserns(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("unshare", "-Urmn", "true").CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("needs unshare and user namespaces: %v: %s", err, out))
	}
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// asNobody is a shell prefix that drops root permanently.
const asNobody = "setpriv --reuid=65534 --regid=65534 --clear-groups "

// asUser is a shell prefix that makes a user namespace whose uid is not 0, keeping all
// capabilities, for this test's user or, as root, for nobody.
func asUser() string {
	prefix := "unshare --user --map-current-user --keep-caps "
	if os.Geteuid() == 0 {
		prefix = asNobody + prefix
	}
	return prefix
}

// dropCaps is a shell prefix that drops all capabilities.
const dropCaps = "setpriv --ambient-caps=-all --inh-caps=-all "
