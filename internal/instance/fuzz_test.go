package instance

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParseHolder: the lock file's content.
func FuzzParseHolder(f *testing.F) {
	f.Add([]byte("123 456\n"))
	f.Add([]byte("0 1"))
	f.Add([]byte("-5 1"))
	f.Add([]byte("99999999999999999999 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p := parseHolder(data); p.PID < 0 || p.PID > 0 && p.Role != "supervisor" {
			t.Errorf("%q is taken for %+v", data, p)
		}
	})
}

// TestAlive: what can't be told is not taken for dead.
func TestAlive(t *testing.T) {
	dir := t.TempDir()
	lock := filepath.Join(dir, lockFile)
	f, err := newLock(lock)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := alive(dir); !held || err != nil {
		t.Errorf("a held lock: %t, %v", held, err)
	}
	f.Close()
	if held, err := alive(dir); held || err != nil {
		t.Errorf("a free lock: %t, %v", held, err)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(lock, 0); err != nil {
			t.Fatal(err)
		}
		if held, err := alive(dir); held || err == nil {
			t.Errorf("an unreadable lock: %t, %v", held, err)
		}
	}
}
