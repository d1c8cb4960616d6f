package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAttackForeignConfiguration: an ordinary user can't configure root's slirpctl, or make it run a
// program, through a file that root's environment (kept by sudo -E) or command line names: the
// error names the file, and nothing runs. The user's own slirpctl reads the same files.
func TestAttackForeignConfiguration(t *testing.T) {
	if os.Geteuid() != 0 {
		return // root is the victim; covered by root's run
	}
	l, user := newLab(t), newUserLab(t)
	if err := os.Chmod(filepath.Dir(l.base), 0o755); err != nil { // the user reads a link in it
		t.Fatal(err)
	}
	slirp4netns, err := exec.LookPath("slirp4netns")
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(filepath.Dir(user.base), "home")
	proof := filepath.Join(home, "ran")
	write := func(path, text string, mode os.FileMode) string {
		t.Helper()
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	evil := write("bin/slirp4netns", "#!/bin/sh\nid >"+proof+"\nexec "+slirp4netns+" \"$@\"\n", 0o755)
	nsenter := write("tools/nsenter", "#!/bin/sh\nid >"+proof+"\necho nsenter\n", 0o755)
	config := write("config.yaml", "slirp4netns-path: "+evil+"\n", 0o644)
	engine := write("engine.conf", "[engine]\nnetwork_cmd_path = \""+evil+"\"\n", 0o644)
	write("xdg/slirpctl/config.yaml", "slirp4netns-path: "+evil+"\n", 0o644)
	write("own/.config/slirpctl/config.yaml", "slirp4netns-path: "+evil+"\n", 0o644)
	write("podman/.config/containers/containers.conf", "[engine]\nnetwork_cmd_path = \""+evil+"\"\n", 0o644)
	write("dropin/.config/containers/containers.conf.d/x.conf", "[engine]\nnetwork_cmd_path = \""+evil+"\"\n", 0o644)
	if err := filepath.Walk(home, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, user.uid, user.gid)
	}); err != nil {
		t.Fatal(err)
	}
	// A file of root's in the user's directory is refused too.
	roots := write("bin/roots", "#!/bin/sh\nexec "+slirp4netns+" \"$@\"\n", 0o755)
	link := filepath.Join(filepath.Dir(l.base), "link")
	if err := os.Symlink(evil, link); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + os.Getenv("PATH")
	for name, tc := range map[string]struct {
		env, args []string
	}{
		"HOME":                       {env: []string{"HOME=" + home + "/own"}},
		"XDG_CONFIG_HOME":            {env: []string{"XDG_CONFIG_HOME=" + home + "/xdg"}},
		"SLIRPCTL_CONFIG":            {env: []string{"SLIRPCTL_CONFIG=" + config}},
		"--config":                   {args: []string{"--config", config}},
		"containers.conf":            {env: []string{"SLIRPCTL_CONTAINERS_CONF=" + engine}},
		"CONTAINERS_CONF":            {env: []string{"SLIRPCTL_CONTAINERS_CONF=true", "CONTAINERS_CONF=" + engine}},
		"CONTAINERS_CONF_OVERRIDE":   {env: []string{"SLIRPCTL_CONTAINERS_CONF=true", "CONTAINERS_CONF_OVERRIDE=" + engine}},
		"containers.conf below HOME": {env: []string{"SLIRPCTL_CONTAINERS_CONF=true", "HOME=" + home + "/podman"}},
		"containers.conf's drop-in":  {env: []string{"SLIRPCTL_CONTAINERS_CONF=true", "HOME=" + home + "/dropin"}},
		"SLIRPCTL_SLIRP4NETNS_PATH":  {env: []string{"SLIRPCTL_SLIRP4NETNS_PATH=" + evil}},
		"--slirp4netns-path":         {args: []string{"--slirp4netns-path", evil}},
		"root's in a user's":         {args: []string{"--slirp4netns-path", roots}},
		"root's link to a user's":    {args: []string{"--slirp4netns-path", link}},
		"PATH":                       {env: []string{"PATH=" + home + "/bin:" + os.Getenv("PATH")}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lab{t: t, bin: l.bin, base: l.base, env: append([]string{path}, tc.env...)}
			for _, command := range [][]string{{"up", "-d", "--name", "x"}, {"up", "--dry-run"}} {
				r := l.run(append(append(command, tc.args...), "--", "true")...)
				if want := map[string]int{"-d": 2, "--dry-run": 125}[command[1]]; r.code != want || !strings.Contains(r.err, filepath.Dir(home)+" belongs to user") || !strings.Contains(r.err, "hint: make root the owner ") {
					t.Errorf("%q: exit status %d\n%s", command, r.code, r.err)
				}
			}
			if _, err := os.Stat(proof); err == nil {
				t.Fatal("root ran the user's program")
			}
			// The user may use them.
			u := *user
			u.t, u.env = t, l.env
			if r := u.run(append(append([]string{"up", "--dry-run"}, tc.args...), "--", "true")...); r.code != 0 {
				t.Errorf("the user's own: exit status %d\n%s", r.code, r.err)
			}
			if err := os.Remove(proof); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		})
	}
	t.Run("probe's nsenter", func(t *testing.T) {
		l := &lab{t: t, bin: l.bin, base: l.base, env: []string{"PATH=" + filepath.Dir(nsenter) + ":" + os.Getenv("PATH")}}
		if out := l.must("probe", "--json"); !strings.Contains(out, "not tried: root does not use "+nsenter) {
			t.Errorf("probe says\n%s", out)
		}
		if _, err := os.Stat(proof); err == nil {
			t.Fatal("root ran the user's program")
		}
	})
	if _, err := os.Stat(l.base + "/x"); err == nil {
		t.Error("an instance was made")
	}
}
