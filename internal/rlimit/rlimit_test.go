package rlimit_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/rlimit"
)

// In a package of its own: what a package's own test imports, it waits for.
//
// The limit is the one before the Go runtime raised it.
func TestNofile(t *testing.T) {
	if os.Getenv("RLIMIT_TEST") != "" {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("then %d %d now %d\n", rlimit.Nofile().Cur, rlimit.Nofile().Max, now.Cur)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `ulimit -Sn 300; ulimit -Hn 600; exec "$0" -test.run=TestNofile`, self)
	cmd.Env = append(os.Environ(), "RLIMIT_TEST=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "then 300 600 now 599\n") {
		t.Errorf("%v: %s", err, out)
	}
}
