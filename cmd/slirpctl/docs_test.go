//go:build !race

// The binary built here does not use the race detector.

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// docCommand is a command in a console block, and its output according to the page.
type docCommand struct {
	line   int
	text   string
	want   []string
	status int
}

var fence = regexp.MustCompile("^```([a-z]*)$")

// parseDoc extracts the commands from the ```console blocks of a page. A block after
// "<!-- not run: why -->" is not run; any other block of shell is an error, so that nothing is left
// untested by accident.
func parseDoc(page string) (cmds []docCommand, err error) {
	kind, skip, before := "", false, ""
	for i, line := range strings.Split(page, "\n") {
		m := fence.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		case m != nil && kind == "":
			kind = m[1]
			if kind == "" {
				kind = "text"
			}
			skip = strings.HasPrefix(before, "<!-- not run: ")
			if !skip && (kind == "sh" || kind == "bash" || kind == "shell") {
				return nil, fmt.Errorf("line %d: a block of shell that is not run: make it console, or say <!-- not run: why --> before", i+1)
			}
		case m != nil:
			kind = ""
		case kind == "console" && !skip:
			if text, ok := strings.CutPrefix(line, "$ "); ok {
				cmds = append(cmds, docCommand{line: i + 1, text: text})
				continue
			}
			if len(cmds) == 0 {
				return nil, fmt.Errorf("line %d: output before any command", i+1)
			}
			last := &cmds[len(cmds)-1]
			var status int
			if strings.HasSuffix(last.text, `\`) {
				last.text = strings.TrimSuffix(last.text, `\`) + strings.TrimSpace(strings.TrimPrefix(line, ">"))
			} else if n, _ := fmt.Sscanf(line, "[exit status %d]", &status); n == 1 {
				last.status = status
			} else {
				last.want = append(last.want, line)
			}
		}
		if strings.TrimSpace(line) != "" {
			before = strings.TrimSpace(line)
		}
	}
	return cmds, nil
}

// evenly removes alignment: a column's width depends on its other cells.
func evenly(line string) string { return strings.Join(strings.Fields(line), " ") }

// matches reports whether got matches want, in which "…" stands for any text within a line and, alone,
// for any number of lines.
func matches(want, got []string) bool {
	for i, w := range want {
		if w == "…" {
			for j := i; j <= len(got); j++ {
				if matches(want[i+1:], got[j:]) {
					return true
				}
			}
			return false
		}
		if i >= len(got) {
			return false
		}
		var parts []string
		for _, p := range strings.Split(evenly(w), "…") {
			parts = append(parts, regexp.QuoteMeta(p))
		}
		if ok, _ := regexp.MatchString("^"+strings.Join(parts, ".*")+"$", evenly(got[i])); !ok {
			return false
		}
	}
	return len(want) == len(got)
}

func TestDocMatches(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a\nb", "a\nb", true},
		{"a", "a\nb", false},
		{"a\n…", "a\nb\nc", true},
		{"…\nc", "a\nb\nc", true},
		{"…\nd", "a\nb\nc", false},
		{"pid …, ok", "pid 17, ok", true},
		{"a…", "b", false},
		{"…", "", true},
		{"a\n…\nz", "a\nz", true},
	} {
		if got := matches(strings.Split(c.want, "\n"), strings.Split(c.got, "\n")); got != c.ok {
			t.Errorf("%q, %q: %t", c.want, c.got, got)
		}
	}
}

// TestDocs runs every command of the pages, page by page in one shell, on a host of its own: a
// network namespace with nothing but a loopback.
func TestDocs(t *testing.T) {
	root := repoRoot(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		t.Run(filepath.Base(page), func(t *testing.T) {
			data, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			cmds, err := parseDoc(string(data))
			if err != nil {
				t.Fatal(err)
			}
			if len(cmds) == 0 {
				return
			}
			for _, c := range cmds {
				for _, program := range []string{"jq", "curl", "busybox", "rootlessctl", "iperf3", "runc", "tcpdump", "tc "} {
					if strings.Contains(c.text, program) {
						if _, err := exec.LookPath(strings.TrimSpace(program)); err != nil {
							lacking(t, "%s is not installed", program)
						}
					}
				}
			}
			outs, statuses := docShell(t, cmds)
			for i, c := range cmds {
				want := strings.Join(c.want, "\n")
				if statuses[i] != c.status || !matches(strings.Split(want, "\n"), strings.Split(outs[i], "\n")) {
					t.Errorf("%s:%d: %s\ngot, with status %d:\n%s\nwant, with status %d:\n%s", filepath.Base(page), c.line, c.text, statuses[i], outs[i], c.status, want)
				}
			}
		})
	}
}

// needsSubIDs reports whether a command maps the user's subordinate ids, which the machine's root may lack.
func needsSubIDs(cmds []docCommand) bool {
	return slices.ContainsFunc(cmds, func(c docCommand) bool { return strings.Contains(c.text, "--map-users") })
}

// docShell runs the commands and returns the output of each, and its status.
func docShell(t *testing.T, cmds []docCommand) (outs []string, statuses []int) {
	t.Helper()
	const mark = "\x1e"
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"home", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var script strings.Builder
	script.WriteString("exec 2>&1\nip link set lo up\ntrap 'slirpctl down --all; kill $(jobs -p) 2>/dev/null; wait' EXIT\n")
	if needsSubIDs(cmds) {
		if os.Geteuid() != 0 {
			lacking(t, "--map-users needs subordinate ids, which only root can give to this test's namespace")
		}
		script.WriteString("echo root:165536:65536 >../subids; mount --bind ../subids /etc/subuid; mount --bind ../subids /etc/subgid\n")
	}
	for _, c := range cmds {
		fmt.Fprintf(&script, "%s\nprintf '%s%%d%s' $?\n", c.text, mark, mark)
	}
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("timeout", "150", "bash", "--norc", "--noprofile", file)
	cmd.Dir = filepath.Join(dir, "home")
	cmd.Env = []string{
		"PATH=" + programs.path(t) + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + cmd.Dir, "TMPDIR=" + dir,
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"), "SLIRPCTL_STATE_DIR=" + filepath.Join(dir, "run/slirpctl"), "LC_ALL=C", "TERM=dumb",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	parts := strings.Split(string(out), mark)
	if len(parts) < 2*len(cmds)+1 {
		t.Fatalf("the shell ended early: %v\n%s", err, out)
	}
	for i := range cmds {
		status, err := strconv.Atoi(parts[2*i+1])
		if err != nil {
			t.Fatalf("%s: %v", cmds[i].text, err)
		}
		outs, statuses = append(outs, strings.TrimSuffix(parts[2*i], "\n")), append(statuses, status)
	}
	return outs, statuses
}
