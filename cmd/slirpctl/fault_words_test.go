package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// hostileWords makes bash print text that controls terminals: 7 and 8 bit control sequences, a carriage
// return and a line that imitates slirpctl's.
const hostileWords = `printf 'evil \033]0;title\007\033[31m \xc2\x9b31m \x9b31m \xe2\x80\xae \x7f\rslirpctl: error: forged\n'`

// harmless fails the test if text could control a terminal. Newlines and tabs are allowed.
func harmless(t *testing.T, where, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is no UTF-8: %q", where, text)
	}
	for _, r := range text {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e {
			t.Errorf("%s: %q reaches the terminal: %q", where, r, text)
			return
		}
	}
	if strings.Contains(text, "\nslirpctl: error: forged") {
		t.Errorf("%s: a forged line: %q", where, text)
	}
}

// TestAttackWords: slirp4netns's output, of any kind, is harmless wherever slirpctl prints it: the
// log file, errors and warnings in both formats, states, and probe.
func TestAttackWords(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	broken := filepath.Join(filepath.Dir(l.base), "broken")
	fake := l.fakeSlirp(hostileWords + ` >&2
printf 'evil without end \033[31m' >&2
[ -e $base/broken ] && exit 1
exec "$real" "$@"`)
	pid := strconv.Itoa(l.target())
	st := l.up("--name", "x", "--slirp4netns-path", fake, pid)
	must(t, os.WriteFile(broken, nil, 0o600))
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "it was given up", func() bool { return l.state("x").State == instance.Dead })
	file := l.log("x")
	if strings.Count(file, "evil ") < 12 {
		t.Errorf("its words are not in the log: %q", file)
	}
	harmless(t, "the log file", file)
	for _, args := range [][]string{{"logs", "x"}, {"list"}, {"list", "--json"}, {"list", "--format", "{{.Error}}"}, {"list", "--format", "{{json .}}"}} {
		out := l.must(args...)
		harmless(t, strings.Join(args, " "), out)
		if !strings.Contains(out, "evil") && len(args) != 1 {
			t.Errorf("%q: not its words: %q", args, out)
		}
	}
	l.must("down", "x")
	for _, args := range [][]string{
		{"up", pid},
		{"up", "-d", pid},
		{"up", "-d", "--json", pid},
		{"up", "--", "true"},
		{"up", "--log-format", "json", pid},
		{"up", "-d", "--log-level", "debug", "--log-format", "json", pid},
		{"up", "--log-level", "debug", pid},
	} {
		r := l.run(append([]string{args[0], "--slirp4netns-path", fake}, args[1:]...)...)
		if r.code == 0 || !strings.Contains(r.err, "evil") {
			t.Errorf("%q: exit status %d: %q", args, r.code, r.err)
		}
		harmless(t, strings.Join(args, " "), r.out+r.err)
	}
	// What it prints about itself.
	must(t, os.Remove(broken))
	evil := filepath.Join(filepath.Dir(l.base), "evil")
	text := "#!/bin/bash\n" + `case $1 in --version) printf 'slirp4netns version 1.2.0\033[31m\xc2\x9b31m\r\ncommit: evil\033[31m\xc2\x9b31m\nlibslirp: 4.7.0\x9b31m\n';; --help) slirp4netns --help; ` +
		hostileWords + `;; *) exec slirp4netns "$@";; esac`
	must(t, noForks(func() error { return os.WriteFile(evil, []byte(text), 0o755) }))
	st = l.up("--name", "y", "--slirp4netns-path", evil, pid)
	for _, args := range [][]string{
		{"list", "--json"},
		{"list", "--format", "{{.Slirp.Version}}"},
		{"version", "--slirp4netns-path", evil},
		{"version"},
		{"probe", "--slirp4netns-path", evil},
		{"probe", "--json", "--slirp4netns-path", evil},
	} {
		r := l.run(args...)
		harmless(t, strings.Join(args, " "), r.out+r.err)
	}
	l.must("down", "y")
}

// TestAttackLogFlood: a slirp4netns that writes without end neither fills the disk nor is blocked, and
// slirpctl's own lines remain, and so does the output of COMMAND.
func TestAttackLogFlood(t *testing.T) {
	for name, args := range map[string][]string{"pid": nil, "command": {"--", "bash", "-c", "echo command speaks; sleep 1000"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			// It writes as fast as it can until the other side has read enough.
			fake := l.fakeSlirp(`line=$(head -c 60000 /dev/zero | tr '\0' 'x')
until [ -e $base/enough ]; do echo "$line"; done >&2 2>/dev/null &
exec "$real" "$@"`)
			if args == nil {
				args = []string{strconv.Itoa(l.target())}
			}
			st := l.up(append([]string{"--name", "x", "-p", "127.0.0.1::80", "--slirp4netns-path", fake}, args...)...)
			defer os.WriteFile(filepath.Join(filepath.Dir(l.base), "enough"), nil, 0o600)
			eventually(t, "the log is full", func() bool { return strings.Contains(l.log("x"), "older lines were removed") })
			if name == "pid" {
				echoes(t, st.Ports[0].HostPort)
			} else if r := l.run("logs", "x"); r.out != "command speaks\n" {
				t.Errorf("COMMAND's words are gone: %q", r.out)
			}
			_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
			eventually(t, "the log has what slirpctl says", func() bool { return strings.Contains(l.log("x"), "slirp4netns runs again") })
			if n := len(l.log("x")); n > instance.MaxLog+100_000 {
				t.Errorf("the log has %d bytes", n)
			}
			l.must("down", "x")
		})
	}
}

// TestTalksToStoppedSupervisor: while the supervisor is stopped, slirp4netns can write its output and
// continues.
func TestTalksToStoppedSupervisor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fake := l.fakeSlirp(`(until [ -e $base/talk ]; do sleep 0.01; done; for i in {1..9}; do head -c 100000 /dev/zero; done; touch $base/said) >&2 2>/dev/null &
exec "$real" "$@"`)
	st := l.up("--name", "x", "--port-handler", "slirp4netns", "-p", "127.0.0.1::80", "--slirp4netns-path", fake, strconv.Itoa(l.target()))
	must(t, syscall.Kill(st.SupervisorPID, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(st.SupervisorPID, syscall.SIGCONT) }()
	dir := filepath.Dir(l.base)
	must(t, os.WriteFile(dir+"/talk", nil, 0o600))
	eventually(t, "all is said", func() bool { return exists(dir + "/said") })
	echoes(t, st.Ports[0].HostPort)
	must(t, syscall.Kill(st.SupervisorPID, syscall.SIGCONT))
	l.must("down", "x")
	l.noneLeft()
}
