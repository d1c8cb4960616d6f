package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// topLevel lists what the top directory may contain, besides dot files and build results.
var topLevel = []string{
	"CHANGELOG.md", "LICENSE", "Makefile", "README.md",
	"cmd", "completions", "docs", "go.mod", "go.sum", "internal",
}

// built lists the results of make; .gitignore lists the same.
var built = []string{"bin", "dist", "slirpctl"}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(repoRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); !strings.HasPrefix(n, ".") && !slices.Contains(topLevel, n) && !slices.Contains(built, n) {
			t.Errorf("%s does not belong into the top directory", n)
		}
	}
}

// maxLines keeps each file to a single topic.
const maxLines = 500

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFileLength(t *testing.T) {
	root, files := repoRoot(t), 0
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			if n := bytes.Count(text, []byte("\n")); n > maxLines && !generated.Match(text) {
				t.Errorf("%s has %d lines, more than %d: it holds more than one thing", path, n, maxLines)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("%d files: this test looks in the wrong place", files)
	}
}

// TestPackagesDocumented compares docs/architecture.md's table of packages with the existing ones.
func TestPackagesDocumented(t *testing.T) {
	root := repoRoot(t)
	text, err := os.ReadFile(filepath.Join(root, "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed, there []string
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:cmd|internal)/[a-z0-9/]+)` \\| .+ \\|$").FindAllSubmatch(text, -1) {
		listed = append(listed, string(row[1]))
	}
	for _, pattern := range []string{"cmd/*/*.go", "internal/*/*.go", "internal/*/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			dir, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil {
				t.Fatal(err)
			}
			there = append(there, dir)
		}
	}
	slices.Sort(listed)
	slices.Sort(there)
	if there = slices.Compact(there); !slices.Equal(listed, there) {
		t.Errorf("the table has\n%q, there is\n%q", listed, there)
	}
}
