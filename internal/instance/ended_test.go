package instance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// retire makes an instance with this output of its command, and leaves its record.
func retire(t *testing.T, b Base, name, output string, status int) {
	t.Helper()
	i := create(t, b, name)
	l, err := i.OpenLog(OutputFile, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Command().Write([]byte(output)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := i.End(status); err != nil {
		t.Fatal(err)
	}
	st := State{Name: name, SupervisorPID: 1, Processes: []ProcessState{{Role: "supervisor", PID: 1}}}
	if err := i.Retire(t.Context(), st, status); err != nil {
		t.Fatal(err)
	}
}

func ended(t *testing.T, b Base) string {
	t.Helper()
	es, err := b.Ended(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s:%d", e.Name, *e.State.ExitStatus))
	}
	return strings.Join(out, " ")
}

func TestRecord(t *testing.T) {
	b := base(t)
	retire(t, b, "a", "words\n", 3)
	if got := names(t, b); got != "" {
		t.Errorf("listed %q", got)
	}
	if got := ended(t, b); got != "a:3" {
		t.Errorf("ended: %q", got)
	}
	e, err := b.FindAny(t.Context(), "a")
	if err != nil || e.State.State != Exited || time.Since(*e.State.EndedAt) > time.Minute || e.State.SupervisorPID != 0 {
		t.Errorf("found %+v, %v", e, err)
	}
	var out bytes.Buffer
	if err := e.CopyLog(t.Context(), &out, LogOptions{Follow: true, Tail: -1}); err != nil || out.String() != "words\n" {
		t.Errorf("log %q, %v", out.String(), err)
	}
	if status, err := b.Wait(t.Context(), "a"); status != 3 || err != nil {
		t.Errorf("waited: %d, %v", status, err)
	}
	if found, err := b.Forget(t.Context(), "a"); !found || err != nil {
		t.Errorf("forget: %v, %v", found, err)
	}
	if _, err := b.FindAny(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("found the forgotten one: %v", err)
	}
	retire(t, b, "a", "", 4)
	create(t, b, "a")
	if got := ended(t, b); got != "" {
		t.Errorf("after the reuse of the name: %q", got)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	b := base(t)
	for i := range maxEnded + 2 {
		retire(t, b, fmt.Sprintf("n%d", i), "", i)
		time.Sleep(2 * time.Millisecond) // the time has milliseconds
	}
	if got := ended(t, b); got != "n11:11 n10:10 n9:9 n8:8 n7:7 n6:6 n5:5 n4:4 n3:3 n2:2" {
		t.Errorf("kept %q", got)
	}
	file := filepath.Join(b.endedDir("n11"), stateFile)
	state, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().Add(-25 * time.Hour).Format(time.RFC3339)
	now := time.Now().Format("2006-01-02")
	old := bytes.Replace(state, []byte(`"endedAt":"`+now), []byte(`"endedAt":"`+day+`","x":"`), 1)
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	names(t, b) // list removes them too
	if _, err := os.Stat(b.endedDir("n11")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record of yesterday: %v", err)
	}
}

// What is no record is removed, and not followed or waited for.
func TestBadRecords(t *testing.T) {
	for what, spoil := range map[string]func(dir string) error{
		"another name": func(dir string) error { return os.Rename(dir, filepath.Join(filepath.Dir(dir), "b")) },
		"half a state": func(dir string) error { return os.Truncate(filepath.Join(dir, stateFile), 20) },
		"no state":     func(dir string) error { return os.Remove(filepath.Join(dir, stateFile)) },
		"a FIFO": func(dir string) error {
			file := filepath.Join(dir, stateFile)
			return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := base(t)
			retire(t, b, "a", "", 0)
			if err := spoil(b.endedDir("a")); err != nil {
				t.Fatal(err)
			}
			if got := ended(t, b); got != "" {
				t.Errorf("kept %q", got)
			}
			if left, _ := os.ReadDir(filepath.Join(b.dir, endedDir)); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestWait(t *testing.T) {
	b := base(t)
	for _, end := range []struct {
		name   string
		end    func(*Instance) error
		status int
		ok     bool
	}{
		{"down", func(i *Instance) error { return errors.Join(i.End(143), i.Remove(t.Context())) }, 143, true},
		{"killed", func(i *Instance) error { i.close(); return nil }, 0, false},
	} {
		i := create(t, b, end.name)
		if err := os.WriteFile(i.Path(lockFile), fmt.Appendf(nil, "%d %d %d\n", os.Getpid(), 1, 3), 0o600); err != nil { // a process that can't be seen from here
			t.Fatal(err)
		}
		type result struct {
			status int
			err    error
		}
		waited := make(chan result, 1)
		started := make(chan struct{})
		go func() {
			close(started)
			status, err := b.Wait(t.Context(), end.name)
			waited <- result{status, err}
		}()
		<-started
		for !opened(i.Path(lockFile), 2) {
			time.Sleep(time.Millisecond)
		}
		if err := end.end(i); err != nil {
			t.Fatal(err)
		}
		if r := <-waited; r.status != end.status || (r.err == nil) != end.ok {
			t.Errorf("%s: %+v", end.name, r)
		}
	}
}

// opened reports whether this process has a file open at least n times.
func opened(path string, n int) bool {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == path {
			n--
		}
	}
	return n <= 0
}
