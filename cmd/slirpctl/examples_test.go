//go:build !race

// The binary built here does not use the race detector.

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamples runs the scripts of docs/examples as they are. TestOCI runs those for containers and the jobs, and
// TestUnit the systemd unit.
func TestExamples(t *testing.T) {
	for _, program := range []string{"busybox", "curl", "jq", "make", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "%s is not installed", program)
		}
	}
	examples := filepath.Join(repoRoot(t), "docs/examples")
	cmds := []docCommand{
		{text: "echo a page >README.md; echo hello >index.html; cp '" + examples + "/Makefile' ."},
		{text: "'" + examples + "/ci/job.sh'", want: []string{"the server answers on port …"}},
		{text: "cat page", want: []string{"a page"}},
		{text: "(curl() { return 22; }; export -f curl; '" + examples + "/ci/job.sh')", status: 22},
		{text: "slirpctl list --json", want: []string{"[]"}},
		{text: "'" + examples + "/status.py' busybox httpd -f -p 8000", want: []string{"…: port … leads to 10.0.2.100:8000", "hello"}},
		{text: "SLIRPCTL_SLIRP4NETNS_PATH=/nowhere '" + examples + "/status.py' true", want: []string{"skipped: slirpctl: error: /nowhere does not exist", "slirpctl: hint: …"}},
		{text: "'" + examples + "/status.py' nowhere 2>&1 | tail -n 1", want: []string{"…Error: slirpctl: error: nowhere: command not found"}},
		{text: "slirpctl list --json", want: []string{"[]"}},
		{text: "make -s test", want: []string{"hello"}},
		{text: "make -s serve", want: []string{"…"}},
		{text: "curl -s http://127.0.0.1:8080/", want: []string{"hello"}},
		{text: "make -s stop"},
		{text: "slirpctl list --json", want: []string{"[]"}},
	}
	outs, statuses := docShell(t, cmds)
	for i, c := range cmds {
		if got := strings.Split(outs[i], "\n"); statuses[i] != c.status || !matches(strings.Split(strings.Join(c.want, "\n"), "\n"), got) {
			t.Errorf("%s\ngot, with status %d:\n%s\nwant, with status %d:\n%s", c.text, statuses[i], outs[i], c.status, strings.Join(c.want, "\n"))
		}
	}
}

// TestUnit runs the command of the systemd unit slirpctl@.service for a name below /run/netns and for a path, as systemd
// would: it says when it is ready, and ends on TERM.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(repoRoot(t), "docs/examples/systemd/slirpctl@.service"))
	if err != nil {
		t.Fatal(err)
	}
	setting := func(name string) string {
		_, value, found := strings.Cut(string(unit), "\n"+name+"=")
		if !found {
			t.Fatalf("the unit has no %s:\n%s", name, unit)
		}
		value, _, _ = strings.Cut(value, "\n")
		return value
	}
	if setting("Type") != "notify" || setting("KillMode") != "mixed" {
		t.Errorf("Type=%s, KillMode=%s", setting("Type"), setting("KillMode"))
	}
	command := func(instance, unescaped string) string {
		line := strings.NewReplacer("%i", instance, "%I", unescaped).Replace(setting("ExecStart"))
		return "cd " + setting("WorkingDirectory") + " && exec notified $HOME/notify $HOME/told " + line
	}
	run := func(instance, unescaped string) []docCommand {
		return []docCommand{
			{text: "(" + command(instance, unescaped) + ") >out 2>&1 & unit=$!"},
			{text: "waitfor -for 20s grep READY=1 told || cat out", want: []string{"READY=1"}},
			{text: "slirpctl list " + instance + " --format '{{.Name}}'", want: []string{instance}},
			{text: "kill -TERM $(slirpctl list " + instance + " --format '{{.SupervisorPID}}'); wait $unit", status: 0},
			{text: "rm -f told notify; slirpctl list --json", want: []string{"[]"}},
		}
	}
	cmds := append([]docCommand{
		{text: "unshare --user --map-root-user --net sleep 1000 & target=$!"},
		{text: "until [ \"$(readlink /proc/$target/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.1; done"},
	}, run("proc-$target-ns-net", "proc/$target/ns/net")...)
	if os.Geteuid() == 0 {
		cmds = append(cmds, docCommand{text: "mount -t tmpfs tmpfs /run/netns 2>/dev/null || { mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns; }; ip netns add blue"})
		cmds = append(cmds, run("blue", "blue")...)
	}
	outs, statuses := docShell(t, cmds)
	for i, c := range cmds {
		want := strings.NewReplacer("$target", "…").Replace(strings.Join(c.want, "\n"))
		if c.want == nil && statuses[i] == c.status {
			continue
		}
		if statuses[i] != c.status || !matches(strings.Split(want, "\n"), strings.Split(outs[i], "\n")) {
			t.Errorf("%s\ngot, with status %d:\n%s\nwant, with status %d:\n%s", c.text, statuses[i], outs[i], c.status, want)
		}
	}
}
