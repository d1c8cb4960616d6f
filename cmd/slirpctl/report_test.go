package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// TestReportFails: if an instance's report can't be delivered, `up` ends the instance before it exits, detached
// or in the foreground, and nothing is left of COMMAND.
func TestReportFails(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		out  func(t *testing.T) *os.File // stdout, and descriptor 3
		code int
		says string
	}{
		{"template", []string{"--format", "{{index .Ports 3}}"}, nil, exitUsage, "index out of range"},
		{"template of what isn't there", []string{"--format", "{{.ipv6.guest}}"}, nil, exitUsage, "nil pointer"},
		{"full disk", []string{"--format", "table"}, openFull, exitFailure, "no space left"},
		{"full disk, JSON", []string{"--json"}, openFull, exitFailure, "no space left"},
		{"reader gone", []string{"--json"}, openBroken, exitFailure, "broken pipe"},
		{"ready-fd full", []string{"--ready-fd", "3"}, openFull, exitFailure, "--ready-fd"},
		{"ready-fd broken", []string{"--ready-fd", "3"}, openBroken, exitFailure, "--ready-fd"},
		{"ready-fd read-only", []string{"--ready-fd", "3"}, openReadOnly, exitUsage, "not open for writing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			pid := strconv.Itoa(l.target())
			for _, target := range [][]string{{"-d", pid}, {pid}, {"-d", "--", "sleep", "1000"}, {"--", "sleep", "1000"}} {
				cmd := l.command(append(append([]string{"up", "--name", "x"}, c.args...), target...)...)
				if c.out != nil {
					f := c.out(t)
					if slices.Contains(c.args, "--ready-fd") {
						cmd.ExtraFiles = []*os.File{f}
					} else {
						cmd.Stdout = f
					}
				}
				r := l.finish(cmd)
				want := c.code
				if target[0] == "--" {
					want = 125
				}
				if r.code != want || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") > 2 {
					t.Errorf("%q: exit status %d, want %d with %q: %s", target, r.code, want, c.says, r.err)
				}
				// At once, not eventually.
				if sts := l.list(); len(sts) > 0 {
					t.Errorf("%q: still there: %+v", target, sts)
				}
				l.noneLeft()
			}
		})
	}
}

// TestCallerStuck: an `up -d` that can't write its output delays neither `down` nor, once it is killed, the
// instance.
func TestCallerStuck(t *testing.T) {
	l := newLab(t)
	stuck := func() (*exec.Cmd, func()) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		cmd := l.command("up", "-d", "--json", "--name", "x", "--", "sleep", "1000")
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		eventually(t, "it is ready", func() bool { return len(l.list()) == 1 })
		return cmd, func() { r.Close() }
	}
	cmd, drain := stuck()
	l.must("down", "x")
	drain()
	_ = cmd.Wait()
	if cmd.ProcessState.Success() {
		t.Error("up says that all is well")
	}
	l.noneLeft()

	cmd, drain = stuck()
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	drain()
	l.noneLeft()
}

func openFull(t *testing.T) *os.File { return openFile(t, "/dev/full", os.O_WRONLY) }

func openReadOnly(t *testing.T) *os.File { return openFile(t, "/dev/null", os.O_RDONLY) }

func openFile(t *testing.T, path string, flag int) *os.File {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// openBroken returns a pipe without a reader.
func openBroken(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}

// TestForeignProcess: another user's process can't be a target; the error names the user and a remedy.
func TestForeignProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, "this test needs root, and an ordinary user")
	}
	u := newUserLab(t)
	others := newLab(t).target()
	for _, args := range [][]string{{strconv.Itoa(others)}, {"-d", strconv.Itoa(others)}, {"--netns", fmt.Sprintf("/proc/%d/ns/net", others)}} {
		r := u.run(append([]string{"up"}, args...)...)
		if want := fmt.Sprintf("slirpctl: error: process %d belongs to root (uid 0)\nslirpctl: hint: run slirpctl as root: sudo slirpctl up %[1]d\n", others); r.code != exitFailure || r.err != want {
			t.Errorf("%q: exit status %d: %q", args, r.code, r.err)
		}
	}
	u.noneLeft()
}

// TestLogFormatAndLevel: --log-format and --log-level apply to the instance's log.
func TestLogFormatAndLevel(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		args        []string
		debug, info bool
	}{
		{nil, false, true},
		{[]string{"--log-level", "debug"}, true, true},
		{[]string{"--log-level", "error"}, false, false},
	} {
		for _, format := range []string{"text", "json"} {
			st := l.up(append(c.args, "--log-format", format, "--name", "x", "--", "sleep", "1000")...)
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "it is healed", func() bool { now := l.state("x"); return now.Restarts == 1 && now.State == instance.Running })
			log := l.log("x")
			if strings.Contains(log, "instance x: ") != c.debug || strings.Contains(log, "start: slirp4netns ") != c.info {
				t.Errorf("%q %s: %s", c.args, format, log)
			}
			for line := range strings.Lines(log) {
				var entry struct{ Level, Msg, Time string }
				err := json.Unmarshal([]byte(line), &entry)
				if (err == nil) != (format == "json") || err == nil && (entry.Level == "" || entry.Msg == "" || entry.Time == "") {
					t.Errorf("%q %s: %q", c.args, format, line)
				}
			}
			l.must("down", "x")
		}
	}
}
