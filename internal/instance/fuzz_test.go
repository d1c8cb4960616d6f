package instance

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParseStat: /proc/PID/stat, whose second field may hold anything.
func FuzzParseStat(f *testing.F) {
	if data, err := os.ReadFile("/proc/self/stat"); err == nil {
		f.Add(data)
	}
	f.Add([]byte("1 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n"))
	f.Add([]byte("1 () Z"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, start, err := parseStat(data)
		if err != nil && (state != 0 || start != 0) {
			t.Errorf("%q: %v, and yet %q %d", data, err, state, start)
		}
	})
}

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
