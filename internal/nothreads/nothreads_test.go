package nothreads

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain is also the process that the runtime gives up.
func TestMain(m *testing.M) {
	switch os.Getenv("NOTHREADS_TEST") {
	case "alone":
		Alone()
		fallthrough
	case "dies":
		print(dying, " (have 2 already)\n") // as the runtime does, by its own means
		os.Exit(99)
	case "panics":
		panic("as ever")
	}
	os.Exit(m.Run())
}

func TestEnd(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 10000)
	for _, c := range []struct {
		mode   string
		args   []string
		status int
		says   string
	}{
		{"dies", []string{"up", "-d", "4711"}, 1, line},
		{"dies", []string{"list"}, 1, line},
		{"dies", nil, 1, line},
		{"dies", []string{"up", "--", "true"}, 125, line},
		{"dies", []string{"up", "-p", "1:2", "--", long}, 125, line},
		{"dies", []string{"up", "--x", "-"}, 1, line},
		{"dies", []string{"exec", "a__b", "__x"}, 1, line},
		{"dies", []string{"__guest"}, Status, ""},
		{"dies", []string{"__command", "3", "--"}, Status, ""},
		{"alone", []string{"__supervise"}, Status, line},
		{"panics", nil, 2, "panic: as ever\n"},
	} {
		cmd := exec.Command(self, c.args...)
		cmd.Env = []string{"NOTHREADS_TEST=" + c.mode}
		var out bytes.Buffer
		cmd.Stderr = &out
		_ = cmd.Run()
		got := out.String()
		if c.mode == "panics" {
			got = got[:min(len(got), len(c.says))]
		}
		if cmd.ProcessState.ExitCode() != c.status || got != c.says {
			t.Errorf("%s %.60q: exit status %d, want %d: %.300q", c.mode, c.args, cmd.ProcessState.ExitCode(), c.status, got)
		}
	}
}
