package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestProcessNames: ps, top and pgrep show the name slirpctl, and ps shows the instance of a supervisor.
func TestProcessNames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	pid := strconv.Itoa(l.target())
	st := l.up("--name", "web", "--port-handler", "direct", "-p", "127.0.0.1::80", pid)
	helper := l.children(st)["helper"]
	for _, pid := range []int{st.SupervisorPID, helper} {
		eventually(t, fmt.Sprintf("process %d is called slirpctl", pid), func() bool { // the process sets its own name
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return err == nil && string(name) == "slirpctl\n"
		})
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.SupervisorPID))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(args), "\x00web\x00") {
		t.Errorf("the supervisor's arguments are %q, without its instance's name", args)
	}
}
