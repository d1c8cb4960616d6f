//go:build !race

// What is built here is not built with the race detector.

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxSize is what the stripped program may weigh, in bytes: 16 MB.
const maxSize = 16_000_000

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
