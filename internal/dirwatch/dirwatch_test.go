package dirwatch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestChanges(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	w := New()
	defer w.Close()
	if err := w.Set(filepath.Join(a, "none"), a); err == nil {
		t.Error("a directory that is not there: no error")
	}
	file := filepath.Join(a, "file")
	changed := func(what string, change func() error) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.C:
		case <-time.After(time.Minute):
			t.Fatalf("not noticed: %s", what)
		}
	}
	changed("made", func() error { return os.Mkdir(file, 0o700) })
	changed("renamed", func() error { return os.Rename(file, file+"2") })
	changed("removed", func() error { return os.Remove(file + "2") })
	if err := w.Set(b); err != nil {
		t.Fatal(err)
	}
	changed("made in the other", func() error { return os.Mkdir(filepath.Join(b, "file"), 0o700) })
}
