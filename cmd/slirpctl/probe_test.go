package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// The checks start this binary again; it must not run the tests then.
func init() { probe.Child() }

var updateProbe = flag.Bool("update-probe", false, "rewrite the golden files of probe")

// probeTo runs `slirpctl probe` with its standard output going to w.
func probeTo(t *testing.T, w io.Writer, args ...string) error {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") // short, so that there is nothing to say about it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := newProbeCmd(&app{cfg: options.Merged{Options: options.Options{CIDR: subnet.Default()}, General: options.General{StateDir: dir}}})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(w)
	cmd.SetErr(io.Discard)
	return cmd.ExecuteContext(t.Context())
}

func runProbeCmd(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	err = probeTo(t, &out, args...)
	return out.String(), err
}

const helpTexts = "../../internal/launcher/testdata/help"

// fakeSlirp writes a program named slirp4netns that does what the shell script says.
func fakeSlirp(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slirp4netns")
	if err := writeProgram(path, []byte("#!/bin/sh\n"+script+"\n")); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeVersion is a slirp4netns that prints one version's texts.
func fakeVersion(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(helpTexts)
	if err != nil {
		t.Fatal(err)
	}
	return fakeSlirp(t, fmt.Sprintf(`exec cat "%s/%s.${1#--}.txt"`, dir, name))
}

// binaryPart removes the host's lines and the path's beginning.
func binaryPart(t *testing.T, report, path string) string {
	t.Helper()
	_, report, _ = strings.Cut(report, "\n") // the verdict
	part, _, ok := strings.Cut(report, "proc\t")
	if !ok {
		t.Fatalf("no host section in\n%s", report)
	}
	return strings.ReplaceAll(part, path, "/usr/bin/slirp4netns")
}

func TestProbeGolden(t *testing.T) {
	helps, err := filepath.Glob(helpTexts + "/*.help.txt")
	if err != nil || len(helps) < 11 {
		t.Fatalf("have %d help texts, %v", len(helps), err)
	}
	for _, help := range helps {
		name := strings.TrimSuffix(filepath.Base(help), ".help.txt")
		t.Run(name, func(t *testing.T) {
			path := fakeVersion(t, name)
			out, err := runProbeCmd(t, "-v", "--slirp4netns-path", path)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "testdata/probe/"+name+".golden", binaryPart(t, out, path))
		})
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *updateProbe {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

// terminalFixture is a report with every kind of entry.
func terminalFixture() probe.Report {
	b := launcher.Binary{
		Path: "/usr/bin/slirp4netns", Version: launcher.Version{Version: "1.0.0", Commit: "a3be729", Libslirp: "4.7.0"},
		Features: launcher.ParseFeatures("--cidr=CIDR x\n--mtu=MTU x\n"),
	}
	return probe.Report{
		Slirp4netns: probe.NewBinary(b, nil),
		Host: []probe.Result{
			{Name: "user-namespaces", Status: probe.OK, Reason: "one was made"},
			{Name: "tun-device", Status: probe.Failed, Reason: "missing: there is no /dev/net/tun", Remedy: "sudo modprobe tun"},
			{Name: "tcp-rmem", Status: probe.Warning, Reason: "large"},
			{Name: "seccomp", Status: probe.Unknown, Reason: "no answer"},
		},
		SelfTest: []probe.Step{
			{Name: "gateway-up", Status: probe.OK, Milliseconds: 12.34, Reason: "a namespace has a network"},
			{Name: "rootlesskit-ipv6-tcp", Status: probe.Failed, Milliseconds: 2000.5, Reason: "no answer in time", Remedy: "look"},
			{Name: "direct-up", Status: probe.Unknown, Reason: "not tried: no namespace"},
		},
		Summary: "not ready: tun-device: missing: there is no /dev/net/tun",
	}
}

func TestProbeTextGolden(t *testing.T) {
	bad := terminalFixture()
	bad.SelfTest = nil
	bad.Slirp4netns = probe.NewBinary(launcher.Binary{Path: "slirp4netns"}, errors.New("slirp4netns is not on PATH"))
	fine := terminalFixture()
	fine.Host, fine.SelfTest, fine.Ready, fine.Summary = fine.Host[:1], nil, true, "ready for rootless use"
	for _, c := range []struct {
		name                      string
		r                         probe.Report
		verbose, terminal, colour bool
		width                     int
	}{
		{"terminal", terminalFixture(), true, true, false, 0},
		{"colour", terminalFixture(), true, true, true, 0},
		{"plain", terminalFixture(), true, false, false, 0},
		{"short", terminalFixture(), false, false, false, 0},
		{"short-colour", terminalFixture(), false, true, true, 0},
		{"narrow", terminalFixture(), true, true, false, 50},
		{"fine", fine, false, true, false, 0},
		{"no-binary", bad, false, true, false, 0},
	} {
		compareGolden(t, "testdata/probe/"+c.name+".golden", probeText(c.r, c.verbose, c.terminal, c.colour, c.width))
	}
}

// TestProbeNarrow: whatever a report says, no line is wider than the terminal, nothing is lost, and a broken command is
// still one for a shell.
func TestProbeNarrow(t *testing.T) {
	r := terminalFixture()
	r.Host = append(r.Host, probe.Result{
		Name: "x", Status: probe.Failed, Reason: strings.Repeat("words of a reason ", 20) + strings.Repeat("y", 300),
		Remedy: "echo a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9 10 11 12 13",
	})
	for _, verbose := range []bool{false, true} {
		for width := 40; width < 200; width++ {
			text := probeText(r, verbose, true, false, width)
			for line := range strings.Lines(text) {
				if n := utf8.RuneCountInString(line) - 1; n > width {
					t.Fatalf("%d columns on a terminal of %d: %q", n, width, line)
				}
			}
			if strings.Count(text, "y") < 300 {
				t.Fatalf("%d columns: text is lost:\n%s", width, text)
			}
			from := strings.Index(text, "echo a")
			lines := strings.Split(text[from:], "\n")
			end := 0
			for strings.HasSuffix(lines[end], `\`) {
				end++
			}
			out, err := exec.Command("sh", "-c", strings.Join(lines[:end+1], "\n")).Output()
			if want := strings.TrimPrefix(r.Host[len(r.Host)-1].Remedy, "echo ") + "\n"; err != nil || string(out) != want {
				t.Fatalf("%d columns: %q, %v", width, out, err)
			}
			if width > 60 {
				width += 9
			}
		}
	}
	for in, want := range map[string]string{
		"sudo sh -c 'rm -f /etc/x; echo y'":   "sudo sh|-c|'rm -f /etc/x; echo y'",
		"a b c  # a comment of several words": "a b c |# a comment of several words",
		`w "it's 1" z`:                        `w|"it's 1"|z`,
		"":                                    "",
	} {
		if got := strings.Join(commandLines(in, 8), "|"); got != want {
			t.Errorf("%q is broken into %q, want %q", in, got, want)
		}
	}
}

// A real terminal, with colour and without.
func TestProbeSeesTheTerminal(t *testing.T) {
	path := fakeVersion(t, "v1.3.3")
	for _, tc := range []struct {
		noColor, term string
		want          bool
	}{
		{"", "xterm", true},
		{"1", "xterm", false},
		{"", "dumb", false},
	} {
		t.Setenv("NO_COLOR", tc.noColor)
		t.Setenv("TERM", tc.term)
		ptmx, tty := mustPTY(t)
		const columns = 50
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: columns}); err != nil {
			t.Fatal(err)
		}
		read := make(chan string)
		go func() {
			all, _ := io.ReadAll(ptmx) // ends with EIO when the other end is closed
			read <- string(all)
		}()
		err := probeTo(t, tty, "-v", "--slirp4netns-path", path)
		tty.Close()
		out := <-read
		ptmx.Close()
		if err != nil || !strings.Contains(out, "  api-socket  ") || !strings.Contains(out, "ready") {
			t.Errorf("%v, not aligned or no summary:\n%s", err, out)
		}
		for line := range strings.Lines(regexp.MustCompile(`\x1b\[\d+m|\r`).ReplaceAllString(out, "")) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%d columns on a terminal of %d: %q", n, columns, line)
			}
		}
		if got := strings.Contains(out, "\x1b["); got != tc.want {
			t.Errorf("NO_COLOR=%s TERM=%s: colour %v", tc.noColor, tc.term, got)
		}
	}
}

func mustPTY(t *testing.T) (terminal, line *os.File) {
	t.Helper()
	terminal, line, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	return terminal, line
}

// A program that is not slirp4netns is named, with the reason; the host is checked anyway.
func TestProbeOfABadBinary(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		says       string
	}{
		{"missing", filepath.Join(t.TempDir(), "none"), "does not exist"},
		{"not executable", plain, "can't be executed"},
		{"hangs", fakeSlirp(t, "exec sleep 1000"), "does not end within 2s"},
		{"prints nothing", fakeSlirp(t, "exit 0"), "prints nothing"},
		{"crashes", fakeSlirp(t, "kill -SEGV $$"), "crashes"},
		{"isn't slirp4netns", fakeSlirp(t, "echo Hello"), "is not slirp4netns"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := runProbeCmd(t, "-v", "--slirp4netns-path", tc.path)
			if kind := fault.Of(err); kind != fault.Unsupported && kind != fault.Timeout || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(out, "error\t"+tc.path) || !strings.Contains(out, tc.says) || !strings.Contains(out, "tun-device\t") {
				t.Errorf("printed\n%s", out)
			}
			if strings.Contains(out, "\tyes\t") || strings.Contains(out, "\tno\t") {
				t.Errorf("features of nothing:\n%s", out)
			}
		})
	}
}

func TestProbeJSON(t *testing.T) {
	out, err := runProbeCmd(t, "--json", "--slirp4netns-path", fakeVersion(t, "v1.1.0"))
	if err != nil {
		t.Fatal(err)
	}
	var r probe.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Slirp4netns.Version != "1.1.0" || r.Slirp4netns.ConfigVersionMax != "4" || len(r.Slirp4netns.Features) != 18 || len(r.Host) != len(probe.Names()) || r.Summary == "" {
		t.Errorf("got %+v", r)
	}
}

func TestProbeFormat(t *testing.T) {
	path := fakeVersion(t, "v1.1.0")
	out, err := runProbeCmd(t, "--slirp4netns-path", path, "--format", "{{.Slirp4netns.Version}}")
	if err != nil || out != "1.1.0\n" {
		t.Errorf("%q, %v", out, err)
	}
	out, err = runProbeCmd(t, "--slirp4netns-path", path, "--format", `{{range .Host}}{{if eq .Name "nsenter"}}{{.Name}}{{end}}{{end}}`)
	if err != nil || out != "nsenter\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestProbeRequire(t *testing.T) {
	path := fakeVersion(t, "v1.0.0")
	for _, args := range [][]string{
		{"--require", "cidr,enable-ipv6"},
		{"--require", "cidr", "--require", " mtu"},
		{"--require", "unprivileged-ports"},
	} {
		if _, err := runProbeCmd(t, append(args, "--slirp4netns-path", path)...); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	out, err := runProbeCmd(t, "-v", "--slirp4netns-path", path, "--require", "cidr,macaddress,disable-dns")
	if !errors.Is(err, fault.Unsupported) || err.Error() != "missing: disable-dns (upstream has it since 1.1.0, installed is 1.0.0); macaddress (upstream has it since 1.1.9, installed is 1.0.0)" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out, "macaddress\tno\tsince 1.1.9\n") {
		t.Errorf("printed\n%s", out)
	}
}

// Wrong usage is refused before anything is tried or printed.
func TestProbeUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		msg  string
		hint string
	}{
		{[]string{"extra"}, `unexpected argument "extra"`, "usage: probe"},
		{[]string{"--require", "cdir"}, `--require: unknown feature "cdir"`, "did you mean cidr?"},
		{[]string{"--require", "enable-ipv4"}, `--require: unknown feature "enable-ipv4"`, "did you mean enable-ipv6?"},
		{[]string{"--require", "qqqqqqqq"}, `--require: unknown feature "qqqqqqqq"`, "the names are api-socket, "},
		{[]string{"--require", "cidr,,mtu"}, "--require has an empty name", ""},
		{[]string{"--json", "--format", "x"}, "--json and --format exclude each other", ""},
		{[]string{"--format", "{{"}, "--format: ", ""},
		{[]string{"--format", "{{.Nonsense}}"}, "--format: ", ""},
		{[]string{"--cidr", "10.0.2.1/24"}, "--cidr: ", ""},
		{[]string{"--slirp4netns-path", ""}, "--slirp4netns-path is empty", ""},
	} {
		out, err := runProbeCmd(t, tc.args...)
		if !errors.Is(err, fault.Usage) || !strings.Contains(err.Error(), tc.msg) || !strings.HasPrefix(fault.Hint(err), tc.hint) || out != "" {
			t.Errorf("%q: got %v (%q), printed %q", tc.args, err, fault.Hint(err), out)
		}
	}
}
