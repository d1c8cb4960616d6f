package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stranger = 12345 // some user other than root

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree makes DIR/a/b/file, all of root's, and returns DIR.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/file"), nil, 0o644))
	return dir
}

// TestAttackForeignFile: each way in which another user could decide what root reads is refused,
// with the name of what that user can change.
func TestAttackForeignFile(t *testing.T) {
	if os.Geteuid() != 0 {
		return // gives files away; root's run has it
	}
	for name, tc := range map[string]struct {
		attack func(dir string) error
		path   string // below DIR
		want   string // DIR stands for the directory; "" means that nothing is refused
	}{
		"all of root's": {func(string) error { return nil }, "a/b/file", ""},
		"absent":        {func(string) error { return nil }, "a/b/none", ""},
		"below a file":  {func(string) error { return nil }, "a/b/file/x", ""},
		"owner":         {func(d string) error { return os.Chown(d+"/a/b/file", stranger, 0) }, "a/b/file", "DIR/a/b/file belongs to user 12345"},
		"everybody":     {func(d string) error { return os.Chmod(d+"/a/b/file", 0o646) }, "a/b/file", "DIR/a/b/file can be written by everybody"},
		"group":         {func(d string) error { return os.Chmod(d+"/a/b/file", 0o664) }, "a/b/file", "DIR/a/b/file can be written by group 0"},
		"parent":        {func(d string) error { return os.Chown(d+"/a/b", stranger, 0) }, "a/b/file", "DIR/a/b belongs to user 12345"},
		"grandparent":   {func(d string) error { return os.Chmod(d+"/a", 0o777) }, "a/b/file", "DIR/a can be written by everybody"},
		"sticky parent": {func(d string) error { return os.Chmod(d+"/a", 0o777|os.ModeSticky) }, "a/b/file", ""},
		"sticky parent of another's file": {func(d string) error {
			return errors.Join(os.Chmod(d+"/a/b", 0o777|os.ModeSticky), os.Chown(d+"/a/b/file", stranger, 0))
		}, "a/b/file", "DIR/a/b/file belongs to user 12345"},
		"absent below another's": {func(d string) error { return os.Chown(d+"/a/b", stranger, 0) }, "a/b/none", "DIR/a/b belongs to user 12345"},
		"link of root's":         {func(d string) error { return os.Symlink("a/b/file", d+"/link") }, "link", ""},
		"link of another's": {func(d string) error {
			return errors.Join(os.Symlink("a/b/file", d+"/link"), os.Lchown(d+"/link", stranger, 0))
		}, "link", "DIR/link belongs to user 12345"},
		"link into another's directory": {func(d string) error {
			return errors.Join(os.Symlink("a/b/file", d+"/link"), os.Chown(d+"/a", stranger, 0))
		}, "link", "DIR/a belongs to user 12345"},
		"absolute link through another's directory": {func(d string) error {
			return errors.Join(os.Mkdir(d+"/c", 0o755), os.Symlink(d+"/a/b/file", d+"/c/link"), os.Symlink(d+"/c/link", d+"/link"), os.Chown(d+"/c", stranger, 0))
		}, "link", "DIR/c belongs to user 12345"},
		".. behind a link": {func(d string) error { // x/link/../file is a/file, not x/file
			return errors.Join(os.Mkdir(d+"/x", 0o755), os.WriteFile(d+"/x/file", nil, 0o644), os.Symlink("../a/b", d+"/x/link"),
				os.WriteFile(d+"/a/file", nil, 0o644), os.Chown(d+"/a/file", stranger, 0))
		}, "x/link/../file", "DIR/a/file belongs to user 12345"},
		"links in a circle": {func(d string) error { return os.Symlink("link", d+"/link") }, "link", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t)
			must(t, tc.attack(dir))
			for _, path := range []string{dir + "/" + tc.path, tc.path} {
				t.Chdir(dir)
				want := strings.ReplaceAll(tc.want, "DIR", dir)
				err := Check(path)
				if want == "" {
					if err != nil {
						t.Errorf("%s: %v", path, err)
					}
					continue
				}
				var e *Error
				if !errors.As(err, &e) || e.Reason != want || e.Path != path {
					t.Errorf("%s: got %v, want %s", path, err, want)
				}
			}
		})
	}
}

// TestDescriptors: what the caller opened itself and hands over by number is its own, except a
// file that others may write.
func TestDescriptors(t *testing.T) {
	if os.Geteuid() != 0 {
		return // gives files away; root's run has it
	}
	for _, path := range []string{"/dev/null", "/proc/self/status", "/proc/mounts"} {
		if err := Check(path); err != nil {
			t.Error(err)
		}
	}
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	dir := tree(t)
	f, err := os.Open(dir + "/a/b/file")
	must(t, err)
	defer f.Close()
	for _, fd := range []uintptr{r.Fd(), f.Fd()} {
		for _, format := range []string{"/dev/fd/%d", "/proc/self/fd/%d", "/proc/thread-self/fd/%d"} {
			if err := Check(fmt.Sprintf(format, fd)); err != nil {
				t.Error(err)
			}
		}
	}
	must(t, os.Chown(dir+"/a/b/file", stranger, 0))
	if err := Check(fmt.Sprintf("/dev/fd/%d", f.Fd())); err == nil {
		t.Error("the file of another user is trusted by its descriptor")
	}
	if err := Check("/proc/self/cwd/file"); err == nil {
		t.Error("a path through /proc/self/cwd is trusted")
	}
}

// TestOthersAreNotChecked: an ordinary user reads what it can.
func TestOthersAreNotChecked(t *testing.T) {
	if os.Geteuid() == 0 {
		return // the run of an ordinary user has it
	}
	dir := tree(t)
	must(t, os.Chmod(dir+"/a/b/file", 0o666))
	must(t, Check(dir+"/a/b/file"))
}
