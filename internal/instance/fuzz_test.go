package instance

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParseState: whatever is in a state file, what is taken for a state names a supervisor.
func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"name":"x","state":"running","supervisorPid":7,"slirp4netnsPid":8,"cidr":"10.0.2.0/24","guest":"10.0.2.100","gateway":"10.0.2.2","dns":"","ports":[{"id":1,"proto":"tcp","hostIP":"0.0.0.0","hostPort":8080,"guestIP":"10.0.2.100","guestPort":80}],"startedAt":"2026-01-02T03:04:05Z","processes":[{"role":"supervisor","pid":7,"start":99}]}`))
	f.Add([]byte(`{"name":"x","supervisorPid":1}`))
	f.Add([]byte(`{"name":"x","supervisorPid":-1,"processes":[{"role":"supervisor","pid":-1}]}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`[]`))
	f.Add([]byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := ParseState(data, "x")
		if err != nil {
			return
		}
		if st.Name != "x" || st.SupervisorPID <= 0 || st.Processes[0].PID != st.SupervisorPID {
			t.Errorf("%q is taken for %+v", data, st)
		}
		dir := t.TempDir()
		if err := writeState(dir, st); err != nil {
			t.Fatalf("%q can't be written back: %v", data, err)
		}
		if _, err := readState(dir, "x"); err != nil {
			t.Errorf("%q can't be read back: %v", data, err)
		}
	})
}

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
