//go:build !race

// What is built here is not built with the race detector.

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// maxSize is what the stripped program may weigh, in bytes: 11 MiB.
const maxSize = 11 << 20

// TestSize builds the program as `make build` does. Twice what it weighs came from one import,
// so the limit is worth a test.
func TestSize(t *testing.T) {
	out := filepath.Join(t.TempDir(), "slirpctl")
	cmd := exec.Command("make", "-s", "-C", repoRoot(t), "build", "OUT="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, text)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() > maxSize {
		t.Errorf("%d bytes, more than %d: see what is new with go tool nm -size -sort size", info.Size(), maxSize)
	}
}

// TestNoTextTemplate: see package gotemplate. It costs 2 MB.
func TestNoTextTemplate(t *testing.T) {
	for _, f := range goFiles(t, repoRoot(t)) {
		for _, p := range []string{"text/template", "html/template"} {
			if f.dir != "internal/mangen" && slices.Contains(f.imports(t), p) {
				t.Errorf("%s/%s imports %s", f.dir, f.name, p)
			}
		}
	}
}
