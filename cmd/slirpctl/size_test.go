//go:build !race

// The binary built here does not use the race detector.

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxSize is the maximum size of the stripped program, in bytes: 16 MB.
const maxSize = 16_000_000

// TestSize builds the program as `make build` does. A single import once doubled the size, so the
// limit is tested.
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
