package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// script writes an executable shell script and returns its path.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slirp4netns")
	writeFile(t, path, "#!/bin/sh\n"+body+"\n", 0o755)
	return path
}

// writeFile writes under a lock that forks take too: a descriptor that a fork inherits in
// between would make executing the file fail with "text file busy".
func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

// fake is a slirp4netns that prints the two texts of testdata/help.
func fake(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs("testdata/help")
	if err != nil {
		t.Fatal(err)
	}
	return script(t, fmt.Sprintf(`exec cat "%s/%s.${1#--}.txt"`, dir, name))
}

func TestDetectEveryText(t *testing.T) {
	versions, want := texts(t, "version"), wantFeatures()
	for name, text := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := fake(t, name)
			b, err := Detect(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if b.Path != path || b.Version != ParseVersion(text) || b.Features != Features(want[name]...) {
				t.Errorf("got %+v", b)
			}
		})
	}
}

func TestDetectTheRealOne(t *testing.T) {
	path, err := Find("")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs slirp4netns: ", err)
	}
	b, err := Detect(t.Context(), "")
	if err != nil || b.Path != path || b.Version.Version == "" || !b.Features.Has(MTU) {
		t.Errorf("got %+v, %v", b, err)
	}
}

func TestDetectFindsOnPath(t *testing.T) {
	path := fake(t, "v1.1.0")
	t.Setenv("PATH", filepath.Dir(path)+":"+os.Getenv("PATH"))
	if b, err := Detect(t.Context(), ""); err != nil || b.Path != path || b.Version.Version != "1.1.0" {
		t.Errorf("got %+v, %v", b, err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Find(""); err == nil || err.Error() != "slirp4netns is not on PATH" {
		t.Errorf("with nothing on PATH: %v", err)
	}
}

func TestDetectProblems(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	writeFile(t, plain, "x", 0o644)
	garbage := filepath.Join(dir, "garbage")
	writeFile(t, garbage, "\x7fELF nonsense", 0o755)
	noLoader := filepath.Join(dir, "no-loader")
	writeFile(t, noLoader, "#!/no/such/interpreter\n", 0o755)
	help := texts(t, "help")["v1.3.3"]
	for _, tc := range []struct {
		name, path string
		problem    string // in the message; "" where it depends on the machine's tools
		text       string // in the message
	}{
		{"missing", filepath.Join(dir, "none"), "does not exist", "does not exist"},
		{"below a file", plain + "/x", "does not exist", "does not exist"},
		{"no x bit", plain, notExecutable, "permission denied"},
		{"directory", dir, notExecutable, "directory"},
		{"foreign format", garbage, notExecutable, "format"},
		{"no interpreter", noLoader, notExecutable, "interpreter or loader"},
		{"lacks a library", script(t, "echo 'error while loading shared libraries: libslirp.so.0' >&2; exit 127"), notExecutable, "libslirp.so.0"},
		{"silent and fails", script(t, "exit 1"), "prints nothing", "exit status 1"},
		{"false", "/bin/false", "", "/bin/false"},
		{"silent", script(t, ""), "prints nothing", "prints nothing"},
		{"crashes", script(t, "kill -SEGV $$"), "crashes", "segmentation fault"},
		{"something else", script(t, "echo Hello, world"), notSlirp, `"Hello, world"`},
		{"something else that fails", script(t, "echo unknown option >&2; exit 2"), notSlirp, "unknown option"},
		{"endless output", script(t, "exec yes"), notSlirp, "64 KB"},
		{"help right, version wrong", script(t, "case $1 in --help) printf '%s' '"+help+"';; *) echo other 1.0;; esac"), notSlirp, "other 1.0"},
		{"help right, version crashes", script(t, "case $1 in --help) printf '%s' '"+help+"';; *) kill -ABRT $$;; esac"), "crashes", "aborted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Detect(t.Context(), tc.path)
			if fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), tc.problem) || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s with %q", err, tc.problem, tc.text)
			}
			// Its status is no status of ours.
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				t.Errorf("%v hands out the program's exit status", err)
			}
		})
	}
}

// A binary that hangs is ended with everything in its process group.
func TestDetectHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	path := script(t, "echo $$ >>"+pids+"; sleep 1000 & echo $! >>"+pids+"; wait")
	_, err := Detect(t.Context(), path)
	if fault.Of(err) != fault.Timeout || !strings.Contains(err.Error(), "does not end within 2s") {
		t.Errorf("got %v", err)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Fields(string(text))
	if len(found) != 4 {
		t.Fatalf("want 4 processes, have %q", found)
	}
	// They are killed by now, which takes a moment.
	deadline := time.Now().Add(time.Minute)
	for _, pid := range found {
		for alive(t, pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %s lives on", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// alive reports whether pid runs; one that nobody has reaped yet does not.
func alive(t *testing.T, pid string) bool {
	t.Helper()
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestDetectCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Detect(ctx, script(t, "sleep 1000")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
