package launcher

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindWithoutPATH: a hook may have no environment at all.
func TestFindWithoutPATH(t *testing.T) {
	t.Setenv("PATH", "")
	os.Unsetenv("PATH")
	// Something that is in a usual directory on every machine stands for slirp4netns.
	found, err := Find("sh")
	if err != nil || !filepath.IsAbs(found) {
		t.Errorf("Find: %q, %v", found, err)
	}
	_, err = Find("slirpctl-no-such-program")
	if err == nil || !strings.Contains(err.Error(), "PATH is not set") {
		t.Errorf("error %v", err)
	}
}

// TestAttackRelativePATH: what lies in the current directory is not slirp4netns.
func TestAttackRelativePATH(t *testing.T) {
	dir := t.TempDir()
	good := fake(t, "v1.1.0")
	for _, name := range []string{DefaultBinary, "sub/" + DefaultBinary, "rel/" + DefaultBinary} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, "#!/bin/sh\n", 0o755)
	}
	t.Chdir(dir)
	for _, path := range []string{"", ".", "sub", "./rel", ":sub:.", "../" + filepath.Base(dir)} {
		t.Setenv("PATH", path+":"+filepath.Dir(good)+":")
		if found, err := Find(""); err != nil || found != good {
			t.Errorf("PATH=%s: %q, %v; want %s", os.Getenv("PATH"), found, err, good)
		}
		t.Setenv("PATH", path+":/nonexistent")
		if found, err := Find(""); err == nil {
			t.Errorf("PATH=%s: %q", os.Getenv("PATH"), found)
		}
	}
	// Who names it by path gets it; absolute, because it is started in another directory.
	if found, err := Find("./" + DefaultBinary); err != nil || found != filepath.Join(dir, DefaultBinary) {
		t.Errorf("%q, %v", found, err)
	}
}

// TestAttackLoaderVariables: the caller's variables for the dynamic loader and the shell don't reach slirp4netns.
func TestAttackLoaderVariables(t *testing.T) {
	names := []string{"LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "GCONV_PATH", "PATH"}
	for _, name := range names {
		t.Setenv(name, os.Getenv(name)+":/evil")
	}
	seen := filepath.Join(t.TempDir(), "seen")
	path := script(t, "env >>"+seen+"\nprintf 1 >&3; [ $# = 0 ] || echo nothing")
	if _, err := Detect(t.Context(), path); err == nil {
		t.Error("that was no slirp4netns")
	}
	p, err := Start(StartConfig{Path: path, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "PATH=/usr/local/sbin:"); n != 3 || strings.Contains(string(text), "/evil") {
		t.Errorf("in %d of 3 runs:\n%s", n, text)
	}
}
