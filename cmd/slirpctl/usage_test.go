package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// said runs a command line in this process and returns its output and status. It reads no
// configuration.
func said(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "")
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{os.Stdin, &o, &e})
	return o.String(), e.String(), code
}

// TestMistypedCommands: an unknown command is an error with the nearest one, never a help text.
func TestMistypedCommands(t *testing.T) {
	for line, hint := range map[string]string{
		"rn": "slirpctl --help shows the commands", "lp": "slirpctl --help shows the commands", "tpo": "slirpctl --help shows the commands", "images": "slirpctl --help shows the commands",
		"pull": "slirpctl --help shows the commands", "cp": "slirpctl --help shows the commands", "forward start": "slirpctl forward --help shows the commands",
		"run -it alpine": "did you mean slirpctl up?", "attach web": "did you mean slirpctl exec?", "killl": "did you mean slirpctl down?", "inspct x": "did you mean slirpctl inspect?",
		"forward delet web 1": "did you mean slirpctl forward remove?", "forward lst": "did you mean slirpctl forward list?",
		"forward help": "did you mean slirpctl forward --help?", "forward lst -q": "did you mean slirpctl forward list?", "forward lst --help": "did you mean slirpctl forward list?",
		"forward -- lst": "did you mean slirpctl forward list?", "forward nothing": "slirpctl forward --help shows the commands",
		"help nosuch": "slirpctl --help shows the commands", "help lst": "did you mean slirpctl list?", "help forward lst": "did you mean slirpctl forward list?",
		"lst": "did you mean slirpctl list?", "lst -q --all": "did you mean slirpctl list?", "--log-level debug prob": "did you mean slirpctl probe?",
		"__guest": "slirpctl --help shows the commands",
	} {
		out, errs, code := said(t, strings.Fields(line)...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errs, "slirpctl: error: unknown command ") || !strings.HasSuffix(errs, "slirpctl: hint: "+hint+"\n") {
			t.Errorf("%s: exit status %d, printed %q and %q", line, code, out, errs)
		}
	}
	for _, line := range []string{"", "forward", "help", "help forward", "help forward list", "up --help", "--version", "-v", "rm --help", "stop --help", "kill --help", "ps --help", "inspect --help", "port --help", "forward rm --help", "forward del --help", "forward delete --help", "forward ls --help"} {
		out, errs, code := said(t, strings.Fields(line)...)
		if code != exitOK || out == "" || errs != "" {
			t.Errorf("%s: exit status %d, printed %q and %q", line, code, out, errs)
		}
	}
}

// Terms of Go's packages and of cobra's.
var foreignWords = regexp.MustCompile(`arg\(s\)|strconv|parsing|time: |flag needs|shorthand|in the group|invalid argument|unknown command "[a-z]*" for|template:`)

// TestWrongUsage: an error on the command line has a message of slirpctl's own, with a hint that fits the command.
func TestWrongUsage(t *testing.T) {
	for _, tc := range []struct{ line, msg, hint string }{
		{"logs", "no NAME given", "usage: slirpctl logs "},
		{"inspect", "no NAME given", "usage: slirpctl inspect NAME..."},
		{"logs a b", `unexpected argument "b"`, "usage: slirpctl logs "},
		{"forward list a b", `unexpected argument "b"`, "usage: slirpctl forward list "},
		{"forward reload", "no NAME given", "usage: slirpctl forward reload "},
		{"config x", `unexpected argument "x"`, "usage: slirpctl config "},
		{"version x", `unexpected argument "x"`, "usage: slirpctl version"},
		{"hook x", `unexpected argument "x"`, "usage: slirpctl hook "},
		{"completion", "no SHELL given", "usage: slirpctl completion "},
		{"completion bsh", `no completions for "bsh"`, "did you mean bash?"},
		{"ip gatway", `unknown value "gatway"`, "did you mean gateway?"},
		{"up --mut 5 1", "unknown flag --mut", "did you mean --mtu?"},
		{"up --host-loopback 1", "unknown flag --host-loopback", "did you mean --allow-host-loopback?"},
		{"list --qqqqqqqq", "unknown flag --qqqqqqqq", "slirpctl list --help shows the flags"},
		{"up -name web 1", "unknown flag -n in -name", "did you mean --name?"},
		{"up -z", "unknown flag -z", "slirpctl up --help shows the flags"},
		{"up --mtu", "flag --mtu needs a value", "slirpctl up --help shows the flags"},
		{"up -p", "flag --publish needs a value", "slirpctl up --help shows the flags"},
		{"list --count x", `flag --count: "x": not a whole number`, ""},
		{"list --count 99999999999999999999", `flag --count: "99999999999999999999": not a whole number`, ""},
		{"list --interval 5", `flag --interval: "5": not a duration`, ""},
		{"list --json=maybe", `flag --json: "maybe": neither true nor false`, ""},
		{"forward list --quiet --json", "--quiet excludes --json and --format", ""},
		{"list --json --format table", "--json and --format exclude each other", ""},
		{"up --=x", "--=x is not a flag", ""},
		{"forward add --timeout 5 web 80", `"5"`, ""},
	} {
		out, errs, code := said(t, strings.Fields(tc.line)...)
		msg, hint, _ := strings.Cut(errs, "\n")
		if code != exitUsage || out != "" || foreignWords.MatchString(errs) ||
			!strings.HasPrefix(msg, "slirpctl: error: ") || !strings.Contains(msg, tc.msg) ||
			tc.hint != "" && !strings.HasPrefix(hint, "slirpctl: hint: "+tc.hint) {
			t.Errorf("%s: exit status %d, printed %q and %q", tc.line, code, out, errs)
		}
	}
}

// TestHintWhole: a long hint is not truncated.
func TestHintWhole(t *testing.T) {
	_, errs, _ := said(t, "probe", "--require", "qqqqqqqq")
	if !strings.HasSuffix(errs, ", tcp-rmem\n") || len(errs) < 400 {
		t.Errorf("%q", errs)
	}
}

// TestErrorsJSON: with --log-format json an error is one object, also for a wrong command line.
func TestErrorsJSON(t *testing.T) {
	for _, args := range [][]string{
		{"--log-format", "json", "lst"},
		{"list", "--bogus", "--log-format=json"},
		{"logs", "--log-format", "json"},
		{"--log-format", "json", "config", "--mtu", "5"},
	} {
		_, errs, _ := said(t, args...)
		var e struct{ Level, Msg, Hint, Time string }
		if err := json.Unmarshal([]byte(errs), &e); err != nil || e.Level != "error" || e.Msg == "" || e.Hint == "" || e.Time == "" {
			t.Errorf("%q: %q, %v", args, errs, err)
		}
	}
	t.Setenv("SLIRPCTL_LOG_FORMAT", "json")
	if _, errs, _ := said(t, "lst"); !strings.HasPrefix(errs, "{") {
		t.Errorf("the variable doesn't count: %q", errs)
	}
}

// TestCompletionTexts: no completion contains the markers of a flag's argument, or an internal role of slirpctl.
func TestCompletionTexts(t *testing.T) {
	var lines []string
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())[1:]
		for _, last := range []string{"-", "--", ""} {
			out, _, _ := said(t, append(append([]string{cobra.ShellCompRequestCmd}, words...), last)...)
			lines = append(lines, strings.Split(out, "\n")...)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCmd(buildTree(t)))
	if len(lines) < 200 {
		t.Errorf("only %d completions", len(lines))
	}
	for _, line := range lines {
		if strings.Contains(line, "`") || strings.Contains(line, "slirpctl __") || strings.HasPrefix(line, "__") {
			t.Errorf("%q", line)
		}
	}
}

// TestCompletionOfCommand: programs and files are completed after --.
func TestCompletionOfCommand(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"runme": 0o755, "readme": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"up", "--", ""}, "runme\n:0\n"},
		{[]string{"up", "-d", "--name", "x", "--", "run"}, "runme\n:0\n"},
		{[]string{"exec", "web", "--", "r"}, "runme\n:0\n"},
		{[]string{"up", "--", "x"}, ":0\n"},
		{[]string{"up", "--", "/etc/pass"}, ":0\n"},
		{[]string{"up", "--", "cat", ""}, ":0\n"},
		{[]string{"exec", "web", "--", "cat", "fi"}, ":0\n"},
		{[]string{"list", "--format", ""}, "table\njson\n:4\n"},
	} {
		if out, _, _ := said(t, append([]string{cobra.ShellCompRequestCmd}, tc.args...)...); out != tc.want {
			t.Errorf("%q: %q, want %q", tc.args, out, tc.want)
		}
	}
}

// TestManualOnce: a manual page lists each option once.
func TestManualOnce(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repoRoot(t), "docs/man/*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var options []string
		for _, m := range regexp.MustCompile(`(?m)^\\fB(?:-\w\\fP, \\fB)?(--[a-z0-9-]+)`).FindAllStringSubmatch(strings.ReplaceAll(string(text), `\-`, "-"), -1) {
			if slices.Contains(options, m[1]) {
				t.Errorf("%s has %s twice", filepath.Base(page), m[1])
			}
			options = append(options, m[1])
		}
		if len(options) == 0 {
			t.Errorf("%s: no option found", filepath.Base(page))
		}
	}
}

// TestHelp: no help text is wider than helpWidth; the flags of up are in groups, each once.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		out, _, _ := said(t, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		if !strings.Contains(out, "Usage:\n  "+cmd.CommandPath()) {
			t.Errorf("%s: %q", cmd.CommandPath(), out)
		}
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(line) - 1; n > helpWidth {
				t.Errorf("%s --help has a line of %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			shown := regexp.MustCompile(`(?m)^ {2}(-\w, | {4})--`+f.Name+`\b[^-]`).FindAllString(out, -1)
			if len(shown) != 1 && !f.Hidden {
				t.Errorf("%s --help has --%s %d times", cmd.CommandPath(), f.Name, len(shown))
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCmd(buildTree(t)))

	out, _, _ := said(t, "up", "--help")
	at := 0
	for _, g := range flagGroups() {
		i := strings.Index(out, "\n"+g.title+":\n")
		if i < at {
			t.Errorf("no group %q where it belongs:\n%s", g.title, out)
		}
		at = i
	}
	if strings.Contains(out, "\nFlags:\n") {
		t.Errorf("flags without a group:\n%s", out)
	}
	for _, part := range []string{"PROTO is tcp (the", `(default "tap0")`, "(default 65520)", `(default "10.0.2.0/24")`, "(default 10s)"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
}
