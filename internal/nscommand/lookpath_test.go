package nscommand

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, d := range []string{"one", "two", "one/both-dir"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{
		"one/plain": 0o644, "one/both": 0o644, "two/both": 0o755, "two/both-dir": 0o755, "two/prog": 0o755, "here": 0o755,
	} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	two := filepath.Join(dir, "two")
	for _, c := range []struct {
		path, name, want string
		err              error
	}{
		{dir + "/one:" + two, "prog", two + "/prog", nil},
		{dir + "/one:" + two, "both", two + "/both", nil}, // the first can't be run
		{dir + "/one:" + two, "both-dir", two + "/both-dir", nil},
		{dir + "/one:" + two, "plain", "", fs.ErrPermission},
		{dir + "/one:" + two, "none", "", fs.ErrNotExist},
		{dir + "/one", "both-dir", "", fs.ErrNotExist}, // a directory is no command
		{dir + "/none:" + dir + "/one/plain:" + two, "prog", two + "/prog", nil},
		{two, "here", "", fs.ErrNotExist},
		{":" + two, "here", "./here", nil}, // an empty element is the current directory
		{two + ":", "here", "./here", nil},
		{".", "here", "./here", nil},
		{"", "here", "", fs.ErrNotExist},
		{two, "./here", "./here", nil},
		{two, "one/plain", "", fs.ErrPermission},
		{two, "./none", "", fs.ErrNotExist},
		{two, "./one", "", unix.EISDIR},
		{two, "here/x", "", unix.ENOTDIR},
		{two, "", "", fs.ErrNotExist},
	} {
		t.Setenv("PATH", c.path)
		if got, err := lookPath(c.name); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q along %q: %q, %v; want %q, %v", c.name, c.path, got, err, c.want, c.err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, want := range map[string]int{"none": StatusNotFound, "/no/such": StatusNotFound, "/": StatusCannotRun, "/etc/passwd": StatusCannotRun} {
		var e *ExecError
		if err := Check(name); !errors.As(err, &e) || e.Status != want {
			t.Errorf("%s: %v, want status %d", name, err, want)
		}
	}
	if err := Check("/bin/sh"); err != nil {
		t.Error(err)
	}
}
