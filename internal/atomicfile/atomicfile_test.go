package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(victim, []byte("old"), 0o600), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), func(f *os.File) error { return f.Chmod(0o644) }); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(victim); string(data) != "old" {
		t.Errorf("the link was followed: %q", data)
	}
	fi, err := os.Lstat(path)
	if data, _ := os.ReadFile(path); err != nil || fi.Mode() != 0o644 || string(data) != "new" {
		t.Errorf("%v, %v, %q", fi, err, data)
	}
	// One that can't be finished leaves the old file, and nothing else.
	no := errors.New("no")
	if err := Write(path, []byte("half"), func(*os.File) error { return no }); err != no {
		t.Error(err)
	}
	if err := Write(filepath.Join(dir, "none", "file"), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if data, _ := os.ReadFile(path); string(data) != "new" {
		t.Errorf("%q", data)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("left: %v, %v", list, err)
	}
}
