package instance

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCacheDir(t *testing.T) {
	base, err := OpenBase(filepath.Join(t.TempDir(), "b"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // made, and there
		dir := base.CacheDir()
		if fi, err := os.Lstat(dir); err != nil || fi.Mode() != os.ModeDir|0o700 {
			t.Fatalf("%q: %v, %v", dir, fi, err)
		}
	}
	entries, err := base.List(t.Context())
	if err != nil || len(entries) != 0 {
		t.Errorf("it is taken for an instance: %v, %v", entries, err)
	}
	if err := os.Remove(base.CacheDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(base.dir, ".cache")); err != nil {
		t.Fatal(err)
	}
	if dir := base.CacheDir(); dir != "" {
		t.Errorf("a link is followed: %q", dir)
	}
}
