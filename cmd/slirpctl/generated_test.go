package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// update is set by `make generate`.
var update = flag.Bool("update", false, "write the generated files anew instead of comparing them")

func buildTree(t *testing.T) *app {
	t.Helper()
	return &app{streams: streams{os.Stdin, new(bytes.Buffer), new(bytes.Buffer)}}
}

// generatedFiles returns every file that is generated from the program, by its path.
func generatedFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, s := range completionShells() {
		var out bytes.Buffer
		if status := run(context.Background(), []string{"completion", s.name}, streams{os.Stdin, &out, os.Stderr}); status != 0 {
			t.Fatalf("completion %s: status %d", s.name, status)
		}
		files["completions/"+s.file] = out.String()
	}
	pages, err := manPages(newRootCmd(buildTree(t)))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range pages {
		files["docs/man/"+name] = text
	}
	path := "docs/config.md"
	data, err := os.ReadFile(filepath.Join(repoRoot(t), path))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), keysBegin)
	_, after, ok2 := strings.Cut(rest, keysEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s lacks the marks around the table of keys", path)
	}
	files[path] = before + keysBegin + "\n" + keysTable() + "\n" + keysEnd + after
	return files
}

// TestGenerated compares the completions, the manual pages and the table of keys with the
// checked-in files.
func TestGenerated(t *testing.T) {
	root := repoRoot(t)
	files := generatedFiles(t)
	for path, want := range files {
		file := filepath.Join(root, path)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s is not what the program is now: run make generate (%v)", path, err)
		}
	}
	for _, dir := range []string{"completions", "docs/man"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, ok := files[dir+"/"+e.Name()]; !ok {
				t.Errorf("%s/%s belongs to nothing", dir, e.Name())
			}
		}
	}
}

// TestManualPages checks the pages with mandoc.
func TestManualPages(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		lacking(t, "mandoc is not installed")
	}
	pages, err := filepath.Glob(filepath.Join(repoRoot(t), "docs/man/*.[15]"))
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		// References to pages of other projects may be missing here.
		out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", page).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
		text, err := exec.Command("mandoc", "-T", "utf8", page).Output()
		if err != nil || !bytes.Contains(text, []byte("S\bSE\bEE\bE A\bAL\bLS\bSO\bO")) {
			t.Errorf("%s: not a whole page: %v", page, err)
		}
	}
}
