package main

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// TestVersion: what go install recorded counts where the Makefile gave no version, and every spelling prints it.
func TestVersion(t *testing.T) {
	for recorded, want := range map[string]string{
		"": "dev", "(devel)": "dev", "v1.2.3": "v1.2.3", "v0.0.0-20261126061002-3f21f9d0c0de+dirty": "v0.0.0-20261126061002-3f21f9d0c0de+dirty",
	} {
		if got := moduleVersion(&debug.BuildInfo{Main: debug.Module{Version: recorded}}); got != want {
			t.Errorf("%q: %q, want %q", recorded, got, want)
		}
	}
	first, _, _ := said(t, "version")
	if !strings.HasPrefix(first, "slirpctl ") || strings.Count(first, "\n") != 1 {
		t.Errorf("%q", first)
	}
	for _, line := range []string{"--version", "-v", "version --format table"} {
		if out, errs, code := said(t, strings.Fields(line)...); out != first || errs != "" || code != exitOK {
			t.Errorf("%s: %q, %q, exit status %d, want %q", line, out, errs, code, first)
		}
	}
	for _, format := range []string{"{{.Version}}", "{{.version}}"} {
		out, _, _ := said(t, "version", "--format", format)
		if want := thisVersion().Version + "\n"; out != want {
			t.Errorf("%s: %q, want %q", format, out, want)
		}
	}
	var v versionInfo
	out, _, _ := said(t, "version", "--format", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v != thisVersion() {
		t.Errorf("%q: %v", out, err)
	}
}

// TestInstallable: go install refuses a module with a path that Windows reserves, anywhere in it.
func TestInstallable(t *testing.T) {
	reserved := regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)|[."*<>?'|:\x60\\]$|["*<>?'|:\x60\\]`)
	files := 0
	err := filepath.WalkDir(repoRoot(t), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".git" && d.IsDir() {
			return fs.SkipDir
		}
		files++
		if reserved.MatchString(d.Name()) {
			t.Errorf("%s: no module may contain this name", path)
		}
		return err
	})
	if err != nil || files < 500 {
		t.Errorf("%d files, %v", files, err)
	}
}
