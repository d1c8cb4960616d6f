package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runSummary runs the built command on a module made of the files given.
func runSummary(t *testing.T, ci string, files map[string]string) (output string, status int) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.test\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-count=1", "./...")
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CI=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "TESTSUMMARY_RUN=1", "CI="+ci, "GOWORK=off")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// TestMain lets the test binary stand in for the command.
func TestMain(m *testing.M) {
	if os.Getenv("TESTSUMMARY_RUN") != "" {
		os.Unsetenv("TESTSUMMARY_RUN")
		main()
	}
	os.Exit(m.Run())
}

const (
	passing = "package p\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { t.Log(\"quiet\") }\n"
	failing = "package p\n\nimport \"testing\"\n\nfunc TestBad(t *testing.T) { t.Error(\"it broke\") }\n"
	skips   = "package p\n\nimport \"testing\"\n\nfunc TestOut(t *testing.T) { t.Skip(\"no tun here\") }\n"
	broken  = "package p\n\nimport \"testing\"\n\nfunc TestTypo(t *testing.T) { t.Nope() }\n"
	panics  = "package p\n\nimport \"testing\"\n\nfunc TestPanic(t *testing.T) { panic(\"oh no\") }\n"
	leaving = "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestExit(t *testing.T) { os.Exit(3) }\n"
)

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name   string
		ci     string
		files  map[string]string
		status int
		want   []string
		not    []string
	}{
		{
			name: "pass", ci: "1", files: map[string]string{"a/a_test.go": passing, "b/b.go": "package b\n"},
			want: []string{"ok  \texample.test/a\t", "?   \texample.test/b\t", "1 tests passed, 0 failed, 0 left out, in 1 packages"},
			not:  []string{"quiet", "FAIL"},
		},
		{
			name: "fail", files: map[string]string{"a/a_test.go": failing, "b/b_test.go": passing}, status: 1,
			want: []string{"it broke", "--- FAIL: TestBad", "FAIL\texample.test/a\t", "ok  \texample.test/b\t", "\n1 tests passed, 1 failed,", "\nFAIL\n"},
		},
		{
			name: "skip", files: map[string]string{"a/a_test.go": skips},
			want: []string{"left out (1):", "example.test/a TestOut: ", "no tun here", "ok  \texample.test/a\t"},
			not:  []string{"FAIL"},
		},
		{
			name: "skip in CI", ci: "true", files: map[string]string{"a/a_test.go": skips}, status: 1,
			want: []string{"no tun here", "FAIL: CI is set"},
		},
		{
			name: "build failure", files: map[string]string{"a/a_test.go": broken}, status: 1,
			want: []string{"t.Nope undefined", "FAIL\texample.test/a [build failed]"},
		},
		{
			name: "panic", files: map[string]string{"a/a_test.go": panics}, status: 1,
			want: []string{"panic: oh no", "FAIL\texample.test/a\t"},
		},
		{
			name: "exit", files: map[string]string{"a/a_test.go": leaving}, status: 1,
			want: []string{"=== RUN   TestExit", "0 tests passed, 1 failed", "FAIL\texample.test/a\t"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, status := runSummary(t, c.ci, c.files)
			if status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in the output", want)
				}
			}
			for _, not := range c.not {
				if strings.Contains(out, not) {
					t.Errorf("%q is in the output", not)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}
