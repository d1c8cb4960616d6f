package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInstall: make uninstall removes what make install installs, and nothing else.
func TestInstall(t *testing.T) {
	root := repoRoot(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs/man/*.[15]"))
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	want := []string{
		"bin/slirpctl", "lib/systemd/user/slirpctl@.service", "share/bash-completion/completions/slirpctl", "share/zsh/site-functions/_slirpctl",
		"share/fish/vendor_completions.d/slirpctl.fish", "share/slirpctl/slirpctl.ps1",
	}
	for _, page := range pages {
		want = append(want, "share/man/man"+page[len(page)-1:]+"/"+filepath.Base(page))
	}
	slices.Sort(want)
	for _, prefix := range []string{"/usr/local", "/opt/x y"} {
		dest := filepath.Join(t.TempDir(), "to here")
		place := dest + prefix
		run := func(target string) {
			t.Helper()
			// SUDO_UID: an existing build is installed as it is.
			cmd := exec.Command("make", "-s", "-C", root, target, "DESTDIR="+dest, "PREFIX="+prefix, "SUDO_UID=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("make %s: %v\n%s", target, err, out)
			}
		}
		run("install")
		if got := filesBelow(t, place); !slices.Equal(got, want) {
			t.Errorf("installed: %q, want %q", got, want)
		}
		if info, err := os.Stat(filepath.Join(place, "bin/slirpctl")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("the program: %v, %v", info, err)
		}
		run("uninstall")
		if left, err := os.ReadDir(dest); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
		run("uninstall") // nothing to do

		run("install")
		theirs := filepath.Join(place, "share/man/man1/theirs.1")
		if err := os.WriteFile(theirs, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		run("uninstall")
		if got := filesBelow(t, dest); len(got) != 1 || !strings.HasSuffix(theirs, got[0]) {
			t.Errorf("left: %q, want the file of somebody else", got)
		}
	}
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}
