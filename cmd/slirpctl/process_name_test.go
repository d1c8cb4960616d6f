package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestProcessNames: ps, top and pgrep find slirpctl by its name, and ps tells whose supervisor it is.
func TestProcessNames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	pid := strconv.Itoa(l.target())
	st := l.up("--name", "web", "--port-handler", "direct", "-p", "127.0.0.1::80", pid)
	helper := l.children(st)["helper"]
	for _, pid := range []int{st.SupervisorPID, helper} {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			t.Fatal(err)
		}
		if string(name) != "slirpctl\n" {
			t.Errorf("process %d is called %q, want slirpctl", pid, name)
		}
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.SupervisorPID))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(args), "\x00web\x00") {
		t.Errorf("the supervisor's arguments are %q, without its instance's name", args)
	}
}
