package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// depsMachine is a PATH on which .ci/deps finds its own tools and what a test adds, and nothing of
// the machine that the test runs on.
type depsMachine struct {
	t   *testing.T
	bin string
}

func newDepsMachine(t *testing.T) depsMachine {
	t.Helper()
	m := depsMachine{t, t.TempDir()}
	for _, tool := range []string{"sh", "awk", "sed", "grep", "tr", "cat", "env", "chmod"} {
		p, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(p, filepath.Join(m.bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	m.has("id", "echo 0")
	m.has("go", "echo go version go1.26.0 linux/amd64")
	return m
}

// has adds a shell script to the machine.
func (m depsMachine) has(name, script string) {
	m.t.Helper()
	if err := writeProgram(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+script+"\n")); err != nil {
		m.t.Fatal(err)
	}
}

// installer adds a package manager to the machine that logs its calls and provides a command named
// like each package it is given, except the one named `none`.
func (m depsMachine) installer(name string) {
	m.has(name, `echo `+name+` "$@" >>'`+m.bin+`/calls'
for p; do
	case $p in none | -* | install | add | update | -S*) continue ;; esac
	case $p in util-linux*) p=nsenter; echo >'`+m.bin+`/flock'; chmod 755 '`+m.bin+`/flock' ;; iproute*) p=ip ;; ShellCheck) p=shellcheck ;; esac
	echo '#!/bin/sh' >"`+m.bin+`/$p"
	chmod 755 "`+m.bin+`/$p"
done`)
}

func (m depsMachine) calls() string {
	text, err := os.ReadFile(filepath.Join(m.bin, "calls"))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return string(text)
}

// deps runs the script and returns its output and exit status.
func (m depsMachine) deps(ci string, args ...string) (output string, status int) {
	m.t.Helper()
	cmd := exec.Command(filepath.Join(repoRoot(m.t), ".ci/deps"), args...)
	cmd.Env = []string{"PATH=" + m.bin, "DEPS_PATH=" + m.bin, "CI=" + ci}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func TestDepsInstall(t *testing.T) {
	for _, c := range []struct{ manager, want string }{
		{"apt-get", "apt-get install -y -q --no-install-recommends slirp4netns util-linux iproute2\n"},
		{"dnf", "dnf install -y --setopt=install_weak_deps=False slirp4netns util-linux iproute\n"},
		{"apk", "apk add slirp4netns util-linux-misc flock iproute2\n"},
		{"pacman", "pacman -S --needed --noconfirm slirp4netns util-linux iproute2\n"},
		{"zypper", "zypper --non-interactive install --no-recommends slirp4netns util-linux iproute2\n"},
	} {
		t.Run(c.manager, func(t *testing.T) {
			m := newDepsMachine(t)
			m.installer(c.manager)
			out, status := m.deps("", "demo")
			if status != 0 {
				t.Fatalf("exit status %d\n%s", status, out)
			}
			if got := m.calls(); got != c.want {
				t.Errorf("calls:\n%swant:\n%s", got, c.want)
			}
			if !strings.Contains(out, "missing: slirp4netns (package slirp4netns): the program that slirpctl drives") {
				t.Errorf("it does not say what is missing and why:\n%s", out)
			}
			// All is installed now: no output, and no second call.
			out, status = m.deps("", "demo")
			if status != 0 || out != "" || m.calls() != c.want {
				t.Errorf("second run: exit status %d, output %q, calls:\n%s", status, out, m.calls())
			}
		})
	}
}

func TestDepsCannot(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine func(depsMachine)
		ci      string
		target  string
		status  int
		want    []string
	}{
		{
			name: "no manager", target: "demo", status: 1, machine: func(depsMachine) {},
			want: []string{"still missing: slirp4netns", "none of apt, dnf, apk, pacman and zypper is here"},
		},
		{
			name: "no root and no sudo", target: "demo", status: 1,
			machine: func(m depsMachine) { m.installer("dnf"); m.has("id", "echo 1000") },
			want:    []string{"not root, and no sudo", "install the packages by hand: slirp4netns util-linux iproute"},
		},
		{
			name: "sudo wants a password", target: "demo", status: 1,
			machine: func(m depsMachine) { m.installer("dnf"); m.has("id", "echo 1000"); m.has("sudo", "exit 1") },
			want:    []string{"sudo wants a password"},
		},
		{
			name: "the manager fails", target: "demo", status: 1,
			machine: func(m depsMachine) { m.has("apk", "exit 1") },
			want:    []string{"could not install slirp4netns", "still missing: slirp4netns (package slirp4netns), nsenter"},
		},
		{
			name: "tests go on without", target: "test", status: 0,
			machine: func(m depsMachine) { m.has("zypper", "exit 1") },
			want:    []string{"still missing: slirp4netns", "are left out"},
		},
		{
			name: "but not in CI", target: "test", ci: "true", status: 1,
			machine: func(m depsMachine) { m.has("zypper", "exit 1") },
			want:    []string{"error: still missing: slirp4netns"},
		},
		{
			name: "old Go", target: "demo", status: 1,
			machine: func(m depsMachine) { m.installer("dnf"); m.has("go", "echo go version go1.19.8 linux/amd64") },
			want:    []string{"Go 1.19 is too old", "hint: download Go"},
		},
		{
			name: "no Go and no way to it", target: "demo", status: 1,
			machine: func(m depsMachine) { os.Remove(filepath.Join(m.bin, "go")) },
			want:    []string{"Go not found", "hint: download Go"},
		},
		{
			name: "only an old Go to install", target: "demo", status: 1,
			machine: func(m depsMachine) {
				os.Remove(filepath.Join(m.bin, "go"))
				m.installer("apt-get")
				m.has("apt-cache", "echo '  Candidate: 2:1.19~1'")
			},
			want: []string{"this machine's packages have only Go 1.19"},
		},
		{
			name: "unknown target", target: "everything", status: 1, machine: func(depsMachine) {},
			want: []string{"unknown target: everything"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newDepsMachine(t)
			c.machine(m)
			out, status := m.deps(c.ci, c.target)
			if status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q", want)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}
