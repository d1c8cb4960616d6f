package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// config runs `slirpctl config` with args, in an environment with MTU and IPv6 set by files and variables.
func config(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "etc/slirpctl")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("mtu: 1500\nrestart: never\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newConfigCmd(&app{sources: options.Sources{Root: root, Environ: []string{"SLIRPCTL_IPV6=true"}}})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	var out bytes.Buffer
	cmd.SetOut(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestConfigTable(t *testing.T) {
	out, err := config(t, "--cidr=10.0.2.0/24", "-o", "port_handler=slirp4netns")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, want := range []string{
		"KEY VALUE SOURCE",
		"name - default",
		"mtu 1500 /etc/slirpctl/config.yaml",
		"restart never /etc/slirpctl/config.yaml",
		"ipv6 true environment SLIRPCTL_IPV6",
		"cidr 10.0.2.0/24 flag --cidr",
		"port-handler slirp4netns flag --option",
		"timeout 10s default",
		"state-dir - default",
	} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Join(strings.Fields(l), " ") == want }) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
}

func TestConfigJSON(t *testing.T) {
	out, err := config(t, "--json", "-p", "8080:80")
	if err != nil {
		t.Fatal(err)
	}
	var values []map[string]string
	if err := json.Unmarshal([]byte(out), &values); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if len(v) != 3 || v["key"] == "" || v["source"] == "" {
			t.Errorf("got %v", v)
		}
		if v["key"] == "publish" && (v["value"] != "8080:80/tcp" || v["source"] != "flag --publish") {
			t.Errorf("got %v", v)
		}
	}
	if len(values) < 25 {
		t.Errorf("only %d keys", len(values))
	}
}

func TestConfigFormat(t *testing.T) {
	out, err := config(t, "--format", "{{.Key}}={{.Value}} from {{.Source}}")
	if err != nil || !strings.Contains(out, "\nmtu=1500 from /etc/slirpctl/config.yaml\n") {
		t.Errorf("got %v, %s", err, out)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, args := range [][]string{{"--format", "{{"}, {"--format", "{{.Nothing}}"}, {"--json", "--format", "x"}} {
		if out, err := config(t, args...); !errors.Is(err, fault.Usage) || out != "" {
			t.Errorf("%q: got %v and %q, want a usage error and no output", args, err, out)
		}
	}
	var wrong *options.Error
	if out, err := config(t, "--mtu", "5"); !errors.As(err, &wrong) || out != "" {
		t.Errorf("got %v and %q, want an *options.Error and no output", err, out)
	}
}

// The command itself: its flags don't conflict, and it completes values.
func TestConfigCommand(t *testing.T) {
	t.Setenv("SLIRPCTL_CONFIG", os.DevNull)
	var out bytes.Buffer
	cmd := newConfigCmd(&app{})
	cmd.SetArgs([]string{"--mtu", "1400", "-d", "--format", "{{.Key}} {{.Value}} {{.Source}}"})
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mtu 1400 flag --mtu\n", "detach true flag --detach\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	root := newRootCmd(&app{streams: streams{out: io.Discard, err: io.Discard}, log: newLogger(io.Discard)})
	cmd, _, err := root.Find([]string{"config"})
	if err != nil {
		t.Fatal(err)
	}
	complete, ok := cmd.GetFlagCompletionFunc("port-handler")
	if !ok {
		t.Fatal("no completion for --port-handler")
	}
	if got, _ := complete(cmd, nil, ""); len(got) != 3 {
		t.Errorf("completions of --port-handler: %v", got)
	}
}
